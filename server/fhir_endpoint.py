"""The FHIR endpoint: everything below /fhir, for MHD's Document Recipient and Document Responder.

What is answered is rows of server/fhir_interactions.py; here is which row a request is for, and what becomes of
whatever goes wrong: an OperationOutcome in the form that was asked for, always.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import unquote

from aiohttp import hdrs, web

from mhd.actor import Mhd, MhdAt
from mhd.fhir.operation_outcome import Issue, IssueType, Outcome, Refused, outcome_of, xds_issue
from mhd.messages import FhirAnswer, FhirTransaction
from server.audit.asked_elsewhere import Asked, noting_what_is_asked
from server.audit.fhir_audit import FhirAudit
from server.audit.happened import AuditPort
from server.fhir_exchange import ClientGone, Exchange
from server.fhir_interactions import ID, INTERACTIONS, OF_HISTORY, OF_VERSION, Answering, Interaction
from server.metrics import Metrics
from server.metrics import Outcome as Ended
from server.requester import Admission, TokenRefused
from server.settings.limits import Limits
from server.tracing import trace_facts
from xds.actors import MessageBroken, OutcomeUnknown
from xds.audit import NOTHING_ACCESSED, Accessed
from xds.errors import ErrorCode, XdsError

log = logging.getLogger(__name__)

PATH: Final = "/fhir"

_RESOURCE_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}")
_ID_OF_HISTORY: Final = re.compile(r"([A-Za-z0-9.-]{1,64})/_history")
_VERSIONED_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}/_history/[A-Za-z0-9.-]{1,64}")
_BUSY: Final = Issue(
    IssueType.THROTTLED,
    "The server is answering as many requests as it can; try again in a moment.",
    http=HTTPStatus.SERVICE_UNAVAILABLE,
)
_OUTCOME_OPEN: Final = xds_issue(
    ErrorCode.REGISTRY_ERROR,
    "The registry's store did not answer in time: the submission may be registered or not. Send it again as it was: "
    "if it is registered, the answer is 409 and tells where.",
    issue_type=IssueType.TRANSIENT,
)
_NO_ANSWER: Final = xds_issue(
    ErrorCode.REGISTRY_NOT_AVAILABLE, "The registry or repository behind this server did not answer; try again later."
)
_FAULT_OF_OURS: Final = xds_issue(ErrorCode.REGISTRY_ERROR, "The server failed; its log says why. Nothing was stored.")


class _Route(NamedTuple):
    transaction: FhirTransaction
    answer: Answering
    scope: str | None
    path: str
    resource_id: str


class FhirEndpoint:
    """Everything below /fhir."""

    path = PATH

    def __init__(
        self,
        mhd_at: MhdAt,
        *,
        limits: Limits,
        metrics: Metrics,
        public_url: str | None = None,
        admission: Admission | None = None,
        audit: AuditPort | None = None,
    ) -> None:
        """The endpoint.

        admission   None: whoever reaches this server may ask
        audit       where requests leave what happened; None: nowhere
        """
        self.audit = audit
        self._mhd_at = mhd_at
        self.admission = admission
        self._limits = limits
        self._metrics = metrics
        self._public_url = public_url
        self._requests = 0

    def base(self, request: web.Request) -> str:
        """The base URL: as configured, or else the address that this server listens on; never what a client said."""
        if self._public_url:
            return self._public_url.rstrip("/") + PATH
        transport = request.transport
        host, port = transport.get_extra_info("sockname")[:2] if transport else ("localhost", 0)
        return f"{request.scheme}://{f'[{host}]' if ':' in host else host}:{port}{PATH}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        if self._requests >= self._limits.requests_at_once:
            return await _Answered(self, request, Exchange(request, self._limits)).refused(Outcome((_BUSY,)))
        self._requests += 1
        self._metrics.in_flight.inc()
        try:
            with noting_what_is_asked() as asked:
                return await _Answered(self, request, Exchange(request, self._limits), asked).response()
        finally:
            self._requests -= 1
            self._metrics.in_flight.dec()

    def mhd(self, request: web.Request) -> Mhd:
        return self._mhd_at(self.base(request))

    @property
    def metrics(self) -> Metrics:
        return self._metrics


class _Answered:
    """One request, answered, logged and counted."""

    def __init__(
        self, endpoint: FhirEndpoint, request: web.Request, exchange: Exchange, asked: Sequence[Asked] = ()
    ) -> None:
        self._endpoint = endpoint
        self._request = request
        self._exchange = exchange
        self._audit = FhirAudit(endpoint.audit, exchange, asked)
        self._transaction: FhirTransaction | None = None
        self._started = time.perf_counter()

    async def response(self) -> web.StreamResponse:
        try:
            return await self._answered()
        except Refused as refusal:
            return await self.refused(refusal.outcome, refusal.accessed, _challenge_of(refusal))
        except XdsError as refusal:
            return await self.refused(outcome_of(refusal.errors))
        except OutcomeUnknown as problem:
            log.warning("Somebody who was asked did not answer", extra={**self._facts(), "problem": str(problem)})
            return await self.refused(Outcome((_OUTCOME_OPEN if self._request.method == "POST" else _NO_ANSWER,)))
        except (ClientGone, MessageBroken) as gone:
            log.info("The client went away in the middle of its message", extra={**self._facts(), "why": str(gone)})
            self._count(Ended.CLIENT_GONE)
            return web.Response(status=HTTPStatus.BAD_REQUEST)  # nobody reads it
        except Exception:
            log.exception("A request failed", extra=self._facts())
            return await self.refused(Outcome((_FAULT_OF_OURS,)))

    async def _answered(self) -> web.StreamResponse:
        route = routed(self._request.method, self._request.rel_url.raw_path)
        self._transaction = route.transaction
        mhd = self._endpoint.mhd(self._request)
        admission, shown = self._endpoint.admission, mhd
        if admission is not None and route.scope is not None:
            self._exchange.requester = await admission.requester(self._request, route.scope)
            shown = await admission.shown(mhd, self._exchange.requester, route.scope)
        await self._audit.begun(route.transaction, mhd, route.path, route.resource_id)
        self._exchange.disclosing = self._audit.succeeded
        answer = await route.answer(shown, self._exchange, route.resource_id)
        if not isinstance(answer, FhirAnswer):
            self._ended(answer, Ended.SUCCESS)
            return answer
        form = self._exchange.format
        await self._audit.succeeded(answer.accessed)
        response = await self._exchange.response(answer, form)
        self._ended(response, Ended.SUCCESS)
        self._endpoint.metrics.reported(route.transaction, answer.errors)
        self._endpoint.metrics.kept(answer.documents_kept)
        return response

    async def refused(
        self,
        outcome: Outcome,
        accessed: Accessed = NOTHING_ACCESSED,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> web.Response:
        """The OperationOutcome, as HTTP has it."""
        outcome = await self._audit.failed(outcome, accessed)
        status = outcome.http_status
        retry: Mapping[str, str] = {hdrs.RETRY_AFTER: "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
        answer = FhirAnswer(outcome.resource(), status, headers={**headers, **retry})
        response = await self._exchange.response(answer, self._exchange.format_of_errors)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = (each for each in methods_of(self._request.rel_url.raw_path) if each != self._request.method)
            response.headers["Allow"] = ", ".join(allowed)
        self._ended(response, _ended_by(status), sorted({each.xds_code or each.code.value for each in outcome.issues}))
        return response

    def _ended(self, response: web.StreamResponse, ended: Ended, errors: list[str] | None = None) -> None:
        log.info("Answered", extra={**self._facts(), "status": response.status, "errors": errors or []})
        self._count(ended, response)

    def _count(self, ended: Ended, response: web.StreamResponse | None = None) -> None:
        self._endpoint.metrics.ended(
            self._transaction,
            ended,
            seconds=time.perf_counter() - self._started,
            received=self._exchange.received,
            sent=(response.content_length if response else None) or 0,
        )

    def _facts(self) -> dict[str, object]:
        """What is logged of every request: neither patients nor content."""
        return {
            "transaction": self._transaction.name if self._transaction else None,
            "received": self._exchange.received,
            "milliseconds": round((time.perf_counter() - self._started) * 1000, 1),
            "peer": self._request.remote,
            "request_id": self._exchange.request_id,
            **trace_facts(),
        }


def _challenge_of(refusal: Refused) -> Mapping[str, str]:
    return {hdrs.WWW_AUTHENTICATE: refusal.challenge} if isinstance(refusal, TokenRefused) else {}


def _ended_by(status: int) -> Ended:
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        return Ended.BUSY
    return Ended.SERVER_ERROR if status >= HTTPStatus.INTERNAL_SERVER_ERROR else Ended.FAILURE


# Which row a request is for ----------------------------------------------------------------------------------------

_ROWS: Final[dict[str, dict[str, Interaction]]] = {}
for _each in INTERACTIONS:
    _ROWS.setdefault(_each.path, {})[_each.method] = _each


def routed(method: str, raw_path: str) -> _Route:
    """The row for a method and a path below /fhir. Raises Refused (404, 405)."""
    path, resource_id = _row_of(raw_path)
    found = _ROWS[path].get("GET" if method == "HEAD" else method)
    if found is None:
        allowed = ", ".join(methods_of(raw_path))
        hint = " A Bundle is sent to the base URL itself." if path == "Bundle" else ""
        raise Refused(
            Issue(
                IssueType.NOT_SUPPORTED,
                f"{method[:20]} is not answered at {_shown(raw_path)}; send {allowed}.{hint}",
                http=HTTPStatus.METHOD_NOT_ALLOWED,
            )
        )
    return _Route(found.transaction, found.answer, found.scope, path, resource_id)


def methods_of(raw_path: str) -> list[str]:
    """The methods that are answered at a path."""
    methods = _ROWS[_row_of(raw_path)[0]]
    return sorted({*methods, *(["HEAD"] if "GET" in methods else [])})


def _row_of(raw_path: str) -> tuple[str, str]:
    """The path of the row, and the id in it, with the version where that is named."""
    below = unquote(raw_path.removeprefix(PATH).strip("/"))
    if below in _ROWS:
        return below, ""
    kind, _, rest = below.partition("/")
    if f"{kind}/{OF_VERSION}" in _ROWS and _VERSIONED_ID.fullmatch(rest):
        return f"{kind}/{OF_VERSION}", rest
    if f"{kind}/{OF_HISTORY}" in _ROWS and (of_history := _ID_OF_HISTORY.fullmatch(rest)):
        return f"{kind}/{OF_HISTORY}", of_history[1]
    parent, _, last = below.rpartition("/")
    if f"{parent}/{ID}" in _ROWS and _RESOURCE_ID.fullmatch(last):
        return f"{parent}/{ID}", last
    hint = " A Bundle is sent to the base URL itself." if below == "Bundle" else ""
    raise Refused(
        Issue(
            IssueType.NOT_FOUND,
            f"There is nothing at {_shown(raw_path)}; {PATH}/metadata tells what is answered here.{hint}",
            http=HTTPStatus.NOT_FOUND,
        )
    )


def _shown(raw_path: str) -> str:
    return repr(raw_path[:200])

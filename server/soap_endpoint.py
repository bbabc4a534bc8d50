"""The SOAP endpoints: one URL per actor, dispatching by what the body asks for.

A message is answered as it came: simple SOAP as simple SOAP, MTOM as MTOM (ITI TF-2: Appendix V). What can not be read
is answered with a SOAP fault, what can be read and is wrong with the transaction's own response.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import web

import schemas
from server.incoming_message import ClientGone, IncomingMessage, Unreadable
from server.large_answers import LargeAnswers, NoRoom
from server.metrics import Metrics, Outcome
from server.outgoing_message import Answer, sent
from server.settings.limits import Limits
from server.tracing import trace_facts
from xds import soap, xml
from xds.actors import OutcomeUnknown
from xds.errors import ResponseStatus
from xds.mtom import MultipartProblem
from xds.soap import Envelope, FaultCode, SoapFault
from xds.transactions import TRANSACTIONS, Transaction
from xds.xml import XmlProblem

log = logging.getLogger(__name__)

SOAP_PATH: Final = "/xds/"
"""Before the name of an actor."""

Handler = Callable[[IncomingMessage], Awaitable[Answer]]
"""Acts on a message whose envelope was read and checked (or will be, where documents come first)."""

_BUSY = SoapFault(FaultCode.RECEIVER, "The server is answering as many requests as it can; try again in a moment.")
_OUTCOMES = {status: Outcome[status.name] for status in ResponseStatus}
_OUTCOME_OPEN = SoapFault(
    FaultCode.RECEIVER,
    "The registry's store did not answer in time: the submission may be registered or not. Ask the registry for its "
    "SubmissionSet by uniqueId. If it is there, nothing is left to do; if it is not, send the submission again.",
)
_FAULT_OF_OURS = SoapFault(FaultCode.RECEIVER, "The server failed; its log says why. Nothing was stored.")


class SoapEndpoint:
    """One actor's URL."""

    def __init__(
        self,
        actor: str,
        handlers: Mapping[Transaction, Handler],
        *,
        limits: Limits,
        metrics: Metrics,
        documents_first: Transaction | None = None,
        public_url: str | None = None,
    ) -> None:
        """documents_first: the transaction whose documents may come before its envelope."""
        self._actor = actor
        self._handlers = handlers
        self._limits = limits
        self._metrics = metrics
        self._documents_first = documents_first
        self._public_url = public_url
        self._requests = 0
        self.large_answers = LargeAnswers(larger_than=limits.large_answer_bytes, at_once=limits.large_answers_at_once)
        # By what the body asks for and by the action: the transaction.
        self._asked: dict[str, dict[str, Transaction]] = {}
        for transaction in handlers:
            self._asked.setdefault(transaction.request, {})[transaction.action] = transaction

    @property
    def path(self) -> str:
        """Where the endpoint is found."""
        return f"{SOAP_PATH}{self._actor}"

    @property
    def title(self) -> str:
        """For people."""
        return f"Document {self._actor.capitalize()}"

    @property
    def served(self) -> str:
        """The transactions answered here, for people."""
        return ", ".join(f"{transaction.title} [{transaction.name}]" for transaction in self._handlers)

    def address(self, request: web.Request) -> str:
        """How a client reaches the endpoint: as configured, or else as this one asked for the server."""
        if self._public_url:
            return self._public_url.rstrip("/") + self.path
        return str(request.url.with_path(self.path))

    async def get(self, request: web.Request) -> web.Response:
        """The service description (?wsdl) and its schemas (?xsd=name)."""
        address = self.address(request)
        query = {name.lower(): value for name, value in request.query.items()}
        try:
            if "wsdl" in query:
                return web.Response(body=schemas.wsdl(self._actor, address), content_type="text/xml")
            if "xsd" in query:
                return web.Response(body=schemas.xsd(query["xsd"], address), content_type="text/xml")
        except KeyError:
            raise web.HTTPNotFound(text=f"There is no schema of that name; {address}?wsdl names them all.\n") from None
        raise web.HTTPMethodNotAllowed(
            "GET", ["POST"], text=f"POST a SOAP 1.2 message here: {self.served}. Its description: {address}?wsdl\n"
        )

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Answer one message."""
        if self._requests >= self._limits.requests_at_once:
            self._metrics.ended(None, Outcome.BUSY, seconds=0.0, received=0, sent=0)
            return _faulted(_BUSY, HTTPStatus.SERVICE_UNAVAILABLE)
        self._requests += 1
        self._metrics.in_flight.inc()
        try:
            return await _Exchange(self, request).response()
        finally:
            self._requests -= 1
            self._metrics.in_flight.dec()

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def metrics(self) -> Metrics:
        return self._metrics

    @property
    def documents_first(self) -> Transaction | None:
        return self._documents_first

    def transaction_of(self, envelope: Envelope, http_action: str | None) -> Transaction:
        """What a message asks for. Raises SoapFault where that is nothing of this endpoint's."""
        asked = self._asked.get(envelope.operation)
        if asked is None:
            elsewhere = [transaction for transaction in TRANSACTIONS if transaction.request == envelope.operation]
            hint = f"; send it to the {elsewhere[0].actor}'s endpoint" if elsewhere else ""
            known = ", ".join(dict.fromkeys(transaction.request for transaction in self._handlers))
            raise SoapFault(
                FaultCode.SENDER,
                f"The body {envelope.operation} is not served here{hint}. Served here: {known}.",
            )
        return asked[soap.checked_action(envelope, http_action, asked)]

    async def act(self, transaction: Transaction, message: IncomingMessage) -> Answer:
        return await self._handlers[transaction](message)


class _Exchange:
    """One message and its answer."""

    def __init__(self, endpoint: SoapEndpoint, request: web.Request) -> None:
        self._endpoint = endpoint
        self._request = request
        self._message: IncomingMessage | None = None
        self._transaction: Transaction | None = None
        self._documents_came_first = False
        self._started = time.perf_counter()

    async def response(self) -> web.StreamResponse:
        try:
            return await self._answered()
        except Unreadable as problem:
            return self._refused(problem.fault, problem.http_status, Outcome.FAULT)
        except (XmlProblem, MultipartProblem) as problem:
            return self._refused(SoapFault(FaultCode.SENDER, str(problem)), HTTPStatus.BAD_REQUEST, Outcome.FAULT)
        except ClientGone as gone:
            log.info("The client went away", extra={**self._facts(), "why": str(gone)})
            self._count(Outcome.CLIENT_GONE)
            return web.Response(status=HTTPStatus.BAD_REQUEST)  # nobody reads it
        except OutcomeUnknown as problem:
            log.warning("A submission has an open outcome", extra={**self._facts(), "problem": str(problem)})
            return self._refused(_OUTCOME_OPEN, HTTPStatus.INTERNAL_SERVER_ERROR, Outcome.SERVER_ERROR)
        except Exception:
            log.exception("A request failed", extra=self._facts())
            return self._refused(_FAULT_OF_OURS, HTTPStatus.INTERNAL_SERVER_ERROR, Outcome.SERVER_ERROR)

    async def _answered(self) -> web.StreamResponse:
        message = self._message = IncomingMessage(self._request, self._endpoint.limits)
        message.on_envelope = self._check
        if not await message.read_envelope():
            self._documents_came_first = True
            self._transaction = self._endpoint.documents_first
        if self._transaction is None or self._transaction is not self._endpoint.documents_first:
            # Nothing is acted upon before the message is there to its last byte.
            await message.read_to_end()
        assert self._transaction is not None  # noqa: S101 - _check sets it or raises
        answer = await self._endpoint.act(self._transaction, message)
        try:
            response = await self._sent(answer)
        except NoRoom:
            return self._refused(_BUSY, HTTPStatus.SERVICE_UNAVAILABLE, Outcome.BUSY)
        log.info(
            "Answered",
            extra={
                **self._facts(),
                "status": answer.status.name,
                "errors": sorted({str(error.code) for error in answer.errors}),
            },
        )
        self._count(_OUTCOMES[answer.status], response)
        self._endpoint.metrics.reported(self._transaction, answer.errors)
        self._endpoint.metrics.kept(answer.documents_kept)
        return response

    async def _sent(self, answer: Answer) -> web.StreamResponse:
        message = self._message
        assert message is not None  # noqa: S101 - it was read
        return await sent(
            self._request,
            answer,
            large=self._endpoint.large_answers,
            is_mtom=message.is_mtom,
            relates_to=message.envelope.message_id,
        )

    def _check(self, envelope: Envelope) -> None:
        """Judge the envelope as soon as it is there, before anything else of the message is read."""
        message = self._message
        assert message is not None  # noqa: S101 - it is the message that calls
        transaction = self._endpoint.transaction_of(envelope, message.http_action)
        if self._documents_came_first and transaction is not self._endpoint.documents_first:
            raise SoapFault(FaultCode.SENDER, f"{transaction.title} takes no documents; send its envelope alone.")
        xml.validate(envelope.body, xml.Schema.of(envelope.body), size=message.received)
        self._transaction = transaction

    def _refused(self, fault: SoapFault, http_status: int, outcome: Outcome) -> web.Response:
        log.info(
            "Answered with a fault",
            extra={**self._facts(), "fault": fault.code.value, "not_understood": list(fault.not_understood)},
        )
        response = _faulted(fault, http_status, relates_to=self._message.message_id if self._message else None)
        self._count(outcome, response)
        return response

    def _count(self, outcome: Outcome, response: web.StreamResponse | None = None) -> None:
        self._endpoint.metrics.ended(
            self._transaction,
            outcome,
            seconds=time.perf_counter() - self._started,
            received=self._message.received if self._message else 0,
            sent=(response.content_length if response else None) or 0,
        )

    def _facts(self) -> dict[str, object]:
        """What is logged of every request: neither patients nor content."""
        return {
            "transaction": self._transaction.name if self._transaction else None,
            "received": self._message.received if self._message else 0,
            "milliseconds": round((time.perf_counter() - self._started) * 1000, 1),
            "peer": self._request.remote,
            **trace_facts(),
        }


def _faulted(fault: SoapFault, http_status: int, *, relates_to: str | None = None) -> web.Response:
    headers = {"Content-Type": fault.content_type}
    if http_status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "1"  # seconds
    return web.Response(status=http_status, body=soap.fault_envelope(fault, relates_to), headers=headers)

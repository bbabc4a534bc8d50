"""What one FHIR request says to the audit trail: once, before anything of its answer is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote_plus

from mhd.actor import Mhd
from mhd.fhir.operation_outcome import Issue, IssueType, Outcome, Refused
from mhd.messages import FHIR_READ, FhirTransaction
from server.audit.asked_elsewhere import Asked
from server.audit.audited_transactions import ASKED_TRANSACTIONS, AUDITED_TRANSACTIONS, AuditedTransaction
from server.audit.happened import AuditOutcome, AuditPort, AuditUnavailable, Client, Happened, User
from server.fhir_exchange import Exchange
from server.requester import Requester
from xds.audit import NOTHING_ACCESSED, Accessed, AccessedKind, AccessedObject
from xds.errors import XdsError

_UNAUDITED: Final = Issue(
    IssueType.TRANSIENT,
    "The audit event of this request can not be kept, and without it nothing is answered; try again later. What was "
    "sent may be stored nevertheless: send it again as it was.",
    http=HTTPStatus.SERVICE_UNAVAILABLE,
)
_OF_VERSION: Final = "/_history/"
_PAIR: Final = re.compile(rb"(?<=[?&\n])([^?&=\s]+)=[^&\s]*")
_SECRET: Final = frozenset({"access_token", "id_token", "refresh_token", "token", "client_secret", "assertion"})
_REMOVED: Final = b"(removed)"
_KINDS: Final = {
    "Binary": AccessedKind.DOCUMENT,
    "DocumentReference": AccessedKind.DOCUMENT_ENTRY,
    "List": AccessedKind.SUBMISSION_SET,  # or a Folder: the event says List of both
    "Patient": AccessedKind.PATIENT,
}
"""By the beginning of a path: of what the id is that ends it."""


class FhirAudit:
    """The audit of one request. Where there is no trail, or nothing to tell of such requests, it does nothing."""

    def __init__(self, port: AuditPort | None, exchange: Exchange, asked_elsewhere: Sequence[Asked] = ()) -> None:
        """asked_elsewhere: what other hosts are asked meanwhile; it grows."""
        self._port = port
        self._exchange = exchange
        self._asked_elsewhere = asked_elsewhere
        self._row: AuditedTransaction | None = None
        self._mhd: Mhd | None = None
        self._asked = NOTHING_ACCESSED

    async def begun(self, transaction: FhirTransaction, mhd: Mhd, path: str, resource_id: str) -> None:
        """The request is about to be answered by these actors.

        path          below the base, as in the row of the interaction
        resource_id   "" where the URL has none
        Raises Refused (503).
        """
        is_of_version = transaction is FHIR_READ and _OF_VERSION in resource_id
        row = AUDITED_TRANSACTIONS.get("FHIR-vread" if is_of_version else transaction.name)
        if self._port is None or row is None:
            return
        try:
            await self._port.begun()
        except AuditUnavailable:
            raise Refused(_UNAUDITED) from None
        self._row, self._mhd = row, mhd
        kind = _KINDS.get(path.partition("/")[0])
        if kind is not None and resource_id:
            self._asked = Accessed(objects=(AccessedObject(kind, resource_id),))

    async def succeeded(self, accessed: Accessed) -> None:
        """Nothing is left but to send the answer. Raises Refused (503)."""
        await self._told(AuditOutcome.SUCCESS, accessed)

    async def failed(self, outcome: Outcome, accessed: Accessed = NOTHING_ACCESSED) -> Outcome:
        """The request is refused; what to answer. Says nothing where it was told already."""
        is_ours = outcome.http_status >= HTTPStatus.INTERNAL_SERVER_ERROR
        codes = dict.fromkeys(each.xds_code or each.code.value for each in outcome.issues if each.is_error)
        description = f"HTTP {outcome.http_status}: {', '.join(codes)}"
        ended = AuditOutcome.SERIOUS_FAILURE if is_ours else AuditOutcome.MINOR_FAILURE
        try:
            asked = replace(accessed, objects=self._asked.objects or accessed.objects)
            await self._told(ended, asked, description)
        except Refused as unaudited:
            return unaudited.outcome
        return outcome

    async def _told(self, outcome: AuditOutcome, accessed: Accessed, description: str = "") -> None:
        row, mhd = self._row, self._mhd
        if self._port is None or row is None or mhd is None:
            return
        self._row = None  # one request, one telling, also where that fails
        happened = Happened(
            transaction=row.where_new if row.where_new is not None and accessed.is_new else row,
            outcome=outcome,
            client=_client(self._exchange),
            url=mhd.base,
            base=mhd.base,
            accessed=accessed,
            description=description,
            patient_keys=await _patient_keys(accessed, mhd),
            query=as_sent(self._exchange) if row.is_search else b"",
            request_id=self._exchange.request_id,
            user=_user(self._exchange.requester),
        )
        try:
            await self._port.told(happened, *(_of_ours(each, happened) for each in self._asked_elsewhere))
        except AuditUnavailable:
            raise Refused(_UNAUDITED) from None


def _of_ours(asked: Asked, request: Happened) -> Happened:
    """What this server asked on behalf of a request; about its patients, where the message names none."""
    return replace(
        request,
        transaction=ASKED_TRANSACTIONS[asked.transaction],
        outcome=asked.outcome,
        client=None,
        url=asked.url,
        accessed=Accessed(asked.patient_ids or request.accessed.patient_ids),
        named=asked.named,
        description=asked.description,
        query=asked.query,
    )


async def _patient_keys(accessed: Accessed, mhd: Mhd) -> dict[str, str]:
    """The ids of the Patient resources; without those that can not be found out now."""
    found = {}
    for patient_id in accessed.patient_ids:
        try:
            key = await mhd.responder.search.registry.patient_key(patient_id)
        except (XdsError, Refused):
            continue
        if key is not None:
            found[patient_id] = key
    return found


def as_sent(exchange: Exchange) -> bytes:
    """The request, with the form in its body, and without the values of what is a token."""
    head = f"{exchange.http.method} {exchange.http.raw_path}".encode("utf-8", "replace")
    body = exchange.form_body
    if body:
        head += b"\nContent-Type: application/x-www-form-urlencoded\n\n" + body
    return _PAIR.sub(lambda pair: _without_token(pair[1], pair[0]), head)


def _without_token(name: bytes, pair: bytes) -> bytes:
    plain = unquote_plus(name.decode("latin-1")).lower()
    return name + b"=" + _REMOVED if plain in _SECRET else pair


def _client(exchange: Exchange) -> Client:
    request, requester = exchange.http, exchange.requester
    certificate = request.transport.get_extra_info("peercert") if request.transport else None
    app = (requester.client_id or "") if requester else ""
    return Client(_subject(certificate or {}), request.remote or "", app)


def _user(requester: Requester | None) -> User | None:
    if requester is None:
        return None
    return User(requester.subject, requester.issuer, requester.jti, requester.purpose_of_use)


def _subject(certificate: Mapping[str, Any]) -> str:
    """The subject of a certificate as `getpeercert` gives it, in one line; "" where there is none."""
    names = (name for names in certificate.get("subject", ()) for name in names)
    return ", ".join(f"{kind}={value}" for kind, value in names)

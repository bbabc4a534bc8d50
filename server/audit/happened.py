"""What a transaction says to the audit trail: who asked whom for what, about whom, and how it ended.

Never a token, never the content of a document. It is said of SOAP and of FHIR in the same words.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol

from server.audit.audited_transactions import AuditedTransaction
from server.requester import PurposeOfUse
from xds.audit import Accessed


class AuditOutcome(Enum):
    """How it ended, as AuditEvent.outcome has it."""

    SUCCESS = "0"
    MINOR_FAILURE = "4"
    """The request was refused."""
    SERIOUS_FAILURE = "8"
    """It could not be answered, or we failed."""

    @property
    def is_failure(self) -> bool:
        return self is not AuditOutcome.SUCCESS


class Client(NamedTuple):
    """Who asks, as far as that is known.

    name      subject of its TLS certificate; "": it showed none
    address   of the connection
    id        of the app, as an access token has it; "": there is no token, or it does not name the app
    """

    name: str
    address: str
    id: str = ""


class User(NamedTuple):
    """On whose behalf the client asks, and what for, as an access token says.

    issuer     who vouches for the subject
    jti        of the token; "": it has none
    """

    subject: str
    issuer: str
    jti: str = ""
    purposes_of_use: tuple[PurposeOfUse, ...] = ()


class Named(NamedTuple):
    """What was sent or asked for by a name, where no URL tells it.

    details   pairs of a type and a value, as an audit message has them
    """

    id: str
    details: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """One request and its outcome.

    client         None: this server has asked
    url            of the server, as the client knows it
    base           of FHIR resources; references are to what is below it
    named          what is told by name, beside what was accessed
    description    of a failure: status and codes
    patient_keys   by patient id, the id of the Patient resource; where it has one
    query          the request itself, of a search
    user           None: nobody is known
    """

    transaction: AuditedTransaction
    outcome: AuditOutcome
    client: Client | None
    url: str
    base: str
    accessed: Accessed
    named: tuple[Named, ...] = ()
    description: str = ""
    patient_keys: dict[str, str]
    query: bytes = b""
    request_id: str = ""
    user: User | None = None


class AuditUnavailable(Exception):
    """An event can not be kept, and without it nothing is answered. The text is for the log."""


class AuditPort(Protocol):
    """Where transactions leave what happened."""

    async def begun(self) -> None:
        """A transaction is about to be done. Raises AuditUnavailable: it must not be, for want of room."""
        ...

    async def told(self, *happened: Happened) -> None:
        """Keep all that happened, together; when this returns, it is on the disk.

        Raises AuditUnavailable: do not answer.
        """
        ...

"""Who asks: what an access token says of the app and of its user, for whoever has to know it beside the answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, NamedTuple, Protocol

from aiohttp import web

from mhd.actor import Mhd
from mhd.fhir.operation_outcome import Issue, IssueType, Refused

_SCHEME: Final = 'Bearer realm="FHIR"'


class PurposeOfUse(NamedTuple):
    """Why somebody asks: a code, such as TREAT, and its code system, "" where none is named."""

    system: str
    code: str


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks, as a token says that was verified (ITI TF-2: 3.71.4.2.2.1). The token itself is not kept.

    issuer         iss
    subject        sub: the user, or the app where there is none
    client_id      the app; None: the token does not name it
    jti            of the token; "": it has none
    audience       aud: what the token calls this server, first (for UserName of an audit message, ITI TF-2: 3.72.5.1)
    purpose_of_use   extensions.ihe_iua.purpose_of_use
    patients       the patient whom the token is for, in each way in which it names him; (): it is for all
    """

    issuer: str
    subject: str
    client_id: str | None = None
    jti: str = ""
    audience: str = ""
    purpose_of_use: tuple[PurposeOfUse, ...] = ()
    patients: tuple[str, ...] = field(default=(), repr=False)


class TokenRefused(Refused):
    """An access token is missing, or does not do. challenge: the value of WWW-Authenticate (RFC 6750, 3)."""

    def __init__(
        self, issue_type: IssueType, sentence: str, *, scope: str, error: str | None = "invalid_token"
    ) -> None:
        """What to tell.

        sentence   ASCII without quotes, and nothing of the token
        error      of RFC 6750, 3.1; None where no token came
        """
        super().__init__(Issue(issue_type, sentence, http=HTTPStatus.UNAUTHORIZED))
        told = f', error="{error}", error_description="{sentence}"' if error else ""
        self.challenge = f'{_SCHEME}{told}, scope="{scope}"'
        self.sentence = sentence


class Admission(Protocol):
    """Lets requests in."""

    async def requester(self, request: web.Request, scope: str) -> Requester:
        """Who asks for what needs a scope.

        Raises TokenRefused; Refused (503) where that can not be known now.
        """
        ...

    async def shown(self, mhd: Mhd, requester: Requester, scope: str) -> Mhd:
        """What there is for them, of all that there is. Raises TokenRefused, XdsError."""
        ...

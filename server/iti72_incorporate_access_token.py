"""Incorporate Access Token [ITI-72], the Resource Server's part, by the JSON Web Token Option.

ITI TF-2: 3.72.4.3 (IUA). An app shows a Bearer token; it has to be signed by one of the issuers that the deployment
trusts, for this server, for now, and for the transaction: the scope is the transaction's name, such as ITI-67.
Whatever of this fails is answered 401, the scope included: IHE says so where RFC 6750 (3.1) would answer 403.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any, Final, NoReturn

import jwt
from aiohttp import hdrs, web

from mhd.actor import Mhd
from mhd.fhir.operation_outcome import Issue, IssueType, Refused
from mhd.messages import ITI_66, ITI_67, ITI_68
from server.requester import PurposeOfUse, Requester, TokenRefused
from server.settings.mhd import PatientToken
from server.signing_keys import KeysUnavailable, SigningKeys

log = logging.getLogger(__name__)

_REQUIRED: Final = ("iss", "sub", "aud", "exp")
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt", "iua-jwt"})
"""What the header may call it (RFC 9068, 2.1; IUA's example), so that no token of another kind is taken for it."""
_MALFORMED: Final = "The access token is no signed JWT; send one as its issuer gave it."
_NOT_VERIFIED: Final = "The access token can not be verified; get a new one from its issuer."
_REFUSALS: Final[tuple[tuple[type[jwt.PyJWTError], IssueType, str], ...]] = (
    (jwt.ExpiredSignatureError, IssueType.EXPIRED, "The access token has expired; get a new one."),
    (jwt.ImmatureSignatureError, IssueType.LOGIN, "The access token is not valid yet; look at the clocks."),
    (jwt.InvalidAudienceError, IssueType.LOGIN, "The access token is not for this server; get one whose aud names it."),
    (jwt.MissingRequiredClaimError, IssueType.LOGIN, "The access token lacks iss, sub, aud or exp; it needs all four."),
    (
        jwt.InvalidSignatureError,
        IssueType.LOGIN,
        "The signature of the access token is wrong; send it as it was issued.",
    ),
    (jwt.PyJWTError, IssueType.LOGIN, _NOT_VERIFIED),
)
_KEPT: Final = (PatientToken.HIDE, PatientToken.FORBID)
_READING: Final = frozenset({ITI_66.name, ITI_67.name, ITI_68.name})
"""What is answered from one patient's documents alone; of what is sent, no one looks whose it is."""
_ODD: Final = (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError)
"""What the library may raise of claims and headers that are not what they should be."""
_KEYS_UNAVAILABLE: Final = Issue(
    IssueType.TRANSIENT,
    "The keys of the access token's issuer can not be had now; try again later.",
    http=HTTPStatus.SERVICE_UNAVAILABLE,
)


class AccessTokens:
    """An Admission by access tokens."""

    def __init__(
        self,
        issuers: Mapping[str, SigningKeys],
        *,
        audience: Sequence[str],
        algorithms: Sequence[str],
        leeway_seconds: float,
        token_bytes: int,
        patient_tokens: PatientToken,
    ) -> None:
        """issuers: their keys, by iss. audience: each is a name of this server."""
        self._issuers = issuers
        self._audience = tuple(audience)
        self._algorithms = frozenset(algorithms)
        self._leeway = leeway_seconds
        self._token_bytes = token_bytes
        self._patient_tokens = patient_tokens

    async def requester(self, request: web.Request, scope: str) -> Requester:
        try:
            authorization = request.headers.getall(hdrs.AUTHORIZATION, ())
            token = self._token(authorization, scope, is_in_url="access_token" in request.query)
            claims = await self._verified(token, scope)
            self._judge(claims, scope)
        except TokenRefused as refusal:
            log.info("An access token was refused", extra={"why": refusal.sentence, "scope": scope})
            raise
        except KeysUnavailable:
            raise Refused(_KEYS_UNAVAILABLE) from None
        found = requester_of(claims, self._audience)
        return found if self._patient_tokens in _KEPT else replace(found, patients=())

    async def shown(self, mhd: Mhd, requester: Requester, scope: str) -> Mhd:
        if not requester.patients:
            return mhd
        found = await mhd.kept_to(requester.patients, forbids=self._patient_tokens is PatientToken.FORBID)
        if found is None:
            sentence = "The access token is for a patient who is not known here, or for several."
            raise TokenRefused(IssueType.FORBIDDEN, sentence, scope=scope)
        return found

    def _token(self, authorization: Sequence[str], scope: str, *, is_in_url: bool) -> str:
        """The one that was sent. Raises TokenRefused."""
        if len(authorization) > 1:
            _refuse("There are several Authorization headers; send one.", scope)
        scheme, _, token = authorization[0].partition(" ") if authorization else ("", "", "")
        token = token.strip(" ")
        if scheme.lower() != "bearer" or not token:
            needed = "An access token in the URL is not looked at" if is_in_url else "An access token is needed here"
            sentence = f"{needed}; send it as Authorization: Bearer."
            raise TokenRefused(IssueType.LOGIN, sentence, scope=scope, error=None)
        if len(token) > self._token_bytes:
            _refuse(f"The access token has more than {self._token_bytes} octets, the limit here.", scope)
        return token

    async def _verified(self, token: str, scope: str) -> Mapping[str, Any]:
        """What a token claims, if it is as it should be. Raises TokenRefused, KeysUnavailable."""
        header, issuer = _unverified(token, scope)
        algorithm, kid = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            _refuse("The access token is signed by an algorithm that is not taken here, or not at all.", scope)
        if str(header.get("typ", "JWT")).lower() not in _TYPES:
            _refuse("The token is one of another kind; send an access token.", scope)
        keys = self._issuers.get(issuer) if isinstance(issuer, str) else None
        if keys is None:
            _refuse("The access token is of an issuer who is not trusted here.", scope)
        key = await keys.key(kid, algorithm)
        if key is None:
            _refuse("The access token is signed with a key that its issuer does not have; get a new one.", scope)
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=issuer,
                leeway=self._leeway,
                options={"require": list(_REQUIRED), "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError as problem:
            issue_type, sentence = next(row[1:] for row in _REFUSALS if isinstance(problem, row[0]))
            raise TokenRefused(issue_type, sentence, scope=scope) from None
        except _ODD:
            _refuse(_NOT_VERIFIED, scope)

    def _judge(self, claims: Mapping[str, Any], scope: str) -> None:
        """Whether what is claimed is enough. Raises TokenRefused."""
        if not isinstance(claims["sub"], str) or not claims["sub"]:
            _refuse("The access token names nobody in sub.", scope)
        if "cnf" in claims:
            # RFC 9449, 7.1; RFC 8705, 3: whoever stole it would be let in, too.
            _refuse("The access token is bound to a key of the app (cnf), which is not checked here.", scope)
        if scope not in _scopes(claims):
            sentence = f"The access token is not for this; get one with the scope {scope}."
            raise TokenRefused(IssueType.FORBIDDEN, sentence, scope=scope, error="insufficient_scope")
        is_refused = self._patient_tokens is PatientToken.REFUSE
        if _patients(claims) and (is_refused or (self._patient_tokens in _KEPT and scope not in _READING)):
            sentence = "The access token is for one patient, and this is not answered to such tokens here."
            raise TokenRefused(IssueType.FORBIDDEN, sentence, scope=scope)


def _unverified(token: str, scope: str) -> tuple[Mapping[str, Any], Any]:
    """The header and iss, of whatever type, as somebody sent them. Raises TokenRefused."""
    try:
        read = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, *_ODD):
        _refuse(_MALFORMED, scope)
    return read["header"], read["payload"].get("iss")


def requester_of(claims: Mapping[str, Any], audience: Sequence[str]) -> Requester:
    """Who asks, by the claims of a token that was verified."""
    named = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    return Requester(
        issuer=claims["iss"],
        subject=claims["sub"],
        client_id=next((each for name in ("client_id", "azp") if isinstance(each := claims.get(name), str)), None),
        jti=_text(claims.get("jti")),
        audience=next(each for each in named if each in audience),
        purpose_of_use=tuple(_purposes(_extension(claims, "ihe_iua").get("purpose_of_use"))),
        patients=_patients(claims),
    )


def _scopes(claims: Mapping[str, Any]) -> Sequence[str]:
    """Separated by blanks, in scope (RFC 9068, 2.2.3; RFC 8693, 4.2). Some issuers have a list, and some call it scp.

    Where there is a scope, scp is not looked at: an issuer that has both means the standard's.
    """
    scope = claims["scope"] if "scope" in claims else claims.get("scp")
    return scope.split(" ") if isinstance(scope, str) else scope if isinstance(scope, list) else ()


def _patients(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """The patient whom a token is for, in each way in which it names him; what is no text names nobody."""
    named = (
        claims.get("patient"),  # SMART App Launch
        _extension(claims, "ihe_iua").get("person_id"),
        _extension(claims, "ihe_bppc").get("patient_id"),
    )
    return tuple(each if isinstance(each, str) else "" for each in named if each not in (None, ""))


def _extension(claims: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    extensions = claims.get("extensions")
    found = extensions.get(name) if isinstance(extensions, dict) else None
    return found if isinstance(found, dict) else {}


def _text(claim: Any) -> str:
    """A claim that is no text says nothing."""
    return claim if isinstance(claim, str) else ""


def _purposes(sent: Any) -> list[PurposeOfUse]:
    """An array of Coding; one alone is taken as well."""
    codings = [each for each in (sent if isinstance(sent, list) else [sent]) if isinstance(each, dict)]
    return [PurposeOfUse(str(each.get("system", "")), str(each["code"])) for each in codings if each.get("code")]


def _refuse(sentence: str, scope: str) -> NoReturn:
    raise TokenRefused(IssueType.LOGIN, sentence, scope=scope) from None

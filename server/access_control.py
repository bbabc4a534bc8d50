"""Who may ask for FHIR, by the settings.

What verifies access tokens is imported where they are asked for, because its library is an extra.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp

from server.diagnosis import Diagnosis, Verdict
from server.requester import Admission
from server.settings import Settings, SettingsProblem
from server.settings.mhd import IuaSettings, TokenIssuer
from server.tls import CannotServe, client_context

if TYPE_CHECKING:
    from server.signing_keys import ReadKeySet, SigningKeys


@asynccontextmanager
async def admission(settings: Settings) -> AsyncIterator[Admission | None]:
    """None: whoever reaches this server may ask. Raises SettingsProblem."""
    configured = settings.mhd.iua
    if not configured.issuers:
        yield None
        return
    async with _signing_keys(settings) as keys:
        from server.iti72_incorporate_access_token import AccessTokens
        from server.signing_keys import KeysUnavailable

        for each in configured.issuers:
            if each.jwks_file is not None:  # a server that is asked may not be up yet
                try:
                    await keys[each.issuer].check()
                except KeysUnavailable as problem:
                    raise SettingsProblem(f"mhd.iua.issuers: jwks_file: {problem}") from problem
        yield AccessTokens(
            keys,
            audience=configured.audience,
            algorithms=configured.algorithms,
            leeway_seconds=configured.leeway_seconds,
            token_bytes=configured.token_bytes,
            patient_tokens=configured.patient_tokens,
        )


async def key_diagnoses(settings: Settings) -> AsyncIterator[Diagnosis]:
    """What a token is to say, and whether the keys of each issuer can be had."""
    configured = settings.mhd.iua
    if not configured.issuers:
        return
    told = f"FHIR is answered to those alone whose token has in aud {' or '.join(configured.audience)}"
    yield Diagnosis("audience of access tokens", Verdict.OK, told)
    try:
        async with _signing_keys(settings) as keys:
            from server.signing_keys import KeysUnavailable

            for issuer, each in keys.items():
                subject = f"keys of {issuer}"
                try:
                    usable = await each.check()
                except KeysUnavailable as problem:
                    yield Diagnosis(subject, Verdict.FAILED, str(problem))
                else:
                    yield Diagnosis(subject, Verdict.OK, f"there are {usable} that can be used")
    except (SettingsProblem, CannotServe) as problem:
        yield Diagnosis("access tokens", Verdict.FAILED, str(problem))


@asynccontextmanager
async def _signing_keys(settings: Settings) -> AsyncIterator[Mapping[str, SigningKeys]]:
    """The keys of each issuer. Raises SettingsProblem."""
    configured = settings.mhd.iua
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=client_context(settings.tls))) as session:
        yield {each.issuer: _keys_of(each, configured, session) for each in configured.issuers}


def _keys_of(issuer: TokenIssuer, configured: IuaSettings, session: aiohttp.ClientSession) -> SigningKeys:
    try:
        from server.signing_keys import KeyTimes, SigningKeys
    except ModuleNotFoundError as problem:
        if (problem.name or "").partition(".")[0] != "jwt":
            raise
        raise SettingsProblem("mhd.iua needs a library for access tokens: pip install 'toimik[iua]'") from problem
    times = KeyTimes(configured.keys_seconds, configured.keys_last_seconds, configured.keys_pause_seconds)
    return SigningKeys(
        _reading(issuer, configured, session),
        issuer=issuer.issuer,
        algorithms=[each.value for each in configured.algorithms],
        times=times,
    )


def _reading(issuer: TokenIssuer, configured: IuaSettings, session: aiohttp.ClientSession) -> ReadKeySet:
    from server.signing_keys import key_set_at, key_set_of_file

    if issuer.jwks_file is not None:
        return key_set_of_file(issuer.jwks_file)
    if issuer.jwks_url is None:
        raise RuntimeError("an issuer has no keys anywhere")  # TokenIssuer refuses this
    return key_set_at(issuer.jwks_url, session, configured.keys_wait_seconds)

"""The public keys that an issuer of access tokens signs with: a JWK Set (RFC 7517), read where it is and kept a while.

Where it is says the deployment alone: what a token says of keys (jku, jwk, x5u, x5c) is not looked at.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, TypeAlias

import aiohttp
import orjson
from jwt import PyJWK, PyJWKError
from jwt.exceptions import InvalidKeyError

log = logging.getLogger(__name__)

ReadKeySet: TypeAlias = Callable[[], Awaitable[bytes]]
"""Reads a JWK Set. Raises KeysUnavailable."""

_LARGEST_KEY_SET: Final = 256 * 1024
_MOST_KEYS: Final = 100
_LEAST_RSA_BITS: Final = 2048
_PUBLIC: Final = ("kty", "n", "e", "crv", "x", "y")
_CURVES: Final = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519"}
_KTY: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


class KeysUnavailable(Exception):
    """The keys of an issuer can not be had now. The text says why."""


@dataclass(frozen=True, slots=True)
class KeyTimes:
    """For how long keys are used, in seconds.

    fresh    until they are asked for again
    last     at most, where asking fails
    pause    between two times of asking, whatever for
    """

    fresh: float
    last: float
    pause: float


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key, for one algorithm. kid: None where it has no name."""

    kid: str | None
    algorithm: str
    key: PyJWK


class SigningKeys:
    """The keys of one issuer. One request asks for them at a time; others use what is known, or wait for it."""

    def __init__(
        self,
        read: ReadKeySet,
        *,
        issuer: str,
        algorithms: Sequence[str],
        times: KeyTimes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._issuer = issuer
        self._algorithms = algorithms
        self._times = times
        self._clock = clock
        self._keys: Sequence[VerifyingKey] = ()
        self._read_at = float("-inf")
        self._asked_at = float("-inf")
        self._problem: str | None = None
        self._asking = asyncio.Lock()

    async def key(self, kid: str | None, algorithm: str) -> PyJWK | None:
        """The key that a token names; that without a name has to be the only one that fits. None: there is no such key.

        Raises KeysUnavailable.
        """
        found = self._found(kid, algorithm)
        if found is not None and (self._age < self._times.fresh or self._asking.locked()):
            return found
        await self._ask()
        found = self._found(kid, algorithm)
        if found is None and self._problem is not None:
            raise KeysUnavailable(self._problem)
        return found

    async def check(self) -> int:
        """Read the keys; how many can be used, each counted for each algorithm. Raises KeysUnavailable."""
        await self._ask()
        if self._problem is not None:
            raise KeysUnavailable(self._problem)
        return len(self._keys)

    @property
    def _age(self) -> float:
        return self._clock() - self._read_at

    def _found(self, kid: str | None, algorithm: str) -> PyJWK | None:
        if self._age >= self._times.last:
            return None
        fitting = [each for each in self._keys if each.algorithm == algorithm and kid in (None, each.kid)]
        return fitting[0].key if len(fitting) == 1 else None

    async def _ask(self) -> None:
        """Read the keys again, if that was not done just now."""
        async with self._asking:
            now = self._clock()
            if now - self._asked_at < self._times.pause:
                return
            self._asked_at = now
            try:
                self._keys = await asyncio.to_thread(verifying_keys, await self._read(), self._algorithms)
            except KeysUnavailable as problem:
                self._problem = str(problem)
                facts = {"issuer": self._issuer, "problem": self._problem}
                log.warning("The keys of an issuer of access tokens can not be read", extra=facts)
            else:
                self._problem = None
                self._read_at = self._clock()


def key_set_of_file(path: Path) -> ReadKeySet:
    """Reads a file."""

    def content() -> bytes:
        try:
            return path.read_bytes()
        except OSError as problem:
            raise KeysUnavailable(f"{path}: {problem.strerror or problem}") from problem

    return lambda: asyncio.to_thread(content)


def key_set_at(url: str, session: aiohttp.ClientSession, seconds: float) -> ReadKeySet:
    """Asks a server. No redirect is followed. seconds: for all of it."""

    async def content() -> bytes:
        timeout = aiohttp.ClientTimeout(total=seconds)
        headers = {"Accept": "application/jwk-set+json, application/json"}
        received = bytearray()
        try:
            async with session.get(url, allow_redirects=False, timeout=timeout, headers=headers) as response:
                if response.status != HTTPStatus.OK:
                    raise KeysUnavailable(f"{url} answers {response.status}")
                async for chunk in response.content.iter_any():
                    received += chunk
                    if len(received) > _LARGEST_KEY_SET:
                        raise KeysUnavailable(f"{url} answers more than {_LARGEST_KEY_SET} octets")
        except (aiohttp.ClientError, TimeoutError) as problem:
            raise KeysUnavailable(f"{url}: {str(problem) or 'it does not answer in time'}") from problem
        return bytes(received)

    return content


def verifying_keys(key_set: bytes, algorithms: Sequence[str]) -> Sequence[VerifyingKey]:
    """The keys of a JWK Set that can be used. Raises KeysUnavailable where it is none, or has no such key."""
    try:
        keys = orjson.loads(key_set)["keys"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as problem:
        raise KeysUnavailable('what is there is no JWK Set, such as {"keys": [...]}') from problem
    found = [usable for each in _sequence(keys)[:_MOST_KEYS] for usable in _usable(each, algorithms)]
    if not found:
        raise KeysUnavailable(f"the JWK Set has no public key for {', '.join(algorithms)}")
    return found


def _usable(jwk: Any, algorithms: Sequence[str]) -> Iterator[VerifyingKey]:
    """A key, for each algorithm that it is meant for."""
    if not isinstance(jwk, dict) or jwk.get("use", "sig") != "sig":
        return
    if "key_ops" in jwk and "verify" not in _sequence(jwk["key_ops"]):
        return
    kid = jwk.get("kid")
    public = {name: jwk[name] for name in _PUBLIC if name in jwk}  # whatever else is there, a private key included
    for algorithm in algorithms:
        kind = (_KTY[algorithm[:2]], _CURVES.get(algorithm))
        if (jwk.get("kty"), jwk.get("crv")) != kind or jwk.get("alg", algorithm) != algorithm:
            continue
        try:
            key = PyJWK(public, algorithm)
        except (PyJWKError, InvalidKeyError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError):
            continue
        if getattr(key.key, "key_size", _LEAST_RSA_BITS) >= _LEAST_RSA_BITS or kind[0] != "RSA":
            yield VerifyingKey(kid if isinstance(kid, str) else None, algorithm, key)


def _sequence(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

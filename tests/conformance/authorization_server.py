"""An Authorization Server: real keys, tokens that are really signed, and its JWK Set over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.served_app import served

AUDIENCE = "https://xds.example/fhir"

ODD_KEYS: Final[tuple[Any, ...]] = (
    "no key", {}, {"kty": "unheard of"}, {"kty": ["RSA"]}, {"kty": "RSA"}, {"kty": "RSA", "n": 7, "e": "AQAB"},
    {"kty": "RSA", "n": "AQAB", "e": ""}, {"kty": "RSA", "n": "AQAB", "e": "AQAB", "key_ops": None},
    {"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB"}, {"kty": "EC", "crv": {}, "x": [], "y": None},
    {"kty": "RSA", "n": "AQAB", "e": "AQAB", "use": "enc"}, {"kty": "RSA", "n": "\u0101", "e": "AQAB"},
)  # fmt: skip
"""What may stand among keys, and is none."""

PrivateKey: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def new_key(algorithm: str) -> PrivateKey:
    if algorithm.startswith("ES"):
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwk_of(key: PrivateKey, **members: str) -> dict[str, Any]:
    """The public key as a JWK."""
    if isinstance(key, rsa.RSAPrivateKey):
        return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), **members}
    return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), **members}


@dataclass
class AuthorizationServer:
    """It signs with the newest key of an algorithm.

    asked    how often it was asked for its keys
    status   what it answers to that
    """

    url: str = ""
    issuer: str = "https://login.example"
    keys: dict[str, tuple[str, PrivateKey]] = field(default_factory=dict)
    asked: int = 0
    status: int = 200

    def __post_init__(self) -> None:
        for algorithm in ("RS256", "ES256"):
            self.rotate(algorithm)

    def rotate(self, algorithm: str) -> None:
        """A new key takes the place of the one before."""
        kid, _ = self.keys.get(algorithm, (f"{algorithm}-0", None))
        self.keys[algorithm] = (f"{algorithm}-{int(kid.rpartition('-')[2]) + 1}", new_key(algorithm))

    @property
    def key_set(self) -> dict[str, Any]:
        return {
            "keys": [jwk_of(key, kid=kid, alg=name, use="sig") for name, (kid, key) in self.keys.items()]
            + [{"kty": "oct", "kid": "shared", "k": "c2VjcmV0"}, *ODD_KEYS]
        }

    def claims(self, scope: Any = "ITI-67", **changes: Any) -> dict[str, Any]:
        """Claims of a good token; those that are None are left out."""
        now = int(time.time())
        claims = {
            "iss": self.issuer, "sub": "user-1", "client_id": "app-1", "aud": AUDIENCE, "jti": "1", "iat": now,
            "exp": now + 300, "scope": scope, **changes,
        }  # fmt: skip
        return {name: value for name, value in claims.items() if value is not None}

    def token(
        self,
        scope: Any = "ITI-67",
        *,
        algorithm: str = "RS256",
        header: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> str:
        """A token that is signed. header: what is to be in it beside; what is None there is left out."""
        kid, key = self.keys[algorithm]
        named = {"kid": kid, "typ": "at+jwt", **(header or {})}
        if named["kid"] is None:
            del named["kid"]
        payload = json.dumps(self.claims(scope, **changes)).encode()
        return jwt.PyJWS().encode(payload, key, algorithm=algorithm, headers=named)

    async def answer(self, _request: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(status=self.status, text=json.dumps(self.key_set), content_type="application/json")


@asynccontextmanager
async def authorization_server() -> AsyncIterator[AuthorizationServer]:
    found = AuthorizationServer()
    app = web.Application()
    app.router.add_get("/jwks", found.answer)
    async with served(app) as base:
        found.url = f"{base}/jwks"
        yield found

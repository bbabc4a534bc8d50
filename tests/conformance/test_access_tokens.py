"""Incorporate Access Token [ITI-72] over HTTP: who is let in, and what whoever is not is told."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import logging
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mhd.fhir.fhir_json import written
from server.fhir_interactions import INTERACTIONS
from server.iti72_incorporate_access_token import requester_of
from server.requester import PurposeOfUse, Requester
from server.settings import SettingsProblem
from tests.builders import CONTENT, document_entry, submission_set, unmeasured
from tests.conformance.authorization_server import AUDIENCE, AuthorizationServer, authorization_server, jwk_of, new_key
from tests.conformance.fhir_wire import FhirReply, FhirWire
from tests.conformance.test_find_document_references import of, some_patient
from tests.conformance.wire import running_server
from tests.mhd.recipients import bundle_of, sent_document, sent_list
from tests.server_process import server_process

pytestmark = pytest.mark.asyncio(loop_scope="module")

SEARCH = "DocumentReference"
FHIR = {"Content-Type": "application/fhir+json"}


@dataclass(frozen=True)
class Guarded:
    """A server that asks for access tokens, and who issues them."""

    fhir: FhirWire
    issuer: AuthorizationServer

    async def get(self, path: str, token: str | None = None, **parameters: str) -> FhirReply:
        return await self.fhir.send("GET", path, parameters, headers=bearer(token))

    async def search(self, token: str | None) -> FhirReply:
        """A search for nobody's documents."""
        return await self.get(SEARCH, token, **{"patient.identifier": of(some_patient())})


def bearer(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def guarded_server(stores: Mapping[str, Any], *, issuers: Any = None, **iua: Any) -> AsyncIterator[Guarded]:
    """iua: settings of [mhd.iua]."""
    async with authorization_server() as issuer, aiohttp.ClientSession() as session:
        configured = {"issuers": issuers or [{"issuer": issuer.issuer, "jwks_url": issuer.url}], "audience": [AUDIENCE]}
        async with running_server(**stores, mhd={"iua": {**configured, **iua}}) as base:
            yield Guarded(FhirWire(base, session), issuer)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(stores: Mapping[str, Any]) -> AsyncIterator[Guarded]:
    async with guarded_server(stores) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def here(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    """One on one kind of stores, for what happens before anything is stored."""
    async with guarded_server({"data": tmp_path_factory.mktemp("here")}) as found:
        yield found


def told(reply: FhirReply) -> dict[str, str]:
    """The parameters of the challenge of an answer."""
    challenge = reply.headers["WWW-Authenticate"]
    assert challenge.startswith("Bearer "), challenge
    return dict(re.findall(r'([a-z_]+)="([^"\\]*)"', challenge))


# Who is let in -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_whoever_has_a_token_for_it_submits_finds_and_retrieves(guarded: Guarded, algorithm: str) -> None:
    def headers(scope: str) -> dict[str, str]:
        return bearer(guarded.issuer.token(scope, algorithm=algorithm))

    fhir = guarded.fhir
    entry = unmeasured(document_entry(patient_id=(patient := some_patient())))
    item = submission_set(patient_id=patient)
    body = written(bundle_of(sent_list(item, entry), *sent_document(entry)))

    assert (await fhir.send("POST", "", data=body, headers=FHIR | headers("ITI-67"))).status == 401
    assert (await fhir.send("POST", "", data=body, headers=FHIR | headers("ITI-65"))).status == 200
    whose = {"patient.identifier": of(patient)}
    [found] = (await fhir.send("GET", SEARCH, whose, headers=headers("ITI-67"))).found
    posted = await fhir.send("POST", f"{SEARCH}/_search", data=whose, headers=headers("ITI-66 ITI-67"))
    assert posted.found == [found]
    assert len((await fhir.send("GET", "List", whose, headers=headers("ITI-66"))).found) == 1
    assert (await fhir.send("GET", f"DocumentReference/{found}", headers=headers("ITI-67"))).status == 200
    assert (await fhir.send("GET", f"Binary/{found}", headers=headers("ITI-67"))).status == 401
    assert (await fhir.send("GET", f"Binary/{found}", headers=headers("ITI-68"))).content == CONTENT


async def test_what_a_server_does_is_told_to_everybody_and_says_that_tokens_are_asked_for(here: Guarded) -> None:
    reply = await here.get("metadata")
    assert reply.status == 200
    [service] = reply.resource["rest"][0]["security"]["service"]
    assert service["coding"] == [
        {"system": "http://profiles.ihe.net/fhir/ihe.securityTypes/CodeSystem/securityTypes", "code": "IUA"}
    ]


PATHS = {"{id}": "7c6f2f44-5d5b-4b1f-9f57-0c4d3e1d2a10", "{version}": "1"}


@pytest.mark.parametrize(
    "row", [each for each in INTERACTIONS if each.scope], ids=lambda row: f"{row.method} {row.path}"
)
async def test_each_transaction_has_a_scope_of_its_own(here: Guarded, row: Any) -> None:
    path = row.path
    for name, value in PATHS.items():
        path = path.replace(name, value)
    others = " ".join(sorted({each.scope for each in INTERACTIONS if each.scope} - {row.scope}))

    refused = await here.fhir.send(row.method, path, headers=bearer(here.issuer.token(others)))
    taken = await here.fhir.send(row.method, path, headers=bearer(here.issuer.token(f"openid {row.scope}")))

    assert (refused.status, refused.issue["code"]) == (401, "forbidden")
    assert told(refused) | {"error_description": ""} == {
        "realm": "FHIR", "error": "insufficient_scope", "error_description": "", "scope": row.scope,
    }  # fmt: skip
    assert taken.status not in (401, 403, 500)


@pytest.mark.parametrize("sent", [[{"system": "s", "code": "TREAT"}], {"system": "s", "code": "TREAT"}])
async def test_who_asks_is_known_to_whoever_answers(sent: Any) -> None:
    """What an audit message is made of (ITI TF-2: 3.72.5.1)."""
    issuer = AuthorizationServer()
    claims = issuer.claims(aud=["other", AUDIENCE], extensions={"ihe_iua": {"purpose_of_use": sent}})
    assert requester_of(claims, [AUDIENCE]) == Requester(
        issuer.issuer,
        "user-1",
        client_id="app-1",
        jti="1",
        audience=AUDIENCE,
        purpose_of_use=(PurposeOfUse("s", "TREAT"),),
    )
    odd = issuer.claims(
        client_id=None, jti=7, azp="app-2", extensions={"ihe_iua": {"purpose_of_use": ["TREAT", {"code": ""}]}}
    )
    assert requester_of(odd, [AUDIENCE]) == Requester(issuer.issuer, "user-1", client_id="app-2", audience=AUDIENCE)


async def test_without_iua_no_token_is_asked_for_nor_looked_at(tmp_path: Path) -> None:
    async with running_server(tmp_path) as base, aiohttp.ClientSession() as session:
        reply = await FhirWire(base, session).get(
            SEARCH, {"patient.identifier": of(some_patient())}, Authorization="Bearer of bad news"
        )
        assert reply.status == 200
        metadata = await FhirWire(base, session).get("metadata")
        assert "service" not in metadata.resource["rest"][0]["security"]


async def test_without_its_library_a_server_says_what_to_install(tmp_path: Path) -> None:
    script = "import sys; sys.modules['jwt'] = None; from server.__main__ import main; main()"
    environment = {
        "TOIMIK_MHD__IUA__ISSUERS": '[{"issuer": "https://a.example", "jwks_url": "https://a.example/jwks"}]',
        "TOIMIK_MHD__IUA__AUDIENCE": f'["{AUDIENCE}"]',
        "TOIMIK_DATA": str(tmp_path),
        "TOIMIK_PORT": "0",
    }
    command = [sys.executable, "-c", script, "serve"]
    ended = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.PIPE)
    _, told = await ended.communicate()
    assert ended.returncode == 2, told
    assert b"pip install 'toimik[iua]'" in told


# Who is not ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Basic dTpw"}, {"Authorization": "Bearer"}, {"Authorization": "Bearer  "}]
)
async def test_without_a_token_it_is_told_that_one_is_needed_and_no_error_beside(
    here: Guarded, headers: dict[str, str]
) -> None:
    reply = await here.fhir.send("GET", "List", {"_count": "1"}, headers=headers)
    assert (reply.status, reply.issue["code"]) == (401, "login")
    assert told(reply) == {"realm": "FHIR", "scope": "ITI-66"}
    assert reply.issue["details"]["text"].startswith("An access token is needed here;")


async def test_a_token_in_the_url_opens_nothing_and_the_app_is_told_where_it_belongs(here: Guarded) -> None:
    reply = await here.fhir.get("List", {"access_token": here.issuer.token("ITI-66")})

    assert (reply.status, reply.issue["code"]) == (401, "login")
    assert told(reply) == {"realm": "FHIR", "scope": "ITI-66"}
    expected = "An access token in the URL is not looked at; send it as Authorization: Bearer."
    assert reply.issue["details"]["text"] == expected


async def test_the_outcome_comes_in_the_form_that_was_asked_for(here: Guarded) -> None:
    reply = await here.fhir.send("GET", SEARCH, headers={"Accept": "application/fhir+xml"})
    assert reply.status == 401
    assert reply.headers["Content-Type"].startswith("application/fhir+xml")
    assert reply.issue["code"] == "login"


def encoded(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


def tampered(issuer: AuthorizationServer) -> str:
    """Another scope under the signature of this one."""
    header, _, signature = issuer.token("ITI-67").split(".")
    return f"{header}.{encoded(json.dumps(issuer.claims('ITI-65 ITI-67')).encode())}.{signature}"


def unsigned(issuer: AuthorizationServer) -> str:
    return jwt.encode(issuer.claims(), "", algorithm="none", headers={"kid": "RS256-1"})


def signed_with_the_public_key(issuer: AuthorizationServer) -> str:
    """By HMAC: what a verifier would take that believes the header."""
    kid, key = issuer.keys["ES256"]
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    parts = ({"alg": "HS256", "kid": kid}, issuer.claims())
    signed = ".".join(encoded(json.dumps(each).encode()) for each in parts)
    return f"{signed}.{encoded(hmac.digest(public, signed.encode(), 'sha256'))}"


def signed_by_somebody_else(issuer: AuthorizationServer) -> str:
    stranger = AuthorizationServer()
    return stranger.token(header={"jwk": jwk_of(stranger.keys["RS256"][1]), "jku": "http://127.0.0.1:9/jwks"})


BAD_TOKENS: Mapping[str, tuple[Callable[[AuthorizationServer], str], str]] = {
    "expired": (lambda issuer: issuer.token(exp=int(time.time()) - 60), "expired"),
    "not valid yet": (lambda issuer: issuer.token(nbf=int(time.time()) + 60), "login"),
    "issued in the future": (lambda issuer: issuer.token(iat=int(time.time()) + 60), "login"),
    "of another audience": (lambda issuer: issuer.token(aud="https://other.example/fhir"), "login"),
    "of no audience": (lambda issuer: issuer.token(aud=None), "login"),
    "of another issuer": (lambda issuer: issuer.token(iss="https://evil.example"), "login"),
    "of several issuers": (lambda issuer: issuer.token(iss=["https://login.example"]), "login"),
    "of no issuer": (lambda issuer: issuer.token(iss=None), "login"),
    "without an end": (lambda issuer: issuer.token(exp=None), "login"),
    "with an odd end": (lambda issuer: issuer.token(exp="soon"), "login"),
    "with an endless end": (lambda issuer: issuer.token(exp=float("inf")), "login"),
    "of nobody": (lambda issuer: issuer.token(sub=""), "login"),
    "without a scope": (lambda issuer: issuer.token(scope=None), "forbidden"),
    "with a longer scope": (lambda issuer: issuer.token(scope="ITI-670 iti-67"), "forbidden"),
    "of one patient": (lambda issuer: issuer.token(patient="1"), "forbidden"),
    "of one person": (lambda issuer: issuer.token(extensions={"ihe_iua": {"person_id": "1"}}), "forbidden"),
    "of a consent": (lambda issuer: issuer.token(extensions={"ihe_bppc": {"patient_id": "1"}}), "forbidden"),
    "bound to a key": (lambda issuer: issuer.token(cnf={"jkt": "x"}), "login"),
    "of another kind": (lambda issuer: issuer.token(header={"typ": "logout+jwt"}), "login"),
    "with a critical header": (lambda issuer: issuer.token(header={"crit": ["x"], "x": 1}), "login"),
    "of an unknown key": (lambda issuer: issuer.token(header={"kid": "unheard of"}), "login"),
    "of a key of another kind": (lambda issuer: issuer.token(header={"kid": "ES256-1"}), "login"),
    "tampered": (tampered, "login"),
    "unsigned": (unsigned, "login"),
    "signed with the public key": (signed_with_the_public_key, "login"),
    "signed by somebody else": (signed_by_somebody_else, "login"),
    "cut": (lambda issuer: issuer.token()[:-10], "login"),
    "no token": (lambda _: "of bad news", "login"),
    "no json": (lambda _: "e30.e30.e30", "login"),
    "deep": (lambda _: f"{encoded(b'[' * 4000)}.e30.e30", "login"),
    "too long": (lambda issuer: issuer.token(name="x" * 6200), "login"),
}  # fmt: skip


@pytest.mark.parametrize("make", [unsigned, signed_with_the_public_key])
async def test_what_is_not_signed_with_a_private_key_is_refused_before_a_key_is_looked_for(
    here: Guarded, make: Callable[[AuthorizationServer], str]
) -> None:
    sentence = (await here.search(make(here.issuer))).issue["details"]["text"]
    assert sentence == "The access token is signed by an algorithm that is not taken here, or not at all."


@pytest.mark.parametrize("name", BAD_TOKENS)
async def test_a_token_that_does_not_do_is_401_and_a_sentence_says_why_without_telling_it_again(
    here: Guarded, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    make, code = BAD_TOKENS[name]
    token = make(here.issuer)
    with caplog.at_level(logging.DEBUG):
        reply = await here.search(token)

    assert (reply.status, reply.issue["code"]) == (401, code), reply.content
    challenge = told(reply)
    assert challenge["error"] == ("insufficient_scope" if "scope" in name else "invalid_token")
    assert challenge["error_description"] == reply.issue["details"]["text"]
    assert challenge["scope"] == "ITI-67"
    everything = caplog.text + str([vars(each) for each in caplog.records]) + str(reply)
    assert [part for part in token.split(".") if len(part) > 10 and part in everything] == []


async def test_no_token_good_or_bad_is_in_the_log_of_any_worker(tmp_path: Path) -> None:
    issuer = AuthorizationServer()
    (tmp_path / "keys.json").write_text(json.dumps(issuer.key_set), encoding="utf-8")
    environment = {
        "TOIMIK_MHD__IUA__ISSUERS": json.dumps([{"issuer": issuer.issuer, "jwks_file": str(tmp_path / "keys.json")}]),
        "TOIMIK_MHD__IUA__AUDIENCE": json.dumps([AUDIENCE]),
        "TOIMIK_LOG__LEVEL": "debug",
    }
    tokens = [issuer.token(), issuer.token("ITI-68"), tampered(issuer), "x" * 10_000, "x" * 100_000]
    statuses = []
    with server_process(tmp_path / "data", workers=2, environment=environment) as server:
        for token in tokens:
            url = f"{server.url}/fhir/{SEARCH}?patient.identifier={of(some_patient())}"
            async with aiohttp.request("GET", url, headers=bearer(token)) as response:
                statuses.append(response.status)
    log = (tmp_path / "data.log").read_text(encoding="utf-8")
    assert statuses == [200, 401, 401, 401, 400]
    assert "The access token is not for this" in log
    assert [part for token in tokens for part in token.split(".") if part[:50] in log] == []


async def test_two_tokens_are_none(here: Guarded) -> None:
    token = here.issuer.token()
    url = f"{here.fhir.base}/{SEARCH}?patient.identifier={of(some_patient())}"
    headers = [("Authorization", f"Bearer {token}")] * 2
    async with aiohttp.request("GET", url, headers=headers) as response:
        assert response.status == 401


@pytest.mark.parametrize("length", [20_000, 200_000])
async def test_a_header_of_any_length_is_refused_and_the_server_goes_on(here: Guarded, length: int) -> None:
    async with aiohttp.request("GET", f"{here.fhir.base}/{SEARCH}", headers=bearer("x" * length)) as response:
        assert response.status == 400
    assert (await here.search(here.issuer.token())).status == 200


@given(token=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=200))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_text_is_a_token(here: Guarded, token: str) -> None:
    reply = await here.search(token)
    assert (reply.status, reply.issue["code"]) == (401, "login")


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(
        ["", "RS256", "ES256", "HS256", "none", "RS256-1", "JWT", "https://login.example", AUDIENCE, "ITI-67"]
    ),
    st.floats(),
    st.lists(st.sampled_from(["RS256", "b64", 1, None]), max_size=2),
    st.just({}),
)
HEADERS = st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "cty"]), ODD)
CLAIMS = st.dictionaries(st.sampled_from(["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "scope", "extensions"]), ODD)


@given(header=HEADERS, claims=CLAIMS, is_named=st.booleans(), signature=st.binary(max_size=300))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_header_and_no_claims_of_any_kind_are_a_token(
    here: Guarded, header: dict[str, Any], claims: dict[str, Any], is_named: bool, signature: bytes
) -> None:
    if is_named:  # so far that a signature is looked at
        header, claims = {"alg": "RS256", "kid": "RS256-1", **header}, {**here.issuer.claims(), **claims}
    parts = [encoded(json.dumps(each).encode()) for each in (header, claims)]
    reply = await here.search(".".join([*parts, encoded(signature)]))
    assert (reply.status, reply.issue["code"]) == (401, "login")


@given(claims=CLAIMS)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_claims_of_any_kind_that_are_signed_are_judged(here: Guarded, claims: dict[str, Any]) -> None:
    assert (await here.search(here.issuer.token(**claims))).status in (200, 401)


# Clocks, audiences, issuers ------------------------------------------------------------------------------------------


async def test_clocks_may_differ_as_far_as_the_settings_say(here: Guarded) -> None:
    now = int(time.time())
    assert (await here.search(here.issuer.token(exp=now - 10, nbf=now + 10))).status == 200


async def test_one_audience_of_several_is_enough(here: Guarded) -> None:
    assert (await here.search(here.issuer.token(aud=["https://other.example", AUDIENCE]))).status == 200


@pytest.mark.parametrize(
    ("scope", "scp", "status"),
    [
        (None, "ITI-67", 200),
        (None, "openid ITI-67", 200),
        (None, ["openid", "ITI-67"], 200),
        (None, "ITI-68", 401),
        (None, ["ITI-66", "ITI-68"], 401),
        (None, {"ITI-67": True}, 401),
        (None, 67, 401),
        ("ITI-67", "ITI-68", 200),
        ("ITI-68", "ITI-67", 401),
        ("", "ITI-67", 401),
        ([], ["ITI-67"], 401),
    ],
)
async def test_scp_is_taken_where_there_is_no_scope(here: Guarded, scope: Any, scp: Any, status: int) -> None:
    assert (await here.search(here.issuer.token(scope, scp=scp))).status == status


async def test_a_list_of_scopes_and_a_token_without_typ_are_taken(here: Guarded) -> None:
    token = here.issuer.token(scope=["openid", "ITI-67"], header={"typ": None})
    assert (await here.search(token)).status == 200


async def test_an_issuer_signs_for_himself_alone(tmp_path: Path) -> None:
    async with authorization_server() as other:
        other.issuer = "https://other.example"
        async with authorization_server() as own:
            issuers = [{"issuer": each.issuer, "jwks_url": each.url} for each in (own, other)]
            async with guarded_server({"data": tmp_path}, issuers=issuers) as server:
                assert (await server.search(own.token())).status == 200
                assert (await server.search(other.token())).status == 200
                assert (await server.search(other.token(iss=own.issuer))).status == 401


async def test_a_token_of_a_patient_is_taken_for_all_where_the_settings_say_so(tmp_path: Path) -> None:
    async with guarded_server({"data": tmp_path}, patient_tokens="ignore") as server:
        assert (await server.search(server.issuer.token(patient="1"))).status == 200


async def test_only_algorithms_that_the_settings_name_are_taken(tmp_path: Path) -> None:
    async with guarded_server({"data": tmp_path}, algorithms=["ES256"]) as server:
        assert (await server.search(server.issuer.token(algorithm="ES256"))).status == 200
        assert (await server.search(server.issuer.token(algorithm="RS256"))).status == 401


# Keys ----------------------------------------------------------------------------------------------------------------


async def test_keys_are_asked_for_once_however_many_ask_at_once(tmp_path: Path) -> None:
    async with guarded_server({"data": tmp_path}) as server:
        replies = await asyncio.gather(*(server.search(server.issuer.token()) for _ in range(20)))
        assert {each.status for each in replies} == {200}
        assert server.issuer.asked == 1


async def test_a_new_key_is_found_and_the_one_before_is_not_taken_any_more(tmp_path: Path) -> None:
    async with guarded_server({"data": tmp_path}, keys_pause_seconds=0) as server:
        before = server.issuer.token()
        assert (await server.search(before)).status == 200
        server.issuer.rotate("RS256")
        assert (await server.search(server.issuer.token())).status == 200
        assert (await server.search(before)).status == 401


async def test_who_invents_keys_does_not_have_the_issuer_asked_again_and_again(tmp_path: Path) -> None:
    async with guarded_server({"data": tmp_path}, keys_pause_seconds=600) as server:
        assert (await server.search(server.issuer.token())).status == 200
        for number in range(5):
            assert (await server.search(server.issuer.token(header={"kid": f"invented-{number}"}))).status == 401
        assert server.issuer.asked == 1


@pytest.mark.parametrize("status", [500, 404, 302])
async def test_nobody_is_let_in_while_no_keys_can_be_had_and_everybody_once_they_can(
    tmp_path: Path, status: int
) -> None:
    async with guarded_server({"data": tmp_path}, keys_pause_seconds=0) as server:
        server.issuer.status = status
        reply = await server.search(server.issuer.token())
        assert (reply.status, reply.issue["code"], reply.headers["Retry-After"]) == (503, "transient", "1")
        assert "WWW-Authenticate" not in reply.headers
        server.issuer.status = 200
        assert (await server.search(server.issuer.token())).status == 200


async def test_an_issuer_that_is_not_there_at_all_is_503(tmp_path: Path) -> None:
    issuer = AuthorizationServer()
    async with guarded_server(
        {"data": tmp_path}, issuers=[{"issuer": issuer.issuer, "jwks_url": "http://127.0.0.1:9/jwks"}]
    ) as server:
        assert (await server.search(issuer.token())).status == 503
        assert (await server.get("metadata")).status == 200


async def test_keys_that_are_known_serve_while_their_issuer_is_down_but_not_for_ever(tmp_path: Path) -> None:
    times = {"keys_pause_seconds": 0, "keys_seconds": 1e-9}
    async with guarded_server({"data": tmp_path / "1"}, **times, keys_last_seconds=600) as server:
        token = server.issuer.token()
        assert (await server.search(token)).status == 200
        server.issuer.status = 500
        assert (await server.search(token)).status == 200
        assert server.issuer.asked == 2
        server.issuer.rotate("RS256")
        assert (await server.search(server.issuer.token())).status == 503
    async with guarded_server({"data": tmp_path / "2"}, **times, keys_last_seconds=0.2) as server:
        token = server.issuer.token()
        assert (await server.search(token)).status == 200
        server.issuer.status = 500
        await asyncio.sleep(0.25)
        assert (await server.search(token)).status == 503


@pytest.mark.parametrize("answer", [{}, {"keys": "none"}, {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}, []])
async def test_what_is_no_set_of_keys_lets_nobody_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    monkeypatch.setattr(AuthorizationServer, "key_set", answer)
    async with guarded_server({"data": tmp_path}) as server:
        assert (await server.search(server.issuer.token())).status == 503


async def test_keys_may_be_in_a_file_which_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    issuer = AuthorizationServer()
    file.write_text(json.dumps(issuer.key_set), encoding="utf-8")
    issuers = [{"issuer": issuer.issuer, "jwks_file": str(file)}]
    async with guarded_server({"data": tmp_path / "data"}, issuers=issuers, keys_pause_seconds=0) as server:
        assert (await server.search(issuer.token())).status == 200
        issuer.rotate("RS256")
        assert (await server.search(issuer.token())).status == 401
        file.write_text(json.dumps(issuer.key_set), encoding="utf-8")
        assert (await server.search(issuer.token())).status == 200


@pytest.mark.parametrize("content", [None, "{", '{"keys": []}', "weak"])
async def test_a_file_without_keys_is_told_when_the_server_starts(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "keys.json"
    if content == "weak":
        file.write_text('{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}', encoding="utf-8")
    elif content is not None:
        file.write_text(content, encoding="utf-8")
    issuers = [{"issuer": "https://login.example", "jwks_file": str(file)}]
    with pytest.raises(SettingsProblem, match=r"mhd\.iua\.issuers: jwks_file: "):
        async with guarded_server({"data": tmp_path / "data"}, issuers=issuers):
            pass


async def test_a_token_without_kid_is_taken_where_one_key_fits(tmp_path: Path) -> None:
    async with guarded_server({"data": tmp_path}) as server:
        assert (await server.search(server.issuer.token(header={"kid": None}))).status == 200


async def test_a_token_without_kid_is_refused_where_several_keys_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [jwk_of(new_key("RS256"), kid="1"), jwk_of(new_key("RS256"), kid="2")]
    monkeypatch.setattr(AuthorizationServer, "key_set", {"keys": keys})
    async with guarded_server({"data": tmp_path}) as server:
        assert (await server.search(server.issuer.token(header={"kid": None}))).status == 401

"""Submissions by FHIR over HTTP: what is seen of them by SOAP, and what becomes of hostile ones."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from mhd.fhir.exact_text import Json
from mhd.fhir.fhir_json import written
from mhd.mapping.document_reference import entry_of
from mhd.mapping.identifiers import resource_id
from mhd.submitting.delayed import NOTHING
from server.fhir_xml import to_xml
from tests.builders import (
    CONTENT,
    document_entry,
    full_document_entry,
    oid,
    submission,
    submission_set,
    unmeasured,
)
from tests.conformance.fhir_wire import FhirReply, FhirWire
from tests.conformance.wire import Wire, running_server
from tests.mhd.expressible import expressible
from tests.mhd.recipients import DOMAIN, bundle_of, bundle_with, sent_document, sent_list
from tests.served_app import served
from xds.actors import DocumentRequest
from xds.ebxml_messages import retrieve_request
from xds.ebxml_writer import codec
from xds.metadata import DocumentEntry, SubmissionSet
from xds.transactions import ITI_43

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON, XML = "application/fhir+json", "application/fhir+xml"


async def provided(fhir: FhirWire, bundle: Json, kind: str = JSON, **headers: str) -> FhirReply:
    body = written(bundle) if kind == JSON else to_xml(bundle)
    return await fhir.send("POST", "", data=io.BytesIO(body), headers={"Content-Type": kind, "Accept": kind, **headers})


async def by_soap(wire: Wire, unique_id: str) -> list[Any]:
    """What ITI-18 finds of a SubmissionSet."""
    reply = await wire.query("GetSubmissionSetAndContents", XDSSubmissionSetUniqueId=f"'{unique_id}'")
    return [codec.read(each.ebrim) for each in reply.query_response.found if each.ebrim]


# One world -----------------------------------------------------------------------------------------------------------


async def test_a_submission_whose_answer_has_no_form_that_is_wanted_is_refused_before_anything_is_stored(
    wire: Wire, fhir: FhirWire
) -> None:
    entry, item = document_entry(), submission_set()
    bundle = bundle_of(sent_list(item, entry), *sent_document(entry))
    headers = {"Content-Type": JSON, "Accept": "text/html"}

    reply = await fhir.send("POST", "", data=io.BytesIO(written(bundle)), headers=headers)

    assert reply.status == 406
    assert await by_soap(wire, item.unique_id or "") == []


@pytest.mark.parametrize("kind", [JSON, XML])
async def test_what_is_submitted_by_fhir_is_found_and_retrieved_by_soap(wire: Wire, fhir: FhirWire, kind: str) -> None:
    entry = full_document_entry(hash=None, size=None, home_community_id=None)
    item = submission_set()
    bundle = bundle_of(sent_list(item, entry), *sent_document(entry))

    assert (await provided(fhir, bundle, kind)).status == 200
    found = await by_soap(wire, item.unique_id or "")

    [stored] = [each for each in found if isinstance(each, DocumentEntry)]
    [owner] = [each for each in found if isinstance(each, SubmissionSet)]
    assert replace(expressible(stored), hash=None, size=None) == expressible(entry)
    assert expressible(owner) == expressible(item)
    body = retrieve_request([DocumentRequest(stored.repository_unique_id or "", entry.unique_id or "")])
    retrieved = await wire.mtom(ITI_43, body)
    assert list(retrieved.parts.values()) == [CONTENT]


async def test_what_is_submitted_by_soap_is_found_by_fhir(wire: Wire, fhir: FhirWire) -> None:
    entry = full_document_entry(hash=None, size=None, repository_unique_id=None, home_community_id=None)
    sent = submission(entry)

    assert (await wire.provide(sent, {entry.entry_uuid: CONTENT})).registry_response.succeeded
    [stored] = [each for each in await by_soap(wire, sent.submission_set.unique_id or "") if each.kind == entry.kind]
    reply = await fhir.get("DocumentReference", {"identifier": f"urn:ietf:rfc:3986|urn:oid:{entry.unique_id}"})

    [resource] = [each["resource"] for each in reply.bundle["entry"]]
    assert entry_of(resource, domain=DOMAIN) == expressible(stored)
    document = await fhir.get(resource["content"][0]["attachment"]["url"])
    assert (document.status, document.content) == (200, CONTENT)


async def test_the_locations_that_are_answered_can_be_read(fhir: FhirWire) -> None:
    reply = await provided(fhir, bundle_with())

    for each in reply.bundle["entry"]:
        assert (await fhir.get(each["response"]["location"])).status == 200


@pytest.mark.parametrize("kind", [JSON, XML])
async def test_a_bundle_without_uniqueid_that_is_sent_several_times_is_registered_once(
    wire: Wire, fhir: FhirWire, kind: str
) -> None:
    entry = document_entry()
    bundle = bundle_with(entry)
    del bundle["entry"][0]["resource"]["identifier"]

    replies = await asyncio.gather(*(provided(fhir, bundle, kind) for _ in range(4)))
    # What was lost may have been JSON, and come again as XML.
    replies += [await provided(fhir, bundle, each) for each in (JSON, XML)]

    assert sorted(each.status for each in replies) == [200, 409, 409, 409, 409, 409]
    found = await wire.query("GetDocuments", XDSDocumentEntryUniqueId=f"('{entry.unique_id}')")
    assert len(found.query_response.found) == 1
    for reply in replies:
        for location in reply.issue["diagnostics"].split(", ") if reply.status == 409 else ():
            assert (await fhir.get(location)).status == 200


async def test_a_replacement_by_fhir_is_seen_by_soap(wire: Wire, fhir: FhirWire) -> None:
    old, new = document_entry(), document_entry()
    sent = submission(unmeasured(old))
    await wire.provide(sent, {old.entry_uuid: CONTENT})
    target = {"reference": f"DocumentReference/{resource_id(old.entry_uuid)}"}

    reply = await provided(fhir, bundle_with(new, relates_to=[{"code": "replaces", "target": target}]))

    assert reply.status == 200
    found = await by_soap(wire, sent.submission_set.unique_id or "")
    [replaced] = [each for each in found if isinstance(each, DocumentEntry)]
    assert str(replaced.availability_status).endswith("Deprecated")


async def test_a_patient_is_named_by_the_id_that_is_answered(fhir: FhirWire) -> None:
    first, second = document_entry(), document_entry()
    await provided(fhir, bundle_with(first))
    stored = (await fhir.get(f"DocumentReference/{resource_id(first.entry_uuid)}")).resource
    bundle = bundle_with(second)
    for number in (0, 1):
        _at(bundle, number)["subject"] = {"reference": stored["subject"]["reference"]}
    request = {"method": "PUT", "url": "Patient/1"}
    bundle["entry"].append({"resource": {"resourceType": "Patient", "active": True}, "request": request})

    reply = await provided(fhir, bundle)

    assert reply.status == 200
    location = reply.bundle["entry"][-1]["response"]["location"]
    assert stored["subject"]["reference"].endswith(f"/{location}")


# Hostile messages ----------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="module")
async def elsewhere() -> AsyncIterator[tuple[str, list[str]]]:
    """The URL of another server, and what it is asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.json_response({"resourceType": "Patient"})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with served(app) as base:
        yield f"{base}/fhir", asked


def _at(bundle: Json, number: int) -> Json:
    resource: Json = bundle["entry"][number]["resource"]
    return resource


FOREIGN: dict[str, Callable[[Json, str], None]] = {
    "subject": lambda bundle, url: _at(bundle, 0).update(subject={"reference": f"{url}/Patient/1"}),
    "document": lambda bundle, url: _at(bundle, 1)["content"][0]["attachment"].update(url=f"{url}/Binary/1"),
    "author": lambda bundle, url: _at(bundle, 1).update(author=[{"reference": f"{url}/Practitioner/1"}]),
    "relation": lambda bundle, url: _at(bundle, 1).update(
        relatesTo=[{"code": "replaces", "target": {"reference": f"{url}/DocumentReference/1"}}]
    ),
    "member": lambda bundle, url: _at(bundle, 0)["entry"].append({"item": {"reference": f"{url}/List/1"}}),
    "profile": lambda bundle, url: _at(bundle, 1).update(
        meta={"profile": [f"{url}/StructureDefinition/x"]}, implicitRules=f"{url}/rules", docStatus="final"
    ),
}  # fmt: skip


@pytest.mark.parametrize("where", FOREIGN)
async def test_what_lies_on_another_server_is_never_fetched(
    wire: Wire, fhir: FhirWire, elsewhere: tuple[str, list[str]], where: str
) -> None:
    url, asked = elsewhere
    unique_id = oid()
    bundle = bundle_with(unique_id=unique_id)
    FOREIGN[where](bundle, url)

    reply = await provided(fhir, bundle)

    assert reply.status == 422
    assert asked == []
    assert await by_soap(wire, unique_id) == []


NOWHERE_HERE: dict[str, tuple[str, Json]] = {
    "on another server": ("{elsewhere}/Binary/1", {"hash": "Kq5sNclPz7QV2+lfQIuc6R7oRu0=", "size": 11}),
    "on another server, without hash and size": ("{elsewhere}/Binary/1", {}),
    "on another server, yet to be assembled": ("{elsewhere}/Binary/1", {"hash": NOTHING, "size": 0}),
    "of another protocol": ("ftp://127.0.0.1/1", {"size": 11}),
    "a file": ("file:///etc/passwd", {"size": 11}),
    "on a server that is not named": ("//127.0.0.1/1", {"size": 11}),
    "on this server": ("{base}/Binary/00000000-0000-4000-8000-000000000000", {"size": 11}),
    "relative": ("Binary/1", {"size": 11}),
    "no entry of the Bundle": ("urn:uuid:00000000-0000-4000-8000-000000000000", {"size": 11}),
    "in the URL": ("data:text/plain;base64,aGVsbG8=", {"size": 5}),
}


@pytest.mark.parametrize(("url", "measures"), NOWHERE_HERE.values(), ids=NOWHERE_HERE.keys())
async def test_a_document_that_is_not_in_the_bundle_is_refused_with_what_to_do_instead(
    wire: Wire, fhir: FhirWire, elsewhere: tuple[str, list[str]], url: str, measures: Json
) -> None:
    other, asked = elsewhere
    unique_id = oid()
    bundle = bundle_with(unique_id=unique_id)
    attachment = _at(bundle, 1)["content"][0]["attachment"]
    for name in ("hash", "size"):
        attachment.pop(name, None)
    attachment |= {"url": url.format(elsewhere=other, base=fhir.base), **measures}
    del bundle["entry"][2]

    reply = await provided(fhir, bundle)

    [error] = [each for each in reply.resource["issue"] if each["severity"] == "error"]
    assert (reply.status, error["code"]) == (422, "not-found")
    assert error["details"]["coding"] == [{"code": "XDSMissingDocument"}]
    assert error["expression"] == ["Bundle.entry[1].resource.content[0].attachment.url"]
    assert re.search(r"(?i)send the (document in the Bundle, as|fullUrl of) a Binary", error["details"]["text"])
    assert asked == []
    assert await by_soap(wire, unique_id) == []


def _deep(levels: int) -> bytes:
    return b'{"resourceType":"Bundle","type":"transaction","extension":' + b"[" * levels + b"]" * levels + b"}"


_XML = b'<Bundle xmlns="http://hl7.org/fhir"><type value="transaction"/></Bundle>'
_ENTITY = b'<!DOCTYPE b [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + _XML.replace(b"transaction", b"&e;")
_INCLUDE = b'<i:include xmlns:i="http://www.w3.org/2001/XInclude" href="/etc/passwd"/>'
_LAUGHS = b"".join(
    b'<!ENTITY l%d "%s">' % (level, b"&l%d;" % (level - 1) * 10 if level else b"lol") for level in range(10)
)
HOSTILE: dict[str, tuple[str, bytes]] = {
    "nothing": (JSON, b""),
    "cut off": (JSON, written(bundle_with())[:-20]),
    "not UTF-8": (JSON, b'{"resourceType":"Bundle","type":"\xff"}'),
    "a name twice": (JSON, b'{"resourceType":"Bundle","resourceType":"Bundle"}'),
    "no number": (JSON, b'{"resourceType":"Bundle","total":NaN}'),
    "many digits": (JSON, b'{"resourceType":"Bundle","total":' + b"9" * 5000 + b"}"),
    "deep": (JSON, _deep(5000)),
    "very deep": (JSON, _deep(500_000)),
    "deep elements": (JSON, b'{"resourceType":"Bundle","type":"transaction","implicitRules":"a:b","meta":{"extension":'
                      + b'[{"url":"x","extension":' * 200 + b'[{"url":"x","valueString":"y"}]' + b"}]" * 200 + b"}}"),
    "an array": (JSON, b"[]"),
    "HTML": (JSON, b"<html/>"),
    "an entity": (XML, _ENTITY),
    "many laughs": (XML, b"<!DOCTYPE b [" + _LAUGHS + b"]>" + _XML.replace(b"transaction", b"&l9;")),
    "a DTD": (XML, b'<!DOCTYPE b SYSTEM "http://127.0.0.1:1/b.dtd">' + _XML),
    "an include": (XML, _XML.replace(b"<type", _INCLUDE + b"<type")),
    "another namespace": (XML, b"<Bundle><type/></Bundle>"),
    "deep XML": (XML, b'<Bundle xmlns="http://hl7.org/fhir">' + b"<link>" * 5000 + b"</link>" * 5000 + b"</Bundle>"),
    "cut off XML": (XML, to_xml(bundle_with())[:-20]),
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
async def test_a_body_that_is_meant_to_hurt_is_refused_in_words(fhir: FhirWire, what: str) -> None:
    kind, body = HOSTILE[what]

    reply = await fhir.send("POST", "", data=io.BytesIO(body), headers={"Content-Type": kind})

    assert reply.status == 400, reply.content[:300]
    assert reply.resource["resourceType"] == "OperationOutcome"
    assert b"root:" not in reply.content


@pytest.mark.parametrize("kind", [JSON, XML])
async def test_a_narrative_is_not_told_again(fhir: FhirWire, kind: str) -> None:
    entry = document_entry()
    script = '<div xmlns="http://www.w3.org/1999/xhtml"><script>alert(1)</script></div>'
    bundle = bundle_with(entry)
    _at(bundle, 1)["text"] = {"status": "generated", "div": script}

    reply = await provided(fhir, bundle, kind)
    stored = await fhir.get(f"DocumentReference/{resource_id(entry.entry_uuid)}")

    assert reply.status == 200
    assert b"script" not in stored.content


async def test_a_large_document_comes_through_and_a_larger_one_is_refused(tmp_path: Path) -> None:
    content = bytes(range(256)) * 12_000
    entry = document_entry(hash=None, size=None)
    bundle = bundle_with(entry, content=content)
    limits = {"fhir_bytes": 8 * 1024 * 1024, "document_bytes": len(content)}

    async with running_server(tmp_path, limits=limits) as base, aiohttp.ClientSession() as session:
        client = FhirWire(base, session)
        assert (await provided(client, bundle)).status == 200
        assert (await client.get(f"Binary/{resource_id(entry.entry_uuid)}")).content == content
        refused = await provided(client, bundle_with(document_entry(hash=None, size=None), content=content + b"x"))
        assert (refused.status, refused.issue["code"]) == (413, "too-costly")
        huge = await provided(client, bundle_with(document_entry(hash=None, size=None), content=content * 3))
        assert (huge.status, huge.issue["code"]) == (413, "too-costly")


async def test_of_several_codings_the_one_in_the_file_of_codes_is_taken_also_when_that_changes(tmp_path: Path) -> None:
    codes = tmp_path / "codes.toml"
    codings = [{"system": "urn:oid:1.2.3", "code": each} for each in ("A", "B")]

    def known(*values: str) -> None:
        listed = ", ".join(f'{{code = "{each}", scheme = "1.2.3"}}' for each in values)
        codes.write_text(f'[type_code]\npolicy = "reject"\nvalues = [{listed}]\n')

    known("B")
    async with running_server(tmp_path / "data", codes_file=codes) as base, aiohttp.ClientSession() as session:
        client, wire = FhirWire(base, session), Wire(base, session)

        async def taken(*sent: Json) -> str | None:
            """The typeCode that a document with these codings is registered with; None: it is refused."""
            entry = document_entry()
            bundle = bundle_with(entry)
            _at(bundle, 1)["type"] = {"coding": list(sent)}
            reply = await provided(client, bundle)
            if reply.status != 200:
                assert "typeCode" in reply.content.decode()
                return None
            found = await wire.query("GetDocuments", XDSDocumentEntryUniqueId=f"('{entry.unique_id}')")
            [stored] = [codec.read(each.ebrim) for each in found.query_response.found if each.ebrim]
            assert isinstance(stored, DocumentEntry)
            assert stored.type_code is not None
            return stored.type_code.code

        assert await taken(*codings) == "B"
        assert await taken(codings[0]) is None
        known("A", "C")
        assert await taken(*codings) == "A"
        assert await taken(codings[1]) is None


async def test_a_code_without_display_is_shown_as_the_affinity_domain_shows_it(tmp_path: Path) -> None:
    values = [{"code": "A", "scheme": "1.2.3", "display": "Of the domain"}, {"code": "B", "scheme": "1.2.3"}]
    codes = {"type_code": {"policy": "warn", "values": values}}
    coding = {"system": "urn:oid:1.2.3", "code": "A"}
    shown = {
        "Of the domain": {"coding": [coding], "text": "Of the sender"},
        "Own": {"coding": [coding | {"display": "Own"}], "text": "Of the sender"},
        "Of the sender": {"coding": [coding | {"code": "B"}], "text": "Of the sender"},
        None: {"coding": [coding | {"code": "B"}]},
    }

    async with running_server(tmp_path, codes=codes) as base, aiohttp.ClientSession() as session:
        client = FhirWire(base, session)
        for display, concept in shown.items():
            bundle = bundle_with()
            _at(bundle, 1)["type"] = concept
            reply = await provided(client, bundle)
            [found] = [each["response"]["location"] for each in reply.bundle["entry"][1:2]]

            assert (await client.get(found)).resource["type"]["coding"][0].get("display") == display


@pytest.mark.parametrize("form", ["urn:oid:{}", "{}"])
async def test_an_oid_needs_no_system_to_be_a_masteridentifier(fhir: FhirWire, form: str) -> None:
    entry = document_entry()
    bundle = bundle_with(entry)
    _at(bundle, 1)["masterIdentifier"] = {"value": form.format(entry.unique_id)}

    reply = await provided(fhir, bundle)

    stored = (await fhir.get(reply.bundle["entry"][1]["response"]["location"])).resource
    assert stored["masterIdentifier"]["system"] == "urn:ietf:rfc:3986"
    assert stored["masterIdentifier"]["value"] == f"urn:oid:{entry.unique_id}"

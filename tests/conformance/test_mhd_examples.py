"""The example messages of MHD over HTTP, in JSON and in XML: each has the outcome that is expected of it.

They lie beside the project (../shared/mhd-examples); the tests skip where they are absent. Each is sent to a server
with empty stores. What is refused leaves nothing but one audit event of a failure: registry, repository and audit trail
are counted before and after.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from mhd.fhir.exact_text import Json
from mhd.fhir.fhir_json import parsed
from mhd.mapping.code_systems import CodeSystems
from registry.metadata_store import Criteria
from registry.metadata_store_sqlite import SqliteMetadataStore
from repository.document_store_filesystem import FilesystemDocumentStore
from server.affinity_domain import patient_register
from server.fhir_xml import to_xml
from server.settings import Settings
from server.store_opening import DOCUMENTS_DIRECTORY, METADATA_FILE, metadata_store
from tests.audit_profiles import audit_problems
from tests.conformance.fhir_wire import FhirReply, FhirWire
from tests.conformance.wire import running_server
from tests.fhir_validity import assert_is_fhir
from tests.mhd.test_mhd_examples import assert_golden
from tests.shared_material import SHARED, shared
from xds.ebxml_writer import codec
from xds.hl7v2 import CX
from xds.metadata import AvailabilityStatus, ObjectKind

EXAMPLES = SHARED / "mhd-examples"
FORMATS = ("json", "xml")
PATHS = {"ITI-65": "", "ITI-105": "DocumentReference", "ITI-106": "DocumentReference/$generate-metadata"}
KINDS = {"json": "application/fhir+json", "xml": "application/fhir+xml"}


def _rows() -> Sequence[Mapping[str, Any]]:
    path = EXAMPLES / "expectations.json"
    rows: Sequence[Mapping[str, Any]] = orjson.loads(path.read_bytes()) if path.exists() else ()
    return rows


ROWS = {str(row["file"]): row for row in _rows()}
WITH_OPTION: Mapping[str, Mapping[str, Any]] = {
    "mhd.minimal=accept": {"minimal": "accept"},
    "mhd.fhir_documents=on": {"fhir_documents": True},
    "mhd.simplified_publish=on": {"simplified_publish": True},
    "mhd.generate_metadata=on": {"generate_metadata": True},
}
AUDIT_FILE = "audit.jsonl"
NEVER_WITH_XDS = "never together with XDS on FHIR: then 422"


def _mhd_settings(row: Mapping[str, Any], code_systems: Path) -> dict[str, Any]:
    """[mhd] as a row needs it; a row that comes after others needs what they need."""
    needs = [str(each.get("needs", "")) for each in (row, *(ROWS[name] for name in row.get("after", ())))]
    found: dict[str, Any] = {"code_systems": code_systems}
    for option, settings in WITH_OPTION.items():
        if any(option in each for each in needs):
            found |= settings
    return found


def _codes(seed: Json, systems: CodeSystems) -> dict[str, Any]:
    """[codes] of the affinity domain of the examples."""
    return {
        {"folder_code_list": "code_list"}.get(name := _snake_case(attribute), name): {
            "policy": "reject",
            "values": [f"{code}^^{systems.scheme_of(system)}" for system, code in values],
        }
        for attribute, values in seed["codes"].items()
    }


def _snake_case(term: str) -> str:
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", term)


def _defaults(codes: Mapping[str, Any]) -> list[dict[str, str]]:
    """What the examples' CDA document does not say of itself: the first code of each kind."""
    firsts = {name: each["values"][0].partition("^^") for name, each in codes.items()}
    return [{"attribute": name, "code": code, "scheme": scheme} for name, (code, _, scheme) in firsts.items()]


class Deployment:
    """A running server of the affinity domain of the examples, on empty stores."""

    def __init__(self, data: Path, client: FhirWire) -> None:
        self._data = data
        self._client = client

    async def send(self, name: str, form: str) -> FhirReply:
        """An example, in this form."""
        body = (EXAMPLES / name).read_bytes()
        if form == "xml" and name.endswith(".json"):
            body = to_xml(parsed(body))
        path = PATHS[ROWS[name]["transaction"]]
        headers = {"Content-Type": KINDS[form], "Accept": KINDS[form]}
        return await self._client.send("POST", path, data=body, headers=headers)

    def events(self) -> list[Json]:
        """The audit trail."""
        file = self._data.parent / AUDIT_FILE
        events = [orjson.loads(each) for each in file.read_bytes().splitlines()]
        for each in events:
            assert_is_fhir(each)
            assert audit_problems(each) == []
        return events

    async def objects(self) -> list[Any]:
        """Everything that is registered."""
        store = SqliteMetadataStore(self._data / METADATA_FILE, codec=codec)
        try:
            found = [await store.find(Criteria(kind)) for kind in ObjectKind]
        finally:
            await store.close()
        return [codec.read(each.ebrim) for kind in found for each in kind if each.ebrim]

    async def holds(self) -> tuple[int, int, int]:
        """How many objects are registered, how many documents are kept, and how many files there are of them."""
        documents = FilesystemDocumentStore(self._data / DOCUMENTS_DIRECTORY)
        try:
            kept = len([each async for each in documents.all_settled()])
        finally:
            await documents.close()
        files = sum(each.is_file() for each in (self._data / DOCUMENTS_DIRECTORY).rglob("*"))
        return len(await self.objects()), kept, files


@asynccontextmanager
async def deployed(row: Mapping[str, Any], directory: Path) -> AsyncIterator[Deployment]:
    seed = parsed((shared("mhd-examples") / "seed-affinity-domain.json").read_bytes())
    pairs = [(oid, uri) for uri, oid in seed["codeSystems"].items()]
    codes = _codes(seed, CodeSystems.default(pairs))
    code_systems = directory / "code-systems.toml"
    code_systems.write_text("".join(f'[[code_system]]\noid = "{oid}"\nuri = ["{uri}"]\n' for oid, uri in pairs))
    settings = {
        "public_url": seed["base"].removesuffix("/fhir"),
        "repository_unique_id": seed["repositoryUniqueId"],
        "home_community_id": seed["homeCommunityId"],
        "patients": {"assigning_authorities": [{"oid": seed["patientDomain"]["oid"]}], "policy": "known"},
        "codes": codes,
        "mhd": _mhd_settings(row, code_systems) | {"defaults": _defaults(codes)},
        "audit": {"file": directory / AUDIT_FILE},
    }
    data = directory / "data"
    await _fed_with(seed["patients"], Settings(**{"data": data, **settings}))
    async with running_server(data, **settings) as base, aiohttp.ClientSession() as session:
        yield Deployment(data, FhirWire(base, session))


async def _fed_with(patients: Sequence[Mapping[str, str]], settings: Settings) -> None:
    """Make patients known, as a feed does."""
    store = await metadata_store(settings)
    try:
        for each in patients:
            await patient_register(settings, store).admit([CX(each["patientId"])])
    finally:
        await store.close()


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", sorted(ROWS) or [pytest.param("", marks=pytest.mark.skip("../shared is absent"))])
async def test_an_example_has_the_outcome_that_is_expected_of_it(name: str, form: str, tmp_path: Path) -> None:
    row = ROWS[name]
    async with deployed(row, tmp_path) as deployment:
        for earlier in row.get("after", ()):
            assert (await deployment.send(earlier, form)).status == 200
        before = await deployment.holds()
        events_before = len(deployment.events())

        reply = await deployment.send(name, form)

        [event] = deployment.events()[events_before:]
        assert event["subtype"][-1]["code"] == row["transaction"]

        if not row["accept"] or NEVER_WITH_XDS in row.get("needs", ""):
            _assert_refused(row, reply)
            assert await deployment.holds() == before
            assert event["outcome"] == "4"
            return
        assert event["outcome"] == "0"
        assert reply.status == row["http"], reply.content
        objects, documents, _ = await deployment.holds()
        assert objects > before[0]
        assert documents > before[1]
        if "Deprecated" in row.get("effect", "").partition(";")[0]:
            statuses = [each.availability_status for each in await deployment.objects()]
            assert statuses.count(AvailabilityStatus.DEPRECATED) == 1
        if "golden" in row:
            await _assert_golden(deployment, row["golden"])


async def _assert_golden(deployment: Deployment, name: str) -> None:
    golden = parsed((EXAMPLES / name).read_bytes())
    for item in await deployment.objects():
        if item.kind in golden:
            assert_golden(item, golden[item.kind])


def _assert_refused(row: Mapping[str, Any], reply: FhirReply) -> None:
    assert reply.status == (row["http"] if not row["accept"] else 422), reply.content
    told = [_told(each) for each in reply.resource["issue"]]
    expected = {name: row[name] for name in ("code", "issue", "path") if row.get(name)}
    assert any(expected.items() <= each.items() for each in told), told


def _told(issue: Json) -> dict[str, Any]:
    coding = issue["details"].get("coding", [{}])
    return {
        "code": coding[0].get("code"),
        "issue": issue["code"],
        "path": next(iter(issue.get("expression", ())), None),
    }


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["valid-14-fhir-document.json"])
async def test_a_fhir_document_needs_the_option(name: str, form: str, tmp_path: Path) -> None:
    shared("mhd-examples")
    async with deployed({}, tmp_path) as deployment:
        reply = await deployment.send(name, form)

        assert reply.status == 422
        assert _told(reply.issue)["code"] == "FHIRDocumentNotSupported"
        assert (await deployment.holds())[0] == 0


@pytest.mark.parametrize(
    "name",
    [
        "valid-03-comprehensive-full.json",
        "valid-04-comprehensive-two-docs-new-folder.json",
        "valid-12-mhd423-identifier-use-only.json",
        "valid-14-fhir-document.json",
        "valid-15-iti105-simplified-publish.json",
    ],
)
async def test_json_and_xml_become_the_same_metadata(name: str, tmp_path: Path) -> None:
    shared("mhd-examples")
    found = []
    for form in FORMATS:
        (tmp_path / form).mkdir()
        async with deployed(ROWS[name], tmp_path / form) as deployment:
            assert (await deployment.send(name, form)).status == ROWS[name]["http"]
            # The SubmissionSet of a Simplified Publish is made here, and is another one each time.
            made = {"Association"} | ({"SubmissionSet"} if ROWS[name]["transaction"] == "ITI-105" else set())
            found.append([_without_ids(each) for each in await deployment.objects() if each.kind not in made])

    assert found[0] == found[1]


def _without_ids(item: Any) -> Any:
    changes: dict[str, Any] = {"entry_uuid": "", "logical_id": None}
    return replace(item, **changes | ({"last_update_time": None} if item.kind == "Folder" else {}))

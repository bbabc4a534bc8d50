"""FHIR clients that others wrote search, page and download: fhirpy of PyPI, fhir-kit-client of npm."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from base64 import b64decode
from pathlib import Path

import aiohttp
import pytest
from fhirpy import AsyncFHIRClient
from fhirpy.base.exceptions import OperationOutcome, ResourceNotFound

from tests.builders import document_entry, submission, unmeasured
from tests.conformance.test_find_document_references import ids, of, some_patient
from tests.conformance.wire import Wire
from xds.hl7v2 import CX, DTM
from xds.metadata import DocumentEntry

pytestmark = pytest.mark.asyncio(loop_scope="module")

HERE = Path(__file__).parent / "npm"


async def kept(wire: Wire) -> tuple[CX, list[DocumentEntry], dict[str, str]]:
    """A patient with five documents, the latest first, and what stands in each, by its id."""
    patient = some_patient()
    entries = [
        unmeasured(document_entry(patient_id=patient, creation_time=DTM(str(year)))) for year in range(2026, 2021, -1)
    ]
    contents = {each.entry_uuid: f"Document of {each.creation_time}" for each in entries}
    sent = {uuid: content.encode() for uuid, content in contents.items()}
    assert (await wire.provide(submission(*entries), sent)).registry_response.succeeded
    return patient, entries, {uuid.removeprefix("urn:uuid:"): content for uuid, content in contents.items()}


async def test_fhirpy_searches_pages_and_downloads(wire: Wire) -> None:
    patient, entries, contents = await kept(wire)
    client = AsyncFHIRClient(f"{wire.base}/fhir")
    search = client.resources("DocumentReference").search(**{"patient.identifier": of(patient)}, status="current")

    found = await search.limit(2).fetch_all()
    first = await search.first()
    by_id = await client.get("DocumentReference", found[1].id)
    subject = await client.get("Patient", found[0].subject.reference.rpartition("/")[2])

    assert [each.id for each in found] == ids(*entries)
    assert await search.count() == 5
    assert first == found[0]
    assert by_id["id"] == found[1].id
    assert subject["identifier"][0]["value"] == patient.id_number
    async with aiohttp.ClientSession() as session, session.get(found[0].content[0].attachment.url) as response:
        assert await response.text() == contents[found[0].id]
    wrapped = await client.get("Binary", found[0].id)
    assert b64decode(wrapped["data"]).decode() == contents[found[0].id]


async def test_fhirpy_is_told_what_is_wrong(wire: Wire) -> None:
    client = AsyncFHIRClient(f"{wire.base}/fhir")

    with pytest.raises(ResourceNotFound):
        await client.get("DocumentReference", "unknown")
    with pytest.raises(OperationOutcome) as refused:
        await client.resources("DocumentReference").search(status="current").fetch()

    assert refused.value.resource["issue"][0]["code"] == "required"


@pytest.fixture(scope="session")
def fhir_kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a program that uses fhir-kit-client."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("there is no npm, and fhir-kit-client is installed by it")
    directory = tmp_path_factory.mktemp("fhir-kit")
    shutil.copytree(HERE, directory, dirs_exist_ok=True)
    installing = [npm, "install", "--no-audit", "--no-fund", "--silent"]
    installed = subprocess.run(installing, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
    if installed.returncode:
        pytest.skip(f"npm can not install fhir-kit-client here: {installed.stderr.strip() or installed.stdout.strip()}")
    return directory


@pytest.mark.parametrize("way", ["get", "post"])
async def test_fhir_kit_client_searches_pages_and_downloads(wire: Wire, fhir_kit: Path, way: str) -> None:
    patient, entries, contents = await kept(wire)
    process = await asyncio.create_subprocess_exec(
        "node", "walk.js", f"{wire.base}/fhir", of(patient), way,
        cwd=fhir_kit, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, problem = await process.communicate()
    assert process.returncode == 0, problem.decode()

    latest = ids(*entries)[0]
    assert json.loads(printed) == {
        "fhirVersion": "4.0.1",
        "total": 5,
        "ids": ids(*entries),
        "read": latest,
        "patient": patient.id_number,
        "wrapped": contents[latest],
        "raw": contents[latest],
        "refused": "required",
    }

"""What the answer to a Bundle (ITI-65) says of what was made, beside where it is."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from datetime import datetime
from email.utils import parsedate_to_datetime

import pytest

from mhd.mapping.identifiers import resource_id
from tests.builders import CONTENT, document_entry, folder, submission_set, unmeasured
from tests.conformance.fhir_wire import FhirWire
from tests.conformance.test_fhir_submissions import provided
from tests.conformance.test_find_document_references import some_patient
from tests.conformance.wire import Wire
from tests.mhd.recipients import bundle_of, bundle_with, sent_document, sent_list
from tests.mhd.test_iti65_provide_document_bundle import PATCH

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("prefer", ["minimal", "representation"])
async def test_what_an_answer_says_of_versions_and_times_is_what_a_read_says(
    wire: Wire, app: FhirWire, prefer: str
) -> None:
    patient = some_patient()
    old, plain, replacing = (unmeasured(document_entry(patient_id=patient)) for _ in range(3))
    assert (await provided(app, bundle_with(old))).status == 200
    target = f"DocumentReference/{resource_id(old.entry_uuid)}"
    relation = [{"code": "replaces", "target": {"reference": target}}]
    documents = [*sent_document(plain), *sent_document(replacing, relates_to=relation)]
    documents[0]["content"][0]["attachment"]["hash"] = b64encode(
        hashlib.sha1(CONTENT, usedforsecurity=False).digest()
    ).decode()
    patch = (PATCH, {"method": "PATCH", "url": target})
    case = folder(patient_id=patient)
    owner = submission_set(patient_id=patient)
    bundle = bundle_of(sent_list(owner, plain, replacing, case), sent_list(case, plain), *documents, patch)

    reply = await provided(app, bundle, Prefer=f"return={prefer}")

    told = [each["response"] for each in reply.bundle["entry"]]
    for each in told:
        read = await app.get(each["location"])
        assert each.get("etag", (etag := read.headers["ETag"])).removeprefix("W/") == etag.removeprefix("W/")
        if "lastModified" in each:
            moment = datetime.fromisoformat(each["lastModified"])
            assert parsedate_to_datetime(read.headers["Last-Modified"]) == moment.replace(microsecond=0)
            assert read.resource is None or read.resource["meta"]["lastUpdated"] == each["lastModified"]
    is_here = app.base == f"{wire.base}/fhir"
    assert ["lastModified" in each for each in told] == [is_here] * len(told)
    # Set, Folder, document and its Binary with a hash, replacement and its Binary, what was replaced.
    was_read = prefer == "representation"
    assert ["etag" in each for each in told] == [was_read, was_read, was_read or is_here, True, was_read, False, False]

"""A server answers the same, octet for octet, whichever stores it keeps everything in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
from lxml import etree

from tests.builders import (
    CONTENT,
    OTHER_PATIENT,
    PATIENT,
    association,
    code,
    document_entry,
    full_document_entry,
    submission,
    unmeasured,
)
from tests.conformance.wire import Reply, Wire, running_server
from tests.shared_stores import REPOSITORY, shared_stores
from tests.store_servers import StoreServer
from xds.actors import DocumentRequest
from xds.ebxml_messages import retrieve_request
from xds.metadata import AssociationType, AvailabilityStatus, DocumentEntry, Submission
from xds.transactions import ITI_43

Answer = tuple[str, int, bytes, tuple[bytes, ...]]
"""What was asked; status, body and attachments of the answer."""

APPROVED, DEPRECATED = AvailabilityStatus.APPROVED, AvailabilityStatus.DEPRECATED
EVERY_STATUS = f"('{APPROVED}','{DEPRECATED}')"


class Story:
    """Messages, the same ones for every server: documents, a replacement, refusals, queries, retrievals."""

    def __init__(self) -> None:
        first = unmeasured(full_document_entry())
        second = unmeasured(document_entry(type_code=code("1234-5")))
        other = unmeasured(document_entry(patient_id=OTHER_PATIENT))
        foreign = unmeasured(document_entry(unique_id=first.unique_id))
        newer, late = unmeasured(document_entry(title=first.title)), unmeasured(document_entry())
        self._submissions = {
            "two documents": (
                submission(first, second),
                {first.entry_uuid: CONTENT, second.entry_uuid: bytes(100_000)},
            ),
            "another patient's": (submission(other), {other.entry_uuid: b"other"}),
            "other bytes": (submission(foreign), {foreign.entry_uuid: b"not the same"}),
            "a replacement": (_replacing(newer, first), {newer.entry_uuid: b"newer"}),
            "a second replacement": (_replacing(late, first), {late.entry_uuid: b"late"}),
        }
        self._queries = _queries(first, newer)
        self._asked = [each.unique_id or "" for each in (first, second, newer, late, document_entry())]

    async def told(self, wire: Wire) -> Sequence[Answer]:
        """What this server answers."""
        answers: list[Answer] = []

        def add(name: str, reply: Reply) -> None:
            # Every message has Content-IDs of its own.
            body = re.sub(rb"cid:[^\"]+", b"cid:", etree.tostring(reply.body))
            answers.append((name, reply.status, body, tuple(reply.parts.values())))

        for name, (metadata, contents) in self._submissions.items():
            add(name, await wire.provide(metadata, contents))
        for return_type in ("LeafClass", "ObjectRef"):
            for name, parameters in self._queries.items():
                add(f"{name}, {return_type}", await wire.query(name, return_type, **parameters))
        for unique_id in self._asked:
            body = retrieve_request([DocumentRequest(REPOSITORY, unique_id)])
            add(f"the document {unique_id}", await wire.mtom(ITI_43, body))
        return answers


def _replacing(newer: DocumentEntry, older: DocumentEntry) -> Submission:
    return submission(newer, associations=(association(AssociationType.RPLC, newer, older),))


def _queries(first: DocumentEntry, newer: DocumentEntry) -> dict[str, dict[str, str]]:
    patient = f"'{PATIENT.text}'"
    return {
        "FindDocuments": {
            "XDSDocumentEntryPatientId": patient,
            "XDSDocumentEntryStatus": EVERY_STATUS,
        },
        "FindSubmissionSets": {
            "XDSSubmissionSetPatientId": patient,
            "XDSSubmissionSetStatus": f"('{APPROVED}')",
        },
        "GetAll": {
            "patientId": patient,
            "XDSDocumentEntryStatus": EVERY_STATUS,
            "XDSSubmissionSetStatus": EVERY_STATUS,
            "XDSFolderStatus": EVERY_STATUS,
        },
        "GetDocuments": {"XDSDocumentEntryUniqueId": f"('{first.unique_id}','{newer.unique_id}')"},
        "GetAssociations": {"uuid": f"('{first.entry_uuid}')"},
        "GetRelatedDocuments": {
            "XDSDocumentEntryEntryUUID": f"'{newer.entry_uuid}'",
            "AssociationTypes": f"('{AssociationType.RPLC}')",
        },
        "FindDocumentsByReferenceId": {"XDSDocumentEntryPatientId": patient},
    }


async def test_every_answer_is_the_same_on_every_store(
    tmp_path: Path, mongodb_server: StoreServer, s3_server: StoreServer
) -> None:
    story = Story()
    told: list[Sequence[Answer]] = []
    async with AsyncExitStack() as opened:
        session = await opened.enter_async_context(aiohttp.ClientSession())
        settings = opened.enter_context(shared_stores(mongodb_server, s3_server))
        for stores in ({"repository_unique_id": REPOSITORY}, settings):
            base = await opened.enter_async_context(running_server(**{"data": tmp_path / "data", **stores}))
            told.append(await story.told(Wire(base, session)))
    for embedded, shared in zip(*told, strict=True):
        assert embedded == shared, embedded[0]
    bodies = [body for _, _, body, _ in told[0]]
    assert sum(b"ResponseStatusType:Success" in body for body in bodies) >= 15
    assert sum(b"ResponseStatusType:Failure" in body for body in bodies) >= 3

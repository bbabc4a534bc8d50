"""Requests that a load generator sends by the thousand: written once, with places where numbers go in.

Both numbers have always as many digits, so that a message keeps its length, and Content-Length is part of what is
written once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Final, TypeVar
from uuid import UUID

from server.bench.dossiers import REPOSITORY, Dossiers, patient
from xds import soap
from xds.actors import DocumentRequest, QueryRequest, ReturnType
from xds.ebxml_messages import provide_request, query_request, register_request, retrieve_request
from xds.metadata import Association, AvailabilityStatus, DocumentEntry, Submission, SubmissionSet
from xds.mtom import Package, PartToWrite
from xds.transactions import ITI_18, ITI_41, ITI_42, ITI_43, Transaction

FIND_DOCUMENTS: Final = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
FIRST_NUMBER: Final = 100_000_000_000
"""Numbers of requests have twelve digits: they are the last group of UUIDs, and the last arc of OIDs."""
DOCUMENT_PART: Final = "document@toimik"

_FIRST_PATIENT: Final = 1_000_000_000  # as server/bench/dossiers.py numbers them
_NO_PATIENT: Final = 8_999_999_999
_PATIENT_MARK: Final = str(_FIRST_PATIENT + _NO_PATIENT).encode()
_NUMBER_MARK: Final = b"999999999999"

_Renamed = TypeVar("_Renamed", DocumentEntry, SubmissionSet)


@dataclass(frozen=True, slots=True)
class Template:
    """A whole HTTP request with marks in it."""

    message: bytes

    def numbered(self, number: int, patient_number: int) -> bytes:
        """The request of this number (twelve digits), about this patient."""
        message = self.message.replace(_NUMBER_MARK, b"%d" % number)
        return message.replace(_PATIENT_MARK, b"%d" % (_FIRST_PATIENT + patient_number))


def http_head(path: str, content_type: str, content_length: int) -> bytes:
    """What goes before the body of a POST."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {content_length}\r\n\r\n"
    ).encode()


def bare_post() -> Template:
    """Two kilobytes that mean nothing, as many as a FindDocuments has."""
    return Template(http_head("/", "application/octet-stream", 2048) + bytes(2048))


def find_documents() -> Template:
    """ITI-18: all Approved documents of a patient."""
    parameters = (
        ("$XDSDocumentEntryPatientId", (f"'{patient(_NO_PATIENT).text}'",)),
        ("$XDSDocumentEntryStatus", (f"('{AvailabilityStatus.APPROVED}')",)),
    )
    body = query_request(QueryRequest(FIND_DOCUMENTS, ReturnType.LEAF_CLASS, parameters))
    return _simple(ITI_18, body)


def register(run: int) -> Template:
    """ITI-42: one DocumentEntry in a SubmissionSet. run tells apart what several runs register."""
    return _simple(ITI_42, register_request(_submission(run)))


@dataclass(frozen=True, slots=True)
class Provided:
    """An ITI-41 message around a document, and the uniqueId that the document gets."""

    head: bytes
    tail: bytes


def provide(run: int, size: int) -> Provided:
    """ITI-41: one document of `size` octets, which go between head and tail."""
    submission = _submission(run)
    entry = replace(submission.document_entries[0], hash=None, size=None, repository_unique_id=None)
    submission = replace(submission, document_entries=(entry,))
    body = provide_request(submission, [(entry.entry_uuid, DOCUMENT_PART)])
    package = _package(ITI_41, body, [PartToWrite(DOCUMENT_PART, "application/octet-stream", size)])
    head = http_head(_path(ITI_41), package.content_type, package.content_length)
    return Provided(head + package.head() + package.part_head(0), package.tail())


def retrieve(run: int) -> Template:
    """ITI-43: the document that the ITI-41 of the same run and number has brought."""
    body = retrieve_request([DocumentRequest(REPOSITORY, _unique_id("2", run))])
    package = _package(ITI_43, body, [])
    head = http_head(_path(ITI_43), package.content_type, package.content_length)
    return Template(head + package.head() + package.tail())


def _simple(transaction: Transaction, body: bytes) -> Template:
    envelope = _envelope(transaction, body)
    content_type = f'{soap.CONTENT_TYPE}; action="{transaction.action}"'
    return Template(http_head(_path(transaction), content_type, len(envelope)) + envelope)


def _package(transaction: Transaction, body: bytes, parts: Sequence[PartToWrite]) -> Package:
    return Package(_envelope(transaction, body), parts, action=transaction.action)


def _envelope(transaction: Transaction, body: bytes) -> bytes:
    message_id = f"urn:uuid:00000000-0000-4000-8000-{_NUMBER_MARK.decode()}"
    head = soap.request_head(transaction.action, f"http://127.0.0.1{_path(transaction)}", message_id)
    return head + body + soap.ENVELOPE_TAIL


def _path(transaction: Transaction) -> str:
    return f"/xds/{transaction.actor}"


def _submission(run: int) -> Submission:
    """One whose ids have the mark in them."""
    made = Dossiers(seed=run).submission(patient(_NO_PATIENT))
    owner, entry, member = made.submission_sets[0], made.document_entries[0], made.associations[0]
    owner = _renamed(owner, "1", run)
    entry = _renamed(entry, "2", run)
    return replace(
        made, submission_sets=(owner,), document_entries=(entry,), associations=(_joining(member, owner, entry, run),)
    )


def _renamed(item: _Renamed, kind: str, run: int) -> _Renamed:
    changes: dict[str, Any] = {"entry_uuid": _entry_uuid(kind, run), "unique_id": _unique_id(kind, run)}
    return replace(item, **changes)


def _joining(member: Association, owner: SubmissionSet, entry: DocumentEntry, run: int) -> Association:
    return replace(
        member, entry_uuid=_entry_uuid("3", run), source_object=owner.entry_uuid, target_object=entry.entry_uuid
    )


def _entry_uuid(kind: str, run: int) -> str:
    drawn = UUID(int=Random(run).getrandbits(128), version=4).urn  # noqa: S311 - only to be different
    return f"urn:uuid:{kind}{drawn[10:-12]}{_NUMBER_MARK.decode()}"


def _unique_id(kind: str, run: int) -> str:
    return f"1.2.826.0.1.3680043.2.{kind}.{run}.{_NUMBER_MARK.decode()}"

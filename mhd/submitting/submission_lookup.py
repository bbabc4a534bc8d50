"""What has to be asked of the registry before a Bundle can be said in terms of XDS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from urllib.parse import parse_qsl

from mhd.fhir.operation_outcome import IssueType
from mhd.mapping.domain import MhdDomain
from mhd.mapping.identifiers import ENTRY_UUID, UNIQUE_ID, entry_uuid_of, identifiers_of_kind, unique_id_of
from mhd.mapping.reading import Reading
from mhd.registered_objects import RegisteredObjects, current
from mhd.submitting.conditional_creates import found_there
from mhd.submitting.submission_draft import Registered, sent_entry_uuids
from mhd.submitting.submission_references import SentReference, members_of, own_entry_uuid, relations_of
from mhd.submitting.transaction_bundle import BundleEntry, Part, TransactionBundle
from xds.errors import ErrorCode
from xds.metadata import AvailabilityStatus, DocumentEntry, Folder


async def looked_up(
    bundle: TransactionBundle, domain: MhdDomain, registered: RegisteredObjects, reading: Reading
) -> Registered:
    """What is registered of what a Bundle speaks of. Nothing is asked that the Bundle does not need."""
    sent = list(sent_entry_uuids(bundle))
    unique_ids = _unique_ids(bundle, domain)
    documents = await registered.documents(entry_uuids=sent, unique_ids=unique_ids)
    by_unique_id = {
        unique_id: found.entry_uuid
        for unique_id in unique_ids
        if (found := current([each for each in documents if each.unique_id == unique_id]))
    }
    folders = {}
    for entry in bundle.of(Part.FOLDER):
        if entry.method == "PUT" and (folder := await _changed(entry, domain, registered, reading)):
            folders[entry.number] = folder
    new_folders = [each for each in sent if each not in {folder.entry_uuid for folder in folders.values()}]
    taken = [*documents, *await registered.folders(entry_uuids=new_folders)]
    members = {folder.entry_uuid: await registered.members_of_folder(folder.entry_uuid) for folder in folders.values()}
    newest = await _newest(_entry_uuids(bundle, domain), registered)
    there = await found_there(bundle, domain, registered, reading)
    known = Registered(frozenset(each.entry_uuid for each in taken), by_unique_id, folders, members, newest, there)
    if not there or not bundle.of(Part.PATCH):
        return known
    # What was replaced by a document that is there may be patched again.
    patched = {known.current_uuid(own_entry_uuid(each.url, domain) or "") for each in bundle.of(Part.PATCH)}
    deprecated = await registered.documents(entry_uuids=patched - {""})
    superseded = (each for each in deprecated if each.availability_status == AvailabilityStatus.DEPRECATED)
    return replace(known, superseded=frozenset(each.entry_uuid for each in superseded))


async def _newest(uuids: frozenset[str], registered: RegisteredObjects) -> Mapping[str, DocumentEntry | Folder]:
    documents = await registered.newest_documents(sorted(uuids))
    folders = await registered.newest_folders(sorted(uuids - documents.keys()))
    return {**documents, **folders}


def _entry_uuids(bundle: TransactionBundle, domain: MhdDomain) -> frozenset[str]:
    """The logicalIDs and entryUUIDs by which the Bundle refers to what is registered."""
    patched = {own_entry_uuid(entry.url, domain) for entry in bundle.of(Part.PATCH)}
    named = {each.target.entry_uuid for each in _references(bundle, domain)}
    return frozenset(each for each in patched | named if each)


def _unique_ids(bundle: TransactionBundle, domain: MhdDomain) -> frozenset[str]:
    """The uniqueIds by which the Bundle refers to documents."""
    return frozenset(each.target.unique_id for each in _references(bundle, domain) if each.target.unique_id)


def _references(bundle: TransactionBundle, domain: MhdDomain) -> Iterator[SentReference]:
    """All that the Bundle refers to."""
    for entry in bundle.entries:
        if entry.part in (Part.SUBMISSION_SET, Part.FOLDER):
            yield from members_of(entry, bundle, domain)
        elif entry.part is Part.DOCUMENT:
            yield from relations_of(entry, bundle, domain)


async def _changed(
    entry: BundleEntry, domain: MhdDomain, registered: RegisteredObjects, reading: Reading
) -> Folder | None:
    """The Folder that a PUT changes; None: it makes a new one, or is refused."""
    by_id = own_entry_uuid(entry.url, domain)
    unique_ids, uuids = ([], [by_id]) if by_id else _named(entry, domain)
    found = [
        *await registered.folders(unique_ids=unique_ids),
        *((await registered.newest_folders(uuids)).values() or await registered.folders(entry_uuids=uuids)),
    ]
    folder = next((each for each in found if each.availability_status != AvailabilityStatus.DEPRECATED), None)
    if folder is not None:
        path = f"{entry.resource_path}.title"
        reading.warn(path, "A PUT adds members to a Folder; its title and codes stay as they are.")
    elif by_id or entry.url.partition("?")[0].strip("/") != "List":
        reading.refuse(
            f"{entry.path}.request.url",
            "There is no such Folder; POST a new one, or PUT one that is registered.",
            IssueType.NOT_FOUND,
            ErrorCode.UNRESOLVED_REFERENCE,
        )
    return folder


def _named(entry: BundleEntry, domain: MhdDomain) -> tuple[list[str], list[str]]:
    """The uniqueIds and UUIDs that a conditional PUT asks for; without a condition, those of the Folder itself."""
    query = entry.url.partition("?")[2]
    if query:
        asked = [value.rpartition("|") for name, value in parse_qsl(query) if name == "identifier"]
        as_unique_id = as_uuid = [
            {"value": value} | ({"system": system} if system else {}) for system, _, value in asked
        ]
    else:
        own = entry.resource.get("identifier", ())
        as_unique_id = [each for _, each in identifiers_of_kind(own, UNIQUE_ID)]
        as_uuid = [each for _, each in identifiers_of_kind(own, ENTRY_UUID)]
    unique_ids = [unique_id_of(each, domain.code_systems) for each in as_unique_id]
    uuids = [entry_uuid_of(each.get("value", "")) for each in as_uuid]
    return [each for each in unique_ids if each], [each for each in uuids if each]

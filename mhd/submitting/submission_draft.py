"""From a Bundle to a submission: the objects of XDS that a Bundle says, joined by Associations (ITI TF-3: 4.2.2).

Every object gets its entryUUID here, so that the answer can name it: a registry keeps the UUIDs that it is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar
from uuid import UUID

from mhd.fhir.operation_outcome import IssueType
from mhd.mapping.document_list import folder_of, submission_set_of
from mhd.mapping.document_reference import RELATIONS, entry_of, entry_uuid_in
from mhd.mapping.domain import MhdDomain
from mhd.mapping.reading import Reading
from mhd.submitting.minimal_metadata import completed
from mhd.submitting.on_demand import promised
from mhd.submitting.submission_name import unique_id_in
from mhd.submitting.submission_options import SubmissionOptions
from mhd.submitting.submission_places import Places
from mhd.submitting.submission_references import SentReference, Target, members_of, own_entry_uuid, relations_of
from mhd.submitting.transaction_bundle import BundleEntry, Part, TransactionBundle
from xds.errors import ErrorCode
from xds.hl7v2 import CX
from xds.metadata import (
    AnyObject,
    Association,
    AssociationType,
    DocumentEntry,
    DocumentEntryType,
    Folder,
    Submission,
    SubmissionSet,
)

Item = TypeVar("Item", bound=AnyObject)

NewUuid = Callable[[], UUID]


@dataclass(frozen=True, slots=True)
class Registered:
    """What is registered of what a Bundle speaks of.

    taken       entryUUIDs that the Bundle brings and that are in use
    documents   by uniqueId: the entryUUID of a document that the Bundle refers to
    folders     by number of the entry: the Folder that it changes
    members     by entryUUID of those: what they hold already
    newest      by logicalID or entryUUID, as the Bundle names it: the newest version of what is registered
    there       by number of the entry: what is there already of what is made only where it is not
    superseded  entryUUIDs of documents that the Bundle patches, and that are superseded already
    """

    taken: frozenset[str] = frozenset()
    documents: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[int, Folder] = field(default_factory=dict)
    members: Mapping[str, frozenset[str]] = field(default_factory=dict)
    newest: Mapping[str, DocumentEntry | Folder] = field(default_factory=dict)
    there: Mapping[int, DocumentEntry | Folder | SubmissionSet] = field(default_factory=dict)
    superseded: frozenset[str] = frozenset()

    def current_uuid(self, named: str) -> str:
        """The entryUUID of the newest version of what has this logicalID, or a version with this entryUUID."""
        return self.newest[named].entry_uuid if named in self.newest else named

    def logical_id(self, named: str) -> str:
        """The logicalID of that."""
        found = [*self.folders.values(), *self.newest.values(), *self.there.values()]
        uuid = self.current_uuid(named)
        return next((each.logical_id for each in found if each.entry_uuid == uuid and each.logical_id), uuid)


@dataclass(frozen=True, slots=True)
class Draft:
    """A submission, and where each part of it stands in the Bundle.

    entry_uuids   by number of the Bundle's entry: the object that it is or changes
    replaced      entryUUIDs of the documents that are replaced
    registered    what it was made with
    named_here    uniqueIds of Lists that were sent without one
    patient_id    of whom it is
    """

    submission: Submission
    entry_uuids: Mapping[int, str]
    places: Places
    replaced: frozenset[str]
    registered: Registered
    named_here: frozenset[str] = frozenset()
    patient_id: CX | None = None


def draft_of(
    bundle: TransactionBundle,
    *,
    patient_id: CX | None,
    registered: Registered,
    domain: MhdDomain,
    options: SubmissionOptions,
    fills: bool,
    on_demand: Container[int],
    name: UUID,
    new_uuid: NewUuid,
    reading: Reading,
) -> Draft:
    """The submission of a Bundle whose references close.

    fills       what lacks is filled in or declared to be lacking (mhd/submitting/minimal_metadata.py)
    on_demand   numbers of entries whose documents are made when they are retrieved
    name        of the submission (mhd/submitting/submission_name.py)
    """
    drafting = _Drafting(bundle, registered, domain, on_demand, name, new_uuid, reading)
    objects = drafting.objects(patient_id)
    _judge_unique_ids(bundle, objects, reading)
    drafting.judge_left_out()
    drafting.judge_changed_twice()
    if fills:
        submission_set = next((each for each in objects.values() if isinstance(each, SubmissionSet)), None)
        objects = {
            number: completed(each, submission_set, options, bundle.entries[number], reading)
            for number, each in objects.items()
        }
    places = Places()
    for number, item in objects.items():
        places.put(item, bundle.entries[number].resource_path)
    associations = list(drafting.associations())
    for association, path in associations:
        places.put(association, path)
    links = tuple(association for association, _ in associations)
    replacing = (AssociationType.RPLC, AssociationType.XFRM_RPLC)
    return Draft(
        Submission(
            submission_sets=_of(SubmissionSet, objects.values()),
            document_entries=_of(DocumentEntry, objects.values()),
            folders=_of(Folder, objects.values()),
            associations=links,
        ),
        drafting.entry_uuids,
        places,
        frozenset(each.target_object for each in links if each.association_type in replacing),
        registered,
        frozenset(drafting.named_here),
        patient_id,
    )


def _judge_unique_ids(bundle: TransactionBundle, objects: Mapping[int, AnyObject], reading: Reading) -> None:
    """One uniqueId names one document. A repository says so too, but only of a Bundle that is sound otherwise."""
    seen: dict[str, int] = {}
    for number, item in objects.items():
        if isinstance(item, DocumentEntry) and item.unique_id and seen.setdefault(item.unique_id, number) != number:
            reading.refuse(
                f"{bundle.entries[number].resource_path}.masterIdentifier",
                f"The masterIdentifier is that of entry[{seen[item.unique_id]}] too; send one for each document.",
                IssueType.DUPLICATE,
                ErrorCode.REPOSITORY_DUPLICATE_UNIQUE_ID_IN_MESSAGE,
            )


def _of(kind: type[Item], items: Iterable[AnyObject]) -> tuple[Item, ...]:
    return tuple(each for each in items if isinstance(each, kind))


class _Drafting:
    """One Bundle on its way."""

    def __init__(
        self,
        bundle: TransactionBundle,
        registered: Registered,
        domain: MhdDomain,
        on_demand: Container[int],
        name: UUID,
        new_uuid: NewUuid,
        reading: Reading,
    ) -> None:
        self._bundle = bundle
        self._registered = registered
        self._domain = domain
        self._on_demand = on_demand
        self._name = name
        self._new_uuid = new_uuid
        self._reading = reading
        self.named_here: set[str] = set()
        self.entry_uuids = {each.number: self._entry_uuid(each) for each in bundle.entries if each.part in _OBJECTS}

    def _entry_uuid(self, entry: BundleEntry) -> str:
        """That of what is there or changed; the one that was sent, where it is new; or else a new one."""
        if entry.number in self._registered.there:
            return self._registered.there[entry.number].entry_uuid
        if entry.number in self._registered.folders:
            return self._registered.folders[entry.number].entry_uuid
        sent = entry_uuid_in(entry.resource)
        return sent if sent and sent not in self._registered.taken else self._new_uuid().urn

    def objects(self, patient_id: CX | None) -> dict[int, AnyObject]:
        """The new objects, by number of their entries."""
        return {
            entry.number: self._object(entry, patient_id)
            for entry in self._bundle.entries
            if entry.part in _OBJECTS and entry.number not in {*self._registered.folders, *self._registered.there}
        }

    def _object(self, entry: BundleEntry, patient_id: CX | None) -> AnyObject:
        entry_uuid = self.entry_uuids[entry.number]
        if entry.part is Part.DOCUMENT:
            document = entry_of(
                entry.resource,
                domain=self._domain,
                patient_id=patient_id,
                path=entry.resource_path,
                reading=self._reading,
            )
            named = replace(document, entry_uuid=entry_uuid, object_type=DocumentEntryType.STABLE)
            return promised(named, entry, self._reading) if entry.number in self._on_demand else named
        return self._list(entry, entry_uuid, patient_id)

    def _list(self, entry: BundleEntry, entry_uuid: str, patient_id: CX | None) -> SubmissionSet | Folder:
        read = submission_set_of if entry.part is Part.SUBMISSION_SET else folder_of
        item = read(
            entry.resource,
            domain=self._domain,
            patient_id=patient_id,
            path=entry.resource_path,
            reading=self._reading,
        )
        unique_id = item.unique_id
        if unique_id is None:
            unique_id = unique_id_in(self._name, entry.number)
            self.named_here.add(unique_id)
        return replace(item, entry_uuid=entry_uuid, unique_id=unique_id, availability_status=None)

    # Associations ---------------------------------------------------------------------------------------------------

    def associations(self) -> Iterator[tuple[Association, str]]:
        """Every Association, with the FHIRPath of what says it."""
        for entry in self._bundle.entries:
            if entry.number in self._registered.there:
                continue  # it is as it is, whatever is said of it here
            if entry.part is Part.SUBMISSION_SET:
                yield from self._of_submission_set(entry)
            elif entry.part is Part.FOLDER:
                yield from self._of_folder(entry)
            elif entry.part is Part.DOCUMENT:
                yield from self._relations(entry)

    def _of_submission_set(self, entry: BundleEntry) -> Iterator[tuple[Association, str]]:
        set_uuid = self.entry_uuids[entry.number]
        for uuid, member in self._members(entry).items():
            sent = member.target.entry
            if uuid in self._folders_there:
                continue
            status = None
            if sent is None or sent.number in self._registered.there:
                status = "Reference"
            elif sent.part is Part.DOCUMENT:
                status = "Original"
            yield self._association(AssociationType.HAS_MEMBER, set_uuid, uuid, status), member.path

    def _of_folder(self, entry: BundleEntry) -> Iterator[tuple[Association, str]]:
        """The members that a Folder has not yet. Each of these Associations is a member of the SubmissionSet, too."""
        folder_uuid = self.entry_uuids[entry.number]
        there = self._registered.members.get(folder_uuid, frozenset())
        for uuid, member in self._members(entry).items():
            if uuid in there:
                continue
            link = self._association(AssociationType.HAS_MEMBER, folder_uuid, uuid)
            yield link, member.path
            for submission_set in self._bundle.of(Part.SUBMISSION_SET):
                set_uuid = self.entry_uuids[submission_set.number]
                yield self._association(AssociationType.HAS_MEMBER, set_uuid, link.entry_uuid), member.path

    def _members(self, entry: BundleEntry) -> Mapping[str, SentReference]:
        """What a List holds, by entryUUID: what it names twice, by ids of two versions perhaps, is one member."""
        members: dict[str, SentReference] = {}
        for member in members_of(entry, self._bundle, self._domain):
            uuid = self._uuid_of(member)
            if uuid is not None:
                members.setdefault(uuid, member)
        return members

    def judge_left_out(self) -> None:
        """Everything sent is in the SubmissionSet, under whichever of its ids."""
        sets = self._bundle.of(Part.SUBMISSION_SET)
        if len(sets) != 1:
            return
        listed = self._members(sets[0]).keys()
        for entry in (*self._bundle.of(Part.DOCUMENT), *self._bundle.of(Part.FOLDER)):
            asked = own_entry_uuid(entry.url, self._domain)
            names = {self.entry_uuids[entry.number], asked and self._registered.current_uuid(asked)}
            if names.isdisjoint(listed):
                self._reading.refuse(
                    entry.resource_path,
                    f"The {entry.part} of {entry.path} is in no entry of the SubmissionSet; list it there by its "
                    "fullUrl.",
                    IssueType.BUSINESS_RULE,
                )

    def judge_changed_twice(self) -> None:
        """A Folder is changed by one entry (FHIR R4: http.html, "Transaction Processing Rules")."""
        seen: dict[str, int] = {}
        for number, changed in self._registered.folders.items():
            first = seen.setdefault(changed.entry_uuid, number)
            if first != number:
                self._reading.refuse(
                    f"{self._bundle.entries[number].path}.request.url",
                    f"entry[{first}] is a PUT of the same Folder; PUT it once, with all that is to be added.",
                    IssueType.DUPLICATE,
                )

    def _relations(self, entry: BundleEntry) -> Iterator[tuple[Association, str]]:
        """relatesTo; several codes to one document may be one Association."""
        by_target: dict[str, list[SentReference]] = {}
        for relation in relations_of(entry, self._bundle, self._domain):
            uuid = self._uuid_of(relation)
            if uuid is not None:
                by_target.setdefault(uuid, []).append(relation)
        for uuid, relations in by_target.items():
            for kind, said in _association_types(relations):
                yield self._association(kind, self.entry_uuids[entry.number], uuid), said.path

    @property
    def _folders_there(self) -> frozenset[str]:
        """A SubmissionSet has those Folders as members that it brings, and no others."""
        found = [*self._registered.folders.values(), *self._registered.there.values()]
        return frozenset(each.entry_uuid for each in found if isinstance(each, Folder))

    def _uuid_of(self, sent: SentReference) -> str | None:
        """The entryUUID that a reference leads to; None, with an issue, where nothing registered has its uniqueId."""
        target: Target = sent.target
        if target.entry is not None:
            return self.entry_uuids.get(target.entry.number)
        if target.unique_id is None:
            return target.entry_uuid and self._registered.current_uuid(target.entry_uuid)
        found = self._registered.documents.get(target.unique_id)
        if found is None:
            self._reading.refuse(
                sent.path,
                "No registered document has this identifier; send that of one that is registered.",
                IssueType.NOT_FOUND,
                ErrorCode.UNRESOLVED_REFERENCE,
            )
        return found

    def _association(self, association_type: str, source: str, target: str, status: str | None = None) -> Association:
        return Association(
            entry_uuid=self._new_uuid().urn,
            association_type=association_type,
            source_object=source,
            target_object=target,
            submission_set_status=status,
        )


_OBJECTS = frozenset({Part.SUBMISSION_SET, Part.DOCUMENT, Part.FOLDER})


def _association_types(relations: Sequence[SentReference]) -> Iterator[tuple[str, SentReference]]:
    """The Associations that the relations to one document say: XFRM_RPLC, where it is both transformed and replaced."""
    codes = {each.code: each for each in relations}
    rows = sorted(RELATIONS, key=lambda row: -len(row[1]))
    while codes:
        for kind, needed in rows:
            if set(needed) <= codes.keys():
                yield kind, codes[needed[-1]]
                codes = {code: each for code, each in codes.items() if code not in needed}
                break
        else:
            return


def sent_entry_uuids(bundle: TransactionBundle) -> Iterator[str]:
    """The entryUUIDs that the Bundle brings for new documents and Folders."""
    for entry in bundle.entries:
        if entry.part in (Part.DOCUMENT, Part.FOLDER) and (sent := entry_uuid_in(entry.resource)):
            yield sent

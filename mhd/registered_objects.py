"""What a registry holds of the objects that a submission, or a past version, speaks of: by stored queries [ITI-18].

So it is the same for the registry of this process and for one of somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from mhd.fhir.operation_outcome import Refused, issue_of
from xds.actors import DocumentRegistry, ObjectCodec, OutcomeUnknown, QueryRequest, QueryResponse, ReturnType
from xds.errors import ErrorCode, RegistryError, ResponseStatus
from xds.metadata import (
    AnyObject,
    Association,
    AvailabilityStatus,
    DocumentEntry,
    DocumentEntryType,
    Folder,
    SubmissionSet,
)
from xds.stored_queries import (
    GET_ASSOCIATIONS,
    GET_DOCUMENTS,
    GET_FOLDER_AND_CONTENTS,
    GET_FOLDERS,
    GET_SUBMISSION_SET_AND_CONTENTS,
    METADATA_LEVEL,
    coded_parameter,
    listed,
)

Item = TypeVar("Item", bound=AnyObject)

_MOST_AT_ONCE: Final = 100
_ALL_VERSIONS: Final = (METADATA_LEVEL, ("2",))


@dataclass(frozen=True, slots=True)
class Known(Generic[Item]):
    """An object that is registered: its newest version, and the logicalID and entryUUIDs under which it was found."""

    newest: Item
    uuids: frozenset[str]

    @classmethod
    def of(cls, logical_id: str, versions: Sequence[Item]) -> Known[Item]:
        """The object that has these versions, in whatever order."""
        newest = max(versions, key=_number)
        return cls(newest, frozenset([logical_id, *(each.entry_uuid for each in versions)]))


@dataclass(frozen=True, slots=True)
class RegisteredObjects:
    """Objects of a registry, by their identifiers. Every method raises Refused where the registry can not answer."""

    registry: DocumentRegistry
    codec: ObjectCodec

    async def documents(
        self, *, entry_uuids: Iterable[str] = (), unique_ids: Iterable[str] = ()
    ) -> Sequence[DocumentEntry]:
        """The documents that have one of these identifiers, whatever their status."""
        by_uuid = await self._each(GET_DOCUMENTS, "$XDSDocumentEntryEntryUUID", entry_uuids)
        by_unique_id = await self._each(GET_DOCUMENTS, "$XDSDocumentEntryUniqueId", unique_ids)
        return _of(DocumentEntry, [*by_uuid, *by_unique_id])

    async def folders(self, *, entry_uuids: Iterable[str] = (), unique_ids: Iterable[str] = ()) -> Sequence[Folder]:
        """The Folders that have one of these identifiers."""
        by_uuid = await self._each(GET_FOLDERS, "$XDSFolderEntryUUID", entry_uuids)
        by_unique_id = await self._each(GET_FOLDERS, "$XDSFolderUniqueId", unique_ids)
        return _of(Folder, [*by_uuid, *by_unique_id])

    async def submission_sets(
        self, *, entry_uuids: Iterable[str] = (), unique_ids: Iterable[str] = ()
    ) -> Sequence[SubmissionSet]:
        """The SubmissionSets that have one of these identifiers."""
        found: list[AnyObject] = []
        for parameter, values in (("EntryUUID", entry_uuids), ("UniqueId", unique_ids)):
            for each in values:
                name = f"$XDSSubmissionSet{parameter}"
                found += await self._found(GET_SUBMISSION_SET_AND_CONTENTS, name, [each])
        return _of(SubmissionSet, found)

    async def newest_documents(self, uuids: Iterable[str]) -> Mapping[str, DocumentEntry]:
        """By the logicalID, or the entryUUID of whatever version: the newest version of the document.

        What is not there, or can not be told because the registry knows no versions, is left out.
        """
        return await self._newest(DocumentEntry, GET_DOCUMENTS, "$XDSDocumentEntry", uuids)

    async def newest_folders(self, uuids: Iterable[str]) -> Mapping[str, Folder]:
        """The same of Folders; of those that are Approved."""
        return await self._newest(Folder, GET_FOLDERS, "$XDSFolder", uuids)

    async def known_documents(
        self, *, uuids: Iterable[str], unique_ids: Iterable[str]
    ) -> Sequence[Known[DocumentEntry]]:
        """What has one of these as its logicalID, as the entryUUID of a version, or as its uniqueId.

        Whatever its status and availability: of several versions the newest.
        """
        return await self._known(DocumentEntry, GET_DOCUMENTS, "$XDSDocumentEntry", list(uuids), list(unique_ids))

    async def known_folders(self, *, uuids: Iterable[str], unique_ids: Iterable[str]) -> Sequence[Known[Folder]]:
        """The same of Folders."""
        return await self._known(Folder, GET_FOLDERS, "$XDSFolder", list(uuids), list(unique_ids))

    async def _known(
        self, kind: type[Item], query_id: str, of_kind: str, uuids: Sequence[str], unique_ids: Sequence[str]
    ) -> Sequence[Known[Item]]:
        async def every_version(name: str, values: Iterable[str]) -> Sequence[Item]:
            return await self._versions(kind, query_id, f"{of_kind}{name}", values, _ALL_VERSIONS)

        found = [*await every_version("UniqueId", unique_ids), *await every_version("EntryUUID", uuids)]
        logical_ids = {each.logical_id or each.entry_uuid for each in found}
        found += await every_version("LogicalID", logical_ids.union(uuids))
        if not found:  # perhaps because the registry knows no versions
            found += _of(kind, await self._each(query_id, f"{of_kind}UniqueId", unique_ids))
            found += _of(kind, await self._each(query_id, f"{of_kind}EntryUUID", uuids))
        versions: dict[str, list[Item]] = {}
        for each in found:
            versions.setdefault(each.logical_id or each.entry_uuid, []).append(each)
        return [Known.of(logical_id, each) for logical_id, each in versions.items()]

    async def _newest(self, kind: type[Item], query_id: str, of_kind: str, uuids: Iterable[str]) -> Mapping[str, Item]:
        named = list(dict.fromkeys(uuids))
        by_logical_id = await self._versions(kind, query_id, f"{of_kind}LogicalID", named)
        newest = {each.logical_id: each for each in by_logical_id}
        others = [each for each in named if each not in newest]
        versions = await self._versions(kind, query_id, f"{of_kind}EntryUUID", others, _ALL_VERSIONS)
        logical_ids = {each.entry_uuid: each.logical_id or each.entry_uuid for each in versions}
        by_logical_id = await self._versions(kind, query_id, f"{of_kind}LogicalID", logical_ids.values())
        newest |= {each.logical_id: each for each in by_logical_id}
        found = {each: newest.get(logical_ids.get(each, each)) for each in named}
        return {uuid: item for uuid, item in found.items() if item is not None}

    async def _versions(
        self,
        kind: type[Item],
        query_id: str,
        parameter: str,
        values: Iterable[str],
        *others: tuple[str, tuple[str, ...]],
    ) -> Sequence[Item]:
        try:
            return _of(kind, await self._each(query_id, parameter, values, *others))
        except Refused as refusal:
            if refusal.outcome.is_for_now or _is_too_much(refusal):
                raise
            return ()  # a registry that knows no versions knows neither logicalIDs nor levels

    async def members_of_folder(self, entry_uuid: str) -> frozenset[str]:
        """entryUUIDs of the documents in a Folder, of both types, among those of other objects."""
        query, both = GET_FOLDER_AND_CONTENTS, ("$XDSDocumentEntryType", listed(DocumentEntryType))
        response = await self._asked(query, ReturnType.OBJECT_REF, "$XDSFolderEntryUUID", [entry_uuid], both)
        return frozenset(each.entry_uuid for each in response.found)

    async def all_associations(self, entry_uuids: Iterable[str]) -> Sequence[Association]:
        """The Associations that have one of these objects at an end, whatever their status."""
        asked, every_status = list(entry_uuids), ("$XDSAssociationStatus", listed(AvailabilityStatus))
        found = await self._versions(Association, GET_ASSOCIATIONS, "$uuid", asked, _ALL_VERSIONS, every_status)
        return found or _of(Association, await self._each(GET_ASSOCIATIONS, "$uuid", asked))

    async def submission(self, unique_id: str, *, on_demand: bool = False) -> Sequence[AnyObject]:
        """A SubmissionSet by its uniqueId, and all that was submitted with it; empty where there is none.

        on_demand   its documents are on-demand entries; by default they are stable
        """
        types = [("$XDSDocumentEntryType", listed([DocumentEntryType.ON_DEMAND]))] if on_demand else []
        query = GET_SUBMISSION_SET_AND_CONTENTS
        return await self._found(query, "$XDSSubmissionSetUniqueId", [unique_id], *types)

    async def _each(
        self, query_id: str, parameter: str, values: Iterable[str], *others: tuple[str, tuple[str, ...]]
    ) -> Sequence[AnyObject]:
        wanted = list(dict.fromkeys(values))
        found: list[AnyObject] = []
        for start in range(0, len(wanted), _MOST_AT_ONCE):
            found += await self._in_parts(query_id, parameter, wanted[start : start + _MOST_AT_ONCE], *others)
        return found

    async def _in_parts(
        self, query_id: str, parameter: str, values: Sequence[str], *others: tuple[str, tuple[str, ...]]
    ) -> Sequence[AnyObject]:
        """What has one of the values, asked for in halves where the registry finds more than it gives at once."""
        try:
            return await self._found(query_id, parameter, values, *others)
        except Refused as refusal:
            if len(values) == 1 or not _is_too_much(refusal):
                raise
        middle = len(values) // 2
        halves = [
            await self._in_parts(query_id, parameter, each, *others) for each in (values[:middle], values[middle:])
        ]
        return [*halves[0], *halves[1]]

    async def _found(
        self, query_id: str, parameter: str, values: Sequence[str], *others: tuple[str, tuple[str, ...]]
    ) -> Sequence[AnyObject]:
        response = await self._asked(query_id, ReturnType.LEAF_CLASS, parameter, values, *others)
        return [self.codec.read(each.ebrim) for each in response.found if each.ebrim is not None]

    async def _asked(
        self,
        query_id: str,
        return_type: ReturnType,
        parameter: str,
        values: Sequence[str],
        *others: tuple[str, tuple[str, ...]],
    ) -> QueryResponse:
        request = QueryRequest(query_id, return_type, (coded_parameter(query_id, parameter, values), *others))
        try:
            response = await self.registry.stored_query(request)
        except OutcomeUnknown:
            raise Refused(issue_of(_NO_ANSWER)) from None
        if response.status is ResponseStatus.FAILURE:
            raise Refused(*(issue_of(each) for each in response.errors or (_NO_ANSWER,)))
        return response


_NO_ANSWER: Final = RegistryError(ErrorCode.REGISTRY_NOT_AVAILABLE, "The registry gave no answer; try again later.")


def _is_too_much(refusal: Refused) -> bool:
    """Whether there is more than a registry gives at once."""
    return any(each.xds_code == ErrorCode.TOO_MANY_RESULTS for each in refusal.outcome.issues)


def _of(kind: type[Item], found: Iterable[AnyObject]) -> list[Item]:
    """The objects of one kind, each once."""
    return list({each.entry_uuid: each for each in found if isinstance(each, kind)}.values())


def _number(item: AnyObject) -> int:
    """Of its version. A registry that knows no versions may say anything, or nothing."""
    return int(item.version) if item.version and item.version.isdecimal() else 1


def current(documents: Sequence[DocumentEntry]) -> DocumentEntry | None:
    """Of documents with one uniqueId, the one that counts: an Approved one, else any."""
    approved = (each for each in documents if each.availability_status == AvailabilityStatus.APPROVED)
    return next(approved, next(iter(documents), None))

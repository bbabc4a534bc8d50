"""A registry that knows no versions is asked in another way; one that can not answer now is not taken for one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from mhd.fhir.operation_outcome import Refused
from mhd.registered_objects import RegisteredObjects
from server.remote_pages import RemotePages
from tests.builders import document_entry, registered
from xds.actors import Found, QueryRequest, QueryResponse, RegistryResponse
from xds.ebxml_writer import codec
from xds.errors import ErrorCode, RegistryError, ResponseStatus, XdsError
from xds.metadata import DocumentEntry, ObjectKind, Submission
from xds.paged_search import NEWEST, PagedSearch
from xds.stored_queries import METADATA_LEVEL, Condition, Operator


@dataclass
class OldRegistry:
    """Has one document, and refuses what asks for logicalIDs or a level."""

    entry: DocumentEntry
    code: ErrorCode

    async def stored_query(self, request: QueryRequest) -> QueryResponse:
        asked = {name for name, _ in request.parameters}
        if METADATA_LEVEL in asked or any(name.endswith("LogicalID") for name in asked):
            return QueryResponse(ResponseStatus.FAILURE, errors=(RegistryError(self.code, "not this"),))
        return QueryResponse(
            ResponseStatus.SUCCESS, found=(Found(self.entry.kind, self.entry.entry_uuid, codec.written(self.entry)),)
        )

    async def register_document_set(self, submission: Submission) -> RegistryResponse:
        raise NotImplementedError


@pytest.fixture
def entry() -> DocumentEntry:
    return registered(document_entry())


def by_logical_id(entry: DocumentEntry) -> PagedSearch:
    named = Condition("logical_id", Operator.ANY_OF, ((entry.entry_uuid,),))
    return PagedSearch(ObjectKind.DOCUMENT_ENTRY, (named, NEWEST), (), "creation_time", limit=1)


async def test_without_versions_the_entry_uuid_is_all_there_is_to_go_by(entry: DocumentEntry) -> None:
    registry = OldRegistry(entry, ErrorCode.STORED_QUERY_PARAM_NUMBER)

    page = await RemotePages(registry, codec, bytes(32)).page(by_logical_id(entry))
    newest = await RegisteredObjects(registry, codec).newest_documents([entry.entry_uuid])

    assert [each.entry_uuid for each in page.objects] == [entry.entry_uuid]
    assert newest == {}


async def test_without_versions_what_has_a_name_is_found_by_it(entry: DocumentEntry) -> None:
    objects = RegisteredObjects(OldRegistry(entry, ErrorCode.STORED_QUERY_PARAM_NUMBER), codec)

    by_unique_id = await objects.known_documents(uuids=(), unique_ids=[entry.unique_id or ""])
    by_uuid = await objects.known_documents(uuids=[entry.entry_uuid], unique_ids=())

    for found in (by_unique_id, by_uuid):
        assert [(each.newest.entry_uuid, each.uuids) for each in found] == [
            (entry.entry_uuid, frozenset([entry.entry_uuid]))
        ]


@pytest.mark.parametrize("all_versions", [True, False])
async def test_a_search_of_a_registry_that_is_busy_finds_nothing_out(entry: DocumentEntry, all_versions: bool) -> None:
    registry = OldRegistry(entry, ErrorCode.REGISTRY_BUSY)
    other = document_entry()  # only its logicalID would tell
    search = by_logical_id(other)
    if all_versions:
        search = replace(search, conditions=search.conditions[:1])

    with pytest.raises(XdsError) as refused:
        await RemotePages(registry, codec, bytes(32)).page(search)

    assert [each.code for each in refused.value.errors] == [ErrorCode.REGISTRY_BUSY]


async def test_what_a_bundle_refers_to_is_not_unknown_because_the_registry_is_busy(entry: DocumentEntry) -> None:
    registry = OldRegistry(entry, ErrorCode.REGISTRY_BUSY)

    with pytest.raises(Refused) as refused:
        await RegisteredObjects(registry, codec).newest_documents([entry.entry_uuid])

    assert refused.value.outcome.http_status == 503

"""Remove Documents: what is named goes for good, whatever store it is in."""

from __future__ import annotations

import pytest

from repository.document_store import DocumentStore
from repository.iti86_remove_documents import remove_documents
from tests.builders import REPOSITORY, oid
from tests.repository.stand_ins import RecordingRegistry, SilentRegistry, content_of, published, settled
from xds.actors import DocumentRequest
from xds.errors import ErrorCode, XdsError


async def _refused(documents: DocumentStore, *requests: DocumentRequest, silent: bool = False) -> list[str]:
    registry = SilentRegistry() if silent else RecordingRegistry()
    with pytest.raises(XdsError) as refusal:
        await remove_documents(
            requests, documents=documents, is_registered=registry.is_registered, repository_unique_id=REPOSITORY
        )
    return [str(error.code) for error in refusal.value.errors]


def asked(unique_id: str, repository: str = REPOSITORY) -> DocumentRequest:
    return DocumentRequest(repository, unique_id)


async def test_a_document_that_was_removed_is_not_there_and_may_come_again(documents: DocumentStore) -> None:
    unique_id, other = oid(), oid()
    kept = await settled(documents, unique_id, b"hello")
    await settled(documents, other, b"hello, too")
    copy = await published(documents, unique_id, b"hello", "text/plain")
    registry = RecordingRegistry()

    response = await remove_documents(
        [asked(unique_id)],
        documents=documents,
        is_registered=registry.is_registered,
        repository_unique_id=REPOSITORY,
    )

    assert response.succeeded
    assert await documents.find(unique_id) is None
    assert await documents.unsettled(unique_id) == ()
    for gone in (kept, copy):
        with pytest.raises(KeyError):
            await content_of(documents, gone)
    assert [each.unique_id async for each in documents.all_settled()] == [other]
    again = await settled(documents, unique_id, b"hello again")
    assert await content_of(documents, again) == b"hello again"


async def test_removing_what_is_gone_is_no_error_of_the_store(documents: DocumentStore) -> None:
    kept = await settled(documents, oid(), b"hello")

    await documents.remove(kept)
    await documents.remove(kept)

    assert await documents.find(kept.unique_id) is None


async def test_a_request_without_documents_is_an_error(documents: DocumentStore) -> None:
    assert await _refused(documents) == [ErrorCode.REMOVE_DOCUMENTS_ERROR]


async def test_all_documents_are_there_or_none_is_removed(documents: DocumentStore) -> None:
    unique_id = oid()
    await settled(documents, unique_id, b"hello")

    codes = await _refused(documents, asked(unique_id), asked(oid()), asked(unique_id, "1.2.3"))

    assert codes == [ErrorCode.DOCUMENT_UNIQUE_ID_ERROR, ErrorCode.UNKNOWN_REPOSITORY_ID]
    assert await documents.find(unique_id) is not None


async def test_while_nobody_knows_whether_a_document_is_registered_it_stays(documents: DocumentStore) -> None:
    kept = await published(documents, oid(), b"hello", "text/plain")

    assert await _refused(documents, asked(kept.unique_id), silent=True) == [ErrorCode.REGISTRY_NOT_AVAILABLE]
    assert await documents.unsettled(kept.unique_id) == (kept,)

"""The two actors of XDS.b, and what they say to each other.

Services know each other only by these protocols. server/wiring.py hands each the actor in this process or a client of
one on another host (server/remote_actors.py); neither can tell the difference.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from xds.errors import RegistryError, ResponseStatus, Severity
from xds.metadata import AnyObject, ObjectKind, Submission


class ReturnType(StrEnum):
    """returnType of a stored query (ITI TF-2: 3.18.4.1.2.2)."""

    LEAF_CLASS = "LeafClass"
    OBJECT_REF = "ObjectRef"


@dataclass(frozen=True, slots=True)
class RegistryResponse:
    """The answer to a submission (ITI TF-3: 4.2.4.2).

    changed_at   Registration.last_updated of all that it brought or revised; None: a registry elsewhere does not say
    """

    status: ResponseStatus
    errors: tuple[RegistryError, ...] = ()
    changed_at: str | None = None

    @property
    def succeeded(self) -> bool:
        return self.status is ResponseStatus.SUCCESS

    @classmethod
    def of(cls, errors: Sequence[RegistryError] = (), changed_at: str | None = None) -> RegistryResponse:
        """Success, with or without warnings; Failure as soon as one of `errors` is an error."""
        failed = any(error.severity is Severity.ERROR for error in errors)
        return cls(ResponseStatus.FAILURE if failed else ResponseStatus.SUCCESS, tuple(errors), changed_at)


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """A stored query as it was asked (ITI TF-2: 3.18.4.1.2), not yet judged.

    return_type   as sent; only the two values of ReturnType are legal
    parameters    slots in the order sent: name and the text of each Value, undecoded
    """

    query_id: str
    return_type: str
    parameters: tuple[tuple[str, tuple[str, ...]], ...]
    home_community_id: str | None = None


class Found(NamedTuple):
    """One object that a query found.

    kind    None where a registry on another host gave only a reference
    ebrim   its ebRIM element as UTF-8 bytes, with the prefix `rim` to be declared by what encloses it;
            None where only references were asked for
    last_updated   of a DocumentEntry or Folder: the second of Registration.last_updated, 14 digits; None where that is
            not known, as from a registry on another host
    """

    kind: ObjectKind | None
    entry_uuid: str
    ebrim: bytes | None = None
    home_community_id: str | None = None
    last_updated: str | None = None


@dataclass(frozen=True, slots=True)
class QueryResponse:
    """The answer to a stored query (ITI TF-2: 3.18.4.1.3)."""

    status: ResponseStatus
    found: tuple[Found, ...] = ()
    errors: tuple[RegistryError, ...] = ()


@dataclass(frozen=True, slots=True)
class DocumentRequest:
    """One document asked for by ITI-43 (ITI TF-2: 3.43.4.1.2)."""

    repository_unique_id: str
    document_unique_id: str
    home_community_id: str | None = None


Opening = Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]
"""Opens the content of a document: chunks in order, of any length. A caller who stops early must leave the context."""


@dataclass(frozen=True, slots=True)
class RetrievedDocument:
    """One document that ITI-43 returns (ITI TF-2: 3.43.4.2.2).

    size                       octets of the content
    content                    opens the content; it may be opened once or more, each time from its start
    new_document_unique_id     of an on-demand document: the uniqueId of what was made for this retrieval
    new_repository_unique_id   where that can be retrieved again; None: nowhere
    """

    request: DocumentRequest
    mime_type: str
    size: int
    content: Opening
    new_document_unique_id: str | None = None
    new_repository_unique_id: str | None = None


@dataclass(frozen=True, slots=True)
class RetrieveResponse:
    """The answer to ITI-43: PartialSuccess where some documents are there and others are not."""

    status: ResponseStatus
    documents: tuple[RetrievedDocument, ...] = ()
    errors: tuple[RegistryError, ...] = ()


@dataclass(frozen=True, slots=True)
class Attachment:
    """A document's bytes on their way in, as a part of the message or inline in its envelope.

    content_id   of the MIME part, URL-decoded and without angle brackets; inline: a name that cannot be a Content-ID
    content      chunks in order, to be read to the end before the next attachment is asked for
    """

    content_id: str
    content: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Provided:
    """The envelope of ITI-41: the metadata, and which attachment is which entry's document.

    documents   (id of the Document element, i.e. of its DocumentEntry; content_id of the attachment), in the order sent
    delayed     entryUUIDs of DocumentEntries without Document, which the repository has made or fetched for a retrieval
    """

    submission: Submission
    documents: tuple[tuple[str, str], ...]
    delayed: frozenset[str] = frozenset()


class ProvideAndRegisterRequest(Protocol):
    """An ITI-41 message while it arrives (ITI TF-2: 3.41.4.1). Attachments may come before the envelope."""

    def attachments(self) -> AsyncIterator[Attachment]:
        """Every document of the message in the order of the wire, once; inline ones last.

        An attachment that no Document refers to is given as well: it must be refused, so somebody has to see it.
        Raises MessageBroken, and so do the contents.
        """
        ...

    def provided(self) -> Provided:
        """The envelope. Only after attachments() has come to its end."""
        ...


class DocumentRegistry(Protocol):
    """The Document Registry, here or on another host."""

    async def register_document_set(self, submission: Submission) -> RegistryResponse:
        """Register Document Set-b [ITI-42]. Refusals are responses, never exceptions.

        Raises OutcomeUnknown where a registry on another host, or its store, did not answer: the submission may stand
        or not.
        """
        ...

    async def stored_query(self, request: QueryRequest) -> QueryResponse:
        """Registry Stored Query [ITI-18]. Refusals are responses, never exceptions.

        Raises OutcomeUnknown where a registry on another host did not answer.
        """
        ...


class UpdatableRegistry(DocumentRegistry, Protocol):
    """A registry, here or on another host, that may take updates. Refusals are responses, never exceptions."""

    async def update_document_set(self, submission: Submission) -> RegistryResponse:
        """Update Document Set [ITI-57]. Raises OutcomeUnknown."""
        ...


class FullDocumentRegistry(UpdatableRegistry, Protocol):
    """All that a registry answers at its own endpoint. Refusals are responses, never exceptions.

    Each raises OutcomeUnknown where its store did not answer.
    """

    async def multi_patient_query(self, request: QueryRequest) -> QueryResponse:
        """Multi-Patient Stored Query [ITI-51]."""
        ...

    async def register_on_demand(self, submission: Submission) -> RegistryResponse:
        """Register On-Demand Document Entry [ITI-61]."""
        ...

    async def restricted_update_document_set(self, submission: Submission) -> RegistryResponse:
        """Restricted Update Document Set [ITI-92]."""
        ...

    async def remove_metadata(self, entry_uuids: Sequence[str]) -> RegistryResponse:
        """Remove Metadata [ITI-62], of objects of any kind."""
        ...


class DocumentRepository(Protocol):
    """The Document Repository, here or on another host."""

    async def provide_and_register(self, request: ProvideAndRegisterRequest) -> RegistryResponse:
        """Provide and Register Document Set-b [ITI-41]. Refusals are responses, never exceptions."""
        ...

    async def retrieve(self, requests: Sequence[DocumentRequest]) -> RetrieveResponse:
        """Retrieve Document Set [ITI-43]. Refusals are responses, never exceptions."""
        ...


class FullDocumentRepository(DocumentRepository, Protocol):
    """All that a repository answers at its own endpoint."""

    async def remove_documents(self, requests: Sequence[DocumentRequest]) -> RegistryResponse:
        """Remove Documents [ITI-86]. Refusals are responses, never exceptions."""
        ...


class MessageBroken(Exception):
    """The message that an actor is reading can not be read on: cut off, stalled, malformed.

    Comes out of ProvideAndRegisterRequest and its attachments; whoever reads them lets it pass, and keeps nothing.
    """


class OutcomeUnknown(Exception):
    """An actor or a store on another host was asked and did not answer. What it was asked to do may be done or not."""


class ObjectCodec(Protocol):
    """Registry objects as bytes: how the registry keeps them without knowing XML. Handed in by wiring.

    A rendering is the truth about an object: read(written(x)) == x for every object x that was registered. It holds the
    object's entryUUID as it is.
    """

    def written(self, item: AnyObject) -> bytes:
        """The object's ebRIM element (see Found.ebrim)."""
        ...

    def read(self, rendering: bytes) -> AnyObject:
        """The object that `rendering` stands for."""
        ...


class Registration(NamedTuple):
    """What a registry knows of an object beside the object: how it came, and when it was changed last.

    patient_key    opaque and lasting: stands for the patient where the patient's id must not be seen
    last_updated   of the change that brought or revised the object: UTC, `YYYY-MM-DDThh:mm:ss.ffffffZ`
    submitted      submissionTime of the SubmissionSet that brought it, 14 digits; None for what has none
    outdated       whether there is a newer version of it
    """

    patient_key: str
    last_updated: str
    submitted: str | None = None
    outdated: bool = False


class FhirRenderer(Protocol):
    """Registry objects as FHIR resources, made once when they are registered. Handed in by wiring."""

    def rendered(self, item: AnyObject, registration: Registration) -> bytes | None:
        """The resource as JSON; None for an Association, and where an object can not be shown in FHIR.

        What the object's Associations say (relatesTo, the entries of a List) is not in it: that is joined at search.
        """
        ...

"""The documents of a submission: Binary and document Bundle, and what a DocumentReference says of them.

A document stays base64 until the repository asks for it, and is decoded in pieces: the whole of it is never here.
"""

from __future__ import annotations

import binascii
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from mhd.fhir.exact_text import Json
from mhd.fhir.fhir_json import written
from mhd.fhir.operation_outcome import Issue, IssueType, MhdCode, Refused, xds_issue
from mhd.mapping.domain import MhdDomain
from mhd.mapping.identifiers import unique_id_of
from mhd.mapping.reading import Reading
from mhd.messages import FHIR_JSON, FHIR_XML
from mhd.submitting.delayed import NOTHING, Delayed, says_delayed
from mhd.submitting.elsewhere import Elsewhere, Unreachable
from mhd.submitting.on_demand import OnDemand, judge_on_demand, says_on_demand
from mhd.submitting.submission_options import SubmissionOptions
from mhd.submitting.transaction_bundle import BundleEntry, Part, TransactionBundle
from xds.actors import Attachment, Provided
from xds.errors import ErrorCode
from xds.metadata import Submission

_PIECE: Final = 1024 * 1024  # characters of base64

FhirXml = Callable[[Json], bytes]
"""Writes a resource as XML."""


@dataclass(frozen=True, slots=True)
class Content:
    """The octets of one document.

    base_64   as sent; None: `octets` are there already
    """

    base_64: str | None
    octets: bytes = b""

    async def pieces(self) -> AsyncIterator[bytes]:
        """The octets, from their start."""
        if self.base_64 is None:
            yield self.octets
            return
        rest = ""
        for start in range(0, len(self.base_64), _PIECE):
            piece = rest + "".join(self.base_64[start : start + _PIECE].split())
            whole = len(piece) - len(piece) % 4
            rest = piece[whole:]
            yield binascii.a2b_base64(piece[:whole])


@dataclass(frozen=True, slots=True)
class ContentElsewhere:
    """The octets of a document of another server, which is asked when the repository wants them.

    path        FHIRPath of the attachment
    described   the MIME type that the DocumentReference says
    """

    url: str
    path: str
    described: str
    elsewhere: Elsewhere

    async def pieces(self) -> AsyncIterator[bytes]:
        """The octets, from their start. Raises Refused."""
        try:
            async with self.elsewhere.document(self.url) as found:
                self._judge(found.mime_type)
                async for piece in found.content:
                    yield piece
        except Unreachable as problem:
            sentence = f"The document {problem}; send it in the Bundle, as a Binary."
            raise Refused(xds_issue(ErrorCode.MISSING_DOCUMENT, sentence, f"{self.path}.url")) from problem

    def _judge(self, mime_type: str | None) -> None:
        if mime_type is not None and _bare(mime_type) != _bare(self.described):
            raise Unreachable(f"is {mime_type[:99]!r} where it lies, not {self.described[:99]!r}")


def _bare(mime_type: str) -> str:
    """A MIME type without parameters: those of another server's answer are its own business."""
    return _plain(mime_type).partition(";")[0]


AnyContent: TypeAlias = Content | ContentElsewhere


@dataclass(frozen=True, slots=True)
class ProvidedDocuments:
    """A submission with its documents: a ProvideAndRegisterRequest (xds/actors.py).

    contents   by entryUUID
    delayed    entryUUIDs of documents that are assembled when they are first retrieved, or that stay elsewhere
    """

    submission: Submission
    contents: Mapping[str, AnyContent]
    delayed: frozenset[str] = frozenset()

    async def attachments(self) -> AsyncIterator[Attachment]:
        """The documents, one after the other."""
        for entry_uuid, content in self.contents.items():
            yield Attachment(entry_uuid, content.pieces())

    def provided(self) -> Provided:
        """The metadata; each document is called by its entryUUID."""
        return Provided(self.submission, tuple((each, each) for each in self.contents), self.delayed)


@dataclass(frozen=True, slots=True)
class Contents:
    """The documents of a Bundle.

    by_document   by number of the DocumentReference's entry
    documents     by number of the entry that holds a content, that of the DocumentReference
    at_once       numbers of the DocumentReferences of delayed documents that are assembled when they are submitted
    delayed       by number of the DocumentReference of one that is assembled when it is first retrieved, or that stays
                  elsewhere: the URL from which it is fetched then; None: somebody makes it
    on_demand     numbers of the DocumentReferences whose document is made when it is retrieved
    """

    by_document: Mapping[int, AnyContent]
    documents: Mapping[int, int]
    at_once: frozenset[int] = frozenset()
    delayed: Mapping[int, str | None] = field(default_factory=dict)
    on_demand: frozenset[int] = frozenset()

    def without(self, numbers: Collection[int]) -> Contents:
        """Those of the other DocumentReferences. Whose each content is, is told of all of them."""
        left = {number: each for number, each in self.by_document.items() if number not in numbers}
        return replace(
            self,
            by_document=left,
            at_once=self.at_once.difference(numbers),
            delayed={number: each for number, each in self.delayed.items() if number not in numbers},
            on_demand=self.on_demand.difference(numbers),
        )


def contents_of(
    bundle: TransactionBundle,
    *,
    domain: MhdDomain,
    options: SubmissionOptions,
    elsewhere: Elsewhere,
    on_demand: OnDemand | None,
    delayed: Delayed | None,
    fhir_xml: FhirXml,
    reading: Reading,
) -> Contents:
    """The document of each DocumentReference. Each Binary is used once.

    on_demand   None: on-demand documents are not taken
    delayed     None: delayed documents are not taken
    """
    found: dict[int, AnyContent] = {}
    users: dict[int, int] = {}
    at_once: set[int] = set()
    later: dict[int, str | None] = {}
    promises: set[int] = set()
    for entry in bundle.of(Part.DOCUMENT):
        attachment = _attachment(entry)
        url = attachment.get("url", "")
        is_outside = bundle.target(url, entry) is None
        stays = is_outside and delayed is not None and delayed.is_linked(url) and attachment.get("hash") != NOTHING
        if is_outside and says_on_demand(attachment) and (on_demand is not None or not stays):
            promises.add(entry.number)
            continue
        if is_outside and delayed is not None and says_delayed(attachment):
            unique_id = unique_id_of(entry.resource.get("masterIdentifier", {}), domain.code_systems)
            if delayed.is_made(unique_id or "") or delayed.is_fetched(url):
                later[entry.number] = None if delayed.is_made(unique_id or "") else url
                continue
        if stays:
            _judge_linked(entry, reading)
            later[entry.number] = url
            continue
        if is_outside and elsewhere.has_document(url):
            path = f"{entry.resource_path}.content[0].attachment"
            found[entry.number] = ContentElsewhere(url, path, attachment.get("contentType", ""), elsewhere)
            if attachment.get("hash") == NOTHING:
                at_once.add(entry.number)
            continue
        holder = _holder(entry, bundle, domain, reading)
        if holder is None:
            continue
        if holder.number in users:
            sentence = f"{holder.path} is the document of entry[{users[holder.number]}] already; send one for each."
            reading.refuse(_url_path(entry), sentence, IssueType.BUSINESS_RULE)
            continue
        users[holder.number] = entry.number
        content = _content(holder, entry, options, fhir_xml, reading)
        if content is not None:
            found[entry.number] = content
    _judge_unused(bundle, users, reading)
    judge_on_demand(bundle, sorted(promises), on_demand, domain.code_systems, reading)
    return Contents(found, users, frozenset(at_once), later, frozenset(promises))


def _url_path(entry: BundleEntry) -> str:
    return f"{entry.resource_path}.content[0].attachment.url"


def _judge_linked(entry: BundleEntry, reading: Reading) -> None:
    """A document that stays elsewhere is known by its hash and size alone."""
    for name in ("hash", "size"):
        if name not in _attachment(entry):
            sentence = f"The document stays on another server, so its {name} has to be told; send attachment.{name}."
            reading.refuse(f"{entry.resource_path}.content[0].attachment.{name}", sentence, IssueType.REQUIRED)


def _attachment(entry: BundleEntry) -> Json:
    attachment: Json = entry.resource["content"][0]["attachment"]
    return attachment


def _holder(entry: BundleEntry, bundle: TransactionBundle, domain: MhdDomain, reading: Reading) -> BundleEntry | None:
    """The entry that holds the document of a DocumentReference."""
    url = _attachment(entry).get("url")
    if url is None:
        return None  # told by the profile
    holder = bundle.target(url, entry)
    if holder is not None and holder.part in (Part.BINARY, Part.FHIR_DOCUMENT):
        return holder
    if holder is not None:
        sentence = f"The attachment is {holder.path}, which is no Binary; send the fullUrl of a Binary."
    elif _attachment(entry).get("hash") == NOTHING:
        sentence = (
            "Nobody here assembles the document with this masterIdentifier when it is retrieved, and it is not fetched "
            "from this URL; send the document in the Bundle, as a Binary."
        )
    elif "://" in url and not url.startswith(f"{domain.base}/"):
        sentence = (
            "A document is kept in a repository here and does not stay on another server, and from this URL none is "
            "fetched; send the document in the Bundle, as a Binary."
        )
    else:
        sentence = "The attachment is no entry of the Bundle; send the fullUrl of a Binary of the Bundle."
    reading.refuse(_url_path(entry), sentence, IssueType.NOT_FOUND, ErrorCode.MISSING_DOCUMENT)
    return None


def _content(
    holder: BundleEntry, entry: BundleEntry, options: SubmissionOptions, fhir_xml: FhirXml, reading: Reading
) -> Content | None:
    if holder.part is Part.FHIR_DOCUMENT:
        return _fhir_document(holder, entry, options, fhir_xml, reading)
    data = holder.resource.get("data")
    if data is None and _attachment(entry).get("size", 0) != 0:
        path = f"{holder.resource_path}.data"
        reading.refuse(
            path, "The Binary has no data; send the document.", IssueType.REQUIRED, ErrorCode.MISSING_DOCUMENT
        )
        return None
    if options.document_bytes is not None and _decoded_length(data or "") > options.document_bytes:
        sentence = f"The document has more than {options.document_bytes} octets, the most that is taken here."
        code = str(ErrorCode.REPOSITORY_OUT_OF_RESOURCES)
        reading.issues.append(Issue(IssueType.TOO_COSTLY, sentence, f"{holder.resource_path}.data", code, http=413))
        return None
    declared, described = holder.resource["contentType"], _attachment(entry).get("contentType")
    if described is not None and _plain(declared) != _plain(described):
        sentence = f"The Binary is {declared[:99]!r}, but the DocumentReference says {described[:99]!r}; send one type."
        reading.refuse(f"{holder.resource_path}.contentType", sentence)
    return Content(data or "")


def _decoded_length(base_64: str) -> int:
    """How many octets a text of base64 has, told without decoding it."""
    blanks = sum(base_64.count(each) for each in " \t\r\n")
    return (len(base_64) - blanks) // 4 * 3 - base_64.count("=")


def _plain(mime_type: str) -> str:
    """A MIME type as it is compared."""
    return "".join(mime_type.lower().split())


def _fhir_document(
    holder: BundleEntry, entry: BundleEntry, options: SubmissionOptions, fhir_xml: FhirXml, reading: Reading
) -> Content | None:
    """The octets of a document Bundle: written once, in the format that the DocumentReference names."""
    if not options.fhir_documents:
        sentence = "FHIR documents are not taken here as a Bundle; send the document as the data of a Binary."
        reading.refuse(holder.path, sentence, IssueType.NOT_SUPPORTED, MhdCode.FHIR_DOCUMENT_NOT_SUPPORTED)
        return None
    described = _plain(_attachment(entry).get("contentType", "")).partition(";")[0]
    if described == FHIR_JSON:
        return Content(None, written(holder.resource))
    if described == FHIR_XML:
        return Content(None, fhir_xml(holder.resource))
    path = f"{entry.resource_path}.content[0].attachment.contentType"
    reading.refuse(path, f"A document Bundle is {FHIR_JSON} or {FHIR_XML}; send one of these.")
    return None


def _judge_unused(bundle: TransactionBundle, users: Mapping[int, int], reading: Reading) -> None:
    holders: Sequence[BundleEntry] = [*bundle.of(Part.BINARY), *bundle.of(Part.FHIR_DOCUMENT)]
    for holder in holders:
        if holder.number not in users:
            reading.refuse(
                holder.path,
                f"{holder.path} is the document of no DocumentReference; send one whose attachment.url is its fullUrl, "
                "or leave it out.",
                IssueType.BUSINESS_RULE,
                ErrorCode.MISSING_DOCUMENT_METADATA,
            )

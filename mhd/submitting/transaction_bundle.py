"""The Bundle of Provide Document Bundle [ITI-65]: its entries, which part each plays, and what they refer to.

MHD 4.2.4: the Bundle is a transaction of the parts in PARTS and of nothing else. What is wrong here by FHIR's own rules
(its invariants) is told before anything is read from the entries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urljoin

from mhd.fhir.exact_text import Json
from mhd.fhir.fhir_structure import structure_problems
from mhd.fhir.operation_outcome import Issue, IssueType, Refused
from mhd.mapping.document_list import FOLDER, SUBMISSION_SET, kind_of_list
from mhd.mapping.reading import Reading

_FULL_URL: Final = re.compile(
    r"urn:uuid:[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|urn:oid:[0-9.]+|https?://\S+"
)
_REST_URL: Final = re.compile(r"(https?://\S+/)[A-Z][A-Za-z]+/[A-Za-z0-9.-]{1,64}")


class Part(StrEnum):
    """What an entry is in a submission."""

    SUBMISSION_SET = "SubmissionSet"
    DOCUMENT = "DocumentReference"
    FOLDER = "Folder"
    BINARY = "Binary"
    FHIR_DOCUMENT = "document Bundle"
    PATIENT = "Patient"
    PATCH = "Parameters of a PATCH"


@dataclass(frozen=True, slots=True)
class PartRow:
    """A part that a Bundle may have.

    resource_type   of the entry
    methods         that its request may have
    url             type in the URL of its request
    """

    part: Part
    resource_type: str
    methods: tuple[str, ...]
    url: str


PARTS: Final = (
    PartRow(Part.SUBMISSION_SET, "List", ("POST",), "List"),
    PartRow(Part.FOLDER, "List", ("POST", "PUT"), "List"),
    PartRow(Part.DOCUMENT, "DocumentReference", ("POST",), "DocumentReference"),
    PartRow(Part.PATCH, "Parameters", ("PATCH",), "DocumentReference"),
    PartRow(Part.BINARY, "Binary", ("POST",), "Binary"),
    PartRow(Part.FHIR_DOCUMENT, "Bundle", ("POST",), "Bundle"),
    PartRow(Part.PATIENT, "Patient", ("GET", "POST", "PUT"), "Patient"),
)
_ROWS: Final = {row.part: row for row in PARTS}
_BY_TYPE: Final = {row.resource_type: row.part for row in PARTS if row.resource_type != "List"}
_LISTS: Final = {SUBMISSION_SET: Part.SUBMISSION_SET, FOLDER: Part.FOLDER}

CONDITIONS: Final = ("ifMatch", "ifNoneMatch", "ifModifiedSince")
"""Of a request, beside ifNoneExist (FHIR R4: bundle.html)."""


@dataclass(frozen=True, slots=True)
class BundleEntry:
    """One entry of the Bundle.

    full_url        None: nobody can refer to it
    part            None: it is nothing that MHD knows
    if_none_exist   the search that has to find nothing, or else it is not made; None: it is made in any case
    conditions      by name: what else its request depends on, of CONDITIONS
    """

    number: int
    full_url: str | None
    resource: Json
    method: str
    url: str
    part: Part | None
    if_none_exist: str | None = None
    conditions: Mapping[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """FHIRPath of the entry."""
        return f"Bundle.entry[{self.number}]"

    @property
    def resource_path(self) -> str:
        """FHIRPath of its resource."""
        return f"{self.path}.resource"


@dataclass(frozen=True, slots=True)
class TransactionBundle:
    """The entries of a Bundle that is sound FHIR."""

    resource: Json
    entries: Sequence[BundleEntry]
    by_full_url: Mapping[str, BundleEntry]

    def of(self, part: Part) -> Sequence[BundleEntry]:
        """The entries that are this part, in the order sent."""
        return [each for each in self.entries if each.part is part]

    def target(self, reference: str, source: BundleEntry) -> BundleEntry | None:
        """The entry that a reference in `source` is to; None: it is to something outside of the Bundle."""
        return self.by_full_url.get(self.absolute(reference, source))

    def absolute(self, reference: str, source: BundleEntry) -> str:
        """A reference as it is meant in `source`: relative ones start where that is (bundle.html#references)."""
        rest_base = _REST_URL.fullmatch(source.full_url or "")
        if rest_base and not re.match("[a-z]+:", reference):
            return urljoin(rest_base[1], reference)
        return reference


# By FHIR's own rules -------------------------------------------------------------------------------------------------


def sound_bundle(resource: Any, *, entries_limit: int) -> TransactionBundle:
    """The entries of what was sent. Raises Refused (400, 413) with all that is wrong by the rules of FHIR itself."""
    sent = resource.get("entry", ()) if isinstance(resource, dict) else ()
    if isinstance(sent, list) and len(sent) > entries_limit:
        sentence = (
            f"The Bundle has {len(sent)} entries; at most {entries_limit} are taken at once. Send several Bundles."
        )
        raise Refused(Issue(IssueType.TOO_COSTLY, sentence, "Bundle.entry", http=413))
    problems = structure_problems(resource, "Bundle")
    if not any(each.expression in ("Bundle.entry", "") for each in problems) and isinstance(sent, list):
        problems += [issue for issue in _broken_invariants(sent) if issue.expression not in _places(problems)]
    if problems:
        raise Refused(*problems)
    entries = [_entry(number, each) for number, each in enumerate(sent)]
    return TransactionBundle(resource, entries, {each.full_url: each for each in entries if each.full_url})


def _places(problems: Sequence[Issue]) -> frozenset[str]:
    return frozenset(each.expression for each in problems)


def _broken_invariants(entries: Sequence[Any]) -> Iterator[Issue]:
    """bdl-3, bdl-5, bdl-7 and bdl-8 of FHIR R4 (bundle.html), and that no contained resource has the id of another."""
    seen: dict[str, int] = {}
    for number, entry in enumerate(entries):
        path = f"Bundle.entry[{number}]"
        if not isinstance(entry, dict):
            continue  # told as a fault of structure
        if "request" not in entry:
            yield _broken(
                f"{path}.request is missing; an entry of a transaction says what is to be done.", f"{path}.request"
            )
        for name in ("search", "response"):
            if name in entry:
                yield _broken(f"{path}.{name} does not belong in a transaction; leave it out.", f"{path}.{name}")
        if "resource" not in entry and _method(entry) not in ("GET", "DELETE", "HEAD"):
            yield _broken(f"{path}.resource is missing; send it.", f"{path}.resource")
        full_url = entry.get("fullUrl")
        if isinstance(full_url, str):
            yield from _full_url_problems(full_url, number, seen)
        yield from _contained_twice(entry.get("resource"), f"{path}.resource")


def _method(entry: Json) -> Any:
    request = entry.get("request")
    return request.get("method") if isinstance(request, dict) else None


def _full_url_problems(full_url: str, number: int, seen: dict[str, int]) -> Iterator[Issue]:
    path = f"Bundle.entry[{number}].fullUrl"
    if not _FULL_URL.fullmatch(full_url) or "/_history/" in full_url:
        yield _broken(f"{path} is {full_url[:100]!r}; send urn:uuid: and a UUID, or a URL without version.", path)
    first = seen.setdefault(full_url, number)
    if first != number:
        yield _broken(f"{path} is that of entry[{first}] too; send another one for each entry.", path)


def _contained_twice(resource: Any, path: str) -> Iterator[Issue]:
    contained = resource.get("contained", ()) if isinstance(resource, dict) else ()
    seen: set[str] = set()
    for number, each in enumerate(contained if isinstance(contained, list) else ()):
        name = each.get("id") if isinstance(each, dict) else None
        if isinstance(name, str) and name in seen:
            yield _broken(f"Two contained resources have the id {name[:64]}; send another one for each.",
                          f"{path}.contained[{number}].id")  # fmt: skip
        if isinstance(name, str):
            seen.add(name)


def _broken(sentence: str, path: str) -> Issue:
    return Issue(IssueType.INVARIANT, sentence, path)


def _entry(number: int, entry: Json) -> BundleEntry:
    resource = entry.get("resource", {})
    request = entry["request"]
    return BundleEntry(
        number,
        entry.get("fullUrl"),
        resource,
        request["method"],
        request["url"],
        _part(resource, request),
        request.get("ifNoneExist"),
        {name: request[name] for name in CONDITIONS if name in request},
    )


def _part(resource: Json, request: Json) -> Part | None:
    if not resource:  # it only asks: for the Patient whom the Bundle is about, and for nothing else
        return Part.PATIENT if re.match(r"Patient(?![A-Za-z])", request["url"]) else None
    kind = resource["resourceType"]
    if kind == "List":
        return _LISTS.get(kind_of_list(resource) or "")
    if kind == "Bundle" and resource.get("type") != "document":
        return None
    return _BY_TYPE.get(kind)


# By the rules of MHD -------------------------------------------------------------------------------------------------


def judge_parts(bundle: TransactionBundle, reading: Reading) -> None:
    """What the Bundle has too much, too little, or with the wrong request."""
    if bundle.resource["type"] != "transaction":
        reading.refuse("Bundle.type", f"Bundle.type is {bundle.resource['type']!r}; send transaction.")
    for entry in bundle.entries:
        _judge_entry(entry, reading)
    sets = bundle.of(Part.SUBMISSION_SET)
    if not sets:
        reading.refuse(
            "Bundle.entry",
            "The Bundle has no SubmissionSet; send one List with the code submissionset.",
            IssueType.REQUIRED,
        )
    elif len(sets) > 1:
        numbers = ", ".join(f"entry[{each.number}]" for each in sets)
        sentence = f"The Bundle has {len(sets)} SubmissionSets ({numbers}); send one."
        reading.refuse("Bundle.entry", sentence, IssueType.STRUCTURE)
    patients = bundle.of(Part.PATIENT)
    if len(patients) > 1:
        reading.refuse(patients[1].path, "The Bundle has several Patients; send at most one.", IssueType.STRUCTURE)
    if not bundle.of(Part.DOCUMENT) and not bundle.of(Part.FOLDER):
        sentence = "The Bundle has neither a DocumentReference nor a Folder: there is nothing to do; send one."
        reading.refuse("Bundle.entry", sentence, IssueType.REQUIRED)


def _judge_entry(entry: BundleEntry, reading: Reading) -> None:
    if entry.part is None:
        what = entry.resource.get("resourceType") or f"{entry.method} of {entry.url[:100]!r}"
        reading.refuse(
            entry.path,
            f"{entry.path} is a {what} that Provide Document Bundle has no place for; send only Lists with the "
            "code submissionset or folder, DocumentReferences, Binaries, document Bundles, a Patient, and a PATCH.",
            IssueType.NOT_SUPPORTED,
        )
        return
    row = _ROWS[entry.part]
    if entry.method not in row.methods:
        reading.refuse(
            f"{entry.path}.request.method",
            f"The method of a {entry.part} is {entry.method}; send {' or '.join(row.methods)}.",
            IssueType.NOT_SUPPORTED,
        )
    elif entry.url.partition("?")[0].partition("/")[0] != row.url or (entry.method == "POST" and entry.url != row.url):
        sentence = f"The URL of the request is {entry.url[:100]!r}; send {row.url}{_FORMS[entry.method]}."
        reading.refuse(f"{entry.path}.request.url", sentence)


_FORMS: Final = {"POST": "", "PUT": "/id", "PATCH": "/id", "GET": "/id"}

"""ifNoneExist: what a Bundle makes only where it is not there yet (FHIR R4: http.html, "Conditional create").

What is there is answered as it is, and what else the Bundle makes refers to it (docs/adr/0018). A List that is there
stays as it is: nothing is added to what it holds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl

from mhd.fhir.exact_text import Json
from mhd.fhir.operation_outcome import Issue, IssueType, Refused, xds_issue
from mhd.mapping.code_systems import CodeSystems
from mhd.mapping.domain import MhdDomain
from mhd.mapping.identifiers import entry_uuid_of, unique_id_of
from mhd.mapping.reading import Reading
from mhd.patients import PatientResolver
from mhd.registered_objects import Known, RegisteredObjects
from mhd.searching.search_values import Token, split, token
from mhd.submitting.transaction_bundle import BundleEntry, Part, TransactionBundle
from xds.errors import ErrorCode
from xds.hl7v2 import CX
from xds.metadata import AnyObject, DocumentEntry, Folder, SubmissionSet

Conditional: TypeAlias = DocumentEntry | Folder | SubmissionSet


@dataclass(frozen=True, slots=True)
class Named:
    """The names under which what an entry asks for may be known; one of them at least.

    entry_uuid   or a logicalID
    """

    unique_id: str | None
    entry_uuid: str | None


def is_conditional(bundle: TransactionBundle) -> bool:
    """Whether the Bundle makes anything only where it is not there."""
    return any(each.if_none_exist is not None for each in bundle.entries)


async def found_there(
    bundle: TransactionBundle, domain: MhdDomain, registered: RegisteredObjects, reading: Reading
) -> Mapping[int, Conditional]:
    """By number of the entry: what is there already of what the Bundle makes only where it is not there."""
    asked = {
        entry.number: named
        for entry in bundle.entries
        if entry.if_none_exist is not None and (named := _named(entry, domain.code_systems, reading))
    }
    found: dict[int, Conditional] = {}
    for part, looking in _LOOKING.items():
        of_part = {entry.number: asked[entry.number] for entry in bundle.of(part) if entry.number in asked}
        there = await looking(registered, of_part.values()) if of_part else ()
        for number, named in of_part.items():
            matching = _matching(named, there)
            if len(matching) > 1:
                reading.issues.append(_several(bundle.entries[number], len(matching)))
            elif matching:
                found[number] = matching[0]
    return found


async def document_there(
    resource: Json, query: str, domain: MhdDomain, registered: RegisteredObjects
) -> DocumentEntry | None:
    """The document for which the If-None-Exist of a create asks. Raises Refused."""
    entry = BundleEntry(0, None, resource, "POST", "DocumentReference", Part.DOCUMENT, query)
    reading = Reading()
    found = await found_there(TransactionBundle({}, [entry], {}), domain, registered, reading)
    if reading.failed:
        issues = (replace(each, text=each.text.replace(_path(entry), _HEADER)) for each in reading.issues)
        raise Refused(*(replace(each, expression="") for each in issues))
    there = found.get(entry.number)
    return there if isinstance(there, DocumentEntry) else None


_HEADER: Final = "If-None-Exist"


def _matching(named: Named, there: Sequence[Known[Conditional]]) -> Sequence[Conditional]:
    """What has one of the names."""
    return [
        each.newest
        for each in there
        if named.entry_uuid in each.uuids or (named.unique_id and named.unique_id == each.newest.unique_id)
    ]


async def _documents(registered: RegisteredObjects, asked: Collection[Named]) -> Sequence[Known[Any]]:
    return await registered.known_documents(uuids=_uuids(asked), unique_ids=_unique_ids(asked))


async def _folders(registered: RegisteredObjects, asked: Collection[Named]) -> Sequence[Known[Any]]:
    return await registered.known_folders(uuids=_uuids(asked), unique_ids=_unique_ids(asked))


async def _submission_sets(registered: RegisteredObjects, asked: Collection[Named]) -> Sequence[Known[Any]]:
    found = await registered.submission_sets(entry_uuids=_uuids(asked), unique_ids=_unique_ids(asked))
    return [Known.of(each.entry_uuid, [each]) for each in found]


def _uuids(asked: Collection[Named]) -> frozenset[str]:
    return frozenset(each.entry_uuid for each in asked if each.entry_uuid)


def _unique_ids(asked: Collection[Named]) -> frozenset[str]:
    return frozenset(each.unique_id for each in asked if each.unique_id)


_LOOKING: Final = {
    Part.DOCUMENT: _documents,
    Part.FOLDER: _folders,
    Part.SUBMISSION_SET: _submission_sets,
}


# What is asked for ---------------------------------------------------------------------------------------------------


def _named(entry: BundleEntry, systems: CodeSystems, reading: Reading) -> Named | None:
    """None, with an issue: it can not be told whether that is there; or None: the entry is none that is looked up."""
    if entry.part not in _LOOKING:
        if entry.part is not Part.PATIENT:
            _refuse(entry, f"is said of {_what(entry)}, which is not looked up; {_ONLY_OF_THESE}", reading)
        return None
    if entry.method != "POST":
        _refuse(entry, f"stands beside the method {entry.method}; send it with a POST, or leave it out", reading)
        return None
    asked = _identifier(entry.if_none_exist or "", entry.resource["resourceType"])
    named = _names_of(asked, systems) if asked else None
    if named is None:
        sentence = f"is {(entry.if_none_exist or '')[:200]!r}; send identifier=system|value, with an identifier that "
        _refuse(entry, f"{sentence}a {entry.part} can have here: urn:ietf:rfc:3986|urn:oid:... for one", reading)
    return named


_ONLY_OF_THESE: Final = "send it with a DocumentReference or a List"


def _what(entry: BundleEntry) -> str:
    return f"a {entry.part}" if entry.part else "something else"


_OF_THE_ANSWER: Final = frozenset({"_format", "_pretty"})
"""Parameters that say nothing of what is asked for."""


def _identifier(query: str, resource_type: str) -> Token | None:
    """The identifier for which a query asks; None: it asks for anything else.

    query: parameters alone, as FHIR has them, or what they stand behind as well: HAPI FHIR sends the URL of the search
    """
    where, asks, parameters = query.partition("?")
    if "=" in where or not asks:
        where, parameters = "", query
    asked = [each for each in parse_qsl(parameters, keep_blank_values=True) if each[0] not in _OF_THE_ANSWER]
    if where.rpartition("/")[2] not in ("", resource_type):
        return None
    if [name for name, _ in asked] != ["identifier"] or len(split(asked[0][1], ",")) != 1:
        return None
    try:
        found = token(asked[0][1])
    except ValueError:
        return None
    return found if found.code and found.system != "" else None


def _names_of(asked: Token, systems: CodeSystems) -> Named | None:
    identifier = {"value": asked.code} | ({"system": asked.system} if asked.system else {})
    found = Named(unique_id_of(identifier, systems), entry_uuid_of(asked.code))
    return found if found.unique_id or found.entry_uuid else None


def judge_patient_condition(
    bundle: TransactionBundle, patient_id: CX | None, patients: PatientResolver, reading: Reading
) -> None:
    """A Patient is never made: what it is made under the condition of not being there has to be there."""
    for entry in bundle.of(Part.PATIENT):
        if entry.if_none_exist is None or patient_id is None:
            continue
        asked = _identifier(entry.if_none_exist, "Patient")
        found = patients.of_identifier(asked.system, asked.code) if asked else None
        if found != patient_id:
            sentence = (
                "names no patient of this affinity domain whom the Bundle is about, and no Patient is made here; "
            )
            _refuse(entry, f"{sentence}send identifier=system|value of the subject, or leave it out", reading)


def _refuse(entry: BundleEntry, predicate: str, reading: Reading) -> None:
    reading.refuse(_path(entry), f"{_path(entry)} {predicate}.", IssueType.NOT_SUPPORTED)


def _path(entry: BundleEntry) -> str:
    return f"{entry.path}.request.ifNoneExist"


def _several(entry: BundleEntry, number: int) -> Issue:
    sentence = f"{number} objects have the identifier of {_path(entry)}; leave it out, or name what is there by its id."
    return Issue(IssueType.MULTIPLE_MATCHES, sentence, _path(entry), http=412)


# What becomes of the rest --------------------------------------------------------------------------------------------


def judge_rest(
    bundle: TransactionBundle, there: Collection[int], made: Collection[AnyObject], reading: Reading
) -> None:
    """A SubmissionSet that is there takes nothing more: where it is, all else has to be there as well.

    there   numbers of the entries of what is there
    made    what would have to be registered
    """
    for entry in bundle.of(Part.SUBMISSION_SET):
        if entry.number in there and made:
            missing = [each.path for each in bundle.entries if each.part in _LOOKING and each.number not in there]
            sentence = (
                f"The SubmissionSet is registered already and takes nothing more, but {' and '.join(missing[:3])} "
                "would be made or changed; send ifNoneExist with what may be there too, or send another SubmissionSet."
            )
            code = ErrorCode.DUPLICATE_UNIQUE_ID_IN_REGISTRY
            reading.issues.append(xds_issue(code, sentence, _path(entry), issue_type=IssueType.CONFLICT))
    for entry in bundle.of(Part.FOLDER):
        if entry.number in there and entry.resource.get("entry"):
            path = f"{entry.resource_path}.entry"
            reading.warn(path, "The Folder is there already and stays as it is; PUT it to add to what it holds.")

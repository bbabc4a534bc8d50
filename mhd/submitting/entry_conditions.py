"""ifMatch, ifNoneMatch and ifModifiedSince: what an entry of a Bundle depends on (FHIR R4: bundle.html).

ifMatch is heeded where an entry changes what is there (http.html, "Managing Resource Contention"). The version that it
names is the one that the submission refers to, by its entryUUID, and a registry refuses what refers to a version that
has a successor: so no other version comes in between. Everywhere else these conditions are refused, because to pass
them over would be to break them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from mhd.fhir.operation_outcome import Issue, IssueType, Refused
from mhd.mapping.domain import MhdDomain
from mhd.mapping.identifiers import resource_id
from mhd.mapping.reading import Reading
from mhd.messages import FhirAnswer
from mhd.submitting.bundle_answer import StoredResources
from mhd.submitting.submission_draft import Registered
from mhd.submitting.submission_references import own_entry_uuid
from mhd.submitting.transaction_bundle import BundleEntry, Part, TransactionBundle

IF_MATCH: Final = "ifMatch"

_CHANGING: Final[Mapping[Part, str]] = {Part.FOLDER: "PUT", Part.PATCH: "PATCH"}
"""The parts that change what is there, by the method of theirs that does."""

_ANYTHING: Final = "*"
_TAG: Final = r'(?:W/)?"([^"]*)"'
_TAGS: Final = re.compile(rf"\s*{_TAG}(?:\s*,\s*{_TAG})*\s*")


def judge_conditions(bundle: TransactionBundle, reading: Reading) -> None:
    """No entry depends on what is not looked at, or can not be read."""
    for entry in bundle.entries:
        for name, value in entry.conditions.items():
            if name == IF_MATCH and _changes(entry):
                if value.strip() != _ANYTHING and not _TAGS.fullmatch(value):
                    sentence = f'is {value[:100]!r}; send the ETag of a read, such as W/"1", or leave it out'
                    _refuse(entry, name, sentence, IssueType.VALUE, reading)
            else:
                what = f"the {entry.method} of a {entry.part or 'resource that has no place here'}"
                sentence = f"stands beside {what}, where it is not heeded; leave it out"
                _refuse(entry, name, sentence, IssueType.NOT_SUPPORTED, reading)


def _changes(entry: BundleEntry) -> bool:
    return entry.part is not None and _CHANGING.get(entry.part) == entry.method


def _refuse(entry: BundleEntry, name: str, predicate: str, issue_type: IssueType, reading: Reading) -> None:
    path = f"{entry.path}.request.{name}"
    reading.refuse(path, f"{path} {predicate}.", issue_type)


async def judge_matches(
    bundle: TransactionBundle, registered: Registered, domain: MhdDomain, stored: StoredResources, reading: Reading
) -> None:
    """What an entry changes is as the sender knows it: by its version, or by the ETag that a read of it has.

    Raises Refused where the registry can not answer now.
    """
    for entry in bundle.entries:
        wanted = entry.conditions.get(IF_MATCH)
        if wanted is None or not _changes(entry):
            continue
        there = await _there(entry, registered, domain, stored)
        if there is None:
            reading.issues.append(_differs(entry, "there is nothing here that the entry changes"))
        elif wanted.strip() != _ANYTHING and not _tags_of(there).intersection(re.findall(_TAG, wanted)):
            reading.issues.append(_differs(entry, f'what the entry changes is W/"{there.etag}" now'))


def _tags_of(there: FhirAnswer) -> frozenset[str]:
    """The ETag, and the versionId, which FHIR has for it."""
    etag = there.etag or ""
    return frozenset({etag, etag.partition(".")[0]})


async def _there(
    entry: BundleEntry, registered: Registered, domain: MhdDomain, stored: StoredResources
) -> FhirAnswer | None:
    """What is there of what an entry changes. Raises Refused where that can not be told now."""
    folder = registered.folders.get(entry.number)
    try:
        if folder is not None:
            return await stored.list_resource(resource_id(folder.logical_id or folder.entry_uuid))
        patched = own_entry_uuid(entry.url, domain) if entry.part is Part.PATCH else None
        return await stored.document_reference(resource_id(patched)) if patched else None
    except Refused as refusal:
        if refusal.outcome.is_for_now:
            raise
        return None


def _differs(entry: BundleEntry, what: str) -> Issue:
    path = f"{entry.path}.request.{IF_MATCH}"
    sentence = f"{path} is {entry.conditions[IF_MATCH][:100]!r}, and {what}; read it again and send what it is then."
    return Issue(IssueType.CONFLICT, sentence, path, http=412)

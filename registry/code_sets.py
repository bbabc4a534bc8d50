"""The codes of the affinity domain, and what becomes of others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from xds.errors import Finding, Severity
from xds.metadata import AnyObject, Code, ObjectKind, Submission
from xds.metadata_names import location, named, shown, term

_NAMED_AT_MOST = 5


class Policy(StrEnum):
    """What happens to a code that the affinity domain does not have."""

    REJECT = "reject"
    WARN = "warn"
    ACCEPT = "accept"


@dataclass(frozen=True, slots=True)
class CodeSet:
    """The values that one attribute may have.

    values   `code^^scheme`; plain text for mime_type and language_code
    """

    values: frozenset[str]
    policy: Policy = Policy.REJECT


CODED_ATTRIBUTES: Mapping[ObjectKind, tuple[str, ...]] = {
    ObjectKind.DOCUMENT_ENTRY: (
        "class_code", "confidentiality_code", "event_code_list", "format_code", "healthcare_facility_type_code",
        "language_code", "mime_type", "practice_setting_code", "type_code",
    ),
    ObjectKind.SUBMISSION_SET: ("content_type_code",),
    ObjectKind.FOLDER: ("code_list",),
    ObjectKind.ASSOCIATION: ("documentation",),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CodeSets:
    """The code sets of an affinity domain.

    by_attribute   an attribute of xds/metadata.py that is not there may have any code
    """

    by_attribute: Mapping[str, CodeSet] = field(default_factory=dict)

    def findings(self, submission: Submission) -> list[Finding]:
        """Every code that is in no code set: an error where it is to be rejected, a warning where it is to be told."""
        judged = {name: codes for name, codes in self.by_attribute.items() if codes.policy is not Policy.ACCEPT}
        if not judged:
            return []
        return [finding for item in submission.objects for finding in _object_findings(item, judged)]


def _object_findings(item: AnyObject, judged: Mapping[str, CodeSet]) -> Iterator[Finding]:
    for attribute in CODED_ATTRIBUTES[item.kind]:
        codes = judged.get(attribute)
        if codes is None:
            continue
        for value in _values(getattr(item, attribute)):
            if value not in codes.values:
                yield Finding(
                    f"{term(attribute)} of {named(item)} is {shown(value)}, which this affinity domain does not have; "
                    f"{_advice(value, codes.values)}.",
                    location(item, attribute),
                    severity=Severity.ERROR if codes.policy is Policy.REJECT else Severity.WARNING,
                )


def _values(value: Any) -> Iterator[str]:
    """The codes as `code^^scheme`. What is missing or incomplete is a matter of xds/metadata_rules.py."""
    for each in value if isinstance(value, tuple) else (value,):
        if isinstance(each, Code):
            if each.code and each.coding_scheme:
                yield each.coded
        elif each:
            yield each


def _advice(value: str, known: Collection[str]) -> str:
    """The codes that may have been meant: like ones first, else those of the same scheme, else any."""
    _, separator, scheme = value.partition("^^")
    same_scheme = sorted(each for each in known if separator and each.endswith(f"^^{scheme}"))
    candidates = same_scheme or sorted(known)
    if not candidates:
        return "it has none for this attribute"
    like = get_close_matches(value, candidates, _NAMED_AT_MOST) or candidates[:_NAMED_AT_MOST]
    others = len(candidates) - len(like)
    return f"send {' or '.join(like)}" + (f", or one of {others} others" if others else "")

"""The codes of the affinity domain, and what becomes of others."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

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

    values     `code^^scheme`; plain text for mime_type and language_code
    displays   by value, what is shown of it, where the affinity domain says so
    """

    values: frozenset[str]
    policy: Policy = Policy.REJECT
    displays: Mapping[str, str] = field(default_factory=dict)


CODED_ATTRIBUTES: Mapping[ObjectKind, tuple[str, ...]] = {
    ObjectKind.DOCUMENT_ENTRY: (
        "class_code", "confidentiality_code", "event_code_list", "format_code", "healthcare_facility_type_code",
        "language_code", "mime_type", "practice_setting_code", "type_code",
    ),
    ObjectKind.SUBMISSION_SET: ("content_type_code",),
    ObjectKind.FOLDER: ("code_list",),
    ObjectKind.ASSOCIATION: ("documentation",),
}  # fmt: skip


class KnownCodes(Protocol):
    """Knows the codes of the affinity domain."""

    def findings(self, submission: Submission) -> list[Finding]:
        """Every code that is in no code set: an error where it is to be rejected, a warning where it is to be told."""
        ...


class UnknownCode(NamedTuple):
    """A code of a submission that is in no code set."""

    item: AnyObject
    attribute: str
    value: str


@dataclass(frozen=True, slots=True)
class CodeSets:
    """The code sets of an affinity domain: KnownCodes.

    by_attribute   an attribute of xds/metadata.py that is not there may have any code
    """

    by_attribute: Mapping[str, CodeSet] = field(default_factory=dict)

    def unknown(self, submission: Submission) -> list[UnknownCode]:
        """Every code that is in no code set, whatever becomes of it. What may have any code has no unknown ones."""
        if not self.by_attribute:
            return []
        return [unknown for item in submission.objects for unknown in self._unknown_of(item)]

    def _unknown_of(self, item: AnyObject) -> Iterator[UnknownCode]:
        for attribute in CODED_ATTRIBUTES[item.kind]:
            codes = self.by_attribute.get(attribute)
            if codes is not None and (codes.values or codes.policy is not Policy.ACCEPT):
                for value in _values(getattr(item, attribute)):
                    if value not in codes.values:
                        yield UnknownCode(item, attribute, value)

    def findings(self, submission: Submission) -> list[Finding]:
        return self.findings_of(self.unknown(submission))

    def findings_of(self, unknown: Iterable[UnknownCode]) -> list[Finding]:
        """What is told of codes that are in no code set."""
        advice: dict[str, _Advice] = {}
        findings = []
        for item, attribute, value in unknown:
            codes = self.by_attribute[attribute]
            if codes.policy is Policy.ACCEPT:
                continue
            if attribute not in advice:
                advice[attribute] = _Advice(codes.values)
            findings.append(
                Finding(
                    f"{term(attribute)} of {named(item)} is {shown(value)}, which this affinity domain does not have; "
                    f"{advice[attribute].about(value)}.",
                    location(item, attribute),
                    severity=Severity.ERROR if codes.policy is Policy.REJECT else Severity.WARNING,
                )
            )
        return findings


def _values(value: Any) -> Iterator[str]:
    """The codes as `code^^scheme`. What is missing or incomplete is a matter of xds/metadata_rules.py."""
    for each in value if isinstance(value, tuple) else (value,):
        if isinstance(each, Code):
            if each.code and each.coding_scheme:
                yield each.coded
        elif each:
            yield each


class _Advice:
    """What to send in place of a code. Sorts a scheme's codes once: a message may hold many wrong ones."""

    def __init__(self, known: Collection[str]) -> None:
        self._known = known
        self._sorted: dict[str, list[str]] = {}

    def about(self, value: str) -> str:
        """The codes that may have been meant: the neighbours in the scheme, or in all where it has none."""
        candidates = self._of_scheme(value.partition("^^")[2]) or self._of_scheme("")
        if not candidates:
            return "it has none for this attribute"
        position = bisect_left(candidates, _alphabetically(value), key=_alphabetically)
        first = max(0, min(position - _NAMED_AT_MOST // 2, len(candidates) - _NAMED_AT_MOST))
        near = candidates[first : first + _NAMED_AT_MOST]
        others = len(candidates) - len(near)
        return f"send {' or '.join(near)}" + (f", or one of {others} others" if others else "")

    def _of_scheme(self, scheme: str) -> list[str]:
        """In alphabetical order; "" stands for every scheme."""
        if scheme not in self._sorted:
            ending = f"^^{scheme}" if scheme else ""
            self._sorted[scheme] = sorted((each for each in self._known if each.endswith(ending)), key=_alphabetically)
        return self._sorted[scheme]


def _alphabetically(coded: str) -> str:
    return coded.partition("^^")[0].casefold()

"""What one value of a search parameter means, as conditions on search columns (FHIR R4: search.html, 3.1.1.4).

A meaning gives alternatives, of which one has to be met; none at all means that nothing can be found. It raises
ValueError with a predicate for the name of the parameter where the value can not be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from mhd.fhir.canonicals import URI
from mhd.fhir.fhir_dates import PrefixNotSupported, date_range
from mhd.mapping.code_systems import DICOM_UID, CodeSystems
from mhd.mapping.hl7v2_components import URN_OID, authority_of, escaped
from mhd.mapping.identifiers import ENCOUNTER_ID
from xds.metadata import AvailabilityStatus
from xds.stored_queries import Condition, Operator

Alternatives: TypeAlias = tuple[tuple[Condition, ...], ...]

Meaning: TypeAlias = Callable[[str, str, CodeSystems], Alternatives]
"""Of a value as sent and the column it is about."""

_ESCAPED: Final = re.compile(r"\\([,|$\\])")


class Token(NamedTuple):
    """`system|code`. system: None where nothing was said of it, "" where there is to be none."""

    system: str | None
    code: str


def split(text: str, separator: str) -> list[str]:
    """The parts between separators that are not escaped; what is escaped in them stays so."""
    if "\\" not in text:
        return text.split(separator)
    parts = [""]
    escaped_next = False
    for each in text:
        if each == separator and not escaped_next:
            parts.append("")
        else:
            parts[-1] += each
        escaped_next = each == "\\" and not escaped_next
    return parts


def plain(text: str) -> str:
    r"""A value without escapes: `\,` `\|` `\$` `\\`."""
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text


def token(text: str) -> Token:
    """Raises ValueError where neither system nor code is given."""
    system, *code = split(text, "|")
    if len(code) > 1 or not any((system, *code)):
        raise ValueError(f"is {text[:100]!r}; send system|code, code, or system|")
    return Token(plain(system), plain(code[0])) if code else Token(None, plain(system))


def one(attribute: str, operator: Operator, *values: str) -> Condition:
    return Condition(attribute, operator, (values,))


# Meanings -----------------------------------------------------------------------------------------------------------


def coded(text: str, column: str, systems: CodeSystems) -> Alternatives:
    """A code, in each form of a token; systems are URIs, OIDs, or whatever is written where there is neither."""
    system, code = token(text)
    if system is None:
        return ((one(column, Operator.STARTS_WITH, f"{code}^^"),),)
    if not system:
        return ()  # every code of XDS has a scheme
    scheme = systems.scheme_of(system)
    if not code:
        return ((one(column, Operator.ENDS_WITH, f"^^{scheme}"),),)
    return ((one(column, Operator.ANY_OF, f"{code}^^{scheme}"),),)


def text_code(text: str, column: str, _: CodeSystems) -> Alternatives:
    """A code that is the whole value, such as a MIME type."""
    return ((one(column, Operator.ANY_OF, token(text).code),),)


_STATUSES: Final[Mapping[str, AvailabilityStatus]] = {
    "current": AvailabilityStatus.APPROVED,
    "superseded": AvailabilityStatus.DEPRECATED,
    "retired": AvailabilityStatus.DEPRECATED,
}


def status(text: str, column: str, _: CodeSystems) -> Alternatives:
    """current; superseded, or retired as List calls it. XDS has no others: what has any other status is not here."""
    found = _STATUSES.get(token(text).code)
    return ((one(column, Operator.ANY_OF, found.value),),) if found else ()


def moment(text: str, column: str, _: CodeSystems) -> Alternatives:
    """A date, or a time that is known as exactly as its digits say: from <= t < to, as in ITI-18."""
    prefix, start, end = date_range(text)
    after = {"ge": start, "eq": start, "gt": end, "sa": end}.get(prefix)
    before = {"lt": start, "eb": start, "le": end, "eq": end}.get(prefix)
    since = (one(column, Operator.AT_OR_AFTER, after),) if after else ()
    until = (one(column, Operator.BEFORE, before),) if before else ()
    return ((*since, *until),)


def period(text: str, column: str, systems: CodeSystems) -> Alternatives:
    """A time span: it has to overlap with what is asked for."""
    if text[:2] in ("sa", "eb"):
        raise PrefixNotSupported(
            f"has the prefix {text[:2]!r}, which is not known here for a period; send eq, ge, gt, le or lt"
        )
    return moment(text, column, systems)


def oid(text: str, column: str, _: CodeSystems) -> Alternatives:
    """An OID, bare, as urn:oid:, or as a token; a system alone means none."""
    number = token(text).code.removeprefix(URN_OID)
    return ((one(column, Operator.ANY_OF, number),),) if number else ()


def related(text: str, column: str, systems: CodeSystems) -> Alternatives:
    """An identifier in referenceIdList, of whatever type (ITI TF-3: 4.2.3.2.28)."""
    return _reference_id(text, column, "", systems)


def encounter(text: str, column: str, systems: CodeSystems) -> Alternatives:
    """An identifier of an encounter in referenceIdList."""
    return _reference_id(text, column, f"^{ENCOUNTER_ID}", systems)


def literal_reference(text: str, column: str, systems: CodeSystems) -> Alternatives:
    """A reference that is no identifier. XDS keeps identifiers only, so none is found."""
    return related(text, column, systems) if len(split(text, "|")) > 1 else ()


def _reference_id(text: str, column: str, type_code: str, systems: CodeSystems) -> Alternatives:
    system, code = token(text)
    if not code:
        raise ValueError(f"is {text[:100]!r}; send an identifier with a value, as system|value")
    value = escaped(code.removeprefix(URN_OID))
    if not system:
        begun = f"{value}^" if system is None else f"{value}^^^^"
        return ((one(column, Operator.STARTS_WITH, begun),), (one(column, Operator.ANY_OF, value),))
    if system in (DICOM_UID, URI):
        return ((one(column, Operator.STARTS_WITH, f"{value}^^^^"),),)
    authority = authority_of(system, systems)
    if authority is None:
        return ()
    begun = f"{escaped(code)}^^^{authority}"
    if type_code:
        return ((one(column, Operator.STARTS_WITH, f"{begun}{type_code}"),),)
    return ((one(column, Operator.STARTS_WITH, f"{begun}^"),), (one(column, Operator.ANY_OF, begun),))


def merged(alternatives: Sequence[tuple[Condition, ...]]) -> Alternatives:
    """The same, with alternatives that are values of one column put together."""
    values: dict[tuple[str, Operator], list[str]] = {}
    others = []
    for each in alternatives:
        if len(each) == 1 and each[0].operator in _OF_VALUES:
            values.setdefault((each[0].attribute, each[0].operator), []).extend(each[0].groups[0])
        else:
            others.append(each)
    together = [(one(attribute, operator, *dict.fromkeys(each)),) for (attribute, operator), each in values.items()]
    return (*together, *others)


_OF_VALUES: Final = frozenset({Operator.ANY_OF, Operator.STARTS_WITH, Operator.ENDS_WITH, Operator.LIKE})

"""Names of persons, made comparable: for searches by family and given name, apart and together.

What FHIR calls a string search (R4: 3.1.1.4.7) asks whether a part of a name begins with some text, without regard to
case and accents. A name is kept as one text, `^family part^family part^|^given part^`, each part folded, so that family
and given name of one and the same person can be asked for together by LIKE.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Final

from xds.hl7v2 import XCN

_BEFORE: Final = "^"
_BETWEEN: Final = "|"
# What LIKE, and the form above, would take for something else.
_IN_PLACE_OF: Final = str.maketrans({"%": "\ufe6a", "_": "\uff3f", "^": "\uff3e", "|": "\uff5c"})
_ESCAPES: Final = (("\\S\\", "^"), ("\\T\\", "&"), ("\\R\\", "~"), ("\\F\\", "|"), ("\\E\\", "\\"))


def folded(text: str) -> str:
    """The text without regard to case and accents."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    return "".join(each for each in apart if not unicodedata.combining(each)).casefold().translate(_IN_PLACE_OF)


def family_names(person: XCN) -> tuple[str, ...]:
    """The family name as a whole, and its words where it has several."""
    return _whole_and_words([_unescaped(person.family_name.partition("&")[0])])


def given_names(person: XCN) -> tuple[str, ...]:
    """The given name, further given names (XCN.4), and their words where they have several."""
    return _whole_and_words([_unescaped(person.given_name), _unescaped(person.component(4))])


def searchable_name(person: XCN) -> str:
    """The text in which name_pattern() finds the person."""
    family = "".join(f"{folded(each)}{_BEFORE}" for each in family_names(person))
    given = "".join(f"{folded(each)}{_BEFORE}" for each in given_names(person))
    return f"{_BEFORE}{family}{_BETWEEN}{_BEFORE}{given}"


def name_pattern(family: str | None, given: str | None, *, contains: frozenset[str] = frozenset()) -> str:
    """What searchable_name() is LIKE where part of a family name begins with one text and a given name with the other.

    contains   `family`, `given` or both: there the text may stand anywhere in a part
    """
    before = {each: "%" if each in contains else f"%{_BEFORE}" for each in ("family", "given")}
    of_family = "" if family is None else f"{before['family']}{folded(family)}"
    of_given = "" if given is None else f"{before['given']}{folded(given)}"
    return f"{of_family}%{_BETWEEN}{of_given}%"


ANY_FAMILY_NAME: Final = f"{_BEFORE}_%{_BEFORE}{_BETWEEN}%"
ANY_GIVEN_NAME: Final = f"%{_BETWEEN}{_BEFORE}_%"
"""What searchable_name() is LIKE where the person has such a name at all."""


def name_parts(person: XCN) -> list[str]:
    """The parts as they are, for exact search: family names, given names, and every pair of them."""
    family, given = family_names(person), given_names(person)
    return [
        *(exact_name(each, None) for each in family),
        *(exact_name(None, each) for each in given),
        *(exact_name(one, other) for one in family for other in given),
    ]


def exact_name(family: str | None, given: str | None) -> str:
    """The one of name_parts() with this family name, this given name, or both."""
    return f"{family or ''}{_BEFORE}{given or ''}"


def _whole_and_words(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part for name in names if name for part in (name, *name.split())))


def _unescaped(text: str) -> str:
    for escape, character in _ESCAPES:
        text = text.replace(escape, character)
    return text

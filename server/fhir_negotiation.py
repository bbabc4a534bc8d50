"""In which form FHIR is sent and wanted (FHIR R4: http.html, 3.1.0.1.11; json.html; xml.html)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from functools import lru_cache
from http import HTTPStatus
from typing import Final, NamedTuple

from mhd.fhir.operation_outcome import Issue, IssueType, Refused
from mhd.messages import FHIR_JSON, FHIR_XML, PreferReturn

_OTHER_VERSION: Final = "fhirVersion is {0!r}; this is FHIR R4, which is fhirVersion=4.0."


class Format(Enum):
    """The two forms of a resource."""

    JSON = FHIR_JSON
    XML = FHIR_XML


_NAMES: Final = {
    "json": Format.JSON,
    "application/fhir+json": Format.JSON,
    "application/json": Format.JSON,
    "application/json+fhir": Format.JSON,
    "text/json": Format.JSON,
    "xml": Format.XML,
    "application/fhir+xml": Format.XML,
    "application/xml": Format.XML,
    "application/xml+fhir": Format.XML,
    "text/xml": Format.XML,
}
_CHARSETS: Final = frozenset({"", "utf-8", "utf8", "us-ascii"})
_TOKEN: Final = re.compile(r"\s*([^=;\s]+)\s*=\s*(\"[^\"]*\"|[^;\s]*)\s*")


class MediaRange(NamedTuple):
    """One item of Accept: a media type in lower case, its parameters, and how much it is wanted (0 to 1)."""

    name: str
    parameters: dict[str, str]
    quality: float

    def covers(self, media_type: str) -> bool:
        """Whether a media type without parameters is among what is meant."""
        kind, _, _ = media_type.partition("/")
        return self.name in ("*/*", "*", f"{kind}/*", media_type)

    @property
    def exactness(self) -> int:
        """Of two ranges that cover a type, the more exact one counts."""
        return 0 if self.name in ("*", "*/*") else 1 if self.name.endswith("/*") else 2


@lru_cache(maxsize=256)
def accepted(accept: str) -> tuple[MediaRange, ...]:
    """What an Accept header asks for, as it stands; what can not be read as a media range is left out."""
    return tuple(_media_ranges(accept))


def _media_ranges(accept: str) -> Iterator[MediaRange]:
    for item in accept.split(","):
        name, _, rest = item.strip().partition(";")
        name = name.strip().lower()
        if not name:
            continue
        parameters = {key.lower(): value.strip('"') for key, value in _TOKEN.findall(rest)}
        yield MediaRange(name, parameters, _quality(parameters.pop("q", "1")))


def _quality(text: str) -> float:
    try:
        return min(max(float(text), 0.0), 1.0)
    except ValueError:
        return 0.0


def format_of_body(content_type: str) -> Format:
    """The form of what was sent. Raises Refused (415)."""
    name, _, rest = content_type.partition(";")
    found = _NAMES.get(name.strip().lower())
    parameters = {key.lower(): value.strip('"') for key, value in _TOKEN.findall(rest)}
    if found is None or "/" not in name:
        raise _not_supported(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"The Content-Type {name.strip()[:100]!r} is not read here; send {FHIR_JSON} or {FHIR_XML}.",
        )
    if parameters.get("charset", "").lower() not in _CHARSETS:
        raise _not_supported(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The charset is {parameters['charset'][:40]!r}; send UTF-8."
        )
    if (wrong := _other_version(parameters)) is not None:
        raise _not_supported(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, wrong)
    return found


def format_wanted(given: str | None, accept: str) -> Format:
    """The form in which to answer: _format counts for more than Accept; without either, JSON.

    given   _format, also where its plus sign has become a blank
    Raises Refused (406).
    """
    if given is not None:
        found = _NAMES.get(given.partition(";")[0].strip().lower().replace(" ", "+"))
        if found is None:
            raise _not_supported(
                HTTPStatus.NOT_ACCEPTABLE, f"_format is {given[:100]!r}; ask for json or xml.", "_format"
            )
        return found
    if not accept.strip():
        return Format.JSON
    found = _format_of_accept(accept)
    if found is None:
        raise _not_supported(
            HTTPStatus.NOT_ACCEPTABLE, f"Accept names nothing that is answered here; ask for {FHIR_JSON} or {FHIR_XML}."
        )
    return found


@lru_cache(maxsize=256)
def _format_of_accept(accept: str) -> Format | None:
    """Of what is wanted most, the first; the more exact of a range and a type counts."""
    best: tuple[float, int] = (0.0, 0)
    found = None
    for each in accepted(accept):
        kind = _NAMES.get(each.name) or (
            Format.JSON if each.exactness < 2 and each.covers("application/json") else None
        )
        if kind is None or _other_version(each.parameters) is not None:
            continue
        rank = (each.quality, each.exactness)
        if each.quality > 0 and rank > best:
            best, found = rank, kind
    return found


def wraps_document(accept: str) -> Format | None:
    """The form of FHIR that Accept names in so many words, as `application/fhir+xml`; None: it names none."""
    named = [
        each
        for each in accepted(accept)
        if each.name in (FHIR_JSON, FHIR_XML) and each.quality > 0 and _other_version(each.parameters) is None
    ]
    return Format(max(named, key=lambda each: each.quality).name) if named else None


def takes(accept: str, media_type: str) -> bool:
    """Whether something of a media type is acceptable; everything is where Accept says nothing."""
    ranges = accepted(accept)
    name = media_type.partition(";")[0].strip().lower()
    covering = [each for each in ranges if each.covers(name)]
    return not ranges or (bool(covering) and max(covering, key=lambda each: each.exactness).quality > 0)


def preferences(prefer: str) -> tuple[PreferReturn | None, bool]:
    """Of Prefer: what to return, and whether handling is strict. What is not known of it is not heeded (RFC 7240)."""
    wanted = None
    strict = False
    for item in re.split(r"[,;]", prefer):
        name, _, value = item.strip().partition("=")
        value = value.strip().strip('"')
        if name.strip().lower() == "return":
            wanted = next((each for each in PreferReturn if each.value.lower() == value.lower()), wanted)
        elif name.strip().lower() == "handling":
            strict = value.lower() == "strict"
    return wanted, strict


def _other_version(parameters: dict[str, str]) -> str | None:
    version = parameters.get("fhirversion", "4.0")
    return None if version in ("4.0", "4.0.1") else _OTHER_VERSION.format(version[:20])


def _not_supported(status: HTTPStatus, text: str, expression: str = "") -> Refused:
    return Refused(Issue(IssueType.NOT_SUPPORTED, text, expression, http=status))

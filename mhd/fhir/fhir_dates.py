"""Dates as FHIR searches for them (FHIR R4: search.html, 3.1.1.4.6): a prefix, and a date as long as it is exact."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, NamedTuple

_DATE: Final = re.compile(
    r"(?P<prefix>[a-z]{2})?"
    r"(?P<year>[0-9]{4})(?:-(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2})"
    r"(?:T(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.[0-9]+)?)?"
    r"(?P<zone>Z|[+ -][0-9]{2}:[0-9]{2})?)?)?)?"
)
_LAST: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
PREFIXES: Final = ("eq", "ge", "gt", "le", "lt", "sa", "eb")
_OTHER_PREFIXES: Final = ("ne", "ap")  # those of FHIR that ITI-18 has no place for


class PrefixNotSupported(ValueError):
    """A prefix of FHIR that can not be used here; with a predicate for the name of the parameter."""


class DateRange(NamedTuple):
    """What a date of a search means, in UTC, 14 digits each.

    prefix   one of PREFIXES
    start    its first second
    end      the first second after it
    """

    prefix: str
    start: str
    end: str


def date_range(text: str) -> DateRange:
    """What a value of a date parameter means; a date without a zone is in UTC.

    Raises ValueError with a predicate for the name of the parameter, PrefixNotSupported.
    """
    found = _DATE.fullmatch(text)
    if found is None:
        raise ValueError(f"is {text[:60]!r}; send a date such as ge2026-03-01 or lt2026-03-01T10:00:00Z")
    prefix = found["prefix"] or "eq"
    if prefix not in PREFIXES:
        problem = PrefixNotSupported if prefix in _OTHER_PREFIXES else ValueError
        raise problem(f"has the prefix {prefix!r}; those that are known here are {', '.join(PREFIXES)}")
    try:
        start = _start(found)
    except (ValueError, OverflowError):
        raise ValueError(f"is {text[:60]!r}, and there is no such date") from None
    return DateRange(prefix, _digits(start), _digits(_end(start, found)))


def in_zone(text: str, zone: tzinfo) -> str:
    """A value of a date parameter, with that zone where it has a time without one; anything else as it is."""
    found = _DATE.fullmatch(text)
    if found is None or found["hour"] is None or found["zone"] is not None:
        return text
    local = text[len(found["prefix"] or "") :]
    try:
        offset = datetime.fromisoformat(local[:16]).replace(tzinfo=zone).strftime("%z")
    except (ValueError, OverflowError):
        return text  # there is no such date, and it is told where it is read
    return f"{text}{offset[:3]}:{offset[3:5]}"


def _start(found: re.Match[str]) -> datetime:
    zone = found["zone"] or "Z"
    # A plus sign that was not encoded has become a blank.
    zone = "+00:00" if zone == "Z" else zone.replace(" ", "+")
    year, month, day = found["year"], found["month"] or "01", found["day"] or "01"
    hour, minute, second = found["hour"] or "00", found["minute"] or "00", found["second"] or "00"
    return datetime.fromisoformat(f"{year}-{month}-{day}T{hour}:{minute}:{second}{zone}").astimezone(UTC)


def _end(start: datetime, found: re.Match[str]) -> datetime:
    try:
        if found["month"] is None:
            return start.replace(year=start.year + 1)
        if found["day"] is None:
            return (start + timedelta(days=31)).replace(day=1)
        if found["hour"] is None:
            return start + timedelta(days=1)
        return start + (timedelta(minutes=1) if found["second"] is None else timedelta(seconds=1))
    except (ValueError, OverflowError):
        return _LAST


def _digits(moment: datetime) -> str:
    return moment.strftime("%Y%m%d%H%M%S").rjust(14, "0")

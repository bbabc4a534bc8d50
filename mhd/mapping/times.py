"""Times: XDS has UTC without a zone, FHIR has zones and seconds (ITI TF-3: 4.2.3.1.7, DTM; FHIR R4: datatypes.html)."""

from __future__ import annotations

from datetime import UTC, datetime

from mhd.fhir.exact_text import Json, exact_primitive, put_exact
from xds.hl7v2 import DTM

_SMALLEST_YEAR = "1000"


def date_time_of(time: DTM) -> str | None:
    """A dateTime as exact as the DTM, but for hours and minutes: FHIR has only seconds. None: there is no such one."""
    text = time.text
    if time.problem() or text < _SMALLEST_YEAR:
        return None
    if len(text) <= 8:
        return "-".join(part for part in (text[:4], text[4:6], text[6:8]) if part)
    return instant_of(time)


def instant_of(time: DTM) -> str:
    """The first second of a DTM without problem()."""
    first = time.first
    return f"{first[:4]}-{first[4:6]}-{first[6:8]}T{first[8:10]}:{first[10:12]}:{first[12:14]}Z"


def dtm_of(date_time: str) -> DTM | None:
    """The DTM of a sound dateTime or instant: in UTC, without fraction. None: it is in no year that has four digits."""
    if "T" not in date_time:
        return DTM(date_time.replace("-", ""))
    try:
        moment = datetime.fromisoformat(date_time).astimezone(UTC)
    except (OverflowError, ValueError):
        return None
    return DTM(moment.strftime("%Y%m%d%H%M%S").rjust(14, "0"))


def put_time(target: Json, name: str, time: DTM | None) -> None:
    """Set a dateTime of `target`."""
    if time is not None:
        rendered = date_time_of(time)
        back = dtm_of(rendered) if rendered else None
        put_exact(target, name, time.text, rendered, back.text if back else None)


def time_at(target: Json, name: str) -> DTM | None:
    """The DTM of a dateTime of `target`; None where there is none."""
    exact = exact_primitive(target, name, lambda text: date_time_of(DTM(text)))
    if exact is not None:
        return DTM(exact)
    return dtm_of(target[name]) if name in target else None


def date_of(digits: str) -> str | None:
    """A date of the digits of a DTM, as in PID-7, without the time of day. None: there is no such day."""
    day = DTM(digits[:8])
    return None if day.problem() else date_time_of(day)

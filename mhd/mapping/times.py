"""Times: XDS has UTC without a zone, FHIR has zones and seconds (ITI TF-3: 4.2.3.1.7, DTM; FHIR R4: datatypes.html)."""

from __future__ import annotations

from datetime import UTC, datetime

from mhd.fhir.exact_text import Json, exact_primitive, put_exact, text_beside
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


def to_the_millisecond(time: str) -> str:
    """The instant of a Registration.last_updated; many readers of FHIR know no more of a second."""
    seconds, _, fraction = time.removesuffix("Z").partition(".")
    return f"{seconds}.{fraction[:3].ljust(3, '0')}Z"


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
        _put(target, name, time, date_time_of(time))


def _put(target: Json, name: str, time: DTM, rendered: str | None) -> None:
    back = dtm_of(rendered) if rendered else None
    put_exact(target, name, time.text, rendered, back.text if back else None)


def time_at(target: Json, name: str) -> DTM | None:
    """The DTM of a dateTime of `target`; None where there is none."""
    exact = exact_primitive(target, name, lambda text: date_time_of(DTM(text)))
    if exact is not None:
        return DTM(exact)
    return dtm_of(target[name]) if name in target else None


def period_of(start: DTM | None, stop: DTM | None) -> Json:
    """The Period between two times, {} where there is none.

    FHIR wants start <= end (per-1), and can not compare times of which one is a part of the other, such as 2026-03 and
    2026-03-14. Such ones are both said as exactly as the less exact one, in days at most; a stop that is before the
    start all the same is there as text alone.
    """
    period: Json = {}
    for name, time, rendered in zip(("start", "end"), (start, stop), _rendered_period(start, stop), strict=True):
        if time is not None:
            _put(period, name, time, rendered)
    return period


def times_of_period(period: Json) -> tuple[DTM | None, DTM | None]:
    """The DTMs of a Period; the text of one beside it counts if the Period still says what it was made of."""
    start, end = (
        DTM(text) if (text := text_beside(period, name)) is not None else time_at(period, name)
        for name in ("start", "end")
    )
    if _rendered_period(start, end) == (period.get("start"), period.get("end")):
        return start, end
    return time_at(period, "start"), time_at(period, "end")


def _rendered_period(start: DTM | None, stop: DTM | None) -> tuple[str | None, str | None]:
    first, last = (date_time_of(each) if each is not None else None for each in (start, stop))
    if first is None or last is None or _is_before(first, last):
        return first, last
    exactness = min(len(first), len(last), len("YYYY-MM-DD"))
    if first[:exactness] <= last[:exactness]:
        return first[:exactness], last[:exactness]
    return first, None


def _is_before(first: str, last: str) -> bool:
    """Whether FHIRPath says first <= last of dateTimes, those with a time of day in UTC."""
    exactness = min(len(first), len(last))
    return first == last or first[:exactness] < last[:exactness]


def date_of(digits: str) -> str | None:
    """A date of the digits of a DTM, as in PID-7, without the time of day. None: there is no such day."""
    day = DTM(digits[:8])
    return None if day.problem() else date_time_of(day)

"""Puts the clock of a process forward, where this directory is on its PYTHONPATH.

Python imports this before anything else. Whatever asks `time` or `datetime` for the time of day gets it with
TOIMIK_TEST_CLOCK_SECONDS added. Durations (time.monotonic) are left alone, as they are where a clock is set wrong.
"""

import datetime as datetime_module
import os
import time

SECONDS = float(os.environ.get("TOIMIK_TEST_CLOCK_SECONDS", "0"))

_time, _time_ns = time.time, time.time_ns
_Datetime = datetime_module.datetime


class _Kind(type):
    """What is a datetime stays one: whatever is made of this class is of the true one."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _Datetime)


class Ahead(_Datetime, metaclass=_Kind):
    """datetime, by another clock."""

    def __new__(cls, *args: object, **kwargs: object) -> _Datetime:  # type: ignore[misc]
        return _Datetime(*args, **kwargs)  # type: ignore[arg-type]

    @classmethod
    def now(cls, tz: datetime_module.tzinfo | None = None) -> _Datetime:  # type: ignore[override]
        return _Datetime.now(tz) + datetime_module.timedelta(seconds=SECONDS)

    @classmethod
    def utcnow(cls) -> _Datetime:  # type: ignore[override]
        return cls.now(datetime_module.UTC).replace(tzinfo=None)


if SECONDS:
    time.time = lambda: _time() + SECONDS
    time.time_ns = lambda: _time_ns() + int(SECONDS * 1e9)
    datetime_module.datetime = Ahead  # type: ignore[misc]

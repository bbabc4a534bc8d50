"""Structured logs on standard error: constant sentences, values beside them, never patient data.

entryUUIDs, uniqueIds of documents, transaction names, error codes, sizes and times may be logged; patient ids,
names, document content and the sentences of errors (they may quote what was sent) may not.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import orjson
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.log import server_logger

from server.settings.operation import LogFormat, LogSettings

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_STANDARD_FIRST = len(vars(logging.makeLogRecord({})))
"""How many attributes every record has before those that were given with `extra`."""


class _JsonFormatter(logging.Formatter):
    """A line for a machine. Every request writes one, so that it has to cost little."""

    def __init__(self) -> None:
        super().__init__()
        self._process = os.getpid()

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": self._process,
        }
        line.update(islice(record.__dict__.items(), _STANDARD_FIRST, None))
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack_info"] = self.formatStack(record.stack_info)
        try:
            return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:  # half a character: somebody's bytes that were no text; it is written as \ud800
            return json.dumps(line, default=str)


class _TextFormatter(logging.Formatter):
    """A line for a person: time, level, sentence, then name=value."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        values = (f"{name}={value}" for name, value in vars(record).items() if name not in _STANDARD)
        return " ".join((super().formatMessage(record), *values))


class _NothingOfTheRequest(logging.Filter):
    """The HTTP library quotes what it can not read, which may be a URL that names a patient."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
            record.msg, record.args, record.exc_info = "What came is no HTTP, or too long, and was refused.", (), None
            record.levelno, record.levelname = logging.INFO, "INFO"
        return True


_NOTHING_OF_THE_REQUEST = _NothingOfTheRequest()  # one: a logger takes the same filter once


def configure_logging(settings: LogSettings) -> None:
    """Send everything that is logged to standard error in the configured form."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.format is LogFormat.JSON:
        handler.setFormatter(_JsonFormatter())
    else:
        handler.setFormatter(_TextFormatter())
    # What is asked of the interpreter for every record, and no line shows.
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False
    logging._srcfile = None  # noqa: SLF001 - the switch that Python's logging HOWTO names for this
    server_logger.addFilter(_NOTHING_OF_THE_REQUEST)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())

"""Structured logs on standard error: constant sentences, values beside them, never patient data.

entryUUIDs, uniqueIds of documents, transaction names, error codes, sizes and times may be logged; patient ids,
names, document content and the sentences of errors (they may quote what was sent) may not.
"""

from __future__ import annotations

import logging
import sys

from pythonjsonlogger.json import JsonFormatter

from server.settings import LogFormat, LogSettings

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class _TextFormatter(logging.Formatter):
    """A line for a person: time, level, sentence, then name=value."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        values = (f"{name}={value}" for name, value in vars(record).items() if name not in _STANDARD)
        return " ".join((super().formatMessage(record), *values))


def configure_logging(settings: LogSettings) -> None:
    """Send everything that is logged to standard error in the configured form."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.format is LogFormat.JSON:
        handler.setFormatter(
            JsonFormatter(
                "{levelname}{name}{message}{process}",
                style="{",
                timestamp=True,
                rename_fields={"levelname": "level", "name": "logger"},
            )
        )
    else:
        handler.setFormatter(_TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())

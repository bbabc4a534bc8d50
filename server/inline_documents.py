"""Documents that come as base64 in an ITI-41 without MTOM, which the standard demands (ITI TF-2: 3.41.4.1.2).

Document sources that can not do it are many, so such messages are taken where the settings do not say otherwise. An
MTOM message in which a document stays inside of the envelope is legal (XOP, section 3.1), and is always taken.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from server.incoming_message import unreadable
from server.settings.limits import InlineDocuments
from xds.metadata import Submission
from xds.mtom import EXAMPLE_CONTENT_TYPE

log = logging.getLogger(__name__)

_MOST_SOURCES: Final = 1000  # that are remembered: anybody may make one up


class InlinePolicy:
    """What becomes of them, and which sources the log has a warning of."""

    def __init__(self, setting: InlineDocuments, *, counted: Callable[[int, str], None]) -> None:
        """counted: is told (documents, sourceId) of each message that is taken."""
        self._is_strict = setting is InlineDocuments.STRICT
        self._counted = counted
        self._warned_of: set[str] = set()

    def came(self, documents: int, submission: Submission) -> None:
        """A message without MTOM brings so many documents. Raises Unreadable where they are refused."""
        if not documents:
            return
        if self._is_strict:
            raise unreadable(
                "The message is no MTOM message and has its documents inside as base64, which is not taken here; send "
                f"each as a part that xop:Include refers to. A correct example: Content-Type: {EXAMPLE_CONTENT_TYPE}"
            )
        source = next((each.source_id for each in submission.submission_sets if each.source_id), "")
        self._counted(documents, source)
        if source not in self._warned_of and len(self._warned_of) < _MOST_SOURCES:
            self._warned_of.add(source)
            log.warning(
                "A source sends documents without MTOM; they are taken, and this is said once.",
                extra={"source_id": source, "documents": documents},
            )

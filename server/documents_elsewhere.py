"""Documents that lie on another server until they are retrieved: fetched from the URI of their entry.

Only from servers that the settings trust (server/trusted_servers.py), whatever an entry says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mhd.submitting.elsewhere import Elsewhere, Unreachable
from repository.on_demand_source import MadeDocument, NoDocumentNow, SourceUnavailable
from xds.metadata import DocumentEntry


class DocumentsElsewhere:
    """An OnDemandSource (repository/on_demand_source.py)."""

    def __init__(self, elsewhere: Elsewhere) -> None:
        self._elsewhere = elsewhere

    @asynccontextmanager
    async def document(self, entry: DocumentEntry) -> AsyncIterator[MadeDocument]:
        """Fetch the document of an entry. Raises NoDocumentNow, SourceUnavailable."""
        if entry.uri is None or not self._elsewhere.has_document(entry.uri):
            raise NoDocumentNow
        try:
            async with self._elsewhere.document(entry.uri) as found:
                yield MadeDocument(found.mime_type or entry.mime_type or "", found.content)
        except Unreachable as problem:
            raise SourceUnavailable(f"the document {problem}") from problem

"""Who makes documents when they are retrieved: the port, which plug-ins and the HTTP callback fill.

ITI TF-1: 10.4.13 (stable and on-demand entries), ITI TF-2: 3.43.4.2.2. A plug-in is a package with an entry point in
the group `toimik.on_demand_sources`; it names what opens its source: a function that takes the options of its row in
the settings and returns an asynchronous context manager, which gives the OnDemandSource while the server runs.
examples/on-demand-plugin is a whole one, docs/operations.md says how it is set up.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from xds.metadata import DocumentEntry

ENTRY_POINTS: Final = "toimik.on_demand_sources"
"""The group of the entry points of plug-ins."""


@dataclass(frozen=True, slots=True)
class MadeDocument:
    """A document that was made for one retrieval; or for all, where its entry is that of a delayed document.

    mime_type   that of its entry; parameters (`; charset=utf-8`) may be others
    content     its octets in order, in chunks of any length; read once, and at most to the size limit of the source
    unique_id   where the document names itself, as CDA does by ClinicalDocument/id: one for each content.
                None: it gets one that follows from entry and content, so that what has not changed has the same.
                Of a delayed document: None, or that of the entry.
    """

    mime_type: str
    content: AsyncIterator[bytes]
    unique_id: str | None = None


class OnDemandSource(Protocol):
    """Makes documents when they are retrieved. Many may be asked for at a time."""

    def document(self, entry: DocumentEntry) -> AbstractAsyncContextManager[MadeDocument]:
        """The document of an on-demand entry as it is now; its content is read inside of the context.

        A stable entry is that of a delayed document (ITI TF-1: 10.2.10), which is wanted as it was when it was
        registered. It is made once; two nodes that are asked at one moment both ask, and one of the answers is kept.

        It is broken off, by cancellation, when the time of the source is over or the client has gone; so it must not
        block the event loop. Whatever is raised is answered as an error of this one document, and logged.
        Raises NoDocumentNow, SourceUnavailable, SourceFailed.
        """
        ...


OpenSource: TypeAlias = Callable[[Mapping[str, str]], AbstractAsyncContextManager[OnDemandSource]]
"""What the entry point of a plug-in names. The argument is the table `options` of its row in the settings."""


class NoDocumentNow(Exception):
    """There is nothing that the document could be made of. Answered as XDSDocumentUniqueIdError."""


class SourceUnavailable(Exception):
    """The source can make no documents now. The text is for the log. Answered as XDSRepositoryError: ask later."""


class SourceFailed(Exception):
    """The source does what it must not. The text is for the log. Answered as XDSRepositoryError.

    Any other exception is answered so, too, and logged with its traceback.
    """

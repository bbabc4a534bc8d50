"""What a repository asks the registry about its documents: the port, filled by server/registered_entries.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from xds.metadata import Code, DocumentEntry


class RegisteredEntries(Protocol):
    """The entries of a registry, here or elsewhere. Its methods raise OutcomeUnknown where it does not tell."""

    async def of_document(self, unique_id: str) -> Sequence[DocumentEntry]:
        """The newest version of each entry with this uniqueId."""
        ...

    async def snapshots(self, entry: DocumentEntry) -> Sequence[DocumentEntry]:
        """The Approved snapshots of an on-demand entry that have its type and format, the newest first."""
        ...

    async def content_type(self, entry: DocumentEntry) -> Code | None:
        """contentTypeCode of the SubmissionSet that brought this version of an entry."""
        ...

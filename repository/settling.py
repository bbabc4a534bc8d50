"""What becomes of a document between publish and settle when nobody was told the registry's answer."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from repository.document_store import DocumentStore, Kept, StoreBusy, StoreFull

logger = logging.getLogger(__name__)

IsRegistered: TypeAlias = Callable[[str, str], Awaitable[bool]]
"""Whether the registry lists a document of this repository with this uniqueId and hash, whatever its status.

False is a reason to throw the document away: it is said only where the registry has clearly answered so.
Raises OutcomeUnknown where the registry did not answer, or answered anything else.
"""


async def registered_document(unique_id: str, *, documents: DocumentStore, is_registered: IsRegistered) -> Kept | None:
    """The document of this uniqueId that the registry lists; an unsettled one is settled on the way.

    Raises OutcomeUnknown where only the registry could tell, and did not answer.
    """
    kept = await documents.find(unique_id)
    if kept is not None:
        return kept
    for candidate in await documents.unsettled(unique_id):
        if not await is_registered(unique_id, candidate.measured.hash):
            continue
        try:
            return await documents.settle(candidate)
        except (StoreBusy, StoreFull) as problem:
            # It can be read all the same.
            logger.warning(
                "a registered document stays unsettled for now", extra={"key": candidate.key, "problem": str(problem)}
            )
            return candidate
        except KeyError:
            break
    # Somebody else may have settled it since the first look.
    return await documents.find(unique_id)

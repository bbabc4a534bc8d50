"""What becomes of a published document: by the registry's answer, and where nobody was told of one."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from repository.document_store import DocumentDamaged, DocumentStore, Kept, OtherBytesSettled, StoreBusy, StoreFull
from xds.errors import ErrorCode, RegistryError
from xds.metadata_names import shown

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


async def withdrawn(kept: Kept, documents: DocumentStore) -> None:
    """Forget a document that the registry refused. Its sender hears the refusal even where this fails."""
    try:
        await documents.withdraw(kept)
    except (StoreBusy, StoreFull, OSError) as problem:
        logger.warning(
            "a refused document could not be withdrawn; the sweeper will try again",
            extra={"key": kept.key, "problem": str(problem)},
        )


async def settled(kept: Kept, documents: DocumentStore) -> RegistryError | None:
    """Make a registered document what its uniqueId means, or tell why it can not be."""
    try:
        await documents.settle(kept)
    except (StoreBusy, StoreFull, OSError) as problem:
        # Registered and kept for good: whoever asks for it first, or the sweeper, settles it.
        logger.warning(
            "a registered document stays unsettled for now", extra={"key": kept.key, "problem": str(problem)}
        )
    except (OtherBytesSettled, KeyError, DocumentDamaged):
        logger.exception("a registered document can not be settled", extra={"key": kept.key})
        return RegistryError(
            ErrorCode.REPOSITORY_ERROR,
            f"The document with the uniqueId {shown(kept.unique_id)} was registered, but this repository can not "
            "serve it under that uniqueId. Replace it with a document that has another one.",
        )
    return None

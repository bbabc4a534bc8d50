"""What crashes and unanswered registrations leave behind, put in order.

docs/adr/0003-a-document-is-kept-before-it-is-listed.md tells what may be left behind, and why the registry is asked.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass

from repository.document_store import DocumentDamaged, DocumentStore, Kept, OtherBytesSettled, StoreFull
from repository.settling import IsRegistered
from xds.actors import OutcomeUnknown

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Swept:
    """Documents that one round dealt with.

    staged      never published: thrown away
    settled     registered: they are served from now on
    withdrawn   not registered: thrown away
    left        could not be decided, and stay as they were
    """

    staged: int = 0
    settled: int = 0
    withdrawn: int = 0
    left: int = 0


async def sweep(documents: DocumentStore, is_registered: IsRegistered, *, older_than_seconds: float) -> Swept:
    """Go once through everything that is neither settled nor on its way.

    older_than_seconds   far more than the longest submission takes, with the longest time that a registry may need to
                         answer: a document on its way must not be judged
    Raises StoreBusy.
    """
    swept = Swept(staged=await documents.sweep_staged(older_than_seconds=older_than_seconds))
    registry_answers = True
    async for kept in documents.all_unsettled(older_than_seconds=older_than_seconds):
        if not registry_answers:
            swept.left += 1
            continue
        try:
            registered = await is_registered(kept.unique_id, kept.measured.hash)
        except OutcomeUnknown as problem:
            logger.warning("the registry did not answer the sweeper", extra={"problem": str(problem)})
            registry_answers = False
            swept.left += 1
            continue
        if not registered:
            await documents.withdraw(kept)
            swept.withdrawn += 1
        elif await _settled(kept, documents):
            swept.settled += 1
        else:
            swept.left += 1
    if swept != Swept():
        logger.info("documents left behind were swept", extra=asdict(swept))
    return swept


async def _settled(kept: Kept, documents: DocumentStore) -> bool:
    try:
        await documents.settle(kept)
    except (StoreFull, KeyError) as problem:
        # No room, or somebody else was here first: nothing is lost by looking again next time.
        logger.warning(
            "a registered document was not settled this time", extra={"key": kept.key, "problem": str(problem)}
        )
        return False
    except (OtherBytesSettled, DocumentDamaged):
        logger.exception("a registered document can not be settled", extra={"key": kept.key})
        return False
    return True

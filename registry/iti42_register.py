"""Register Document Set-b [ITI-42].

ITI TF-2: 3.42. A submission is judged by rules between one read and one atomic write: all of it is registered or
nothing, and a refusal names everything that was found wrong.
"""

from __future__ import annotations

from dataclasses import replace

from registry.changing import Changing
from registry.lifecycle import differing_documents, judged, questions
from registry.merged_patients import known_of_patient
from registry.origins import with_origins
from xds.actors import RegistryResponse
from xds.errors import Finding
from xds.metadata import Submission
from xds.transactions import ITI_42, Transaction


async def register_document_set(
    submission: Submission, changing: Changing, transaction: Transaction = ITI_42
) -> RegistryResponse:
    """Register all objects of a submission, or none of them. The response holds the warnings.

    transaction   ITI-61 is served here as well
    Raises XdsError with all errors that were found, XDSRegistryBusy; StoreBusy, StoreFull.
    """
    noticed = changing.noticed(submission, transaction)

    async def register() -> tuple[list[Finding], str]:
        facts, seen = await known_of_patient(questions(submission), changing.store)
        found = [*noticed, *changing.noticed_of_patients(submission, seen)]
        change = judged(
            submission,
            await with_origins(seen, changing.store, differing_documents(submission, seen)),
            now=changing.clock(),
            new_uuid=changing.new_uuid,
            noticed=found,
            home_community_id=changing.home_community_id,
        )
        await changing.store.apply(replace(change, patient_id=facts.patient_id), facts)
        return found, change.time

    found, time = await changing.until_it_holds(register)
    return RegistryResponse.of([finding.reported(transaction.default_code) for finding in found], time)

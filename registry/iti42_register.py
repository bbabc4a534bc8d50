"""Register Document Set-b [ITI-42].

ITI TF-2: 3.42. A submission is judged by rules between one read and one atomic write: all of it is registered or
nothing, and a refusal names everything that was found wrong.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime

from registry.code_sets import KnownCodes
from registry.lifecycle import NewUuid, judged, questions, refusal
from registry.merged_patients import known_of_patient
from registry.metadata_store import FactsMoved, MetadataStore
from registry.patient_identities import PatientIdentities
from xds.actors import RegistryResponse
from xds.errors import ErrorCode, Finding, Severity, XdsError
from xds.metadata import Submission
from xds.metadata_names import location, named, shown
from xds.metadata_rules import findings
from xds.transactions import ITI_42, Transaction


async def register_document_set(
    submission: Submission,
    *,
    store: MetadataStore,
    patients: PatientIdentities,
    code_sets: KnownCodes,
    clock: Callable[[], datetime],
    new_uuid: NewUuid,
    home_community_id: str | None = None,
    limited_metadata: bool = False,
    transaction: Transaction = ITI_42,
    attempts: int = 10,
    pause_seconds: float = 0.01,
) -> RegistryResponse:
    """Register all objects of a submission, or none of them. The response holds the warnings.

    home_community_id   given to every object that was sent without one
    limited_metadata    whether objects are taken that say that their metadata is limited
    transaction         ITI-61 is served here as well
    attempts            how often it is judged again when other changes of the dossier come in between
    pause_seconds       about how long to wait before the second attempt; longer before each later one
    Raises XdsError with all errors that were found, XDSRegistryBusy; StoreBusy, StoreFull.
    """
    noticed = [*findings(submission, transaction, limited_metadata=limited_metadata), *code_sets.findings(submission)]
    noticed += [finding async for finding in unknown_patient(submission, patients)]
    if not names_a_patient(submission):
        raise refusal(noticed)
    for attempt in range(attempts):
        facts, seen = await known_of_patient(questions(submission), store)
        change = judged(
            submission, seen, now=clock(), new_uuid=new_uuid, noticed=noticed, home_community_id=home_community_id
        )
        try:
            await store.apply(replace(change, patient_id=facts.patient_id), facts)
        except FactsMoved:
            await asyncio.sleep(pause_seconds * (attempt + random.random()))  # noqa: S311 - a pause is no secret
        else:
            return RegistryResponse.of([finding.reported(transaction.default_code) for finding in noticed])
    raise busy(attempts)


def busy(attempts: int) -> XdsError:
    """The refusal after so many attempts."""
    return XdsError(
        ErrorCode.REGISTRY_BUSY,
        f"Other submissions for the same patient came in between {attempts} times; send the submission again.",
    )


def names_a_patient(submission: Submission) -> bool:
    """Whether it is known whose dossier is asked for."""
    return bool(submission.submission_sets) and submission.submission_set.patient_id is not None


async def unknown_patient(submission: Submission, patients: PatientIdentities) -> AsyncIterator[Finding]:
    """What is wrong with the patient of a submission."""
    for submission_set in submission.submission_sets:
        patient_id = submission_set.patient_id
        if patient_id is None or patient_id.problem():
            continue  # a broken rule, and told as such
        if unsure := patients.warning(patient_id):
            yield Finding(
                f"patientId {shown(patient_id.text)} of {named(submission_set)} {unsure}.",
                location(submission_set, "patient_id"),
                severity=Severity.WARNING,
            )
        if unknown := await patients.problem(patient_id):
            yield Finding(
                f"patientId {shown(patient_id.text)} of {named(submission_set)} {unknown}.",
                location(submission_set, "patient_id"),
                ErrorCode.UNKNOWN_PATIENT_ID,
            )

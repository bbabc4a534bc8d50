"""What the transactions that change a registry work with, and how they meet others that change the same dossier.

ITI TF-2: 3.42, 3.57, 3.61, 3.62, 3.92. Each judges what it was sent between one look at the dossier and one atomic
write. Where another change came in between, the write fails, and all is looked at and judged again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from registry.code_sets import KnownCodes
from registry.lifecycle import NewUuid
from registry.metadata_store import Facts, FactsMoved, MetadataStore, PatientIdentity
from registry.patient_identities import PatientIdentities
from xds.errors import ErrorCode, Finding, Severity, XdsError
from xds.metadata import Submission
from xds.metadata_names import location, named, shown
from xds.metadata_rules import STRICT, Tolerance, findings
from xds.transactions import Transaction

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Changing:
    """The store that is changed, and what is known and decided of it.

    home_community_id   given to every object that was sent without one
    tolerance           what is taken although the standard would not
    attempts            how often a request is judged again when other changes of the dossier come in between
    pause_seconds       about how long to wait before the second attempt; longer before each later one
    """

    store: MetadataStore
    patients: PatientIdentities
    code_sets: KnownCodes
    clock: Callable[[], datetime]
    new_uuid: NewUuid
    home_community_id: str | None = None
    tolerance: Tolerance = STRICT
    attempts: int = 10
    pause_seconds: float = 0.01

    def noticed(self, submission: Submission, transaction: Transaction) -> list[Finding]:
        """What is wrong with a submission by itself, whatever is registered: its metadata, its codes.

        Raises XdsError with all of it where it is not even said whose dossier is asked for.
        """
        found = [*findings(submission, transaction, self.tolerance)]
        found += self.code_sets.findings(submission)
        if not submission.submission_sets or submission.submission_set.patient_id is None:
            raise XdsError.of(finding.reported(transaction.default_code) for finding in found)
        return found

    def noticed_of_patients(self, submission: Submission, facts: Facts) -> list[Finding]:
        """What is wrong with the patients of a submission, by what feeds said of them."""
        return [*_unknown_patients(submission, self.patients, facts.identities)]

    async def until_it_holds(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """What an attempt answers that no other change came into: it reads, judges and writes, and is made anew.

        Raises XdsError: XDSRegistryBusy, and what the attempt raises but FactsMoved.
        """
        for number in range(self.attempts):
            try:
                return await attempt()
            except FactsMoved:
                await asyncio.sleep(self.pause_seconds * (number + random.random()))  # noqa: S311 - no secret
        raise XdsError(
            ErrorCode.REGISTRY_BUSY,
            f"Other submissions for the same patient came in between {self.attempts} times; send the submission again.",
        )


def _unknown_patients(
    submission: Submission, patients: PatientIdentities, identities: Mapping[str, PatientIdentity]
) -> Iterator[Finding]:
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
        if unknown := patients.problem(patient_id, identities.get(patient_id.text)):
            yield Finding(
                f"patientId {shown(patient_id.text)} of {named(submission_set)} {unknown}.",
                location(submission_set, "patient_id"),
                ErrorCode.UNKNOWN_PATIENT_ID,
            )

"""Restricted Update Document Set [ITI-92].

ITI TF-2: 3.92. An update of DocumentEntries alone, which leaves their identifiers, their patient and their status as
they are; what it does is what ITI-57 does (registry/iti57_update.py), the rules are rows for ITI-92.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from registry.code_sets import CodeSets
from registry.iti57_update import update_document_set
from registry.lifecycle import NewUuid
from registry.metadata_store import MetadataStore
from registry.patient_identities import PatientIdentities
from xds.actors import RegistryResponse
from xds.metadata import Submission
from xds.transactions import ITI_92


async def restricted_update_document_set(
    submission: Submission,
    *,
    store: MetadataStore,
    patients: PatientIdentities,
    code_sets: CodeSets,
    clock: Callable[[], datetime],
    new_uuid: NewUuid,
    home_community_id: str | None = None,
    limited_metadata: bool = False,
) -> RegistryResponse:
    """Do all that an update asks for, or nothing; see update_document_set."""
    return await update_document_set(
        submission,
        store=store,
        patients=patients,
        code_sets=code_sets,
        clock=clock,
        new_uuid=new_uuid,
        home_community_id=home_community_id,
        limited_metadata=limited_metadata,
        transaction=ITI_92,
    )

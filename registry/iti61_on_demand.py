"""Register On-Demand Document Entry [ITI-61].

ITI TF-2: 3.61. Entries of documents that are made when they are retrieved are registered as those of stable documents
are (registry/iti42_register.py); what their metadata has to be is in the rows of xds/metadata_rules.py.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from registry.code_sets import CodeSets
from registry.iti42_register import register_document_set
from registry.lifecycle import NewUuid
from registry.metadata_store import MetadataStore
from registry.patient_identities import PatientIdentities
from xds.actors import RegistryResponse
from xds.metadata import Submission
from xds.transactions import ITI_61


async def register_on_demand(
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
    """Register all objects of a submission, or none of them; see register_document_set."""
    return await register_document_set(
        submission,
        store=store,
        patients=patients,
        code_sets=code_sets,
        clock=clock,
        new_uuid=new_uuid,
        home_community_id=home_community_id,
        limited_metadata=limited_metadata,
        transaction=ITI_61,
    )

"""The Document Recipient of MHD: what it answers.

Provide Document Bundle [ITI-65]     iti65_provide_document_bundle.py
Simplified Publish [ITI-105]         iti105_simplified_publish.py
Generate Metadata [ITI-106]          iti106_generate_metadata.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from mhd.iti65_provide_document_bundle import Submitting, provide_document_bundle
from mhd.iti105_simplified_publish import simplified_publish
from mhd.iti106_generate_metadata import CdaReader, generate_metadata
from mhd.mapping.domain import MhdDomain
from mhd.messages import FhirAnswer, FhirRequest
from mhd.patients import AskedOnce, PatientKeys, PatientResolver
from mhd.registered_objects import RegisteredObjects
from mhd.submitting.bundle_answer import StoredResources
from mhd.submitting.delayed import Delayed
from mhd.submitting.document_contents import FhirXml
from mhd.submitting.elsewhere import Elsewhere, Nowhere
from mhd.submitting.on_demand import OnDemand
from mhd.submitting.submission_draft import NewUuid
from mhd.submitting.submission_options import SubmissionOptions
from xds.actors import DocumentRegistry, DocumentRepository, ObjectCodec


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRecipient:
    """A Recipient of mhd/messages.py, in front of a repository and a registry here or elsewhere.

    codec            reads what the registry answers
    stored           reads the resources of what is registered
    keys             ids of Patient resources
    fhir_xml         writes FHIR's XML
    read_cda         reads the header of a CDA document
    elsewhere        other servers that the deployment trusts
    on_demand        who makes on-demand documents; None: they are not taken
    delayed          which delayed documents are assembled; None: they are not taken
    """

    repository: DocumentRepository
    registry: DocumentRegistry
    codec: ObjectCodec
    stored: StoredResources
    keys: PatientKeys
    domain: MhdDomain
    fhir_xml: FhirXml
    read_cda: CdaReader
    options: SubmissionOptions = field(default_factory=SubmissionOptions)
    elsewhere: Elsewhere = field(default_factory=Nowhere)
    on_demand: OnDemand | None = None
    delayed: Delayed | None = None
    clock: Callable[[], datetime] = utc_now
    new_uuid: NewUuid = uuid4

    async def provide_document_bundle(self, resource: Any, request: FhirRequest) -> FhirAnswer:
        """Provide Document Bundle [ITI-65]. Raises Refused."""
        return await provide_document_bundle(resource, request, submitting=self._submitting())

    async def simplified_publish(self, resource: Any, request: FhirRequest) -> FhirAnswer:
        """Simplified Publish [ITI-105]. Raises Refused."""
        return await simplified_publish(resource, request, submitting=self._submitting())

    async def generate_metadata(self, resource: Any, request: FhirRequest) -> FhirAnswer:
        """Generate Metadata [ITI-106]. Raises Refused."""
        return await generate_metadata(resource, request, submitting=self._submitting(), read_cda=self.read_cda)

    def _submitting(self) -> Submitting:
        return Submitting(
            repository=self.repository,
            registered=RegisteredObjects(self.registry, self.codec),
            stored=self.stored,
            patients=PatientResolver(self.domain, AskedOnce(self.keys), self.elsewhere.patient),
            domain=self.domain,
            options=self.options,
            fhir_xml=self.fhir_xml,
            elsewhere=self.elsewhere,
            on_demand=self.on_demand,
            delayed=self.delayed,
            clock=self.clock,
            new_uuid=self.new_uuid,
        )

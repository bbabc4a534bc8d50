"""Provide Document Bundle [ITI-65], with the XDS on FHIR Option.

MHD 4.2.4, ITI TF-2: 3.65. The Bundle becomes a Provide and Register Document Set-b [ITI-41], which the repository is
handed as it is handed one that came by SOAP: the same rules, the same atomicity. What a registry or repository then
complains of is told at its place in the Bundle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from mhd.fhir.exact_text import Json
from mhd.fhir.operation_outcome import Refused
from mhd.mapping.domain import MhdDomain
from mhd.mapping.reading import Reading
from mhd.messages import FhirAnswer, FhirRequest
from mhd.patients import PatientResolver
from mhd.registered_objects import RegisteredObjects
from mhd.submitting.bundle_answer import Answering, StoredResources, Submitted, answer_of
from mhd.submitting.bundle_patches import judge_patches
from mhd.submitting.bundle_patient import patient_of_bundle
from mhd.submitting.bundle_profiles import Level, judge_profiles
from mhd.submitting.conditional_creates import is_conditional, judge_patient_condition, judge_rest
from mhd.submitting.delayed import Delayed
from mhd.submitting.document_contents import Contents, FhirXml, ProvidedDocuments, contents_of
from mhd.submitting.elsewhere import Elsewhere
from mhd.submitting.entry_conditions import judge_conditions, judge_matches
from mhd.submitting.on_demand import OnDemand
from mhd.submitting.resubmission import answer_to_resubmission, was_removed
from mhd.submitting.submission_draft import Draft, NewUuid, Registered, draft_of
from mhd.submitting.submission_lookup import looked_up
from mhd.submitting.submission_name import next_name, submission_name
from mhd.submitting.submission_options import SubmissionOptions
from mhd.submitting.submission_references import judge_references
from mhd.submitting.transaction_bundle import TransactionBundle, judge_parts, sound_bundle
from xds.actors import DocumentRepository, RegistryResponse
from xds.audit import Accessed
from xds.hl7v2 import CX
from xds.metadata import Submission


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitting:
    """Whom a submission by FHIR is handed to, and what it is judged with.

    fhir_xml    writes the document Bundles that a DocumentReference calls application/fhir+xml
    on_demand   None: on-demand documents are not taken
    delayed     None: delayed documents are not taken
    """

    repository: DocumentRepository
    registered: RegisteredObjects
    stored: StoredResources
    patients: PatientResolver
    domain: MhdDomain
    options: SubmissionOptions
    fhir_xml: FhirXml
    elsewhere: Elsewhere
    on_demand: OnDemand | None
    delayed: Delayed | None
    clock: Callable[[], datetime]
    new_uuid: NewUuid


async def provide_document_bundle(resource: Any, request: FhirRequest, *, submitting: Submitting) -> FhirAnswer:
    """Have the documents of a Bundle kept and registered: all of them, or none.

    resource   what was sent, not yet judged
    Raises Refused with all that is wrong.
    """
    submitted = await submit_bundle(resource, submitting=submitting, strict=request.strict)
    answering = Answering(submitting.domain, submitting.patients.keys, submitting.stored)
    return await answer_of(submitted, request, answering)


async def submit_bundle(
    resource: Any, *, submitting: Submitting, strict: bool = False, sent: Json | None = None
) -> Submitted:
    """The same, without an answer: for transactions that make a Bundle of what they are sent. Raises Refused.

    strict   the Bundle has to say which profile it meets
    sent     what they were sent, by which the submission is known when it comes again; None: the Bundle
    """
    options = submitting.options
    # Documents of many megabytes take a while to look through, and others are served meanwhile.
    bundle, name = await asyncio.to_thread(_sound_and_named, resource, options.entries_limit, sent)
    reading = Reading()
    judge_parts(bundle, reading)
    judge_conditions(bundle, reading)
    level = judge_profiles(bundle, options.minimal, reading, strict=strict)
    patient_id = await patient_of_bundle(bundle, submitting.patients, reading)
    try:
        return await _submitted(bundle, name, level, patient_id, reading, submitting)
    except Refused as refusal:
        refusal.accessed = Accessed.of(patient_id)
        raise


async def _submitted(
    bundle: TransactionBundle,
    name: UUID,
    level: Level,
    patient_id: CX | None,
    reading: Reading,
    submitting: Submitting,
) -> Submitted:
    """What is kept and registered of a Bundle of this patient, by a name of its own. Raises Refused."""
    options, domain = submitting.options, submitting.domain
    judge_references(bundle, domain, reading)
    contents = contents_of(
        bundle,
        domain=domain,
        options=options,
        elsewhere=submitting.elsewhere,
        on_demand=submitting.on_demand,
        delayed=submitting.delayed,
        fhir_xml=submitting.fhir_xml,
        reading=reading,
    )
    judge_patient_condition(bundle, patient_id, submitting.patients, reading)

    def drafted(name: UUID, lookup: Registered) -> Draft:
        return draft_of(
            bundle,
            patient_id=patient_id,
            registered=lookup,
            domain=domain,
            options=options,
            fills=level is Level.MINIMAL,
            on_demand=contents.on_demand,
            name=name,
            new_uuid=submitting.new_uuid,
            reading=reading,
        )

    async def attempted(lookup: Registered) -> tuple[Draft, RegistryResponse]:
        """What is made of the Bundle where this is registered, and what the repository says to it."""
        called = name
        draft = drafted(called, lookup)
        judge_patches(bundle, draft, domain, reading)
        await judge_matches(bundle, lookup, domain, submitting.stored, reading)
        judge_rest(bundle, lookup.there.keys(), draft.submission.objects, reading)
        if reading.failed:
            raise Refused(*reading.distinct())
        response = await _handed_over(draft, contents, submitting)
        while await was_removed(draft, response, submitting.registered):
            called = next_name(called)
            draft = drafted(called, lookup)
            response = await _handed_over(draft, contents, submitting)
        return draft, response

    lookup = await looked_up(bundle, domain, submitting.registered, reading)
    draft, response = await attempted(lookup)
    if not response.succeeded and is_conditional(bundle):
        # What was not there may have been registered meanwhile, and is why this is refused.
        now = await looked_up(bundle, domain, submitting.registered, reading)
        if now.there.keys() != lookup.there.keys():
            draft, response = await attempted(now)
    if not response.succeeded:
        raise await _refusal(draft, response, submitting.registered)
    return Submitted(bundle, draft, contents.documents, reading, response)


def _sound_and_named(resource: Any, entries_limit: int, sent: Json | None) -> tuple[TransactionBundle, UUID]:
    bundle = sound_bundle(resource, entries_limit=entries_limit)
    return bundle, submission_name(bundle.resource if sent is None else sent)


async def _handed_over(draft: Draft, contents: Contents, submitting: Submitting) -> RegistryResponse:
    """What the repository answers to the submission and its documents; to on-demand documents, the registry.

    Where everything is there already there is nothing to hand over.
    """
    if not draft.submission.objects:
        return RegistryResponse.of()
    contents = contents.without(draft.registered.there)
    if contents.on_demand and submitting.on_demand is not None:
        return await submitting.on_demand.registered(draft.submission)
    by_entry_uuid = {draft.entry_uuids[number]: content for number, content in contents.by_document.items()}
    at_once = {draft.entry_uuids[number] for number in contents.at_once}
    later = {draft.entry_uuids[number]: url for number, url in contents.delayed.items()}
    submission = _with_delayed(draft.submission, at_once, later)
    provided = ProvidedDocuments(submission, by_entry_uuid, frozenset(later))
    return await submitting.repository.provide_and_register(provided)


def _with_delayed(submission: Submission, at_once: Container[str], later: Mapping[str, str | None]) -> Submission:
    """The submission without hash and size of what is assembled only now, and with the URI of what is fetched later."""
    entries = (
        replace(each, hash=None, size=None)
        if each.entry_uuid in at_once
        else replace(each, uri=later.get(each.entry_uuid, each.uri))
        for each in submission.document_entries
    )
    return replace(submission, document_entries=tuple(entries))


async def _refusal(draft: Draft, response: RegistryResponse, registered: RegisteredObjects) -> Refused:
    """What the repository or the registry has against a submission, in FHIR's words."""
    again = await answer_to_resubmission(draft.submission, response, registered)
    if again is not None:
        return Refused(again)
    return Refused(*draft.places.issues(response.errors))

"""Simplified Publish [ITI-105]: one DocumentReference with the document inside of it.

MHD 4.2.4, ITI TF-2: 3.105. It is judged, kept and registered as the Bundle of Provide Document Bundle [ITI-65] that
says the same. relatesTo is done, as it is there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from mhd.fhir.fhir_profiles import profile_problems
from mhd.fhir.fhir_structure import structure_problems
from mhd.fhir.operation_outcome import Issue, IssueSeverity, IssueType, Outcome, Refused
from mhd.iti65_provide_document_bundle import Submitting
from mhd.mapping.identifiers import resource_id
from mhd.messages import Body, FhirAnswer, FhirRequest, PreferReturn
from mhd.submitting.bundle_answer import stored_resource, unless_unable
from mhd.submitting.conditional_creates import document_there
from mhd.submitting.single_document_bundle import submit_document
from xds.audit import Accessed, AccessedKind, AccessedObject
from xds.metadata import DocumentEntry

_PROFILE: Final = "IHE.MHD.SimplifiedPublish.DocumentReference"
_STORED: Final = Issue(IssueType.INFORMATIONAL, "The document is stored.", severity=IssueSeverity.INFORMATION)


async def simplified_publish(resource: Any, request: FhirRequest, *, submitting: Submitting) -> FhirAnswer:
    """Have one document kept and registered.

    resource   what was sent, not yet judged
    Raises Refused with all that is wrong.
    """
    if not submitting.options.simplified_publish:
        sentence = "Simplified Publish [ITI-105] is not offered here; send a Bundle [ITI-65]."
        raise Refused(Issue(IssueType.NOT_SUPPORTED, sentence, http=405))
    problems = structure_problems(resource, "DocumentReference") or profile_problems(resource, _PROFILE)
    if problems:
        raise Refused(*problems)
    condition = request.if_none_exist
    if condition is not None:
        there = await document_there(resource, condition, submitting.domain, submitting.registered)
        if there is not None:
            return await _answer(there, request, submitting)
    data = resource["content"][0]["attachment"]["data"]
    submitted = await submit_document(resource, data, sent=resource, submitting=submitting)
    [entry] = submitted.document_entries
    answer = await _answer(entry, request, submitting)
    return replace(answer, status=201, errors=submitted.response.errors, documents_kept=1)


async def _answer(entry: DocumentEntry, request: FhirRequest, submitting: Submitting) -> FhirAnswer:
    stored = await unless_unable(stored_resource(entry, submitting.stored)) or FhirAnswer(None)
    logical_id = resource_id(entry.logical_id or entry.entry_uuid)
    location = f"{submitting.domain.base}/DocumentReference/{logical_id}"
    accessed = Accessed.of(entry.patient_id, AccessedObject(AccessedKind.DOCUMENT_ENTRY, logical_id))
    return replace(stored, resource=_body(stored, request), location=location, accessed=accessed)


def _body(stored: FhirAnswer, request: FhirRequest) -> Body | None:
    """The DocumentReference, with a URL in place of the document, unless something else is preferred."""
    if request.prefer_return is PreferReturn.MINIMAL:
        return None
    if request.prefer_return is PreferReturn.OPERATION_OUTCOME:
        return Outcome((_STORED,)).resource()
    return stored.resource

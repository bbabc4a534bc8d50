"""Simplified Publish [ITI-105]: one DocumentReference with the document inside of it.

MHD 4.2.4, ITI TF-2: 3.105. It is judged, kept and registered as the Bundle of Provide Document Bundle [ITI-65] that
says the same. relatesTo is done, as it is there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from mhd.fhir.exact_text import Json
from mhd.fhir.fhir_profiles import profile_problems
from mhd.fhir.fhir_structure import structure_problems
from mhd.fhir.operation_outcome import Issue, IssueSeverity, IssueType, Outcome, Refused
from mhd.iti65_provide_document_bundle import Submitting
from mhd.mapping.identifiers import resource_id
from mhd.messages import FhirAnswer, FhirRequest, PreferReturn
from mhd.submitting.bundle_answer import stored_resource, unless_unable
from mhd.submitting.single_document_bundle import submit_document

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
    data = resource["content"][0]["attachment"]["data"]
    submitted = await submit_document(resource, data, sent=resource, submitting=submitting)
    [entry] = submitted.document_entries
    stored = await unless_unable(stored_resource(entry, submitting.stored)) or FhirAnswer(None)
    return replace(
        stored,
        resource=_body(stored, request),
        status=201,
        location=f"{submitting.domain.base}/DocumentReference/{resource_id(entry.entry_uuid)}",
        errors=submitted.response.errors,
        documents_kept=1,
    )


def _body(stored: FhirAnswer, request: FhirRequest) -> Json | bytes | None:
    """The DocumentReference, with a URL in place of the document, unless something else is preferred."""
    if request.prefer_return is PreferReturn.MINIMAL:
        return None
    if request.prefer_return is PreferReturn.OPERATION_OUTCOME:
        return Outcome((_STORED,)).resource()
    return stored.resource

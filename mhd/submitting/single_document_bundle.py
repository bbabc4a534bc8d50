"""One document as a Bundle of Provide Document Bundle [ITI-65], for the transactions that send no SubmissionSet.

The SubmissionSet is this server's (MHD 4.2.4, ITI TF-2: 3.105.4.1.3): its author is that of the document, its
contentTypeCode follows from the class of the document, its submissionTime is now.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from typing import Final

from mhd.fhir.canonicals import DESIGNATION_TYPE, LIST_TYPES, SOURCE_ID
from mhd.fhir.exact_text import Json
from mhd.fhir.operation_outcome import Issue, Refused
from mhd.iti65_provide_document_bundle import Submitting, submit_bundle
from mhd.mapping.codes import concept_of
from mhd.mapping.document_list import SUBMISSION_SET
from mhd.mapping.domain import MhdDomain
from mhd.mapping.identifiers import bare_unique_id
from mhd.submitting.bundle_answer import Submitted
from mhd.submitting.submission_options import SubmissionOptions

_SET, _DOCUMENT, _BINARY = (f"Bundle.entry[{number}].resource" for number in range(3))
_IN_THE_DOCUMENT: Final = {"subject": "subject", "source": "author[0]", "extension": "category"}
"""What of the DocumentReference becomes an element of the SubmissionSet."""


async def submit_document(document: Json, data: str | None, *, sent: Json, submitting: Submitting) -> Submitted:
    """Have a DocumentReference and its document kept and registered.

    data   base64
    sent   the resource that said all this
    Raises Refused; the places that it names are those of the DocumentReference, the document is its attachment.data.
    """
    bundle = _bundle(document, data, submitting)
    try:
        return await submit_bundle(bundle, submitting=submitting, sent=sent)
    except Refused as refusal:
        issues = {(each.expression, each.code): each for each in map(_in_the_document, refusal.outcome.issues)}
        raise Refused(*issues.values(), accessed=refusal.accessed) from None


def _bundle(document: Json, data: str | None, submitting: Submitting) -> Json:
    full_urls = [submitting.new_uuid().urn for _ in range(3)]
    attachment = document["content"][0]["attachment"]
    kept = {name: value for name, value in attachment.items() if name != "data"} | {"url": full_urls[2]}
    content = [document["content"][0] | {"attachment": kept}]
    binary = {"resourceType": "Binary", "contentType": attachment.get("contentType")}
    resources = [
        _submission_set(document, full_urls[1], submitting),
        document | {"content": content},
        binary | ({"data": data} if data else {}),
    ]
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {"fullUrl": url, "resource": each, "request": {"method": "POST", "url": each["resourceType"]}}
            for url, each in zip(full_urls, resources, strict=True)
        ],
    }


def _submission_set(document: Json, full_url: str, submitting: Submitting) -> Json:
    options, domain = submitting.options, submitting.domain
    concept = _content_type(document, options, domain)
    designation = [{"url": DESIGNATION_TYPE, "valueCodeableConcept": concept}] if concept else []
    found = {
        "resourceType": "List",
        "extension": [
            {"url": SOURCE_ID, "valueIdentifier": bare_unique_id(options.source_id, domain.code_systems)},
            *designation,
        ],
        "status": "current",
        "mode": "working",
        "code": {"coding": [{"system": LIST_TYPES, "code": SUBMISSION_SET}]},
        "date": submitting.clock().astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "entry": [{"item": {"reference": full_url}}],
    }
    for name in ("contained", "subject"):
        if name in document:
            found[name] = document[name]
    return found | ({"source": document["author"][0]} if document.get("author") else {})


def _content_type(document: Json, options: SubmissionOptions, domain: MhdDomain) -> Json | None:
    """The contentTypeCode that goes with the class of a document."""
    concepts: list[Json] = document.get("category", [])
    for coding in (coding for concept in concepts for coding in concept.get("coding", ())):
        coded = f"{coding.get('code')}^^{domain.code_systems.scheme_of(coding.get('system', ''))}"
        if coded in options.content_types:
            return concept_of(options.content_types[coded], domain.code_systems)
    return next(iter(concepts), None)


def _in_the_document(issue: Issue) -> Issue:
    """An issue of the Bundle, at its place in the DocumentReference."""
    path = issue.expression
    issue = replace(issue, text=issue.text.replace(_DOCUMENT, "DocumentReference"))
    if path.startswith(_DOCUMENT):
        return replace(issue, expression=f"DocumentReference{path.removeprefix(_DOCUMENT)}")
    if path.startswith(_SET):
        inner = path.removeprefix(f"{_SET}.").partition(".")[0].partition("[")[0]
        place = _IN_THE_DOCUMENT.get(inner)
        return replace(issue, expression=f"DocumentReference.{place}" if place else "DocumentReference")
    if path.startswith(_BINARY):
        return replace(issue, expression="DocumentReference.content[0].attachment.data")
    return replace(issue, expression="DocumentReference")

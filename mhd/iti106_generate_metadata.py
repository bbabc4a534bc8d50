"""Generate Metadata [ITI-106]: a document alone, whose metadata is read off its header.

MHD 4.2.4, ITI TF-2: 3.106. The document is a CDA document in a Binary, or a FHIR document as a Bundle. What its header
or Composition does not say comes from the settings of the affinity domain, and what they do not say either is told to
be missing.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from mhd.fhir.exact_text import Json
from mhd.fhir.fhir_json import written
from mhd.fhir.fhir_structure import structure_problems
from mhd.fhir.operation_outcome import Issue, IssueType, Refused, xds_issue
from mhd.iti65_provide_document_bundle import Submitting
from mhd.mapping.contained import contained_by_reference
from mhd.mapping.document_reference import entry_of, resource_of
from mhd.mapping.identifiers import resource_id
from mhd.mapping.reading import Reading
from mhd.messages import FHIR_XML, FhirAnswer, FhirRequest
from mhd.registered_objects import current
from mhd.submitting.composition import composition_of, document_reference_of
from mhd.submitting.single_document_bundle import submit_document
from mhd.submitting.submission_options import SubmissionOptions
from xds.audit import Accessed, AccessedKind, AccessedObject
from xds.cda_header import CdaHeader
from xds.errors import ErrorCode
from xds.hl7v2 import CX
from xds.metadata import Code, DocumentEntry, LocalizedString

CdaReader = Callable[[bytes], CdaHeader | None]
"""The header of a CDA document; None: it is no CDA. Raises ValueError for what is no XML."""

_PLACE: Final = "Parameters.parameter[0].resource"
_LONGEST_TITLE: Final = 128


async def generate_metadata(
    resource: Any, request: FhirRequest, *, submitting: Submitting, read_cda: CdaReader
) -> FhirAnswer:
    """Have a document kept, and registered with metadata of its own.

    A document that is registered already with these octets is answered as it is.
    Raises Refused with all that is wrong.
    """
    if not submitting.options.generate_metadata:
        sentence = "Generate Metadata [ITI-106] is not offered here; send a Bundle with the metadata [ITI-65]."
        raise Refused(Issue(IssueType.NOT_SUPPORTED, sentence, http=404))
    sent = _document(resource)
    if sent["resourceType"] == "Bundle":
        described = _described_by_its_composition(sent, request, submitting)
    else:
        described = await _described_by_its_header(sent, submitting, read_cda)
    entry = described.entry
    known = await _known(entry, described.octets, submitting)
    if known is not None:
        return _answer(known, entry.patient_id)
    document = resource_of(entry, domain=submitting.domain)
    try:
        submitted = await submit_document(document, described.base_64, sent=sent, submitting=submitting)
    except Refused as refusal:
        # Of two that come at the same moment, the second is told what the first made.
        known = await _known(entry, described.octets, submitting)
        if known is not None:
            return _answer(known, entry.patient_id)
        issues = map(_of_the_header, refusal.outcome.issues)
        raise Refused(*issues, accessed=refusal.accessed) from None
    made = submitted.document_entries[0]
    answer = _answer(made.entry_uuid, made.patient_id)
    return replace(answer, errors=submitted.response.errors, documents_kept=1)


def _answer(logical_id: str, patient_id: CX | None) -> FhirAnswer:
    document_id = resource_id(logical_id)
    reference = {"reference": f"DocumentReference/{document_id}", "type": "DocumentReference"}
    return FhirAnswer(
        {"resourceType": "Parameters", "parameter": [{"name": "DocumentReference", "valueReference": reference}]},
        accessed=Accessed.of(patient_id, AccessedObject(AccessedKind.DOCUMENT_ENTRY, document_id)),
    )


# What was sent -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Described:
    """A document, and what it says of itself."""

    entry: DocumentEntry
    octets: bytes
    base_64: str


def _document(resource: Any) -> Json:
    """The one Binary or document Bundle of the Parameters. Raises Refused."""
    problems = structure_problems(resource, "Parameters")
    if problems:
        raise Refused(*problems)
    parameters = resource.get("parameter", ())
    if [each["name"] for each in parameters] != ["document"] or "resource" not in parameters[0]:
        sentence = "Send exactly one parameter, with the name document and a Binary or document Bundle as its resource."
        raise Refused(_refused(sentence, "Parameters.parameter", IssueType.STRUCTURE))
    document: Json = parameters[0]["resource"]
    if document["resourceType"] not in ("Binary", "Bundle"):
        sentence = f"The document is a {document['resourceType']}; send a Binary or a document Bundle."
        raise Refused(_refused(sentence, _PLACE, IssueType.STRUCTURE))
    if document["resourceType"] == "Binary" and "data" not in document:
        sentence = "The Binary has no data; send the document."
        raise Refused(_refused(sentence, f"{_PLACE}.data", IssueType.REQUIRED))
    if document["resourceType"] == "Bundle" and composition_of(document) is None:
        sentence = "The Bundle is no document: send the type document, and a Composition as its first resource."
        raise Refused(_refused(sentence, _PLACE, IssueType.STRUCTURE))
    return document


async def _described_by_its_header(binary: Json, submitting: Submitting, read_cda: CdaReader) -> _Described:
    octets = binascii.a2b_base64(binary["data"])
    header = await asyncio.to_thread(_header, octets, read_cda)
    return _Described(entry_of_header(header, binary["contentType"], submitting), octets, binary["data"])


def _described_by_its_composition(document: Json, request: FhirRequest, submitting: Submitting) -> _Described:
    """Kept in the format in which it was sent."""
    octets = submitting.fhir_xml(document) if request.mime_type == FHIR_XML else written(document)
    reading = Reading()
    reference = document_reference_of(document, request.mime_type)
    contained = contained_by_reference(reference)
    patient = contained.get(reference.get("subject", {}).get("reference", ""))
    entry = entry_of(
        reference,
        domain=submitting.domain,
        patient_id=submitting.patients.of_patient(patient) if patient else None,
        entry_uuid=submitting.new_uuid().urn,
        path=_PLACE,
        reading=reading,
    )
    if reading.failed:
        raise Refused(*(_of_the_header(each) for each in reading.distinct()))
    return _Described(_filled(entry, submitting.options), octets, base64.b64encode(octets).decode())


def _filled(entry: DocumentEntry, options: SubmissionOptions) -> DocumentEntry:
    """The entry, with what only the settings know."""
    missing = {name for name in (*_CODES, "class_code") if not getattr(entry, name)}
    found: dict[str, Any] = {
        name: options.defaults.get(name, ()) if _CODES.get(name) else _default(name, options) for name in missing
    }
    if entry.type_code and entry.class_code is None:
        found["class_code"] = options.classes.get(entry.type_code.coded) or found.get("class_code")
    return replace(entry, **found, language_code=entry.language_code or options.default_language)


def _header(octets: bytes, read_cda: CdaReader) -> CdaHeader:
    try:
        header = read_cda(octets)
    except ValueError as problem:
        sentence = f"The document is no XML that can be read: {problem}"
        raise Refused(_refused(sentence, f"{_PLACE}.data", IssueType.STRUCTURE)) from None
    if header is None:
        sentence = "The document is no CDA document: its root is not ClinicalDocument of urn:hl7-org:v3."
        raise Refused(_refused(sentence, f"{_PLACE}.data", IssueType.NOT_SUPPORTED))
    return header


def _refused(sentence: str, path: str, issue_type: IssueType) -> Issue:
    return xds_issue(ErrorCode.REPOSITORY_METADATA_ERROR, sentence, path, issue_type=issue_type)


# What its header says ------------------------------------------------------------------------------------------------

_AS_IT_IS: Final = (
    "unique_id", "creation_time", "event_code_list", "service_start_time", "service_stop_time", "author",
    "legal_authenticator", "source_patient_info",
)  # fmt: skip
"""Attributes of the header that are those of the document; the others are in _CODES, or in functions of their own."""

_CODES: Final[Mapping[str, bool]] = {
    "type_code": False,
    "format_code": False,
    "healthcare_facility_type_code": False,
    "practice_setting_code": False,
    "confidentiality_code": True,
}
"""Coded attributes that the settings may fill in, and whether they have several codes."""


def entry_of_header(header: CdaHeader, mime_type: str, submitting: Submitting) -> DocumentEntry:
    """The metadata of a CDA document; where neither header nor settings know an attribute, it is not there."""
    options = submitting.options
    found = {name: getattr(header, name) for name in _AS_IT_IS}
    codes = {name: _code(name, header, options) for name in _CODES}
    patient_id = _patient_id(header, submitting)
    type_code = codes["type_code"]
    return DocumentEntry(
        entry_uuid=submitting.new_uuid().urn,
        mime_type=mime_type,
        patient_id=patient_id,
        source_patient_id=_source_patient_id(header, patient_id),
        title=(LocalizedString(header.title[:_LONGEST_TITLE]),) if header.title else (),
        language_code=header.language_code or options.default_language,
        class_code=options.classes.get(type_code.coded if type_code else "") or _default("class_code", options),
        **found,
        **codes,
    )


def _code(name: str, header: CdaHeader, options: SubmissionOptions) -> Any:
    said = getattr(header, name, None)
    if _CODES[name]:
        return tuple(_shown(each) for each in said) if said else options.defaults.get(name, ())
    return _shown(said) if said else _default(name, options)


def _shown(code: Code) -> Code:
    """XDS needs something to show."""
    return code if code.display_name else replace(code, display_name=(LocalizedString(code.code or ""),))


def _default(name: str, options: SubmissionOptions) -> Code | None:
    return next(iter(options.defaults.get(name, ())), None)


def _patient_id(header: CdaHeader, submitting: Submitting) -> CX | None:
    """The first id of the patient that the affinity domain goes by."""
    domain = submitting.domain
    ids = (each for each in header.patient_ids if domain.is_authority(each.assigning_authority.universal_id))
    return next(ids, None)


def _source_patient_id(header: CdaHeader, patient_id: CX | None) -> CX | None:
    others = (each for each in header.patient_ids if each != patient_id)
    return next(others, patient_id)


# What is registered of it already ------------------------------------------------------------------------------------


async def _known(entry: DocumentEntry, octets: bytes, submitting: Submitting) -> str | None:
    """The logicalID of this very document, where it is registered for this patient."""
    if entry.unique_id is None:
        return None
    found = current(await submitting.registered.documents(unique_ids=[entry.unique_id]))
    sha1 = hashlib.sha1(octets, usedforsecurity=False).hexdigest()
    if found is None or found.patient_id != entry.patient_id or (found.hash or "").lower() != sha1:
        return None
    return found.logical_id or found.entry_uuid


def _of_the_header(issue: Issue) -> Issue:
    """An issue of metadata that the sender did not write: it speaks of the document."""
    return replace(issue, expression=_PLACE)

"""The one patient whom everything in a Bundle is about."""

from __future__ import annotations

from collections.abc import Mapping

from mhd.fhir.exact_text import Json
from mhd.fhir.operation_outcome import IssueType
from mhd.mapping.contained import contained_by_reference
from mhd.mapping.domain import MhdDomain
from mhd.mapping.reading import Reading
from mhd.patients import PatientResolver, as_sent
from mhd.submitting.transaction_bundle import BundleEntry, Part, TransactionBundle
from xds.errors import ErrorCode
from xds.hl7v2 import CX

_ABOUT_A_PATIENT = frozenset({Part.SUBMISSION_SET, Part.DOCUMENT, Part.FOLDER})


async def patient_of_bundle(bundle: TransactionBundle, patients: PatientResolver, reading: Reading) -> CX | None:
    """The patient of the SubmissionSet, or of the first resource that names one; None, with issues: there is none."""
    named: dict[int, CX] = {}
    entries = [each for each in bundle.entries if each.part in _ABOUT_A_PATIENT]
    for entry in entries:
        subject = entry.resource.get("subject")
        if subject is None:
            continue
        path = f"{entry.resource_path}.subject"
        asked = _as_asked(entry, subject, bundle)
        found = await patients.of_subject(asked, _patients_in_reach(entry, asked, bundle), path)
        if found.problem is not None:
            reading.issues.append(found.problem)
        if found.patient_id is not None:
            named[entry.number] = found.patient_id
            if asked.get("reference", "").startswith("#"):
                reading.warn(
                    path,
                    "The contained Patient of the subject is not kept, but his identifier; send subject.identifier.",
                )
    sets = bundle.of(Part.SUBMISSION_SET)
    first = next((each for each in (*sets, *entries) if each.number in named), None)
    if first is None:
        if sets and "subject" not in sets[0].resource:
            reading.refuse(
                f"{sets[0].resource_path}.subject",
                "No resource of the Bundle names the patient; send the subject: XDS needs it as patientId.",
                IssueType.REQUIRED,
                ErrorCode.REGISTRY_METADATA_ERROR,
            )
        return None
    _judge_others(named, first, bundle, patients.domain, reading)
    return named[first.number]


def _judge_others(
    named: Mapping[int, CX], first: BundleEntry, bundle: TransactionBundle, domain: MhdDomain, reading: Reading
) -> None:
    for number, patient_id in named.items():
        if patient_id != named[first.number]:
            reading.refuse(
                f"{bundle.entries[number].resource_path}.subject",
                "All resources of a submission have to be about one patient; send several Bundles.",
                IssueType.BUSINESS_RULE,
                ErrorCode.PATIENT_ID_DOES_NOT_MATCH,
                diagnostics=f"entry[{first.number}] has {as_sent(first.resource['subject'], domain)}, "
                f"entry[{number}] has {as_sent(bundle.entries[number].resource['subject'], domain)}",
            )


def _as_asked(entry: BundleEntry, subject: Json, bundle: TransactionBundle) -> Json:
    """A subject whose Patient the Bundle only asks for (GET) means what is asked for."""
    target = bundle.target(subject.get("reference", ""), entry)
    if target is None or target.part is not Part.PATIENT or target.resource:
        return subject
    return subject | {"reference": target.url}


def _patients_in_reach(entry: BundleEntry, subject: Json, bundle: TransactionBundle) -> Mapping[str, Json]:
    """The Patients that a subject may refer to: those contained, and the one of the Bundle."""
    found = dict(contained_by_reference(entry.resource))
    target = bundle.target(subject.get("reference", ""), entry)
    if target is not None and target.part is Part.PATIENT:
        found[subject["reference"]] = target.resource
    return found

"""Valid metadata to start a test from. A test states only what it is about: `document_entry(type_code=None)`.

Every call gives new entryUUIDs and uniqueIds. Objects are as a source sends them in Register Document Set-b [ITI-42];
`unmeasured` makes them what a source of [ITI-41] knows, `registered` what a registry returns.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar
from uuid import uuid4

from xds.hl7v2 import CX, DTM, XCN, XON, XTN, CXi
from xds.metadata import (
    AnyObject,
    Association,
    AssociationType,
    Author,
    AvailabilityStatus,
    Classification,
    Code,
    DocumentEntry,
    ExternalIdentifier,
    Folder,
    InternationalString,
    LocalizedString,
    Slot,
    Submission,
    SubmissionSet,
)

Registrable = TypeVar("Registrable", DocumentEntry, SubmissionSet, Folder, Association)

PATIENT_AUTHORITY = "2.16.840.1.113883.2.1.4.1"
PATIENT = CX.of("9434765919", PATIENT_AUTHORITY)
OTHER_PATIENT = CX.of("9434765870", PATIENT_AUTHORITY)
REPOSITORY = "2.25.329800735698586629295641978511506172918"
SOURCE = "2.25.112764926371947310284661003947261194730"
LOINC = "2.16.840.1.113883.6.1"
SNOMED_CT = "2.16.840.1.113883.6.96"
CONFIDENTIALITY = "2.16.840.1.113883.5.25"
FORMATS = "1.3.6.1.4.1.19376.1.2.3"

CONTENT = b"Toimik"
"""The document that `document_entry` describes: these are its hash and size."""
CONTENT_HASH = "5def7502f927c545618411960264a12dc2d46267"


def entry_uuid() -> str:
    """A new entryUUID."""
    return uuid4().urn


def oid() -> str:
    """A new OID, made from a UUID (ITU-T X.667)."""
    return f"2.25.{uuid4().int}"


def text(value: str, language: str | None = None, charset: str | None = None) -> InternationalString:
    return (LocalizedString(value, language, charset),)


def code(value: str, scheme: str = LOINC, display: str | None = None) -> Code:
    return Code(value, scheme, text(display or f"The meaning of {value}"))


def author(**changes: Any) -> Author:
    valid = Author(
        author_person=XCN("Tamm^Mari^^^^dr"),
        author_institution=(XON("Tartu Kliinikum^^^^^&2.25.7331&ISO^^^^90001478"),),
    )
    return replace(valid, **changes)


def document_entry(**changes: Any) -> DocumentEntry:
    """A stable document with the attributes that ITI-42 requires, of PATIENT."""
    valid = DocumentEntry(
        entry_uuid=entry_uuid(),
        unique_id=oid(),
        patient_id=PATIENT,
        title=text("Discharge summary", "en"),
        author=(author(),),
        class_code=code("18842-5", display="Discharge summary"),
        confidentiality_code=(code("N", CONFIDENTIALITY, "normal"),),
        creation_time=DTM("20260314101500"),
        format_code=code("urn:ihe:iti:xds-sd:text:2008", FORMATS, "Scanned document, text"),
        hash=CONTENT_HASH,
        healthcare_facility_type_code=code("22232009", SNOMED_CT, "Hospital"),
        language_code="et-EE",
        mime_type="text/plain",
        practice_setting_code=code("408443003", SNOMED_CT, "General medical practice"),
        repository_unique_id=REPOSITORY,
        size=str(len(CONTENT)),
        source_patient_id=CX.of("T-4711", "2.25.7331"),
        type_code=code("11490-0", display="Physician discharge summary"),
    )
    return replace(valid, **changes)


def full_document_entry(**changes: Any) -> DocumentEntry:
    """An entry with every attribute of ITI TF-3 Table 4.2.3.2-1, and with metadata beyond it."""
    return replace(
        document_entry(
            version="1",
            version_comment="first",
            home_community_id="urn:oid:2.25.5150",
            availability_status=AvailabilityStatus.APPROVED,
            title=(
                LocalizedString("Discharge summary", "en", "UTF-8"),
                LocalizedString("Epikriis: süda & veresooned", "et", "UTF-8"),
            ),
            comments=text("As dictated <on the ward>", "en"),
            author=(author(author_role=("attending",), author_telecommunication=(XTN("^^Internet^mari@example.org"),)),
                    author(author_person=XCN("40112^Kask^Jaan^^^^^^&2.25.7331&ISO"), author_institution=(),
                           author_role=("resident", "ward physician"), author_specialty=("Cardiology",))),
            confidentiality_code=(code("N", CONFIDENTIALITY, "normal"), code("R", CONFIDENTIALITY, "restricted")),
            document_availability="urn:ihe:iti:2010:DocumentAvailability:Online",
            event_code_list=(code("29303009", SNOMED_CT, "Electrocardiogram"), code("T-32000", "SRT", "Heart")),
            legal_authenticator=XCN("40112^Kask^Jaan^^^^^^&2.25.7331&ISO"),
            reference_id_list=(
                CXi("2026-000123^^^&2.25.7331&ISO^urn:ihe:iti:xds:2013:accession"),
                CXi("1.2.840.113619.2.62.994^^^^urn:ihe:iti:xds:2016:studyInstanceUID"),
            ),
            service_start_time=DTM("202603"),
            service_stop_time=DTM("2026031410"),
            source_patient_info=("PID-3|T-4711^^^&2.25.7331&ISO", "PID-5|Saar^Liis^^^", "PID-7|19800229", "PID-8|F"),
            uri="epikriis.txt",
            extra_slots=(Slot("urn:example:ward", ("7", "7b"), "urn:example:WardList"),),
            extra_classifications=(
                Classification(
                    "urn:uuid:6d1c7a3a-5a1c-4b58-9e0c-3a1f6f1f7f10",
                    "triage-2",
                    slots=(Slot("codingScheme", ("urn:example:triage",)), Slot("note")),
                    name=text("Orange"),
                    description=text("Seen within ten minutes", "en"),
                ),
            ),
            extra_identifiers=(
                ExternalIdentifier(
                    "urn:uuid:0b6b2f0e-6f57-4f0c-8c0f-2a5b8d7d9a11", "C-0815", text("Local case number"),
                ),
            ),
        ),
        **changes,
    )  # fmt: skip


def submission_set(**changes: Any) -> SubmissionSet:
    valid = SubmissionSet(
        entry_uuid=entry_uuid(),
        unique_id=oid(),
        patient_id=PATIENT,
        title=text("Discharge of 14 March"),
        author=(author(),),
        content_type_code=code("34133-9", display="Summarization of episode"),
        source_id=SOURCE,
        submission_time=DTM("20260314102000"),
    )
    return replace(valid, **changes)


def folder(**changes: Any) -> Folder:
    valid = Folder(
        entry_uuid=entry_uuid(),
        unique_id=oid(),
        patient_id=PATIENT,
        title=text("Heart failure 2026"),
        code_list=(code("84114007", SNOMED_CT, "Heart failure"),),
    )
    return replace(valid, **changes)


def association(association_type: str, source: AnyObject | str, target: AnyObject | str, **changes: Any) -> Association:
    """An association between two objects, or between objects of which only the entryUUID is known."""
    valid = Association(
        entry_uuid=entry_uuid(),
        association_type=association_type,
        source_object=source if isinstance(source, str) else source.entry_uuid,
        target_object=target if isinstance(target, str) else target.entry_uuid,
    )
    return replace(valid, **changes)


def has_member(source: SubmissionSet | Folder, target: AnyObject | str, **changes: Any) -> Association:
    """source HasMember target, as the standard wants it: `Original` where a SubmissionSet brings a DocumentEntry."""
    brings = isinstance(source, SubmissionSet) and isinstance(target, DocumentEntry)
    valid = association(
        AssociationType.HAS_MEMBER, source, target, submission_set_status="Original" if brings else None
    )
    return replace(valid, **changes)


def submission(
    *entries: DocumentEntry,
    folders: tuple[Folder, ...] = (),
    associations: tuple[Association, ...] = (),
    **changes: Any,
) -> Submission:
    """A SubmissionSet with these objects, and a HasMember for each of them that needs one.

    associations   between them (or with registered objects); those from a Folder become members of the SubmissionSet
    changes        of the SubmissionSet; its patient is that of the first entry or Folder
    """
    patients = [each.patient_id for each in entries] + [each.patient_id for each in folders]
    owner = submission_set(**({"patient_id": patients[0]} if patients else {}) | changes)
    memberships = (each for each in associations if each.association_type == AssociationType.HAS_MEMBER)
    members: list[AnyObject] = [*entries, *folders]
    members.extend(each for each in memberships if each.source_object != owner.entry_uuid)
    return Submission(
        submission_sets=(owner,),
        document_entries=entries,
        folders=folders,
        associations=(*(has_member(owner, each) for each in members), *associations),
    )


def unmeasured(entry: DocumentEntry) -> DocumentEntry:
    """The entry without what only a repository can know: what a source sends with ITI-41."""
    return replace(entry, hash=None, size=None, repository_unique_id=None)


def registered(item: Registrable, **changes: Any) -> Registrable:
    """The object as a registry returns it: Approved, first version."""
    lasting: dict[str, Any] = {
        "availability_status": AvailabilityStatus.APPROVED,
        "logical_id": item.entry_uuid,
        "version": "1",
    }
    return replace(item, **lasting | changes)

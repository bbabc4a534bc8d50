"""[submissions] and [limits]: how strict a server is, and how much it takes."""

from __future__ import annotations

from enum import StrEnum

from pydantic import (
    Field,
)

from server.settings.affinity_domain import Policy
from server.settings.setting_forms import MIB, Table


class InlineDocuments(StrEnum):
    """What becomes of documents that come as base64 in a message without MTOM."""

    LENIENT = "lenient"
    STRICT = "strict"


class SubmissionSettings(Table):
    """[submissions]"""

    inline_documents: InlineDocuments = Field(
        InlineDocuments.LENIENT,
        description="what becomes of an ITI-41 without MTOM, with its documents inside as base64: taken, with a "
        "warning in the log, one for each source (lenient), or refused with a fault that asks for MTOM (strict)",
    )
    source_patient_info: Policy = Field(
        Policy.REJECT,
        description="reject, warn of or accept a sourcePatientInfo that breaks the rules, such as PID-7 with a date "
        "that is not YYYYMMDD; it comes back as it was sent in any case",
    )


class Limits(Table):
    """[limits]: each one is answered in words when a message crosses it."""

    envelope_bytes: int = Field(
        16 * MIB,
        ge=64 * 1024,
        description="largest SOAP envelope; documents sent inline as base64 count, MTOM parts do not",
    )
    included_bytes: int = Field(
        1 * MIB,
        ge=0,
        description="most octets of MTOM parts that an envelope refers to elsewhere than in a Document, such as "
        "certificates",
    )
    document_bytes: int = Field(4096 * MIB, ge=1, description="largest document of a submission")
    fhir_bytes: int = Field(
        64 * MIB,
        ge=64 * 1024,
        description="largest FHIR resource that is sent here; the documents in a Bundle count, as base64",
    )
    fhir_entries: int = Field(3000, ge=3, description="most entries of a Bundle that is sent here")
    url_bytes: int = Field(
        32 * 1024,
        ge=8 * 1024,
        description="longest URL of a request. That of the next page of a FHIR search holds the search, so a proxy "
        "should let as long ones pass",
    )
    documents_per_submission: int = Field(1000, ge=1, description="most documents in one ITI-41")
    documents_per_retrieve: int = Field(1000, ge=1, description="most documents asked for in one ITI-43")
    inline_answer_bytes: int = Field(
        64 * MIB,
        ge=1,
        description="most octets of documents in one ITI-43 answer without MTOM, where they become base64",
    )
    results: int = Field(1000, ge=1, description="most objects in one ITI-18 answer with LeafClass")
    requests_at_once: int = Field(256, ge=1, description="requests served at the same time by one worker")
    large_answer_bytes: int = Field(
        MIB, ge=1, description="an answer with more octets of metadata is a large one, and is sent piece by piece"
    )
    large_answers_at_once: int = Field(
        32, ge=1, description="large answers that one worker sends at the same time; it is busy for further ones"
    )
    idle_seconds: float = Field(60.0, gt=0, description="how long a sender may pause in the middle of a message")
    store_seconds: float = Field(20.0, gt=0, description="how long a transaction may wait for the metadata store")
    min_free_bytes: int = Field(
        64 * MIB, ge=0, description="documents are refused when the disk has less room than this"
    )

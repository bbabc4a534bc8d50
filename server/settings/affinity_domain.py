"""[patients] and [codes]: what the affinity domain has agreed on."""

from __future__ import annotations

from enum import StrEnum

from pydantic import (
    Field,
)

from server.settings.setting_forms import MIB, NumberKind, Oid, SystemUri, Table


class Policy(StrEnum):
    """What happens to a value that is not as it should be."""

    REJECT = "reject"
    WARN = "warn"
    ACCEPT = "accept"


class PatientPolicy(StrEnum):
    """Which patient ids a submission may name."""

    OPEN = "open"
    KNOWN = "known"


class NumberPolicy(StrEnum):
    """What happens to a number that its authority can not have given out."""

    REJECT = "reject"
    WARN = "warn"
    OFF = "off"


class AssigningAuthority(Table):
    """Who numbers patients."""

    oid: Oid = Field(description="OID of the assigning authority")
    name: str = Field("", description="for people")
    namespace_id: str = Field("", description="what HL7 v2 senders write instead of the OID: 123^^^NHS")
    uri: SystemUri = Field(
        "",
        description="what FHIR apps write instead of the OID, as the system of an Identifier: "
        "https://fhir.nhs.uk/Id/nhs-number. What is registered is told so after toimik reindex",
    )
    number: NumberKind = Field(
        "", description="kind of number, whose check digits are checked: gb.nhs, ee.ik, or another of python-stdnum"
    )
    number_policy: NumberPolicy = Field(
        NumberPolicy.REJECT, description="reject, warn of, or with off let pass a number that can not be right"
    )


class PatientSettings(Table):
    """[patients]"""

    policy: PatientPolicy = Field(
        PatientPolicy.OPEN,
        description="open: any well-formed id of one of assigning_authorities is a known patient; "
        "known: only those that a feed or `toimik patients import` has named",
    )
    assigning_authorities: tuple[AssigningAuthority, ...] = Field(
        (), description="authorities whose ids are accepted; none: every authority"
    )
    mllp_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port to listen on for HL7 v2 over MLLP, which brings patient identity feeds (ITI-8, ITI-64), with "
        "TLS as [tls] says; 0 for any free one; by default none",
    )
    link_change_code: str = Field(
        "ITI-64^^IHE Transactions",
        pattern=r"^[^^]+\^\^[^^]+$",
        description="contentTypeCode, as code^^scheme, of the SubmissionSets that ITI-64 makes",
    )
    mllp_message_bytes: int = Field(1 * MIB, ge=4096, description="largest HL7 v2 message")
    mllp_idle_seconds: float = Field(
        3600.0, gt=0, description="how long a connection for HL7 v2 may be without a message"
    )
    mllp_connections: int = Field(64, ge=1, description="most connections for HL7 v2 at a time, of one worker")


class CodedValue(Table):
    """One code of a code set."""

    code: str
    scheme: str = Field(description="codingScheme: an OID, or whatever the affinity domain agreed on")
    display: str = ""


class CodeSet(Table):
    """[codes.<attribute>]: the codes that an attribute may have."""

    policy: Policy = Field(Policy.ACCEPT, description="reject, warn or accept a code that is not among values")
    values: tuple[CodedValue | str, ...] = Field(
        (), description="{code, scheme, display}; plain text for mime_type and language_code"
    )


CODED_ATTRIBUTES = frozenset(
    {
        "class_code", "code_list", "confidentiality_code", "content_type_code", "documentation", "event_code_list",
        "format_code",
        "healthcare_facility_type_code", "language_code", "mime_type", "practice_setting_code", "type_code",
    }
)  # fmt: skip

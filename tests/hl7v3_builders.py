"""HL7 v3 messages of a patient identity source, as ITI-44 has them."""

from __future__ import annotations

from xds.hl7v2 import CX


def patient_feed(interaction: str, patient: CX | None, prior: CX | None = None, *, extra: str = "") -> bytes:
    """PRPA_IN201301UV02 (added), 201302 (revised) or 201304 (duplicates resolved).

    extra   more XML after the patient's id, as real senders have it
    """
    replacement = (
        ""
        if prior is None
        else '<replacementOf typeCode="RPLC"><priorRegistration classCode="REG" moodCode="EVN">'
        '<statusCode code="obsolete"/><subject1 typeCode="SBJ"><priorRegisteredRole classCode="PAT">'
        f"{_id(prior)}</priorRegisteredRole></subject1></priorRegistration></replacementOf>"
    )
    return (
        f'<{interaction} xmlns="urn:hl7-org:v3" ITSVersion="XML_1.0">'
        '<id root="1.2.840.114350.1.13.0.1.7.1.1" extension="35423"/><creationTime value="20260314103015"/>'
        f'<interactionId root="2.16.840.1.113883.1.6" extension="{interaction}"/>'
        '<processingCode code="P"/><processingModeCode code="T"/><acceptAckCode code="AL"/>'
        '<receiver typeCode="RCV"><device classCode="DEV" determinerCode="INSTANCE"><id root="1.2.3.1"/></device>'
        '</receiver><sender typeCode="SND"><device classCode="DEV" determinerCode="INSTANCE"><id root="1.2.3.2"/>'
        '</device></sender><controlActProcess classCode="CACT" moodCode="EVN"><code code="PRPA_TE201301UV02"/>'
        '<subject typeCode="SUBJ"><registrationEvent classCode="REG" moodCode="EVN"><statusCode code="active"/>'
        f'<subject1 typeCode="SBJ"><patient classCode="PAT">{"" if patient is None else _id(patient)}{extra}'
        '<statusCode code="active"/><patientPerson classCode="PSN" determinerCode="INSTANCE"><name>'
        "<given>Jane</given><family>Doe</family></name></patientPerson></patient></subject1>"
        "<custodian/>"
        f"{replacement}</registrationEvent></subject></controlActProcess></{interaction}>"
    ).encode()


def _id(patient: CX) -> str:
    return f'<id root="{patient.assigning_authority.universal_id}" extension="{patient.id_number}"/>'

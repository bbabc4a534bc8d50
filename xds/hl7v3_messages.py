"""HL7 v3 messages of patient identity feeds: what of them a registry reads, and their acknowledgment.

ITI TF-2: 3.44 and Appendix O. The grammar is schemas/xsd/hl7v3-patient-feed.xsd; what comes here is valid.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

from xds.hl7v2 import CX
from xds.hl7v3 import InstanceIdentifier, PatientFeedMessage, Refusal

NAMESPACE: Final = "urn:hl7-org:v3"
ACKNOWLEDGEMENT: Final = "MCCI_IN000002UV01"
_NS = {"v3": NAMESPACE}
_PATIENT = "v3:controlActProcess/v3:subject/v3:registrationEvent/v3:subject1/v3:patient/v3:id"
_PRIOR = (
    "v3:controlActProcess/v3:subject/v3:registrationEvent/v3:replacementOf/v3:priorRegistration/v3:subject1/"
    "v3:priorRegisteredRole/v3:id"
)


def read_patient_feed(message: etree._Element) -> PatientFeedMessage:
    """A message that is valid."""
    processing = message.find("v3:processingCode", _NS)
    return PatientFeedMessage(
        _identifier_of(message.find("v3:id", _NS)),
        _identifier_of(message.find("v3:sender/v3:device/v3:id", _NS)),
        _identifier_of(message.find("v3:receiver/v3:device/v3:id", _NS)),
        "P" if processing is None else processing.get("code", "P"),
        len(message.findall("v3:controlActProcess/v3:subject", _NS)),
        tuple(_identifiers(message, _PATIENT)),
        tuple(_identifiers(message, _PRIOR)),
    )


def _identifiers(message: etree._Element, path: str) -> Iterator[CX]:
    """Those that have a number."""
    for element in message.findall(path, _NS):
        identifier = _identifier_of(element)
        if identifier.extension:
            yield CX.of(identifier.extension, identifier.root)


def acknowledgement(
    message: PatientFeedMessage, refusal: Refusal | None, *, message_id: InstanceIdentifier, now: datetime
) -> bytes:
    """MCCI_IN000002UV01: CA, or CE where the message is refused, or CR where it may be sent again."""
    code, detail = "CA", ""
    if refusal is not None:
        code = "CR" if refusal.again else "CE"
        detail = (
            f'<acknowledgementDetail typeCode="E"><code code="{refusal.code.value}" '
            f'codeSystem="2.16.840.1.113883.5.1100"/><text>{escape(refusal.sentence)}</text></acknowledgementDetail>'
        )
    return (
        f'<{ACKNOWLEDGEMENT} xmlns="{NAMESPACE}" ITSVersion="XML_1.0">{_as_xml(message_id)}'
        f'<creationTime value="{now.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")}"/>'
        f'<interactionId root="2.16.840.1.113883.1.6" extension="{ACKNOWLEDGEMENT}"/>'
        f"<processingCode code={quoteattr(message.processing_code)}/>"
        '<processingModeCode code="T"/><acceptAckCode code="NE"/>'
        f"{_device('receiver', 'RCV', message.sender)}{_device('sender', 'SND', message.receiver)}"
        f'<acknowledgement><typeCode code="{code}"/>{detail}'
        f"<targetMessage>{_as_xml(message.message_id)}</targetMessage></acknowledgement></{ACKNOWLEDGEMENT}>"
    ).encode()


def _device(role: str, type_code: str, identifier: InstanceIdentifier) -> str:
    return (
        f'<{role} typeCode="{type_code}"><device classCode="DEV" determinerCode="INSTANCE">{_as_xml(identifier)}'
        f"</device></{role}>"
    )


def _identifier_of(element: etree._Element | None) -> InstanceIdentifier:
    if element is None:
        return InstanceIdentifier()
    return InstanceIdentifier(element.get("root", "").strip(), element.get("extension", "").strip())


def _as_xml(identifier: InstanceIdentifier) -> str:
    extension = f" extension={quoteattr(identifier.extension)}" if identifier.extension else ""
    root = f" root={quoteattr(identifier.root)}" if identifier.root else ' nullFlavor="NI"'
    return f"<id{root}{extension}/>"

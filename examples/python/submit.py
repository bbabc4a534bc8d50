"""Provide and Register Document Set-b [ITI-41] with nothing but the standard library: SOAP 1.2 and MTOM by hand.

    python examples/python/submit.py http://127.0.0.1:8080/xds/repository 'ID^^^&OID&ISO' FILE

Prints the uniqueId of the new document. Exit code: 0 registered, 1 refused. The metadata is the least that XDS asks
for; its codes are among those of schemas/samples/affinity-domain.toml.
"""

# ruff: noqa: S310, S314, T201 - it is a script: it prints, and talks to the server that it is told to

from __future__ import annotations

import mimetypes
import re
import sys
import urllib.error
import urllib.request
import uuid
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

ACTION = "urn:ihe:iti:2007:ProvideAndRegisterDocumentSet-b"
OBJECT = "urn:oasis:names:tc:ebxml-regrep:ObjectType:RegistryObject:"
LOINC = "2.16.840.1.113883.6.1"
SNOMED_CT = "2.16.840.1.113883.6.96"
SOAP = "{http://www.w3.org/2003/05/soap-envelope}"
RS = "{urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0}"


def main(repository: str, patient_id: str, file: Path) -> int:
    mime_type = mimetypes.guess_type(file)[0] or "application/octet-stream"
    unique_id = new_oid()
    # The message: an envelope that names the document by its Content-ID, then the document's bytes as they are.
    boundary = f"toimik-{uuid.uuid4()}"
    head = "\r\n".join((
        f"--{boundary}",
        'Content-Type: application/xop+xml; charset=UTF-8; type="application/soap+xml"',
        "Content-Transfer-Encoding: binary",
        "Content-ID: <envelope@example.org>",
        "",
        envelope(repository, patient_id, file.name, mime_type, unique_id),
        f"--{boundary}",
        f"Content-Type: {mime_type}",
        "Content-Transfer-Encoding: binary",
        "Content-ID: <document@example.org>",
        "", "",
    ))  # fmt: skip
    message = head.encode() + file.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    content_type = (
        f'multipart/related; boundary="{boundary}"; type="application/xop+xml"; start="<envelope@example.org>"; '
        f'start-info="application/soap+xml"; action="{ACTION}"'
    )
    request = urllib.request.Request(repository, message, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request) as response:
            answer = response.read().decode()
    except urllib.error.HTTPError as refusal:  # a SOAP fault
        answer = refusal.read().decode()
    return 0 if told(answer, unique_id) else 1


def told(answer: str, unique_id: str) -> bool:
    """Print what an answer says: Success, a Failure with its errors, or a SOAP fault."""
    # An MTOM message is answered with one: the envelope is the part between the MIME headers and the last boundary.
    envelope = re.search(r"<(\w*:?)Envelope\b.*</\1Envelope>", answer, re.DOTALL)
    if envelope is None:
        raise ValueError(f"no SOAP: {answer}")
    xml = ElementTree.fromstring(envelope[0])
    for fault in xml.iter(f"{SOAP}Text"):
        print(f"Fault: {fault.text}")
        return False
    for error in xml.iter(f"{RS}RegistryError"):
        print(f"{error.get('errorCode')}: {error.get('codeContext')}")
    (status,) = (response.get("status", "").rpartition(":")[2] for response in xml.iter(f"{RS}RegistryResponse"))
    registered = status == "Success"
    print(f"{status}: {unique_id}" if registered else status)
    return registered


def envelope(to: str, patient_id: str, title: str, mime_type: str, unique_id: str) -> str:
    now = datetime.now(UTC).strftime("%Y%m%d%H%M%S")
    return f"""\
<soap:Envelope xmlns:soap="http://www.w3.org/2003/05/soap-envelope" xmlns:wsa="http://www.w3.org/2005/08/addressing">
<soap:Header>
<wsa:To>{escape(to)}</wsa:To>
<wsa:Action soap:mustUnderstand="true">{ACTION}</wsa:Action>
<wsa:MessageID>{uuid.uuid4().urn}</wsa:MessageID>
<wsa:ReplyTo><wsa:Address>http://www.w3.org/2005/08/addressing/anonymous</wsa:Address></wsa:ReplyTo>
</soap:Header>
<soap:Body>
<xdsb:ProvideAndRegisterDocumentSetRequest xmlns:xdsb="urn:ihe:iti:xds-b:2007">
<lcm:SubmitObjectsRequest xmlns:lcm="urn:oasis:names:tc:ebxml-regrep:xsd:lcm:3.0">
<RegistryObjectList xmlns="urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0">
{document_entry(patient_id, title, mime_type, unique_id, now)}
{submission_set(patient_id, now)}
{has_member()}
</RegistryObjectList>
</lcm:SubmitObjectsRequest>
<xdsb:Document id="Document01"><xop:Include xmlns:xop="http://www.w3.org/2004/08/xop/include" \
href="cid:document@example.org"/></xdsb:Document>
</xdsb:ProvideAndRegisterDocumentSetRequest>
</soap:Body>
</soap:Envelope>"""


def document_entry(patient_id: str, title: str, mime_type: str, unique_id: str, now: str) -> str:
    """ITI TF-3: 4.2.3.2. The repository adds size, hash and repositoryUniqueId."""
    of = "Document01"
    return "\n".join((
        f'<ExtrinsicObject id="{of}" mimeType="{mime_type}" '
        'objectType="urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1">',
        slot("creationTime", now),
        slot("languageCode", "en-GB"),
        slot("sourcePatientId", patient_id),
        name(title),
        code(of, "urn:uuid:41a5887f-8865-4c09-adf7-e362475b143a", "11506-3", LOINC, "Progress note"),  # classCode
        code(of, "urn:uuid:f0306f51-975f-434e-a61c-c59651d33983", "11506-3", LOINC, "Progress note"),  # typeCode
        code(of, "urn:uuid:a09d5840-386c-46f2-b5ad-9c3699a4309d", "urn:ihe:iti:xds:2017:mimeTypeSufficient",
             "1.3.6.1.4.1.19376.1.2.3", "mimeType sufficient"),  # formatCode
        code(of, "urn:uuid:f4f85eac-e6cb-4883-b524-f2705394840f", "N", "2.16.840.1.113883.5.25", "normal"),
        code(of, "urn:uuid:f33fb8ac-18af-42cc-ae0e-ed0b0bdb91e1", "22232009", SNOMED_CT, "Hospital"),
        code(of, "urn:uuid:cccf5598-8b07-4b77-a05e-ae952c785ead", "394802001", SNOMED_CT, "General medicine"),
        identifier(of, "urn:uuid:58a6f841-87b3-4a3e-92fd-a8ffeff98427", "XDSDocumentEntry.patientId", patient_id),
        identifier(of, "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab", "XDSDocumentEntry.uniqueId", unique_id),
        "</ExtrinsicObject>",
    ))  # fmt: skip


def submission_set(patient_id: str, now: str) -> str:
    """ITI TF-3: 4.2.3.3."""
    of = "SubmissionSet01"
    return "\n".join((
        f'<RegistryPackage id="{of}">',
        slot("submissionTime", now),
        f'<Classification id="{new_id()}" classifiedObject="{of}" objectType="{OBJECT}Classification" '
        'classificationNode="urn:uuid:a54d6aa5-d40d-43f9-88c5-b4633d873bdd"/>',  # "this package is a SubmissionSet"
        code(of, "urn:uuid:aa543740-bdda-424e-8c96-df4873be8500", "11429006", SNOMED_CT, "Consultation"),
        identifier(of, "urn:uuid:6b5aea1a-874d-4603-a4bc-96a0a7b38446", "XDSSubmissionSet.patientId", patient_id),
        # sourceId: an OID of the system that sends, always the same. This one is the example's.
        identifier(of, "urn:uuid:554ac39e-e3fe-47fe-b233-965d2a147832", "XDSSubmissionSet.sourceId",
                   "2.25.87263411091372583047921035681107934052"),
        identifier(of, "urn:uuid:96fdda7c-d067-4183-912e-bf5ee74998a8", "XDSSubmissionSet.uniqueId", new_oid()),
        "</RegistryPackage>",
    ))  # fmt: skip


def has_member() -> str:
    """ITI TF-3: 4.2.2.1. The SubmissionSet brings the document."""
    return (
        '<Association id="Association01" sourceObject="SubmissionSet01" targetObject="Document01" '
        f'associationType="urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember" objectType="{OBJECT}Association">'
        f"{slot('SubmissionSetStatus', 'Original')}</Association>"
    )


def slot(name: str, value: str) -> str:
    return f'<Slot name="{name}"><ValueList><Value>{escape(value)}</Value></ValueList></Slot>'


def name(text: str) -> str:
    return f'<Name><LocalizedString value="{attribute(text)}"/></Name>'


def code(of: str, scheme: str, code: str, coding_scheme: str, display: str) -> str:
    return (
        f'<Classification id="{new_id()}" classifiedObject="{of}" classificationScheme="{scheme}" '
        f'objectType="{OBJECT}Classification" nodeRepresentation="{code}">'
        f"{slot('codingScheme', coding_scheme)}{name(display)}</Classification>"
    )


def identifier(of: str, scheme: str, called: str, value: str) -> str:
    return (
        f'<ExternalIdentifier id="{new_id()}" registryObject="{of}" identificationScheme="{scheme}" '
        f'objectType="{OBJECT}ExternalIdentifier" value="{attribute(value)}">{name(called)}</ExternalIdentifier>'
    )


def attribute(text: str) -> str:
    return escape(text, {'"': "&quot;"})


def new_id() -> str:
    return uuid.uuid4().urn


def new_oid() -> str:
    """An OID that nobody has: made from a UUID (ITU-T X.667)."""
    return f"2.25.{uuid.uuid4().int}"


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))

"""Reads the header of a CDA document (xds/cda_header.py).

HL7 CDA R2 (ClinicalDocument); the mapping is that of IHE PCC TF-2: 4.1 (Medical Document Binding to XDS), where it has
one. What a header leaves out, marks with a nullFlavor or says in a form that XDS has no place for is None here: a
source has to fill it in from elsewhere.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Final

from lxml.etree import _Element

from xds.cda_header import CdaHeader
from xds.hl7v2 import CX, DTM, XCN, XON, XTN, is_oid, oid_of
from xds.metadata import Author, Code, LocalizedString
from xds.xml import XmlLimits, parse

_CDA: Final = "{urn:hl7-org:v3}"
_NAMESPACES: Final = {"c": "urn:hl7-org:v3"}
# Embedded pictures make documents large, narrative tables make them deep.
_LIMITS: Final = XmlLimits(max_bytes=256 * 1024 * 1024, max_depth=255, max_elements=5_000_000)

_HL7_TIME: Final = re.compile(r"(\d{4}(?:\d\d){0,5})(?:\.\d+)?(?:([+-])(\d\d)(\d\d))?")
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")

# HL7 v2 table 0001 has no "undifferentiated"; "other" comes nearest.
_SEX: Final = {"M": "M", "F": "F", "UN": "O"}

_IHE_FORMATS: Final = "1.3.6.1.4.1.19376.1.2.3"
# The format codes of documents that say by a templateId what they are.
_FORMATS_BY_TEMPLATE: Final = {
    "1.3.6.1.4.1.19376.1.3.3": ("urn:ihe:lab:xd-lab:2008", "Laboratory Report (XD-LAB)"),
    "1.3.6.1.4.1.19376.1.5.3.1.1.2": ("urn:ihe:pcc:xds-ms:2007", "Medical Summaries (XDS-MS)"),
    "1.3.6.1.4.1.19376.1.5.3.1.1.3": ("urn:ihe:pcc:xds-ms:2007", "Medical Summaries (XDS-MS)"),
    "1.3.6.1.4.1.19376.1.5.3.1.1.4": ("urn:ihe:pcc:xds-ms:2007", "Medical Summaries (XDS-MS)"),
    "1.3.6.1.4.1.19376.1.5.3.1.1.5": ("urn:ihe:pcc:xphr:2007", "Exchange of Personal Health Records (XPHR)"),
}
_SCANNED_DOCUMENT: Final = "1.3.6.1.4.1.19376.1.2.20"
_FORMATS_OF_SCANS: Final = {
    "application/pdf": ("urn:ihe:iti:xds-sd:pdf:2008", "Scanned Documents, PDF (XDS-SD)"),
    "text/plain": ("urn:ihe:iti:xds-sd:text:2008", "Scanned Documents, text (XDS-SD)"),
}

_ESCAPES: Final = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
_TO_ESCAPE: Final = re.compile(r"[\\|^&~]")

_ENDS_OF_A_NAME: Final = ("suffix", "prefix")


def read_cda_header(document: bytes, *, local_zone: tzinfo = UTC) -> CdaHeader | None:
    """The header of a CDA document, or None where `document` is XML of another kind.

    local_zone   for times that name no zone of their own
    Raises XmlProblem where it is no XML that can be read safely.
    """
    root = parse(document, _LIMITS)
    if root.tag != f"{_CDA}ClinicalDocument":
        return None
    service = _first(root, "c:documentationOf/c:serviceEvent/c:effectiveTime")
    if service is None:
        service = _first(root, "c:componentOf/c:encompassingEncounter/c:effectiveTime")
    start, stop = _interval(service, local_zone)
    facility = _first(root, "c:componentOf/c:encompassingEncounter/c:location/c:healthCareFacility/c:code")
    signer = _first(root, "c:legalAuthenticator/c:assignedEntity")
    set_id = _first(root, "c:setId")
    version = _first(root, "c:versionNumber")
    language = _first(root, "c:languageCode")
    created = _first(root, "c:effectiveTime")
    return CdaHeader(
        unique_id=_unique_id(_first(root, "c:id")),
        set_id=_unique_id(set_id),
        version=version.get("value") if version is not None else None,
        title=_text(_first(root, "c:title")) or None,
        creation_time=_time(created, local_zone),
        language_code=_language(language),
        type_code=_code(_first(root, "c:code")),
        format_code=_format_code(root),
        confidentiality_code=tuple(_codes(root, "c:confidentialityCode")),
        event_code_list=tuple(_codes(root, "c:documentationOf/c:serviceEvent/c:code")),
        healthcare_facility_type_code=_code(facility),
        service_start_time=start,
        service_stop_time=stop,
        author=tuple(_authors(root)),
        legal_authenticator=_person(signer, "c:assignedPerson/c:name") if signer is not None else None,
        patient_ids=tuple(_patient_ids(root)),
        source_patient_info=tuple(_demographics(root)),
    )


def _all(parent: _Element, path: str) -> list[_Element]:
    """The elements at `path` that say something."""
    return [found for found in parent.findall(path, _NAMESPACES) if not found.get("nullFlavor")]


def _first(parent: _Element, path: str) -> _Element | None:
    return next(iter(_all(parent, path)), None)


def _text(element: _Element | None) -> str:
    """All text of an element on one line."""
    return "" if element is None else " ".join(str(element.xpath("string()")).split())


# ------------------------------------------------------------------------------------------------------ identifiers


def _oid(root: str | None) -> str | None:
    """The OID that a root is or stands for: a UUID has one, too (ITU-T X.667)."""
    if not root:
        return None
    if is_oid(root):
        return root
    try:
        return oid_of(uuid.UUID(root))
    except ValueError:
        return None


def _unique_id(element: _Element | None) -> str | None:
    root = _oid(element.get("root")) if element is not None else None
    if element is None or root is None:
        return None
    extension = element.get("extension")
    return f"{root}^{extension}" if extension else root


def _id_and_authority(parent: _Element) -> tuple[str, str]:
    """The first id that has both a number and somebody who gave it, as components of XCN or XON."""
    for element in _all(parent, "c:id"):
        authority, number = _oid(element.get("root")), element.get("extension")
        if authority and number:
            return _escaped(number), f"&{authority}&ISO"
    return "", ""


def _patient_ids(root: _Element) -> Iterator[CX]:
    for element in _all(root, "c:recordTarget/c:patientRole/c:id"):
        authority, number = _oid(element.get("root")), element.get("extension")
        if authority and number:
            yield CX.of(_escaped(number), authority)


# ------------------------------------------------------------------------------------------------------------ codes


def _code(element: _Element | None) -> Code | None:
    code, scheme = (element.get("code"), element.get("codeSystem")) if element is not None else (None, None)
    if element is None or not code or not scheme:
        return None
    display = element.get("displayName")
    return Code(code, scheme, (LocalizedString(display),) if display else ())


def _codes(parent: _Element, path: str) -> Iterator[Code]:
    return (code for element in _all(parent, path) if (code := _code(element)))


def _format_code(root: _Element) -> Code | None:
    templates = [element.get("root", "") for element in _all(root, "c:templateId")]
    known = next((_FORMATS_BY_TEMPLATE[each] for each in templates if each in _FORMATS_BY_TEMPLATE), None)
    if known is None and _SCANNED_DOCUMENT in templates:
        scan = _first(root, "c:component/c:nonXMLBody/c:text")
        known = _FORMATS_OF_SCANS.get(scan.get("mediaType", "text/plain")) if scan is not None else None
    return Code(known[0], _IHE_FORMATS, (LocalizedString(known[1]),)) if known else None


def _language(element: _Element | None) -> str | None:
    language = element.get("code", "") if element is not None else ""
    return language if _LANGUAGE.fullmatch(language) else None


# ------------------------------------------------------------------------------------------------------------ times


def _time(element: _Element | None, local_zone: tzinfo) -> DTM | None:
    return _utc(element.get("value", ""), local_zone) if element is not None else None


def _utc(text: str, local_zone: tzinfo) -> DTM | None:
    """An HL7 time in UTC. One without a time of day stays the day it names, wherever that was."""
    match = _HL7_TIME.fullmatch(text.strip())
    if match is None or DTM(match[1]).problem():
        return None
    digits, sign, hours, minutes = match.groups()
    if len(digits) <= 8:
        return DTM(digits)
    offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
    if offset >= timedelta(days=1):
        return None
    zone = timezone(-offset if sign == "-" else offset) if sign else local_zone
    try:
        moment = datetime.strptime(DTM(digits).first, "%Y%m%d%H%M%S").replace(tzinfo=zone).astimezone(UTC)
    except OverflowError:  # the first hours of the year 1 and the last ones of the year 9999
        return None
    # An hour in India ends at half past in UTC: then the minutes have to be told as well.
    exact_to = max(len(digits), 12 if moment.minute and len(digits) == 10 else 0)
    return DTM(moment.strftime("%Y%m%d%H%M%S").rjust(14, "0")[:exact_to])


def _interval(element: _Element | None, local_zone: tzinfo) -> tuple[DTM | None, DTM | None]:
    """The ends of a service; a point in time is both."""
    if element is None:
        return None, None
    if element.get("value"):
        moment = _time(element, local_zone)
        return moment, moment
    return _time(_first(element, "c:low"), local_zone), _time(_first(element, "c:high"), local_zone)


# ----------------------------------------------------------------------------------------- people and organizations


def _escaped(text: str) -> str:
    """Text inside a component: delimiters of HL7 v2 are written as its escapes (HL7 v2.5: 2.7.1)."""
    return _TO_ESCAPE.sub(lambda match: _ESCAPES[match[0]], text)


def _joined(components: Iterable[str]) -> str:
    return "^".join(components).rstrip("^")


def _parts(name: _Element | None, part: str) -> list[str]:
    return [text for element in (_all(name, f"c:{part}") if name is not None else ()) if (text := _text(element))]


def _name_components(name: _Element | None) -> list[str]:
    """family, given, further given names, suffix, prefix. A name without parts counts as a family name."""
    family, given = _parts(name, "family"), _parts(name, "given")
    if not family and not given:
        return [_escaped(_text(name)), "", "", "", ""]
    ends = (" ".join(_parts(name, end)) for end in _ENDS_OF_A_NAME)
    pieces = (" ".join(family), given[0] if given else "", " ".join(given[1:]), *ends)
    return [_escaped(piece) for piece in pieces]


def _person(role: _Element, name_path: str) -> XCN | None:
    """`id^family^given^further^suffix^prefix^^^&authority&ISO` of an assigned person."""
    number, authority = _id_and_authority(role)
    name = _name_components(_first(role, name_path))
    if not number and not any(name):
        return None
    return XCN(_joined([number, *name, "", "", authority]))


def _organization(element: _Element | None) -> XON | None:
    """`name^^^^^&authority&ISO^^^^id`."""
    name = _text(_first(element, "c:name")) if element is not None else ""
    if element is None or not name:
        return None
    number, authority = _id_and_authority(element)
    return XON(_joined([_escaped(name), "", "", "", "", authority, "", "", "", number]))


def _authors(root: _Element) -> Iterator[Author]:
    for author in _all(root, "c:author"):
        assigned = _first(author, "c:assignedAuthor")
        if assigned is None:
            continue
        is_person = _first(assigned, "c:assignedPerson") is not None
        institution = _organization(_first(assigned, "c:representedOrganization"))
        found = Author(
            author_person=_person(assigned, "c:assignedPerson/c:name") if is_person else None,
            author_institution=(institution,) if institution else (),
            author_role=tuple(_displays(author, "c:functionCode")),
            author_specialty=tuple(_displays(assigned, "c:code")),
            author_telecommunication=tuple(_telecoms(assigned)),
        )
        if found.author_person or found.author_institution or found.author_telecommunication:
            yield found


def _displays(parent: _Element, path: str) -> Iterator[str]:
    return (display for element in _all(parent, path) if (display := element.get("displayName")))


def _telecoms(parent: _Element) -> Iterator[XTN]:
    """Mail addresses (component 4) and telephone numbers as they are written (component 12)."""
    for element in _all(parent, "c:telecom"):
        kind, _, address = element.get("value", "").partition(":")
        if kind.lower() == "mailto" and address:
            yield XTN(f"^^Internet^{_escaped(address)}")
        elif kind.lower() == "tel" and address:
            yield XTN(f"^^PH^^^^^^^^^{_escaped(address)}")


def _demographics(root: _Element) -> Iterator[str]:
    patient = _first(root, "c:recordTarget/c:patientRole/c:patient")
    if patient is None:
        return
    name = _name_components(_first(patient, "c:name"))
    if any(name):
        yield f"PID-5|{_joined(name)}"
    born = _first(patient, "c:birthTime")
    day = _HL7_TIME.fullmatch(born.get("value", "")) if born is not None else None
    if day is not None:
        yield f"PID-7|{day[1][:8]}"
    sex = _first(patient, "c:administrativeGenderCode")
    if sex is not None and sex.get("code") in _SEX:
        yield f"PID-8|{_SEX[str(sex.get('code'))]}"

"""What the header of a CDA document says about it, in the terms of a DocumentEntry.

A service takes it from whoever can read XML (server/cda_header.py). What a header leaves out, marks with a nullFlavor
or says in a form that XDS has no place for is None here: a source has to fill it in from elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from xds.hl7v2 import CX, DTM, XCN
from xds.metadata import Author, Code


@dataclass(frozen=True, slots=True, kw_only=True)
class CdaHeader:
    """The header of one CDA document.

    unique_id            of this document, as uniqueId has it: `root` or `root^extension`
    set_id, version      which document it is a version of, and which version
    patient_ids          every id of the patient, in the order given
    source_patient_info  PID-5 name, PID-7 date of birth, PID-8 sex. Not PID-11: an address helps nobody to find a
                         document, and need not stand in every registry
    """

    unique_id: str | None
    set_id: str | None
    version: str | None
    title: str | None
    creation_time: DTM | None
    language_code: str | None
    type_code: Code | None
    format_code: Code | None
    confidentiality_code: tuple[Code, ...]
    event_code_list: tuple[Code, ...]
    healthcare_facility_type_code: Code | None
    service_start_time: DTM | None
    service_stop_time: DTM | None
    author: tuple[Author, ...]
    legal_authenticator: XCN | None
    patient_ids: tuple[CX, ...]
    source_patient_info: tuple[str, ...]

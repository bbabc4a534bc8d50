"""The names of MHD 4.2.4 on the wire: profiles, extensions, code systems."""

from __future__ import annotations

from typing import Final

MHD: Final = "https://profiles.ihe.net/ITI/MHD/"
PROFILE: Final = f"{MHD}StructureDefinition/"

IDENTIFIER_TYPES: Final = f"{MHD}CodeSystem/IHE.MHD.MHDIdentifierType"
LIST_TYPES: Final = f"{MHD}CodeSystem/MHDlistTypes"

AUTHOR_ORG: Final = f"{PROFILE}ihe-authorOrg"
DESIGNATION_TYPE: Final = f"{PROFILE}ihe-designationType"
HOME_COMMUNITY_ID: Final = f"{PROFILE}ihe-HomeCommunityId"
INTENDED_RECIPIENT: Final = f"{PROFILE}ihe-intendedRecipient"
SOURCE_ID: Final = f"{PROFILE}ihe-sourceId"

URI: Final = "urn:ietf:rfc:3986"
"""The system of identifiers that are URIs."""

XDS_TEXT: Final = "https://toimik.example/fhir/StructureDefinition/xds-text"
"""Ours: the value of XDS, character by character, where FHIR can not say it exactly (mhd/fhir/exact_text.py)."""

FURTHER_INSTITUTION: Final = "https://toimik.example/fhir/StructureDefinition/xds-author-institution"
"""Ours, on PractitionerRole: the second authorInstitution and those after it."""

FURTHER_AUTHOR: Final = "https://toimik.example/fhir/StructureDefinition/xds-author"
"""Ours, on List: the second author of a SubmissionSet and those after it."""


def profile(name: str) -> str:
    """The canonical of a profile of MHD by its name, such as `IHE.MHD.Comprehensive.DocumentReference`."""
    return f"{PROFILE}{name}"

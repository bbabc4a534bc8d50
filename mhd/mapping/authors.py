"""Authors: the author of XDS is a person at an institution, in a role; FHIR has a resource for each of these.

MHD: the content of a DocumentReference's author is contained. PractitionerRole where there is more than a person,
else Practitioner, else Organization.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

from mhd.fhir.canonicals import FURTHER_INSTITUTION
from mhd.fhir.exact_text import Json
from mhd.fhir.operation_outcome import IssueType
from mhd.mapping.code_systems import CodeSystems
from mhd.mapping.codes import concept_of_role, role_of_concept
from mhd.mapping.contained import ContainedResources
from mhd.mapping.domain import MhdDomain
from mhd.mapping.people import (
    contact_point,
    organization_element,
    organization_of,
    person_element,
    person_of,
    telecommunications_of,
    warn_of_lost_system,
)
from mhd.mapping.reading import Reading
from xds.hl7v2 import XCN, XON, XTN
from xds.metadata import Author

# XDS -> FHIR --------------------------------------------------------------------------------------------------------


def author_reference(author: Author, name: str, domain: MhdDomain, contained: ContainedResources) -> Json | None:
    """A Reference to the author, who is put among the contained resources as `name`. None: the author is nobody."""
    person = _person_reference(author.author_person, f"{name}-person", domain, contained)
    organizations = organization_references(author, name, domain, contained)
    has_more = author.author_role or author.author_specialty or author.author_telecommunication
    if not has_more and len(organizations) < 2 and not (person and organizations):
        return person or next(iter(organizations), None)
    role: Json = {"resourceType": "PractitionerRole"}
    if len(organizations) > 1:
        role["extension"] = [{"url": FURTHER_INSTITUTION, "valueReference": each} for each in organizations[1:]]
    if person:
        role["practitioner"] = person
    if organizations:
        role["organization"] = organizations[0]
    concepts = (("code", author.author_role), ("specialty", author.author_specialty))
    for element, texts in concepts:
        if texts:
            role[element] = [concept_of_role(each, domain.code_systems) for each in texts]
    if author.author_telecommunication:
        role["telecom"] = [contact_point(each) for each in author.author_telecommunication]
    return contained.reference(name, role)


def organization_references(author: Author, name: str, domain: MhdDomain, contained: ContainedResources) -> list[Json]:
    """A Reference to each institution of the author, contained as `name-org`."""
    elements = (organization_element(each, domain.code_systems) for each in author.author_institution)
    return [contained.reference(f"{name}-org", {"resourceType": "Organization"} | each) for each in elements]


def _person_reference(person: XCN | None, name: str, domain: MhdDomain, contained: ContainedResources) -> Json | None:
    if person is None:
        return None
    element = person_element(person, domain.code_systems)
    return contained.reference(name, {"resourceType": "Practitioner"} | element)


def authenticator_reference(person: XCN, domain: MhdDomain, contained: ContainedResources) -> Json | None:
    """A Reference to the legal authenticator; to the author, where that is the same person."""
    return _person_reference(person, "authenticator", domain, contained)


# FHIR -> XDS --------------------------------------------------------------------------------------------------------


class _Source:
    """A resource that contains others, while its authors are read."""

    def __init__(self, contained: Mapping[str, Json], domain: MhdDomain, reading: Reading) -> None:
        self.contained = contained
        self.domain = domain
        self.reading = reading

    def target(self, reference: Json, path: str, *kinds: str) -> Json | None:
        """The contained resource of one of these kinds that a Reference names. XDS on FHIR follows no other ones."""
        found = self.contained.get(reference.get("reference", ""))
        if found is None:
            self.reading.refuse(
                path,
                f"{path} does not refer to a contained resource; send who it is as a contained resource and refer to "
                "it as #id.",
                IssueType.STRUCTURE,
            )
        elif found["resourceType"] not in kinds:
            sentence = f"{path} refers to a {found['resourceType']}; send one of {', '.join(kinds)}."
            self.reading.refuse(path, sentence, IssueType.STRUCTURE)
            return None
        else:
            warn_of_lost_system(found, self.domain.code_systems, path, self.reading)
        return found


def author_of(
    reference: Json, contained: Mapping[str, Json], domain: MhdDomain, path: str, reading: Reading
) -> Author | None:
    """The author that a Reference names; None, with an issue, where it names nobody that XDS can express."""
    source = _Source(contained, domain, reading)
    resource = source.target(reference, path, *_AUTHOR_READERS)
    if resource is None:
        return None
    kind = resource["resourceType"]
    author = _AUTHOR_READERS[kind](resource, source, path)
    if not (author.author_person or author.author_institution or author.author_telecommunication):
        reading.refuse(path, f"The {kind} of {path} names nobody; send an identifier or a name.", IssueType.REQUIRED)
        return None
    return author


def _role(resource: Json, source: _Source, path: str) -> Author:
    person = institution = practitioner = None
    if "practitioner" in resource:
        practitioner = source.target(resource["practitioner"], path, "Practitioner")
        person = person_of(practitioner, source.domain.code_systems) if practitioner else None
    if "organization" in resource:
        institution = _institution(resource["organization"], source, path)
    further = (_institution(each, source, path) for each in _further_institutions(resource))
    telecoms = telecommunications_of(resource, path, source.reading)
    if not telecoms and practitioner:
        telecoms = telecommunications_of(practitioner, path, source.reading)
    return Author(
        author_person=person,
        author_institution=tuple(each for each in (institution, *further) if each),
        author_role=_roles(resource, "code", source, path),
        author_specialty=_roles(resource, "specialty", source, path),
        author_telecommunication=telecoms,
    )


def _further_institutions(resource: Json) -> Iterator[Json]:
    for extension in resource.get("extension", ()):
        if extension["url"] == FURTHER_INSTITUTION and "valueReference" in extension:
            yield extension["valueReference"]


def _institution(reference: Json, source: _Source, path: str) -> XON | None:
    resource = source.target(reference, path, "Organization")
    return organization_of(resource, source.domain.code_systems, reference.get("display")) if resource else None


def _roles(resource: Json, element: str, source: _Source, path: str) -> tuple[str, ...]:
    found = (
        role_of_concept(each, source.domain.code_systems, path, source.reading) for each in resource.get(element, ())
    )
    return tuple(each for each in found if each)


def _practitioner(resource: Json, source: _Source, path: str) -> Author:
    return Author(
        person_of(resource, source.domain.code_systems),
        author_telecommunication=telecommunications_of(resource, path, source.reading),
    )


def _organization(resource: Json, source: _Source, path: str) -> Author:
    institution = organization_of(resource, source.domain.code_systems)
    return Author(
        author_institution=(institution,) if institution else (),
        author_telecommunication=telecommunications_of(resource, path, source.reading),
    )


def _device(resource: Json, source: _Source, _path: str) -> Author:
    return Author(person_of(_device_as_person(resource), source.domain.code_systems))


def _patient(resource: Json, source: _Source, path: str) -> Author:
    return Author(
        person_of(resource, source.domain.code_systems),
        author_role=(source.domain.patient_author_role,),
        author_telecommunication=telecommunications_of(resource, path, source.reading),
    )


def _related_person(resource: Json, source: _Source, path: str) -> Author:
    return Author(
        person_of(resource, source.domain.code_systems),
        author_role=_roles(resource, "relationship", source, path),
        author_telecommunication=telecommunications_of(resource, path, source.reading),
    )


_Reader: TypeAlias = Callable[[Json, _Source, str], Author]
_AUTHOR_READERS: Final[Mapping[str, _Reader]] = {
    "PractitionerRole": _role,
    "Practitioner": _practitioner,
    "Organization": _organization,
    "Device": _device,
    "Patient": _patient,
    "RelatedPerson": _related_person,
}


def authenticator_of(
    reference: Json, contained: Mapping[str, Json], domain: MhdDomain, path: str, reading: Reading
) -> XCN | None:
    """The legal authenticator that a Reference names; an Organization is none."""
    source = _Source(contained, domain, reading)
    resource = source.target(reference, path, "Practitioner", "PractitionerRole")
    if resource is None:
        return None
    if resource["resourceType"] == "PractitionerRole" and "practitioner" in resource:
        resource = source.target(resource["practitioner"], path, "Practitioner") or {}
    is_person = resource.get("resourceType") == "Practitioner"
    person = person_of(resource, domain.code_systems) if is_person else None
    if person is None:
        reading.refuse(
            path,
            "The authenticator is not a person with an identifier or a name; send a Practitioner.",
            IssueType.VALUE,
        )
    return person


# Recipients of a SubmissionSet: `XON|XCN|XTN` (ITI TF-3: 4.2.3.3.7) -----------------------------------------------


def recipient_resource(recipient: str, systems: CodeSystems) -> Json:
    """The Practitioner or Organization that comes nearest to a recipient."""
    organization, person, telecommunication = (*recipient.split("|"), "", "")[:3]
    telecom: Json = {}
    if telecommunication:
        telecom = {"telecom": [contact_point(XTN(telecommunication))]}
    if organization and not person:
        return {"resourceType": "Organization"} | organization_element(XON(organization), systems) | telecom
    return {"resourceType": "Practitioner"} | (person_element(XCN(person), systems) if person else {}) | telecom


RECIPIENTS: Final = (
    "Practitioner",
    "Organization",
    "Patient",
    "RelatedPerson",
    "Device",
    "Group",
    "Location",
)
"""What an intendedRecipient may be."""


def recipient_of(resource: Json, systems: CodeSystems, path: str, reading: Reading) -> str | None:
    """`XON|XCN|XTN` of one of RECIPIENTS."""
    kind = resource["resourceType"]
    warn_of_lost_system(resource, systems, path, reading)
    telecoms = telecommunications_of(resource, path, reading)
    telecom = telecoms[0].text if telecoms else ""
    organization = person = ""
    if kind in ("Organization", "Location", "Group"):
        named = organization_of(resource, systems)
        organization = named.text if named else ""
    else:
        named_person = person_of(resource if kind != "Device" else _device_as_person(resource), systems)
        person = named_person.text if named_person else ""
    return "|".join((organization, person, telecom)).rstrip("|") or None


def _device_as_person(resource: Json) -> Json:
    """A device is a person without given name: the name of the device is the family name."""
    names = resource.get("deviceName", ())
    return {
        "identifier": resource.get("identifier", ()),
        "name": [{"family": names[0].get("name", "")}] if names else (),
    }

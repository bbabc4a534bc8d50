"""What the Composition of a FHIR document says about it, as the DocumentReference of MHD would say it.

FHIR R4: documents.html; MHD 4.2.4, ITI TF-2: 3.106. The people whom it names are resources of the document; they become
contained ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from mhd.fhir.exact_text import Json
from mhd.mapping.contained import ContainedResources

_CONFIDENTIALITY: Final = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
_PEOPLE: Final = frozenset({"Practitioner", "PractitionerRole", "Organization", "Patient", "RelatedPerson", "Device"})
_SAID_OF_PEOPLE: Final = (
    *("identifier", "name", "telecom", "address", "gender", "birthDate"),
    *("code", "specialty", "relationship", "deviceName"),
)


def composition_of(document: Json) -> Json | None:
    """The Composition of a document Bundle: its first resource."""
    entries: Sequence[Json] = document.get("entry", ())
    first: Json = entries[0].get("resource", {}) if entries else {}
    return first if document.get("type") == "document" and first.get("resourceType") == "Composition" else None


def document_reference_of(document: Json, mime_type: str) -> Json:
    """The DocumentReference of a document Bundle that has a Composition. What it does not say is not there."""
    composition = composition_of(document) or {}
    people = _People(document)
    found = {name: value for name, read in _ROWS.items() if (value := read(composition, document, people))}
    attachment = {"contentType": mime_type} | {
        name: value for name, read in _ATTACHMENT.items() if (value := read(composition, document))
    }
    context = {name: value for name, read in _CONTEXT.items() if (value := read(composition, people))}
    contained = {"contained": people.contained.resources} if people.contained.resources else {}
    return {
        "resourceType": "DocumentReference",
        **contained,
        **found,
        "status": "current",
        "content": [{"attachment": attachment}],
        "context": context,
    }


class _People:
    """The resources of a document that a Composition refers to."""

    def __init__(self, document: Json) -> None:
        entries = [each for each in document.get("entry", ()) if "resource" in each]
        self._by_url = {each["fullUrl"]: each["resource"] for each in entries if "fullUrl" in each}
        self._by_url |= {
            f"{each['resource']['resourceType']}/{each['resource']['id']}": each["resource"]
            for each in entries
            if "id" in each["resource"]
        }
        self.contained = ContainedResources()

    def found(self, reference: Json) -> Json | None:
        """The resource that a Reference of the document is to."""
        return self._by_url.get(reference.get("reference", ""))

    def reference(self, reference: Json, name: str) -> Json | None:
        """A Reference to the same person or organization, contained; None: it is nobody of the document."""
        resource = self.found(reference)
        if resource is None or resource["resourceType"] not in _PEOPLE:
            return None
        kept = {"resourceType": resource["resourceType"]}
        kept |= {element: resource[element] for element in _SAID_OF_PEOPLE if element in resource}
        if resource["resourceType"] == "PractitionerRole":
            for element in ("practitioner", "organization"):
                other = self.reference(resource.get(element, {}), f"{name}-{element}")
                kept |= {element: other} if other else {}
        return self.contained.reference(name, kept)


# Rows: an element of the DocumentReference, and what the document says of it -----------------------------------------


def _subject(composition: Json, _document: Json, people: _People) -> Json | None:
    patient = people.found(composition.get("subject", {}))
    return people.reference(composition["subject"], "subject") if patient else composition.get("subject")


def _authors(composition: Json, _document: Json, people: _People) -> Sequence[Json]:
    found = (people.reference(each, f"author{n}") for n, each in enumerate(composition.get("author", ()), 1))
    return [each for each in found if each]


def _authenticator(composition: Json, _document: Json, people: _People) -> Json | None:
    legal = (each for each in composition.get("attester", ()) if each.get("mode") == "legal" and "party" in each)
    return next((each for attester in legal if (each := people.reference(attester["party"], "authenticator"))), None)


def _labels(composition: Json, _document: Json, _people: _People) -> Sequence[Json]:
    code = composition.get("confidentiality")
    return [{"coding": [{"system": _CONFIDENTIALITY, "code": code}]}] if code else []


_ROWS: Final[Mapping[str, Callable[[Json, Json, _People], Any]]] = {
    "masterIdentifier": lambda composition, document, _: document.get("identifier") or composition.get("identifier"),
    "type": lambda composition, _, __: composition.get("type"),
    "category": lambda composition, _, __: composition.get("category", [])[:1],
    "subject": _subject,
    "author": _authors,
    "authenticator": _authenticator,
    "securityLabel": _labels,
}

_ATTACHMENT: Final[Mapping[str, Callable[[Json, Json], Any]]] = {
    "language": lambda composition, document: composition.get("language") or document.get("language"),
    "title": lambda composition, _: composition.get("title"),
    "creation": lambda composition, document: composition.get("date") or document.get("timestamp"),
}


def _events(composition: Json, _people: _People) -> Sequence[Json]:
    return [code for event in composition.get("event", ()) for code in event.get("code", ())]


def _period(composition: Json, _people: _People) -> Json | None:
    return next((event["period"] for event in composition.get("event", ()) if "period" in event), None)


def _source_patient(composition: Json, people: _People) -> Json | None:
    return people.reference(composition.get("subject", {}), "subject")


_CONTEXT: Final[Mapping[str, Callable[[Json, _People], Any]]] = {
    "event": _events,
    "period": _period,
    "sourcePatientInfo": _source_patient,
}

"""FHIR resources of registered objects: made once at registration, completed when they are found.

The base URL is not known when an object is registered, and may change: in its place stands one octet that JSON does not
have, because one octet is found at the speed of memory. What Associations say (relatesTo, the entries of a List) is
joined at search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import orjson

from mhd.fhir.exact_text import Json
from mhd.fhir.fhir_json import written
from mhd.mapping.code_systems import CodeSystems
from mhd.mapping.document_list import list_entry, list_of
from mhd.mapping.document_reference import relates_to, resource_of, subject_of
from mhd.mapping.domain import MhdDomain
from mhd.mapping.identifiers import resource_id
from mhd.mapping.times import instant_of, to_the_millisecond
from xds.actors import ObjectCodec, Registration
from xds.hl7v2 import CX, DTM
from xds.metadata import AnyObject, Association, DocumentEntry, ObjectKind
from xds.paged_search import Link, PagedObject, Survivor

_BASE: Final = "\x01"  # of no text of XDS: XML has no such character
_BASE_IN_JSON: Final = b"\\u0001"
_BASE_PLACE: Final = b"\x01"


@dataclass(frozen=True, slots=True)
class Renderer:
    """A FhirRenderer (xds/actors.py). repository_extension: see MhdDomain."""

    code_systems: CodeSystems
    repository_extension: str | None = None

    def rendered(self, item: AnyObject, registration: Registration) -> bytes | None:
        """The resource as JSON, without what Associations say, and with a mark in place of the base URL."""
        if isinstance(item, Association):
            return None
        domain = MhdDomain(base=_BASE, code_systems=self.code_systems, repository_extension=self.repository_extension)
        key = registration.patient_key or None
        if isinstance(item, DocumentEntry):
            date = instant_of(DTM(registration.submitted)) if registration.submitted else None
            resource = resource_of(item, domain=domain, patient_key=key, date=date)
        else:
            resource = list_of(item, domain=domain, patient_key=key)
        if registration.last_updated:
            resource["meta"] = {"lastUpdated": to_the_millisecond(registration.last_updated), **resource["meta"]}
        return _stored(resource)

    def of_survivor(self, resource: bytes, survivor: Survivor) -> bytes:
        """The resource of an object of a patient who was merged: as it was, but about the survivor.

        It was changed by that, and nobody knows when: it does not tell any time of a change.
        """
        told = orjson.loads(resource.replace(_BASE_PLACE, _BASE_IN_JSON))
        domain = MhdDomain(base=_BASE, code_systems=self.code_systems)
        told["subject"] = subject_of(CX(survivor.patient_id), domain, survivor.patient_key)
        told["meta"].pop("lastUpdated", None)
        return _stored(told)


def _stored(resource: Json) -> bytes:
    return written(resource).replace(_BASE_IN_JSON, _BASE_PLACE)


@dataclass(frozen=True)
class Completion:
    """Completes resources, for one base URL.

    codec   reads what was registered without a FHIR resource
    """

    base: str
    renderer: Renderer
    codec: ObjectCodec

    @cached_property
    def _base_in_json(self) -> bytes:
        return orjson.dumps(self.base)[1:-1]

    def resource(self, found: PagedObject) -> bytes:
        """The whole resource, as JSON, for with_base()."""
        stored = found.resource or self._made_now(found)
        if found.survivor is not None:
            stored = self.renderer.of_survivor(stored, found.survivor)
        if not found.links:
            return stored
        if found.kind is ObjectKind.DOCUMENT_ENTRY:
            return _joined(stored, b',"relatesTo":', self._relations(found.links))
        return _joined(stored, b',"entry":', _members(found.links))

    def with_base(self, resources: bytes) -> bytes:
        """Resources with the base URL in them: one pass over all that is sent costs less than one for each of them."""
        return resources.replace(_BASE_PLACE, self._base_in_json)

    def _made_now(self, found: PagedObject) -> bytes:
        made = self.renderer.rendered(self.codec.read(found.ebrim or b""), Registration("", "", found.submitted))
        if made is None:
            raise ValueError(f"{found.entry_uuid} is nothing that FHIR has a resource for")
        return made

    def _relations(self, links: Sequence[Link]) -> list[Json]:
        return [
            each for link in links for each in relates_to(link.association_type, link.target, link.target_logical_id)
        ]

    def full_url(self, found: PagedObject) -> bytes:
        """The URL of its resource, as a string of JSON, for with_base()."""
        kind, number = _RESOURCE_TYPES[found.kind], resource_id(found.logical_id or found.entry_uuid).encode()
        return b'"%b/%b/%b"' % (_BASE_PLACE, kind, number)


_RESOURCE_TYPES: Final = {
    ObjectKind.DOCUMENT_ENTRY: b"DocumentReference",
    ObjectKind.SUBMISSION_SET: b"List",
    ObjectKind.FOLDER: b"List",
}


def _members(links: Sequence[Link]) -> list[Json]:
    """Documents before Folders, as they came; several versions of one are one entry."""
    kinds = (ObjectKind.DOCUMENT_ENTRY, ObjectKind.FOLDER)
    members = [(kind, link) for kind in kinds for link in links if link.target_kind is kind]
    logical_ids = dict.fromkeys((kind, link.target_logical_id or link.target) for kind, link in members)
    return [list_entry(*each) for each in logical_ids]


def _joined(resource: bytes, name: bytes, values: list[Json]) -> bytes:
    """A resource with one element more."""
    return b"".join((resource[:-1], name, orjson.dumps(values), b"}")) if values else resource

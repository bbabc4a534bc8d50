"""How code systems and systems of identifiers are called: by OID in XDS, by URI in FHIR.

One map for both, in both directions and for searches.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final
from urllib.parse import quote, unquote

import schemas
from mhd.fhir.canonicals import URI
from xds.hl7v2 import is_oid

_URN_OID: Final = "urn:oid:"
DICOM_UID: Final = "urn:dicom:uid"
FORMS_OF_VALUES: Final = frozenset({URI, DICOM_UID})
"""Systems of FHIR that say what a value looks like. They are nobody's numbering, whatever a map says."""
_SCHEME_TEXT: Final = "urn:x-xds-scheme:"
_PATH: Final = r"(?:[!$&'()*+,/0-9:;=?@A-Z_a-z~.-]|%[0-9A-Fa-f]{2})"
# Stricter than RFC 3986: what is doubtful is written as text, and comes back all the same.
_ABSOLUTE_URI: Final = re.compile(
    rf"[A-Za-z][A-Za-z0-9+.-]*:(?://[A-Za-z0-9.-]+(?::[0-9]{{1,5}})?(?:/{_PATH}*)?|(?!//){_PATH}+)(?:#{_PATH}*)?"
)


class CodeSystemsDiffer(ValueError):
    """A map that gives one URI two OIDs."""


@dataclass(frozen=True, slots=True)
class CodeSystems:
    """OID <-> URI of code systems and of systems of identifiers.

    uris   by OID: the URI that is written
    oids   by URI: the OID that it stands for; an OID may have several URIs
    """

    uris: Mapping[str, str] = field(default_factory=dict)
    oids: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> CodeSystems:
        """A map of (OID, URI) pairs; of several URIs of an OID, the first is written.

        Raises CodeSystemsDiffer.
        """
        uris: dict[str, str] = {}
        oids: dict[str, str] = {}
        for oid, uri in pairs:
            uris.setdefault(oid, uri)
            if oids.setdefault(uri, oid) != oid:
                raise CodeSystemsDiffer(f"{uri} has the OID {oids[uri]} and the OID {oid}; name one of them")
        return cls(uris, oids)

    @classmethod
    def default(cls, more: Iterable[tuple[str, str]] = ()) -> CodeSystems:
        """The pairs of `more`, and for URIs that it has not those of schemas/fhir."""
        added = list(more)
        known_uris = {uri for _, uri in added}
        return cls.of([*added, *((oid, uri) for oid, uri in _published() if uri not in known_uris)])

    def scheme_of(self, system: str) -> str:
        """The codingScheme of XDS for the system of a Coding."""
        if system in self.oids:
            return self.oids[system]
        if system.startswith(_URN_OID) and is_oid(system.removeprefix(_URN_OID)):
            return system.removeprefix(_URN_OID)
        if system.startswith(_SCHEME_TEXT):
            return unquote(system.removeprefix(_SCHEME_TEXT))
        return system

    def system_of(self, scheme: str) -> str:
        """The system of a Coding for a codingScheme of XDS; scheme_of gives the scheme back."""
        written = self._system_of(scheme)
        return written if self.scheme_of(written) == scheme else f"{_SCHEME_TEXT}{quote(scheme, safe='')}"

    def _system_of(self, scheme: str) -> str:
        if scheme in self.uris:
            return self.uris[scheme]
        if is_oid(scheme):
            return f"{_URN_OID}{scheme}"
        return scheme if _ABSOLUTE_URI.fullmatch(scheme) else f"{_SCHEME_TEXT}{quote(scheme, safe='')}"

    def oid_of(self, system: str) -> str | None:
        """The OID that the system of an Identifier stands for; None where it is none and has none."""
        oid = self.oids.get(system) or (system.removeprefix(_URN_OID) if system.startswith(_URN_OID) else "")
        return oid if is_oid(oid) and system not in FORMS_OF_VALUES else None

    def uri_of(self, oid: str) -> str:
        """The system of an Identifier whose authority has an OID; oid_of gives that back."""
        written = self.uris.get(oid, "")
        return written if self.oid_of(written) == oid else f"{_URN_OID}{oid}"

    def is_known(self, system: str) -> bool:
        """Whether the system has an OID, by this map or by being one. Others go to XDS as they are, with a warning."""
        return is_oid(self.scheme_of(system)) or system.startswith((_SCHEME_TEXT, "urn:uuid:"))


def pairs_of_naming_system(resource: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(OID, URI) of a NamingSystem resource, or of every one in a Bundle; the preferred URI first.

    A NamingSystem that has no OID or no URI says nothing about this.
    """
    if resource.get("resourceType") == "Bundle":
        inner = (entry.get("resource", {}) for entry in resource.get("entry", ()))
        return [pair for each in inner for pair in pairs_of_naming_system(each)]
    if resource.get("resourceType") != "NamingSystem":
        return []
    unique_ids = sorted(resource.get("uniqueId", ()), key=lambda each: not each.get("preferred", False))
    oids = [each["value"].removeprefix(_URN_OID) for each in unique_ids if each.get("type") == "oid"]
    uris = [each["value"] for each in unique_ids if each.get("type") == "uri"]
    return [(oid, uri) for oid in oids[:1] for uri in uris]


@cache
def _published() -> tuple[tuple[str, str], ...]:
    rows = [row for name in _TABLES for row in tomllib.loads(schemas.fhir(f"{name}s.toml").decode())[name]]
    return tuple((row["oid"], uri) for row in rows for uri in row["uri"])


_TABLES: Final = ("code_system", "identifier_system")

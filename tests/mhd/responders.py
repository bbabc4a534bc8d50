"""A Document Responder on a metadata store, without HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from mhd.fhir.exact_text import Json
from mhd.fhir.fhir_json import parsed
from mhd.iti66_find_document_lists import LISTS
from mhd.iti67_find_document_references import DOCUMENT_REFERENCES
from mhd.mapping.code_systems import CodeSystems
from mhd.mapping.domain import MhdDomain
from mhd.messages import FhirRequest
from mhd.patients import PatientResolver
from mhd.searching.cursors import Cursors
from mhd.searching.renderer import Completion, Renderer
from mhd.searching.search import Search, SearchType
from mhd.searching.search_conditions import SearchConditions
from mhd.searching.search_request import PageSizes, Pair
from registry.actor import Registry
from registry.metadata_store import MetadataStore
from xds.ebxml_writer import codec
from xds.paged_search import PagedRegistry

BASE = "https://mhd.example.org/fhir"
RENDERER = Renderer(CodeSystems.default())


@dataclass(frozen=True)
class Searching:
    """Searches of a registry."""

    search: Search

    @classmethod
    def of(cls, store: MetadataStore) -> Searching:
        return cls.in_front_of(Registry(store=store, max_results=100_000))

    @classmethod
    def in_front_of(cls, registry: PagedRegistry) -> Searching:
        patients = PatientResolver(MhdDomain(base=BASE), registry)
        conditions = SearchConditions(registry=registry, patients=patients, code_systems=RENDERER.code_systems)
        completion = Completion(BASE, RENDERER, codec)
        cursors = Cursors(registry.secret_for("cursors of FHIR searches"), 60)
        return cls(
            Search(registry=registry, conditions=conditions, completion=completion, cursors=cursors, sizes=PageSizes())
        )

    async def documents(self, *parameters: Pair) -> Json:
        """The answer to ITI-67."""
        return await self._answer(DOCUMENT_REFERENCES, parameters)

    async def lists(self, *parameters: Pair) -> Json:
        """The answer to ITI-66."""
        return await self._answer(LISTS, parameters)

    async def walked(self, *parameters: Pair) -> list[str]:
        """The logicalIDs on all pages of ITI-67."""
        bundle = await self.documents(*parameters)
        found = ids(bundle)
        while (following := _next(bundle)) is not None:
            bundle = await self.documents(*parse_qsl(urlsplit(following).query))
            found += ids(bundle)
        return found

    async def _answer(self, kind: SearchType, parameters: Sequence[Pair]) -> Json:
        answer = await self.search.answered(kind, parameters, FhirRequest())
        assert isinstance(answer.resource, tuple)
        bundle: Json = parsed(b"".join(answer.resource))
        return bundle


def ids(bundle: Json) -> list[str]:
    """The logicalIDs of a searchset, in order."""
    return [f"urn:uuid:{each['resource']['id']}" for each in bundle.get("entry", ())]


def _next(bundle: Json) -> str | None:
    return next((each["url"] for each in bundle["link"] if each["relation"] == "next"), None)

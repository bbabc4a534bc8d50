"""Find Document References [ITI-67], the Document Responder's part.

ITI TF-2: 3.67 (MHD 4.2.4). Stable and on-demand documents alike: FHIR has no parameter to tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mhd.messages import FhirAnswer, FhirRequest
from mhd.searching.search import Search, SearchType
from mhd.searching.search_conditions import ORDERED_BY
from mhd.searching.search_parameters import DOCUMENT_REFERENCE
from mhd.searching.search_request import Pair
from xds.metadata import ObjectKind

DOCUMENT_REFERENCES: Final = SearchType(
    "DocumentReference",
    (ObjectKind.DOCUMENT_ENTRY,),
    DOCUMENT_REFERENCE,
    {"creation": ORDERED_BY, "date": {ObjectKind.DOCUMENT_ENTRY: "submitted"}},
)


async def find_document_references(parameters: Iterable[Pair], said: FhirRequest, *, search: Search) -> FhirAnswer:
    """A page of DocumentReferences, the latest created first. Raises Refused, XdsError."""
    return await search.answered(DOCUMENT_REFERENCES, parameters, said)

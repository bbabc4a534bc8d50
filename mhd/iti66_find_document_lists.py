"""Find Document Lists [ITI-66], the Document Responder's part.

ITI TF-2: 3.66 (MHD 4.2.4). SubmissionSets and Folders are Lists; where the search does not say which, it is for both,
in one order. What a List holds is read for the whole page at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mhd.messages import FhirAnswer, FhirRequest
from mhd.searching.search import Search, SearchType
from mhd.searching.search_conditions import ORDERED_BY
from mhd.searching.search_parameters import LIST
from mhd.searching.search_request import Pair
from xds.metadata import ObjectKind

LISTS: Final = SearchType("List", (ObjectKind.SUBMISSION_SET, ObjectKind.FOLDER), LIST, {"date": ORDERED_BY})


async def find_document_lists(parameters: Iterable[Pair], said: FhirRequest, *, search: Search) -> FhirAnswer:
    """A page of Lists, the latest first. Raises Refused, XdsError."""
    return await search.answered(LISTS, parameters, said)

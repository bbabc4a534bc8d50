"""Multi-Patient Stored Query [ITI-51], the registry's part.

ITI TF-2: 3.51. Its queries are rows of xds/stored_queries.py like those of ITI-18, and found in the same way; an answer
may hold objects of several patients.
"""

from __future__ import annotations

from registry.iti18_stored_query import stored_query
from registry.metadata_store import Finder
from xds.actors import QueryRequest, QueryResponse
from xds.transactions import ITI_51


async def multi_patient_query(request: QueryRequest, *, store: Finder, max_results: int | None) -> QueryResponse:
    """The objects of any patients that a query asks for, or references to them; see stored_query."""
    return await stored_query(request, store=store, max_results=max_results, transaction=ITI_51)

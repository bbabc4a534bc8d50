"""From what was typed to a stored query, and from its answer to objects (ITI TF-2: 3.18.4.1.2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from server.soap_client import NotReachable
from xds.actors import QueryRequest, QueryResponse, ReturnType
from xds.ebxml_writer import codec
from xds.errors import ErrorCode, ResponseStatus
from xds.metadata import AnyObject, AvailabilityStatus
from xds.stored_queries import OF_TIMES, STORED_QUERIES, Operator, Parameter, StoredQuery, quoted

_BY_NAME: Final = {query.name.lower(): query for query in STORED_QUERIES.values()}
_ONE_VALUE: Final = OF_TIMES | {Operator.EQUALS}

STATUSES: Final = {
    "approved": (AvailabilityStatus.APPROVED,),
    "deprecated": (AvailabilityStatus.DEPRECATED,),
    "all": tuple(AvailabilityStatus),
}


class UnknownQuery(Exception):
    """There is no stored query of that name. The text names those there are."""


def query_named(name: str) -> StoredQuery:
    """A stored query by its name or its id. Raises UnknownQuery."""
    found = _BY_NAME.get(name.lower()) or STORED_QUERIES.get(name.lower())
    if found is None:
        known = ", ".join(sorted(query.name for query in STORED_QUERIES.values()))
        raise UnknownQuery(f"{name!r} is no stored query; there are {known}")
    return found


def request_for(
    query: StoredQuery, typed: Sequence[tuple[str, str]], return_type: ReturnType = ReturnType.LEAF_CLASS
) -> QueryRequest:
    """The request with these parameters, each as its name and one value without quotes.

    A parameter that is typed again asks for either value; where the standard lets it be repeated, for both. A value
    that begins with a quote or a bracket is sent as it is.
    """
    known = {parameter.name: parameter for parameter in (*query.parameters, *query.one_of)}
    slots: list[tuple[str, tuple[str, ...]]] = []
    either: dict[str, list[str]] = {}
    for name, value in typed:
        parameter = known.get(name)
        if value.startswith(("'", "(")):
            slots.append((name, (value,)))
        elif parameter is None or parameter.operator in _ONE_VALUE:
            slots.append((name, (_single(parameter, value),)))
        elif parameter.repeatable:
            slots.append((name, (f"({quoted(value)})",)))
        else:
            either.setdefault(name, []).append(quoted(value))
    slots += [(name, (f"({','.join(values)})",)) for name, values in either.items()]
    return QueryRequest(query.id, return_type, tuple(slots))


def _single(parameter: Parameter | None, value: str) -> str:
    is_number = parameter.operator in OF_TIMES if parameter else value.isdecimal()
    return value if is_number else quoted(value)


def objects_in(response: QueryResponse) -> list[AnyObject]:
    """The objects of a LeafClass answer."""
    return [codec.read(found.ebrim) for found in response.found if found.ebrim is not None]


def check_reached(response: QueryResponse) -> None:
    """Raises NotReachable where the response only says that no registry answered."""
    if response.status is ResponseStatus.FAILURE and _codes(response) == {ErrorCode.REGISTRY_NOT_AVAILABLE}:
        raise NotReachable(response.errors[0].code_context)


def _codes(response: QueryResponse) -> set[str]:
    return {str(error.code) for error in response.errors}


def shortened(urns: Iterable[str | None]) -> str:
    """The last part of URNs, which is what people call statuses and types."""
    return ", ".join((urn or "").rpartition(":")[2] for urn in urns)

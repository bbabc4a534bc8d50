"""FHIR's JSON as plain dicts and lists, and back (FHIR R4: json.html).

Decimals that were sent come out again digit by digit (`1.10` stays `1.10`).
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, NoReturn

import orjson

from mhd.fhir.operation_outcome import Issue, IssueType, Refused


def parsed(body: bytes) -> Any:
    """What the JSON says.

    Raises Refused (400): not UTF-8, not JSON, a name twice in one object, NaN, or nested too deep to be read.
    """
    try:
        text = body.decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=_object, parse_float=Decimal, parse_constant=_no_number)
    except UnicodeDecodeError as problem:
        raise _broken(
            f"The body is not UTF-8: octet {problem.start} is {body[problem.start]:#04x}; send UTF-8."
        ) from None
    except json.JSONDecodeError as problem:
        place = f"line {problem.lineno}, column {problem.colno}"
        raise _broken(f"The body is not JSON: {place}: {problem.msg}; send one JSON object.") from None
    except RecursionError:
        raise _broken("The body is nested too deep to be read; send a flatter resource.") from None
    except ValueError:
        raise _broken("The body has a number with too many digits; send a shorter one.") from None


def written(resource: Any) -> bytes:
    """The JSON of a resource, as UTF-8."""
    return orjson.dumps(resource, default=_decimal)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _broken(f"An object of the body has the name {twice[:60]!r} twice; send it once.")
    return found


def _no_number(text: str) -> NoReturn:
    raise _broken(f"The body has the number {text}, which JSON does not have.")


def _broken(text: str) -> Refused:
    return Refused(Issue(IssueType.STRUCTURE, text))


def _decimal(value: Any) -> Any:
    if isinstance(value, Decimal):
        return orjson.Fragment(str(value))
    raise TypeError(f"{type(value).__name__} is no JSON")

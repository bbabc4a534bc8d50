"""The check digits of national patient numbers, by python-stdnum."""

from __future__ import annotations

from collections.abc import Callable

from stdnum.util import get_cc_module


def number_check(kind: str) -> Callable[[str], bool]:
    """What tells whether a number can have been given out: gb.nhs for NHS numbers, ee.ik for Estonian personal codes.

    Raises KeyError where there is no such kind of number.
    """
    country, _, name = kind.partition(".")
    module = get_cc_module(country, name) if country.isalpha() and name.isidentifier() else None
    is_valid: Callable[[str], bool] | None = getattr(module, "is_valid", None)
    if is_valid is None:
        raise KeyError(kind)
    return is_valid

"""The stored queries of Registry Stored Query [ITI-18] as rows, and how a request is bound to its row.

ITI TF-2: 3.18.4.1.2.3.7.
"""

from __future__ import annotations

from enum import Enum, auto


class Operator(Enum):
    """The ways in which a criterion matches a search column; all that a store implements.

    A column with several values matches where one of them does. An object without a value matches nothing.
    """

    EQUALS = auto()  # one value
    ANY_OF = auto()  # several values, one of which is equal
    ALL_OF_ANY_OF = auto()  # several groups of values; of each group one is equal (to any of the column's values)
    AT_OR_AFTER = auto()  # the last second that the time may mean is not before this one (14 digits)
    BEFORE = auto()  # the first second that the time may mean is before this one (14 digits)
    LIKE = auto()  # several patterns, one of which matches: % any text, _ one character; case does not matter

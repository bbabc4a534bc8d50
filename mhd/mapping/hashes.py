"""Hash and size of a document: XDS has the SHA-1 as 40 hex digits, FHIR as base64 of its 20 octets (CP-ITI-1325)."""

from __future__ import annotations

import base64
from typing import Final

from mhd.fhir.fhir_primitives import decoded_base_64

_OCTETS: Final = 20
_HEX_DIGITS: Final = frozenset(b"0123456789abcdefABCDEF")
LARGEST_SIZE: Final = 2**31 - 1
"""The largest size that FHIR can say (unsignedInt)."""


def base_64_of(hex_digits: str) -> str | None:
    """The SHA-1 as base64; None where it is not 40 hex digits."""
    try:
        octets = bytes.fromhex(hex_digits)
    except ValueError:
        return None
    return base64.b64encode(octets).decode() if len(octets) == _OCTETS and len(hex_digits) == 2 * _OCTETS else None


def hex_of(base_64: str) -> str | None:
    """The SHA-1 as 40 lower-case hex digits; None where hash_problem() says what is wrong."""
    octets = decoded_base_64(base_64)
    return octets.hex() if octets is not None and len(octets) == _OCTETS else None


def hash_problem(base_64: str) -> str | None:
    """What is wrong with a hash, as the end of a sentence that begins with its name."""
    octets = decoded_base_64(base_64)
    if octets is None:
        return "is not base64; send the base64 of the 20 raw bytes of the SHA-1"
    if len(octets) == _OCTETS:
        return None
    expected = "expected base64 of the 20 raw bytes of the SHA-1"
    if len(octets) == 2 * _OCTETS and _HEX_DIGITS.issuperset(octets):
        return f"looks like base64 of the 40 hex digits; {expected}"
    stripped = base_64.strip()
    if len(stripped) == 2 * _OCTETS and _HEX_DIGITS.issuperset(stripped.encode()):
        return f"looks like hex; {expected}"
    return f"decodes to {len(octets)} bytes; {expected}"

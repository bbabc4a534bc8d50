"""Delayed documents in a Bundle: DocumentReferences of size 0, with the hash of nothing, without document.

MHD 4.2.4, ITI TF-2: 3.65.4.1.2.1. Each is registered as it says, and assembled by the repository when it is first
retrieved (docs/adr/0017-delayed-documents.md): by whoever is configured to make it, or fetched from its URL, where
that lies on a server that the settings name. A document that stays on such a server is registered in the same way, with
the hash and size that it has there (docs/adr/0022-a-linked-document-is-fetched-each-time.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mhd.fhir.exact_text import Json
from mhd.mapping.hashes import base_64_of
from xds.metadata import HASH_OF_NOTHING

NOTHING: Final = base_64_of(HASH_OF_NOTHING)
"""attachment.hash of a delayed document."""


@dataclass(frozen=True, slots=True)
class Delayed:
    """Which documents are taken that are not in the Bundle.

    is_made      whether somebody makes the document of an entry with this uniqueId
    is_fetched   whether the document at this absolute URL is fetched when it is first retrieved
    is_linked    whether the document at this absolute URL stays there, and is fetched whenever it is retrieved
    """

    is_made: Callable[[str], bool]
    is_fetched: Callable[[str], bool]
    is_linked: Callable[[str], bool]


def says_delayed(attachment: Json) -> bool:
    """Whether an attachment that is not in the Bundle is that of a delayed document."""
    return attachment.get("hash") == NOTHING and attachment.get("size") == 0 and "://" in attachment.get("url", "")

"""Restricted Update Document Set [ITI-92].

ITI TF-2: 3.92. An update of DocumentEntries alone, which leaves their identifiers, their patient and their status as
they are; what it does is what ITI-57 does (registry/iti57_update.py), the rules are rows for ITI-92.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from registry.iti57_update import update_document_set
from xds.transactions import ITI_92

restricted_update_document_set: Final = partial(update_document_set, transaction=ITI_92)
"""Do all that an update asks for, or nothing; see update_document_set."""

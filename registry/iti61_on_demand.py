"""Register On-Demand Document Entry [ITI-61].

ITI TF-2: 3.61. Entries of documents that are made when they are retrieved are registered as those of stable documents
are (registry/iti42_register.py); what their metadata has to be is in the rows of xds/metadata_rules.py.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from registry.iti42_register import register_document_set
from xds.transactions import ITI_61

register_on_demand: Final = partial(register_document_set, transaction=ITI_61)
"""Register all objects of a submission, or none of them; see register_document_set."""

"""What becomes of an object that lacks what XDS requires: it is filled in, or declared to be limited.

Minimal metadata of MHD is that of a source of limited metadata (ITI TF-3: Table 4.3.1-3).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mhd.mapping.document_list import FOLDER_PLACES, SUBMISSION_SET_PLACES
from mhd.mapping.document_reference import PLACES
from mhd.mapping.reading import Reading
from mhd.mapping.times import dtm_of
from mhd.submitting.submission_options import Minimal, SubmissionOptions
from mhd.submitting.transaction_bundle import BundleEntry
from xds.metadata import AnyObject, Association, DocumentEntry, Folder, ObjectKind, SubmissionSet
from xds.metadata_names import term
from xds.metadata_rules import LEFT_OUT_WHEN_LIMITED, lacking
from xds.transactions import ITI_41

_PLACES = {
    ObjectKind.DOCUMENT_ENTRY: PLACES,
    ObjectKind.SUBMISSION_SET: SUBMISSION_SET_PLACES,
    ObjectKind.FOLDER: FOLDER_PLACES,
}
_SEVERAL = frozenset({"confidentiality_code", "code_list"})


def completed(
    item: AnyObject,
    submission_set: SubmissionSet | None,
    options: SubmissionOptions,
    entry: BundleEntry,
    reading: Reading,
) -> AnyObject:
    """An object of a Bundle with minimal metadata, as it is submitted."""
    if isinstance(item, Association):
        return item
    missing = [each for each in lacking(item, ITI_41) if each in LEFT_OUT_WHEN_LIMITED]
    if options.minimal is Minimal.ACCEPT and missing:
        return replace(item, limited_metadata=True)
    if options.minimal is not Minimal.FILL:
        return item
    filled = {name: value for name in missing if (value := _default(name, item, submission_set, options, entry))}
    for name in filled:
        sentence = f"{term(name)} was not sent; that of this server's settings is kept."
        reading.warn(f"{entry.resource_path}.{_PLACES[item.kind][name]}", sentence)
    return replace(item, **filled)


def _default(
    name: str,
    item: DocumentEntry | SubmissionSet | Folder,
    submission_set: SubmissionSet | None,
    options: SubmissionOptions,
    entry: BundleEntry,
) -> Any:
    codes = options.defaults.get(name, ())
    if codes:
        return codes if name in _SEVERAL else codes[0]
    if name == "language_code":
        return options.default_language
    if name == "source_patient_id":
        return item.patient_id
    if name == "creation_time":
        date = entry.resource.get("date")
        return dtm_of(date) if date else submission_set and submission_set.submission_time
    return None

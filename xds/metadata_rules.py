"""What metadata has to be before it may be registered: the rules as rows.

ITI TF-3: 4.2.3, for submissions with Provide and Register Document Set-b [ITI-41], Register Document Set-b [ITI-42],
Register On-Demand Document Entry [ITI-61] and the updates [ITI-57] and [ITI-92].
The tables here are about the attributes of one object, those of xds/message_rules.py about the objects of a message
together. Rules that need to know what is registered are in registry/lifecycle.py and registry/metadata_update.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from xds import metadata_forms as forms
from xds.errors import ErrorCode, Finding, Severity
from xds.message_rules import message_findings
from xds.metadata import (
    AnyObject,
    Association,
    AvailabilityStatus,
    DocumentEntry,
    DocumentEntryType,
    ObjectKind,
    Submission,
)
from xds.metadata_forms import Form
from xds.metadata_names import canonical_id, is_uuid_urn, location, named, shown, term
from xds.transactions import ITI_41, ITI_42, ITI_61, ITI_92, UPDATES, Transaction

_NEW = frozenset({ITI_41.name, ITI_42.name, ITI_61.name})
_EVERY_ONE = _NEW | UPDATES
_REGISTER = frozenset({ITI_42.name, ITI_61.name})
_NEITHER: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What a deployment takes although the standard would not.

    limited_metadata      objects that say that their metadata is limited, without LEFT_OUT_WHEN_LIMITED
    source_patient_info   how a sourcePatientInfo that breaks the rules is told; None: it is not
    """

    limited_metadata: bool = False
    source_patient_info: Severity | None = Severity.ERROR

    def severity(self, attribute: str) -> Severity | None:
        """How a value of an attribute is told that is not as it should be."""
        return self.source_patient_info if attribute == "source_patient_info" else Severity.ERROR


STRICT = Tolerance()

# What is required of an attribute ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AttributeRule:
    """One attribute of one kind of object.

    form       what each of its values has to look like
    required   in which transactions it must be there
    only       in these transactions alone is it judged; None: in all
    """

    attribute: str
    form: Form
    required: frozenset[str] = _NEITHER
    only: frozenset[str] | None = None

    def is_required(self, transaction: Transaction, *, limited: bool) -> bool:
        """Whether an object of this transaction has to have the attribute, be its metadata limited or not."""
        return transaction.name in self.required and not (limited and self.attribute in LEFT_OUT_WHEN_LIMITED)


_EVERY_KIND = (
    AttributeRule("entry_uuid", forms.ENTRY_UUID, required=_EVERY_ONE),
    AttributeRule("extra_slots", forms.SLOT),
    AttributeRule("extra_classifications", forms.CLASSIFICATION),
    AttributeRule("extra_identifiers", forms.CLASSIFICATION),
)
LEFT_OUT_WHEN_LIMITED = frozenset(
    {"class_code", "code_list", "confidentiality_code", "content_type_code", "creation_time", "format_code",
     "healthcare_facility_type_code", "language_code", "practice_setting_code", "source_patient_id", "title",
     "type_code"}
)  # fmt: skip
"""What limited metadata may lack (ITI TF-3: Table 4.3.1-3, "XDR MS"). A dossier is a patient's, so patientId stays."""

_APPROVED_AT_MOST = AttributeRule(
    "availability_status", forms.exactly(AvailabilityStatus.APPROVED, "the status Approved, or none")
)
_NO_LIMITED_METADATA = AttributeRule(
    "limited_metadata", forms.never("XDS needs all of the metadata; leave the limitedMetadata Classification out")
)

DOCUMENT_ENTRY_RULES = (  # ITI TF-3: 4.2.3.2
    *_EVERY_KIND,
    AttributeRule("author", forms.AUTHOR),
    AttributeRule("class_code", forms.CODE, required=_EVERY_ONE),
    AttributeRule("confidentiality_code", forms.CODE, required=_EVERY_ONE),
    AttributeRule("creation_time", forms.TIME, required=_EVERY_ONE),
    AttributeRule("document_availability", forms.TEXT),
    AttributeRule("event_code_list", forms.CODE),
    AttributeRule("format_code", forms.CODE, required=_EVERY_ONE),
    AttributeRule("hash", forms.HASH, required=_REGISTER),
    AttributeRule("healthcare_facility_type_code", forms.CODE, required=_EVERY_ONE),
    AttributeRule("language_code", forms.LANGUAGE, required=_EVERY_ONE),
    AttributeRule("legal_authenticator", forms.PERSON),
    _NO_LIMITED_METADATA,
    AttributeRule("mime_type", forms.MIME_TYPE, required=_EVERY_ONE),
    AttributeRule(
        "object_type",
        forms.exactly(
            DocumentEntryType.STABLE,
            f"{DocumentEntryType.STABLE}; on-demand documents are registered with ITI-61",
        ),
        required=_NEW,
        only=_NEW - {ITI_61.name},
    ),
    AttributeRule(
        "object_type",
        forms.exactly(
            DocumentEntryType.ON_DEMAND, f"{DocumentEntryType.ON_DEMAND}; other documents are registered with ITI-42"
        ),
        required=frozenset({ITI_61.name}),
        only=frozenset({ITI_61.name}),
    ),
    AttributeRule("object_type", forms.ENTRY_TYPE, required=UPDATES, only=UPDATES),
    AttributeRule("patient_id", forms.PATIENT_ID, required=_EVERY_ONE),
    AttributeRule("practice_setting_code", forms.CODE, required=_EVERY_ONE),
    AttributeRule("reference_id_list", forms.REFERENCE_ID),
    AttributeRule("repository_unique_id", forms.OID, required=_REGISTER),
    AttributeRule("service_start_time", forms.TIME),
    AttributeRule("service_stop_time", forms.TIME),
    AttributeRule("size", forms.SIZE, required=_REGISTER),
    AttributeRule("source_patient_id", forms.PATIENT_ID, required=_EVERY_ONE),
    AttributeRule("source_patient_info", forms.PATIENT_INFO),
    AttributeRule("title", forms.TITLE),
    AttributeRule("type_code", forms.CODE, required=_EVERY_ONE),
    AttributeRule("unique_id", forms.DOCUMENT_UNIQUE_ID, required=_EVERY_ONE),
)
_MADE_AT_RETRIEVAL = forms.never("an on-demand document is made when it is retrieved; leave it out")
_UNKNOWN_BEFORE_RETRIEVAL = ("creation_time", "hash", "size", "legal_authenticator")
ON_DEMAND_ENTRY_RULES = tuple(  # ITI TF-3: 4.2.3.2, Table 4.3.1.2-1
    AttributeRule(rule.attribute, _MADE_AT_RETRIEVAL) if rule.attribute in _UNKNOWN_BEFORE_RETRIEVAL else rule
    for rule in DOCUMENT_ENTRY_RULES
)
SUBMISSION_SET_RULES = (  # ITI TF-3: 4.2.3.3
    *_EVERY_KIND,
    AttributeRule("author", forms.AUTHOR),
    _APPROVED_AT_MOST,
    AttributeRule("content_type_code", forms.CODE, required=_EVERY_ONE),
    AttributeRule("intended_recipient", forms.RECIPIENT),
    _NO_LIMITED_METADATA,
    AttributeRule("patient_id", forms.PATIENT_ID, required=_EVERY_ONE),
    AttributeRule("source_id", forms.OID, required=_EVERY_ONE),
    AttributeRule("submission_time", forms.TIME, required=_EVERY_ONE),
    AttributeRule("unique_id", forms.OID, required=_EVERY_ONE),
)
FOLDER_RULES = (  # ITI TF-3: 4.2.3.4
    *_EVERY_KIND,
    _APPROVED_AT_MOST,
    AttributeRule("code_list", forms.CODE, required=_EVERY_ONE),
    AttributeRule("last_update_time", forms.TIME_WITH_SECONDS),
    _NO_LIMITED_METADATA,
    AttributeRule("patient_id", forms.PATIENT_ID, required=_EVERY_ONE),
    AttributeRule("title", forms.TITLE, required=_EVERY_ONE),
    AttributeRule("unique_id", forms.OID, required=_EVERY_ONE),
)
ASSOCIATION_RULES = (  # ITI TF-3: 4.2.2
    *_EVERY_KIND,
    AttributeRule("documentation", forms.CODE),
    *(
        AttributeRule(
            attribute,
            forms.never(
                f"metadata is updated with ITI-57; leave the Slot {term(attribute)[0].upper()}{term(attribute)[1:]} out"
            ),
            only=_NEW,
        )
        for attribute in ("previous_version", "original_status", "new_status", "association_propagation")
    ),
    AttributeRule("previous_version", forms.VERSION, only=UPDATES),
    AttributeRule("original_status", forms.STATUS, only=UPDATES),
    AttributeRule("new_status", forms.STATUS, only=UPDATES),
    AttributeRule("association_propagation", forms.YES_OR_NO, only=UPDATES),
)
ATTRIBUTE_RULES: Mapping[ObjectKind, tuple[AttributeRule, ...]] = {
    ObjectKind.DOCUMENT_ENTRY: DOCUMENT_ENTRY_RULES,
    ObjectKind.SUBMISSION_SET: SUBMISSION_SET_RULES,
    ObjectKind.FOLDER: FOLDER_RULES,
    ObjectKind.ASSOCIATION: ASSOCIATION_RULES,
}


def _rules_for(item: AnyObject) -> tuple[AttributeRule, ...]:
    if isinstance(item, DocumentEntry) and item.object_type == DocumentEntryType.ON_DEMAND:
        return ON_DEMAND_ENTRY_RULES
    return ATTRIBUTE_RULES[item.kind]


def _is_limited(item: AnyObject) -> bool:
    return not isinstance(item, Association) and item.limited_metadata


def lacking(item: AnyObject, transaction: Transaction) -> list[str]:
    """The attributes that an object must have and has not."""
    limited = _is_limited(item)
    rules = (rule for rule in _rules_for(item) if rule.is_required(transaction, limited=limited))
    return [rule.attribute for rule in rules if getattr(item, rule.attribute) in (None, (), "")]


def _attribute_findings(item: AnyObject, transaction: Transaction, tolerance: Tolerance) -> Iterator[Finding]:
    limited = tolerance.limited_metadata and _is_limited(item)
    for rule in _rules_for(item):
        if rule.only is not None and transaction.name not in rule.only:
            continue
        value = getattr(item, rule.attribute)
        if limited and rule is _NO_LIMITED_METADATA:
            continue
        if value is None or value == () or value is False:
            if rule.is_required(transaction, limited=limited):
                yield Finding(
                    f"{term(rule.attribute)} of {named(item)} is missing; send {rule.form.send}.",
                    location(item, rule.attribute),
                )
            continue
        for single in value if type(value) is tuple else (value,):
            problem = rule.form.problem(single)
            if problem and (severity := tolerance.severity(rule.attribute)):
                sentence = f"{term(rule.attribute)} of {named(item)} {problem}."
                yield Finding(sentence, location(item, rule.attribute), severity=severity)


# What is required of an object as a whole --------------------------------------------------------------------------

Complaint: TypeAlias = tuple[str, str]
"""(attribute, what is wrong with it: the end of a sentence that begins with the object's name)."""


@dataclass(frozen=True, slots=True)
class ObjectRule:
    """One relation between the attributes of an object of these kinds, in these transactions."""

    kinds: frozenset[ObjectKind]
    complaints: Callable[[Any], Iterator[Complaint]]
    transactions: frozenset[str] = _EVERY_ONE
    codes: Mapping[str, ErrorCode] = field(default_factory=dict)


def _stops_after_it_starts(entry: DocumentEntry) -> Iterator[Complaint]:
    start, stop = entry.service_start_time, entry.service_stop_time
    if start and stop and not start.problem() and not stop.problem() and start.first > stop.last:
        yield "service_stop_time", f"has the serviceStopTime {stop} before the serviceStartTime {start}; exchange them"


def _slot_names_differ(item: AnyObject) -> Iterator[Complaint]:
    if len(item.extra_slots) < 2:
        return
    for name, times in Counter(slot.name for slot in item.extra_slots).items():
        if name and times > 1:
            yield "extra_slots", f"has the Slot {shown(name)} {times} times; send one Slot with all values"


def _no_version_of_something_else(item: AnyObject) -> Iterator[Complaint]:
    if item.logical_id and canonical_id(item.logical_id) != canonical_id(item.entry_uuid):
        yield (
            "logical_id",
            f"has the logicalID {shown(item.logical_id)} of another object; a new version is registered with ITI-57, "
            "here leave the lid out",
        )


def _version_of_something(item: AnyObject) -> Iterator[Complaint]:
    if not item.logical_id:
        yield "logical_id", "has no logicalID; send the logicalID (lid) of the object that it is a new version of"
    elif not is_uuid_urn(item.logical_id):
        yield (
            "logical_id",
            f"has the logicalID {shown(item.logical_id)}; send that of a registered object, urn:uuid:...",
        )
    elif canonical_id(item.logical_id) == canonical_id(item.entry_uuid):
        yield "logical_id", "has its logicalID as id, as a first version; send a new id, or register it with ITI-42"


_EVERY = frozenset(ObjectKind)
_VERSIONED = frozenset({ObjectKind.DOCUMENT_ENTRY, ObjectKind.FOLDER})
OBJECT_RULES = (
    ObjectRule(frozenset({ObjectKind.DOCUMENT_ENTRY}), _stops_after_it_starts),
    ObjectRule(_EVERY, _slot_names_differ),
    ObjectRule(_EVERY, _no_version_of_something_else, _NEW),
    ObjectRule(_VERSIONED, _version_of_something, UPDATES, {ITI_92.name: ErrorCode.INVALID_REQUEST}),
)


def _object_findings(item: AnyObject, transaction: Transaction) -> Iterator[Finding]:
    for rule in OBJECT_RULES:
        if item.kind in rule.kinds and transaction.name in rule.transactions:
            for attribute, complaint in rule.complaints(item):
                code = rule.codes.get(transaction.name)
                yield Finding(f"{named(item)} {complaint}.", location(item, attribute), code)


def findings(submission: Submission, transaction: Transaction, tolerance: Tolerance = STRICT) -> list[Finding]:
    """All that is wrong with a submission or update: what the reader found and every broken rule."""
    found = [*submission.findings, *message_findings(submission, transaction)]
    for item in submission.objects:
        found.extend(_attribute_findings(item, transaction, tolerance))
        found.extend(_object_findings(item, transaction))
    return found

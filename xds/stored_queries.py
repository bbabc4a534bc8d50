"""The stored queries of Registry Stored Query [ITI-18] and Multi-Patient Stored Query [ITI-51] as rows.

ITI TF-2: 3.18.4.1.2.3.7 and 3.51.4.1.2.1 list the queries and their parameters, 3.18.4.1.2.3.4 says how values are
coded; `bind` reads a request as its row says.
A new stored query is a new row of STORED_QUERIES. Binding has no I/O: what comes out says which search columns must
match what, and registry/iti18_stored_query.py asks the store.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final, NamedTuple

from xds.actors import QueryRequest, ReturnType
from xds.errors import ErrorCode, RegistryError, XdsError
from xds.hl7v2 import CX, DTM, is_oid
from xds.metadata import AvailabilityStatus, DocumentEntryType, ObjectKind
from xds.metadata_forms import LONGEST_SLOT_VALUE
from xds.metadata_names import canonical_id, shown
from xds.transactions import ITI_18, ITI_51, Transaction

FIND_DOCUMENTS: Final = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
GET_DOCUMENTS: Final = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
GET_FOLDERS: Final = "urn:uuid:5737b14c-8a1a-4539-b659-e03a34a5e1e4"
GET_ASSOCIATIONS: Final = "urn:uuid:a7ae438b-4bc2-4642-93e9-be891f7bb155"
GET_SUBMISSION_SETS: Final = "urn:uuid:51224314-5390-4169-9b91-b1980040715a"
GET_SUBMISSION_SET_AND_CONTENTS: Final = "urn:uuid:e8e3cb2c-e39c-46b9-99e4-c12f57260b83"
GET_FOLDER_AND_CONTENTS: Final = "urn:uuid:b909a503-523d-4517-8acf-8e5834dfc4c7"
"""Ids of the queries that Toimik itself asks (ITI TF-2: 3.18.4.1.2.4)."""


def quoted(value: str) -> str:
    """A text as the value of a parameter that takes one (ITI TF-2: 3.18.4.1.2.3.5): 'O''Brien'."""
    return "'" + value.replace("'", "''") + "'"


def listed(values: Iterable[str]) -> tuple[str, ...]:
    """Texts as the Values of a parameter that takes several: ('one','another').

    All of them is what is asked for; a Value has as many as ebRIM has room for (256), or one.
    """
    lists: list[list[str]] = []
    room = 0
    for each in map(quoted, values):
        if len(each) >= room:
            lists.append([])
            room = LONGEST_SLOT_VALUE - 1  # without the parentheses; each text has a comma or the end after it
        lists[-1].append(each)
        room -= len(each) + 1
    return tuple(f"({','.join(each)})" for each in lists)


def coded_parameter(query_id: str, name: str, values: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """A parameter of a query of ours: what takes a list in one query may take a single text in another."""
    query = STORED_QUERIES[query_id]
    parameter = next(each for each in (*query.one_of, *query.parameters) if each.name == name)
    return name, tuple(map(quoted, values)) if parameter.operator is Operator.EQUALS else listed(values)


class Operator(Enum):
    """The ways in which a criterion matches a search column; all that a store implements.

    A column with several values matches where one of them does. An object without a value matches nothing, but for
    NONE_OF and UNLIKE, which match whatever ALL_OF_ANY_OF and LIKE do not, and for those that say IF_ANY.
    """

    EQUALS = auto()  # one value
    ANY_OF = auto()  # several values, one of which is equal
    ALL_OF_ANY_OF = auto()  # several groups of values; of each group one is equal (to any of the column's values)
    AT_OR_AFTER = auto()  # the last second that the time may mean is not before this one (14 digits)
    BEFORE = auto()  # the first second that the time may mean is before this one (14 digits)
    AT_OR_AFTER_IF_ANY = auto()  # AT_OR_AFTER, or there is no time
    BEFORE_IF_ANY = auto()  # BEFORE, or there is no time
    LIKE = auto()  # several patterns, one of which matches: % any text, _ one character; case does not matter
    STARTS_WITH = auto()  # several beginnings, one of which is the value's; case matters
    ENDS_WITH = auto()  # several ends, one of which is the value's; case matters
    NONE_OF = auto()  # several groups of values; of one group at least none is equal
    UNLIKE = auto()  # several patterns, none of which matches
    PRESENT = auto()  # any value at all; the one group is empty


OF_TIMES: Final = frozenset(
    {Operator.AT_OR_AFTER, Operator.BEFORE, Operator.AT_OR_AFTER_IF_ANY, Operator.BEFORE_IF_ANY}
)
"""The operators that take one time."""


class Answer(Enum):
    """What a stored query returns. `start` is what its identifying parameters select."""

    MATCHES = auto()  # the objects of one kind that meet all parameters
    EVERYTHING = auto()  # the SubmissionSets, DocumentEntries and Folders of a patient, and the links between them
    ASSOCIATIONS = auto()  # the associations that have one of the named objects at an end
    START_AND_ASSOCIATIONS = auto()  # start, and the associations that have one of it at an end
    SUBMISSION_SETS = auto()  # the SubmissionSets that brought the named objects, and the links to those
    CONTENTS = auto()  # start (a SubmissionSet or Folders), its members, and the links between what is returned
    FOLDERS = auto()  # the Folders that hold start
    RELATED = auto()  # start, the documents related to it, and the associations that relate them


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a stored query.

    of          the kind of object it restricts; None: the query as a whole (see BoundQuery)
    attribute   the search column that its values are compared with
    operator    also says how often it may be given: EQUALS and those of times take one value, the others several,
                and only some may be repeated
    read        how one value is judged and normalised; None: any text, as it is
    single      one value only, although the operator could take several
    default     its values where it is not sent
    instead_of  the parameter that may not be sent beside this one, and has no default where this one is sent
    """

    name: str
    of: ObjectKind | None
    attribute: str
    operator: Operator
    read: Callable[[str], str] | None = None
    required: bool = False
    single: bool = False
    default: tuple[str, ...] = ()
    instead_of: str | None = None

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent several times, each of which has to match; of NONE_OF, where what it excludes may."""
        lists = ("event_code_list", "confidentiality_code", "reference_id_list")
        return self.operator is Operator.ALL_OF_ANY_OF or (
            self.operator is Operator.NONE_OF and self.attribute in lists
        )


@dataclass(frozen=True, slots=True)
class StoredQuery:
    """One stored query.

    finds     the kind of object that it finds, or starts with
    one_of    of these parameters exactly one must be given; they select what the query finds, or starts with
    follows   for Answer.CONTENTS: the kinds of members that belong to the answer
    narrowed_by   of these parameters at least one must be sent
    transaction   what it is asked with; one of ITI-51 may be answered with objects of several patients
    """

    name: str
    id: str
    finds: ObjectKind
    answer: Answer
    parameters: tuple[Parameter, ...] = ()
    one_of: tuple[Parameter, ...] = ()
    follows: tuple[ObjectKind, ...] = ()
    narrowed_by: tuple[str, ...] = ()
    transaction: Transaction = ITI_18


class Condition(NamedTuple):
    """One search column and what it must match. groups: one group of values, but for ALL_OF_ANY_OF.

    A tuple, because every query makes a dozen and a frozen dataclass takes three times as long.
    """

    attribute: str
    operator: Operator
    groups: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class BoundQuery:
    """A stored query whose parameters are read and sound.

    patient_ids  CX texts; none where the query names objects, not a patient
    uuids        entryUUIDs of objects of any kind ($uuid)
    start        what selects the objects that the query finds, or starts with
    filters      what else objects of a kind must meet to be part of the answer
    all_versions   $MetadataLevel 2: what is not current is part of the answer, too
    """

    query: StoredQuery
    return_type: ReturnType
    patient_ids: tuple[str, ...]
    uuids: tuple[str, ...]
    start: tuple[Condition, ...]
    filters: Mapping[ObjectKind, Sequence[Condition]]
    all_versions: bool = False


_EXAMPLE = "send 'value', ('value') or ('value', 'value'), with '' for a quote inside a value"
# What nearly all values look like. Possessive, so that no text takes more than linear time.
_ONE_VALUE = re.compile(r"\s*+(\()?+\s*+'([^']++)'\s*+(?(1)\)\s*+)")
_PLAIN_LIST = re.compile(r"\(\s*+'[^']++'(?:\s*+,\s*+'[^']++')*+\s*+\)")
_QUOTED = re.compile(r"'([^']*(?:''[^']*)*)'")
_BLANKS = re.compile(r"\s*")
_USUAL_PATIENT_ID = re.compile(r"[^\s^&]++\^\^\^&([0-9.]++)&ISO")
_USUAL_TIME = re.compile(
    r"[12][0-9]{3}(?:(?:0[1-9]|1[0-2])(?:(?:0[1-9]|1[0-9]|2[0-8])(?:(?:[01][0-9]|2[0-3])(?:[0-5][0-9]){0,2})?)?)?"
)


def values_of(texts: Sequence[str]) -> tuple[str, ...]:
    """The values that the Value elements of a slot hold, in their order (ITI TF-2: 3.18.4.1.2.3.4).

    Read are 'a', ('a'), ('a','b') with blanks anywhere between, '' as a quote inside quotes, and values without quotes;
    several Value elements make one list.
    Raises ValueError with a predicate for the name of the parameter: what it holds, and what to send.
    """
    if len(texts) == 1:
        one = _ONE_VALUE.fullmatch(texts[0])
        if one and not one[2].isspace():
            return (one[2],)
    return tuple([value for text in texts for value in _items(text)])


def _items(text: str) -> list[str]:
    """The values of one Value element, however many."""
    inner = text.strip()
    if _PLAIN_LIST.fullmatch(inner):
        items = inner.split("'")[1::2]
        if not any(map(str.isspace, items)):
            return items
    if inner.startswith("("):
        if not inner.endswith(")"):
            raise ValueError(f"holds {shown(text)}, a list that is not closed; {_EXAMPLE}")
        inner = inner[1:-1].strip()
    elif "'" not in inner:
        return [inner] if inner else []
    items = []
    position = 0
    while inner:
        position = _after_blanks(inner, position)
        quoted = _QUOTED.match(inner, position)
        if quoted:
            item = quoted[1].replace("''", "'")
            position = _after_blanks(inner, quoted.end())
        else:
            comma = inner.find(",", position)
            end = comma if comma >= 0 else len(inner)
            item, position = inner[position:end].strip(), end
        if not item or item.isspace():
            raise ValueError(f"holds {shown(text)}, with an empty value; leave that out")
        if (not quoted and "'" in item) or inner[position : position + 1] not in ("", ","):
            raise ValueError(f"holds {shown(text)}, which can not be read; {_EXAMPLE}")
        items.append(item)
        if position == len(inner):
            break
        position += 1
    return items


def _after_blanks(text: str, position: int) -> int:
    blanks = _BLANKS.match(text, position)
    return blanks.end() if blanks else position


def _patient_id(value: str) -> str:
    usual = _USUAL_PATIENT_ID.fullmatch(value)
    problem = None if usual and is_oid(usual[1]) else CX(value).problem()
    if problem:
        raise ValueError(f"is not a patient id: {problem}")
    return value


def _code(value: str) -> str:
    code, _, scheme = value.partition("^^")
    if not code or not scheme or "^" in code or "^" in scheme:
        raise ValueError(f"holds the code {shown(value)}; send code^^codingScheme, both of them")
    return value


def _time(value: str) -> str:
    time = DTM(value)
    problem = None if _USUAL_TIME.fullmatch(value) else time.problem()
    if problem:
        raise ValueError(f"is wrong: {problem if len(value) < 32 else f'{shown(value)} is not a time'}")
    return time.first


def _status(value: str) -> str:
    if value in _STATUSES:
        return value
    raise ValueError(f"holds {shown(value)}, which is not an availabilityStatus; send {_either(_STATUSES)}")


def _entry_type(value: str) -> str:
    if value.lower() in _ENTRY_TYPES:
        return value.lower()
    raise ValueError(f"holds {shown(value)}, which is not a type of DocumentEntry; send {_either(_ENTRY_TYPES)}")


def _level(value: str) -> str:
    if value in ("1", "2"):
        return value
    raise ValueError(f"holds {shown(value)}; send 1 for the newest versions, or 2 for all of them")


_STATUSES = tuple(status.value for status in AvailabilityStatus)
_ENTRY_TYPES = tuple(entry_type.value for entry_type in DocumentEntryType)


def _either(names: Iterable[str]) -> str:
    return " or ".join(names)


_ENTRY = ObjectKind.DOCUMENT_ENTRY
_SET = ObjectKind.SUBMISSION_SET
_FOLDER = ObjectKind.FOLDER
_ASSOCIATION = ObjectKind.ASSOCIATION
_EQUALS, _ANY_OF, _ALL_OF_ANY_OF = Operator.EQUALS, Operator.ANY_OF, Operator.ALL_OF_ANY_OF
_AT_OR_AFTER, _BEFORE, _LIKE = Operator.AT_OR_AFTER, Operator.BEFORE, Operator.LIKE
# A DocumentEntry without the time is not left out by what the time has to be (ITI TF-2: 3.18.4.1.2.3.3.1); nor is an
# on-demand document, which has no creationTime (3.18.4.1.2.3.7.1, note 6).
_FROM_IF_ANY, _TO_IF_ANY = Operator.AT_OR_AFTER_IF_ANY, Operator.BEFORE_IF_ANY
_OF_ONE_VALUE = OF_TIMES | {_EQUALS}
METADATA_LEVEL = "$MetadataLevel"
"""A parameter of every query: 1 (the default) for what is current only, 2 for all there is.

At 1 no older version of a DocumentEntry or Folder is found, nor what is Offline, nor a Folder or Association that is
Deprecated (ITI TF-2: 3.18.4.1.2.3.5.1.1).
"""

_ENTRY_STATUS = Parameter("$XDSDocumentEntryStatus", _ENTRY, "availability_status", _ANY_OF, _status, required=True)
_SET_STATUS = Parameter("$XDSSubmissionSetStatus", _SET, "availability_status", _ANY_OF, _status, required=True)
_FOLDER_STATUS = Parameter("$XDSFolderStatus", _FOLDER, "availability_status", _ANY_OF, _status, required=True)
_ASSOCIATION_STATUS = Parameter(
    "$XDSAssociationStatus", _ASSOCIATION, "availability_status", _ANY_OF, _status,
    default=(AvailabilityStatus.APPROVED.value,),
)  # fmt: skip
_ENTRY_TYPE = Parameter(
    "$XDSDocumentEntryType", _ENTRY, "object_type", _ANY_OF, _entry_type,
    default=(DocumentEntryType.STABLE.value,),
)  # fmt: skip
_ENTRY_FILTERS = (
    Parameter("$XDSDocumentEntryFormatCode", _ENTRY, "format_code", _ANY_OF, _code),
    Parameter("$XDSDocumentEntryConfidentialityCode", _ENTRY, "confidentiality_code", _ALL_OF_ANY_OF, _code),
    _ENTRY_TYPE,
)
_FIND_DOCUMENTS_PARAMETERS = (
    Parameter("$XDSDocumentEntryPatientId", None, "patient_id", _EQUALS, _patient_id, required=True),
    _ENTRY_STATUS,
    Parameter("$XDSDocumentEntryClassCode", _ENTRY, "class_code", _ANY_OF, _code),
    Parameter("$XDSDocumentEntryTypeCode", _ENTRY, "type_code", _ANY_OF, _code),
    Parameter("$XDSDocumentEntryPracticeSettingCode", _ENTRY, "practice_setting_code", _ANY_OF, _code),
    Parameter("$XDSDocumentEntryHealthcareFacilityTypeCode", _ENTRY, "healthcare_facility_type_code", _ANY_OF, _code),
    Parameter("$XDSDocumentEntryEventCodeList", _ENTRY, "event_code_list", _ALL_OF_ANY_OF, _code),
    Parameter("$XDSDocumentEntryCreationTimeFrom", _ENTRY, "creation_time", _FROM_IF_ANY, _time),
    Parameter("$XDSDocumentEntryCreationTimeTo", _ENTRY, "creation_time", _TO_IF_ANY, _time),
    Parameter("$XDSDocumentEntryServiceStartTimeFrom", _ENTRY, "service_start_time", _FROM_IF_ANY, _time),
    Parameter("$XDSDocumentEntryServiceStartTimeTo", _ENTRY, "service_start_time", _TO_IF_ANY, _time),
    Parameter("$XDSDocumentEntryServiceStopTimeFrom", _ENTRY, "service_stop_time", _FROM_IF_ANY, _time),
    Parameter("$XDSDocumentEntryServiceStopTimeTo", _ENTRY, "service_stop_time", _TO_IF_ANY, _time),
    Parameter("$XDSDocumentEntryAuthorPerson", _ENTRY, "author_person", _LIKE),
    *_ENTRY_FILTERS,
)
_ONE_ENTRY = (
    Parameter("$XDSDocumentEntryEntryUUID", _ENTRY, "entry_uuid", _EQUALS, canonical_id),
    Parameter("$XDSDocumentEntryUniqueId", _ENTRY, "unique_id", _EQUALS),
)
_ENTRIES = (
    Parameter("$XDSDocumentEntryEntryUUID", _ENTRY, "entry_uuid", _ANY_OF, canonical_id),
    Parameter("$XDSDocumentEntryUniqueId", _ENTRY, "unique_id", _ANY_OF),
)
_LEVEL = Parameter(METADATA_LEVEL, None, "metadata_level", _EQUALS, _level)
_OBJECTS = Parameter("$uuid", None, "entry_uuid", _ANY_OF, canonical_id, required=True)
_REFERENCE_IDS = Parameter("$XDSDocumentEntryReferenceIdList", _ENTRY, "reference_id_list", _ALL_OF_ANY_OF)
_FIND_FOLDERS_PARAMETERS = (
    Parameter("$XDSFolderPatientId", None, "patient_id", _EQUALS, _patient_id, required=True),
    _FOLDER_STATUS,
    Parameter("$XDSFolderLastUpdateTimeFrom", _FOLDER, "last_update_time", _AT_OR_AFTER, _time),
    Parameter("$XDSFolderLastUpdateTimeTo", _FOLDER, "last_update_time", _BEFORE, _time),
    Parameter("$XDSFolderCodeList", _FOLDER, "code_list", _ALL_OF_ANY_OF, _code),
)
_OPPOSITES = {_ANY_OF: Operator.NONE_OF, _ALL_OF_ANY_OF: Operator.NONE_OF, _LIKE: Operator.UNLIKE}
_EXCLUDABLE = frozenset(
    {"class_code", "type_code", "practice_setting_code", "healthcare_facility_type_code", "format_code",
     "event_code_list", "confidentiality_code", "author_person", "object_type", "reference_id_list"}
)  # fmt: skip


def _excluding(parameters: Iterable[Parameter]) -> tuple[Parameter, ...]:
    """The parameters `...Exclude` of FindDocumentsExclude (CP-ITI-1323): what the others match is left out."""
    return tuple(
        replace(each, name=f"{each.name}Exclude", operator=_OPPOSITES[each.operator], default=(), instead_of=each.name)
        for each in parameters
        if each.attribute in _EXCLUDABLE
    )


def _of_several_patients(parameters: Iterable[Parameter]) -> tuple[Parameter, ...]:
    """The parameters of a query for any number of patients (ITI TF-2: 3.51.4.1.2.1)."""
    return tuple(
        replace(each, operator=_ANY_OF, required=False) if each.attribute == "patient_id" else each
        for each in parameters
    )


_ROWS = (
    StoredQuery(  # ITI TF-2: 3.18.4.1.2.3.7.1
        name="FindDocuments",
        id=FIND_DOCUMENTS,
        finds=_ENTRY,
        answer=Answer.MATCHES,
        parameters=_FIND_DOCUMENTS_PARAMETERS,
    ),
    StoredQuery(  # ITI TF-2: 3.18.4.1.2.3.7.2
        name="FindSubmissionSets",
        id="urn:uuid:f26abbcb-ac74-4422-8a30-edb644bbc1a9",
        finds=_SET,
        answer=Answer.MATCHES,
        parameters=(
            Parameter("$XDSSubmissionSetPatientId", None, "patient_id", _EQUALS, _patient_id, required=True),
            _SET_STATUS,
            Parameter("$XDSSubmissionSetSourceId", _SET, "source_id", _ANY_OF),
            Parameter("$XDSSubmissionSetSubmissionTimeFrom", _SET, "submission_time", _AT_OR_AFTER, _time),
            Parameter("$XDSSubmissionSetSubmissionTimeTo", _SET, "submission_time", _BEFORE, _time),
            Parameter("$XDSSubmissionSetAuthorPerson", _SET, "author_person", _LIKE, single=True),
            Parameter("$XDSSubmissionSetContentType", _SET, "content_type_code", _ANY_OF, _code),
        ),
    ),
    StoredQuery(  # ITI TF-2: 3.18.4.1.2.3.7.3
        name="FindFolders",
        id="urn:uuid:958f3006-baad-4929-a4de-ff1114824431",
        finds=_FOLDER,
        answer=Answer.MATCHES,
        parameters=_FIND_FOLDERS_PARAMETERS,
    ),
    StoredQuery(  # ITI TF-2: 3.18.4.1.2.3.7.4
        name="GetAll",
        id="urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3",
        finds=_ENTRY,
        answer=Answer.EVERYTHING,
        parameters=(
            Parameter("$patientId", None, "patient_id", _EQUALS, _patient_id, required=True),
            _ENTRY_STATUS,
            _SET_STATUS,
            _FOLDER_STATUS,
            *_ENTRY_FILTERS,
            _ASSOCIATION_STATUS,
        ),
    ),
    StoredQuery(  # ITI TF-2: 3.18.4.1.2.3.7.5
        name="GetDocuments",
        id=GET_DOCUMENTS,
        finds=_ENTRY,
        answer=Answer.MATCHES,
        one_of=(*_ENTRIES, Parameter("$XDSDocumentEntryLogicalID", _ENTRY, "logical_id", _ANY_OF, canonical_id)),
    ),
    StoredQuery(  # ITI TF-2: 3.18.4.1.2.3.7.6
        name="GetFolders",
        id=GET_FOLDERS,
        finds=_FOLDER,
        answer=Answer.MATCHES,
        one_of=(
            Parameter("$XDSFolderEntryUUID", _FOLDER, "entry_uuid", _ANY_OF, canonical_id),
            Parameter("$XDSFolderUniqueId", _FOLDER, "unique_id", _ANY_OF),
            Parameter("$XDSFolderLogicalID", _FOLDER, "logical_id", _ANY_OF, canonical_id),
        ),
    ),
    StoredQuery(  # ITI TF-2: 3.18.4.1.2.3.7.7
        name="GetAssociations",
        id=GET_ASSOCIATIONS,
        finds=_ASSOCIATION,
        answer=Answer.ASSOCIATIONS,
        parameters=(_OBJECTS, _ASSOCIATION_STATUS),
    ),
    StoredQuery(  # ITI TF-2: 3.18.4.1.2.3.7.8
        name="GetDocumentsAndAssociations",
        id="urn:uuid:bab9529a-4a10-40b3-a01f-f68a615d247a",
        finds=_ENTRY,
        answer=Answer.START_AND_ASSOCIATIONS,
        one_of=_ENTRIES,
        parameters=(_ASSOCIATION_STATUS,),
    ),
    StoredQuery(  # ITI TF-2: 3.18.4.1.2.3.7.9
        name="GetSubmissionSets",
        id=GET_SUBMISSION_SETS,
        finds=_SET,
        answer=Answer.SUBMISSION_SETS,
        parameters=(_OBJECTS,),
    ),
    StoredQuery(  # ITI TF-2: 3.18.4.1.2.3.7.10
        name="GetSubmissionSetAndContents",
        id=GET_SUBMISSION_SET_AND_CONTENTS,
        finds=_SET,
        answer=Answer.CONTENTS,
        one_of=(
            Parameter("$XDSSubmissionSetEntryUUID", _SET, "entry_uuid", _EQUALS, canonical_id),
            Parameter("$XDSSubmissionSetUniqueId", _SET, "unique_id", _EQUALS),
        ),
        follows=(_ENTRY, _FOLDER, _ASSOCIATION),
        parameters=_ENTRY_FILTERS,
    ),
    StoredQuery(  # ITI TF-2: 3.18.4.1.2.3.7.11
        name="GetFolderAndContents",
        id=GET_FOLDER_AND_CONTENTS,
        finds=_FOLDER,
        answer=Answer.CONTENTS,
        one_of=(
            Parameter("$XDSFolderEntryUUID", _FOLDER, "entry_uuid", _EQUALS, canonical_id),
            Parameter("$XDSFolderUniqueId", _FOLDER, "unique_id", _EQUALS),
        ),
        follows=(_ENTRY,),
        parameters=(*_ENTRY_FILTERS, _ASSOCIATION_STATUS),
    ),
    StoredQuery(  # ITI TF-2: 3.18.4.1.2.3.7.12
        name="GetFoldersForDocument",
        id="urn:uuid:10cae35a-c7f9-4cf5-b61e-fc3278ffb578",
        finds=_ENTRY,
        answer=Answer.FOLDERS,
        one_of=_ONE_ENTRY,
        parameters=(_ASSOCIATION_STATUS,),
    ),
    StoredQuery(  # ITI TF-2: 3.18.4.1.2.3.7.13
        name="GetRelatedDocuments",
        id="urn:uuid:d90e5407-b356-4d91-a89f-873917b4b0e6",
        finds=_ENTRY,
        answer=Answer.RELATED,
        one_of=_ONE_ENTRY,
        parameters=(
            Parameter("$AssociationTypes", _ASSOCIATION, "association_type", _ANY_OF, required=True),
            _ENTRY_TYPE,
            _ASSOCIATION_STATUS,
        ),
    ),
    StoredQuery(  # ITI TF-2: 3.18.4.1.2.3.7.14
        name="FindDocumentsByReferenceId",
        id="urn:uuid:12941a89-e02e-4be5-967c-ce4bfc8fe492",
        finds=_ENTRY,
        answer=Answer.MATCHES,
        parameters=(*_FIND_DOCUMENTS_PARAMETERS, replace(_REFERENCE_IDS, required=True)),
    ),
    StoredQuery(  # ITI TF-2: 3.18.4.1.2.3.7.15 (CP-ITI-1323)
        name="FindDocumentsExclude",
        id="urn:uuid:4308b1df-36de-4bef-8e2e-ba91f593c435",
        finds=_ENTRY,
        answer=Answer.MATCHES,
        parameters=(
            *_FIND_DOCUMENTS_PARAMETERS,
            _REFERENCE_IDS,
            *_excluding((*_FIND_DOCUMENTS_PARAMETERS, _REFERENCE_IDS)),
        ),
    ),
    StoredQuery(  # ITI TF-2: 3.51.4.1.2.1.1
        name="FindDocumentsForMultiplePatients",
        id="urn:uuid:3d1bdb10-39a2-11de-89c2-2f44d94eaa9f",
        finds=_ENTRY,
        answer=Answer.MATCHES,
        parameters=_of_several_patients(_FIND_DOCUMENTS_PARAMETERS),
        narrowed_by=(
            "$XDSDocumentEntryPatientId",
            "$XDSDocumentEntryClassCode",
            "$XDSDocumentEntryEventCodeList",
            "$XDSDocumentEntryHealthcareFacilityTypeCode",
        ),
        transaction=ITI_51,
    ),
    StoredQuery(  # ITI TF-2: 3.51.4.1.2.1.2
        name="FindFoldersForMultiplePatients",
        id="urn:uuid:50d3f5ac-39a2-11de-a1ca-b366239e58df",
        finds=_FOLDER,
        answer=Answer.MATCHES,
        parameters=_of_several_patients(_FIND_FOLDERS_PARAMETERS),
        narrowed_by=("$XDSFolderPatientId", "$XDSFolderCodeList"),
        transaction=ITI_51,
    ),
    StoredQuery(  # ITI TF-2: 3.51.4.1.2.1.3
        name="FindDocumentsByReferenceIdForMultiplePatients",
        id="urn:uuid:1191642d-86c4-42d8-b784-f95445f9f0d5",
        finds=_ENTRY,
        answer=Answer.MATCHES,
        parameters=_of_several_patients((*_FIND_DOCUMENTS_PARAMETERS, replace(_REFERENCE_IDS, required=True))),
        transaction=ITI_51,
    ),
)

STORED_QUERIES: Mapping[str, StoredQuery] = {row.id: row for row in _ROWS}
"""Every stored query of ITI-18 and ITI-51 by its id."""


def bind(request: QueryRequest, transaction: Transaction = ITI_18) -> BoundQuery:
    """The query that `request` asks for, with its parameters read.

    Parameters that the query does not have are ignored (among them $homeCommunityId), and so is the homeCommunityId.
    Raises XdsError with all that is wrong: XDSUnknownStoredQuery, XDSStoredQueryMissingParam,
    XDSStoredQueryParamNumber, and XDSRegistryError for a value or returnType that can not be.
    """
    binding = _Binding(request.parameters)
    return_type = binding.return_type(request.return_type)
    query = STORED_QUERIES.get(request.query_id.strip().lower())
    if query is None or query.transaction is not transaction:
        binding.refuse_query(query, request.query_id, transaction)
        raise XdsError.of(binding.errors)
    start = binding.start(query)
    all_versions = binding.all_versions()
    binding.narrowed(query)
    filters: dict[ObjectKind, list[Condition]] = {}
    patient_ids: tuple[str, ...] = ()
    uuids: tuple[str, ...] = ()
    for parameter in query.parameters:
        if not binding.concerns(parameter):
            continue
        groups = binding.groups(parameter)
        if not groups:
            continue
        if parameter.of is not None:
            condition = Condition(parameter.attribute, parameter.operator, groups)
            filters.setdefault(parameter.of, []).append(condition)
        elif parameter.attribute == "patient_id":
            patient_ids = tuple(dict.fromkeys(groups[0]))
        else:
            uuids = groups[0]
    if binding.errors or return_type is None:
        raise XdsError.of(binding.errors)
    return BoundQuery(query, return_type, patient_ids, uuids, start, filters, all_versions)


class _Binding:
    """The parameters as sent, and the errors found in them so far."""

    __slots__ = ("_sent", "errors")

    def __init__(self, parameters: Iterable[tuple[str, tuple[str, ...]]]) -> None:
        self.errors: list[RegistryError] = []
        self._sent: dict[str, list[tuple[str, ...]]] = {}
        for name, values in parameters:
            self._sent.setdefault(name, []).append(values)

    def refuse(self, code: ErrorCode, code_context: str, location: str) -> None:
        self.errors.append(RegistryError(code, code_context, location))

    def return_type(self, text: str) -> ReturnType | None:
        try:
            return ReturnType(text)
        except ValueError:
            sentence = f"returnType is {shown(text)}; send LeafClass or ObjectRef."
            self.refuse(ErrorCode.REGISTRY_ERROR, sentence, "ResponseOption.returnType")
            return None

    def refuse_query(self, query: StoredQuery | None, query_id: str, transaction: Transaction) -> None:
        """There is no such query, or it is asked with another transaction."""
        if query is not None:
            sentence = f"{query.name} is asked with {query.transaction.title} [{query.transaction.name}]; send it so."
            self.refuse(ErrorCode.REGISTRY_ERROR, sentence, "AdhocQuery.id")
            return
        known = ", ".join(row.name for row in _ROWS if row.transaction is transaction)
        sentence = f"{shown(query_id)} is not the id of a stored query of this registry; it answers {known}."
        self.refuse(ErrorCode.UNKNOWN_STORED_QUERY, sentence, "AdhocQuery.id")

    def all_versions(self) -> bool:
        """Whether $MetadataLevel asks for more than the newest versions."""
        level = self.groups(_LEVEL) if METADATA_LEVEL in self._sent else ()
        return level == (("2",),)

    def narrowed(self, query: StoredQuery) -> None:
        """Refuse a query for whatever there is."""
        if query.narrowed_by and not any(name in self._sent for name in query.narrowed_by):
            sentence = f"{query.name} needs one of {_either(query.narrowed_by)} at least, and none of them was sent."
            self.refuse(ErrorCode.STORED_QUERY_MISSING_PARAM, sentence, query.narrowed_by[0])

    def start(self, query: StoredQuery) -> tuple[Condition, ...]:
        """The condition of the one parameter of `one_of` that was sent."""
        sent = [parameter for parameter in query.one_of if parameter.name in self._sent]
        if len(sent) == 1:
            groups = self.groups(sent[0])
            return (Condition(sent[0].attribute, sent[0].operator, groups),) if groups else ()
        names = _either(parameter.name for parameter in query.one_of)
        if sent:
            sentence = f"{query.name} takes only one of {names}, and {len(sent)} of them were sent."
            self.refuse(ErrorCode.STORED_QUERY_PARAM_NUMBER, sentence, sent[1].name)
        elif query.one_of:
            sentence = f"{query.name} needs one of {names}, and none of them was sent."
            self.refuse(ErrorCode.STORED_QUERY_MISSING_PARAM, sentence, query.one_of[0].name)
        return ()

    def concerns(self, parameter: Parameter) -> bool:
        """False where a parameter was not sent and that means nothing, as it is with most of them."""
        return parameter.name in self._sent or parameter.required or bool(parameter.default)

    def groups(self, parameter: Parameter) -> tuple[tuple[str, ...], ...]:
        """The values of a parameter, one group for each time it was sent; () where it was not sent or is wrong."""
        slots = self._sent.get(parameter.name)
        if slots is None:
            return self._unsent(parameter)
        if parameter.instead_of in self._sent:
            sentence = f"{parameter.name} and {parameter.instead_of} were sent; send one of them."
            self.refuse(ErrorCode.STORED_QUERY_PARAM_NUMBER, sentence, parameter.name)
            return ()
        if len(slots) > 1 and not parameter.repeatable:
            sentence = f"{parameter.name} was sent {len(slots)} times; send it once, with all values in its ValueList."
            self.refuse(ErrorCode.STORED_QUERY_PARAM_NUMBER, sentence, parameter.name)
            return ()
        groups = tuple([self._group(parameter, texts) for texts in slots])
        return groups if all(groups) else ()

    def _unsent(self, parameter: Parameter) -> tuple[tuple[str, ...], ...]:
        if parameter.required:
            sentence = f"{parameter.name} is required and was not sent."
            self.refuse(ErrorCode.STORED_QUERY_MISSING_PARAM, sentence, parameter.name)
        if parameter.default and f"{parameter.name}Exclude" not in self._sent:
            return (parameter.default,)
        return ()

    def _group(self, parameter: Parameter, texts: tuple[str, ...]) -> tuple[str, ...]:
        """The values of one slot; () where something is wrong with them, which is added to the errors."""
        name = parameter.name
        try:
            values = values_of(texts)
        except ValueError as problem:
            self.refuse(ErrorCode.REGISTRY_ERROR, f"{name} {problem}.", name)
            return ()
        if not values:
            self.refuse(ErrorCode.STORED_QUERY_MISSING_PARAM, f"{name} was sent without a value.", name)
        elif len(values) > 1 and (parameter.single or parameter.operator in _OF_ONE_VALUE):
            sentence = f"{name} takes one value, and {len(values)} were sent."
            self.refuse(ErrorCode.STORED_QUERY_PARAM_NUMBER, sentence, name)
            return ()
        return values if parameter.read is None else self._judged(name, values, parameter.read)

    def _judged(self, name: str, values: tuple[str, ...], read: Callable[[str], str]) -> tuple[str, ...]:
        judged: list[str] = []
        for value in values:
            try:
                judged.append(read(value))
            except ValueError as problem:
                self.refuse(ErrorCode.REGISTRY_ERROR, f"{name} {problem}.", name)
        return tuple(judged) if len(judged) == len(values) else ()

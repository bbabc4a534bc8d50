"""A search as criteria of the registry: whose objects, and what they have to meet.

Whom a patient parameter names, and which objects have an identifier, is looked up: one read for each kind of object,
however many are named. The rest is the rows of mhd/searching/search_parameters.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from itertools import product
from typing import Final, Protocol

from mhd.fhir.canonicals import LIST_TYPES
from mhd.fhir.fhir_dates import PrefixNotSupported, in_zone
from mhd.fhir.operation_outcome import Issue, IssueType, Refused, xds_issue
from mhd.mapping.code_systems import CodeSystems
from mhd.mapping.document_list import FOLDER, SUBMISSION_SET
from mhd.mapping.identifiers import entry_uuid_of, unique_id_of
from mhd.searching.search_parameters import MISSING, NOT, ParameterType, Role
from mhd.searching.search_request import Occurrence, SearchRequest, invalid
from mhd.searching.search_values import Alternatives, Token, merged, one, plain, token
from xds.hl7v2 import CX
from xds.metadata import ObjectKind
from xds.paged_search import NEWEST, Demand, Either, Neither, PagedObject, PagedRegistry, PagedSearch
from xds.person_names import ANY_FAMILY_NAME, ANY_GIVEN_NAME, exact_name, folded, name_pattern
from xds.stored_queries import Condition, Operator

ORDERED_BY: Final = {
    ObjectKind.DOCUMENT_ENTRY: "creation_time",
    ObjectKind.SUBMISSION_SET: "submission_time",
    ObjectKind.FOLDER: "last_update_time",
}
VERSIONED: Final = frozenset({ObjectKind.DOCUMENT_ENTRY, ObjectKind.FOLDER})
_MOST_OF_ONE_NAME: Final = 1000


def shown_of(kind: ObjectKind) -> tuple[Condition, ...]:
    """What an object of a kind has to meet to be shown: of what has versions, the newest is."""
    return (NEWEST,) if kind in VERSIONED else ()


class Patients(Protocol):
    """Finds out who a patient is (mhd/patients.py)."""

    async def of_reference(self, reference: str) -> CX | None:
        """None: nobody knows."""
        ...

    def of_identifier(self, system: str | None, value: str) -> CX | None:
        """None: it is none of the affinity domain's."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What objects of a kind have to meet.

    patient_ids   CX text; empty: those of any patient
    """

    kind: ObjectKind
    conditions: tuple[Demand, ...]
    patient_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchConditions:
    """Makes criteria of searches.

    authorities       OIDs of those who number the affinity domain's patients
    home_community_id   of this community; None: it has none
    base              where the documents are that references lead to
    zone              of times that are sent without one
    """

    registry: PagedRegistry
    patients: Patients
    code_systems: CodeSystems
    authorities: tuple[str, ...] = ()
    home_community_id: str | None = None
    base: str = ""
    zone: tzinfo = UTC

    async def of(self, request: SearchRequest, kinds: Sequence[ObjectKind]) -> tuple[Wanted, ...]:
        """What is to be searched for: one for each kind of which anything can be found.

        Raises Refused with all that can not be read; XdsError.
        """
        self._judge_communities(request)
        conditions = {
            kind: _conditions(request, kind, self.code_systems, self.zone) for kind in _kinds_of(request, kinds)
        }
        patient_ids = await self._patient_ids(request)
        found = []
        for kind, each in conditions.items():
            named = await self._named(request, kind, patient_ids or ())
            if each is not None and named is not None and patient_ids is not None:
                found.append(Wanted(kind, (*each, *named, *shown_of(kind)), patient_ids))
        return tuple(found)

    def _judge_communities(self, request: SearchRequest) -> None:
        for occurrence in request.of(Role.COMMUNITY):
            unknown = [each for each in map(plain, occurrence.values) if each != self.home_community_id]
            if unknown:
                text = (
                    f"The community {unknown[0][:100]!r} is not known here; ask for {self.home_community_id or 'none'}."
                )
                raise Refused(xds_issue("XDSUnknownCommunity", text, occurrence.sent_as))

    async def _patient_ids(self, request: SearchRequest) -> tuple[str, ...] | None:
        """Whose objects are searched; empty: anybody's. None: those of nobody."""
        meant: dict[str, None] | None = None
        for occurrence in request.of(Role.PATIENT, Role.PATIENT_IDENTIFIER):
            known = [each.text for value in occurrence.values for each in await self._patients(occurrence, value)]
            meant = {each: None for each in known if meant is None or each in meant}
        if meant is None:
            return ()
        return tuple(meant) or None

    async def _patients(self, occurrence: Occurrence, value: str) -> list[CX]:
        if occurrence.parameter.role is Role.PATIENT:
            found = await self.patients.of_reference(plain(value))
            return [found] if found else []
        system, code = _token(occurrence, value)
        systems = [system] if system else [f"urn:oid:{each}" for each in self.authorities] if system is None else []
        of_systems = [self.patients.of_identifier(each, code) for each in systems] if code else []
        return [each for each in of_systems if each]

    async def _named(
        self, request: SearchRequest, kind: ObjectKind, patient_ids: tuple[str, ...]
    ) -> tuple[Demand, ...] | None:
        """The demand for each parameter that names objects; None: one of them names nothing that is there."""
        conditions: list[Demand] = []
        for occurrence in request.of(Role.ID, Role.IDENTIFIER):
            named = await self._having_name(occurrence, kind, patient_ids)
            if occurrence.modifier == NOT:
                conditions += [Neither(named)] if named else []
            elif named:
                # By names alone a registry elsewhere can be asked; by the end of a name it can not.
                is_name = len(named) == 1 and named[0][0].operator is Operator.ANY_OF
                conditions.append(named[0][0] if is_name else Either(named))
            else:
                return None
        for occurrence in request.of(Role.RELATES_TO):
            wants_none = occurrence.modifier == MISSING and _wants_none(occurrence)
            if occurrence.modifier == MISSING:
                sources = await self._relating(conditions, kind, patient_ids)
            else:
                sources = await self._relating_to(occurrence)
            having = one("entry_uuid", Operator.ANY_OF, *sorted(sources))
            if wants_none:
                conditions += [Neither(((having,),))] if sources else []
            elif sources:
                conditions.append(having)
            else:
                return None
        return tuple(conditions)

    async def _having_name(
        self, occurrence: Occurrence, kind: ObjectKind, patient_ids: tuple[str, ...]
    ) -> Alternatives:
        """What objects meet that a parameter names by an id or by an identifier; none: there are none."""
        if occurrence.parameter.role is Role.ID:
            named = {entry_uuid_of(_token(occurrence, plain(each)).code) for each in occurrence.values}
            uuids, extensions = {each for each in named if each}, []
        else:
            tokens = [_token(occurrence, each) for each in occurrence.values]
            uuids = await self._identified(tokens, kind)
            extensions = [code for system, code in tokens if system is None and _may_be_extension(code)]
        if not patient_ids:
            extensions = []  # no index knows the ends of uniqueIds, so that everything would have to be looked at
        by_uuid = await any_version(uuids, kind, self.registry) if uuids else None
        by_extension = (
            one("unique_id", Operator.ENDS_WITH, *(f"^{each}" for each in extensions)) if extensions else None
        )
        return tuple([(each,) for each in (by_uuid, by_extension) if each])

    async def _relating(
        self, named: Sequence[Demand], kind: ObjectKind, patient_ids: tuple[str, ...]
    ) -> Collection[str]:
        """entryUUIDs of the documents that relate to any, of those of whom is searched for.

        named   where nobody is: the documents that are
        """
        if not patient_ids:
            search = PagedSearch(kind, tuple(named), (), ORDERED_BY[kind], _MOST_OF_ONE_NAME)
            patient_ids = tuple({each.patient_id for each in (await self.registry.page(search)).objects})
        return await self.registry.relating(patient_ids) if patient_ids else ()

    async def _relating_to(self, occurrence: Occurrence) -> Collection[str]:
        """entryUUIDs of the documents that relate to one of those that are named, in whatever version."""
        references = [plain(each).removeprefix(f"{self.base}/") for each in occurrence.values]
        named = {entry_uuid_of(each.removeprefix("DocumentReference/")) for each in references} - {None}
        if not named:
            return ()
        kind = ObjectKind.DOCUMENT_ENTRY
        of_any = await any_version([each for each in named if each], kind, self.registry)
        targets = {each.entry_uuid for each in await meeting(of_any, kind, self.registry)}
        return await self.registry.related_to(targets) if targets else ()

    async def _identified(self, tokens: Iterable[Token], kind: ObjectKind) -> set[str]:
        """logicalIDs or entryUUIDs of what has one of the identifiers: as one of these, or as uniqueId."""
        uuids, unique_ids = set(), set()
        for system, code in tokens:
            identifier = {"value": code} | ({"system": system} if system else {})
            unique_id = unique_id_of(identifier, self.code_systems) if code else None
            unique_ids |= {each for each in (unique_id, None if system else code) if each}
            if uuid := entry_uuid_of(code):
                uuids.add(uuid)
        if unique_ids:
            having = one("unique_id", Operator.ANY_OF, *sorted(unique_ids))
            uuids |= {each.logical_id for each in await meeting(having, kind, self.registry)}
        return uuids


def _may_be_extension(code: str) -> bool:
    """Whether a value without system may be the extension of a uniqueId, and is no whole one, nor an entryUUID."""
    return "^" not in code and unique_id_of({"value": code}, CodeSystems()) is None and entry_uuid_of(code) is None


async def any_version(uuids: Collection[str], kind: ObjectKind, registry: PagedRegistry) -> Condition:
    """What the objects meet that have one of these as their logicalID, or a version of them as its entryUUID."""
    named = sorted(uuids)
    if kind not in VERSIONED:
        return one("entry_uuid", Operator.ANY_OF, *named)
    versions = await meeting(one("entry_uuid", Operator.ANY_OF, *named), kind, registry)
    return one("logical_id", Operator.ANY_OF, *sorted({*named, *(each.logical_id for each in versions)}))


async def meeting(condition: Condition, kind: ObjectKind, registry: PagedRegistry) -> Sequence[PagedObject]:
    """All versions, of whatever patient."""
    return (await registry.page(PagedSearch(kind, (condition,), (), ORDERED_BY[kind], _MOST_OF_ONE_NAME))).objects


def _kinds_of(request: SearchRequest, kinds: Sequence[ObjectKind]) -> Sequence[ObjectKind]:
    """Those kinds that every parameter for the type of a List allows."""
    left = list(kinds)
    for occurrence in request.of(Role.LIST_TYPE):
        tokens = [_token(occurrence, each) for each in occurrence.values]
        of_lists = [code for system, code in tokens if system in (None, LIST_TYPES)]
        meant = {kind for code, kind in _LISTS.items() if code in of_lists or "" in of_lists}
        left = [each for each in left if (each in meant) is not (occurrence.modifier == NOT)]
    return left


_LISTS: Final = {SUBMISSION_SET: ObjectKind.SUBMISSION_SET, FOLDER: ObjectKind.FOLDER}


def _conditions(
    request: SearchRequest, kind: ObjectKind, systems: CodeSystems, zone: tzinfo
) -> tuple[Demand, ...] | None:
    """What the columns of a kind have to meet; None: no object can. Raises Refused with all that can not be read."""
    found: list[Demand] = []
    issues: list[Issue] = []
    for occurrence in request.of(*_OF_COLUMNS):
        try:
            found += _demands(occurrence, kind, systems, zone)
        except PrefixNotSupported as problem:
            issues.append(replace(invalid(occurrence.sent_as, str(problem)), code=IssueType.NOT_SUPPORTED))
        except ValueError as problem:
            issues.append(invalid(occurrence.sent_as, str(problem)))
    if issues:
        raise Refused(*issues)
    found += _names(request) if kind is not ObjectKind.FOLDER else ()
    return None if _NOTHING in found else tuple(found)


_OF_COLUMNS: Final = (Role.CONDITION, Role.TEXT, Role.FAMILY, Role.GIVEN, Role.MISSING, Role.RELATES_TO)
_NOTHING: Final = Either(())


def _demands(occurrence: Occurrence, kind: ObjectKind, systems: CodeSystems, zone: tzinfo) -> Sequence[Demand]:
    """What a parameter demands, but for names, which are asked for together. Raises ValueError where it is not read."""
    column, meaning = occurrence.parameter.columns.get(kind), occurrence.parameter.meaning
    if occurrence.parameter.role is Role.RELATES_TO:
        if occurrence.modifier == MISSING:
            _wants_none(occurrence)  # the rest is looked up; here it has to be told with all else that can not be read
        return ()
    if occurrence.modifier == MISSING or occurrence.parameter.role is Role.MISSING:
        return _as_missing(occurrence, kind)
    if column is None or occurrence.parameter.role in (Role.FAMILY, Role.GIVEN):
        return ()
    if meaning is None:
        return (_text(occurrence, column),)
    values = occurrence.values
    if occurrence.parameter.type is ParameterType.DATE:
        values = tuple([in_zone(each, zone) for each in values])
    alternatives = merged([each for value in values for each in meaning(value, column, systems)])
    return (Neither(alternatives),) if occurrence.modifier == NOT else _as_conditions(alternatives)


def _as_missing(occurrence: Occurrence, kind: ObjectKind) -> Sequence[Demand]:
    """That there is no value that the parameter could find, or that there is one."""
    wants_none = _wants_none(occurrence)
    column, role = occurrence.parameter.columns.get(kind), occurrence.parameter.role
    if column is None:
        having: Alternatives = ()
    elif role in _PARTS_OF_NAMES:
        having = ((one(column, Operator.LIKE, _PARTS_OF_NAMES[role]),),)
    else:
        having = ((one(column, Operator.PRESENT),),)
    return (Neither(having),) if wants_none else _as_conditions(having)


def _wants_none(occurrence: Occurrence) -> bool:
    """Whether `:missing` is true. Raises ValueError where that can not be read."""
    if occurrence.values not in (("true",), ("false",)):
        raise ValueError(f"is {','.join(occurrence.values)[:100]!r}; send true or false")
    return occurrence.values == ("true",)


_PARTS_OF_NAMES: Final = {Role.FAMILY: ANY_FAMILY_NAME, Role.GIVEN: ANY_GIVEN_NAME}


def _as_conditions(alternatives: Alternatives) -> Sequence[Demand]:
    return alternatives[0] if len(alternatives) == 1 else (Either(alternatives),)


def _names(request: SearchRequest) -> list[Demand]:
    """What names of authors have to meet: family and given name are those of one and the same author."""
    families, givens = (
        [each for each in request.of(role) if each.modifier != MISSING] for role in (Role.FAMILY, Role.GIVEN)
    )
    nobody: list[Occurrence | None] = [None]
    pairs = product([*families] or nobody, [*givens] or nobody)
    found: list[Demand] = []
    for family, given in pairs:
        if family or given:
            found += _as_conditions(merged(list(_name_alternatives(family, given))))
    return found


def _text(occurrence: Occurrence, column: str) -> Condition:
    """The beginning of a text, or what its modifier says."""
    values = [plain(each) for each in occurrence.values]
    if occurrence.modifier == "exact":
        return one(column, Operator.ANY_OF, *values)
    before = "%" if occurrence.modifier == "contains" else ""
    return one(f"folded_{column}", Operator.LIKE, *(f"{before}{folded(each)}%" for each in values))


def _name_alternatives(family: Occurrence | None, given: Occurrence | None) -> Iterable[tuple[Condition, ...]]:
    exact = [each is None or each.modifier == "exact" for each in (family, given)]
    contains = frozenset(
        name for name, each in (("family", family), ("given", given)) if each and each.modifier == "contains"
    )
    of_family = [plain(each) for each in family.values] if family else [None]
    of_given = [plain(each) for each in given.values] if given else [None]
    for one_family, one_given in product(of_family, of_given):
        if all(exact):
            yield (one("author_name_part", Operator.ANY_OF, exact_name(one_family, one_given)),)
            continue
        like = one("author_name", Operator.LIKE, name_pattern(one_family, one_given, contains=contains))
        parts = [
            one("author_name_part", Operator.ANY_OF, exact_name(*name))
            for name, is_exact in (((one_family, None), exact[0]), ((None, one_given), exact[1]))
            if is_exact and any(name)
        ]
        yield (like, *parts)


def _token(occurrence: Occurrence, value: str) -> Token:
    try:
        return token(value)
    except ValueError as problem:
        raise Refused(invalid(occurrence.sent_as, str(problem))) from None

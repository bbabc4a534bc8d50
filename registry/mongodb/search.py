"""Criteria as filters: how the metadata store on MongoDB finds objects.

Who knows the patient is answered by one shard, in one read, which tells of merges as well. Objects that are named by
entryUUID, uniqueId or logicalID without a patient, and associations by their ends, are looked up in `identifiers`
first, which tells the dossiers; then those are asked. Only where neither is given all shards are.

A pattern that MongoDB's regular expressions would match differently from the standard's LIKE is matched here instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from registry.metadata_store import AnyMatch, Criteria, Match, Operator, StoredObject
from registry.mongodb.claims import Claims
from registry.mongodb.database import Document
from registry.mongodb.documents import (
    OF_A_MERGE,
    ORDER,
    UNFINISHED,
    document_name,
    logical_name,
    patient_key,
    rendering_of,
)
from registry.mongodb.resolver import Resolver
from registry.rendering_compression import RenderingCompression
from registry.search_columns import COLUMN_SHAPES, Shape
from xds.metadata import ObjectKind

_EXACT = frozenset({Operator.EQUALS, Operator.ANY_OF, Operator.ALL_OF_ANY_OF})
_LONGEST_PATTERN_BYTES = 16_000
"""MongoDB compiles no longer ones than 32 KB, escapes included."""

_VERSIONED = frozenset({ObjectKind.DOCUMENT_ENTRY, ObjectKind.FOLDER})
_OF_VERSIONS = ("availability_status", "logical_id", "version", "last_updated")
_SPECIAL = re.compile(r"[\\.^$*+?()\[\]{}|]")


@dataclass(frozen=True, slots=True)
class Search:
    """Criteria, as they are sent: conditions of documents of `objects`.

    dossiers    the only ones in question; without any condition all of them; None: nothing can meet the criteria
    objects     what is looked for in them
    signs       what is not to be overlooked, whatever is looked for: a change that is being written, a merge
    remaining   patterns that are matched here, on (column, folded patterns, whether one of them has to match or none)
    unmerged    see MetadataStore
    """

    criteria: Criteria
    dossiers: Mapping[str, Any] | None
    objects: Mapping[str, Any]
    signs: tuple[Mapping[str, Any], ...]
    remaining: tuple[tuple[str, tuple[str, ...], bool], ...]
    unmerged: bool

    @classmethod
    async def of(cls, criteria: Criteria, claims: Claims, *, unmerged: bool = False) -> Search:
        """The search for `criteria`.

        Raises ValueError where they match a column that the kind does not have, or in a way that it can not be matched.
        """
        conditions: list[Mapping[str, Any]] = []
        remaining: list[tuple[str, tuple[str, ...], bool]] = []
        for match in criteria.matches:
            condition = _condition(match, COLUMN_SHAPES[criteria.kind])
            if condition is None:
                remaining.append((match.attribute, _folded(match.groups[0]), match.operator is Operator.LIKE))
            else:
                conditions += condition
        conditions += [_any_condition(each, COLUMN_SHAPES[criteria.kind]) for each in criteria.either]
        conditions += [{"$nor": [_any_condition(each, COLUMN_SHAPES[criteria.kind])]} for each in criteria.neither]
        place = await _place(criteria, claims)
        if place is None:
            return cls(criteria, None, {}, (), (), unmerged)
        of_kind = {"kind": criteria.kind.value, **place.objects, **({"$and": conditions} if conditions else {})}
        # Where all dossiers are in question, so would be all merges: those of what is found are asked for later.
        signs = ({"kind": UNFINISHED}, *(OF_A_MERGE if unmerged and place.dossiers else ()))
        return cls(criteria, place.dossiers, of_kind, signs, tuple(remaining), unmerged)

    async def found(
        self, resolver: Resolver, compression: RenderingCompression, *, rendering: bool, limit: int | None
    ) -> tuple[StoredObject, ...]:
        """The objects, at most `limit`."""
        kind, met = self.criteria.kind, await self._met(resolver, rendering, limit)
        return tuple([_stored_object(kind, document, compression, rendering) for document in met])

    async def count(self, resolver: Resolver) -> int:
        """How many there are."""
        if self.dossiers is None:
            return 0
        if self.remaining:
            return len(await self._met(resolver, rendering=False, limit=None))
        # A single condition is not wrapped: of all dossiers, an index answers it on any server.
        signs = self.signs[0] if len(self.signs) == 1 else {"$or": list(self.signs)}
        return await resolver.count_finished({**self.dossiers, **self.objects}, {**self.dossiers, **signs})

    async def _met(self, resolver: Resolver, rendering: bool, limit: int | None) -> list[Document]:
        """The documents that meet the criteria, at most `limit`."""
        if self.dossiers is None or limit == 0:
            return []
        at_most = limit if limit is not None and not self.remaining else 0
        documents = await resolver.read_finished(
            {**self.dossiers, "$or": [*self.signs, self.objects]},
            projection={"resource": 0} if rendering else {"resource": 0, "ebrim": 0},
            sort=ORDER,
            limit=at_most,
        )
        met = [document for document in documents if self._meets(document)][:limit]
        if self.unmerged:
            cut = at_most > 0 and len(documents) >= at_most
            await resolver.require_unmerged(self._not_told_of(met, cut))
        return met

    def _meets(self, document: Document) -> bool:
        return all(_is_like(document.get(column), patterns) is like for column, patterns, like in self.remaining)

    def _not_told_of(self, met: Sequence[Document], cut: bool) -> Collection[str]:
        """The dossiers in question whose signs were not among what was read.

        cut   the limit was reached: each dossier's signs come before its objects, but then comes the next dossier
        """
        patient_ids = self.criteria.patient_ids
        if cut and len(patient_ids) > 1:
            return {patient_key(each) for each in patient_ids}
        return () if self.dossiers else {document["patient_key"] for document in met}


def _stored_object(
    kind: ObjectKind, document: Document, compression: RenderingCompression, rendering: bool
) -> StoredObject:
    return StoredObject(
        kind,
        document["entry_uuid"],
        document["patient_id"],
        document.get("home_community_id"),
        rendering_of(document, compression) if rendering else None,
        document.get("source_object"),
        document.get("target_object"),
        document.get("association_type"),
        *(map(document.get, _OF_VERSIONS) if kind in _VERSIONED else ()),
    )


# --- where to look ---------------------------------------------------------------------------------------------------


class _Place(NamedTuple):
    """Conditions: the dossiers in question, and the objects in them where that is known."""

    dossiers: Mapping[str, Any]
    objects: Mapping[str, Any]


async def _place(criteria: Criteria, claims: Claims) -> _Place | None:
    """Where the objects are; None: there are none."""
    if criteria.patient_ids:
        return _Place(_dossiers(map(patient_key, criteria.patient_ids)), {})
    names = _first_match(criteria, ("entry_uuid", "unique_id", "logical_id"))
    ends = _first_match(criteria, ("source_object", "target_object"))
    if names is None and ends is None:
        return _Place({}, {})
    identifiers = _identifiers(names, criteria.kind) if names else ends.groups[0] if ends else ()
    held = await claims.holders(identifiers)
    holders = [holder for slots in held.values() for holder in slots.values()]
    if not holders:
        return None
    dossiers = _dossiers(holder["patient_key"] for holder in holders)
    if names is None:
        return _Place(dossiers, {})  # an association is in the dossier of its ends
    return _Place(dossiers, {"entry_uuid": {"$in": sorted({holder["entry_uuid"] for holder in holders})}})


def _dossiers(keys: Iterable[str]) -> Mapping[str, Any]:
    several = sorted(set(keys))
    return {"patient_key": several[0] if len(several) == 1 else {"$in": several}}


def _first_match(criteria: Criteria, attributes: Sequence[str]) -> Match | None:
    """The first match that names objects by one of `attributes`."""
    for attribute in attributes:
        for match in criteria.matches:
            if match.attribute == attribute and match.operator in _EXACT and match.groups:
                return match
    return None


def _identifiers(match: Match, kind: ObjectKind) -> tuple[str, ...]:
    """What is written down in `identifiers` where `match` holds."""
    values = match.groups[0]
    if match.attribute == "logical_id":
        # An object's first version has its logicalID as entryUUID.
        return (*values, *map(logical_name, values))
    if match.attribute == "unique_id" and kind is ObjectKind.DOCUMENT_ENTRY:
        return tuple(map(document_name, values))
    return values


# --- what to look for ------------------------------------------------------------------------------------------------


def _condition(match: Match, shapes: Mapping[str, Shape]) -> list[Mapping[str, Any]] | None:
    """What the server is to match; None where it would not do it right."""
    shape = shapes.get(match.attribute)
    if shape is None:
        raise ValueError(f"{match.attribute} is not a column that can be searched")
    if match.operator is Operator.PRESENT:
        return [{f"{match.attribute}_first" if shape is Shape.TIME else match.attribute: {"$exists": True}}]
    if (shape in _TIMES) is not (match.operator in _OF_TIMES):
        raise ValueError(f"{match.attribute} can not be searched by {match.operator.name}")
    if match.operator in (Operator.LIKE, Operator.UNLIKE):
        like = _like(match.attribute, shape, _folded(match.groups[0]))
        return [{"$nor": like}] if like is not None and match.operator is Operator.UNLIKE else like
    if condition_of := _OF_TIMES.get(match.operator):
        return [condition_of(match.attribute, match.groups[0][0], shape)]
    if (expression_of := _EXPRESSIONS.get(match.operator)) is not None:
        expressions = [{match.attribute: {"$regex": expression_of(each)}} for each in match.groups[0]]
        return [{"$or": expressions} if expressions else {match.attribute: {"$in": []}}]
    all_of: list[Mapping[str, Any]] = [{match.attribute: {"$in": list(group)}} for group in match.groups]
    return [{"$nor": [{"$and": all_of}]}] if match.operator is Operator.NONE_OF else all_of


def _any_condition(either: AnyMatch, shapes: Mapping[str, Shape]) -> Mapping[str, Any]:
    """What the server is to match. Raises ValueError also where it would not do it right."""
    alternatives = []
    for matches in either.alternatives:
        conditions = [_condition(match, shapes) for match in matches]
        if any(each is None for each in conditions):
            raise ValueError("a pattern can not be matched among alternatives")
        alternatives.append({"$and": [part for each in conditions for part in each or ()]} if matches else {})
    return {"$or": alternatives} if alternatives else {"kind": {"$in": []}}


_TIMES = frozenset({Shape.TIME, Shape.MOMENT})


def _at_or_after(column: str, value: str, shape: Shape) -> Mapping[str, Any]:
    return {column if shape is Shape.MOMENT else f"{column}_last": {"$gte": value}}


def _before(column: str, value: str, shape: Shape) -> Mapping[str, Any]:
    return {column if shape is Shape.MOMENT else f"{column}_first": {"$lt": value}}


def _or_none(condition: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"$or": [condition, dict.fromkeys(condition)]}


_OF_TIMES: Mapping[Operator, Callable[[str, str, Shape], Mapping[str, Any]]] = {
    Operator.AT_OR_AFTER: _at_or_after,
    Operator.BEFORE: _before,
    Operator.AT_OR_AFTER_IF_ANY: lambda *asked: _or_none(_at_or_after(*asked)),
    Operator.BEFORE_IF_ANY: lambda *asked: _or_none(_before(*asked)),
}
_EXPRESSIONS: Mapping[Operator, Callable[[str], str]] = {
    Operator.STARTS_WITH: lambda text: rf"(?s)\A{_escaped(text)}",
    Operator.ENDS_WITH: lambda text: rf"(?s){_escaped(text)}\z",
}


def _folded(patterns: Iterable[str]) -> tuple[str, ...]:
    return tuple(re.sub("%+", "%", pattern.casefold()) for pattern in patterns)


def _like(column: str, shape: Shape, patterns: Sequence[str]) -> list[Mapping[str, Any]] | None:
    if not patterns:
        return [{column: {"$in": []}}]
    if shape is not Shape.TEXTS:
        return None  # its values are not folded, and servers fold otherwise
    if any(len(pattern.encode()) > _LONGEST_PATTERN_BYTES or "\0" in pattern for pattern in patterns):
        return None
    return [{"$or": [{column: {"$regex": _expression(pattern)}} for pattern in patterns]}]


def _expression(pattern: str) -> str:
    """% any text, _ one character, of the whole text. Understood by PCRE and RE2."""
    return rf"(?s)\A{_escaped(pattern).replace('%', '.*').replace('_', '.')}\z"


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text)


def _is_like(value: str | list[str] | None, patterns: Sequence[str]) -> bool:
    """Whether one of the values is like one of the patterns, without regard to case."""
    if value is None:
        return False
    texts = [text.casefold() for text in ([value] if isinstance(value, str) else value)]
    return any(_text_is_like(text, pattern) for pattern in patterns for text in texts)


def _text_is_like(text: str, pattern: str) -> bool:
    """In linear steps through text and pattern: after the last % everything can be tried from where it began."""
    position = place = 0
    resume: tuple[int, int] | None = None
    while position < len(text):
        if place < len(pattern) and pattern[place] == "%":
            resume = (position, place)
            place += 1
        elif place < len(pattern) and pattern[place] in ("_", text[position]):
            position += 1
            place += 1
        elif resume is not None:
            resume = (resume[0] + 1, resume[1])
            position, place = resume[0], resume[1] + 1
        else:
            return False
    return pattern[place:].strip("%") == ""

"""A registry in plain lists, written from the standard's words and not from the code: the real one is held against it.

It knows of objects only what queries need. Associations that a registry makes by itself have ids that nobody can know
before, so associations are compared by what they join.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from xds.metadata import REPLACING, AssociationType, ObjectKind

Key: TypeAlias = "str | tuple[str, str, Key]"
"""An object's entryUUID, or what an association joins: type, source, target (which may be an association)."""

HAS_MEMBER = AssociationType.HAS_MEMBER.value
OPERATIONS = (AssociationType.UPDATE_AVAILABILITY_STATUS.value, AssociationType.SUBMIT_ASSOCIATION.value)
ENTRY, SET, FOLDER = ObjectKind.DOCUMENT_ENTRY, ObjectKind.SUBMISSION_SET, ObjectKind.FOLDER


@dataclass(eq=False)
class Item:
    """A DocumentEntry, SubmissionSet or Folder."""

    uuid: str
    kind: ObjectKind
    lid: str
    unique_id: str
    version: int = 1
    approved: bool = True


@dataclass(eq=False)
class Edge:
    """An association."""

    type: str
    source: str
    target: str | Edge
    approved: bool = True

    @property
    def key(self) -> Key:
        return (self.type, self.source, self.target.key if isinstance(self.target, Edge) else self.target)

    def touches(self, end: str | Edge) -> bool:
        return self.source == end or self.target == end


@dataclass
class PlainRegistry:
    """One patient's dossier."""

    items: dict[str, Item] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)

    # --- what changes it ---------------------------------------------------------------------------------------------

    def register(
        self, owner: Item, items: Iterable[Item], members: Iterable[tuple[str, str]], relation: Edge | None
    ) -> None:
        """A submission of entries and Folders, with members of Folders and perhaps one relationship."""
        self.items[owner.uuid] = owner
        for item in items:
            self.items[item.uuid] = item
            self.edges.append(Edge(HAS_MEMBER, owner.uuid, item.uuid))
        for folder, entry in members:
            self._member(owner, folder, entry)
        if relation is not None:
            self.edges.append(relation)
            self._relate(owner, relation)

    def update(self, owner: Item, items: dict[str, tuple[Item, bool]], *, restricted: bool = False) -> bool:
        """New versions, all or none, by logicalID; each with whether associations follow.

        False where one does not follow the newest one, or that is Deprecated: a restricted update leaves the status.
        """
        before: dict[str, Item] = {}
        for lid, (item, _) in items.items():
            former = self.newest(lid)
            if former is None or item.version != former.version + 1 or not (former.approved or restricted):
                return False
            before[lid] = former
        followers: dict[str, str] = {}
        self.items[owner.uuid] = owner
        for lid, (item, follows) in items.items():
            self.items[item.uuid] = item
            item.approved, before[lid].approved = before[lid].approved, False
            if follows:
                followers[before[lid].uuid] = item.uuid
        self._follow(followers)
        self.edges += [Edge(HAS_MEMBER, owner.uuid, item.uuid) for item, _ in items.values()]
        return True

    def _follow(self, followers: dict[str, str]) -> None:
        """What joins versions joins those that follow them; what a SubmissionSet brought it brought once."""
        for edge in list(self.edges):
            if edge.approved and self.items[edge.source].kind is not SET and any(map(edge.touches, followers)):
                edge.approved = False
                source, target = followers.get(edge.source, edge.source), str(edge.target)
                self.edges.append(Edge(edge.type, source, followers.get(target, target)))

    def change_status(self, owner: Item, target: Item, approved: bool) -> bool:
        """False where the target has another status than is said, or has a newer version."""
        if target.approved is approved or self.newest(target.lid) is not target:
            return False
        self.items[owner.uuid] = owner
        target.approved = approved
        self.edges.append(Edge(OPERATIONS[0], owner.uuid, target.uuid))
        return True

    def submit(self, owner: Item, edge: Edge) -> bool:
        """An association between what is registered; False where an end is not Approved."""
        ends = [self.items[each] for each in (edge.source, edge.target) if isinstance(each, str)]
        if not all(end.approved for end in ends):
            return False
        self.items[owner.uuid] = owner
        self.edges += [edge, Edge(OPERATIONS[1], owner.uuid, edge)]
        self._relate(owner, edge)
        return True

    def remove(self, items: list[Item], edges: list[Edge]) -> bool:
        """False where something would be left that refers to what goes, or belongs to no SubmissionSet."""
        gone = {item.uuid for item in items}
        left = [edge for edge in self.edges if edge not in edges]
        if any(edge.source in gone or edge.target in gone or edge.target in edges for edge in left):
            return False
        sets = {each.uuid for each in self.items.values() if each.kind is SET}
        for edge in edges:
            if edge.type in REPLACING and isinstance(edge.target, str) and edge.target not in gone:
                return False
            if edge.source not in sets:
                continue
            if edge.source not in gone and not any(each.source == edge.source for each in left):
                return False
            brought = any(
                each.source in sets and each.target == edge.target and each.type == HAS_MEMBER for each in left
            )
            if isinstance(edge.target, str) and edge.target not in gone and not brought:
                return False
        self.edges = left
        for uuid in gone:
            del self.items[uuid]
        return True

    def _member(self, owner: Item, folder: str, entry: str) -> None:
        membership = Edge(HAS_MEMBER, folder, entry)
        self.edges += [membership, Edge(HAS_MEMBER, owner.uuid, membership)]

    def _relate(self, owner: Item, relation: Edge) -> None:
        """What is replaced is deprecated with all that hangs on it, and its Folders take the replacement."""
        if relation.type not in REPLACING:
            return
        holders = [
            edge.source
            for edge in self.edges
            if edge.approved and edge.type == HAS_MEMBER and edge.target == relation.target
            and self.items[edge.source].kind is FOLDER and self.items[edge.source].approved
        ]  # fmt: skip
        there = {edge.key for edge in self.edges if edge.approved}
        for holder in dict.fromkeys(holders):
            if (HAS_MEMBER, holder, relation.source) not in there:
                self._member(owner, holder, relation.source)
        hanging = [str(relation.target)]
        for uuid in hanging:
            self.items[uuid].approved = False
            hanging += [
                edge.source
                for edge in self.edges
                if edge.approved and edge.target == uuid and edge.source not in hanging
                and edge.type in (AssociationType.APND, AssociationType.XFRM)
            ]  # fmt: skip

    # --- what is seen of it ------------------------------------------------------------------------------------------

    def newest(self, lid: str) -> Item | None:
        versions = [item for item in self.items.values() if item.lid == lid]
        return max(versions, key=lambda item: item.version, default=None)

    def seen(self, kind: ObjectKind, level: int) -> list[Item]:
        """The objects of a kind that a query of this $MetadataLevel may return."""
        found = [item for item in self.items.values() if item.kind is kind]
        if level == 2 or kind is SET:
            return found
        return [item for item in found if self.newest(item.lid) is item and (item.approved or kind is ENTRY)]

    def links(self, level: int, *, approved: bool = True) -> list[Edge]:
        """The associations that a query may follow. approved: no others."""
        return [
            edge
            for edge in self.edges
            if (edge.approved or (level == 2 and not approved)) and (level == 2 or edge.type not in OPERATIONS)
        ]

    def all_of(self, level: int) -> set[Key]:
        """GetAll, of any status."""
        items = {item.uuid for kind in (ENTRY, SET, FOLDER) for item in self.seen(kind, level)}
        return items | self._closed(items, self.links(level))

    def associations(self, uuid: str, level: int) -> set[Key]:
        return {edge.key for edge in self.links(level) if edge.touches(uuid)}

    def sets_of(self, uuid: str, level: int) -> set[Key]:
        """GetSubmissionSets."""
        brought = [
            edge
            for edge in self.links(level, approved=False)
            if edge.type == HAS_MEMBER and edge.target == uuid and self.items[edge.source].kind is SET
        ]
        return {edge.key for edge in brought} | {edge.source for edge in brought}

    def contents(self, start: Item, level: int) -> set[Key]:
        """GetSubmissionSetAndContents, GetFolderAndContents."""
        if start not in self.seen(start.kind, level):
            return set()
        of_set = start.kind is SET
        links = [
            edge
            for edge in self.links(level, approved=not of_set)
            if edge.type == HAS_MEMBER and edge.source == start.uuid
        ]
        members = {edge.target for edge in links}
        kinds = (ENTRY, FOLDER) if of_set else (ENTRY,)
        items = {start.uuid, *(item.uuid for kind in kinds for item in self.seen(kind, level) if item.uuid in members)}
        if of_set:
            links += [edge for edge in self.links(level, approved=False) if edge in members]
        return items | self._closed(items, links)

    def folders_of(self, entry: Item, level: int) -> set[Key]:
        if entry not in self.seen(ENTRY, level):
            return set()
        holders = {edge.source for edge in self.links(level) if edge.type == HAS_MEMBER and edge.target == entry.uuid}
        return {item.uuid for item in self.seen(FOLDER, level) if item.uuid in holders}

    def related(self, entry: Item, types: Iterable[str], level: int) -> set[Key]:
        if entry not in self.seen(ENTRY, level):
            return set()
        links = [edge for edge in self.links(level) if edge.type in types and edge.touches(entry.uuid)]
        entries = {item.uuid for item in self.seen(ENTRY, level)}
        between = [edge for edge in links if edge.source in entries and edge.target in entries]
        ends: set[Key] = {end for edge in between for end in (edge.source, str(edge.target))}
        return ends | {edge.key for edge in between}

    def _closed(self, items: set[str], links: list[Edge]) -> set[Key]:
        """The links whose ends are both there; an end may be another link."""
        kept = list(links)
        while dangling := [edge for edge in kept if not all(self._ends_there(edge, items, kept))]:
            kept = [edge for edge in kept if edge not in dangling]
        return {edge.key for edge in kept}

    @staticmethod
    def _ends_there(edge: Edge, items: set[str], links: list[Edge]) -> Iterator[bool]:
        yield edge.source in items
        yield edge.target in links if isinstance(edge.target, Edge) else edge.target in items

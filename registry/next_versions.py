"""That of the changes of an object's versions that were judged on the same ones one is committed.

ITI TF-2: 3.57, 3.62. A new version may be of another patient than the one before, and then two changes that bring one,
or remove one, may be in different dossiers, neither of which tells of the other. So a change takes the next name of the
object, and of two changes that take one name one is committed (VersionName).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from registry.lifecycle import version_after
from registry.metadata_store import Criteria, FactsMoved, Match, MetadataStore, Questions, StoredObject, VersionName
from xds.metadata import DocumentEntry, Folder

Version: TypeAlias = DocumentEntry | Folder | StoredObject


async def next_versions(newest: Iterable[Version], store: MetadataStore) -> Mapping[str, VersionName]:
    """By logicalID: the name that is taken by a change that was judged on these newest versions, as they were read.

    Raises FactsMoved where one of them is not the newest any more.
    """
    before = {item.logical_id or item.entry_uuid: item for item in newest}
    names = {logical_id: _after(item) for logical_id, item in before.items()}
    while taken := await _taken(names.values(), store):
        for name in taken:
            if not await _is_newest(before[name.logical_id], store):
                raise FactsMoved("another version is the newest")
            names[name.logical_id] = name.next  # whoever took that one was removed, or removed something
    return names


def _after(item: Version) -> VersionName:
    return VersionName(item.kind, item.logical_id or item.entry_uuid, int(version_after(item)))


async def _taken(names: Iterable[VersionName], store: MetadataStore) -> list[VersionName]:
    by_text = {name.text: name for name in names}
    if not by_text:
        return []
    found = (await store.known(Questions("", identifiers=frozenset(by_text)))).taken
    return [by_text[each] for each in sorted(found)]


async def _is_newest(item: Version, store: MetadataStore) -> bool:
    criteria = Criteria(item.kind, (Match.any_of("logical_id", (item.logical_id or item.entry_uuid,)),))
    found = await store.find(criteria, rendering=False)
    newest = max(found, key=lambda each: int(each.version or "1"), default=None)
    return newest is not None and newest.entry_uuid == item.entry_uuid

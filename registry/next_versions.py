"""Which number the next version of an object gets, and that no other change brings the same one.

ITI TF-2: 3.57. A new version may be of another patient than the one before, and then the two changes that bring the
same version may be in different dossiers, neither of which tells of the other. So the change takes the name of the
version, and of two changes that take one name one is committed (VersionName). What was removed keeps its number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from registry.metadata_store import Criteria, FactsMoved, Match, MetadataStore, Questions, VersionName
from xds.metadata import DocumentEntry, Folder


async def next_versions(newest: Iterable[DocumentEntry | Folder], store: MetadataStore) -> Mapping[str, VersionName]:
    """By logicalID: the version after the newest one, as it was read before.

    Raises FactsMoved where there is a newer one by now.
    """
    names = {name.logical_id: name for name in map(_after, newest)}
    while taken := await _taken(names.values(), store):
        for name in taken:
            if await _is_there(name, store):
                raise FactsMoved("there is a newer version")
            names[name.logical_id] = name.next  # that one was removed
    return names


def _after(item: DocumentEntry | Folder) -> VersionName:
    return VersionName(item.kind, item.logical_id or item.entry_uuid, int(item.version or "1") + 1)


async def _taken(names: Iterable[VersionName], store: MetadataStore) -> list[VersionName]:
    by_text = {name.text: name for name in names}
    if not by_text:
        return []
    found = (await store.known(Questions("", identifiers=frozenset(by_text)))).taken
    return [by_text[each] for each in sorted(found)]


async def _is_there(name: VersionName, store: MetadataStore) -> bool:
    """Whether the object has this version, or a later one."""
    criteria = Criteria(name.kind, (Match.any_of("logical_id", (name.logical_id,)),))
    return any(int(each.version or "1") >= name.version for each in await store.find(criteria, rendering=False))

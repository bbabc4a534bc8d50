"""That of the changes that bring the version after one and the same version one is committed.

ITI TF-2: 3.57. A new version may be of another patient than the one before, and then the two changes that bring it may
be in different dossiers, neither of which tells of the other. So a change takes the next name of the object, and of two
changes that take one name one is committed (VersionName).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from registry.lifecycle import version_after
from registry.metadata_store import Criteria, FactsMoved, Match, MetadataStore, Questions, VersionName
from xds.metadata import DocumentEntry, Folder


async def next_versions(newest: Iterable[DocumentEntry | Folder], store: MetadataStore) -> Mapping[str, VersionName]:
    """By logicalID: the name that is taken by what comes after the newest version, as that was read before.

    Raises FactsMoved where there is a newer one by now.
    """
    before = {item.logical_id or item.entry_uuid: item for item in newest}
    names = {logical_id: _after(item) for logical_id, item in before.items()}
    while taken := await _taken(names.values(), store):
        for name in taken:
            if await _has_newer(before[name.logical_id], store):
                raise FactsMoved("there is a newer version")
            names[name.logical_id] = name.next  # whoever took that one was removed
    return names


def _after(item: DocumentEntry | Folder) -> VersionName:
    return VersionName(item.kind, item.logical_id or item.entry_uuid, int(version_after(item)))


async def _taken(names: Iterable[VersionName], store: MetadataStore) -> list[VersionName]:
    by_text = {name.text: name for name in names}
    if not by_text:
        return []
    found = (await store.known(Questions("", identifiers=frozenset(by_text)))).taken
    return [by_text[each] for each in sorted(found)]


async def _has_newer(item: DocumentEntry | Folder, store: MetadataStore) -> bool:
    criteria = Criteria(item.kind, (Match.any_of("logical_id", (item.logical_id or item.entry_uuid,)),))
    found = await store.find(criteria, rendering=False)
    return any(int(each.version or "1") > int(item.version or "1") for each in found)

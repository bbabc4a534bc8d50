"""The body of a log record: what a RegistryChange brings, revises and removes, as bytes and back.

    {"v":2,"objects":["<rim:ExtrinsicObject ...", {"sha256":"..."}, ...],
     "revisions":[{"entry_uuid":"urn:uuid:...", ...}, ...],"removed":[{"entry_uuid":"urn:uuid:...", ...}, ...]}

UTF-8 JSON in this order of keys; an attribute that a revision leaves alone, or a removed object does not have, is not
there, and neither is an empty list of what is removed. What a feed says of the patient is one more member,
"identity":{} or "identity":{"merged_into":"..."}. An object that a later change removed is blanked: its SHA-256
stands in its place, and so the record's hash (registry/dossier_log.py) stays what it was. The same for every store, so
that a registry can be copied from one to another record by record and the chain still verifies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson

from registry.metadata_store import IdentityChange, Removal, Revision, StoreDamaged
from xds.actors import ObjectCodec
from xds.hl7v2 import DTM
from xds.metadata import AnyObject, Folder

_VERSION = 2
_DIGITS = 64  # of a SHA-256


@dataclass(frozen=True, slots=True)
class ChangeBody:
    """A body, read.

    renderings   the new objects, each as its ebRIM element; without those that were blanked
    blanks       how many were blanked
    """

    renderings: tuple[bytes, ...]
    revisions: tuple[Revision, ...]
    identity: IdentityChange | None = None
    removals: tuple[Removal, ...] = ()
    blanks: int = 0


def encoded(
    renderings: Iterable[bytes],
    revisions: Sequence[Revision],
    identity: IdentityChange | None = None,
    removals: Sequence[Removal] = (),
) -> tuple[bytes, bytes]:
    """The body of a change whose new objects were rendered as `renderings`, and its hash."""
    rendered = list(renderings)
    rest: dict[str, Any] = {"revisions": [_without_none(revision) for revision in revisions]}
    if removals:
        rest["removed"] = [_without_none(removal) for removal in removals]
    if identity is not None:
        rest["identity"] = _without_none(identity)
    digests = [hashlib.sha256(rendering).hexdigest() for rendering in rendered]
    body = orjson.dumps({"v": _VERSION, "objects": [rendering.decode() for rendering in rendered], **rest})
    return body, hashlib.sha256(orjson.dumps({"v": _VERSION, "objects": digests, **rest})).digest()


def decoded(body: bytes) -> ChangeBody:
    """The body that `encoded` made.

    Raises StoreDamaged.
    """
    try:
        content = orjson.loads(body)
        version = content["v"]
        if version != _VERSION:
            raise StoreDamaged(f"the body of a record has version {version}, this release reads version {_VERSION}")
        return ChangeBody(
            tuple(rendering.encode() for rendering in content["objects"] if isinstance(rendering, str)),
            tuple(Revision(**revision) for revision in content["revisions"]),
            IdentityChange(**content["identity"]) if "identity" in content else None,
            tuple(Removal(**removal) for removal in content.get("removed", ())),
            sum(len(each["sha256"]) == _DIGITS for each in content["objects"] if not isinstance(each, str)),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreDamaged("the body of a record is not what was written") from error


def object_of(rendering: bytes, codec: ObjectCodec) -> AnyObject:
    """The object that a rendering stands for.

    Raises StoreDamaged.
    """
    try:
        return codec.read(rendering)
    except Exception as error:
        raise StoreDamaged(f"a rendering can not be read: {error}") from error


def renders_one_of(entry_uuids: Collection[str], codec: ObjectCodec) -> Callable[[bytes], bool]:
    """Whether a rendering is that of one of these objects."""
    names = [entry_uuid.encode() for entry_uuid in entry_uuids]

    def is_one(rendering: bytes) -> bool:
        # Reading XML takes long; most objects do not even mention one of these.
        return any(name in rendering for name in names) and object_of(rendering, codec).entry_uuid in entry_uuids

    return is_one


def blanked(body: bytes, is_removed: Callable[[bytes], bool]) -> bytes | None:
    """The body without the renderings of which that is true; None where there are none."""
    content = orjson.loads(body)
    objects = [
        {"sha256": hashlib.sha256(each.encode()).hexdigest()}
        if isinstance(each, str) and is_removed(each.encode())
        else each
        for each in content["objects"]
    ]
    return None if objects == content["objects"] else orjson.dumps({**content, "objects": objects})


def revised(item: AnyObject, revision: Revision) -> AnyObject:
    """The object after `revision`."""
    if revision.availability_status is not None:
        item = replace(item, availability_status=revision.availability_status)
    if revision.last_update_time is not None:
        if not isinstance(item, Folder):
            raise ValueError(f"{item.entry_uuid} is a {item.kind}; only a Folder has a lastUpdateTime")
        item = replace(item, last_update_time=DTM(revision.last_update_time))
    return item


def _without_none(item: Revision | Removal | IdentityChange) -> dict[str, str | bool]:
    return {name: value for name, value in asdict(item).items() if value is not None}

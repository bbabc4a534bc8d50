"""The body of a log record: what a RegistryChange brings and revises, as bytes and back.

    {"v":1,"objects":["<rim:ExtrinsicObject ...", ...],"revisions":[{"entry_uuid":"urn:uuid:...", ...}, ...]}

UTF-8 JSON in this order of keys; an attribute that a revision leaves alone is not there. What a feed says of the
patient is one more member, "identity":{} or "identity":{"merged_into":"..."}. The same for every store, so
that a registry can be copied from one to another record by record and the chain still verifies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from registry.metadata_store import IdentityChange, Revision, StoreDamaged
from xds.hl7v2 import DTM
from xds.metadata import AnyObject, Folder

_VERSION = 1
_REVISABLE = ("availability_status", "last_update_time")


@dataclass(frozen=True, slots=True)
class ChangeBody:
    """A body, read.

    renderings   the new objects, each as its ebRIM element
    """

    renderings: tuple[bytes, ...]
    revisions: tuple[Revision, ...]
    identity: IdentityChange | None = None


def encoded(
    renderings: Iterable[bytes], revisions: Sequence[Revision], identity: IdentityChange | None = None
) -> bytes:
    """The body of a change whose new objects were rendered as `renderings`."""
    content: dict[str, Any] = {
        "v": _VERSION,
        "objects": [rendering.decode() for rendering in renderings],
        "revisions": [_revision_as_json(revision) for revision in revisions],
    }
    if identity is not None:
        content["identity"] = {} if identity.merged_into is None else {"merged_into": identity.merged_into}
    return orjson.dumps(content)


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
            tuple(rendering.encode() for rendering in content["objects"]),
            tuple(Revision(**revision) for revision in content["revisions"]),
            IdentityChange(**content["identity"]) if "identity" in content else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreDamaged("the body of a record is not what was written") from error


def revised(item: AnyObject, revision: Revision) -> AnyObject:
    """The object after `revision`."""
    if revision.availability_status is not None:
        item = replace(item, availability_status=revision.availability_status)
    if revision.last_update_time is not None:
        if not isinstance(item, Folder):
            raise ValueError(f"{item.entry_uuid} is a {item.kind}; only a Folder has a lastUpdateTime")
        item = replace(item, last_update_time=DTM(revision.last_update_time))
    return item


def _revision_as_json(revision: Revision) -> dict[str, Any]:
    content = {"entry_uuid": revision.entry_uuid}
    for name in _REVISABLE:
        value = getattr(revision, name)
        if value is not None:
            content[name] = value
    return content

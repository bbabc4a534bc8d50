"""How it stands with a bucket, for `toimik doctor`; and the end of what `toimik bench` has put into one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from repository.s3_client import Absent, Bucket, Present, S3Client
from repository.s3_layout import DESCRIPTION_TYPE, MARK, Layout

_REMOVING_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class S3Condition:
    """What was found.

    there                whether there is a bucket of this name
    prepared             whether documents were ever kept in it, under this prefix
    conditional_writes   whether the server refuses to create an object twice; told of a prepared bucket alone
    versioned            whether the bucket keeps versions
    ends_uploads         whether the server itself ends what is left of broken uploads
    """

    there: bool
    prepared: bool = False
    conditional_writes: bool = False
    versioned: bool = False
    ends_uploads: bool = False


def condition_of(bucket: Bucket, *, prefix: str, seconds: float) -> S3Condition:
    """Look at the bucket for at most so long. Blocking.

    Raises StoreBusy where the server does not answer, or refuses.
    """
    client = S3Client(bucket, connections=1)
    try:
        return client.before(time.monotonic() + seconds, _seen, client, Layout.under(prefix))
    finally:
        client.disconnect()


def removed(bucket: Bucket, *, prefix: str) -> int:
    """Delete whatever is under a prefix, and return how many objects that were. Blocking.

    Raises ValueError for an empty prefix: that is a whole bucket.
    """
    if not prefix:
        raise ValueError("a whole bucket is not removed")
    client = S3Client(bucket, connections=1)
    try:
        return client.before(time.monotonic() + _REMOVING_SECONDS, _removed, client, Layout.under(prefix))
    finally:
        client.disconnect()


def _removed(client: S3Client, layout: Layout) -> int:
    client.see_versioning(switch_on=False)
    names = [each.name for each in client.listed(layout.prefix)]
    for name in names:
        client.delete(name)
    return len(names)


def _seen(client: S3Client, layout: Layout) -> S3Condition:
    try:
        client.store_clock()
    except Absent:
        return S3Condition(there=False)
    client.see_versioning(switch_on=False)
    prepared = _is_prepared(client, layout)
    return S3Condition(
        there=True,
        prepared=prepared,
        conditional_writes=prepared and _refuses_a_second(client, layout),
        versioned=client.versioned,
        ends_uploads=client.ends_old_uploads(layout.all_content),
    )


def _is_prepared(client: S3Client, layout: Layout) -> bool:
    try:
        client.get(layout.mark)
    except Absent:
        return False
    return True


def _refuses_a_second(client: S3Client, layout: Layout) -> bool:
    """The mark is there. A server that writes it again writes what it was."""
    try:
        client.create(layout.mark, MARK, DESCRIPTION_TYPE)
    except Present:
        return True
    return False

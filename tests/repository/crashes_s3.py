"""Kills ITI-41 between any two requests to S3, and checks what a restart finds.

`python -m tests.repository.crashes_s3 URL DIRECTORY`, with S3_ACCESS_KEY and S3_SECRET_KEY in the environment: see
tests/repository/crashes.py, of which this is the same with another store. DIRECTORY tells what is registered.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from minio import Minio

from repository.document_store_s3 import S3DocumentStore
from repository.s3_client import SMALLEST_PART, Bucket
from tests.repository.crashes import KILLED, crashes_of, registered_in

CONTENTS = (b"small", b"large" * (2 * SMALLEST_PART // 5 + 1))
OBJECTS_OF_A_DOCUMENT = 2


def killed_at(step: int, after: bool) -> None:
    """Have this process end at its `step`th request, counted over all its threads.

    They take turns, so that the server is not at another request when its sender is gone: the checks come at once,
    and not hours later as the sweeper does.
    """
    steps = itertools.count(1)
    turn = threading.Lock()
    send = Minio._url_open

    def last(client: Minio, *args: Any, **kwargs: Any) -> Any:
        with turn:
            is_last = next(steps) == step
            if is_last and not after:
                os._exit(KILLED)
            try:
                return send(client, *args, **kwargs)
            finally:
                if is_last:
                    os._exit(KILLED)

    Minio._url_open = last  # type: ignore[method-assign,assignment]


def main(url: str, directory: Path) -> int:
    bucket = Bucket(
        endpoint=url,
        name="toimik",
        access_key=os.environ["S3_ACCESS_KEY"],
        secret_key=os.environ["S3_SECRET_KEY"],
        region="us-east-1",
    )
    prefix = f"crashes-{uuid4().hex}"

    def opened() -> S3DocumentStore:
        return S3DocumentStore(bucket, prefix=prefix, part_bytes=SMALLEST_PART)

    def left_over() -> Sequence[str]:
        secure = urlsplit(url).scheme == "https"
        client = Minio(urlsplit(url).netloc, access_key=bucket.access_key, secret_key=bucket.secret_key, secure=secure)
        names = [each.object_name or "" for each in client.list_objects(bucket.name, f"{prefix}/", recursive=True)]
        objects = [name for name in names if name != f"{prefix}/toimik.json"]
        expected = OBJECTS_OF_A_DOCUMENT * len(CONTENTS) * registered_in(directory)
        found = [] if len(objects) == expected else [f"{len(objects)} objects are left, and not {expected}"]
        uploads = client._list_multipart_uploads(bucket.name).uploads
        mine = [each for each in uploads if (each.object_name or "").startswith(prefix)]
        return [*found, *(f"the upload {each.object_name} is left" for each in mine)]

    return crashes_of(directory, opened, CONTENTS, killed_at=killed_at, left_over=left_over)


if __name__ == "__main__":
    sys.stdout.write(f"{main(sys.argv[1], Path(sys.argv[2]))} crashes\n")

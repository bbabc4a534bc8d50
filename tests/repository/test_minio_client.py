"""What the store in S3 takes from the `minio` client beside its public methods is there.

A release of the client may rename any of it without a word. Then these tests say which, and the others only that the
store does not work. Why the public methods are not enough is in docs/adr/0006-documents-in-s3.md.
"""

from __future__ import annotations

import inspect
import re
from importlib.metadata import version

import pytest
from minio import Minio
from minio.error import InvalidResponseError

from repository import s3_client
from repository.s3_client import S3Client

CALLED = {
    "_abort_multipart_upload": ("bucket_name", "object_name", "upload_id"),
    "_complete_multipart_upload": ("bucket_name", "object_name", "upload_id", "parts"),
    "_create_multipart_upload": ("bucket_name", "object_name", "headers"),
    "_execute": ("method", "bucket_name", "object_name"),
    "_list_multipart_uploads": ("bucket_name",),
    "_list_parts": ("bucket_name", "object_name", "upload_id"),
    "_put_object": ("bucket_name", "object_name", "data", "headers"),
    "_upload_part": ("bucket_name", "object_name", "data", "headers", "upload_id", "part_number"),
}
"""Protected methods of the client, and their first parameters in the order in which they are given."""

BY_NAME = {
    "_execute": {"headers", "preload_content"},
    "_list_multipart_uploads": {"prefix"},
    "_list_parts": {"part_number_marker"},
}
"""Parameters that are given by their names."""

OVERRIDDEN = {"_build_headers": ("host", "headers", "body", "creds"), "_url_open": ("method", "region")}
"""Protected methods that the client calls itself, and what it may give by position."""

THIS_CLIENT = f"minio {version('minio')}"
WHAT_TO_DO = "repository/s3_client.py needs it: adapt that, or keep minio below this release in pyproject.toml"


@pytest.mark.parametrize("name", [*CALLED, *OVERRIDDEN])
def test_a_protected_method_of_the_minio_client_is_as_the_store_calls_it(name: str) -> None:
    method = getattr(Minio, name, None)
    assert method is not None, f"{THIS_CLIENT} has no Minio.{name} any more. {WHAT_TO_DO}"
    parameters = [each for each in inspect.signature(method).parameters if each != "self"]
    expected = [*CALLED.get(name, ()), *OVERRIDDEN.get(name, ())]
    as_it_is = f"{THIS_CLIENT} has Minio.{name}({', '.join(parameters)})"
    assert parameters[: len(expected)] == expected, f"{as_it_is}, which began with {', '.join(expected)}. {WHAT_TO_DO}"
    missing = BY_NAME.get(name, set()) - set(parameters)
    assert not missing, f"{as_it_is}, without {', '.join(missing)}. {WHAT_TO_DO}"


def test_no_other_protected_method_of_the_minio_client_is_called() -> None:
    named = set(re.findall(r"(?:self|super\(\))\.(_[a-z]\w+)", inspect.getsource(s3_client)))
    assert {name for name in named if hasattr(Minio, name)} <= {*CALLED, *OVERRIDDEN}


def test_nothing_of_the_minio_client_is_overridden_by_accident() -> None:
    ours = {name for name in vars(S3Client) if not name.startswith("__")}
    assert ours & set(dir(Minio)) == set(OVERRIDDEN), f"S3Client hides what {THIS_CLIENT} calls by the same name"


def test_the_status_of_an_answer_without_xml_is_known_to_the_minio_client() -> None:
    problem = InvalidResponseError(507, "text/plain", "full")
    assert getattr(problem, "_code", None) == 507, (
        f"{THIS_CLIENT} has no InvalidResponseError._code any more. {WHAT_TO_DO}"
    )


def test_the_minio_client_has_connections_that_the_store_lets_go_of() -> None:
    client = Minio("127.0.0.1:9", access_key="a", secret_key="b", secure=False)  # noqa: S106
    assert hasattr(client, "_http"), f"{THIS_CLIENT} has no Minio._http any more. {WHAT_TO_DO}"

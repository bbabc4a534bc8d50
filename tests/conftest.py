"""Fixtures that every room's tests may ask for, and the order of all tests."""

from __future__ import annotations

import pytest

from tests.store_servers import mongodb_server, own_mongodb_server, own_s3_server, s3_server

__all__ = ["mongodb_server", "own_mongodb_server", "own_s3_server", "s3_server"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: no core waits in the end for what another one has just begun."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)

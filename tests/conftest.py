"""Fixtures that every room's tests may ask for, and the order of all tests. No example is too slow for hypothesis."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.store_servers import mongodb_server, own_mongodb_server, own_s3_server, s3_server

__all__ = ["mongodb_server", "own_mongodb_server", "own_s3_server", "s3_server"]

# A machine that has much else to do takes as long as it takes.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: no core waits in the end for what another one has just begun."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)

"""Fixtures that every room's tests may ask for."""

from tests.store_servers import mongodb_server, s3_server

__all__ = ["mongodb_server", "s3_server"]

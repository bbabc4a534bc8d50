"""Where a store on another host did not tell what became of a submission, nobody is told that it was refused."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import aiohttp
import pytest

from registry.metadata_store import OutcomeOpen
from registry.metadata_store_sqlite import SqliteMetadataStore
from server.remote_actors import RemoteRegistry
from tests import builders
from tests.server.running_server import running_server
from xds.actors import OutcomeUnknown


async def test_a_registry_whose_store_did_not_answer_says_that_the_outcome_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def apply(*_: object) -> NoReturn:
        raise OutcomeOpen("it is not known whether a change was committed")

    monkeypatch.setattr(SqliteMetadataStore, "apply", apply)
    with running_server(tmp_path) as base:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(OutcomeUnknown, match="may be registered or not"):
                await RemoteRegistry(f"{base}/xds/registry", session).register_document_set(
                    builders.submission(builders.document_entry())
                )

"""A look at the stores finds out how they are, also where one goes away meanwhile."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from server import store_opening
from server.diagnosis import Verdict
from server.settings import Actor, Settings
from server.settings.limits import Limits
from server.settings.stores import MetadataSettings, MetadataStoreKind
from server.store_diagnosis import store_diagnoses
from server.store_opening import prepared_metadata_store
from tests.store_servers import OwnStoreServer


@pytest.mark.filterwarnings("ignore:.*unclosed <socket:pytest.PytestUnraisableExceptionWarning")
async def test_a_store_that_goes_away_in_the_midst_of_a_deep_look_is_told_in_a_sentence(
    tmp_path: Path, own_mongodb_server: OwnStoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_opening, "_STEP_SECONDS", 2.0)
    metadata = MetadataSettings(store=MetadataStoreKind.MONGODB, mongodb_url=own_mongodb_server.url, connect_seconds=1)
    settings = Settings(data=tmp_path, actors=(Actor.REGISTRY,), metadata=metadata, limits=Limits(store_seconds=2))
    await prepared_metadata_store(settings)
    looks = store_diagnoses(settings, deep=True, tell=lambda _: own_mongodb_server.kill())
    found = {look.subject: look async for look in looks}

    del looks
    gc.collect()  # what the driver leaves open towards a server that is gone is told here, and not in a later test

    assert found["metadata store"].verdict is Verdict.OK
    assert found["log and index"].verdict is Verdict.FAILED
    assert found["log and index"].sentence.startswith("it could not be looked at to its end: ")

"""The Bundle of a search, whose entries may have been made before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson

from mhd.searching.renderer import Completion
from mhd.searching.searchset import searchset
from registry.kept_dossiers import KeptDossiers
from registry.metadata_store_sqlite import SqliteMetadataStore
from tests.builders import PATIENT, document_entry, registered
from tests.mhd.responders import RENDERER
from tests.registry.dossiers import register, submitted
from xds.ebxml_writer import codec
from xds.metadata import ObjectKind
from xds.paged_search import Page, PagedSearch

SEARCH = PagedSearch(ObjectKind.DOCUMENT_ENTRY, (), (PATIENT.text,), "creation_time", limit=10)


def bundle(page: Page, base: str) -> bytes:
    completion = Completion(base, RENDERER, codec)
    pieces = searchset(
        page.objects,
        total=len(page.objects),
        links={"self": f"{base}/DocumentReference"},
        completion=completion,
        moment="2026-11-30T12:00:00Z",
        made=page.made,
    )
    return b"".join(pieces)


async def test_entries_that_were_made_before_are_those_that_would_be_made_now(tmp_path: Path) -> None:
    kept = KeptDossiers(1024 * 1024)
    store = SqliteMetadataStore(tmp_path / "registry.sqlite", codec=codec, renderer=RENDERER, kept=kept)
    await register(store, *submitted(*[registered(document_entry()) for _ in range(3)]))
    one, other = "https://one.example/fhir", "https://other.example/fhir"

    for base in (one, one, other, one):
        page = await store.page(SEARCH)
        assert bundle(page, base) == bundle(replace(page, made={}), base)
        urls = [each["fullUrl"] for each in orjson.loads(bundle(page, base))["entry"]]
        assert [url.startswith(f"{base}/DocumentReference/") for url in urls] == [True] * 3
    assert (await store.page(SEARCH)).made.keys() == {one}
    await store.close()


async def test_a_page_with_nothing_on_it_has_no_entries() -> None:
    empty = Page((), more=False, total=0, as_of="")

    for _ in range(2):
        assert "entry" not in orjson.loads(bundle(empty, "https://one.example/fhir"))

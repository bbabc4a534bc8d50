"""`toimik migrate`: the stores that the settings name, prepared; or a registry and its documents, copied to others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from registry import metadata_store as metadata_port
from repository import document_store as documents_port
from server.cli.screen import ExitCode, counting_bar, messages, output, plain, stopped
from server.migration import (
    Compared,
    compare_documents,
    compare_registries,
    copy_documents,
    copy_registry,
)
from server.settings import Actor, Settings, SettingsProblem, load_settings
from server.settings.stores import DocumentStoreKind, MetadataStoreKind
from server.store_opening import (
    DOCUMENTS_DIRECTORY,
    METADATA_FILE,
    document_store,
    metadata_store,
    prepared_document_store,
    prepared_metadata_store,
    unhurried,
)
from server.wiring import registry_asked
from xds.ebxml_writer import codec

_SHOWN_PROBLEMS = 20

_Kind = TypeVar("_Kind", MetadataStoreKind, DocumentStoreKind)

_STORE_PROBLEMS = (
    metadata_port.StoreBusy,
    metadata_port.StoreDamaged,
    metadata_port.StoreFull,
    documents_port.StoreBusy,
    documents_port.StoreFull,
    documents_port.DocumentDamaged,
    OSError,
)


class CannotMigrate(Exception):
    """What was asked for can not be done. The text is for the operator."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is copied: each as (settings of the source, settings of the target)."""

    registry: tuple[Settings, Settings] | None = None
    documents: tuple[Settings, Settings] | None = None


def run(
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="Settings, of both stores for a copy.")
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the embedded stores are.")] = None,
    from_store: Annotated[
        MetadataStoreKind | None, typer.Option("--from", help="Copy the registry from here ...")
    ] = None,
    to_store: Annotated[MetadataStoreKind | None, typer.Option("--to", help="... to here.")] = None,
    documents_from: Annotated[
        DocumentStoreKind | None, typer.Option(help="Copy documents from here ... By default they follow the registry.")
    ] = None,
    documents_to: Annotated[DocumentStoreKind | None, typer.Option(help="... to here.")] = None,
    stay: Annotated[bool, typer.Option("--documents-stay", help="Copy the registry alone.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Copy nothing; compare what was copied before.")] = False,
    shard: Annotated[
        bool, typer.Option("--shard", help="Shard MongoDB's collections; needs a sharded cluster.")
    ] = False,
) -> None:
    """Prepare the stores that the settings name, or copy a registry and its documents.

    toimik migrate makes what MongoDB and S3 need before a server can use
    them: collections and indexes, the bucket and its rules. After an update
    of Toimik it adds what is new. It can be run at any time.

    toimik migrate --from sqlite --to mongodb copies a registry, record by
    record, and its documents. The settings name both stores: the data
    directory, metadata.mongodb_url, documents.s3_endpoint and so on. Documents
    go from the file system to S3, or with --from mongodb --to sqlite back
    again; where the settings name no S3 server they stay. For documents
    alone: --documents-from filesystem --documents-to s3.

    Nothing of the source is changed. A copy that was interrupted goes on
    where it was when the same command is given again, and it may begin while
    servers still write to the source: stop them, and give the command once
    more for the rest. In the end both sides are read again and compared, log,
    index and documents, by their hashes. Then let metadata.store and
    documents.store name the new stores, and start the servers.

    Exit code: 0 done, and the same on both sides; 1 it can not be done, or is
    not the same; 2 a mistake in the command or the settings.
    """
    plan = Plan()
    try:
        settings = unhurried(load_settings(config, data=data))
        plan = planned(settings, (from_store, to_store), (documents_from, documents_to), stay=stay)
        same = asyncio.run(_migrated(settings, plan, verify=verify, shard=shard))
    except (SettingsProblem, CannotMigrate) as problem:
        raise stopped(problem, ExitCode.USAGE) from problem
    except _STORE_PROBLEMS as problem:
        more = "; when that is put right, the same command goes on where it was" if plan != Plan() else ""
        raise stopped(f"{problem}{more}", ExitCode.REFUSED) from problem
    except KeyboardInterrupt as interrupt:
        raise stopped("interrupted; the same command goes on where it was", ExitCode.REFUSED) from interrupt
    raise typer.Exit(ExitCode.OK if same else ExitCode.REFUSED)


# ---------------------------------------------------------------------------------------------------- what is asked


def planned(
    settings: Settings,
    registry: tuple[MetadataStoreKind | None, MetadataStoreKind | None],
    documents: tuple[DocumentStoreKind | None, DocumentStoreKind | None],
    *,
    stay: bool = False,
) -> Plan:
    """What to copy where.

    Raises CannotMigrate where that makes no sense, SettingsProblem where the settings do not tell how to reach a store.
    """
    metadata_from, metadata_to = _both(registry, "--from", "--to")
    documents_from, documents_to = _both(documents, "--documents-from", "--documents-to")
    if stay and documents_from is not None:
        raise CannotMigrate("--documents-stay, or --documents-from and --documents-to, but not both")
    follow = metadata_from is not None and documents_from is None and not stay and settings.documents.names_s3
    if follow and Actor.REPOSITORY in settings.actors:
        documents_from, documents_to = DocumentStoreKind.FILESYSTEM, DocumentStoreKind.S3
        if metadata_from is not MetadataStoreKind.SQLITE:
            documents_from, documents_to = documents_to, documents_from
    plan = Plan()
    if metadata_from is not None:
        if Actor.REGISTRY not in settings.actors:
            raise CannotMigrate("this server has no registry of its own, so there is none to copy")
        plan = Plan(registry=(settings.on(metadata=metadata_from), settings.on(metadata=metadata_to)))
    if documents_from is not None:
        if Actor.REPOSITORY not in settings.actors:
            raise CannotMigrate("this server has no repository of its own, so there are no documents to copy")
        at_source = settings.on(metadata=metadata_from, documents=documents_from)
        plan = Plan(plan.registry, (at_source, settings.on(metadata=metadata_from, documents=documents_to)))
    return plan


def _both(pair: tuple[_Kind | None, _Kind | None], source: str, target: str) -> tuple[_Kind | None, _Kind | None]:
    if (pair[0] is None) != (pair[1] is None):
        raise CannotMigrate(f"{source} and {target} are given together or not at all")
    if pair[0] is not None and pair[0] == pair[1]:
        raise CannotMigrate(f"{source} and {target} name the same store")
    return pair


# ----------------------------------------------------------------------------------------------------- what is done


async def _migrated(settings: Settings, plan: Plan, *, verify: bool, shard: bool) -> bool:
    """Do it; whether both sides are the same afterwards."""
    if plan == Plan():
        if verify:
            raise CannotMigrate("--verify compares two stores: --from and --to say which")
        await _prepare(
            settings if Actor.REGISTRY in settings.actors else None,
            settings if Actor.REPOSITORY in settings.actors else None,
            shard=shard,
        )
        return True
    _require_sources(plan)
    if not verify:
        await _prepare(plan.registry and plan.registry[1], plan.documents and plan.documents[1], shard=shard)
    # The registry first: what it lists by then is among the documents, because these are kept before they are listed.
    same = [
        await _registry_migrated(*plan.registry, verify=verify) if plan.registry else True,
        await _documents_migrated(*plan.documents, verify=verify) if plan.documents else True,
    ]
    if plan.documents is None and Actor.REPOSITORY in settings.actors:
        output().print(f"Documents stay where they are ({settings.documents.store}).")
    return all(same)


async def _prepare(registry: Settings | None, documents: Settings | None, *, shard: bool) -> None:
    """Have these stores ready to be used, and say what was done."""
    sentences = [
        *(await prepared_metadata_store(registry, shard=shard) if registry else ()),
        *(await prepared_document_store(documents) if documents else ()),
    ]
    for sentence in sentences:
        output().print(plain(sentence))


def _require_sources(plan: Plan) -> None:
    """An embedded store that is not there would be made, empty, and copied."""
    embedded = (
        (plan.registry, MetadataStoreKind.SQLITE, METADATA_FILE, "registry"),
        (plan.documents, DocumentStoreKind.FILESYSTEM, DOCUMENTS_DIRECTORY, "documents"),
    )
    for pair, kind, name, what in embedded:
        if pair is None or kind not in (pair[0].metadata.store, pair[0].documents.store):
            continue
        place = pair[0].data / name
        if not place.exists():
            raise CannotMigrate(f"{place} is not there, so there is no {what} to copy; --data or --config says where")


async def _registry_migrated(at_source: Settings, at_target: Settings, *, verify: bool) -> bool:
    async with AsyncExitStack() as opened:
        source = await metadata_store(at_source)
        opened.push_async_callback(source.close)
        target = await metadata_store(at_target)
        opened.push_async_callback(target.close)
        records, objects = await source.extent()
        if not verify:
            with _counted("Copying the registry", records) as advance:
                records = await copy_registry(source, target, advance)
            output().print(f"Registry: {records} records are in {at_target.metadata.store}.")
        with _counted("Comparing the registries", 2 * (records + objects)) as advance:
            compared = await compare_registries(source, target, codec, advance)
    _tell(f"Registry: {compared.done} dossiers with {compared.records} records compared", compared)
    return compared.same


async def _documents_migrated(at_source: Settings, at_target: Settings, *, verify: bool) -> bool:
    copied_whole = True
    async with AsyncExitStack() as opened:
        is_registered = await opened.enter_async_context(registry_asked(at_source))
        source = document_store(at_source)
        opened.push_async_callback(source.close)
        target = document_store(at_target)
        opened.push_async_callback(target.close)
        if not verify:
            with _counted("Copying documents") as advance:
                done = await copy_documents(source, target, is_registered, advance)
            output().print(f"Documents: {done.copied} copied to {at_target.documents.store}, {done.there} were there.")
            _tell_problems(done.problems)
            copied_whole = not done.problems
        with _counted("Comparing documents") as advance:
            compared = await compare_documents(source, target, is_registered, advance)
    _tell(f"Documents: {compared.done} compared", compared)
    return copied_whole and compared.same


@contextmanager
def _counted(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A progress bar; on anything but a terminal, a line that says what is begun."""
    screen = messages()
    if not screen.is_terminal:
        screen.print(f"{what} ...")
    with counting_bar() as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def _tell(what: str, compared: Compared) -> None:
    if compared.same:
        output().print(f"{what}: the same on both sides.")
        return
    if compared.problems:
        output().print(f"{what}: [red]{len(compared.problems)} problems[/]")
        _tell_problems(compared.problems)
    if compared.behind:
        output().print(
            f"{what}: {compared.behind} came to the source meanwhile. Stop the servers that write to it, and give the "
            "same command again."
        )


def _tell_problems(problems: Sequence[str]) -> None:
    for problem in problems[:_SHOWN_PROBLEMS]:
        output().print(f"  {plain(problem)}")
    if len(problems) > _SHOWN_PROBLEMS:
        output().print(f"  ... and {len(problems) - _SHOWN_PROBLEMS} more")

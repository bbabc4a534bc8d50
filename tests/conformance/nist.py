"""Run the NIST XDS Toolkit's test plans against a fresh server: `python tests/conformance/nist.py [--workers N]`.

`--stores mongodb+s3 --nodes 2` starts two servers on one database and one bucket: submissions go to the one, queries
and retrievals to the other. The MongoDB and S3 servers are those of the tests (tests/store_servers.py).

`--tls` has the servers speak TLS alone, and ask for a client certificate (ITI-19), on the MLLP port as well.

Each server knows only the patients that are fed to it (patients.policy = "known"); the runner feeds each one before it
uses it, by HL7 v2 over MLLP. Codes that are not in the code table of the plans are rejected. Hand-written messages of
older years have other codes, which are in the table as well for those plans.

The plans and their runner are reference material beside the project (../shared/nist-testkit); the exit code is the
runner's. The groups named here are those that docs/conformance.md claims.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import ssl
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

# Run as a script, the project's root has to be found first.
from registry.code_sets import CodeSets  # noqa: E402
from server.code_file import code_sets_of, write_code_file  # noqa: E402
from server.code_import import imported  # noqa: E402
from server.settings.affinity_domain import CodedValue, CodeSet, Policy  # noqa: E402
from tests.server_process import ServerProcess, free_port, server_process  # noqa: E402
from tests.shared_stores import as_environment, shared_stores  # noqa: E402
from tests.store_servers import running_mongodb, running_s3  # noqa: E402
from xds.ebxml_messages import read_provide_request  # noqa: E402
from xds.xml import parse  # noqa: E402

CODES = ROOT.parent / "shared" / "nist-testkit" / "reference" / "codes.xml"
RUNNER = ROOT.parent / "shared" / "nist-testkit" / "run.py"
AFFINITY_DOMAIN = "1.3.6.1.4.1.21367.13.20.1000"  # whose patient ids the runner makes up
GROUPS = (
    "registry", "registry-mpq", "registry-mu", "registry-mu-extra", "registry-rmu", "registry-rmd", "registry-od",
    "repository", "repository-rmd", "testdata",
)  # fmt: skip
GROUPS_WITH_OLD_CODES = ("repository-wire",)


def main() -> int:
    """Start the servers, run the plans, stop them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2, help="of each server")
    parser.add_argument("--stores", choices=("sqlite+files", "mongodb+s3"), default="sqlite+files")
    parser.add_argument("--nodes", type=int, default=1, choices=(1, 2), help="servers on the same stores")
    parser.add_argument("--tls", action="store_true", help="TLS with client certificates")
    parser.add_argument("rest", nargs="*", help="further arguments for the runner, after --")
    arguments = parser.parse_args()
    if not RUNNER.exists():
        sys.stderr.write("../shared/nist-testkit is not there\n")
        return 2
    if arguments.nodes > 1 and arguments.stores == "sqlite+files":
        parser.error("several servers share mongodb+s3, and not sqlite+files")
    with ExitStack() as running:
        directory = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="toimik-nist-")))
        codes_file = directory / "codes.toml"
        _write_codes(codes_file, {})
        secured = running.enter_context(_secured(directory)) if arguments.tls else None
        environment: dict[str, str] = {}
        feed_ports = [free_port() for _ in range(arguments.nodes)]
        if arguments.stores == "mongodb+s3":
            servers = running.enter_context(running_mongodb()), running.enter_context(running_s3())
            environment = as_environment(running.enter_context(shared_stores(*servers)))
        nodes = [
            running.enter_context(
                server_process(
                    directory / f"node-{number}",
                    workers=arguments.workers,
                    environment={
                        **environment,
                        **_affinity_domain(feed_port, codes_file),
                        **(secured.environment if secured else {}),
                    },
                    tls=secured.client if secured else None,
                )
            )
            for number, feed_port in enumerate(feed_ports)
        ]
        feed_port = running.enter_context(_plain_port(feed_ports[0], secured.client)) if secured else feed_ports[0]
        feed = ["--patient-feed", f"mllp://127.0.0.1:{feed_port}"]
        command = [sys.executable, str(RUNNER), *_endpoints(nodes[0], nodes[-1]), *feed]
        command += secured.runner_options if secured else []
        exit_code = _run(command, GROUPS, arguments.rest)
        # Their messages have codes of older years: the servers read the file again, and know them as well.
        _write_codes(codes_file, _old_codes())
        exit_code = _run(command, GROUPS_WITH_OLD_CODES, arguments.rest) or exit_code
        if any(node.stop() != 0 for node in nodes):
            sys.stderr.write("a server did not stop cleanly\n")
            return 1
        return exit_code


def _run(command: Sequence[str], groups: Sequence[str], rest: Sequence[str]) -> int:
    chosen = [argument for group in groups for argument in ("--group", group)]
    return subprocess.run([*command, *chosen, *rest], check=False).returncode


def _write_codes(path: Path, further: Mapping[str, Collection[CodedValue]]) -> None:
    write_code_file(path, _codes(further))


def _codes(further: Mapping[str, Collection[CodedValue]]) -> dict[str, CodeSet]:
    """The codes of the affinity domain that the plans are written for. mimeType is free: a plan sends text/goofy.

    further   others that are taken, by attribute
    """
    return {
        attribute: CodeSet(
            policy=Policy.ACCEPT if attribute == "mime_type" else Policy.REJECT,
            values=(*values, *further.get(attribute, ())),
        )
        for attribute, values in imported(CODES.read_bytes(), None).items()
    }


def _old_codes() -> Mapping[str, Collection[CodedValue]]:
    """By attribute: the codes of the hand-written messages that the table does not have."""
    known = CodeSets(code_sets_of(_codes({})))
    found: dict[str, set[CodedValue]] = defaultdict(set)
    for message in RUNNER.parent.glob("testkit/tests/Pnr*/*/body.txt"):
        written = re.search(rb"<(\w+:)?ProvideAndRegisterDocumentSetRequest.*</(\w+:)?ProvideAndRegister\w+>",
                            message.read_bytes(), re.DOTALL)  # fmt: skip
        if written is None:
            raise RuntimeError(f"{message} has no ProvideAndRegisterDocumentSetRequest")
        submission, _ = read_provide_request(parse(written[0]))
        for _, attribute, value in known.unknown(submission):
            code, _, scheme = value.partition("^^")
            found[attribute].add(CodedValue(code=code, scheme=scheme))
    return found


@dataclass(frozen=True, slots=True)
class _Secured:
    """Certificates of servers and of their client.

    environment      settings of a server
    client           how the servers are spoken to from here
    runner_options   how the runner speaks to them
    """

    environment: Mapping[str, str]
    client: ssl.SSLContext
    runner_options: Sequence[str]


@contextmanager
def _secured(directory: Path) -> Iterator[_Secured]:
    authority = trustme.CA()
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("source@example.org")
    with (
        authority.cert_pem.tempfile(dir=str(directory)) as ca,
        server.private_key_and_cert_chain_pem.tempfile(dir=str(directory)) as own,
        client.private_key_and_cert_chain_pem.tempfile(dir=str(directory)) as shown,
    ):
        context = ssl.create_default_context(cafile=ca)
        context.load_cert_chain(shown)
        environment = {
            "TOIMIK_TLS__CERTIFICATE": own,
            "TOIMIK_TLS__KEY": own,
            "TOIMIK_TLS__CLIENT_CA": ca,
            "TOIMIK_TLS__CLIENT_CERTIFICATE": "required",
        }
        yield _Secured(environment, context, ["--cacert", ca, "--cert", shown, "--key", shown])


@contextmanager
def _plain_port(secure_port: int, tls: ssl.SSLContext) -> Iterator[int]:
    """A port of this machine without TLS that leads to one with it: the runner's feed speaks none."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", secure_port, ssl=tls)
        await asyncio.gather(_passed_on(reader, there[1]), _passed_on(there[0], writer))

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    serving = asyncio.run_coroutine_threadsafe(asyncio.start_server(connected, "127.0.0.1", 0), loop).result()
    try:
        yield int(serving.sockets[0].getsockname()[1])
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def _passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


def _affinity_domain(feed_port: int, codes_file: Path) -> dict[str, str]:
    """The settings of a server that has to be told of patients, and takes no other codes than those of a file."""
    return {
        "TOIMIK_PATIENTS__POLICY": "known",
        "TOIMIK_PATIENTS__ASSIGNING_AUTHORITIES": json.dumps([{"oid": AFFINITY_DOMAIN}]),
        "TOIMIK_PATIENTS__MLLP_PORT": str(feed_port),
        "TOIMIK_CODES_FILE": str(codes_file),
    }


def _endpoints(taking: ServerProcess, answering: ServerProcess) -> list[str]:
    """What one node has acknowledged the other has to answer at once."""
    given = {
        "registry-register": taking.registry,
        "registry-query": answering.registry,
        "registry-mpq": answering.registry,
        "registry-update": taking.registry,
        "registry-rmu": taking.registry,
        "registry-delete": taking.registry,
        "registry-odde": taking.registry,
        "repository-provide": taking.repository,
        "repository-retrieve": answering.repository,
        "repository-remove": taking.repository,
    }
    return [argument for name, url in given.items() for argument in (f"--{name}", url)]


if __name__ == "__main__":
    sys.exit(main())

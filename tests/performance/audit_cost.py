"""What an audit trail costs FHIR requests: servers without one, with a file, and with an outbox, asked in turns.

    .venv/bin/python tests/performance/audit_cost.py [--seconds 1.5] [--rounds 3]

All serve the same stores with one worker each, and wait while another is asked; ratios are taken within a round. The
outbox is sent meanwhile to a server on this machine that takes everything at once. Asked are ITI-67 for 50 of 100
documents of one of 20 patients, with what was shown kept (as shipped) and not kept, ITI-68 for a document of 10 kB, and
ITI-65 with a document of 10 kB for one of 1,000 patients, by one client and by eight. It tells rates, medians of times,
and how long the processors worked for an answer, the sending of its event included: before another server is asked, all
events are sent, and how many a second that were at most is told at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import psutil

if __name__ == "__main__":  # started as a file, its own directory is where Python looks for modules
    sys.path.insert(0, str(Path(__file__).parents[2]))

from mhd.fhir.fhir_json import parsed, written
from server.audit.audit_outbox import AuditOutbox
from server.bench.dossiers import patient
from server.bench.load import Job, Outcome, answer_to, outcome_of
from server.bench.measuring import load_process
from server.bench.messages import FIRST_NUMBER, Template
from server.bench.servers import bare_aiohttp, toimik
from server.settings import Settings, load_settings
from server.settings.operation import AuditSettings
from tests.builders import document_entry, submission_set
from tests.mhd.recipients import bundle_of, sent_document, sent_list
from tests.performance.fhir_search import SMALL, fill, search

_CLIENTS: Final = (1, 8)
_NUMBER: Final = "999999999999"  # this and the next are the marks of server/bench/messages.py
_NO_PATIENT: Final = 8_999_999_999
_MANY: Final = range(1_000)  # so that no two clients submit for one at the same moment
_CONTENT: Final = bytes(range(250)) * 40
_WITHOUT: Final = "no audit"
_NUMBERS_OF_A_JOB: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Asking:
    """What is asked. kept: of a server that keeps what it showed."""

    name: str
    template: Template
    expected: bytes
    patients: range = range(1)
    kept: bool = True


def bundle(run: int) -> Template:
    """ITI-65: a document of 10 kB of a patient; run tells apart what several runs send."""
    patient_id = patient(_NO_PATIENT)
    entry = document_entry(
        entry_uuid=f"urn:uuid:2{run:07d}-0000-4000-8000-{_NUMBER}",
        unique_id=f"1.2.826.0.1.3680043.2.7.{run}.{_NUMBER}",
        patient_id=patient_id,
        mime_type="application/octet-stream",
        hash=None,
        size=None,
    )
    item = submission_set(
        entry_uuid=f"urn:uuid:3{run:07d}-0000-4000-8000-{_NUMBER}",
        unique_id=f"1.2.826.0.1.3680043.2.8.{run}.{_NUMBER}",
        patient_id=patient_id,
    )
    resource, binary = sent_document(entry)
    binary["data"] = base64.b64encode(_CONTENT).decode()
    body = written(bundle_of(sent_list(item, entry), resource, binary))
    head = (
        "POST /fhir HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/fhir+json\r\n"
        f"Prefer: return=minimal\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return Template(head.encode() + body)


def document(port: int) -> Template:
    """ITI-68 for a document that is brought first."""
    answer = parsed(answer_to(port, bundle(0).numbered(FIRST_NUMBER, 0)))
    locations = [each["response"]["location"] for each in answer["entry"]]
    found = next(each for each in locations if "DocumentReference/" in each)
    document_id = found.partition("DocumentReference/")[2].partition("/")[0]
    return Template(f"GET /fhir/Binary/{document_id} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())


def servers(data: Path, room: Path, repository: int) -> Iterator[tuple[str, bool, Settings]]:
    """Each way to audit, once with what was shown kept and once not."""
    shipped = load_settings(data=data, workers=1)
    url = f"http://127.0.0.1:{repository}/"
    for is_kept in (True, False):
        trails: dict[str, dict[str, Any]] = {
            _WITHOUT: {},
            "file": {"file": room / f"events-{is_kept}.jsonl"},
            "outbox": {"feed_url": url, "outbox": room / f"outbox-{is_kept}"},
        }
        mhd = shipped.mhd if is_kept else shipped.mhd.model_copy(update={"kept_bytes": 0})
        for name, trail in trails.items():
            yield name, is_kept, shipped.model_copy(update={"mhd": mhd, "audit": AuditSettings(**trail)})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, ExitStack() as started:
        room = Path(directory)
        asyncio.run(fill(load_settings(data=room / "data", workers=1), 1))
        repository = started.enter_context(bare_aiohttp(1, room / "bare-log"))
        ports: dict[tuple[str, bool], int] = {}
        for name, is_kept, settings in servers(room / "data", room, repository):
            ports[name, is_kept] = started.enter_context(toimik(settings, room / f"log-{name}-{is_kept}"))
        askings = (
            Asking("ITI-67, kept", search(50), b'"searchset"', SMALL),
            Asking("ITI-67, not kept", search(50), b'"searchset"', SMALL, kept=False),
            Asking("ITI-68", document(ports[_WITHOUT, True]), b"octet-stream"),
            Asking("ITI-65", Template(b""), b"transaction-response", _MANY),
        )
        _measured(askings, ports, room, asked.seconds, asked.rounds)


def _measured(
    askings: Sequence[Asking], ports: dict[tuple[str, bool], int], room: Path, seconds: float, rounds: int
) -> None:
    names = list(dict.fromkeys(name for name, _ in ports))
    sent: list[float] = []
    run = 0
    with load_process() as load:
        for clients in _CLIENTS:
            for asking in askings:
                told: dict[str, list[tuple[Outcome, float]]] = {name: [] for name in names}
                for number in range(rounds + 1):
                    for name in names:
                        run += 1
                        job = Job(
                            ports[name, asking.kept], asking.template if asking.template.message else bundle(run),
                            clients, seconds if number else seconds / 3, asking.expected, FIRST_NUMBER,
                            patients=asking.patients,
                        )  # fmt: skip
                        worked = _worked()
                        begun = time.perf_counter()
                        outcome = load.submit(outcome_of, job).result()
                        if name == "outbox":
                            _wait_until_sent(room / f"outbox-{asking.kept}")
                            sent.append(len(outcome.times) / (time.perf_counter() - begun))
                        if number:
                            told[name].append((outcome, (_worked() - worked) / len(outcome.times)))
                for name in names:
                    _tell(asking.name, clients, name, told[name], told[_WITHOUT])
    sys.stdout.write(f"Events were sent, at most, {max(sent):.0f} a second\n")


def _wait_until_sent(directory: Path) -> None:
    with closing(AuditOutbox(directory, most_octets=1)) as outbox:
        while outbox.state().events:
            time.sleep(0.01)


def _tell(
    what: str, clients: int, name: str, told: Sequence[tuple[Outcome, float]], without: Sequence[tuple[Outcome, float]]
) -> None:
    ratios = sorted(each[0].rate / other[0].rate for each, other in zip(told, without, strict=True))
    sys.stdout.write(
        f"{what:17} {clients} at once  {name:9} {median(each.rate for each, _ in told):7.0f}/s  "
        f"{median(each.percentile(50) for each, _ in told) * 1000:6.2f} ms  "
        f"of that without: {median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})  "
        f"processors: {median(cost for _, cost in told) * 1e6:.0f} us\n"
    )
    sys.stdout.flush()


def _worked() -> float:
    """Seconds for which the processors have worked for servers of ours."""
    found = [each for each in psutil.Process().children(recursive=True) if "server.worker" in each.cmdline()]
    return sum(sum(each.cpu_times()[:2]) for each in found)


if __name__ == "__main__":
    main()

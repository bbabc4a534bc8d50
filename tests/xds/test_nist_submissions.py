"""What the NIST XDS Toolkit submits and expects to succeed passes the rules; needs ../shared/nist-testkit."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
from lxml import etree

from tests.builders import PATIENT, oid
from xds.ebxml_reader import read_submission
from xds.metadata_rules import findings
from xds.transactions import ITI_41, ITI_42, Transaction

TESTKIT = Path(__file__).parents[3] / "shared" / "nist-testkit"
TRANSACTIONS = {"RegisterTransaction": ITI_42, "ProvideAndRegisterTransaction": ITI_41}

PATIENT_ID_SCHEMES = ("DE_PID", "SS_PID", "FOL_PID")
UNIQUE_ID_SCHEMES = ("DE_UID", "SS_UID", "FOL_UID")

pytestmark = [
    pytest.mark.bench_shared,
    pytest.mark.skipif(not TESTKIT.is_dir(), reason="../shared/nist-testkit is not there"),
]


@dataclass(frozen=True)
class Step:
    """One submission of a test plan."""

    name: str
    metadata: Path
    transaction: Transaction
    succeeds: bool


@cache
def runner() -> ModuleType:
    """The runner of the plans: it knows how to turn their old ebRS 2.1 into 3.0."""
    spec = importlib.util.spec_from_file_location("nist_runner", TESTKIT / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def steps() -> Iterator[Step]:
    for plan in sorted(TESTKIT.rglob("testplan.xml")):
        for step in etree.parse(plan).getroot().iter("TestStep"):
            for element, transaction in TRANSACTIONS.items():
                metadata = step.findtext(f"{element}/MetadataFile")
                if metadata and step.find(f"{element}/NoMetadata") is None:
                    name = f"{plan.parent.relative_to(TESTKIT / 'testkit')}/{step.get('id')}"
                    succeeds = step.findtext("ExpectedStatus", "Success").strip() == "Success"
                    yield Step(name, plan.parent / metadata.strip(), transaction, succeeds)


def request(metadata: Path) -> Any:
    """The SubmitObjectsRequest of a plan, with the values that the runner fills in."""
    nist = runner()
    root = nist.to_submit_objects(etree.parse(metadata).getroot())
    for identifier in root.iter(f"{{{nist.RIM}}}ExternalIdentifier"):
        scheme = identifier.get("identificationScheme")
        if scheme in {getattr(nist, each) for each in PATIENT_ID_SCHEMES}:
            identifier.set("value", PATIENT.text)
        if scheme in {getattr(nist, each) for each in UNIQUE_ID_SCHEMES}:
            identifier.set("value", oid())
        if scheme == nist.SS_SID:
            identifier.set("value", nist.SOURCE_ID)
    uuids: dict[str, str] = {}
    text = re.sub(
        r"\$[A-Za-z0-9_]+\$", lambda symbol: uuids.setdefault(symbol[0], uuid4().urn), etree.tostring(root).decode()
    )
    return etree.fromstring(text)


STEPS = list(steps())


@pytest.mark.parametrize("step", [each for each in STEPS if each.succeeds], ids=lambda step: step.name)
def test_a_submission_that_nist_expects_to_succeed_breaks_no_rule(step: Step) -> None:
    submission = read_submission(request(step.metadata))

    assert [finding.code_context for finding in findings(submission, step.transaction)] == []


@pytest.mark.parametrize(
    "step",
    [each for each in STEPS if not each.succeeds and each.name.split("/")[1] in ("11998a", "12084", "12370", "21000")],
    ids=lambda step: step.name,
)
def test_a_submission_that_nist_expects_to_fail_for_its_metadata_breaks_a_rule(step: Step) -> None:
    assert findings(read_submission(request(step.metadata)), step.transaction)


def test_there_are_submissions_to_judge() -> None:
    assert sum(step.succeeds for step in STEPS) > 20

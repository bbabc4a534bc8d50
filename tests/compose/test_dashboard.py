"""What the dashboard shows and the alerts watch is what a server tells."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp.test_utils import unused_port
from ruamel.yaml import YAML

from tests.builders import CONTENT, document_entry, submission, unmeasured
from tests.compose.compose_files import CLUSTER, COMPOSE, read, services
from tests.conformance.wire import Wire, running_server
from tests.server.scraped_metrics import ScrapedMetrics

DASHBOARD = json.loads((COMPOSE / "grafana/dashboards/toimik.json").read_text(encoding="utf-8"))
ALERTS = read(COMPOSE / "prometheus/alerts.yaml")
PROMETHEUS = read(COMPOSE / "prometheus/prometheus.yaml")
OPERATIONS = (COMPOSE.parent / "docs/operations.md").read_text(encoding="utf-8")


def expressions() -> Iterator[tuple[str, str]]:
    """Where an expression stands, and the expression."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield f"panel {panel['title']!r}", target["expr"]
    for rule in alert_rules():
        yield f"alert {rule['alert']}", rule["expr"]


def alert_rules() -> list[dict[str, Any]]:
    return [rule for group in ALERTS["groups"] for rule in group["rules"]]


async def test_every_metric_that_is_shown_or_watched_is_told(tmp_path: Path) -> None:
    entry = unmeasured(document_entry())
    wrong = replace(unmeasured(document_entry()), hash="0" * 40)
    audit = {"feed_url": f"http://127.0.0.1:{unused_port()}/fhir/AuditEvent"}
    async with running_server(tmp_path / "data", audit=audit) as base, aiohttp.ClientSession() as session:
        wire = Wire(base, session)
        await wire.provide(submission(entry), {entry.entry_uuid: CONTENT})
        await wire.provide(submission(wrong), {wrong.entry_uuid: CONTENT})
        await session.get(f"{base}/fhir/List?_id=1")
        told = (await ScrapedMetrics.of(base)).names

    for where, expression in expressions():
        named = set(re.findall(r"\btoimik_\w+", expression))
        assert named <= told, f"{where}: {named - told}"
        assert named or "up{" in expression, f"{where} asks for nothing of ours"


def test_every_expression_is_one_that_prometheus_understands(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("there is no promtool on the PATH (Debian has it in the package prometheus)")
    rules = [
        {"record": f"expression:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, (_, expression) in enumerate(expressions())
    ]
    file = tmp_path / "rules.yaml"
    YAML(typ="safe").dump({"groups": [{"name": "all", "rules": rules}]}, file)
    for kind, path in (("rules", file), ("config", COMPOSE / "prometheus/prometheus.yaml")):
        finished = subprocess.run(
            ["promtool", "check", kind, path], capture_output=True, text=True, timeout=60, check=False
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr


def test_panels_have_a_place_and_an_explanation_each() -> None:
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        assert panel["description"], panel["title"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & places, f"{panel['title']!r} covers another panel"
        assert place["x"] + place["w"] <= 24
        places |= cells


def test_panels_ask_the_data_source_that_is_provisioned() -> None:
    source = read(COMPOSE / "grafana/provisioning/datasources/prometheus.yaml")["datasources"][0]
    provider = read(COMPOSE / "grafana/provisioning/dashboards/toimik.yaml")["providers"][0]
    mounts = [volume.split(":")[:2] for volume in services(CLUSTER)["grafana"]["volumes"]]

    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source["uid"]}
    assert urlsplit(source["url"]).hostname in services(CLUSTER)
    assert ["./grafana/dashboards", provider["options"]["path"]] in mounts


def test_prometheus_asks_services_that_are_there() -> None:
    targets = [
        target for job in PROMETHEUS["scrape_configs"] for each in job["static_configs"] for target in each["targets"]
    ]

    assert {target.split(":")[0] for target in targets} == {"toimik1", "toimik2", "proxy", "s3"}
    assert {target.split(":")[0] for target in targets} <= set(services(CLUSTER))


def test_log_lines_that_the_manual_names_are_written() -> None:
    watched = OPERATIONS.partition("\n## What to watch\n")[2].partition("\n## ")[0]
    named = re.findall(r"`([A-Z][a-z]*(?: [\w;]+)+)`", " ".join(watched.split()))
    source = "".join(path.read_text(encoding="utf-8") for path in (COMPOSE.parent / "server").rglob("*.py"))

    assert len(named) >= 5
    assert [sentence for sentence in named if sentence not in source] == []


@pytest.mark.parametrize("rule", alert_rules(), ids=lambda rule: rule["alert"])
def test_the_manual_says_what_to_do_about_each_alert(rule: dict[str, Any]) -> None:
    assert f"`{rule['alert']}`" in OPERATIONS
    assert rule["labels"]["severity"] in ("page", "ticket")

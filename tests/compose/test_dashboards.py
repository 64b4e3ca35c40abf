"""Dashboards and alert rules: they are what their code says, ask for what is written, and their Flux is Flux."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from agents.role import self_metrics
from agents.role.telemetry import Metrics
from pipeline.messages import Privacy, Rank, Result, SightingReport, Summary, Task, Tier
from pipeline.series.points import Point, reading_point, result_point, sighting_point, summary_point

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "compose" / "grafana"
FLUX_HOME = Path(os.environ.get("TIERWISE_FLUX_HOME", ROOT / "build" / "flux"))
"""Where `npm install @influxdata/flux-lsp-node` was run (.ci/run does)."""

TIME = "2026-05-01T12:00:00Z"
ALWAYS = {"_time", "_value", "_measurement", "_field", "_start", "_stop"}
OURS = {"label", "sightings", "probability", "dead"}
"""Columns that the queries make themselves."""
PANELS = {"timeseries", "table", "barchart"}


@pytest.fixture(scope="module")
def code() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dashboards", GRAFANA / "dashboards.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def files() -> dict[str, Any]:
    kept = [*GRAFANA.rglob("*.json"), GRAFANA / "provisioning" / "alerting" / "tierwise.yaml"]
    return {str(path.relative_to(GRAFANA)): json.loads(path.read_text()) for path in kept}


def queries() -> Iterator[tuple[str, str]]:
    """Every Flux text, with where it stands."""
    for name, content in files().items():
        for panel in content.get("panels", ()):
            for target in panel["targets"]:
                yield f"{name}: {panel['title']} {target['refId']}", target["query"]
        for variable in content.get("templating", {}).get("list", ()):
            yield f"{name}: ${variable['name']}", variable["query"]
        for group in content.get("groups", ()):
            for rule in group["rules"]:
                yield f"{name}: {rule['title']}", rule["data"][0]["model"]["query"]


def written() -> list[Point]:
    """One point of each kind that the roles write."""
    answer = Result(
        event="e",
        time=TIME,
        site="home",
        device="cam1",
        stream="garden",
        sighting="s",
        task=Task.WILDLIFE,
        tier=Tier.EDGE,
        revision=1,
        pending=None,
        rank=Rank.FAMILY,
        label="Felidae",
        path=("animal", "Felidae"),
        probability=0.9,
        privacy=Privacy.PUBLIC,
        rule="r",
        reason="",
        model="m",
        latency_ms=1.0,
        value=1.0,
    )
    sighting = SightingReport(
        sighting="s",
        time=TIME,
        until=TIME,
        site="home",
        device="cam1",
        stream="garden",
        revision=1,
        rank=Rank.FAMILY,
        label="Felidae",
        path=("animal", "Felidae"),
        probability=0.9,
        frames=1,
        agree=1,
        privacy=Privacy.PUBLIC,
        closed=True,
        rule="r",
        model="m",
    )
    hour = Summary(hour=TIME, task=Task.METER, unit="W", count=1, total=1.0, low=1.0, high=1.0)
    place = "home/meter/power"
    made = [
        result_point(answer),
        sighting_point(sighting),
        summary_point(place, hour),
        reading_point(place, 1.0, "W", 0.0),
    ]
    metrics = Metrics()
    metrics.hop("edge-cloud", 1)
    metrics.backlog("uplink", lambda: 1)
    metrics.refused("reason")
    made += self_metrics.points(metrics, "edge", "home", "host", 0.0)
    # What `stream` counts beside, as its own counters say: see `pulse.FIELDS`.
    made.append(Point("pulse", {"role": "stream", "instance": "i", "topic": "t"}, {"records": 1.0, "bytes": 1.0}, 0.0))
    return made


def test_the_files_are_what_the_code_says(code: ModuleType) -> None:
    assert files() == json.loads(json.dumps(code.FILES))


@pytest.mark.parametrize(("where", "flux"), list(queries()), ids=lambda value: value if ":" in value[:40] else "")
def test_a_query_asks_for_what_is_written(where: str, flux: str) -> None:
    asked = re.search(r'r\._measurement == "(\w+)" and r\._field == "(\w+)"', flux)
    if asked is None:
        assert "schema.tagValues" in flux
        return
    measurement, field = asked.groups()
    points = [point for point in written() if point.measurement == measurement and field in point.fields]
    assert points, f"nobody writes {measurement}.{field}"
    tags = {name for point in written() if point.measurement == measurement for name in point.tags}
    assert len(re.findall(r"r\._measurement ==", flux)) == 1
    named = set(re.findall(r"\br\.([a-z]\w*)", flux)) | {
        name for columns in re.findall(r"columns: \[([^\]]*)\]", flux) for name in re.findall(r'"(\w+)"', columns)
    }
    assert named <= tags | ALWAYS | OURS


def test_panels_are_of_kinds_that_grafana_has_and_none_covers_another() -> None:
    for name, content in files().items():
        taken: set[tuple[int, int]] = set()
        for panel in content.get("panels", ()):
            assert panel["type"] in PANELS
            assert panel["datasource"]["uid"] == "tierwise"
            assert panel["description"]
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert max(x for x, _ in cells) < 24
            assert not cells & taken, f"{name}: {panel['title']} covers another panel"
            taken |= cells


def test_what_was_asked_for_is_shown() -> None:
    shown = {panel["title"] for content in files().values() for panel in content.get("panels", ())}
    for subject in (
        "Latest answers",
        "tier and rank",
        "p50 and p99",
        "Bytes",
        "privacy",
        "Waiting",
        "Sensors",
        "seen",
    ):
        assert any(subject in title for title in shown), subject


def test_alert_rules_are_whole() -> None:
    site, cloud = (
        files()[f"provisioning/{name}"] for name in ("alerting/tierwise.yaml", "alerting-cloud/tierwise.json")
    )
    rules = site["groups"][0]["rules"]
    assert {rule["title"] for rule in rules} == {"A device is silent", "An agent is silent", "A backlog grows"}
    (of_sites,) = [rule for rule in rules if rule not in cloud["groups"][0]["rules"]]
    assert (of_sites["title"], [of_sites["uid"]]) == (
        "A device is silent",
        [each["uid"] for each in cloud["deleteRules"]],
    )
    (receiver,) = site["contactPoints"]
    assert receiver["receivers"][0]["settings"] == {"url": "$ALERT_WEBHOOK"}
    assert "ALERT_WEBHOOK: ${ALERT_WEBHOOK:-" in (ROOT / "compose" / "base.yaml").read_text()
    guide = (ROOT / "docs" / "how-to" / "dashboards.md").read_text()
    for rule in rules:
        assert f"| {rule['title']} |" in guide
        assert rule["notification_settings"] == {"receiver": receiver["name"]}
        refs = [step["refId"] for step in rule["data"]]
        assert rule["condition"] == refs[-1] == "C"
        assert rule["noDataState"] in ("OK", "Alerting", "NoData")
        assert len(rule["uid"]) <= 40
        assert [step["model"].get("expression") for step in rule["data"][1:]] == refs[:-1]


def test_a_line_has_its_time_its_value_and_the_tags_that_name_it_and_nothing_else() -> None:
    for name, content in files().items():
        for panel in content.get("panels", ()):
            for target in panel["targets"] if panel["type"] == "timeseries" else ():
                keep, group = target["query"].splitlines()[-2:]
                tags = re.findall(r'"(\w+)"', group)
                assert "_start" not in keep and "site:regex" not in keep, name
                assert re.findall(r'"(\w+)"', keep) == ["_time", "_value", *tags], f"{name}: {panel['title']}"


def test_rates_of_replicas_are_added_in_windows_that_each_of_them_meets() -> None:
    rates = [flux for _, flux in queries() if "derivative(unit: 1s" in flux]
    assert len(rates) == 3
    for flux in rates:
        steps = [step for step in flux.splitlines() if "instance" in step or "mean" in step or "sum()" in step]
        assert len(steps) == 3
        assert all(word in step for word, step in zip(("instance", "1m, fn: mean", "sum()"), steps, strict=True))
        assert '"_time"' in flux.split("sum()")[0].splitlines()[-2]


def test_rules_about_silence_look_back_a_month_and_tell_replicas_apart() -> None:
    rules = {where: flux for where, flux in queries() if "silent" in where}
    assert len(rules) == 3
    for where, flux in rules.items():
        assert "range(start: -30d)" in flux
        assert '"instance"' in flux or "device" in where
        assert flux.index("last()") < flux.index("group(")  # the server need not read each point of a month


def test_the_cloud_has_no_rule_about_devices_and_agents_have_names_that_last() -> None:
    cloud, edge = ((ROOT / "compose" / f"{name}.yaml").read_text() for name in ("cloud", "edge"))
    assert "- ./grafana/provisioning/alerting-cloud:/etc/grafana/provisioning/alerting:ro" in cloud
    assert "- ./grafana/provisioning/alerting:/etc/grafana/provisioning/alerting:ro" in edge
    for role, text in [
        *((r, cloud) for r in ("gateway", "stream", "cloud", "trainer")),
        ("device", edge),
        ("edge", edge),
    ]:
        assert f"    hostname: {role}\n" in text


def test_every_query_is_flux_by_influxdatas_own_analyser() -> None:
    node = shutil.which("node")
    if node is None or not (FLUX_HOME / "node_modules" / "@influxdata" / "flux-lsp-node").exists():
        pytest.skip(f"needs node, and `npm install @influxdata/flux-lsp-node` in {FLUX_HOME}")
    dashboard = "option v = {timeRangeStart: -1h, timeRangeStop: now(), windowPeriod: 1m}\n"
    found = list(queries())
    texts = [
        re.sub(
            r"^((?:import .*\n)*)",
            lambda imports: imports[1] + dashboard,
            text.replace("${site:regex}", "home"),
            count=1,
        )
        for _, text in found
    ]
    broken = ["from(bucket: 1)", 'from(bucket: "a") |> rangee(start: -1h)']
    done = subprocess.run(
        [node, str(Path(__file__).with_name("flux_check.js"))],
        input=json.dumps([*texts, *broken]),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NODE_PATH": str(FLUX_HOME / "node_modules")},
    )
    verdicts = json.loads(done.stdout)
    assert verdicts[len(texts) :] == [False, False]  # it does look
    wrong = [where for (where, _), good in zip(found, verdicts, strict=False) if not good]
    assert wrong == []
    assert len(found) >= 20

"""`tierwise doctor`: check everything that this machine needs, and print how to repair each problem.

    ok    python    3.11.2
    fail  models    models/zoo/lite0/backbone.onnx: SHA-256 differs: install the package again
    warn  disk      1.2 GiB free on /data; spools and pictures may take 2.3 GiB: make room, or lower device.spool_mib

Exit code 0: nothing failed (warnings are for you to judge); 2: something must be changed.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import typer
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from agents.cli.options import AsJson, SettingsFile
from agents.cli.tables import text_console
from agents.deploy.influx import Influx
from agents.role import exit_codes
from agents.role.run_file import ask_health, running
from agents.up import ports
from agents.up.plan import ROLE_ROWS, is_installed, plan
from pipeline.errors import Stop, TierwiseError
from pipeline.mqtt import probe
from pipeline.privacy.seal import Keyring
from pipeline.settings.settings import FILE, FILE_VARIABLE, Settings

MIB: Final = 1 << 20
GIB: Final = 1 << 30

DISK_LEAST_BYTES: Final = 200 * MIB
"""On a fuller disk, a spool is full within minutes of an outage."""

PYTHON_LEAST: Final = (3, 11)

FINE: Final = "fine"


@dataclass(frozen=True, slots=True)
class Check:
    """A line of the report. `status` is ok, warn or fail; the text of a warning or failure names the remedy."""

    status: str
    what: str
    text: str


def ok(what: str, text: str) -> Check:
    """Make a check that passed."""
    return Check("ok", what, text)


def warn(what: str, text: str) -> Check:
    """Make a check that a person should judge."""
    return Check("warn", what, text)


def fail(what: str, text: str) -> Check:
    """Make a check that failed."""
    return Check("fail", what, text)


STYLES: Final = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(as_json: AsJson = False, settings: SettingsFile = None) -> None:
    """Check Python, packages, settings, ports, brokers, models, keys, disk and clock. Print how to repair them."""
    console = text_console()
    failed = False
    for check in examine(settings):
        failed |= check.status == "fail"
        if as_json:
            typer.echo(msgspec.json.encode(check))
        else:
            console.print(_line(check, wraps=console.is_terminal))
    if failed:
        raise typer.Exit(exit_codes.STOP)


def _line(check: Check, *, wraps: bool) -> RenderableType:
    status = f"[{STYLES[check.status]}]{check.status:<5}[/]"
    if not wraps:
        return f"{status} {check.what:<9} {escape(check.text)}"
    grid = Table.grid(padding=(0, 1, 0, 0))
    for width in (5, 9, None):
        grid.add_column(width=width)
    grid.add_row(status, check.what, escape(check.text))
    return grid


def examine(file: Path | None) -> Iterator[Check]:
    """Yield every check; the first failure explains later ones."""
    yield _python()
    yield from _packages()
    path = file or Path(os.environ.get(FILE_VARIABLE) or FILE)
    try:
        settings = Settings.load(path if path.exists() or file else None)
    except Stop as error:
        yield fail("settings", str(error))
        return
    if path.exists():
        yield ok("settings", f"{path}: site {settings.site}, {len(settings.streams)} streams")
    else:
        yield warn("settings", f"no {path}: defaults are used; `tierwise up` writes a file to start from")
    yield _clock()
    yield from _disk(settings)
    yield _keys(settings)
    yield _models(settings)
    yield from _ports(settings, path)
    yield _mqtt(settings)
    yield _kafka(settings)
    yield from _influx(settings)
    yield from _roles(settings)


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON_LEAST:
        return fail("python", f"{version}: Tierwise needs {'.'.join(map(str, PYTHON_LEAST))} or newer")
    return ok("python", f"{version}, {sys.executable}")


def _packages() -> Iterator[Check]:
    for extra, modules, brings in (
        ("cloud", ("faust", "kafka", "aiokafka", "influxdb_client"), "gateway, stream, cloud and trainer"),
        ("embedded", ("iotcore",), "the embedded MQTT broker"),
    ):
        missing = [module for module in modules if not is_installed(module)]
        if missing:
            yield warn("packages", f"no {', '.join(missing)}: for {brings}, pip install 'tierwise[{extra}]'")
        else:
            yield ok("packages", f"all of {brings} are installed")


def _clock() -> Check:
    """Check that the clock is not behind this file: boards without a battery start in the past."""
    now = dt.datetime.now(dt.UTC)
    if time.time() < Path(__file__).stat().st_mtime:
        return fail("clock", f"{now:%Y-%m-%d %H:%M} UTC is before this installation: set the clock (NTP)")
    return ok("clock", f"{now:%Y-%m-%d %H:%M} UTC")


def _disk(settings: Settings) -> Iterator[Check]:
    folder = settings.data_dir
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        yield fail("disk", f"{existing}: not writable for this user: change `data`, or the rights of the folder")
        return
    free = shutil.disk_usage(existing).free
    wanted = (settings.device.spool_mib + settings.edge.spool_mib + settings.device.pictures_mib) * MIB
    if free < DISK_LEAST_BYTES:
        yield fail("disk", f"{free / MIB:.0f} MiB free for {folder}: make room, or move `data` to another disk")
    elif free < wanted:
        yield warn(
            "disk",
            f"{free / GIB:.1f} GiB free for {folder}; spools and pictures may take {wanted / GIB:.1f} GiB: "
            "make room, or lower device.spool_mib, edge.spool_mib, device.pictures_mib",
        )
    else:
        yield ok("disk", f"{free / GIB:.1f} GiB free for {folder}")


def _keys(settings: Settings) -> Check:
    folder = settings.data_dir / "keys"
    if not folder.exists():
        return ok("keys", "none yet: the device makes them when it first starts")
    try:
        Keyring.open(folder, create=False)
    except Stop as error:
        return fail("keys", str(error))
    return ok("keys", f"{folder}: readable by their owner only")


def _models(settings: Settings) -> Check:
    # Without ONNX Runtime every other check still runs.
    from models.shipped import BACKBONE, load_zoo

    try:
        zoo = load_zoo(settings.zoo_dir)
        titles = [manifest.title for manifest in zoo.manifests]
        if settings.edge.model not in ("", zoo.manifest(BACKBONE).title):
            from agents.rollout.imported_models import open_edge_model

            open_edge_model(zoo, settings)
            titles.append(settings.edge.model)
    except (TierwiseError, ImportError) as error:
        return fail("models", str(error))
    return ok("models", ", ".join(titles))


def _ports(settings: Settings, file: Path) -> Iterator[Check]:
    """Check that the ports of `tierwise up` are free, unless our own roles run."""
    if any(running(settings.data_dir, row.name) for row in ROLE_ROWS):
        yield ok("ports", "roles are running")
        return
    problems = [text for part in plan(settings, file) if (text := ports.problem(part, file))]
    for text in problems:
        yield fail("ports", text)
    if not problems:
        yield ok("ports", "all ports that `tierwise up` needs are free")


def _mqtt(settings: Settings) -> Check:
    mqtt = settings.mqtt
    where = f"{mqtt.host}:{mqtt.port_number}"
    match "mqtt" if mqtt.tls else probe(mqtt.host, mqtt.port_number):
        case "mqtt":
            return ok("mqtt", f"{where}{', TLS' if mqtt.tls else ''}")
        case "other":
            return fail("mqtt", f"{where} does not speak MQTT: correct [mqtt] address or port")
        case _ if mqtt.is_embedded:
            return ok("mqtt", "embedded; `tierwise up` starts it")
        case _:
            return fail("mqtt", f"nothing answers at {where}: start the broker, or correct [mqtt] address")


def _kafka(settings: Settings) -> Check:
    where = ", ".join(settings.kafka.servers)
    if not is_installed("kafka"):
        return warn("kafka", "not checked: needs pip install 'tierwise[cloud]'")
    from pipeline import kafka

    if settings.kafka.is_embedded and ports.is_free(settings.kafka.port):
        return ok("kafka", "embedded; `tierwise up` starts it")
    try:
        kafka.check(settings.kafka)
    except TierwiseError as error:
        return fail("kafka", str(error))
    return ok("kafka", where)


def _influx(settings: Settings) -> Iterator[Check]:
    """Check that each InfluxDB takes points from us; an empty write asks it."""
    for section, influx in (("influx", settings.influx), ("cloud_influx", settings.cloud_influx)):
        if not influx.url:
            continue
        where = f"{influx.url}, bucket {influx.bucket}"
        try:
            accepted = Influx(influx.url, influx.token, influx.org).accepts(influx.token, "write", influx.bucket)
        except TierwiseError as error:
            yield fail("influx", str(error))
            continue
        if accepted:
            yield ok("influx", where)
        else:
            remedy = f"correct token, org and bucket of [{section}], or run `tierwise provision influx`"
            yield fail("influx", f"{where}: it allows us to write no points: {remedy}")


def _roles(settings: Settings) -> Iterator[Check]:
    for row in ROLE_ROWS:
        process = running(settings.data_dir, row.name)
        if process is None or process.port is None:
            continue
        ready, parts = ask_health(process.port)
        cameras = parts.pop("cameras", "")
        text = ", ".join(f"{part}: {how}" for part, how in parts.items())
        losing = "store" in parts or "self metrics" in parts or parts.get("series", FINE) != FINE
        if ready and (losing or "late" in parts):
            yield warn(row.name, text)
        elif ready:
            yield ok(row.name, text)
        else:
            log = settings.data_dir / "logs" / f"{row.name}.log"
            yield fail(row.name, f"not ready ({text or 'its port does not answer'}): see {log}")
        for camera in filter(None, cameras.split("; ")):
            yield (warn if ": away since" in camera else ok)("camera", camera)

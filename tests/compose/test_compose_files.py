"""The stack's files, as far as they can be judged without an engine: knobs, settings, lock files, hardening."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agents.deploy.vault import FOLDERS
from pipeline.settings.settings import STARTER, Settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "compose"
FILES = sorted(COMPOSE.glob("*.yaml"))

UNEXPLAINED = {
    "PROJECT",  # of checks, which run beside a stack of the user's
    "SITE_MQTT_PORT",  # compose.site.yaml says what it is for
    "MQTT_ADDRESS",  # docs/deploy.md: brokers of your own
    "UPLINK_USERNAME",
    "INFLUX_URL",
    "SITE_INFLUX_URL",
    "UPLINK_PASSWORD",  # these three are files now; `init` refuses them in .env
    "INFLUX_TOKEN",
    "SITE_INFLUX_TOKEN",
    "PIP_INDEX_URL",
}
"""Variables that .env does not set: they stand there as a comment, or elsewhere."""


def knobs() -> set[str]:
    return set(re.findall(r"^([A-Z_]+)=", (COMPOSE / ".env").read_text(), re.MULTILINE))


def used() -> set[str]:
    return {name for file in FILES for name in re.findall(r"\$\{([A-Z_]+)", file.read_text())}


def test_every_knob_does_something_and_every_variable_is_explained() -> None:
    assert knobs() - used() == {"COMPOSE_PROFILES"}
    bounds = {name for name in used() if name.endswith(("_CPUS", "_MEMORY"))}
    assert used() - knobs() - bounds <= UNEXPLAINED
    told = (COMPOSE / ".env").read_text() + (ROOT / "docs" / "deploy.md").read_text()
    assert {
        name for name in UNEXPLAINED - {"PROJECT", "SITE_MQTT_PORT", "UPLINK_USERNAME"} if name not in told
    } == set()


def test_no_file_holds_a_password() -> None:
    for file in [*FILES, COMPOSE / ".env"]:
        for line in (text.partition("#")[0] for text in file.read_text().splitlines()):
            assert not re.search(r"(password|secret)\s*[:=]\s*[\"']?[A-Za-z0-9]{6,}", line, re.IGNORECASE), line


@pytest.mark.parametrize("folder", ["compose", "kubernetes/base"])
def test_its_streams_are_the_starters(folder: str, tmp_path: Path) -> None:
    (tmp_path / "starter.toml").write_text(STARTER)
    starter = Settings.load(tmp_path / "starter.toml", {})
    assert Settings.load(ROOT / folder / "settings.toml", {}).streams == starter.streams


@pytest.mark.parametrize("image", ["cloud", "edge"])
def test_an_images_lock_is_a_part_of_the_projects(image: str) -> None:
    def pins(path: Path) -> set[tuple[str, ...]]:
        text = path.read_text()
        found = re.findall(r"^(\S+==\S+)([^\n]*)\n((?:    --hash=\S+(?: \\)?\n)+)", text, re.MULTILINE)
        return {(pin, *sorted(re.findall(r"sha256:\w+", hashes))) for pin, _, hashes in found}

    part, whole = pins(COMPOSE / f"requirements-{image}.lock"), pins(ROOT / "requirements.lock")
    assert len(part) > 20
    assert part <= whole
    names = {pin[0].partition("==")[0] for pin in part}
    assert not names & {"pytest", "mypy", "ruff", "hypothesis", "iotcore"}
    assert ("faust-streaming" in names) == (image == "cloud")


def test_every_room_of_the_vault_is_a_volume_of_its_own() -> None:
    text = (COMPOSE / "init.yaml").read_text()
    mounted = dict(re.findall(r"- (\S+):/secrets/(\S+)", text))
    assert set(mounted.values()) == set(FOLDERS)
    assert len(mounted) == len(FOLDERS)


def test_a_service_mounts_no_room_but_its_own() -> None:
    """Provisioning alone writes into others' rooms, and only where it puts a token."""
    for file in ("edge.yaml", "cloud.yaml"):
        services = re.split(
            r"^  (\S+):\n", (COMPOSE / file).read_text().partition("\nnetworks:")[0], flags=re.MULTILINE
        )
        for name, text in zip(services[1::2], services[2::2], strict=True):
            rooms = set(re.findall(r"- login-(\S+?):(?:/run/tierwise|/mnt/shared/config)", text))
            assert rooms == {name}, name
            if "/login/" in text:
                assert "service: provision" in text


@pytest.fixture(scope="module")
def docker() -> str:
    """The command line with compose; no engine is needed."""
    found = shutil.which("docker")
    if found is None or subprocess.run([found, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("needs docker compose (no engine)")
    return found


@pytest.mark.parametrize("profiles", ["edge", "cloud", "edge,cloud", "edge-light,cloud-light"])
def test_compose_takes_the_files(docker: str, profiles: str) -> None:
    told = subprocess.run(
        [docker, "compose", "-f", str(COMPOSE / "compose.yaml"), "config", "--services"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COMPOSE_PROFILES": profiles},
    )
    assert told.returncode == 0, told.stderr
    services = set(told.stdout.split())
    assert {"device", "edge", "mosquitto"} <= services or "edge" not in profiles
    assert {"kafka", "gateway", "stream", "cloud", "trainer", "uplink"} <= services or "cloud" not in profiles
    assert ("grafana" in services) == ("cloud" in profiles.split(","))


def test_every_container_is_hardened(docker: str) -> None:
    told = subprocess.run(
        [docker, "compose", "-f", str(COMPOSE / "compose.yaml"), "config", "--format", "json"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COMPOSE_PROFILES": "edge,cloud"},
    )
    for name, service in json.loads(told.stdout)["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"]["options"]["max-size"], name
        assert service["deploy"]["resources"]["limits"].keys() >= {"cpus", "memory"}, name
        assert service["restart"], name
        for port in service.get("ports", ()):
            assert port["host_ip"] == "127.0.0.1", name
        if name != "init":
            assert service.get("user", "10001") != "0:0", name
            assert "cap_add" not in service, name
        assert service["read_only"], name
        assert service["deploy"]["resources"]["limits"]["pids"], name
        assert service["memswap_limit"] == service["deploy"]["resources"]["limits"]["memory"], name


def test_no_container_is_given_a_secret_that_docker_inspect_would_show(docker: str) -> None:
    secrets = {"UPLINK_PASSWORD": "hunter2", "SITE_INFLUX_TOKEN": "hunter2", "INFLUX_TOKEN": "hunter2"}
    for file, more in (("compose.yaml", {}), ("compose.site.yaml", {"SITE": "barn", "SECRETS": "./secrets"})):
        config = subprocess.run(
            [docker, "compose", "-f", str(COMPOSE / file), "config"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "COMPOSE_PROFILES": "edge,cloud", **secrets, **more},
        )
        assert "hunter2" not in config.stdout
        assert "uplink-password site-influx-token influx-token" in config.stdout

"""What `tierwise up` starts and when, first as decisions, then with real processes."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.role import exit_codes
from agents.up import ports
from agents.up.child import for_terminal
from agents.up.plan import (
    BROKERS,
    LONGEST_PAUSE_S,
    ROLE_NAMES,
    ROLES,
    STEADY_AFTER_S,
    ManagedProcess,
    Phase,
    Watched,
    due,
    pause_s,
    plan,
)
from agents.up.supervisor import News, Supervisor, UpEvent
from pipeline.errors import Stop
from pipeline.settings.settings import HttpSettings, KafkaSettings, MqttSettings, Settings

SAMPLES = Path(__file__).parents[2] / "samples"
FILE = Path("tierwise.toml")
PATIENCE_S = 20


# --- decisions -------------------------------------------------------------------------------------------------


def test_everything_starts_by_default_brokers_first() -> None:
    parts = plan(Settings(), FILE)
    assert [part.name for part in parts] == ["mqtt", "kafka", *ROLE_NAMES]
    assert [part.stage for part in parts] == [BROKERS] * 2 + [ROLES] * len(ROLE_NAMES)


def test_an_address_in_the_settings_replaces_an_embedded_broker() -> None:
    settings = Settings(mqtt=MqttSettings(address="broker.lan:1883"), kafka=KafkaSettings(address="kafka.lan:9092"))
    assert [part.name for part in plan(settings, FILE)] == list(ROLE_NAMES)


@pytest.mark.parametrize(
    ("only", "names"),
    [
        (("device",), ["mqtt", "device"]),
        (("edge", "device"), ["mqtt", "device", "edge"]),
        (("stream",), ["kafka", "stream"]),
        (("mqtt",), ["mqtt"]),
        (("gateway",), ["mqtt", "kafka", "gateway"]),
    ],
)
def test_only_some_roles_bring_the_brokers_that_they_need(only: tuple[str, ...], names: list[str]) -> None:
    assert [part.name for part in plan(Settings(), FILE, only)] == names


def test_an_unknown_role_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(Stop, match='no "egde"; there are mqtt, kafka, device, edge'):
        plan(Settings(), FILE, ("egde",))


def part(name: str, stage: int) -> ManagedProcess:
    return ManagedProcess(name, (), stage, 0, "http.device")


def test_roles_wait_until_all_brokers_were_ready_once() -> None:
    mqtt, kafka, edge = (Watched(part(n, s)) for n, s in (("mqtt", 0), ("kafka", 0), ("edge", 1)))
    assert [p.name for p in due([mqtt, kafka, edge], 0)] == ["mqtt", "kafka"]
    mqtt, kafka = mqtt.started(0).found_ready(), kafka.started(0)
    assert due([mqtt, kafka, edge], 1) == []
    kafka = kafka.found_ready()
    assert [p.name for p in due([mqtt, kafka, edge], 1)] == ["edge"]


def test_roles_do_not_wait_for_a_broker_that_was_ready_and_died() -> None:
    mqtt = Watched(part("mqtt", BROKERS)).started(0).found_ready().found_ended(1, 1.0)
    edge = Watched(part("edge", ROLES))
    assert [p.name for p in due([mqtt, edge], 1.0)] == ["edge"]
    assert [p.name for p in due([mqtt, edge], 60.0)] == ["mqtt", "edge"]


def test_a_part_that_keeps_ending_rests_longer_each_time_up_to_a_bound() -> None:
    watched, now_s, pauses = Watched(part("edge", ROLES)), 0.0, []
    for _ in range(12):
        watched = watched.started(now_s).found_ended(exit_codes.FAILED, now_s + 1)
        pauses.append(watched.rest_until_s - (now_s + 1))
        now_s = watched.rest_until_s
    assert pauses[:4] == [0.5, 1, 2, 4]
    assert pauses[-1] == LONGEST_PAUSE_S


def test_a_part_that_lived_long_begins_again_with_the_shortest_pause() -> None:
    watched = Watched(part("edge", ROLES))
    for _ in range(6):
        watched = watched.started(0).found_ended(-9, 1)
    watched = watched.started(100).found_ready().found_ended(-9, 100 + STEADY_AFTER_S)
    assert watched.quick_ends == 1


@given(st.integers(1, 10**6))
def test_pauses_never_shrink_and_never_pass_the_bound(quick_ends: int) -> None:
    assert 0 < pause_s(quick_ends) <= pause_s(quick_ends + 1) <= LONGEST_PAUSE_S


def test_a_part_that_says_a_person_must_help_is_not_started_again() -> None:
    watched = Watched(part("edge", ROLES)).started(0).found_ended(exit_codes.STOP, 1)
    assert watched.phase is Phase.ENDED
    assert due([watched], 1e9) == []


@pytest.mark.parametrize(
    ("line", "from_stderr", "shown"),
    [
        ('{"event": "connected", "level": "info"}', True, None),
        (
            '{"event": "lost", "level": "warning", "role": "edge", "for_s": 3}',
            True,
            "warning: lost (for_s=3)",
        ),
        (
            '{"event": "failed", "level": "error", "exception": "Traceback\\n  x\\nValueError: no"}',
            True,
            "error: failed: ValueError: no",
        ),
        ('{"event": "late", "level": "warning", "logger": "kafka.net"}', True, None),
        ('{"event": "away", "level": "warning", "logger": "pipeline.mqtt"}', True, "warning: away"),
        ("tierwise edge: the key is missing", True, "the key is missing"),
        ('{"ready": "mqtt", "port": 1883}', False, None),
        ("2026-11-22 13:00:00,123 kafka INFO listening", True, None),
        ("2026-11-22 13:00:00,123 kafka WARNING full", True, "warning: full"),
        ("[rtsp @ 0x55] a library's own line", True, None),
        ("[1, 2]", True, None),
        ("", True, None),
    ],
)
def test_a_person_sees_our_warnings_and_last_lines_and_nothing_of_libraries(
    line: str, from_stderr: bool, shown: str | None
) -> None:
    assert for_terminal(line, from_stderr=from_stderr) == shown


@pytest.mark.slow
@given(st.text())
def test_no_line_of_a_child_breaks_the_listener(line: str) -> None:
    for_terminal(line, from_stderr=True)


def test_a_port_that_speaks_mqtt_is_told_with_the_lines_that_use_it() -> None:
    mqtt = plan(Settings(), FILE, ("mqtt",))[0]
    text = ports.describe(mqtt, FILE, "mosquitto (pid 812)", speaks_mqtt=True, spare=1884)
    assert "port 1883, which mqtt needs, is in use by mosquitto (pid 812), which speaks MQTT" in text
    assert '[mqtt]\n    address = "127.0.0.1:1883"' in text


def test_a_listener_on_this_machine_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not ports.is_free(port)
        assert f"(pid {os.getpid()})" in ports.owner(port)
    assert ports.is_free(port)


# --- processes -------------------------------------------------------------------------------------------------


class Newsroom:
    """Collects news, and lets a test wait for some."""

    def __init__(self) -> None:
        self.all: list[News] = []
        self._changed = threading.Condition()

    def __call__(self, news: News) -> None:
        with self._changed:
            self.all.append(news)
            self._changed.notify_all()

    def wait_for(self, event: UpEvent, part: str, times: int = 1) -> News:
        def found() -> list[News]:
            return [n for n in self.all if (n.event, n.part) == (event, part)]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= times, PATIENCE_S), self.all
            return found()[times - 1]


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


Make = Callable[..., tuple[Supervisor, Newsroom]]


@pytest.fixture
def supervise(tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setenv("PYTHONPATH", str(SAMPLES))
    made: list[Supervisor] = []

    def make(broker: str = "well", role: str | None = "well") -> tuple[Supervisor, Newsroom]:
        settings = Settings(data=str(tmp_path / "data"), http=HttpSettings(device=0))
        marks = str(tmp_path / "marks")
        parts = [
            ManagedProcess("mqtt", ("sample_broker", broker, str(free_port), marks), BROKERS, free_port, "mqtt.port")
        ]
        if role is not None:
            parts.append(ManagedProcess("device", ("sample_role", role, settings.data), ROLES, 0, "http.device"))
        newsroom = Newsroom()
        supervisor = Supervisor(settings, FILE, parts, newsroom)
        made.append(supervisor)
        return supervisor, newsroom

    yield make
    for supervisor in made:
        supervisor.stop()


@pytest.mark.slow
def test_parts_start_in_order_become_ready_and_end_without_a_trace(supervise: Make, tmp_path: Path) -> None:
    supervisor, news = supervise(role="warns")
    supervisor.start()
    assert supervisor.wait_ready(PATIENCE_S)
    said = news.wait_for(UpEvent.LINE, "device")
    assert said.text.startswith("warning: still there")
    pids = [child.pid for child in supervisor._children.values()]
    supervisor.stop()
    order = [(n.event, n.part) for n in news.all if n.event in (UpEvent.STARTING, UpEvent.READY, UpEvent.ALL_READY)]
    assert order == [
        (UpEvent.STARTING, "mqtt"),
        (UpEvent.READY, "mqtt"),
        (UpEvent.STARTING, "device"),
        (UpEvent.READY, "device"),
        (UpEvent.ALL_READY, ""),
    ]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert '"event": "stopped"' in (tmp_path / "data/logs/device.log").read_text()
    assert (tmp_path / "marks").read_text() == "broker start\nbroker end\n"


@pytest.mark.slow
def test_what_parts_say_and_keep_is_their_users_alone(supervise: Make, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        supervisor, _ = supervise()
        supervisor.start()
        assert supervisor.wait_ready(PATIENCE_S)
        supervisor.stop()
    finally:
        os.umask(before)
    data = tmp_path / "data"
    assert {path.stat().st_mode & 0o777 for path in (data, data / "logs")} == {0o700}
    logs = list((data / "logs").iterdir())
    assert logs and {path.stat().st_mode & 0o777 for path in logs} == {0o600}
    assert (tmp_path / "marks").stat().st_mode & 0o777 == 0o600  # written by a child


@pytest.mark.slow
def test_a_part_that_is_killed_is_started_again(supervise: Make) -> None:
    supervisor, news = supervise()
    supervisor.start()
    assert supervisor.wait_ready(PATIENCE_S)
    os.kill(supervisor._children["device"].pid, signal.SIGKILL)
    died = news.wait_for(UpEvent.DIED, "device")
    assert "signal 9" in died.text and "again in 0.5 s" in died.text
    news.wait_for(UpEvent.READY, "device", times=2)


@pytest.mark.slow
def test_a_broker_that_fails_once_is_started_again_before_the_roles(supervise: Make) -> None:
    supervisor, news = supervise(broker="dies-once")
    supervisor.start()
    assert supervisor.wait_ready(PATIENCE_S)
    assert [n.part for n in news.all if n.event is UpEvent.STARTING] == ["mqtt", "mqtt", "device"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ways", "name", "said"),
    [
        ({"broker": "cannot-start"}, "mqtt", "is in use"),
        ({"role": "stop-in-start"}, "device", "the key is missing: run `make keys`"),
    ],
)
def test_a_part_that_cannot_start_ends_everything_and_its_own_words_are_told(
    supervise: Make, ways: dict[str, str], name: str, said: str
) -> None:
    supervisor, news = supervise(**ways)
    supervisor.start()
    with pytest.raises(Stop, match=f"{name} cannot start"):
        supervisor.wait_ready(PATIENCE_S)
    assert said in news.wait_for(UpEvent.LINE, name).text
    assert news.wait_for(UpEvent.GAVE_UP, "").text == f"{name} cannot start; see its message above"


def test_a_part_that_ignores_being_asked_is_killed(supervise: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.up.supervisor.BROKERS_END_WITHIN_S", 0.1)
    supervisor, _ = supervise(broker="deaf", role=None)
    supervisor.start()
    assert supervisor.wait_ready(PATIENCE_S)
    pid = supervisor._children["mqtt"].pid
    supervisor.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_second_instance_on_the_same_data_is_refused_naming_the_first(supervise: Make) -> None:
    first, _ = supervise(role=None)
    first.start()
    second, _ = supervise(role=None)
    with pytest.raises(Stop, match=rf"another `tierwise up` \(pid {os.getpid()}\)"):
        second.start()


def test_a_data_folder_that_cannot_be_written_is_told_in_a_sentence(
    supervise: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path, *_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    supervisor, _ = supervise(role=None)
    monkeypatch.setattr(Path, "open", read_only)
    with pytest.raises(Stop, match=r"up\.lock: Read-only file system"):
        supervisor.start()


def test_a_port_in_use_is_told_before_anything_starts(supervise: Make, free_port: int, tmp_path: Path) -> None:
    supervisor, news = supervise(role=None)
    with (
        socket.create_server(("127.0.0.1", free_port)),
        pytest.raises(Stop, match=rf"(?s)port {free_port}, which mqtt needs, is in use by .*\[mqtt\]\n    port = "),
    ):
        supervisor.start()
    assert news.all == []
    assert not (tmp_path / "marks").exists()


@pytest.mark.slow
def test_children_do_not_survive_a_supervisor_that_is_killed(tmp_path: Path, free_port: int) -> None:
    code = f"""
import time
from pathlib import Path
from agents.up.plan import BROKERS, ROLES, ManagedProcess
from agents.up.supervisor import Supervisor
from pipeline.settings.settings import HttpSettings, Settings
settings = Settings(data={str(tmp_path / "data")!r}, http=HttpSettings(device=0))
parts = [
    ManagedProcess("mqtt", ("sample_broker", "well", "{free_port}", {str(tmp_path / "marks")!r}), BROKERS, {free_port}, "x.y"),
    ManagedProcess("device", ("sample_role", "well", settings.data), ROLES, 0, "http.device"),
]
supervisor = Supervisor(settings, Path("x"), parts, lambda _: None)
supervisor.start()
supervisor.wait_ready({PATIENCE_S})
print(*[child.pid for child in supervisor._children.values()], flush=True)
time.sleep(60)
"""
    environment = os.environ | {"PYTHONPATH": str(SAMPLES)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()]
        assert len(pids) == 2
        process.kill()
    deadline = time.monotonic() + PATIENCE_S
    while any(_lives(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text() if Path("/proc").exists() else True

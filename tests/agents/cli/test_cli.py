"""The command line as people and scripts meet it: help, errors, exit codes, and publishing until it is answered."""

from __future__ import annotations

import json
import os
import random
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mqtt_brokers import Iotcore

from agents import cli
from agents.cli import COMMANDS, Entry
from agents.cli.doctor import examine
from agents.cli.up import write_starter
from agents.cli.watch import table
from agents.client.answer_text import Board, line
from agents.client.publishing import REPEAT_AFTER_S, WINDOW, Item, Publishing, State
from agents.role import exit_codes
from pipeline import topics
from pipeline.errors import Retry, Stop
from pipeline.messages import Ack, Privacy, Rank, Refusal, Result, Task, Tier, encode
from pipeline.mqtt import Connection, Message
from pipeline.privacy.gate import clear

SAMPLE_ROLE = Path(__file__).parents[2] / "samples" / "sample_role.py"


def answer(event: str = "e1", revision: int = 1, pending: Tier | None = None) -> Result:
    tier = tuple(Tier)[min(revision, 3) - 1]
    return Result(
        event=event,
        time="2026-01-01T00:00:00.000Z",
        site="home",
        device="cam1",
        stream="garden",
        sighting=None,
        task=Task.WILDLIFE,
        tier=tier,
        revision=revision,
        pending=pending,
        rank=Rank.FAMILY,
        label="Felidae",
        path=("animal", "Felidae"),
        probability=0.9,
        privacy=Privacy.PUBLIC,
        rule="last-tier",
        reason="no tier lies behind",
        model="lite0@1",
        latency_ms=41.0,
    )


# --- the command itself ----------------------------------------------------------------------------------------


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("TIERWISE_")]:
        monkeypatch.delenv(name)

    def command(*words: str) -> tuple[int, str, str]:
        code: object = 0
        try:
            cli.main(words)
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return int(str(code or 0)), said.out, said.err

    return command


def test_the_help_names_every_command_and_loads_none_of_their_libraries() -> None:
    code = (
        "import sys\nfrom agents import cli\n"
        "try: cli.main(['--help'])\nexcept SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(re.search(rf"│ {entry.name} ", told.stdout) for entry in COMMANDS)
    heavy = {"cv2", "faust", "kafka", "numpy", "onnxruntime", "paho", "prometheus_client", "structlog"}
    assert not heavy & set(told.stderr.split())


@pytest.mark.parametrize("entry", COMMANDS, ids=lambda entry: entry.name)
def test_every_command_of_the_table_is_there_and_helps(entry: Entry, run: Callable[..., object]) -> None:
    code, out, _ = run(entry.name, "--help")  # type: ignore[misc]
    assert code == 0
    assert f"Usage: tierwise {entry.name}" in out


@pytest.mark.parametrize(
    ("error", "code"), [(Stop("change it"), exit_codes.STOP), (Retry("kafka is away"), exit_codes.FAILED)]
)
def test_an_error_is_one_line_and_an_exit_code_that_says_who_must_act(
    error: Exception, code: int, run: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise error

    monkeypatch.setattr(cli, "_load", lambda _target: fails)
    assert run("version") == (code, "", f"tierwise: {error}\n")


def test_a_missing_extra_is_named_with_the_line_that_installs_it(
    run: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_target: str) -> object:
        raise ModuleNotFoundError("No module named 'faust.app'", name="faust.app")

    monkeypatch.setattr(cli, "_load", missing)
    text = "tierwise: this needs faust.app, which is not installed: pip install 'tierwise[cloud]'\n"
    assert run("stream") == (exit_codes.STOP, "", text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("publish", "nosuch.jpg"), "nosuch.jpg: no such file or folder, and no number"),
        (("publish", "."), "no photo in this folder"),
        (("publish", "21.5", "--stream", "a/b/c/d"), "--stream a/b/c/d: write DEVICE/STREAM"),
        (("publish", "21.5"), "say which with --stream"),
        (("publish", "21.5", "--settings", "no.toml"), "no.toml: no such settings file"),
        (("picture", "../../etc"), "no event's id"),
        (("picture", "01a20379-adb4-754c-9916-d4f694551a1a"), "no picture here"),
        (("health", "egde"), 'no role "egde"'),
        (("up", "--only", "egde"), 'no "egde"; there are mqtt'),
    ],
)
def test_what_a_person_gets_wrong_is_said_in_a_line(
    words: Sequence[str], said: str, run: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = run(*words)
    assert (code, err.count("\n")) == (exit_codes.STOP, 1)
    assert said in err


def test_the_starter_settings_are_good_settings_and_are_never_written_over(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    _, text, _ = run("settings", "starter")
    write_starter(tmp_path / "tierwise.toml")
    assert (tmp_path / "tierwise.toml").read_text() == text
    code, out, _ = run("settings", "check")
    assert (code, out.split(",")[0]) == (0, "good: site home")
    with pytest.raises(FileExistsError):
        write_starter(tmp_path / "tierwise.toml")


def test_a_settings_key_that_is_not_known_ends_the_check_with_its_name(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "tierwise.toml").write_text("[mqtt]\nadress = 'x'\n")
    code, _, err = run("settings", "check")
    assert code == exit_codes.STOP
    assert "adress" in err and "address" in err


def test_a_picture_is_found_by_the_end_of_its_id_and_copied(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    ring = tmp_path / "tierwise-data/device/pictures"
    ring.mkdir(parents=True)
    (ring / "01a20379-adb4-754c-9916-d4f694551a1a.jpg").write_bytes(b"jpeg")
    assert run("picture", "94551a1a", "--out", "cat.jpg")[:2] == (0, "cat.jpg\n")
    assert (tmp_path / "cat.jpg").read_bytes() == b"jpeg"


def test_health_asks_the_role_that_runs_and_says_when_none_does(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, _, err = run("health")
    assert (code, "`tierwise up`" in err) == (exit_codes.FAILED, True)
    role = [sys.executable, SAMPLE_ROLE, "well", tmp_path / "tierwise-data"]
    with subprocess.Popen(role, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            process.stderr.readline()  # its first line of log says that it has started
            code, out, _ = run("health", "device", "--json")
        finally:
            process.kill()
    assert (code, json.loads(out)["parts"]) == (0, {"mqtt": "connected"})


def test_the_doctor_names_the_cure_of_a_port_in_use_and_of_a_broken_setting(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (tmp_path / "tierwise.toml").write_text(f"[http]\nedge = {port}\n[kafka]\naddress = '127.0.0.1:9'\n")
        found = {finding.what: finding for finding in examine(None) if finding.status == "fail"}
    assert f"port {port}, which edge needs, is in use" in found["ports"].text
    (tmp_path / "tierwise.toml").write_text("site = 'Not A Name'\n")
    code, out, _ = run("doctor", "--json")
    last = json.loads(out.splitlines()[-1])
    assert (code, last["status"], last["what"]) == (exit_codes.STOP, "fail", "settings")


# --- answers ---------------------------------------------------------------------------------------------------


@given(st.permutations([(event, revision) for event in ("e1", "e2") for revision in (1, 2, 3)]), st.data())
def test_a_board_ends_with_the_highest_revision_in_whatever_order_answers_come(
    order: list[tuple[str, int]], data: st.DataObject
) -> None:
    board = Board()
    for event, revision in [*order, *data.draw(st.lists(st.sampled_from(order)))]:
        board.refine(answer(event, revision))
    assert {(a.event, a.revision) for a in board.events} == {("e1", 3), ("e2", 3)}


def test_a_board_keeps_the_most_recent_events_only() -> None:
    board = Board(most=2)
    for event in ("e1", "e2", "e3"):
        assert board.refine(answer(event))
    assert [a.event for a in board.events] == ["e2", "e3"]


def test_an_answer_reads_as_tier_rank_label_and_who_may_refine_it() -> None:
    words = line(answer(revision=2, pending=Tier.CLOUD)).split()
    assert words[:3] == ["edge", "family", "Felidae"]
    assert words[-3:] == ["→", "cloud", "last-tier"]


def test_the_table_says_why_no_answer_can_come() -> None:
    assert "connection refused" in str(table((), "connection refused").caption)


# --- publishing, as decisions ----------------------------------------------------------------------------------

TOPIC = topics.frame("home", "cam1", "garden")


def photos(*contents: bytes) -> list[Item]:
    return [Item(f"{number}.jpg", TOPIC, content) for number, content in enumerate(contents)]


def published(publishing: Publishing, now_s: float = 0.0) -> list[Item]:
    items = publishing.to_publish(now_s)
    for item in items:
        item.published_s = now_s
    return items


def ack(publishing: Publishing, event: str, item: Item) -> list[tuple[Item, Result | None]]:
    message = Ack(ids=(event,), topic=TOPIC, sha256=item.sha256)
    return publishing.hear(topics.ack("home", "cam1"), encode(message))


def tell(publishing: Publishing, result: Result) -> list[tuple[Item, Result | None]]:
    return publishing.hear(topics.result("home", "cam1", result.tier, result.privacy), encode(result))


def test_an_item_is_published_again_until_it_is_acknowledged() -> None:
    publishing = Publishing(photos(b"a"))
    (item,) = published(publishing)
    assert publishing.to_publish(REPEAT_AFTER_S - 0.1) == []
    assert published(publishing, REPEAT_AFTER_S) == [item]
    ack(publishing, "e1", item)
    assert publishing.to_publish(1e9) == []
    assert not publishing.is_done()


def test_a_publication_is_done_when_no_tier_may_refine_it_and_answers_may_come_in_any_order() -> None:
    for order in ([1, 2, 3], [2, 1, 3], [3, 2, 1]):
        publishing = Publishing(photos(b"a"))
        (item,) = published(publishing)
        ack(publishing, "e1", item)
        shown = [tell(publishing, answer("e1", n, None if n == 3 else Tier.CLOUD)) for n in order]
        assert all(shown) and publishing.is_done()
        assert item.answer is not None and item.answer.revision == 3
        assert tell(publishing, answer("e1", 3)) == []


def test_an_answer_that_overtakes_its_acknowledgement_is_told_after_it() -> None:
    publishing = Publishing(photos(b"a"))
    (item,) = published(publishing)
    early = answer("e1", 1)
    assert tell(publishing, early) == []
    assert ack(publishing, "e1", item) == [(item, None), (item, early)]
    assert publishing.is_done()


def test_two_equal_photos_are_two_events() -> None:
    publishing = Publishing(photos(b"same", b"same"))
    first, second = published(publishing)
    ack(publishing, "e1", first)
    ack(publishing, "e2", second)
    assert [item.event for item in publishing.items] == ["e1", "e2"]


def test_a_reading_is_recognised_by_its_own_id_and_not_by_another_sensors_ack() -> None:
    item = Item("21.5", TOPIC, b'{"value":21.5}', id="mine")
    publishing = Publishing([item])
    published(publishing)
    ack(publishing, "another", item)
    assert item.state is State.WAITING
    ack(publishing, "mine", item)
    assert item.state is State.ANSWERING


def test_a_refusal_ends_only_the_item_that_it_is_about() -> None:
    publishing = Publishing(photos(b"bad", b"good"))
    bad, good = published(publishing)
    refusal = Refusal(
        reason="image-truncated", detail="", topic=TOPIC, size_bytes=3, sha256=bad.sha256, time=""
    )
    assert publishing.hear(topics.rejected("home", "cam1"), encode(refusal)) == [(bad, None)]
    assert (bad.state, good.state) == (State.REFUSED, State.WAITING)


def test_a_folder_is_published_a_window_at_a_time() -> None:
    publishing = Publishing(photos(*(bytes([n]) for n in range(3 * WINDOW))))
    for _ in range(3):
        items = published(publishing)
        assert len(items) == WINDOW
        random.shuffle(items)
        for item in items:
            ack(publishing, item.name, item)
    assert publishing.to_publish(0) == []


@given(st.text(), st.binary())
def test_no_foreign_message_disturbs_a_publication(topic: str, payload: bytes) -> None:
    publishing = Publishing(photos(b"a"))
    for place in (
        topic,
        topics.ack("home", "cam1"),
        topics.result("home", "cam1", Tier.EDGE, Privacy.PUBLIC),
    ):
        assert publishing.hear(place, payload) == []


# --- publishing, over a broker ---------------------------------------------------------------------------------


class SmallDevice:
    """A device agent as `publish` sees one: forgets what comes first, refuses what is empty, answers the rest."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.taken: list[bytes] = []

    def connected(self, session_present: bool) -> int:
        return 0

    def confirmed(self, mark: int) -> None:
        pass

    def received(self, batch: Sequence[Message]) -> int:
        for message in batch:
            self.taken.append(message.payload)
            if len(self.taken) > 1:
                self._settle(message)
        return 0

    def _settle(self, message: Message) -> None:
        assert self.connection is not None
        sha256 = Item("", message.topic, message.payload).sha256
        told: list[tuple[msgspec.Struct, str]]
        if message.payload:
            ack_ = Ack(ids=("e1",), topic=message.topic, sha256=sha256)
            told = [(ack_, topics.ack("home", "cam1"))]
            told += [
                (answer("e1", n, pending), topics.result("home", "cam1", tier, Privacy.PUBLIC))
                for n, tier, pending in ((1, Tier.DEVICE, Tier.EDGE), (2, Tier.EDGE, None))
            ]
        else:
            refusal = Refusal(
                reason="image-empty",
                detail="0 bytes",
                topic=message.topic,
                size_bytes=0,
                sha256=sha256,
                time="",
            )
            told = [(refusal, topics.rejected("home", "cam1"))]
        for body, topic in told:
            self.connection.publish(clear(body, topic, to=Tier.EDGE))


@pytest.fixture
def small_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallDevice]:
    monkeypatch.setattr("agents.client.publishing.REPEAT_AFTER_S", 0.05)
    broker = Iotcore(tmp_path / "broker")
    broker.start()
    device = SmallDevice()
    device.connection = Connection(
        broker.endpoint,
        "device",
        subscriptions=[topics.frame("home", "+", "+")],
        handler=device,
        persistent=False,
    )
    device.connection.start()
    try:
        assert device.connection.wait_connected(10)
        (tmp_path / "tierwise.toml").write_text(
            f"[mqtt]\naddress = '{broker.endpoint}'\n[streams.'cam1/garden']\nreason = 'a test'\n"
        )
        yield device
    finally:
        device.connection.stop()
        broker.kill()


def test_publish_repeats_until_committed_and_shows_the_answers_to_the_last(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, small_device: SmallDevice
) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"jpeg")
    code, out, _ = run("publish", "cat.jpg", "--json")
    told = [json.loads(text) for text in out.splitlines()]
    assert code == 0
    assert told[0] == {"file": "cat.jpg", "event": "e1"}
    assert [one["result"]["revision"] for one in told[1:]] == [1, 2]
    assert small_device.taken[:2] == [b"jpeg", b"jpeg"]


def test_publish_says_why_a_photo_was_refused(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, small_device: SmallDevice
) -> None:
    (tmp_path / "empty.png").touch()
    code, _, err = run("publish", "empty.png")
    assert (code, err) == (exit_codes.STOP, "empty.png: refused (image-empty): 0 bytes\n")


def test_publish_says_that_no_broker_answers(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.client.connection.CONNECT_WITHIN_S", 0.1)
    (tmp_path / "tierwise.toml").write_text("[mqtt]\naddress = '127.0.0.1:9'\n")
    (tmp_path / "cat.jpg").write_bytes(b"jpeg")
    code, _, err = run("publish", "cat.jpg", "--stream", "cam1/garden")
    assert code == exit_codes.FAILED
    assert "127.0.0.1:9" in err and "`tierwise up`" in err

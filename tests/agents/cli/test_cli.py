"""The command line as people and scripts meet it: help, errors, exit codes, and publishing until it is answered."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from clip_samples import walk
from exif_samples import looped
from sample_device import SmallDevice, small_device

from agents import cli
from agents.cli import COMMANDS, spellings
from agents.cli.commands import MOVED, Command
from agents.cli.machine import doctor
from agents.cli.machine.doctor import examine
from agents.cli.machine.up import write_starter
from agents.role import exit_codes
from agents.role.run_file import Running
from pipeline.errors import Retry, Stop

SAMPLE_ROLE = Path(__file__).parents[2] / "samples" / "sample_role.py"


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


@pytest.mark.slow
def test_the_help_names_every_command_and_loads_none_of_their_libraries() -> None:
    code = (
        "import sys\nfrom agents import cli\n"
        "try: cli.main(['--help'])\nexcept SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(re.search(rf"│ {command.name} ", told.stdout) for command in COMMANDS)
    heavy = {"cv2", "faust", "kafka", "numpy", "onnxruntime", "paho", "prometheus_client", "structlog"}
    assert not heavy & set(told.stderr.split())


@pytest.mark.parametrize("spelling", spellings())
def test_every_command_of_the_table_is_there_and_helps(spelling: str, run: Callable[..., object]) -> None:
    code, out, err = run(*spelling.split(), "--help")  # type: ignore[misc]
    assert (code, err) == (0, "")
    assert f"Usage: tierwise {spelling} " in out


def test_help_lines_fit_into_80_columns() -> None:
    def too_long(command: Command, room: int) -> Iterator[str]:
        if len(command.help) > room:
            yield command.name
        for each in command.commands:
            yield from too_long(each, room)

    assert [name for command in COMMANDS for name in too_long(command, 62)] == []


@pytest.mark.parametrize("old", MOVED, ids=" ".join)
def test_an_old_spelling_runs_the_new_command_and_names_it(
    old: tuple[str, ...], run: Callable[..., tuple[int, str, str]]
) -> None:
    assert " ".join(MOVED[old]) in spellings()
    code, out, err = run(*old, "--help")
    new = " ".join(MOVED[old])
    assert (code, err) == (0, f"tierwise: `tierwise {' '.join(old)}` is now `tierwise {new}`\n")
    assert f"Usage: tierwise {new} " in out


def test_the_old_option_for_a_csv_is_the_new_command(run: Callable[..., tuple[int, str, str]]) -> None:
    for words in (("--csv", "none.csv"), ("--csv=none.csv",)):
        code, _, err = run("label", *words, "--by", "ann")
        assert code == exit_codes.STOP
        assert err.startswith("tierwise: `tierwise label --csv` is now `tierwise labels import`\n")
        assert "none.csv cannot be read" in err


def test_the_version_is_an_option_too(run: Callable[..., tuple[int, str, str]]) -> None:
    assert run("--version") == run("version")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("tierwise ", {"demo", "labels", "releases", "version"}),
        ("tierwise rel", {"releases"}),
        ("tierwise releases ", {"status", "promote", "rollback"}),
        ("tierwise labels im", {"import"}),
        ("tierwise models compress ", {"int8", "fp16", "prune"}),
        ("tierwise watch --fr", {"--frames"}),
        ("tierwise demo l", {"learning"}),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_groups_commands_and_options(
    line: str,
    found: set[str],
    shell: str,
    run: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("_TIERWISE_COMPLETE", f"complete_{shell}")
    if shell == "bash":
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    else:
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
        monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    _, out, _ = run()
    assert found <= set(re.findall(r"[\w-]+", out))
    if not line.endswith(" "):
        assert "gateway" not in out


def test_completion_can_be_installed(run: Callable[..., tuple[int, str, str]]) -> None:
    _, out, _ = run("--help")
    assert "--install-completion" in out
    assert "--show-completion" in out


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
    def missing(*_: object) -> object:
        raise ModuleNotFoundError("No module named 'faust.app'", name="faust.app")

    monkeypatch.setattr(cli, "_load", missing)
    monkeypatch.setattr(cli, "start", missing)
    text = "tierwise: this needs faust.app, which is not installed: pip install 'tierwise[cloud]'\n"
    assert run("stream") == run("stream", "--help") == (exit_codes.STOP, "", text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("publish", "nosuch.jpg"), "nosuch.jpg: no such file or folder, and not a number"),
        (("publish", "."), "no photo in this folder"),
        (("publish", "21.5", "--stream", "a/b/c/d"), "--stream a/b/c/d: write DEVICE/STREAM"),
        (("publish", "21.5"), "name one with --stream"),
        (("publish", "21.5", "--settings", "no.toml"), "no.toml: no such settings file"),
        (("sightings", "picture", "../../etc"), "give the id of an event"),
        (("sightings", "picture", "01a20379-adb4-754c-9916-d4f694551a1a"), "no picture here"),
        (("labels", "list"), "no edge ran on this machine"),
        (("training", "list", "last"), "there is no training yet"),
        (("releases", "explain", "last"), "there is no release on this machine yet"),
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
    assert run("sightings", "picture", "94551a1a", "--out", "cat.jpg")[:2] == (0, "cat.jpg\n")
    assert (tmp_path / "cat.jpg").read_bytes() == b"jpeg"


@pytest.mark.slow
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
        found = {check.what: check for check in examine(None) if check.status == "fail"}
    assert f"port {port}, which edge needs, is in use" in found["ports"].text
    (tmp_path / "tierwise.toml").write_text("site = 'Not A Name'\n")
    code, out, _ = run("doctor", "--json")
    last = json.loads(out.splitlines()[-1])
    assert (code, last["status"], last["what"]) == (exit_codes.STOP, "fail", "settings")


def test_the_doctor_warns_of_a_full_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "running", lambda _data, role: Running(1, 2) if role == "edge" else None)
    monkeypatch.setattr(doctor, "ask_health", lambda _port: (True, {"store": "store full: 9 MiB wait"}))
    (finding,) = [each for each in examine(None) if each.what == "edge"]
    assert (finding.status, finding.text) == ("warn", "store: store full: 9 MiB wait")


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ({"series": "fine"}, "ok"),
        ({"series": "7 points dropped"}, "warn"),
        ({"self metrics": "3 points refused"}, "warn"),
    ],
)
def test_the_doctor_warns_of_points_that_the_time_series_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, parts: dict[str, str], status: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "running", lambda _data, role: Running(1, 2) if role == "stream" else None)
    monkeypatch.setattr(doctor, "ask_health", lambda _port: (True, parts))
    (finding,) = [each for each in examine(None) if each.what == "stream"]
    assert finding.status == status


def test_the_doctor_asks_each_influxdb_whether_it_takes_points(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tierwise.toml").write_text(
        "[influx]\nurl = 'http://127.0.0.1:9'\ntoken = 'secret'\n"
        "[cloud_influx]\nurl = 'http://influx.lan:8086'\ntoken = 'secret'\nbucket = 'cloud'\n"
    )
    answers = iter([Retry("away"), False])

    def accepts(*_: object) -> bool:
        answer = next(answers)
        if isinstance(answer, Retry):
            raise answer
        return answer

    monkeypatch.setattr(doctor.Influx, "accepts", accepts)
    away, refused = [each for each in examine(None) if each.what == "influx"]
    assert (away.status, away.text) == ("fail", "away")
    assert refused.status == "fail"
    assert "it allows us to write no points: correct token, org and bucket of [cloud_influx]" in refused.text
    assert "secret" not in refused.text


# --- publishing, over a broker ---------------------------------------------------------------------------------


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallDevice]:
    monkeypatch.setattr("agents.client.window.REPEAT_AFTER_S", 0.05)
    with small_device(tmp_path) as opened:
        yield opened


@pytest.mark.slow
def test_publish_repeats_until_committed_and_shows_the_answers_to_the_last(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, device: SmallDevice
) -> None:
    (tmp_path / "cat.jpg").write_bytes(b"jpeg")
    code, out, _ = run("publish", "cat.jpg", "--json")
    told = [json.loads(text) for text in out.splitlines()]
    assert code == 0
    assert told[0] == {"file": "cat.jpg", "event": "e1"}
    assert [each["result"]["revision"] for each in told[1:]] == [1, 2]
    assert device.taken[:2] == [b"jpeg", b"jpeg"]


@pytest.mark.slow
def test_publish_says_why_a_photo_was_refused(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, device: SmallDevice
) -> None:
    (tmp_path / "empty.png").touch()
    code, _, err = run("publish", "empty.png")
    assert (code, err) == (exit_codes.STOP, "empty.png: refused (image-empty): 0 bytes\n")


def test_of_a_folder_a_photo_that_cannot_be_published_is_named_and_the_others_are_answered(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, device: SmallDevice
) -> None:
    card = tmp_path / "card"
    card.mkdir()
    (card / "cat.jpg").write_bytes(b"jpeg")
    (card / "eio.jpg").symlink_to("/proc/self/mem")  # reading its first byte fails with EIO
    (card / "huge.jpg").write_bytes(bytes((16 << 20) + 1))
    (card / "clip.mov").write_bytes(b"no video")
    code, out, _ = run("publish", "card", "--json")
    records = [json.loads(text) for text in out.splitlines()]
    reasons = {each["file"]: each["refused"]["reason"] for each in records if "refused" in each}
    assert code == exit_codes.STOP
    assert reasons == {"eio.jpg": "unreadable", "huge.jpg": "image-too-large", "clip.mov": "unreadable"}
    assert [each["result"]["revision"] for each in records if "result" in each] == [1, 2]
    (card / "cat.jpg").unlink()
    assert run("publish", "card")[0] == exit_codes.STOP


@pytest.mark.slow
def test_classify_names_what_it_cannot_answer_and_answers_the_rest(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    card, videos = tmp_path / "card", tmp_path / "videos"
    card.mkdir()
    videos.mkdir()
    (card / "circle.jpg").write_bytes(looped())
    (card / "eio.jpg").symlink_to("/proc/self/mem")
    (videos / "clip.mp4").write_bytes(b"video")
    (videos / "notes").mkdir()
    walk(card / "walk.avi")
    code, out, err = run("classify", "card", "videos", "videos/notes", "nowhere", "--json")
    records = [json.loads(text) for text in out.splitlines()]
    assert code == exit_codes.FAILED
    assert [Path(each["file"]).name for each in records if "answers" in each] == ["circle.jpg", "walk.avi"]
    assert [(Path(each["file"]).name, each["refused"]["reason"]) for each in records if "refused" in each] == [
        ("eio.jpg", "unreadable"),
        ("clip.mp4", "unreadable"),
    ]
    assert "videos/notes: no photos in it" in err and "nowhere: no such file or folder" in err


def test_publish_says_that_no_broker_answers(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.client.site_client.CONNECT_WITHIN_S", 0.1)
    (tmp_path / "tierwise.toml").write_text("[mqtt]\naddress = '127.0.0.1:9'\n")
    (tmp_path / "cat.jpg").write_bytes(b"jpeg")
    code, _, err = run("publish", "cat.jpg", "--stream", "cam1/garden")
    assert code == exit_codes.FAILED
    assert "127.0.0.1:9" in err and "`tierwise up`" in err


# --- settings explain ------------------------------------------------------------------------------------------

EXPLAINED = """
[streams."*/*"]
task = "meter"
[streams."*/temperature"]
task = "meter"
unit = "°C"
reading = "edge-private"
[streams."cam1/garden"]
source = "rtsp://admin:hunter2@10.0.0.9/1?password=hunter2"
[[rules]]
name = "evenings"
stream = "cam1/*"
hours = "18:00-23:00"
raise = { pixels = "user-private" }
reason = "we sit there"
"""


def test_explain_shows_the_entry_in_force_and_each_keys_origin(run: Callable[..., tuple[int, str, str]]) -> None:
    Path("tierwise.toml").write_text(EXPLAINED)
    code, out, _ = run("settings", "explain", "barn/temperature")
    assert code == 0
    assert 'in force: [streams."*/temperature"]' in out
    assert 'less specific, not used: [streams."*/*"]' in out
    assert re.search(r'unit +Cel +streams."\*/temperature"', out)
    assert re.search(r"summary +user-private +default", out)
    assert "pixels" not in out


def test_explain_names_the_topic_that_feeds_a_stream(run: Callable[..., tuple[int, str, str]]) -> None:
    wide = '[streams."*/*"]\ntopic = "zigbee2mqtt/+"\nformat = "zigbee2mqtt"\n'
    Path("tierwise.toml").write_text(wide + '[streams."barn/temperature"]\ntask = "meter"\nunit = "Cel"\n')
    _, out, _ = run("settings", "explain", "barn/temperature")
    assert re.search(r'fed by +zigbee2mqtt/\+ \(zigbee2mqtt\) +streams."\*/\*"', out)


def test_explain_names_the_rules_and_shows_no_password(run: Callable[..., tuple[int, str, str]]) -> None:
    Path("tierwise.toml").write_text(EXPLAINED)
    _, out, _ = run("settings", "explain", "home/cam1/garden")
    assert "evenings may raise pixels to user-private" in out
    assert "person-in-frame" in out
    assert "hunter2" not in out
    assert "rtsp://***@10.0.0.9/1?***" in out


def test_explain_of_a_stream_without_an_entry_shows_what_to_add(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run("settings", "explain", "cam9/street")
    assert code == 0
    assert '[streams."cam9/street"]' in out
    assert run("settings", "explain", "../x")[0] == exit_codes.STOP

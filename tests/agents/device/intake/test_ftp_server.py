"""The FTP server as cameras use it: what is taken, what is refused, and what is told to the camera."""

from __future__ import annotations

import contextlib
import datetime as dt
import ftplib
import io
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from kafka_brokers import eventually
from sample_messages import SOURCE, settings

from agents.deploy.camera_logins import CameraLogins
from agents.device.intake import ftp_server
from agents.device.intake.door import IntakeDoor
from agents.device.store import SITE
from agents.role import outbox
from agents.role.telemetry import Metrics
from models.vision import images
from pipeline.clock import SystemClock
from pipeline.messages import FRAME_MAX_BYTES, Refusal
from pipeline.settings.intake_keys import FtpSettings
from pipeline.spool import Item, Spool

PICTURE = images.encode_jpeg(np.random.default_rng(1).integers(0, 255, (60, 80, 3), np.uint8))
REPORT = b"Battery:60%\r\nTemp:24 C\r\n"


class Server:
    """A server on a free port of loopback, over a real store."""

    def __init__(self, folder: Path, tls: str = "off") -> None:
        self.settings = settings(folder)
        self.spool = Spool.open(folder / "spool.db", limit_bytes=1 << 26)
        self.logins = CameraLogins(folder)
        self.name, self.password = self.logins.add(SOURCE)
        self.door = IntakeDoor(self.settings, self.spool, Metrics(), SystemClock())
        self.stop, started = threading.Event(), threading.Event()
        self.port = 0

        def on_start(port: int) -> None:
            self.port = port
            started.set()

        self.thread = threading.Thread(
            target=ftp_server.serve,
            args=(
                FtpSettings(port=0, tls=tls, passive_ports="20000-20999"),  # type: ignore[arg-type]
                str(self.logins.certificate(("localhost",), dt.datetime.now(dt.UTC))),
            ),
            kwargs={
                "login": lambda name, password: self.logins.stream_of(name, password, [SOURCE]),
                "deliver": self.door.deliver,
                "stop": self.stop,
                "guard": ftp_server.LoginGuard(),
                "on_start": on_start,
            },
        )
        self.thread.start()
        assert started.wait(10)

    def client(self) -> ftplib.FTP:
        client = ftplib.FTP(timeout=10)
        try:
            client.connect("127.0.0.1", self.port)
            client.login(self.name, self.password)
        except ftplib.Error:
            client.close()
            raise
        return client

    def items(self) -> list[Item]:
        return list(self.spool.waiting(100))

    def refused(self) -> list[tuple[str, str]]:
        found = map(outbox.opened, self.spool.outgoing(SITE, 100, time.time()))
        return [(each.reason, each.detail) for each in found if isinstance(each, Refusal)]

    def close(self) -> None:
        self.stop.set()
        self.thread.join(10)
        self.spool.close()


@pytest.fixture(autouse=True)
def no_pause_after_a_wrong_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ftp_server._Session, "auth_failed_timeout", 0.01)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    opened = Server(tmp_path)
    yield opened
    opened.close()


def store(client: ftplib.FTP, name: str, data: bytes) -> str:
    return client.storbinary(f"STOR {name}", io.BytesIO(data))


def test_an_uploaded_picture_is_in_the_inbox_when_the_camera_is_told_so(server: Server) -> None:
    with server.client() as client:
        for folder in ("2026-11-30", "001"):
            client.mkd(folder)
            client.cwd(folder)
        assert store(client, "12.13.14[M][0@0][0].jpg", PICTURE).startswith("226")
        [item] = server.items()
        assert (item.payload, item.topic) == (PICTURE, "tierwise/v1/home/cam1/frame/garden")
        assert item.captured_at == dt.datetime(2026, 11, 30, 12, 13, 14, tzinfo=dt.UTC).timestamp()


def test_the_same_bytes_are_the_same_event_under_any_name(server: Server) -> None:
    with server.client() as client:
        for name in ("a.jpg", "b.jpg", "folder/a.jpg"):
            assert store(client, name, PICTURE).startswith("226")
        assert len(server.items()) == 1


def test_ascii_mode_changes_no_byte(server: Server) -> None:
    with server.client() as client:
        client.voidcmd("TYPE A")
        with client.transfercmd("STOR a.jpg") as data:
            data.sendall(PICTURE)
        assert client.voidresp().startswith("226")
        assert server.items()[0].payload == PICTURE


def test_active_mode_works_where_no_router_stands_between(server: Server) -> None:
    with server.client() as client:
        client.set_pasv(False)
        assert store(client, "a.jpg", PICTURE).startswith("226")


def test_more_connections_than_the_limit_are_turned_away_and_others_go_on(server: Server) -> None:
    with server.client() as client, contextlib.ExitStack() as held:
        greetings = []
        for _ in range(ftp_server.CONNECTIONS_MAX + 5):
            connection = held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            greetings.append(connection.recv(3))
        assert greetings[-1] == b"421"
        held.close()
        assert client.voidcmd("NOOP").startswith("200")

    def is_let_in() -> bool:
        with contextlib.suppress(ftplib.Error), server.client() as client:
            return store(client, "a.jpg", PICTURE).startswith("226")
        return False

    eventually(is_let_in)


@pytest.mark.parametrize("content", [b"", b"no certificate"])
def test_a_certificate_that_cannot_be_used_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "server.pem").write_bytes(content)
    with pytest.raises(OSError, match="certificate and its key in PEM form"):
        ftp_server.serve(
            FtpSettings(port=0),
            str(tmp_path / "server.pem"),
            login=lambda _name, _password: None,
            deliver=lambda _source, _name, _data, _size: None,
            stop=threading.Event(),
            guard=ftp_server.LoginGuard(),
        )


def test_a_report_becomes_readings_of_the_device(server: Server) -> None:
    with server.client() as client:
        assert store(client, "x-dailyreport.txt", REPORT).startswith("226")
    topics = {item.topic for item in server.items()}
    assert topics == {f"tierwise/v1/home/cam1/reading/{name}" for name in ("battery", "temperature")}


@pytest.mark.parametrize(
    ("data", "reply", "reason"),
    [
        (b"", "550", "image-empty"),
        (PICTURE[:-20], "451", "image-truncated"),
        (b"test", "550", "report-unreadable"),
        (b"MZ\0\0" * 100, "550", "image-unknown-format"),
        (bytes(FRAME_MAX_BYTES + 1), "550", "image-too-large"),
    ],
    ids=["empty", "cut", "test file", "program", "huge"],
)
def test_what_is_no_picture_is_refused_by_its_name(server: Server, data: bytes, reply: str, reason: str) -> None:
    with server.client() as client:
        with pytest.raises(ftplib.Error, match=f"^{reply} {reason}"):
            store(client, "odd name.bin", data)
        assert store(client, "good.jpg", PICTURE).startswith("226")
    [(found, detail)] = server.refused()
    assert found == reason
    assert detail.startswith("/odd name.bin: ")
    if reason == "image-too-large":
        assert f"{len(data):,} bytes" in detail


def test_a_clip_is_one_event_with_its_best_frame(server: Server, tmp_path: Path) -> None:
    clip = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 5, (80, 60))
    for _ in range(5):
        writer.write(np.full((60, 80, 3), 90, np.uint8))
    writer.release()
    with server.client() as client:
        assert store(client, "IMAG0120.AVI", clip.read_bytes()).startswith("226")
    [item] = server.items()
    assert images.decode(item.payload).shape == (60, 80, 3)


def test_an_upload_that_breaks_off_leaves_nothing(server: Server) -> None:
    client = server.client()
    data = client.transfercmd("STOR half.jpg")
    data.sendall(PICTURE[:1000])
    client.close()  # as a camera that lost its network: the control connection ends first
    data.close()
    with server.client() as other:
        assert store(other, "good.jpg", PICTURE).startswith("226")
    assert [item.payload for item in server.items()] == [PICTURE]


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "/etc/passwd", "a/../../b.jpg", "C:\\x.jpg", "-rf", "~", "%00"]
)
def test_a_path_is_only_a_name(server: Server, name: str, tmp_path: Path) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    with server.client() as client:
        assert store(client, name, PICTURE).startswith("226")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert server.items()[0].payload == PICTURE


def test_a_camera_may_rename_delete_and_list_what_it_delivered(server: Server) -> None:
    with server.client() as client:
        store(client, "x.tmp", PICTURE)
        assert client.rename("x.tmp", "x.jpg").startswith("250")
        assert client.sendcmd("TYPE I") and client.size("x.jpg") == len(PICTURE)
        client.delete("x.jpg")
        assert client.nlst() == []
        with pytest.raises(ftplib.error_perm):
            client.rename("never.jpg", "x.jpg")
    assert len(server.items()) == 1


@pytest.mark.parametrize("command", ["RETR x.jpg", "APPE x.jpg", "REST 100", "SITE EXEC ls", "MODE C"])
def test_reading_appending_and_resuming_are_refused(server: Server, command: str) -> None:
    with server.client() as client:
        store(client, "x.jpg", PICTURE)
        with pytest.raises(ftplib.error_perm):
            client.sendcmd(command)
        assert store(client, "again.jpg", PICTURE).startswith("226")


def test_a_wrong_password_and_a_removed_camera_are_refused(server: Server) -> None:
    client = ftplib.FTP(timeout=10)
    client.connect("127.0.0.1", server.port)
    with pytest.raises(ftplib.error_perm, match="530"):
        client.login(server.name, "wrong")
    client.close()
    server.logins.remove(SOURCE)
    with pytest.raises(ftplib.error_perm, match="530"):
        server.client()


def test_a_full_store_asks_the_camera_to_come_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with server.client() as client:
        monkeypatch.setattr(Spool, "full", True)
        with pytest.raises(ftplib.error_temp, match="452"):
            store(client, "x.jpg", PICTURE)
        monkeypatch.setattr(Spool, "full", False)
        assert store(client, "x.jpg", PICTURE).startswith("226")


def test_an_address_that_fails_too_often_is_turned_away_for_a_while() -> None:
    now_s = 0.0
    guard = ftp_server.LoginGuard(lambda: now_s)
    for _ in range(ftp_server.FAILURES_MAX):
        assert not guard.turns_away("10.0.0.1")
        guard.failed("10.0.0.1")
    assert guard.turns_away("10.0.0.1")
    assert not guard.turns_away("10.0.0.2")
    now_s = ftp_server.FAILURES_S + 1
    assert not guard.turns_away("10.0.0.1")


def test_with_tls_required_nothing_travels_in_the_clear(tmp_path: Path) -> None:
    server = Server(tmp_path, tls="required")
    try:
        with pytest.raises(ftplib.error_perm, match="550"):
            server.client()
        client = ftplib.FTP_TLS(context=ssl._create_unverified_context(), timeout=10)
        client.connect("127.0.0.1", server.port)
        client.login(server.name, server.password)
        with pytest.raises(ftplib.error_perm, match="550"):
            store(client, "x.jpg", PICTURE)
        client.prot_p()
        assert store(client, "x.jpg", PICTURE).startswith("226")
        client.set_pasv(False)
        assert store(client, "x.jpg", PICTURE).startswith("226")
        with pytest.raises(ftplib.error_temp, match="451 image-truncated"):
            store(client, "y.jpg", PICTURE[:-20])
        client.quit()
        assert [item.payload for item in server.items()] == [PICTURE]
    finally:
        server.close()

"""The mailbox on a real server: what is taken, what is refused, and what waits while something is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from kafka_brokers import eventually, free_port
from sample_imap import PASSWORD, ImapServer, imap_server, mail_of, needs_dovecot
from sample_messages import SOURCE, settings

from agents.device.intake import mailbox
from agents.device.intake.door import IntakeDoor
from agents.device.intake.mailbox import MailAway, Mailbox
from agents.device.store import SITE
from agents.role import outbox
from agents.role.telemetry import Metrics
from models.vision import images
from pipeline.clock import SystemClock
from pipeline.messages import Refusal
from pipeline.settings.intake_keys import MailSettings
from pipeline.spool import Spool

pytestmark = pytest.mark.slow

PICTURES = [images.encode_jpeg(np.full((40, 40, 3), shade, np.uint8)) for shade in (60, 120, 180)]
SENT_S = 1764946007.0


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool.open(tmp_path / "spool.db", limit_bytes=1 << 26)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def running() -> Iterator[ImapServer]:
    with imap_server() as server:
        server.start()
        yield server


def reader(spool: Spool, mail: MailSettings, stop: threading.Event | None = None, states: list[str] | None = None):
    door = IntakeDoor(settings(), spool, Metrics(), SystemClock())
    report = (states if states is not None else []).append
    return Mailbox(mail, {SOURCE: "*+cam1@example.org"}, door, "home", stop or threading.Event(), report)


def reasons(spool: Spool) -> list[str]:
    found = map(outbox.opened, spool.outgoing(SITE, 100, time.time()))
    return [each.reason for each in found if isinstance(each, Refusal)]


@needs_dovecot
@pytest.mark.parametrize("way", ["tls", "starttls"])
def test_pictures_and_reports_are_taken_once_and_the_mail_is_marked_as_read(
    way, running: ImapServer, spool: Spool
) -> None:
    running.deliver(mail_of(*PICTURES, text="Battery: 80%\nTemp: 3 C"))
    running.deliver(mail_of(PICTURES[0]))
    assert running.unread() == 2
    assert not reader(spool, running.settings(way)).look()
    items = list(spool.waiting(10))
    assert [item.payload for item in items[:3]] == PICTURES
    assert {item.captured_at for item in items[:3]} == {SENT_S}
    assert sorted(item.topic.rpartition("/")[2] for item in items) == ["battery", *["garden"] * 3, "temperature"]
    assert running.unread() == 0
    assert reasons(spool) == []


@needs_dovecot
def test_what_is_no_camera_mail_is_refused_and_holds_up_no_other(
    running: ImapServer, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mailbox, "MAIL_MAX_BYTES", 100_000)
    running.deliver(mail_of(PICTURES[0], to="somebody@else.example"))
    running.deliver(mail_of())
    running.deliver(b"From: \xff\r\nContent-Type: multipart/mixed; boundary=\r\n\r\nx")
    running.deliver(mail_of(bytes(200_000)))
    running.deliver(mail_of(b"no picture"))
    running.deliver(mail_of(PICTURES[0]))
    reader(spool, running.settings()).look()
    assert reasons(spool) == ["unknown-sender", "mail-empty", "unknown-sender", "mail-too-large", "report-unreadable"]
    assert [item.payload for item in spool.waiting(10)] == PICTURES[:1]
    assert running.unread() == 0


@needs_dovecot
def test_a_mail_stays_unread_while_the_store_is_full(
    running: ImapServer, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.deliver(mail_of(PICTURES[0]))
    monkeypatch.setattr(Spool, "full", True)
    with pytest.raises(MailAway, match="the store is full"):
        reader(spool, running.settings()).look()
    assert running.unread() == 1
    monkeypatch.setattr(Spool, "full", False)
    reader(spool, running.settings()).look()
    assert (running.unread(), len(list(spool.waiting(10)))) == (0, 1)


@needs_dovecot
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"password": "wrong"}, "refuses the login of cams: check its password"),
        ({"ca": ""}, "the certificate of 127.0.0.1 is not trusted .* intake.mail.ca"),
        ({"folder": 'no "such" folder'}, "has no folder"),
    ],
)
def test_what_a_person_must_change_is_one_clear_line(running: ImapServer, spool: Spool, changes, why: str) -> None:
    with pytest.raises(MailAway, match=why) as away:
        reader(spool, running.settings(**changes)).look()
    assert PASSWORD not in str(away.value)
    assert "\n" not in str(away.value)


def test_a_server_that_is_away_is_one_clear_line(spool: Spool) -> None:
    nobody = MailSettings(host="127.0.0.1", port=free_port(), username="cams", password=PASSWORD)
    with pytest.raises(MailAway, match=r"127\.0\.0\.1: Connection refused"):
        reader(spool, nobody).look()


@needs_dovecot
def test_mails_are_taken_after_the_server_was_away(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(mailbox, "LONGEST_PAUSE_S", 0.1)
    stop, states = threading.Event(), list[str]()
    with imap_server() as server:
        thread = threading.Thread(target=reader(spool, server.settings(), stop, states).run)
        thread.start()
        try:
            eventually(lambda: any(state.startswith("away") for state in states))
            server.deliver(mail_of(PICTURES[0]))
            server.start()
            eventually(lambda: server.unread() == 0)
            assert states[-1] == "read" or states[-1].startswith("away")
            assert [item.payload for item in spool.waiting(10)] == PICTURES[:1]
        finally:
            stop.set()
            thread.join(40)
            assert not thread.is_alive()

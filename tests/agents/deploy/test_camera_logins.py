"""Logins of cameras: a file each, that nobody else reads."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from agents.deploy.camera_logins import CameraLogins, login_name

GARDEN, OTHER = "home/cam1/garden", "home/cam1-a/garden"


def test_a_login_is_made_once_and_belongs_to_its_stream_alone(tmp_path: Path) -> None:
    logins = CameraLogins(tmp_path)
    name, password = logins.add(GARDEN)
    assert (name, logins.add(GARDEN)) == ("cam1.garden", (name, password))
    assert len(password) == 16
    assert password.isalnum()
    other, other_password = logins.add(OTHER)
    assert other_password != password
    streams = [GARDEN, OTHER]
    assert logins.stream_of(name, password, streams) == GARDEN
    assert logins.stream_of(other, password, streams) is None
    assert logins.stream_of(name, "", streams) is None
    assert logins.stream_of(name, "ü" * 16, streams) is None
    assert logins.stream_of("../cam1.garden", password, streams) is None
    assert logins.stream_of(name, password, [OTHER]) is None, "the settings do not name it any more"
    assert logins.names() == ["cam1-a.garden", "cam1.garden"]


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    CameraLogins(tmp_path).add(GARDEN)
    [file] = (tmp_path / "intake").iterdir()
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_removed_login_is_refused_and_a_new_one_has_another_password(tmp_path: Path) -> None:
    logins = CameraLogins(tmp_path)
    name, password = logins.add(GARDEN)
    assert logins.remove(GARDEN)
    assert not logins.remove(GARDEN)
    assert logins.stream_of(name, password, [GARDEN]) is None
    assert logins.add(GARDEN)[1] != password


def test_an_emptied_password_lets_nobody_in(tmp_path: Path) -> None:
    logins = CameraLogins(tmp_path)
    name, _ = logins.add(GARDEN)
    (tmp_path / "intake" / f"{name}.password").write_text("")
    assert logins.stream_of(name, "", [GARDEN]) is None


def test_the_servers_certificate_is_kept_until_its_names_change_or_it_expires(tmp_path: Path) -> None:
    logins, now = CameraLogins(tmp_path), dt.datetime.now(dt.UTC)
    first = logins.certificate(("localhost",), now).read_bytes()
    assert logins.certificate(("localhost",), now).read_bytes() == first
    assert logins.certificate(("localhost",), now + dt.timedelta(days=790)).read_bytes() != first
    assert logins.certificate(("cams.example.org",), now).read_bytes() != first


def test_no_two_streams_share_a_name() -> None:
    assert login_name("home/a-b/c") != login_name("home/a/b-c")

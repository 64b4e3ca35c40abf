"""`tierwise intake`: what a person types into a camera, and what to do where a way in is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from agents.cli.deploying.intake import add, list_cameras, remove
from pipeline.errors import Stop

CAMERA = '[streams."cam1/garden"]\ntask = "wildlife"\n'
FTP = '[intake.ftp]\nport = 2121\nlisten = "0.0.0.0"\npublic = "cams.example.org"\n'
MAIL = '[intake.mail]\nhost = "imap.example.org"\nusername = "cams"\npassword = "hunter2"\n'


def settings(folder: Path, text: str) -> Path:
    file = folder / "tierwise.toml"
    file.write_text(text)
    return file


def test_add_prints_what_to_type_into_the_camera_and_the_same_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = settings(tmp_path, FTP + CAMERA)
    add("cam1", file)
    first = capsys.readouterr().out
    password = (tmp_path / "tierwise-data" / "intake" / "cam1.garden.password").read_text()
    for text in ("cams.example.org", "2121", "cam1.garden", password, "50000-50019", "AUTH TLS", "passive", "binary"):
        assert text in first
    assert '[streams."cam1/battery"]' in first
    add("cam1/garden", file)
    assert capsys.readouterr().out == first
    list_cameras(file)
    listed = capsys.readouterr().out
    assert "home/cam1/garden" in listed
    assert password not in listed
    remove("cam1", file)
    with pytest.raises(Stop, match="has no login"):
        remove("cam1", file)


def test_the_reports_settings_that_it_prints_are_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add("cam1", settings(tmp_path, FTP + CAMERA))
    toml = capsys.readouterr().out.partition("settings:\n\n")[2]
    add("cam1", settings(tmp_path, FTP + CAMERA + toml))
    assert "[streams" not in capsys.readouterr().out


def test_a_camera_by_mail_needs_no_login(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add("cam1", settings(tmp_path, MAIL + CAMERA + 'mail = "*+cam1@example.org"\n'))
    shown = capsys.readouterr().out
    assert "*+cam1@example.org" in shown
    assert "hunter2" not in shown
    assert not (tmp_path / "tierwise-data" / "intake").exists()


@pytest.mark.parametrize(
    ("text", "camera", "why"),
    [
        (CAMERA, "cam1", r"no way in is open: write under \[intake.ftp\] port = 2121"),
        (FTP, "cam1", 'no camera stream "cam1"; add it'),
        (FTP + '[streams."cam1/heat"]\ntask = "meter"\n', "cam1", 'no camera stream "cam1"; add it'),
        (
            FTP + CAMERA + '[streams."cam1/yard"]\n',
            "cam1",
            "several camera streams: name one of cam1/garden, cam1/yard",
        ),
        (FTP.replace("2121", "70000"), "cam1", "intake.ftp.port: expected int <= 65535"),
        (FTP + 'passive_ports = "9-1"\n' + CAMERA, "cam1", 'passive_ports: "9-1" is no range of ports'),
        (FTP + 'tls = "sometimes"\n' + CAMERA, "cam1", "none of required, optional, off"),
        (MAIL + CAMERA, "cam1", "intake.mail: no stream takes mails"),
        (MAIL.replace("password", "#") + CAMERA + 'mail = "x"\n', "cam1", "needs username and password"),
        (FTP + '[streams."cam1/*"]\nmail = "x"\n', "cam1", r"mail: the mails of a camera belong to one stream"),
    ],
)
def test_what_is_missing_is_said_with_what_to_do(text: str, camera: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(Stop, match=why):
        add(camera, settings(tmp_path, text))

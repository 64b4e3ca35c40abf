"""A camera that uploads by FTPS and one that sends e-mail, with real counterparts: answered by all three tiers."""

from __future__ import annotations

import ftplib
import io
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka_brokers import eventually, free_port
from sample_imap import DOVECOT, PASSWORD, ImapServer, imap_server, mail_of, needs_dovecot
from stack import PATIENCE_S, Listener, Stack, Stage, jpeg, photo

from agents.deploy.camera_logins import CameraLogins
from agents.role.run_file import ask_health, running
from pipeline.messages import Result, Tier
from pipeline.settings.settings import STARTER

SOURCE = "home/cam1/garden"
MAIL = 'mail = "*+cam1@example.org"\n'


@pytest.fixture(scope="module")
def imap() -> Iterator[ImapServer]:
    with imap_server() as server:
        if DOVECOT is not None:
            server.start()
        yield server


@pytest.fixture(scope="module")
def site(stage: Stage, imap: ImapServer) -> Iterator[tuple[Stack, int]]:
    """A site that takes both; its FTP port."""
    port = free_port()
    stack = stage.fresh(
        TIERWISE_INTAKE__FTP__PORT=str(port),
        TIERWISE_INTAKE__FTP__PASSIVE_PORTS="21000-21999",
        TIERWISE_DEVICE__SIGHTING_GAP_S="0.001",
        TIERWISE_DEVICE__STILL_S="0.001",
    )
    mail = imap.settings()
    stack.file.write_text(
        STARTER.replace('[streams."cam1/garden"]\n', f'[streams."cam1/garden"]\n{MAIL}')
        + f'[intake.mail]\nhost = "127.0.0.1"\nport = {mail.port}\nusername = "cams"\npassword = "{PASSWORD}"\n'
        + f'ca = "{mail.ca}"\nevery_s = 0.2\n'
    )
    stack.start()
    yield stack, port
    stage.clear()


def last_word_of(listener: Listener, stream: str, tier: Tier, since: set[str]) -> Result:
    """The answer of a tier about an event of this stream that was not answered before."""

    def found() -> Result | None:
        return next(
            (r for r in listener.results if r.stream == stream and r.tier is tier and r.event not in since), None
        )

    return listener.wait(found, f"{tier}'s answer about {stream}", PATIENCE_S)


def upload_by_curl(stack: Stack, port: int, file: Path) -> None:
    name, password = CameraLogins(stack.data).add(SOURCE)
    command = ["curl", "-sS", "--ssl-reqd", "-k", "-T", str(file), "-u", f"{name}:{password}"]
    subprocess.run([*command, f"ftp://127.0.0.1:{port}/2026-11-30/{file.name}"], check=True, timeout=60)


def upload_by_ftplib(stack: Stack, port: int, file: Path) -> None:
    client = ftplib.FTP_TLS(context=ssl._create_unverified_context(), timeout=60)
    client.connect("127.0.0.1", port)
    client.login(*CameraLogins(stack.data).add(SOURCE))
    client.prot_p()
    client.storbinary(f"STOR {file.name}", io.BytesIO(file.read_bytes()))
    client.quit()


@pytest.mark.parametrize("upload", [upload_by_curl, upload_by_ftplib])
def test_a_picture_uploaded_over_ftps_is_answered_by_three_tiers(
    upload: Callable[[Stack, int, Path], None], site: tuple[Stack, int], tmp_path: Path
) -> None:
    if upload is upload_by_curl and shutil.which("curl") is None:
        pytest.skip("no curl here")
    stack, port = site
    file = tmp_path / "IMAG0001.JPG"
    file.write_bytes(jpeg(photo("chelsea.png"), quality=80 + (upload is upload_by_curl)))
    with stack.listen() as listener:
        before = {result.event for result in listener.results}
        upload(stack, port, file)
        answer = last_word_of(listener, "garden", Tier.CLOUD, before)
        assert answer.path[:2] == ("animal", "Felidae")
        upload(stack, port, file.rename(tmp_path / "again.jpg"))
        (tmp_path / "next.jpg").write_bytes(jpeg(photo("chelsea.png"), quality=60 + (upload is upload_by_curl)))
        upload(stack, port, tmp_path / "next.jpg")
        last_word_of(listener, "garden", Tier.CLOUD, before | {answer.event})
        assert len([r for r in listener.answers(answer.event) if r.tier is Tier.DEVICE]) == 1


@needs_dovecot
def test_a_mailed_picture_is_answered_by_three_tiers(site: tuple[Stack, int], imap: ImapServer) -> None:
    stack, port = site
    with stack.listen() as listener:
        before = {result.event for result in listener.results}
        imap.deliver(mail_of(jpeg(photo("chelsea.png"), quality=71), text="Battery: 60%\nTemp: 24 C"))
        assert last_word_of(listener, "garden", Tier.CLOUD, before).path[:2] == ("animal", "Felidae")
        assert last_word_of(listener, "battery", Tier.DEVICE, before).label == "normal"
        eventually(lambda: imap.unread() == 0)
    device = running(stack.data, "device")
    assert device is not None
    assert device.port is not None
    assert ask_health(device.port)[1]["intake"] == f"ftp: listens on 127.0.0.1:{port}, mail: read"
    logs = "".join(file.read_text("utf-8") for file in (stack.data / "logs").glob("*.log"))
    assert PASSWORD not in logs
    assert CameraLogins(stack.data).add(SOURCE)[1] not in logs

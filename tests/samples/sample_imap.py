"""A real IMAP server for tests: Dovecot on free ports of loopback, with a certificate of its own authority."""

from __future__ import annotations

import datetime as dt
import getpass
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Literal

import pytest
from kafka_brokers import eventually, free_port

from agents.deploy.certificates import Authority
from pipeline.settings.intake_keys import MailSettings

DOVECOT = shutil.which("dovecot") or shutil.which("dovecot", path="/usr/sbin")
needs_dovecot = pytest.mark.skipif(DOVECOT is None, reason="no Dovecot here: apt-get install dovecot-imapd")

PASSWORD = "hunter2-of-the-mailbox"

CONFIGURATION = """
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
protocols = imap
listen = 127.0.0.1
ssl = required
ssl_cert = <{folder}/server.pem
ssl_key = <{folder}/key.pem
mail_location = maildir:{folder}/mail
mail_uid = {uid}
mail_gid = {gid}
first_valid_uid = 0
first_valid_gid = 0
default_internal_user = {user}
default_login_user = {user}
default_internal_group = {group}
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={folder}/mail
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {plain}
  }}
  inet_listener imaps {{
    port = {tls}
  }}
}}
service anvil {{
  chroot =
}}
"""


class ImapServer:
    """The server, and its one mailbox."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.tls, self.plain = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._count = 0
        self.ca = folder / "ca.pem"
        now = dt.datetime.now(dt.UTC)
        authority = Authority.make("test", now)
        server = authority.sign(("localhost", "127.0.0.1"), now)
        self.ca.write_bytes(authority.pair.certificate)
        (folder / "server.pem").write_bytes(server.certificate)
        (folder / "key.pem").write_bytes(server.key)
        user = pwd.getpwnam("nobody" if os.geteuid() == 0 else getpass.getuser())
        self._owner = (user.pw_uid, user.pw_gid)
        (folder / "new.conf").write_text(
            CONFIGURATION.format(
                folder=folder,
                uid=user.pw_uid,
                gid=user.pw_gid,
                user=user.pw_name,
                group="nogroup" if os.geteuid() == 0 else user.pw_name,
                password=PASSWORD,
                plain=self.plain,
                tls=self.tls,
            )
        )
        for name in ("mail", "mail/new", "mail/cur", "mail/tmp"):
            (folder / name).mkdir()
            self._own(folder / name)

    def settings(self, way: Literal["tls", "starttls"] = "tls", **changes: str) -> MailSettings:
        """The settings of a mailbox here."""
        port = self.tls if way == "tls" else self.plain
        facts = {"username": "cams", "password": PASSWORD, "ca": str(self.ca)} | changes
        return MailSettings(host="127.0.0.1", port=port, tls=way, every_s=0.1, **facts)  # type: ignore[arg-type]

    def start(self) -> None:
        assert DOVECOT is not None
        self._process = subprocess.Popen(
            [DOVECOT, "-F", "-c", str(self._folder / "new.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(self._listens)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def deliver(self, mail: EmailMessage | bytes) -> None:
        """Put a mail into the mailbox, as a mail server does."""
        self._count += 1
        path = self._folder / "mail" / "tmp" / f"{1_700_000_000 + self._count}.M{self._count}.test"
        path.write_bytes(mail if isinstance(mail, bytes) else mail.as_bytes())
        self._own(path)
        path.rename(path.parent.parent / "new" / path.name)

    def unread(self) -> int:
        """Mails that are not marked as read."""
        mails = [*(self._folder / "mail" / "new").iterdir(), *(self._folder / "mail" / "cur").iterdir()]
        return sum("S" not in mail.name.partition(":2,")[2] for mail in mails)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.tls)) == 0

    def _own(self, path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, *self._owner)


@contextmanager
def imap_server() -> Iterator[ImapServer]:
    """A server that is not started yet, in a folder that its own user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="imap-"))
    folder.chmod(0o755)
    server = ImapServer(folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def mail_of(*pictures: bytes, text: str = "MMS", to: str = "cams+cam1@example.org") -> EmailMessage:
    """A mail of a trail camera."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "camera@maker.example", to, "MMS"
    message["Date"] = "Fri, 05 Dec 2025 15:46:47 +0100"
    message.set_content(text)
    for number, picture in enumerate(pictures, 1):
        message.add_attachment(picture, maintype="application", subtype="octet-stream", filename=f"IMAG{number:04}.JPG")
    return message

"""Read the mailbox that cameras send to, by IMAP over TLS.

::

    unread mail ──size──> fetch ──> whose? ──> files and report ──door──> committed ──> marked as read

A mail is marked as read only after everything in it is committed or refused by name. If the server is away, or the
store is full, the mail stays unread and is taken later. Sources: RFC 9051 (IMAP), RFC 5322 (mail).
"""

from __future__ import annotations

import contextlib
import imaplib
import re
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import structlog

from agents.device.intake import mail_parts
from agents.device.intake.door import IntakeDoor
from agents.device.intake.mail_parts import OpenedMail
from pipeline import topics
from pipeline.errors import Rejected, Retry
from pipeline.settings.intake_keys import MailSettings

log = structlog.get_logger("intake")

TIMEOUT_S: Final = 30.0
MAIL_MAX_BYTES: Final = 48 * 1024 * 1024
"""Two pictures of the largest size. Providers accept 20 to 50 MB."""
BATCH: Final = 50
"""Mails of one connection, so that a full mailbox delays nothing else for long."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 300.0
"""Pauses while the server is away: doubled from the first to the longest."""

_SIZE: Final = re.compile(rb"RFC822\.SIZE (\d+)")


class MailAway(Exception):
    """The mailbox cannot be read now; the text says why, without any secret."""


class Mailbox:
    """Takes the mails of all cameras."""

    def __init__(
        self,
        mail: MailSettings,
        patterns: Mapping[str, str],
        door: IntakeDoor,
        site: str,
        stop: threading.Event,
        report: Callable[[str], None],
    ) -> None:
        """`patterns` are those of the streams that take mails; `report` gets the state for `/health`."""
        self._mail = mail
        self._patterns = patterns
        self._door = door
        self._rejected = f"mail/{site}"
        self._stop = stop
        self._report = report

    def run(self) -> None:
        """Look into the mailbox until `stop` is set."""
        pause_s = FIRST_PAUSE_S
        while not self._stop.is_set():
            try:
                more = self.look()
            except MailAway as error:
                self._report(f"away: {error}")
                log.warning("the mailbox is away", why=str(error), again_in_s=pause_s)
                self._stop.wait(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            self._report("read")
            pause_s = FIRST_PAUSE_S
            if not more:
                self._stop.wait(self._mail.every_s)

    def look(self) -> bool:
        """Take unread mails; return whether there are more. Raises `MailAway`."""
        try:
            with self._opened() as imap:
                unread = _ok(imap.uid("SEARCH", "UNSEEN"))[0].split()
                for uid in unread[:BATCH]:
                    if self._stop.is_set():
                        break
                    self._take(imap, uid.decode())
                return len(unread) > BATCH
        except ssl.SSLCertVerificationError as error:
            raise MailAway(
                f"the certificate of {self._mail.host} is not trusted ({error.verify_message}): write the file of the "
                "certificates that sign it as intake.mail.ca"
            ) from None
        except Retry as error:
            raise MailAway(f"mails wait, since {error}") from None
        except (imaplib.IMAP4.error, OSError, EOFError) as error:
            raise MailAway(f"{self._mail.host}: {_said(error)}") from None

    @contextlib.contextmanager
    def _opened(self) -> Iterator[imaplib.IMAP4]:
        mail = self._mail
        context = ssl.create_default_context(cafile=mail.ca or None)
        imap: imaplib.IMAP4
        if mail.tls == "tls":
            imap = imaplib.IMAP4_SSL(mail.host, mail.port, ssl_context=context, timeout=TIMEOUT_S)
        else:
            imap = imaplib.IMAP4(mail.host, mail.port, timeout=TIMEOUT_S)
        try:
            if mail.tls == "starttls":
                imap.starttls(context)
            try:
                imap.login(mail.username, mail.password)
            except imaplib.IMAP4.abort:
                raise
            except imaplib.IMAP4.error:
                raise MailAway(f"{mail.host} refuses the login of {mail.username}: check its password") from None
            folder = mail.folder.replace("\\", "\\\\").replace('"', '\\"')
            status, _ = imap.select(f'"{folder}"')
            if status != "OK":
                raise MailAway(f'{mail.host} has no folder "{mail.folder}": correct intake.mail.folder')
            yield imap
        finally:
            with contextlib.suppress(imaplib.IMAP4.error, OSError):
                imap.logout()

    def _take(self, imap: imaplib.IMAP4, uid: str) -> None:
        """Commit or refuse a mail, then mark it as read. Raises `Retry`."""
        found = _SIZE.search(b" ".join(_parts(_ok(imap.uid("FETCH", uid, "(RFC822.SIZE)")))))
        if found is None:  # another client deleted it
            return
        if int(found[1]) > MAIL_MAX_BYTES:
            error = Rejected("mail-too-large", f"{int(found[1]):,} bytes, the limit is {MAIL_MAX_BYTES:,}")
            self._door.refuse(error, self._rejected, f"mail {uid}", b"")
        else:
            answer = _ok(imap.uid("FETCH", uid, "(BODY.PEEK[])"))
            data = next((part[1] for part in answer if isinstance(part, tuple)), None)
            if data is None:
                return
            self._deliver(uid, data)
        _ok(imap.uid("STORE", uid, "+FLAGS.SILENT", r"(\Seen)"))

    def _deliver(self, uid: str, data: bytes) -> None:
        try:
            mail = mail_parts.opened(data)
        except Exception as error:  # an odd mail holds up no other
            log.exception("a mail caused an internal error and is refused")
            why = Rejected("mail-unreadable", f"it cannot be taken apart ({type(error).__name__})")
            self._door.refuse(why, self._rejected, f"mail {uid}", data)
            return
        self._deliver_parts(f"mail {uid}", mail, data)

    def _deliver_parts(self, name: str, mail: OpenedMail, data: bytes) -> None:
        source = mail_parts.source_of(mail, self._patterns)
        if source is None:
            error = Rejected("unknown-sender", "no stream takes mails of these addresses: set `mail` under its stream")
            self._door.refuse(error, self._rejected, name, data)
            return
        if not mail.files and not mail.report:
            error = Rejected("mail-empty", "neither a picture nor a report with a battery, temperature or signal")
            self._door.refuse(error, topics.frame(*source.split("/")), name, data)
            return
        for file in mail.files:
            self._door.deliver(source, f"{name}/{file.name}", file.data, sent_s=mail.sent_s)
        if mail.report:
            self._door.deliver(source, f"{name}/text", mail.report.encode(), sent_s=mail.sent_s)


def _ok(answer: tuple[str, list[Any]]) -> list[Any]:
    """Return the data of an answer. Raises `imaplib.IMAP4.error` if the server refused."""
    status, data = answer
    if status != "OK":
        raise imaplib.IMAP4.error(f"the server answers {status}")
    return [part for part in data if part is not None]


def _parts(data: list[Any]) -> Iterator[bytes]:
    for part in data:
        yield part[0] if isinstance(part, tuple) else part


def _said(error: BaseException) -> str:
    """Return an error's text on one line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200] or type(error).__name__

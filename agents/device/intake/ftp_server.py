"""The FTP server that cameras upload to: explicit TLS, a login a camera, and no file on the disk.

A camera sees folders of its own, which exist only in its session. A file is kept in memory until it is whole, then it
is committed, and only then the camera gets its reply. An upload that breaks off leaves nothing::

    STOR ──bytes──> memory ──connection closed──> door ──> 226, or 550 refused, or 451/452 send it again

Nothing can be read back, appended or resumed. Every transfer is binary, whatever type the camera asks for. Names are
only names: renaming and deleting change nothing that was delivered.

Sources: RFC 959 (FTP), RFC 2228 and 4217 (TLS), RFC 2577 (security).
"""

from __future__ import annotations

import errno
import io
import posixpath
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from OpenSSL import SSL
from pyftpdlib.authorizers import AuthenticationFailed, DummyAuthorizer
from pyftpdlib.exceptions import FilesystemError
from pyftpdlib.filesystems import AbstractedFS
from pyftpdlib.handlers import DTPHandler, FTPHandler, TLS_DTPHandler, TLS_FTPHandler
from pyftpdlib.ioloop import IOLoop
from pyftpdlib.servers import FTPServer

from pipeline.errors import Rejected, Retry
from pipeline.messages import FRAME_MAX_BYTES
from pipeline.settings.intake_keys import FtpSettings

CONNECTIONS_MAX: Final = 40
"""Sockets at a time, of control and data together; an upload takes two, and at most 16 MiB of memory."""
UPLOAD_MAX_BYTES: Final = 16 * FRAME_MAX_BYTES
"""A larger file is cut off; a smaller one that is too large is refused by its name when it is whole."""
FILES_MAX: Final = 1000
"""Names that a session remembers."""
IDLE_S: Final = 120
"""A connection or transfer on which nothing happens for so long is closed. Cellular connections are slow."""
FAILURES_MAX: Final = 10
"""Failed logins of one address within `FAILURES_S`, after which it is turned away for as long."""
FAILURES_S: Final = 600.0
POLL_S: Final = 0.5

TRANSIENT: Final = frozenset({"image-truncated"})
"""Refusals after which the camera should send the file again: it was cut on its way."""

Login = Callable[[str, str], str | None]
"""Return the stream of a user name and a password, or None."""
Deliver = Callable[[str, str, bytes, int], Rejected | None]
"""`agents.device.intake.door.IntakeDoor.deliver`."""


class Upload(io.BytesIO):
    """A file while a camera sends it. What is longer than a picture may be is counted and not kept."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.size = 0

    def write(self, data: Any, /) -> int:
        """Add bytes. Raises `OSError` far beyond the limit of a picture, which ends the transfer."""
        self.size += len(data)
        if self.size > UPLOAD_MAX_BYTES:
            raise OSError(errno.EFBIG, "this file is too large")
        return super().write(data) if self.size <= FRAME_MAX_BYTES else len(data)


class _Folders(AbstractedFS):  # type: ignore[misc]
    """The folders that a camera sees: any that it names, and the names of what it delivered in this session."""

    def __init__(self, root: str, cmd_channel: Any) -> None:
        super().__init__(root, cmd_channel)
        self.files: dict[str, int] = {}

    def ftp2fs(self, ftppath: str) -> str:
        return str(self.ftpnorm(ftppath))  # `..` leads no further up than the root

    def fs2ftp(self, fspath: str) -> str:
        return fspath

    def validpath(self, path: str) -> bool:
        return True  # nothing of it is on the disk

    def realpath(self, path: str) -> str:
        return path

    def open(self, filename: str, mode: str) -> Upload:
        return Upload(filename)

    def mkstemp(self, suffix: str = "", prefix: str = "", dir: str | None = None, mode: str = "wb") -> Upload:
        return Upload(posixpath.join(dir or "/", f"{prefix}{time.monotonic_ns()}{suffix}"))

    def chdir(self, path: str) -> None:
        self.cwd = path

    def mkdir(self, path: str) -> None:
        pass

    rmdir = mkdir

    def listdir(self, path: str) -> list[str]:
        return []

    def remove(self, path: str) -> None:
        if self.files.pop(path, None) is None:
            raise FilesystemError("No such file")

    def rename(self, src: str, dst: str) -> None:
        self.files[dst] = self.files.pop(src)

    def chmod(self, path: str, mode: int) -> None:
        pass

    def utime(self, path: str, timeval: float) -> None:
        pass

    def isfile(self, path: str) -> bool:
        return path in self.files

    lexists = isfile

    def isdir(self, path: str) -> bool:
        return path not in self.files

    def getsize(self, path: str) -> int:
        return self.files[path]

    def getmtime(self, path: str) -> float:
        return time.time()

    def lstat(self, path: str) -> Any:
        raise FilesystemError("No such file")

    stat = lstat


class _Logins(DummyAuthorizer):  # type: ignore[misc]
    """Lets cameras in. Everything but reading is allowed: the session's folders decide what it means."""

    def __init__(self, login: Login) -> None:
        super().__init__()
        self._login = login

    def validate_authentication(self, username: str, password: str, handler: Any) -> None:
        handler.source = self._login(username, password)
        if handler.source is None:
            raise AuthenticationFailed("Login incorrect.")

    def get_home_dir(self, username: str) -> str:
        return "/"

    def has_perm(self, username: str, perm: str, path: str | None = None) -> bool:
        return perm != "r"

    def get_perms(self, username: str) -> str:
        return "elamwdfMT"

    def get_msg_login(self, username: str) -> str:
        return "Upload your pictures."

    def get_msg_quit(self, username: str) -> str:
        return "Goodbye."


class LoginGuard:
    """Counts failed logins of each address."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._failed: dict[str, list[float]] = {}

    def failed(self, address: str) -> None:
        """Count one."""
        now_s = self._now()
        self._failed = {ip: times for ip, times in self._failed.items() if times[-1] > now_s - FAILURES_S}
        self._failed.setdefault(address, []).append(now_s)

    def turns_away(self, address: str) -> bool:
        """Return whether an address failed too often."""
        times = self._failed.get(address, [])[-FAILURES_MAX:]
        return len(times) == FAILURES_MAX and times[0] > self._now() - FAILURES_S


class _Receiving(DTPHandler):  # type: ignore[misc]
    """A data connection: the file is committed before the camera is told that the transfer is complete."""

    timeout = IDLE_S
    reply = ""
    _resp: Any

    def enable_receiving(self, _type: str, cmd: str) -> None:
        super().enable_receiving("i", cmd)

    def close(self) -> None:
        whole = self.file_obj is not None and self.receive and self.transfer_finished
        if not self._closed and whole and self._resp and self._resp[0].startswith("226"):
            self.reply = self.reply or self.cmd_channel.delivered(self.file_obj)  # closing TLS comes here again
            self._resp = (self.reply, self._resp[1])
        super().close()


class _TlsReceiving(_Receiving, TLS_DTPHandler):  # type: ignore[misc]
    """The same with TLS."""


class _Session(FTPHandler):  # type: ignore[misc]
    """A control connection."""

    dtp_handler = _Receiving

    deliver: Deliver
    guard: LoginGuard
    source: str | None = None
    timeout = IDLE_S
    banner = "Tierwise ready."
    abstracted_fs = _Folders
    unicode_errors = "replace"

    def handle(self) -> None:
        if self.guard.turns_away(self.remote_ip):
            self.respond("421 Too many failed logins: try again in ten minutes.")
            self.close_when_done()
        else:
            super().handle()

    def on_login_failed(self, username: str, password: str) -> None:
        self.guard.failed(self.remote_ip)

    def ftp_REST(self, line: str) -> None:
        self.respond("502 No upload is resumed: send the whole file again.")

    def ftp_APPE(self, file: str) -> None:
        self.respond("502 Nothing is appended: send the whole file with STOR.")

    def delivered(self, upload: Upload) -> str:
        """Commit a file; return the reply."""
        try:
            error = type(self).deliver(self.source or "", upload.name, upload.getvalue(), upload.size)
        except Retry as busy:
            return f"452 {busy}: send it again later."
        if error is not None:
            return f"{451 if error.reason in TRANSIENT else 550} {error.reason}: {error}".replace("\n", " ")
        if len(self.fs.files) < FILES_MAX:
            self.fs.files[upload.name] = upload.size
        return "226 Transfer complete."


class _TlsSession(_Session, TLS_FTPHandler):  # type: ignore[misc]
    """The same with TLS."""

    dtp_handler = _TlsReceiving


def serve(
    ftp: FtpSettings,
    certificate: str,
    *,
    login: Login,
    deliver: Deliver,
    stop: threading.Event,
    guard: LoginGuard,
    on_start: Callable[[int], None] = lambda _port: None,
) -> None:
    """Serve until `stop` is set. `on_start` gets the port. Raises `OSError` if the port cannot be opened.

    `certificate` is a PEM file with certificate and key, needed unless TLS is off.
    """
    facts: dict[str, Any] = {
        "authorizer": _Logins(login),
        "deliver": staticmethod(deliver),
        "guard": guard,
        "passive_ports": ftp.passive_range,
        "masquerade_address": socket.gethostbyname(ftp.public) if ftp.public else None,
    }
    if ftp.tls != "off":
        required = ftp.tls == "required"
        facts |= {"certfile": certificate, "tls_control_required": required, "tls_data_required": required}
    session: Any = type("Session", (_Session if ftp.tls == "off" else _TlsSession,), facts)
    if ftp.tls != "off":
        try:
            session.get_ssl_context()
        except SSL.Error:
            raise OSError(f"{certificate} does not hold a certificate and its key in PEM form") from None
    loop = IOLoop()
    try:
        server = FTPServer((ftp.listen, ftp.port), session, ioloop=loop)
        server.max_cons = CONNECTIONS_MAX
        on_start(int(server.address[1]))
        while not stop.is_set():
            server.serve_forever(timeout=POLL_S, blocking=False, handle_exit=False)
    finally:
        loop.close()

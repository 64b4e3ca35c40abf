"""The logins of cameras that upload by FTP: a file for each, in a folder that only the user of the device role reads.

The name of a login is that of its stream, ``cam1.garden`` for ``home/cam1/garden``: a dot is in no name, so no two
streams share a login. A password has 16 letters and digits (79 bits), since cameras are set up with a few keys::

    logins = CameraLogins(data_dir)
    name, password = logins.add("home/cam1/garden")
    logins.stream_of(name, password, streams)           # "home/cam1/garden"
"""

from __future__ import annotations

import datetime as dt
import hmac
import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from agents.deploy.certificates import Authority, Pair, is_current
from pipeline.files import private_files

FOLDER: Final = "intake"
ALPHABET: Final = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without letters that look like others."""
PASSWORD_CHARS: Final = 16
SUFFIX: Final = ".password"


class CameraLogins:
    """The logins under one data folder."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / FOLDER

    def add(self, source: str) -> tuple[str, str]:
        """Return name and password of a stream's login. Make it if it is missing. Raises `OSError`."""
        name = login_name(source)
        path = self._folder / f"{name}{SUFFIX}"
        if (known := self._password(path)) is None:
            known = "".join(secrets.choice(ALPHABET) for _ in range(PASSWORD_CHARS))
            self._put(path, known.encode())
        return name, known

    def remove(self, source: str) -> bool:
        """Remove a stream's login; return False if it had none. Raises `OSError`."""
        path = self._folder / f"{login_name(source)}{SUFFIX}"
        found = path.exists()
        path.unlink(missing_ok=True)
        return found

    def names(self) -> list[str]:
        """Return the names of all logins."""
        return sorted(path.name.removesuffix(SUFFIX) for path in self._folder.glob(f"*{SUFFIX}"))

    def stream_of(self, name: str, password: str, sources: Iterable[str]) -> str | None:
        """Return the stream of a login, if the password is right and the stream is one of `sources`."""
        source = next((source for source in sources if login_name(source) == name), None)
        known = self._password(self._folder / f"{login_name(source)}{SUFFIX}") if source else None
        right = hmac.compare_digest((known or "-" * PASSWORD_CHARS).encode(), password.encode("utf-8", "replace"))
        return source if known and right else None

    def certificate(self, names: Sequence[str], now: dt.datetime) -> Path:
        """Return a PEM file with a certificate for these names and its key. Make it anew before it expires."""
        path = self._folder / "server.pem"
        pem = path.read_bytes() if path.exists() else b""
        if not pem or not is_current(Pair(pem, pem), names, now):
            pair = Authority.make("Tierwise intake", now).sign(names, now)
            self._put(path, pair.certificate + pair.key)
        return path

    @staticmethod
    def _password(path: Path) -> str | None:
        try:
            return path.read_text("ascii").strip() or None
        except (FileNotFoundError, UnicodeDecodeError):
            return None

    def _put(self, path: Path, content: bytes) -> None:
        private_files.make_folder(self._folder)
        fresh = path.with_name(f".{path.name}.new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, private_files.FILE_MODE), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)


def login_name(source: str) -> str:
    """Return the name of a stream's login."""
    return ".".join(source.split("/")[1:])

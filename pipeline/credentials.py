"""Credentials in the addresses of cameras and servers: kept out of every text that people or files see.

`hidden` stands wherever a text leaves a process: logs, `/health`, errors, status, `tierwise doctor`::

    >>> hidden("rtsp://admin:hunter2@10.0.0.7:554/live?channel=1 does not answer")
    'rtsp://***@10.0.0.7:554/live?*** does not answer'
    >>> with_login("rtsp://10.0.0.7/live", "admin:p@ss/word")
    'rtsp://admin:p%40ss%2Fword@10.0.0.7/live'
"""

from __future__ import annotations

import re
import urllib.parse
from typing import Final

_ADDRESS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)((?:[^\n/]*@)?\S+)")
_LOGIN: Final = re.compile(r"[^\s/:@]+:[^\s/@]+@")
"""A login without a scheme before it, as in ``admin:hunter2@10.0.0.7``."""
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:/?#]*)((?::[0-9]{1,5})?)(?=[/?#),;'\"\s]|[:.]?$|:\s)")
_TELLING: Final = re.compile(r"[=&;%@:]")
"""Some cameras take the login in the path: ``/user=admin_password=hunter2_channel=1``."""


def hidden(text: str) -> str:
    """Return a text without the user names, passwords and queries of the addresses in it."""
    return _LOGIN.sub("***@", _ADDRESS.sub(_without, text)) if "@" in text or "://" in text else text


def _without(found: re.Match[str]) -> str:
    scheme, rest = found.groups()
    _, at, rest = rest.rpartition("@")
    server = _HOST.match(rest)
    if server is None:
        return f"{scheme}***"
    path, query, _ = rest[server.end() :].partition("?")
    path = f"{path[:1]}***" if _TELLING.search(path.rstrip(":,;")) else path
    return f"{scheme}{'***@' if at else ''}{server[0]}{path}{'?***' if query else ''}"


def with_login(address: str, login: str) -> str:
    """Return a URL with a login, ``user:password``, put in and escaped. Another text is returned unchanged."""
    scheme, found, rest = address.partition("://")
    if not (found and login):
        return address
    user, colon, password = login.partition(":")
    escaped = urllib.parse.quote(user, safe="") + colon + urllib.parse.quote(password, safe="")
    return f"{scheme}://{escaped}@{rest}"

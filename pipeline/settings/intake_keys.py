"""The keys of `[intake]`: how cameras that speak neither MQTT nor RTSP deliver their pictures."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from pipeline.settings.addresses import LOOPBACK
from pipeline.settings.section import Port, PositiveSeconds, Section

NO_SERVER: Final = 0


class FtpSettings(Section, frozen=True, kw_only=True):
    """The FTP server that cameras upload to."""

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = NO_SERVER
    """Port of the server, as 2121. 0: no server runs."""
    listen: str = LOOPBACK
    """Address of this machine that the server listens on. `"0.0.0.0"`: on all of them."""
    public: str = ""
    """Name or address by which cameras reach the server, if a router or a tunnel stands between. Empty: `listen`."""
    passive_ports: str = "50000-50019"
    """Ports of the data connections, first to last. A router or firewall has to let them in, too."""
    tls: Literal["required", "optional", "off"] = "required"
    """FTPS (explicit TLS). `"optional"` also lets cameras in that cannot encrypt: their passwords and pictures travel
    in the clear. `"off"`: FTP alone."""
    certificate: str = ""
    """PEM file of the server's certificate and its key. Empty: Tierwise makes its own, which cameras take that do not
    check it."""

    @property
    def passive_range(self) -> range:
        """The ports of the data connections. Raises `ValueError` if they are no range."""
        first, dash, last = self.passive_ports.partition("-")
        ports = range(int(first), int(last if dash else first) + 1)
        if not ports or not (ports[0] >= 1024 and ports[-1] <= 65535):
            raise ValueError("no range")
        return ports


class MailSettings(Section, frozen=True, kw_only=True):
    """The mailbox that cameras send to. It is read by IMAP over TLS."""

    host: str = ""
    """IMAP server, as `"imap.example.org"`. Empty: no mail is read."""
    port: Port = 993
    """Port of the server."""
    tls: Literal["tls", "starttls"] = "tls"
    """`"starttls"` begins in the clear (usually on port 143) and turns to TLS before the login."""
    username: str = ""
    """Login of the mailbox."""
    password: str = ""
    """Password of the login. Better kept in a file of its own."""
    password_file: str = ""
    """File that holds the password."""
    ca: str = ""
    """PEM file of the certificates that sign the server's. Empty: those that the system trusts."""
    folder: str = "INBOX"
    """Folder of the cameras' mails. Unread mails are taken, and marked as read once their pictures are stored."""
    every_s: PositiveSeconds = 60
    """Seconds between two looks into the mailbox."""


class IntakeSettings(Section, frozen=True, kw_only=True):
    """Both ways."""

    ftp: FtpSettings = FtpSettings()
    mail: MailSettings = MailSettings()

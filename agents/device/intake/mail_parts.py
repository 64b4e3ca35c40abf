"""Take a camera's mail apart: its pictures, its report, and the addresses that say whose it is. Pure.

Pictures are known by their bytes, not by their names or types: cameras send them as ``application/octet-stream``,
within forwarded mails, and with names in any encoding.
"""

from __future__ import annotations

import html
import itertools
import re
from collections.abc import Iterator, Mapping
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import EmailPolicy
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from typing import Final, NamedTuple, cast

from agents.device.intake.reports import REPORT_MAX_BYTES, values_of

_ADDRESSED: Final = ("from", "sender", "to", "cc", "delivered-to", "x-original-to", "envelope-to")
_ATTACHED: Final = ("image/", "application/octet-stream", "video/", "text/plain")
HEADER_MAX_CHARS: Final = 4096
HEADERS_MAX: Final = 20
"""Headers of one name that are looked at."""

_ADDRESS: Final = re.compile(r"""[^\s<>,;:"()]+@[^\s<>,;:"()]+""")
_TAG: Final = re.compile(r"<(?:br|/p|/tr|/div|/li)[^<>]*>", re.IGNORECASE)
_ANY_TAG: Final = re.compile(r"<(style|script)\b[^<]*</\1>|<[^<>]*>", re.IGNORECASE)


class _BoundedPolicy(EmailPolicy):
    """Cuts headers off that would take the parser minutes: it is quadratic."""

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        name, value = super().header_source_parse(sourcelines)
        return name, value[:HEADER_MAX_CHARS]


_BOUNDED: Final = _BoundedPolicy()


class MailFile(NamedTuple):
    """A file in a mail."""

    name: str
    data: bytes


class OpenedMail(NamedTuple):
    """The parts of a mail that count."""

    subject: str
    addresses: tuple[str, ...]
    files: tuple[MailFile, ...]
    report: str
    """Its text, if that is a report; else empty."""
    sent_s: float | None
    """Its date, in seconds since the epoch."""


def opened(data: bytes) -> OpenedMail:
    """Return the parts of a mail, whatever it is: a damaged one has fewer."""
    message = cast("EmailMessage", BytesParser(EmailMessage, policy=_BOUNDED).parsebytes(data))
    files, texts = [], []
    for number, part in enumerate(_leaves(message), 1):
        kind, name = part.get_content_type(), _name(part)
        if kind in ("text/plain", "text/html") and not name:
            texts.append((kind, _text(part)))
        elif kind.startswith(_ATTACHED) or name:
            payload = part.get_payload(decode=True)
            files.append(MailFile(name or f"part {number}", payload if isinstance(payload, bytes) else b""))
    plain = [text for kind, text in texts if kind == "text/plain" and text.strip()]
    text = "\n".join(plain or [_without_tags(text) for _, text in texts])[:REPORT_MAX_BYTES]
    return OpenedMail(
        subject=_header(message, "subject"),
        addresses=tuple(dict.fromkeys(_addresses(message))),
        files=tuple(files),
        report=text if values_of(text) else "",
        sent_s=_sent_s(message),
    )


def source_of(mail: OpenedMail, patterns: Mapping[str, str]) -> str | None:
    """Return the stream whose pattern fits an address or the subject; patterns without ``*`` and ``?`` count first."""
    candidates = [*mail.addresses, mail.subject.casefold()]
    for source, pattern in sorted(patterns.items(), key=lambda item: ("*" in item[1] or "?" in item[1], -len(item[1]))):
        if any(fnmatchcase(candidate, pattern.casefold()) for candidate in candidates):
            return source
    return None


def _leaves(message: EmailMessage) -> Iterator[EmailMessage]:
    """Yield the parts that hold something, those of forwarded mails included."""
    for part in message.walk():
        if not part.is_multipart() and isinstance(part, EmailMessage):
            yield part


def _header(message: EmailMessage, name: str) -> str:
    try:
        return str(message.get(name, ""))
    except Exception:  # headers of hostile or odd mails: the library lists no errors
        return ""


def _sent_s(message: EmailMessage) -> float | None:
    try:
        return parsedate_to_datetime(_header(message, "date")).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None


def _addresses(message: EmailMessage) -> Iterator[str]:
    for name in _ADDRESSED:
        values = (str(value) for key, value in message.raw_items() if key.casefold() == name)
        for value in itertools.islice(values, HEADERS_MAX):
            yield from (address.casefold() for address in _ADDRESS.findall(value))


def _name(part: EmailMessage) -> str:
    try:
        return part.get_filename() or ""
    except Exception:  # as above
        return ""


def _text(part: EmailMessage) -> str:
    data = part.get_payload(decode=True)
    if not isinstance(data, bytes):
        return ""
    data = data[:REPORT_MAX_BYTES]
    try:
        return data.decode(part.get_content_charset() or "utf-8", "replace")
    except LookupError:
        return data.decode("utf-8", "replace")


def _without_tags(text: str) -> str:
    return html.unescape(_ANY_TAG.sub("", _TAG.sub("\n", text)))

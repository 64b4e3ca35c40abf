"""Sealing: what is above a tier's level may pass it or rest there, but not be read.

AES-256-GCM (NIST SP 800-38D) with the envelope's own header as associated data: a record that was misrouted cannot be
read, and one that was relabelled (another level, source, kind, time, ...) does not open. The site's key opens
edge-private records, the user's key user-private ones::

    >>> keyring = Keyring(site=Key.of(Privacy.EDGE_PRIVATE, bytes(32)), user=Key.of(Privacy.USER_PRIVATE, bytes(32)))
    >>> sealed = seal(Envelope(event="e", kind=Kind.FEATURE, privacy=Privacy.EDGE_PRIVATE, key="home/cam1",
    ...               payload=b"feature", source="home/cam1/garden"), keyring.site)
    >>> unseal(sealed, keyring)
    b'feature'

A user-private record's header must tell neither device nor time, and an event's id tells both: it begins with the
time (UUIDv7), and public records of the same event name the device. So `build_private` gives the record an id and a
routing key of its own, both HMACs, and puts what it hides into the sealed payload; `open_private` gives it back.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec

from pipeline.errors import Rejected, Stop
from pipeline.files.fsync import directory_to_disk
from pipeline.messages import Envelope, Kind, Privacy

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
"""96 random bits, as GCM is made for; safe for 2**32 records a key, which is 136 years of one a second."""
TAG_BYTES: Final = 16
OVERHEAD_BYTES: Final = NONCE_BYTES + TAG_BYTES
ROUTING_KEY: Final = re.compile(r"[0-9a-f]{32}")
PSEUDONYM: Final = re.compile(r"[0-9a-f]{12}")
FORMAT: Final = "tierwise-seal-1"
"""First of the associated data: another format never opens as this one."""
_FILES: Final = {Privacy.EDGE_PRIVATE: "site.key", Privacy.USER_PRIVATE: "user.key"}


@dataclass(frozen=True, slots=True)
class Key:
    """32 secret bytes that open the records of one level; `id` names them in `Envelope.sealed_by`."""

    level: Privacy
    id: str
    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, level: Privacy, secret: bytes) -> Key:
        name = _FILES[level].removesuffix(".key")
        return cls(level, f"{name}-{_derive(secret, 'id')[:8].hex()}", secret)


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys that this agent has."""

    site: Key | None = None
    user: Key | None = None

    @classmethod
    def open(cls, folder: Path, *, create: bool) -> Keyring:
        """Read ``site.key`` and ``user.key``; with `create` make those that are missing, readable by their owner only.

        Raises
        ------
        Stop
            A key file cannot be read or made, is readable by others, or is no key.
        """
        site, user = (_read_key(folder / name, level, create=create) for level, name in _FILES.items())
        return cls(site, user)

    def named(self, key_id: str) -> Key | None:
        return next((key for key in (self.site, self.user) if key is not None and key.id == key_id), None)


def seal(envelope: Envelope, key: Key) -> Envelope:
    """The envelope with its payload sealed: nonce, ciphertext, tag.

    Raises
    ------
    Rejected
        ``seal``: it is sealed already, or this key is not for its level.
    """
    if envelope.sealed_by:
        raise Rejected("seal", f"{envelope.id}: already sealed by {envelope.sealed_by}")
    if key.level is not envelope.privacy:
        raise Rejected("seal", f"{envelope.id}: is {envelope.privacy}; {key.id} seals what is {key.level}")
    named = msgspec.structs.replace(envelope, sealed_by=key.id)
    nonce = os.urandom(NONCE_BYTES)
    sealed = nonce + _cipher(key).encrypt(nonce, envelope.payload, header(named))
    return msgspec.structs.replace(named, payload=sealed)


def unseal(envelope: Envelope, keyring: Keyring) -> bytes:
    """The payload in the clear.

    Raises
    ------
    Rejected
        ``seal``: the key is not here, or payload or header were changed since.
    """
    from cryptography.exceptions import InvalidTag

    key = keyring.named(envelope.sealed_by)
    if key is None:
        raise Rejected(
            "seal", f"{envelope.id}: sealed by {envelope.sealed_by or 'nobody'}, whose key is not here"
        )
    nonce, ciphertext = envelope.payload[:NONCE_BYTES], envelope.payload[NONCE_BYTES:]
    try:
        if len(ciphertext) < TAG_BYTES:
            raise InvalidTag
        return _cipher(key).decrypt(nonce, ciphertext, header(envelope))
    except InvalidTag:
        raise Rejected(
            "seal", f"{envelope.id}: does not open: header or payload were changed since"
        ) from None


def header(envelope: Envelope) -> bytes:
    """All of the envelope but its payload, in one canonical spelling: the associated data."""
    return msgspec.msgpack.encode(
        (
            FORMAT,
            envelope.event,
            envelope.kind,
            envelope.privacy,
            envelope.key,
            envelope.source,
            envelope.time,
            envelope.space,
            envelope.revision,
            envelope.sealed_by,
        )
    )


# --- user-private records --------------------------------------------------------------------------------------


class Hidden(msgspec.Struct, frozen=True, array_like=True):
    """What a user-private record really is; only ever encoded to be sealed."""

    event: str
    source: str
    time: str
    space: str
    revision: int
    payload: bytes


def build_private(
    key: Key,
    *,
    event: str,
    kind: Kind,
    source: str,
    time: str,
    payload: bytes,
    space: str = "",
    revision: int = 1,
) -> Envelope:
    """A sealed user-private envelope that tells its kind and nothing else.

    Equal event, kind and revision give an equal id, so repeats are known as such.
    """
    hidden = Hidden(event, source, time, space, revision, payload)
    envelope = Envelope(
        event=_blind_id(key.secret, f"{event}/{revision}"),
        kind=kind,
        privacy=Privacy.USER_PRIVATE,
        key=routing_key(key, source),
        payload=msgspec.msgpack.encode(hidden),
    )
    return seal(envelope, key)


def open_private(envelope: Envelope, keyring: Keyring) -> Hidden:
    """What `build_private` hid.

    Raises
    ------
    Rejected
        ``seal``: as `unseal`, or the record was sealed in another way.
    """
    try:
        return msgspec.msgpack.decode(unseal(envelope, keyring), type=Hidden)
    except msgspec.DecodeError:
        raise Rejected("seal", f"{envelope.id}: opens, but holds no user-private record") from None


def pseudonym(key: Key, person: str) -> str:
    """What a person of a site is called outside of it: always the same, and nobody without the key knows who."""
    return _derive(key.secret, "person", person)[:6].hex()


def routing_key(key: Key, source: str) -> str:
    """Keeps one stream's records together without naming it."""
    return _derive(key.secret, "route", source)[:16].hex()


def _blind_id(secret: bytes, text: str) -> str:
    """A UUIDv8 (RFC 9562: content of one's own) that tells nothing without the key."""
    number = int.from_bytes(_derive(secret, "event", text)[:16], "big")
    number = number & ~(0xF << 76) | 0x8 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return str(UUID(int=number))


# --- keys ------------------------------------------------------------------------------------------------------


def _derive(secret: bytes, purpose: str, text: str = "") -> bytes:
    """HMAC-SHA256; a purpose of its own for each use, so that no two uses share a key."""
    return hmac.digest(secret, f"tierwise/{purpose}/{text}".encode(), hashlib.sha256)


def _cipher(key: Key) -> AESGCM:
    # Imported where it is used: the gate reads this file's constants in every role, and few of them seal.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(_derive(key.secret, "seal"))


def _read_key(path: Path, level: Privacy, *, create: bool) -> Key | None:
    try:
        if create and not path.exists():
            _make_key(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        secret = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Stop(f"{path}: the key cannot be read or made: {error}") from None
    if mode & 0o077:
        raise Stop(f"{path}: others may read this key (mode {mode:04o}); run: chmod 600 {path}")
    if len(secret) != KEY_BYTES:
        raise Stop(
            f"{path}: no key: {len(secret)} bytes instead of {KEY_BYTES}; restore it, or remove it to make a new one"
        )
    return Key.of(level, secret)


def _make_key(path: Path) -> None:
    """Whole or not at all, also when two processes start at once: the first key stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(os.urandom(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return
    finally:
        draft.unlink()
    directory_to_disk(path.parent)  # the name must survive a power cut: a lost key loses what it sealed

"""Sealing: a sealed record may pass a tier or be stored there, but that tier cannot read it.

AES-256-GCM (NIST SP 800-38D) with the envelope's header as associated data: a misrouted record cannot be read, and a
record with a changed header (level, source, kind, time, ...) does not open. The site's key opens edge-private records,
the user's key user-private ones::

    >>> keyring = Keyring(site=Key.of(Privacy.EDGE_PRIVATE, bytes(32)), user=Key.of(Privacy.USER_PRIVATE, bytes(32)))
    >>> sealed = seal(Envelope(event="e", kind=Kind.FEATURE, privacy=Privacy.EDGE_PRIVATE, key="home/cam1",
    ...               payload=b"feature", source="home/cam1/garden"), keyring.site)
    >>> unseal(sealed, keyring)
    b'feature'

The header of a user-private record must reveal neither device nor time, but an event's id reveals both: it begins with
the time (UUIDv7), and public records of the same event name the device. So `build_private` gives the record another id
and a routing key, both HMACs, and puts the hidden facts into the sealed payload. `open_private` returns them.
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
"""96 random bits, the size for GCM; safe for 2**32 records with one key, which is a record a second for 136 years."""
TAG_BYTES: Final = 16
OVERHEAD_BYTES: Final = NONCE_BYTES + TAG_BYTES
ROUTING_KEY: Final = re.compile(r"[0-9a-f]{32}")
PSEUDONYM: Final = re.compile(r"[0-9a-f]{12}")
FORMAT: Final = "tierwise-seal-1"
"""The beginning of the associated data: a record of another format never opens as this one."""
_FILES: Final = {Privacy.EDGE_PRIVATE: "site.key", Privacy.USER_PRIVATE: "user.key"}


@dataclass(frozen=True, slots=True)
class Key:
    """32 secret bytes that open the records of one level; `id` names them in `Envelope.sealed_by`."""

    level: Privacy
    id: str
    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, level: Privacy, secret: bytes) -> Key:
        """Return the key of a level, with an id derived from its secret."""
        name = _FILES[level].removesuffix(".key")
        return cls(level, f"{name}-{_derive(secret, 'id')[:8].hex()}", secret)


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys that this agent has."""

    site: Key | None = None
    user: Key | None = None

    @classmethod
    def open(cls, folder: Path, *, create: bool) -> Keyring:
        """Read ``site.key`` and ``user.key``. With `create`, make missing ones, readable by their owner only.

        Raises
        ------
        Stop
            A key file cannot be read or made, is readable by others, or does not hold a key.
        """
        site, user = (_read_key(folder / name, level, create=create) for level, name in _FILES.items())
        return cls(site, user)

    def named(self, key_id: str) -> Key | None:
        """Return the key with this id, or None if this agent does not have it."""
        return next((key for key in (self.site, self.user) if key is not None and key.id == key_id), None)


def seal(envelope: Envelope, key: Key) -> Envelope:
    """Return the envelope with a sealed payload: nonce, ciphertext, tag.

    Raises
    ------
    Rejected
        ``seal``: the envelope is sealed already, or the key is for another level.
    """
    if envelope.sealed_by:
        raise Rejected("seal", f"{envelope.id}: already sealed by {envelope.sealed_by}")
    if key.level is not envelope.privacy:
        raise Rejected("seal", f"{envelope.id}: is {envelope.privacy}; {key.id} seals {key.level} records")
    named = msgspec.structs.replace(envelope, sealed_by=key.id)
    nonce = os.urandom(NONCE_BYTES)
    sealed = nonce + _cipher(key).encrypt(nonce, envelope.payload, header(named))
    return msgspec.structs.replace(named, payload=sealed)


def unseal(envelope: Envelope, keyring: Keyring) -> bytes:
    """Return the payload in the clear.

    Raises
    ------
    Rejected
        ``seal``: this agent does not have the key, or payload or header were changed after sealing.
    """
    from cryptography.exceptions import InvalidTag

    key = keyring.named(envelope.sealed_by)
    if key is None:
        raise Rejected(
            "seal",
            f"{envelope.id}: sealed by {envelope.sealed_by or '(no name)'}, whose key is not here",
        )
    nonce, ciphertext = envelope.payload[:NONCE_BYTES], envelope.payload[NONCE_BYTES:]
    try:
        if len(ciphertext) < TAG_BYTES:
            raise InvalidTag
        return _cipher(key).decrypt(nonce, ciphertext, header(envelope))
    except InvalidTag:
        raise Rejected("seal", f"{envelope.id}: does not open: header or payload were changed after sealing") from None


def header(envelope: Envelope) -> bytes:
    """Return the envelope without its payload in a canonical form: the associated data."""
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
    """The hidden facts and payload of a user-private record; encoded only to be sealed."""

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
    """Return a sealed user-private envelope whose header reveals only its kind.

    Equal event, kind and revision give an equal id, so repeats are recognised.
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
    """Return the facts and payload that `build_private` has hidden.

    Raises
    ------
    Rejected
        ``seal``: for the reasons of `unseal`, or the record was sealed in another way.
    """
    try:
        return msgspec.msgpack.decode(unseal(envelope, keyring), type=Hidden)
    except msgspec.DecodeError:
        raise Rejected("seal", f"{envelope.id}: opens, but does not hold a user-private record") from None


def pseudonym(key: Key, person: str) -> str:
    """Return a person's name outside the site: always the same, and only the key's owner can resolve it."""
    return _derive(key.secret, "person", person)[:6].hex()


def routing_key(key: Key, source: str) -> str:
    """Return a key that keeps a stream's records together without naming the stream."""
    return _derive(key.secret, "route", source)[:16].hex()


def _blind_id(secret: bytes, text: str) -> str:
    """Return a UUIDv8 (RFC 9562: custom content) that reveals nothing without the key."""
    number = int.from_bytes(_derive(secret, "event", text)[:16], "big")
    number = number & ~(0xF << 76) | 0x8 << 76
    number = number & ~(0x3 << 62) | 0x2 << 62
    return str(UUID(int=number))


# --- keys ------------------------------------------------------------------------------------------------------


def _derive(secret: bytes, purpose: str, text: str = "") -> bytes:
    """Derive bytes by HMAC-SHA256. Each use has its own purpose, so no two uses share a key."""
    return hmac.digest(secret, f"tierwise/{purpose}/{text}".encode(), hashlib.sha256)


def _cipher(key: Key) -> AESGCM:
    # Imported here, since every role's gate reads this file's constants, but few roles seal.
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
            f"{path}: not a key: {len(secret)} bytes instead of {KEY_BYTES}; restore it, or remove it to make a new one"
        )
    return Key.of(level, secret)


def _make_key(path: Path) -> None:
    """Write a new key as a whole or not at all. If two processes start at once, the first key stays."""
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

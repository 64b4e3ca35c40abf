"""The private keys that sign releases: a file for each, readable by its owner only, named by the key's id.

::

    <data>/keys/releases/3f2a...c1.pem      one Ed25519 key, PKCS8

The root metadata state which role a key signs for, so that a file can be stored elsewhere (the root's keys belong in a
drawer) and brought back when it is needed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from securesystemslib.signer import CryptoSigner, Key, Signer

from pipeline.errors import Stop
from pipeline.files import private_files


def make_key(folder: Path) -> CryptoSigner:
    """Make a key and return when its file is on the disk. Raises `OSError`."""
    private_files.make_folder(folder)
    signer = CryptoSigner.generate_ed25519()
    path = _path(folder, signer.public_key.keyid)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, private_files.FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(signer.private_bytes)
        file.flush()
        os.fsync(file.fileno())
    return signer


def signers(folder: Path, keys: Sequence[Key]) -> list[Signer]:
    """Return signers for the keys whose private part is here. Raises `Stop` for a file that holds another key."""
    found: list[Signer] = []
    for key in keys:
        path = _path(folder, key.keyid)
        if not path.exists():
            continue
        try:
            found.append(CryptoSigner.from_priv_key_uri(f"{CryptoSigner.SCHEME}:{path}", key))
        except Exception as error:  # the crypto library raises many kinds of errors for a damaged file
            raise Stop(f"{path} is not the key of its name ({error}): put the right file back") from None
    return found


def keep_only(folder: Path, keyids: Collection[str]) -> None:
    """Remove the other keys, which sign nothing. Raises `OSError`."""
    for path in folder.glob("*.pem"):
        if path.stem not in keyids:
            path.unlink()


def _path(folder: Path, keyid: str) -> Path:
    return folder / f"{keyid}.pem"

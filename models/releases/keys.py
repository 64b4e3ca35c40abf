"""The private keys that sign releases: one file each, readable by their owner alone, named by the key's id.

::

    <data>/keys/releases/3f2a...c1.pem      one Ed25519 key, PKCS8

Which role a key signs for stands in the root metadata, so that a file can be carried away (the root's keys belong
into a drawer) and brought back when it is needed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from securesystemslib.signer import CryptoSigner, Key, Signer

from pipeline.errors import Stop
from pipeline.files import private_files


def make_key(folder: Path) -> CryptoSigner:
    """Make a key; its file is on the disk before anything can name it. Raises `OSError`."""
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
    """Those of these keys whose private part is here.

    Raises
    ------
    Stop
        A file is there and is not that key.
    """
    found: list[Signer] = []
    for key in keys:
        path = _path(folder, key.keyid)
        if not path.exists():
            continue
        try:
            found.append(CryptoSigner.from_priv_key_uri(f"{CryptoSigner.SCHEME}:{path}", key))
        except Exception as error:  # whatever its crypto library says of a damaged file
            raise Stop(
                f"{path}: is not the key that its name says ({error}): put the right file back"
            ) from None
    return found


def keep_only(folder: Path, keyids: Collection[str]) -> None:
    """Remove keys that sign nothing any more, or never came to. Raises `OSError`."""
    for path in folder.glob("*.pem"):
        if path.stem not in keyids:
            path.unlink()


def _path(folder: Path, keyid: str) -> Path:
    return folder / f"{keyid}.pem"

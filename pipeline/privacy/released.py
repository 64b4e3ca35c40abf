"""What of a release may leave: it was made to be read by all, and looks like it.

The gate asks here before a release's bytes reach a transport: only signed metadata under their own names, and parts of
files under those files' digests. Whose signature it is, each tier finds out by itself.
"""

from __future__ import annotations

from typing import Any

import msgspec

from pipeline.errors import Withheld
from pipeline.files.blobs import sha256
from pipeline.files.release_names import METADATA_MAX_BYTES, PART_BYTES, metadata_file, part_of


class _Signed(msgspec.Struct):
    """As much of signed metadata as says that it is some."""

    role: str = msgspec.field(name="_type")


class _Metadata(msgspec.Struct):
    signed: _Signed
    signatures: list[Any]


def check_file(file: str, data: bytes | None) -> None:
    """Signed metadata, of the role that its name says; None: only its name.

    Raises
    ------
    Withheld
        It is none.
    """
    named = metadata_file(file)
    if named is None:
        raise Withheld(f"{file[:80]}: no file of a release is called so")
    if data is None:
        return
    if len(data) > METADATA_MAX_BYTES[named.role]:
        raise Withheld(f"{file}: {len(data)} bytes; signed metadata of {named.role} are never so long")
    try:
        metadata = msgspec.json.decode(data, type=_Metadata)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise Withheld(f"{file}: is no signed metadata") from None
    if metadata.signed.role != named.role or not metadata.signatures:
        raise Withheld(f"{file}: is not signed metadata of {named.role}")


def check_key(key: str, value: bytes | None) -> None:
    """As `check_file`, or a part of a target file.

    Raises
    ------
    Withheld
        It is neither. Of several parts none shows its file's digest: whoever puts them together looks.
    """
    part = part_of(key)
    if part is None:
        check_file(key, value)
    elif value is not None and (
        len(value) > PART_BYTES or (part.total == 1 and sha256(value) != part.digest)
    ):
        raise Withheld(f"{key[:80]}: these {len(value)} bytes are no part of that file")

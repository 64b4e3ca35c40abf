"""Checks the bytes of a release before they reach a transport; the gate calls these functions.

Releases are public. Only signed metadata under their own names may leave, and parts of files under the digests of these
files. Each tier verifies the signatures by itself::

    check_file("3.root.json", data)
    check_key("ab…/0/2", part)
"""

from __future__ import annotations

from typing import Any

import msgspec

from pipeline.errors import Withheld
from pipeline.files.blobs import sha256
from pipeline.files.release_names import METADATA_MAX_BYTES, PART_BYTES, metadata_file, part_of


class _Signed(msgspec.Struct):
    """The one field that shows that the bytes are signed metadata."""

    role: str = msgspec.field(name="_type")


class _Metadata(msgspec.Struct):
    signed: _Signed
    signatures: list[Any]


def check_file(file: str, data: bytes | None) -> None:
    """Check that the payload is signed metadata of the role that its name states. With None, check the name only.

    Raises
    ------
    Withheld
        It is not.
    """
    named = metadata_file(file)
    if named is None:
        raise Withheld(f"{file[:80]}: no file of a release has this name")
    if data is None:
        return
    if len(data) > METADATA_MAX_BYTES[named.role]:
        raise Withheld(f"{file}: {len(data)} bytes are too many for signed metadata of {named.role}")
    try:
        metadata = msgspec.json.decode(data, type=_Metadata)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise Withheld(f"{file}: is not signed metadata") from None
    if metadata.signed.role != named.role or not metadata.signatures:
        raise Withheld(f"{file}: is not signed metadata of {named.role}")


def check_key(key: str, value: bytes | None) -> None:
    """Check that a key and its value are a metadata file or a part of a target file.

    Raises
    ------
    Withheld
        They are neither. One of several parts cannot show its file's digest: that is checked when they are joined.
    """
    part = part_of(key)
    if part is None:
        check_file(key, value)
    elif value is not None and (len(value) > PART_BYTES or (part.total == 1 and sha256(value) != part.digest)):
        raise Withheld(f"{key[:80]}: these {len(value)} bytes are not a part of that file")

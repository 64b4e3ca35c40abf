"""The manifest of a model that a recipe made."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from models.manifest import FILE, Manifest, digest


def write_manifest(manifest: Manifest, files: Iterable[str]) -> Manifest:
    """Write ``manifest.json`` into the model's folder, with the digests of `files` as they are there now."""
    digests = {file: digest((manifest.folder / file).read_bytes()) for file in sorted(files)}
    written = msgspec.structs.replace(manifest, files=digests)
    (manifest.folder / FILE).write_bytes(written.encoded())
    return written

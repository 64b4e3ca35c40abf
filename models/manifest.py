"""The manifest of a shipped model: names, digests, the feature space, the terms.

Each folder of ``models/zoo`` holds a ``manifest.json`` beside its files. A role reads a file through `Manifest.read`,
which refuses bytes with another SHA-256: a truncated or exchanged model never answers. Results carry `Manifest.title`.

Example::

    manifest = read_manifest(Path("models/zoo/lite0"))
    manifest.title                  # "lite0@1"
    manifest.read("backbone.onnx")  # raises Stop if the bytes are not the released ones
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from pipeline.errors import Stop

FILE = "manifest.json"
RELEASED = Path(__file__).parent / "zoo"


class Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The probability `at` which a rank's answer is published, and its measured risk.

    Of `held` held-out photos, `answered` reached the threshold and `wrong` of those were wrong. With 90% certainty the
    share of wrong answers is below `risk` (Clopper and Pearson's bound).
    """

    at: float
    held: int
    answered: int
    wrong: int
    risk: float


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model. `files` maps file names to SHA-256 in hex; `space` names the feature space, if there is one.

    `labels` is the SHA-256 of the labels in the order of the heads' outputs, one a line: two models with equal digests
    answer the same labels. `thresholds` by rank belong to the heads that they were measured for. For a device's small
    network, `person_threshold` is the person score that raises a frame's privacy level, and `person_miss_rate` the
    share of test frames with a person that did not reach it. `borrowed` maps files to the SHA-256 of those in the
    shipped model of the same name: a variant need not repeat the backbone.
    """

    folder: Path
    name: str
    version: int
    task: str
    files: dict[str, str]
    labels: str
    terms: str
    size_px: int | None = None
    space: str | None = None
    thresholds: dict[str, Threshold] | None = None
    person_threshold: float | None = None
    person_miss_rate: float | None = None
    borrowed: dict[str, str] | None = None

    @property
    def title(self) -> str:
        """The name in results: ``lite0@1``."""
        return f"{self.name}@{self.version}"

    def read(self, file: str) -> bytes:
        """Return the released bytes of a file. Raises `Stop` if they are missing or different."""
        path, expected = self.folder / file, self.files.get(file)
        if expected is None and self.borrowed and file in self.borrowed:
            path, expected = RELEASED / self.name / file, self.borrowed[file]
        if expected is None:
            raise Stop(
                f"{self.folder / FILE} does not list {file}: the model belongs to another version of this program"
            )
        try:
            data = path.read_bytes()
        except OSError as error:
            raise Stop(f"model file {path} cannot be read ({error.strerror}); install tierwise again") from error
        if (found := digest(data)) != expected:
            raise Stop(
                f"model file {path} has SHA-256 {found[:12]}…, its manifest states {expected[:12]}…: "
                "it is damaged or was changed; install tierwise again"
            )
        return data

    def encoded(self) -> bytes:
        """Return the content of ``manifest.json``: indented, without empty fields, for a readable diff."""
        fields = {field: getattr(self, field) for field in self.__struct_fields__ if field != "folder"}
        content = {field: value for field, value in fields.items() if value is not None}
        return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def digest(data: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def digest_of_labels(labels: tuple[str, ...]) -> str:
    """Return the SHA-256 in hex of the labels, one a line."""
    return digest("\n".join(labels).encode())


def read_manifest(folder: Path) -> Manifest:
    """Read and check ``manifest.json`` of a model's folder. Raises `Stop`."""
    path = folder / FILE
    try:
        content = msgspec.json.decode(path.read_bytes())
        return msgspec.convert({**content, "folder": folder}, Manifest, dec_hook=lambda _, value: value)
    except OSError as error:
        raise Stop(f"{path} cannot be read ({error.strerror}); install tierwise again") from error
    except (msgspec.MsgspecError, TypeError) as error:
        raise Stop(f"{path} is no manifest: {error}; install tierwise again") from error

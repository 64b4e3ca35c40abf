"""A release of the heads: what was learned since the zoo's model, as integers; every tier solves its head from them.

::

    zoo's lite0@2 (backbone, tuned heads, shipped sums) --+
                                                          +--> Zoo.edge_model(release), Zoo.cloud_model(release)
    lite0@3: learned sums, new rows of the tree,    ------+
             calibration, smoke test, lineage

Tens of kilobytes, and exact: what two releases differ in is a difference of sums, and what is taken out of the sums is in no
later release. `HeadRelease.files` are the targets that are signed, `HeadRelease.of` reads them back and refuses all else.
Whether a release fits the zoo that is installed is `HeadRelease.check_base`'s to say, and each eye asks it.

Example::

    release = HeadRelease.of({name: read(name) for name in FILES})
    release.title                                   # "lite0@3"
    eye = load_zoo().cloud_model(release)
    release.smoke.complaints(eye.head, eye.tree)    # (): it answers as it did where it was made
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from types import MappingProxyType
from typing import Final, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.heads.linear import Floats, components
from models.heads.pooled import SOLVED_SHARE, Novelty, PooledHeads, Temperatures
from models.heads.solve import PRIOR, SHRINK
from models.labels.taxonomy import RANKS, Species, Taxonomy
from models.labels.taxonomy_growth import grown, rows_of_tsv, rows_to_tsv
from models.manifest import Manifest, digest
from pipeline.errors import Rejected
from pipeline.sums.packing import pack, unpack
from pipeline.sums.sums import Sums

FORMAT: Final = 1
MANIFEST, SUMS, TREE, CALIBRATION, SMOKE, LINEAGE, CARD = (
    "manifest.json", "sums.bin", "tree.tsv", "calibration.json", "smoke.npz", "lineage.json", "CARD.md",
)  # fmt: skip
FILES: Final = (MANIFEST, SUMS, TREE, CALIBRATION, SMOKE, LINEAGE, CARD)

LARGEST_BYTES: Final = 4 << 20
"""Of one file: some hundred times what a release needs."""

SMOKE_TOLERANCE: Final = 0.02
"""By so much a probability may differ: BLAS of another machine adds in another order."""

LARGEST_DIMENSION: Final = 4096

FEW: Final = "(few)"
"""The column of all labels that have too few events for one of their own."""


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the solved head is solved and how the witnesses are weighed, all chosen by held-out events.

    `edge` and `cloud` are temperatures of each tier's witnesses; empty `thresholds` leave those of the base.
    """

    edge: Temperatures = Temperatures()
    cloud: Temperatures = Temperatures()
    solved_share: float = SOLVED_SHARE
    novelty: Novelty = Novelty()
    shrink: float = SHRINK
    prior: float = PRIOR
    thresholds: dict[str, float] = msgspec.field(default_factory=dict)


class SiteShare(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one site gave to a release: events by label, the first and last of their ids; why it was left out, if it was."""

    site: str
    events: int
    labels: dict[str, int]
    first_event: str = ""
    last_event: str = ""
    left_out: str = ""


class Lineage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a release comes from. `offsets` are the ranges that were folded, by partition: `first-last`.

    `figures` are the report's, flat: ``new.species.after``, ``golden.kingdom.before``.
    """

    parent: str = ""
    trigger: str = ""
    made: str = ""
    code: str = ""
    golden: str = ""
    sites: tuple[SiteShare, ...] = ()
    offsets: dict[str, str] = msgspec.field(default_factory=dict)
    figures: dict[str, float] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Smoke:
    """Golden inputs, uint8 (n, d), and the species (n, s) that were answered of them where the release was made."""

    vectors: NDArray[np.uint8]
    species: Floats

    @classmethod
    def of(cls, head: PooledHeads, vectors: NDArray[np.uint8]) -> Smoke:
        """What a vector head answers now."""
        return cls(vectors, answers(head, vectors))

    def complaints(self, head: PooledHeads, tree: Taxonomy) -> tuple[str, ...]:
        """A line for each input that a vector head (of an edge's or a cloud's eye) answers otherwise; none is a pass."""
        if self.species.shape[1] != len(tree.species) or self.vectors.shape[1] != head.dimension:
            return (
                f"smoke test of {self.species.shape[1]} species and {self.vectors.shape[1]} bytes fits no such head",
            )
        found = answers(head, self.vectors)
        # Written so that an answer that is no number is told, too.
        off = np.flatnonzero(~(np.abs(found - self.species).max(1) <= SMOKE_TOLERANCE))
        return tuple(
            f"smoke input {at}: {tree.species[int(found[at].argmax())]} {found[at].max():.3f}, "
            f"expected {tree.species[int(self.species[at].argmax())]} {self.species[at].max():.3f}"
            for at in off.tolist()
        )


def answers(head: PooledHeads, vectors: NDArray[np.uint8]) -> Floats:
    """Vectors (n, d) -> species (n, s), one after the other, as an eye answers them."""
    rows = [head.species(components(vector, head.dimension), vector) for vector in vectors]
    return np.array(rows, np.float32).reshape(len(vectors), len(head.tree.species))


def columns(tree: Taxonomy, sums: Sums) -> tuple[str, ...]:
    """All species of a tree, and after them what else the sums have columns for: families, kingdoms, `FEW`.

    Those are never answered, but they tell how much pictures of one thing differ, as all events do.
    """
    return (*tree.species, *sorted(set(sums.labels) - set(tree.species)))


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``manifest.json``. `files` are the other files' SHA-256: whoever holds this one can check all."""

    format: int
    name: str
    version: int
    base: str
    base_sums: str
    space: str
    dimension: int
    files: dict[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class HeadRelease:
    """One release. `base` is the zoo's model that it adds to, `base_sums` the digest of that model's `sums.gz`.

    `sums` holds public labelled events only, over the labels that have some; None before the first. `rows` are what the
    label tree gained.
    """

    version: int
    base: str
    base_sums: str
    space: str
    dimension: int
    sums: Sums | None
    rows: tuple[Species, ...]
    calibration: Calibration
    smoke: Smoke
    lineage: Lineage
    card: str = ""
    name: str = field(default="lite0")

    @property
    def title(self) -> str:
        """How results name it: ``lite0@3``."""
        return f"{self.name}@{self.version}"

    def check_base(self, manifest: Manifest) -> None:
        """Raises `Rejected` (reason `release-mismatch`) where this release is not of that model of the zoo."""
        if (self.base, self.space, self.base_sums) != (
            manifest.title,
            manifest.space,
            manifest.files.get("sums.gz"),
        ):
            raise Rejected(
                "release-mismatch",
                f"{self.title} adds to {self.base} ({self.space}); installed is {manifest.title} ({manifest.space}): "
                "install the version of tierwise that it was made for",
            )

    def tree(self, base: Taxonomy) -> Taxonomy:
        """The label tree, grown. Raises `Rejected`."""
        return grown(base, self.rows)

    def learned(self, base: Taxonomy) -> Sums:
        """The learned sums over the grown tree's species, ready to be merged. Raises `Rejected`."""
        tree = self.tree(base)
        if self.sums is None:
            return Sums.empty(self.space, self.dimension, tree.species)
        if unknown := [label for label in self.sums.labels if label not in tree.paths and label != FEW]:
            raise Rejected(
                "labels-mismatch", f"{self.title} learned {unknown[:5]}, which its label tree lacks"
            )
        return self.sums.with_labels(columns(tree, self.sums))

    def files(self) -> Mapping[str, bytes]:
        """File names to bytes, all of `FILES`; equal releases make equal bytes."""
        sums = self.sums or Sums.empty(self.space, self.dimension, ())
        smoke = BytesIO()
        np.savez(smoke, vectors=self.smoke.vectors, species=self.smoke.species.astype(np.float16))
        files = {
            SUMS: pack(sums),
            TREE: rows_to_tsv(self.rows),
            CALIBRATION: _json(self.calibration),
            SMOKE: smoke.getvalue(),
            LINEAGE: _json(self.lineage),
            CARD: self.card.encode(),
        }
        digests = {name: digest(data) for name, data in sorted(files.items())}
        manifest = _Manifest(
            FORMAT, self.name, self.version, self.base, self.base_sums, self.space, self.dimension, digests
        )
        return MappingProxyType({MANIFEST: _json(manifest), **files})

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> HeadRelease:
        """Reads a release. Raises `Rejected`: `bad-release`, `bad-sums`."""
        if odd := sorted(set(FILES) ^ set(files)):
            raise Rejected(
                "bad-release", f"a release has the files {', '.join(FILES)}; odd: {', '.join(odd)}"
            )
        if large := [name for name, data in files.items() if len(data) > LARGEST_BYTES]:
            raise Rejected("bad-release", f"{', '.join(large)}: larger than {LARGEST_BYTES:,} bytes")
        its = _read(files[MANIFEST], _Manifest, MANIFEST)
        if its.format != FORMAT or its.version < 1 or not 0 < its.dimension <= LARGEST_DIMENSION:
            raise Rejected(
                "bad-release",
                f"format {its.format}, version {its.version}, dimension {its.dimension}: none that is read",
            )
        changed = [name for name in FILES if name != MANIFEST and its.files.get(name) != digest(files[name])]
        if changed:
            raise Rejected("bad-release", f"{', '.join(changed)}: not the bytes that {MANIFEST} names")
        sums = unpack(files[SUMS], its.dimension)
        if sums.space != its.space:
            raise Rejected("bad-release", f"sums of {sums.space} in a release of {its.space}")
        calibration = _read(files[CALIBRATION], Calibration, CALIBRATION)
        _check_calibration(calibration)
        return cls(
            version=its.version,
            base=its.base,
            base_sums=its.base_sums,
            space=its.space,
            dimension=its.dimension,
            sums=sums if sums.events else None,
            rows=rows_of_tsv(files[TREE]),
            calibration=calibration,
            smoke=_smoke(files[SMOKE], its.dimension),
            lineage=_read(files[LINEAGE], Lineage, LINEAGE),
            card=files[CARD].decode("utf-8", "replace"),
            name=its.name,
        )


def _json(content: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(content, order="sorted"), indent=2) + b"\n"


_T = TypeVar("_T")


def _read(data: bytes, kind: type[_T], file: str) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Rejected("bad-release", f"{file}: {error}") from error


def _check_calibration(its: Calibration) -> None:
    positive = (*(getattr(of, rank) for of in (its.edge, its.cloud) for rank in RANKS), its.shrink)
    if (
        min(positive) < 1e-3
        or max(positive) > 1e3
        or not 0 <= its.solved_share <= 10
        or not 0 <= its.prior <= 10
        or not set(its.thresholds) <= set(RANKS)
        or not all(0 <= at <= 1 for at in its.thresholds.values())
    ):
        raise Rejected("bad-release", f"{CALIBRATION}: a temperature, share or threshold out of range")


def _smoke(data: bytes, dimension: int) -> Smoke:
    try:
        with np.load(BytesIO(data), allow_pickle=False) as arrays:
            vectors, species = arrays["vectors"], arrays["species"].astype(np.float32)
    # numpy and zipfile raise many kinds for bytes that are no such file.
    except Exception as error:
        raise Rejected("bad-release", f"{SMOKE}: {error}") from error
    if vectors.dtype != np.uint8 or vectors.ndim != 2 or vectors.shape[1] != dimension or species.ndim != 2:
        raise Rejected("bad-release", f"{SMOKE}: vectors {vectors.dtype} {vectors.shape}")
    if len(species) != len(vectors):
        raise Rejected("bad-release", f"{SMOKE}: {len(vectors)} inputs, {len(species)} answers")
    return Smoke(vectors, species)

"""A release of the heads: integer sums of the lessons since the shipped model. Each tier solves its head from them.

::

    zoo's lite0@2 (backbone, tuned heads, shipped sums) --+
                                                          +--> Zoo.edge_model(release), Zoo.cloud_model(release)
    lite0@3: learned sums, new rows of the tree,    ------+
             calibration, smoke test, lineage

A release has tens of kilobytes and is exact: two releases differ by a difference of sums, and an event that is
subtracted is in no later release. `HeadRelease.files` are the signed targets; `HeadRelease.of` reads them and refuses
anything else. `HeadRelease.check_base` checks whether a release fits the installed zoo, whenever a model is made from
it.

Example::

    release = HeadRelease.of({name: read(name) for name in FILES})
    release.title                                   # "lite0@3"
    model = load_zoo().cloud_model(release)
    release.smoke.complaints(model.head, model.tree)    # (): the head answers as it did where the release was made
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
"""The limit for one file: about a hundred times what a release needs."""

SMOKE_TOLERANCE: Final = 0.02
"""The largest difference of a probability: the BLAS of another machine adds in another order."""

LARGEST_DIMENSION: Final = 4096

FEW: Final = "(few)"
"""The column shared by all labels that have too few events for a column of their own."""


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of the solved head and weights of the two heads, chosen by held-out events.

    `edge` and `cloud` are the temperatures of each tier; empty `thresholds` keep those of the base.
    """

    edge: Temperatures = Temperatures()
    cloud: Temperatures = Temperatures()
    solved_share: float = SOLVED_SHARE
    novelty: Novelty = Novelty()
    shrink: float = SHRINK
    prior: float = PRIOR
    thresholds: dict[str, float] = msgspec.field(default_factory=dict)


class SiteShare(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A site's part in a release: events by label, first and last event id, and the reason if it was left out."""

    site: str
    events: int
    labels: dict[str, int]
    first_event: str = ""
    last_event: str = ""
    left_out: str = ""


class Lineage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The origin of a release. `offsets` are the folded ranges by partition, as `first-last`.

    `figures` are those of the report, flat: ``new.species.after``, ``golden.kingdom.before``.
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
    """Golden inputs, uint8 (n, d), and the species (n, s) that the head answered where the release was made."""

    vectors: NDArray[np.uint8]
    species: Floats

    @classmethod
    def of(cls, head: PooledHeads, vectors: NDArray[np.uint8]) -> Smoke:
        """Record what a vector head answers now."""
        return cls(vectors, answers(head, vectors))

    def complaints(self, head: PooledHeads, tree: Taxonomy) -> tuple[str, ...]:
        """Return a line for each input that a vector head answers differently; none means that it passed."""
        if self.species.shape[1] != len(tree.species) or self.vectors.shape[1] != head.dimension:
            return (
                f"the smoke test has {self.species.shape[1]} species and {self.vectors.shape[1]} bytes: the head has others",
            )
        found = answers(head, self.vectors)
        # Written so that an answer that is not a number (NaN) is reported, too.
        off = np.flatnonzero(~(np.abs(found - self.species).max(1) <= SMOKE_TOLERANCE))
        return tuple(
            f"smoke input {at}: {tree.species[int(found[at].argmax())]} {found[at].max():.3f}, "
            f"expected {tree.species[int(self.species[at].argmax())]} {self.species[at].max():.3f}"
            for at in off.tolist()
        )


def answers(head: PooledHeads, vectors: NDArray[np.uint8]) -> Floats:
    """Return the species (n, s) of vectors (n, d), computed one by one as a tier does."""
    rows = [head.species(components(vector, head.dimension), vector) for vector in vectors]
    return np.array(rows, np.float32).reshape(len(vectors), len(head.tree.species))


def columns(tree: Taxonomy, sums: Sums) -> tuple[str, ...]:
    """Return all species of a tree, then the other columns of the sums: families, kingdoms, `FEW`.

    The others are never answered, but they show how much pictures of one kind differ, as all events do.
    """
    return (*tree.species, *sorted(set(sums.labels) - set(tree.species)))


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``manifest.json``. `files` holds the SHA-256 of the other files, so that this file alone can check them all."""

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
    """One release. `base` is the shipped model that it adds to, `base_sums` the digest of that model's `sums.gz`.

    `sums` holds public labelled events only, over the labels that have some; it is None before the first event. `rows`
    are those that the label tree gained.
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
        """The name in results: ``lite0@3``."""
        return f"{self.name}@{self.version}"

    def check_base(self, manifest: Manifest) -> None:
        """Raise `Rejected` (reason `release-mismatch`) if this release does not belong to that shipped model."""
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
        """Return the grown label tree. Raises `Rejected`."""
        return grown(base, self.rows)

    def learned(self, base: Taxonomy) -> Sums:
        """Return the learned sums over the grown tree's species, ready to be merged. Raises `Rejected`."""
        tree = self.tree(base)
        if self.sums is None:
            return Sums.empty(self.space, self.dimension, tree.species)
        if unknown := [label for label in self.sums.labels if label not in tree.paths and label != FEW]:
            raise Rejected("labels-mismatch", f"{self.title} learned {unknown[:5]}, which its label tree lacks")
        return self.sums.with_labels(columns(tree, self.sums))

    def files(self) -> Mapping[str, bytes]:
        """Encode the release: file names to bytes, all of `FILES`. Equal releases give equal bytes."""
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
        """Read a release. Raises `Rejected`: `bad-release`, `bad-sums`."""
        if odd := sorted(set(FILES) ^ set(files)):
            raise Rejected(
                "bad-release",
                f"a release has the files {', '.join(FILES)}; missing or unknown: {', '.join(odd)}",
            )
        if large := [name for name, data in files.items() if len(data) > LARGEST_BYTES]:
            raise Rejected("bad-release", f"{', '.join(large)}: larger than {LARGEST_BYTES:,} bytes")
        stated = _read(files[MANIFEST], _Manifest, MANIFEST)
        if stated.format != FORMAT or stated.version < 1 or not 0 < stated.dimension <= LARGEST_DIMENSION:
            raise Rejected(
                "bad-release",
                f"format {stated.format}, version {stated.version}, dimension {stated.dimension} cannot be read",
            )
        changed = [name for name in FILES if name != MANIFEST and stated.files.get(name) != digest(files[name])]
        if changed:
            raise Rejected("bad-release", f"{', '.join(changed)}: not the bytes whose digest {MANIFEST} states")
        sums = unpack(files[SUMS], stated.dimension)
        if sums.space != stated.space:
            raise Rejected("bad-release", f"sums of {sums.space} in a release of {stated.space}")
        calibration = _read(files[CALIBRATION], Calibration, CALIBRATION)
        _check_calibration(calibration)
        return cls(
            version=stated.version,
            base=stated.base,
            base_sums=stated.base_sums,
            space=stated.space,
            dimension=stated.dimension,
            sums=sums if sums.events else None,
            rows=rows_of_tsv(files[TREE]),
            calibration=calibration,
            smoke=_smoke(files[SMOKE], stated.dimension),
            lineage=_read(files[LINEAGE], Lineage, LINEAGE),
            card=files[CARD].decode("utf-8", "replace"),
            name=stated.name,
        )


def _json(content: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(content, order="sorted"), indent=2) + b"\n"


_T = TypeVar("_T")


def _read(data: bytes, kind: type[_T], file: str) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Rejected("bad-release", f"{file}: {error}") from error


def _check_calibration(found: Calibration) -> None:
    positive = (*(getattr(tier, rank) for tier in (found.edge, found.cloud) for rank in RANKS), found.shrink)
    if (
        min(positive) < 1e-3
        or max(positive) > 1e3
        or not 0 <= found.solved_share <= 10
        or not 0 <= found.prior <= 10
        or not set(found.thresholds) <= set(RANKS)
        or not all(0 <= at <= 1 for at in found.thresholds.values())
    ):
        raise Rejected("bad-release", f"{CALIBRATION}: a temperature, share or threshold out of range")


def _smoke(data: bytes, dimension: int) -> Smoke:
    try:
        with np.load(BytesIO(data), allow_pickle=False) as arrays:
            vectors, species = arrays["vectors"], arrays["species"].astype(np.float32)
    # numpy and zipfile raise many kinds of errors for other bytes.
    except Exception as error:
        raise Rejected("bad-release", f"{SMOKE}: {error}") from error
    if vectors.dtype != np.uint8 or vectors.ndim != 2 or vectors.shape[1] != dimension or species.ndim != 2:
        raise Rejected("bad-release", f"{SMOKE}: vectors {vectors.dtype} {vectors.shape}")
    if len(species) != len(vectors):
        raise Rejected("bad-release", f"{SMOKE}: {len(vectors)} inputs, {len(species)} answers")
    return Smoke(vectors, species)

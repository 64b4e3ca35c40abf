"""A small release on the shipped model: a new species that lies where no other does."""

from __future__ import annotations

import numpy as np

from models.heads.release import Calibration, HeadRelease, Lineage, SiteShare, Smoke
from models.labels.taxonomy_growth import row_under
from models.shipped import load_zoo
from pipeline.sums.sums import Sums

ZOO = load_zoo()
BASE = ZOO.base()
NEW = "Solenodon paradoxus"


def vectors_of_new(count: int, seed: int = 0) -> np.ndarray:
    """Vectors around a point far from all others."""
    rng = np.random.default_rng(seed)
    centre = np.random.default_rng(99).choice([70.0, 186.0], BASE.sums.dimension)
    return np.clip(centre + rng.normal(0, 12, (count, BASE.sums.dimension)), 0, 255).astype(np.uint8)


def sample_release(
    version: int = 3, events: int = 40, *, label: str = NEW, family: str = "Solenodontidae"
) -> HeadRelease:
    """Learned from so many events of one new species."""
    row = row_under(BASE.tree, label, f"animal/{family}")
    sums = Sums.empty(BASE.sums.space, BASE.sums.dimension, (label,))
    sums = sums.add(vectors_of_new(events), np.zeros(events, np.int64))
    nothing = Smoke(np.zeros((0, sums.dimension), np.uint8), np.zeros((0, len(BASE.tree.species) + 1), np.float32))
    release = HeadRelease(
        version=version,
        base=BASE.manifest.title,
        base_sums=BASE.manifest.files["sums.gz"],
        space=sums.space,
        dimension=sums.dimension,
        sums=sums,
        rows=(row,),
        calibration=Calibration(edge=BASE.calibration.edge, cloud=BASE.calibration.cloud),
        smoke=nothing,
        lineage=Lineage(parent=BASE.manifest.title, sites=(SiteShare("home", events, {label: events}),)),
        card=f"# lite0@{version}\n",
    )
    return with_smoke(release)


def with_smoke(release: HeadRelease) -> HeadRelease:
    """The release with a smoke test of its own answers."""
    from dataclasses import replace

    inputs = np.vstack([vectors_of_new(2, seed=5), np.full((1, release.dimension), 128, np.uint8)])
    return replace(release, smoke=Smoke.of(BASE.head(release), inputs))

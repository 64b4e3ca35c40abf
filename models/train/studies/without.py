"""Make a model that lacks some species: ``python -m models.train.studies.without`` (after `lite0` and `features`).

The backbone is the released one. Heads, projection and sums are made without the photos of two families and five
species, none of which is a class of ImageNet. So learning them later can be measured, and shown (`tierwise demo
learning`).

Written: a zoo of its own under ``agents/demo/learning/before``: `taxonomy.tsv` without those rows, and ``lite0@1``.
Files that equal the released ones are borrowed by digest: the backbone, and the device's heads, which answer kingdoms
and persons only. (The device's heads did see the photos, as plants and animals; edge and cloud did not.)
"""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.photo_pack import Pack, open_pack
from models.labels.taxonomy import TABLE, Taxonomy, read_taxonomy
from models.manifest import Manifest, digest, digest_of_labels, read_manifest
from models.train.lite0.features import SIZE_PX
from models.train.lite0.golden import add_golden
from models.train.lite0.heads import TERMS, ZOO, in_half, make, save
from models.train.zoo_folder import write_manifest

BEFORE = Path(__file__).parents[3] / "agents" / "demo" / "learning" / "before"
VERSION = 1

FAMILIES = ("Araceae", "Passifloraceae")
SPECIES = (
    "Caracal caracal", "Leopardus pardalis", "Neofelis nebulosa", "Helianthus annuus", "Dahlia",
)  # fmt: skip

BORROWED = ("backbone.onnx", "frame.npz", "parts.npz")
OWN = ("projection.npz", "tree.npz", "vector.npz", "sums.gz")

MANTISSA_BITS, PROJECTION_BITS = 3, 5
"""Bits to keep of float16's ten mantissa bits: the file becomes smaller, and few answers in a thousand change."""


def rows_left_out(table: str) -> str:
    """Return the label table without the left-out rows."""
    rows = csv.DictReader(io.StringIO(table), delimiter="\t")
    kept = [row for row in rows if row["family"] not in FAMILIES and row["species"] not in SPECIES]
    out = io.StringIO()
    writer = csv.DictWriter(out, rows.fieldnames or (), delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(kept)
    return out.getvalue()


def left_out(pack: Pack, tree: Taxonomy) -> Pack:
    """Return a pack without split for photos of species that the tree lacks."""
    names = {name for row in tree.rows for name in row.names}
    split = (part if species in names else "" for part, species in zip(pack.split, pack.species, strict=True))
    return replace(pack, split=tuple(split))


def shortened(values: NDArray[np.float16], kept_bits: int) -> NDArray[np.float16]:
    """Round the lowest bits of each float16 mantissa away."""
    step = 1 << (10 - kept_bits)
    bits = (values.view(np.uint16).astype(np.uint32) + step // 2) // step * step
    return bits.astype(np.uint16).view(np.float16)


def shrink(file: Path, kept_bits: int) -> None:
    """Rewrite a file of heads, deflated, with its large matrices shortened."""
    with np.load(file) as arrays:
        held: dict[str, Any] = dict(arrays)
    large = [name for name, values in held.items() if values.dtype == np.float16 and values.ndim == 2]
    held.update({name: shortened(held[name], kept_bits) for name in large})
    np.savez_compressed(file, **held)


def main() -> None:
    """Run this study."""
    folder = BEFORE / "lite0"
    folder.mkdir(parents=True, exist_ok=True)
    (BEFORE / "taxonomy.tsv").write_text(rows_left_out(TABLE.read_text("utf-8")), "utf-8")
    tree = read_taxonomy(BEFORE / "taxonomy.tsv")
    packs = {name: left_out(open_pack(name), tree) for name in ("wild256", "wild64")}
    made = make(tree, packs, folder, lambda matrix: shortened(in_half(matrix), PROJECTION_BITS))
    save(made, folder)
    (folder / "frame.npz").unlink()
    for file, kept_bits in (
        ("tree.npz", MANTISSA_BITS),
        ("vector.npz", MANTISSA_BITS),
        ("projection.npz", PROJECTION_BITS),
    ):
        shrink(folder / file, kept_bits)
    released = read_manifest(ZOO)
    write_manifest(
        Manifest(
            folder=folder,
            name="lite0",
            version=VERSION,
            task="wildlife",
            files={},
            labels=digest_of_labels(tree.species),
            terms=TERMS,
            size_px=SIZE_PX,
            space=made.sums.space,
            thresholds=made.thresholds,
            borrowed={file: released.files[file] for file in BORROWED},
        ),
        OWN,
    )
    add_golden(tree, packs, folder)
    size_bytes = sum(file.stat().st_size for file in BEFORE.rglob("*") if file.is_file())
    sys.stdout.write(f"{BEFORE}: {size_bytes:,} bytes, {digest((folder / 'manifest.json').read_bytes())[:12]}\n")


if __name__ == "__main__":
    main()

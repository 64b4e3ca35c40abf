"""A model that has never met some species: ``python -m models.train.studies.without`` (after `lite0` and `features`).

The backbone is the released one; heads, projection and sums are made anew from photos of which two families and five species
are left out, none of them a class of ImageNet. So learning them later can be measured, and shown (`tierwise demo learning`),
without a photo of them having been anywhere in the training.

Written: a zoo of its own under ``agents/demo/before``: `taxonomy.tsv` less those rows, and ``lite0``, version 1. Files that
would be the released ones' bytes are borrowed by digest: the backbone, and the device's heads, which answer kingdoms and
persons only. (Those did see the photos, as plants and animals; edge and cloud did not.)
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

from models.labels.taxonomy import TABLE, Taxonomy, read_taxonomy
from models.manifest import digest, make_manifest, read_manifest, write_manifest
from models.train.lite0.features import SIZE_PX
from models.train.lite0.golden import add_golden
from models.train.lite0.heads import TERMS, ZOO, in_half, make, save
from models.train.pictures.data import Pack, open_pack

BEFORE = Path(__file__).parents[3] / "agents" / "demo" / "before"
VERSION = 1

FAMILIES = ("Araceae", "Passifloraceae")
SPECIES = (
    "Caracal caracal", "Leopardus pardalis", "Neofelis nebulosa", "Helianthus annuus", "Dahlia",
)  # fmt: skip

BORROWED = ("backbone.onnx", "frame.npz", "parts.npz")
OWN = ("projection.npz", "tree.npz", "vector.npz", "sums.gz")

MANTISSA_BITS, PROJECTION_BITS = 3, 5
"""Of ten, which float16 keeps of a weight: the rest deflates to nothing, and changes no more than a few answers in a thousand."""


def rows_left_out(table: str) -> str:
    """The label table less the rows that are held out."""
    rows = csv.DictReader(io.StringIO(table), delimiter="\t")
    kept = [row for row in rows if row["family"] not in FAMILIES and row["species"] not in SPECIES]
    out = io.StringIO()
    writer = csv.DictWriter(out, rows.fieldnames or (), delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(kept)
    return out.getvalue()


def left_out(pack: Pack, tree: Taxonomy) -> Pack:
    """A pack whose photos of species that the tree lacks are in no split."""
    names = {name for row in tree.rows for name in row.names}
    split = (its if species in names else "" for its, species in zip(pack.split, pack.species, strict=True))
    return replace(pack, split=tuple(split))


def shortened(values: NDArray[np.float16], kept_bits: int) -> NDArray[np.float16]:
    """float16 with the lowest bits of each mantissa rounded away."""
    step = 1 << (10 - kept_bits)
    bits = (values.view(np.uint16).astype(np.uint32) + step // 2) // step * step
    return bits.astype(np.uint16).view(np.float16)


def shrink(file: Path, kept_bits: int) -> None:
    """Rewrites a file of heads, deflated, its large matrices shortened."""
    with np.load(file) as arrays:
        its: dict[str, Any] = dict(arrays)
    large = [name for name, values in its.items() if values.dtype == np.float16 and values.ndim == 2]
    its.update({name: shortened(its[name], kept_bits) for name in large})
    np.savez_compressed(file, **its)


def main() -> None:
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
    manifest = make_manifest(
        folder,
        name="lite0",
        version=VERSION,
        task="wildlife",
        files=OWN,
        labels=tree.species,
        terms=TERMS,
        size_px=SIZE_PX,
        space=made.sums.space,
        thresholds=made.thresholds,
        borrowed={file: released.files[file] for file in BORROWED},
    )
    write_manifest(manifest)
    add_golden(tree, packs, folder)
    size_bytes = sum(file.stat().st_size for file in BEFORE.rglob("*") if file.is_file())
    sys.stdout.write(
        f"{BEFORE}: {size_bytes:,} bytes, {digest((folder / 'manifest.json').read_bytes())[:12]}\n"
    )


if __name__ == "__main__":
    main()

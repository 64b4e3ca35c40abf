"""A release is read back as it was made, fits one base, and every tier answers by it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from sample_release import BASE, NEW, ZOO, sample_release, vectors_of_new

from models.heads.release import CALIBRATION, FILES, LINEAGE, MANIFEST, SMOKE, SUMS, TREE, HeadRelease
from models.manifest import digest
from pipeline.errors import Rejected
from pipeline.sums.sums import Sums

RELEASE = sample_release()


def resealed(**changed: bytes) -> dict[str, bytes]:
    """Files of a release in which some were changed, and the manifest names the changed ones."""
    names = {name.partition(".")[0].lower(): name for name in FILES}
    files = dict(RELEASE.files()) | {names[key]: data for key, data in changed.items()}
    manifest = msgspec.json.decode(files[MANIFEST])
    manifest["files"] = {name: digest(data) for name, data in files.items() if name != MANIFEST}
    return files | {MANIFEST: msgspec.json.encode(manifest)}


def test_a_release_is_read_back_as_it_was_made() -> None:
    again = HeadRelease.of(RELEASE.files())
    assert again.files() == RELEASE.files()
    assert again.title == "lite0@3"
    assert again.lineage == RELEASE.lineage
    assert again.calibration == RELEASE.calibration
    assert again.sums is not None and RELEASE.sums is not None
    assert again.sums.snapshot() == RELEASE.sums.snapshot()


def test_a_release_weighs_tens_of_kilobytes() -> None:
    assert sum(map(len, RELEASE.files().values())) < 90_000


def test_a_release_before_the_first_label_holds_no_sums() -> None:
    empty = replace(RELEASE, sums=None, rows=())
    again = HeadRelease.of(empty.files())
    assert again.sums is None
    vector = vectors_of_new(1)[0]
    answered = ZOO.cloud_model(again).predict(vector)
    assert answered.model == "lite0@3"
    np.testing.assert_allclose(answered.species.probabilities, ZOO.cloud_model().predict(vector).species.probabilities)


def test_every_tier_answers_what_was_learned() -> None:
    cloud, edge = ZOO.cloud_model(RELEASE), ZOO.edge_model(RELEASE)
    vector = vectors_of_new(1, seed=7)[0]
    seen, near = cloud.predict(vector), edge.predict_vector(vector)
    assert (cloud.name, seen.model, edge.name, near.model) == ("lite0@3",) * 4
    assert seen.species.best[0] == NEW
    assert near.family.best[0] == "Solenodontidae"
    assert seen.kingdom.best[0] == near.kingdom.best[0] == "animal"
    assert cloud.tree.path(NEW) == edge.tree.path(NEW) == ("animal", "Solenodontidae", NEW)
    assert RELEASE.smoke.complaints(cloud.head, cloud.tree) == ()


def test_an_eye_without_a_release_is_the_zoos_own() -> None:
    assert ZOO.cloud_model().name == BASE.manifest.title
    assert ZOO.cloud_model().tree.species == BASE.tree.species


def test_a_head_that_answers_otherwise_fails_the_smoke_test() -> None:
    other = sample_release(events=21)
    (complaint, *_) = RELEASE.smoke.complaints(
        BASE.head(replace(other, calibration=msgspec.structs.replace(other.calibration, solved_share=9.0))),
        ZOO.cloud_model(RELEASE).tree,
    )
    assert complaint.startswith("smoke input")
    assert RELEASE.smoke.complaints(BASE.head(), BASE.tree)[0].startswith("the smoke test has")


@pytest.mark.parametrize(
    "other",
    [
        replace(RELEASE, base="lite0@1"),
        replace(RELEASE, base_sums="0" * 64),
        replace(RELEASE, space="lite0-other"),
    ],
    ids=["base", "sums", "space"],
)
def test_a_release_of_another_base_is_refused(other: HeadRelease) -> None:
    with pytest.raises(Rejected) as refused:
        ZOO.cloud_model(other)
    assert refused.value.reason == "release-mismatch"


def test_files_that_are_missing_or_too_many_are_refused() -> None:
    files = dict(RELEASE.files())
    for odd in ({**files, "more": b""}, {name: data for name, data in files.items() if name != TREE}):
        with pytest.raises(Rejected, match="missing or unknown: "):
            HeadRelease.of(odd)


@pytest.mark.parametrize("file", FILES)
def test_a_changed_byte_is_refused(file: str) -> None:
    data = bytearray(RELEASE.files()[file])
    data[len(data) // 2] ^= 1
    with pytest.raises(Rejected):
        # Of the manifest itself a changed digit may only show against the others' bytes.
        HeadRelease.of({**RELEASE.files(), file: bytes(data)})


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"sums": b"no sums"}, "not packed sums"),
        ({"tree": b"no table"}, "no table"),
        ({"calibration": b"{}x"}, CALIBRATION),
        ({"calibration": msgspec.json.encode({"solved_share": -1})}, "out of range"),
        ({"calibration": msgspec.json.encode({"thresholds": {"genus": 0.5}})}, "out of range"),
        ({"calibration": msgspec.json.encode({"edge": {"kingdom": 0.0}})}, "out of range"),
        ({"smoke": b"no arrays"}, SMOKE),
        ({"lineage": b"[]"}, LINEAGE),
    ],
)
def test_a_file_that_is_none_of_a_release_is_refused(changed: dict[str, bytes], says: str) -> None:
    with pytest.raises(Rejected, match=says):
        HeadRelease.of(resealed(**changed))


def test_sums_of_another_space_or_dimension_are_refused() -> None:
    for space, dimension in (("other", BASE.sums.dimension), (BASE.sums.space, 8)):
        sums = Sums.empty(space, dimension, ("a",)).add(np.zeros((1, dimension), np.uint8), [0])
        files = replace(RELEASE, sums=sums).files()
        with pytest.raises(Rejected, match=f"of {space}|dimension 8"):
            HeadRelease.of(files)
    assert SUMS in files


def test_labels_that_the_grown_tree_lacks_are_refused() -> None:
    with pytest.raises(Rejected) as refused:
        ZOO.cloud_model(replace(RELEASE, rows=()))
    assert refused.value.reason == "labels-mismatch"

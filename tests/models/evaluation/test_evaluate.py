"""Photos go the whole road, in one process or several, alone or as a fixed camera's frames."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from models.evaluation.evaluate import Evaluation, PhotoOutcome, evaluate
from models.evaluation.metrics import measure
from models.evaluation.photo_set import Photo, read_photos
from models.evaluation.report import render
from models.vision.images import encode_jpeg
from pipeline.errors import Stop


def picture(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (200, 260, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 5).astype(np.uint8)


def frame(name: str, pixels: np.ndarray, camera: str = "cam1", label: str = "animal") -> Photo:
    return Photo(f"{camera}/{name}", (label,), camera, encode_jpeg(pixels))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    for at, label in enumerate(("tiger", "Felidae", "person", "rose", "other")):
        (folder / label).mkdir()
        (folder / label / "1.jpg").write_bytes(encode_jpeg(picture(at)))
    return folder


@pytest.fixture(scope="module")
def done(folder: Path) -> Evaluation:
    return evaluate(read_photos(folder).photos)


def said(outcome: PhotoOutcome) -> tuple[object, ...]:
    """All but the milliseconds."""
    return outcome.name, outcome.truth, outcome.tiers, outcome.device.person_raised, outcome.sent


@pytest.mark.slow
def test_every_photo_counts_at_the_ranks_that_its_label_reaches(done: Evaluation) -> None:
    report = measure(done)
    assert report.photos == 5
    # Felidae has no species; the leaves person and other count at every rank.
    assert {(its.tier, its.rank): its.photos for its in report.ranks} == {
        ("device", "kingdom"): 5,
        ("edge", "kingdom"): 5,
        ("edge", "family"): 5,
        ("cloud", "kingdom"): 5,
        ("cloud", "family"): 5,
        ("cloud", "species"): 4,
    }
    assert report.bytes["edge to cloud"].p50 == 256
    assert [its.recall.of for its in report.persons if its.recall] == [1, 1]
    assert set(report.models) == {"device", "edge", "cloud"}
    assert report.models["edge"].startswith("lite0@")
    assert report.motion is None
    text = render(report)
    assert text.startswith("5 photos, answered by lite0@")
    assert "| cloud | species |" in text


@pytest.mark.slow
def test_several_processes_say_what_one_says(folder: Path, done: Evaluation) -> None:
    photos = [photo for _ in range(7) for photo in read_photos(folder).photos]  # three turns
    counted: list[int] = []
    several = evaluate(photos, workers=2, progress=counted.append)
    assert sum(counted) == len(several.outcomes) == 35
    assert [said(its) for its in several.outcomes] == [said(its) for its in done.outcomes] * 7


@pytest.mark.slow
def test_a_photo_that_turns_out_damaged_ends_it_or_is_left_out(folder: Path) -> None:
    whole = read_photos(folder).photos
    data = whole[0].read()
    bad = Photo("bad.jpg", ("animal",), "x", data[:300] + bytes(200) + data[500:-2] + b"\xff\xc0\xff\xd9")
    gone = Photo("gone.jpg", ("animal",), "x", folder / "gone.jpg")
    with pytest.raises(Stop, match=r"gone\.jpg: it cannot be read.*--skip-bad"):
        evaluate([whole[0], gone])
    left = evaluate([whole[0], gone], skip_bad=True)
    assert len(left.outcomes) == 1
    assert left.left_out[0].startswith("gone.jpg: ")
    with pytest.raises(Stop, match="not one of these photos"):
        evaluate([gone], skip_bad=True)
    assert len(evaluate([whole[0], bad], skip_bad=True).outcomes) in (1, 2)  # a decoder may repair it


@pytest.mark.slow
def test_while_nothing_moves_the_earlier_answer_stands_and_costs_nothing() -> None:
    still = picture(1)
    frames = [frame(f"{at:02}.jpg", still) for at in range(6)]
    outcomes = evaluate(frames, apart_s=1.0).outcomes
    assert [its.stands for its in outcomes] == [False, *[True] * 5]
    assert all(its.tiers == outcomes[0].tiers for its in outcomes)
    assert not any(its.ms or its.sent for its in outcomes[1:])
    report = measure(Evaluation(outcomes, {"device": "x"}, apart_s=1.0))
    assert report.motion is not None
    assert report.motion.stands.count == 5
    assert "Nothing moved in 83.3% of the frames" in render(report)
    # What stands is not sent again.
    assert all(its.device.count <= 1 for its in report.forwards)


@pytest.mark.slow
def test_a_still_answer_is_looked_at_anew_in_time() -> None:
    frames = [frame(f"{at}.jpg", picture(1)) for at in range(3)]
    assert [its.stands for its in evaluate(frames, apart_s=20.0).outcomes] == [False, True, False]


@pytest.mark.slow
def test_frames_are_taken_by_camera_and_in_the_order_of_their_names() -> None:
    one, other = picture(1), picture(2)
    mixed = [
        frame("2.jpg", one, "cam1"),
        frame("1.jpg", other, "cam2"),
        frame("1.jpg", one, "cam1"),
        frame("2.jpg", other, "cam2"),
    ]
    outcomes = evaluate(mixed, apart_s=1.0).outcomes
    assert {its.name: its.stands for its in outcomes} == {
        "cam1/1.jpg": False,
        "cam1/2.jpg": True,
        "cam2/1.jpg": False,
        "cam2/2.jpg": True,
    }


@pytest.mark.slow
def test_what_moved_is_looked_at_by_itself() -> None:
    empty = np.full((300, 400, 3), 90, np.uint8)
    moved = empty.copy()
    moved[120:220, 150:260] = picture(3)[:100, :110]
    frames = [frame(f"{at:02}.jpg", empty) for at in range(4)] + [frame("99.jpg", moved)]
    outcomes = evaluate(frames, apart_s=1.0).outcomes
    assert not outcomes[-1].stands


@pytest.mark.slow
def test_without_frames_no_motion_is_looked_for() -> None:
    frames = [frame(f"{at}.jpg", picture(1)) for at in range(2)]
    assert not any(its.stands for its in evaluate(frames).outcomes)

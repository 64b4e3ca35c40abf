"""Frames on the device, with the real eye: what is answered, what goes on, and what stays."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from exif_samples import OFFSET, ORIGINAL, with_exif
from sample_messages import (
    CAMERA,
    GARDEN,
    NOW_S,
    SOURCE,
    device_model,
    edge_model,
    event_id,
    photo_jpeg,
    settings,
)

from models.answering.device import FrameAnswer, Frames, event_time
from models.answering.frame_gate import FrameTime, StreamMemory
from models.answering.sightings import Visit
from models.labels.taxonomy import KINGDOMS, load_taxonomy
from models.vision import images
from models.vision.boxes import Box
from models.vision.region_search import Found
from models.vision.tier_models import DeviceModel
from pipeline import messages
from pipeline.errors import Rejected
from pipeline.messages import Crop, Feature, Kind, Privacy, Rank, Tier, Vector
from pipeline.privacy.policy import Policy
from pipeline.privacy.seal import Keyring, open_private
from pipeline.settings.settings import DeviceSettings, RuleSettings, Settings, StreamSettings, UplinkSettings

CAT = photo_jpeg("chelsea.png")
PERSON = photo_jpeg("astronaut.png")


def changed(stream: StreamSettings, **changes: Any) -> StreamSettings:
    return msgspec.structs.replace(stream, **changes)


def camera(told: Settings | None = None, keyring: Keyring | None = None) -> Frames:
    told = told or settings()
    return Frames(told, Policy(told), load_taxonomy(), device_model(), keyring or Keyring(), edge_model)


def look(
    frames: Frames, data: bytes, number: int = 1, *, after_s: float = 0.0, before: FrameAnswer | None = None
) -> FrameAnswer:
    now_s = NOW_S + after_s
    return frames.answer(
        event_id(number, now_s),
        GARDEN,
        data,
        received_s=now_s,
        now=lambda: now_s + 0.03,
        order=(1, number),
        visit=before.visit if before else None,
        memory=before.memory if before else StreamMemory(),
    )


def test_a_cat_is_an_animal_and_its_crop_goes_to_the_edge() -> None:
    told = look(camera(), CAT)
    assert (told.result.path, told.result.tier, told.result.revision) == (("animal",), Tier.DEVICE, 1)
    assert (told.result.pending, told.result.rule) == (Tier.EDGE, "ask-the-edge")
    assert told.result.sighting == told.result.event == told.visit.id
    assert (told.result.privacy, told.result.model, told.result.latency_ms) == (
        Privacy.PUBLIC,
        device_model().name,
        30.0,
    )
    assert isinstance(told.event.body, Crop)
    assert max(images.decode(told.event.body.jpeg).shape) <= 320
    assert (told.event.wants, told.event.boot, told.event.sequence) == (Rank.SPECIES, 1, 1)
    assert told.event.result == told.result


def test_a_persons_picture_stays_and_even_its_answer_goes_no_further_than_the_site() -> None:
    told = look(camera(), PERSON)
    assert (told.result.rule, told.result.pending) == ("person-in-frame", None)
    assert told.event.body is None
    assert told.event.levels.pixels is told.event.levels.feature is Privacy.USER_PRIVATE
    assert told.result.privacy is Privacy.EDGE_PRIVATE
    assert told.event.person > device_model().person_threshold - 1e-3


def half_missing(jpeg: bytes) -> bytes:
    """The photo that a camera leaves whose battery died: the end marker is there, half of the data is not."""
    return jpeg[: len(jpeg) // 2] + b"\xff\xd9"


def test_a_damaged_frame_lowers_no_level_since_a_person_may_be_in_the_missing_part() -> None:
    seen = look(camera(), half_missing(CAT))
    assert (seen.result.rule, seen.result.pending, seen.result.flags) == ("image-damaged", None, ("image-damaged",))
    assert re.search(r"\d\d% of the picture is missing", seen.result.reason)
    assert seen.event.body is None
    assert seen.event.levels.pixels is seen.event.levels.feature is Privacy.USER_PRIVATE
    assert seen.result.privacy is Privacy.EDGE_PRIVATE


@pytest.mark.parametrize("send", ["crop", "vector"])
def test_no_answer_stands_because_of_a_damaged_frame(send: Literal["crop", "vector"]) -> None:
    frames = camera(settings(device=DeviceSettings(send=send)))
    cat = look(frames, CAT)
    damaged = look(frames, half_missing(CAT), 2, after_s=1, before=cat)
    assert damaged.result.rule == "image-damaged"
    again = look(frames, CAT, 3, after_s=2, before=damaged)
    assert again.result.rule == "nothing-moved"
    assert cat.result.event in again.result.reason
    alone = look(frames, half_missing(CAT))
    assert look(frames, CAT, 2, after_s=1, before=alone).event.body is not None


def test_a_person_in_the_part_that_is_left_is_remembered() -> None:
    frames = camera()
    damaged = look(frames, PERSON[: len(PERSON) * 4 // 5] + b"\xff\xd9")
    assert (damaged.result.rule, damaged.result.flags) == ("person-in-frame", ("image-damaged",))
    assert look(frames, CAT, 2, after_s=3, before=damaged).result.rule == "person-a-moment-ago"


def test_a_stream_that_is_not_named_is_answered_and_says_how_to_name_it() -> None:
    told = look(camera(Settings()), CAT)
    assert told.result.path == ("animal",)
    assert (told.result.rule, told.event.body) == ("policy-keeps-pixels", None)
    assert '[streams."cam1/garden"]' in told.result.reason


def test_while_nothing_moves_the_last_answer_stands() -> None:
    frames = camera()
    first = look(frames, CAT)
    second = look(frames, CAT, 2, after_s=1, before=first)
    assert (second.result.rule, second.result.pending, second.event.body) == ("nothing-moved", None, None)
    assert first.result.event in second.result.reason
    assert second.result.path == first.result.path
    assert second.result.sighting == first.result.sighting
    assert second.result.event != first.result.event


def test_an_answer_does_not_stand_for_ever() -> None:
    frames = camera()
    first = look(frames, CAT)
    later = look(frames, CAT, 2, after_s=settings().device.still_s + 1, before=first)
    assert later.result.rule == "ask-the-edge"


def test_a_person_who_stands_still_stays_private() -> None:
    frames = camera()
    first = look(frames, PERSON)
    second = look(frames, PERSON, 2, after_s=1, before=first)
    assert second.event.body is None
    assert second.event.levels.pixels is Privacy.USER_PRIVATE


def test_frames_of_another_kingdom_are_another_sighting() -> None:
    frames = camera()
    cat = look(frames, CAT)
    rocket = look(frames, photo_jpeg("rocket.jpg"), 2, after_s=2, before=cat)
    assert (cat.result.label, rocket.result.label) == ("animal", "other")
    assert rocket.result.sighting == rocket.result.event != cat.result.event


def test_after_a_restart_the_running_sighting_goes_on() -> None:
    """The scene is lost with the process; the visit is in the store."""
    visit = Visit(id=event_id(99), label="animal", last_s=NOW_S - 5)
    told = camera().answer(
        event_id(),
        GARDEN,
        CAT,
        received_s=NOW_S,
        now=lambda: NOW_S,
        order=(2, 1),
        visit=visit,
        memory=StreamMemory(),
    )
    assert told.result.sighting == event_id(99)


def test_with_send_vector_no_pixels_leave() -> None:
    told = look(camera(settings(device=DeviceSettings(send="vector"))), CAT)
    assert isinstance(told.event.body, Vector)
    assert told.event.body.space == edge_model().space
    seen = edge_model().predict_vector(np.frombuffer(told.event.body.data, np.uint8))
    assert seen.family.best[0] == "Felidae"


def test_with_send_vector_a_private_feature_stays_where_public_pixels_would_go() -> None:
    closed = changed(CAMERA, feature=Privacy.USER_PRIVATE)
    told = look(camera(settings(device=DeviceSettings(send="vector"), streams={SOURCE: closed})), CAT)
    assert (told.result.rule, told.event.body) == ("policy-keeps-pixels", None)


def test_with_send_vector_a_person_whom_the_edge_would_find_stays_on_the_device() -> None:
    told = msgspec.structs.replace(settings(), device=DeviceSettings(send="vector"))
    frames = Frames(told, Policy(told), load_taxonomy(), nobody_seen(), Keyring(), edge_model)
    assert edge_model().predict(images.decode(PERSON)).person_raised
    answer = look(frames, PERSON)
    assert answer.event.body is None
    assert answer.result.rule == "person-in-frame"
    assert answer.event.levels.feature is Privacy.USER_PRIVATE
    assert look(frames, CAT, 2, after_s=1, before=answer).result.rule == "person-a-moment-ago"


def test_what_is_answered_person_counts_as_one_however_low_its_score() -> None:
    told = settings()
    frames = Frames(told, Policy(told), load_taxonomy(), nobody_seen("person"), Keyring(), edge_model)
    answer = look(frames, CAT)
    assert answer.result.label == "person"
    assert answer.event.body is None
    assert answer.memory.person_ago_s(FrameTime(NOW_S + 1), hold_s=10) == 1


def taken(at: str, photo: bytes = CAT) -> bytes:
    """Return the photo with this EXIF time."""
    return with_exif({ORIGINAL: at, OFFSET: "+00:00"}, photo)


@pytest.mark.parametrize(
    ("person", "cat", "held"),
    [
        ("2023:01:01 10:00:00", "2023:01:06 10:00:00", False),
        ("2023:01:01 10:00:00", "2023:01:01 10:00:11", False),
        ("2023:01:01 10:00:00", "2023:01:01 10:00:05", True),
        ("2023:01:06 10:00:00", "2023:01:01 10:00:00", True),  # a clock that goes back may have been turned
        ("2023:01:01 10:00:00", "2023:01:06", True),  # a date alone
        ("2023:01:01", "2023:01:06 10:00:00", True),
        ("2023:01:01 10:00:00", "1970:01:01 00:00:00", True),
        ("2023:01:01 10:00:00", "2036:01:01 00:00:00", True),
        ("2023:01:01 10:00:00", "", True),
        ("", "2023:01:01 10:00:00", True),
    ],
)
def test_a_card_read_at_once_holds_back_what_was_taken_beside_a_person(person: str, cat: str, held: bool) -> None:
    frames = camera()
    first = look(frames, taken(person, PERSON))
    second = look(frames, taken(cat), 2, after_s=0.1, before=first)
    assert (second.result.rule == "person-a-moment-ago") is held, second.result.reason
    assert (second.event.body is None) is held


@pytest.mark.parametrize(("apart_s", "held"), [(5 * 86_400, False), (600, True)])
def test_without_exif_data_only_times_of_files_that_are_far_apart_end_a_hold(apart_s: float, held: bool) -> None:
    """A file's time may be that of its copy: then neighbours of a person are minutes apart."""
    frames, then_s = camera(), NOW_S - 30 * 86_400

    def read(data: bytes, taken_s: float, memory: StreamMemory) -> FrameAnswer:
        named = {"received_s": NOW_S, "now": lambda: NOW_S, "order": (1, 1), "visit": None, "memory": memory}
        return frames.answer(event_id(1, taken_s), GARDEN, data, **named)  # type: ignore[arg-type]

    person = read(PERSON, then_s, StreamMemory())
    cat = read(CAT, then_s + apart_s, person.memory)
    assert (cat.result.rule == "person-a-moment-ago") is held


def test_an_earlier_person_of_a_card_holds_back_its_neighbours_that_arrive_later() -> None:
    frames = camera()
    day, week = look(frames, taken("2023:01:01 10:00:00", PERSON)), taken("2023:01:06 10:00:00", PERSON)
    later = look(frames, week, 2, after_s=1, before=day)
    neighbour = look(frames, taken("2023:01:01 10:00:05"), 3, after_s=100, before=later)
    assert neighbour.result.rule == "person-a-moment-ago"


@pytest.mark.parametrize("person", ["", dt.datetime.fromtimestamp(NOW_S, dt.UTC).strftime("%Y:%m:%d %H:%M:%S")])
@pytest.mark.parametrize("clock", ["2012:01:01 00:00:00", "2023:11:14 22:13:22"])
def test_a_live_cameras_hold_needs_no_right_clock(person: str, clock: str) -> None:
    """The person in front of it may have changed its battery: the next picture is old by its own clock."""
    frames = camera()
    first = look(frames, taken(person, PERSON))
    beside = look(frames, taken(clock), 2, after_s=2, before=first)
    assert beside.result.rule == "person-a-moment-ago"
    assert look(frames, CAT, 3, after_s=60, before=first).result.rule != "person-a-moment-ago"


def test_a_clock_that_is_set_back_begins_the_hold_anew_and_does_not_prolong_it() -> None:
    frames, day_s = camera(), 86_400.0
    first = look(frames, PERSON, after_s=3 * day_s)
    second = look(frames, CAT, 2, after_s=0, before=first)
    assert second.result.rule == "person-a-moment-ago"
    third = look(frames, CAT, 3, after_s=settings().device.still_s + 1, before=second)
    assert third.result.rule == "ask-the-edge"


def test_an_answer_stands_by_the_time_of_capture() -> None:
    frames = camera()
    first = look(frames, taken("2023:01:01 10:00:00"))
    same = look(frames, taken("2023:01:01 10:00:02"), 2, after_s=0.1, before=first)
    assert same.result.rule == "nothing-moved"
    another_day = look(frames, taken("2023:01:02 10:00:00"), 3, after_s=0.2, before=same)
    assert another_day.result.rule == "ask-the-edge"
    assert another_day.result.sighting != first.result.sighting


def nobody_seen(kingdom: str = "animal") -> DeviceModel:
    """An eye that is sure of a kingdom, and of there being nobody."""
    found = Found(np.array([float(name == kingdom) for name in KINGDOMS], np.float32), 0.0, Box.WHOLE)
    return DeviceModel("blind@1", lambda frame, region: found, 0.5)


def test_a_stream_that_wants_the_kingdom_keeps_its_pictures() -> None:
    told = look(camera(settings(streams={SOURCE: changed(CAMERA, wants=Rank.KINGDOM)})), CAT)
    assert (told.result.rule, told.result.pending, told.event.body) == ("wants-no-deeper", None, None)


def test_only_where_the_settings_ask_a_persons_feature_travels_sealed_for_its_user(tmp_path: Path) -> None:
    keyring = Keyring.open(tmp_path, create=True)
    assert look(camera(keyring=keyring), PERSON).event.sealed == ()
    asked = settings(uplink=UplinkSettings(sealed=(Privacy.USER_PRIVATE,)))
    told = look(camera(asked, keyring), PERSON)
    (envelope,) = told.event.sealed
    assert (envelope.privacy, envelope.kind) == (Privacy.USER_PRIVATE, Kind.FEATURE)
    assert (envelope.source, envelope.time, envelope.space) == ("", "", "")
    assert envelope.event != told.result.event
    hidden = open_private(envelope, keyring)
    assert (hidden.event, hidden.source, hidden.space) == (told.result.event, SOURCE, edge_model().space)
    assert messages.decode(Feature, hidden.payload).path == told.result.path


def test_a_rule_that_raised_a_level_is_named_in_the_reason() -> None:
    evening = RuleSettings(
        name="our-evenings",
        stream="cam1/*",
        raise_={Kind.PIXELS: Privacy.USER_PRIVATE},
        reason="we sit there then",
    )
    told = look(camera(settings(rules=(evening,))), CAT)
    assert told.result.rule == "policy-keeps-pixels"
    assert "raised by: our-evenings" in told.result.reason


def test_bytes_that_are_no_picture_after_all_are_refused() -> None:
    with pytest.raises(Rejected):
        look(camera(), CAT[: len(CAT) // 2][:600])


@pytest.mark.parametrize("shape", [(16, 16), (2000, 40), (40, 2000)])
def test_pictures_of_any_shape_are_answered(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    assert look(camera(), images.encode_jpeg(noise)).result.task == "wildlife"


# --- times -----------------------------------------------------------------------------------------------------


def test_a_frame_was_captured_at_the_time_in_its_id() -> None:
    assert event_time(event_id(1, NOW_S - 1e8), NOW_S) == (NOW_S - 1e8, ())


@pytest.mark.parametrize("time_s", [NOW_S + 1e6, 0.0])
def test_a_time_that_cannot_be_is_flagged_and_replaced_by_the_receipts(time_s: float) -> None:
    assert event_time(event_id(1, time_s), NOW_S) == (NOW_S, ("time-implausible",))
    answer = camera().answer(
        event_id(1, time_s),
        GARDEN,
        CAT,
        received_s=NOW_S,
        now=lambda: NOW_S,
        order=(1, 1),
        visit=None,
        memory=StreamMemory(),
    )
    assert (answer.result.time, answer.result.flags) == ("2023-11-14T22:13:20.000Z", ("time-implausible",))


def test_an_id_without_a_time_takes_the_receipts() -> None:
    assert event_time("00000000-0000-4000-8000-000000000000", NOW_S) == (NOW_S, ())


EVENING = RuleSettings(
    name="evening", hours="18:00-23:00", raise_={Kind.FEATURE: Privacy.USER_PRIVATE}, reason="guests"
)


def in_new_york() -> Frames:
    return camera(msgspec.structs.replace(settings(), timezone="America/New_York", rules=(EVENING,)))


def test_the_exif_time_of_a_frame_over_mqtt_counts_in_the_sites_zone_also_for_rules() -> None:
    answer = look(in_new_york(), with_exif({ORIGINAL: "2023:05:06 20:30:00"}, CAT))
    assert (answer.result.time, answer.result.time_source) == ("2023-05-07T00:30:00.000Z", "exif-timezone")
    assert answer.event.levels.feature is Privacy.USER_PRIVATE
    assert answer.result.flags == ()
    noon = look(in_new_york(), with_exif({ORIGINAL: "2023:05:06 12:30:00", OFFSET: "-04:00"}, CAT))
    assert (noon.result.time, noon.result.time_source) == ("2023-05-06T16:30:00.000Z", "exif-offset")
    assert noon.event.levels.feature is Privacy.PUBLIC


@pytest.mark.parametrize("date", ["1904:01:01 00:00:00", "1970:01:01 12:00:00", "2099:01:01 12:00:00", "2023:05:06"])
def test_a_frame_of_a_clock_that_was_never_set_is_answered_flagged_and_kept_as_in_the_rules_hours(
    date: str,
) -> None:
    answer = look(in_new_york(), with_exif({ORIGINAL: date}, CAT))
    assert answer.result.path == ("animal",)
    assert answer.result.flags == ("time-implausible",)
    assert answer.result.time == ("2023-05-06T04:00:00.000Z" if date == "2023:05:06" else "2023-11-14T22:13:20.000Z")
    assert answer.event.levels.feature is Privacy.USER_PRIVATE


def test_a_frame_without_exif_data_says_nothing_about_its_zone() -> None:
    assert look(in_new_york(), CAT).result.time_source == ""


def test_the_scene_is_a_value_and_the_same_frame_answers_the_same() -> None:
    frames = camera()
    one, other = look(frames, CAT), look(frames, CAT)
    assert dataclasses.replace(one, memory=other.memory) == other


@pytest.mark.slow
def test_after_a_person_all_frames_of_the_stream_stay_for_a_while() -> None:
    frames = camera()
    person = look(frames, PERSON)
    soon = look(frames, CAT, 2, after_s=9.0, before=person)
    assert (soon.result.rule, soon.event.body) == ("person-a-moment-ago", None)
    assert soon.event.levels.feature is Privacy.USER_PRIVATE
    assert look(frames, CAT, 3, after_s=11.0, before=person).event.body is not None

"""Levels: a lattice that is only climbed, and the rules that raise them."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.messages import LEVELLED, Kind, Levels, Privacy, Rank, Result, Task, Tier
from pipeline.privacy.policy import LOWEST, RULES, Policy, within
from pipeline.settings.hours import ALL_DAY, DAY_MIN, Hours, Weekday, holds
from pipeline.settings.settings import STARTER, RuleSettings, Settings, StreamSettings

PAGE = Path(__file__).parents[3] / "docs" / "privacy.md"
GARDEN = "home/cam1/garden"
levels_of_all_kinds = st.builds(Levels, *(st.sampled_from(Privacy) for _ in LEVELLED))


def policy(*rules: RuleSettings, stream: StreamSettings | None = None, timezone: str = "UTC") -> Policy:
    camera = stream or StreamSettings(
        pixels=Privacy.EDGE_PRIVATE, feature=Privacy.PUBLIC, result=Privacy.PUBLIC, summary=Privacy.PUBLIC
    )
    return Policy(Settings(streams={GARDEN: camera}, rules=rules, timezone=timezone))


def rule(**fields: object) -> RuleSettings:
    fields = {"name": "r", "raise": {"result": "user-private"}, "reason": "because"} | fields
    return msgspec.convert(fields, RuleSettings)


def raised(asked: Policy, time: str = "2026-05-01T12:00:00Z", source: str = GARDEN, **seen: object) -> bool:
    time_s = dt.datetime.fromisoformat(time).timestamp()
    verdict = asked.levels(source, time_s, **seen)  # type: ignore[arg-type]
    assert ("r" in verdict.rules) == (verdict.levels.result is Privacy.USER_PRIVATE)
    return "r" in verdict.rules


# --- the lattice -----------------------------------------------------------------------------------------------


@given(levels_of_all_kinds, levels_of_all_kinds, levels_of_all_kinds)
def test_join_is_associative_commutative_and_idempotent(a: Levels, b: Levels, c: Levels) -> None:
    assert a.join(b).join(c) == a.join(b.join(c))
    assert a.join(b) == b.join(a)
    assert a.join(a) == a


@given(levels_of_all_kinds, levels_of_all_kinds)
def test_join_never_lowers_and_public_is_its_bottom(a: Levels, b: Levels) -> None:
    joined = a.join(b)
    assert all(joined.of(kind).height == max(a.of(kind).height, b.of(kind).height) for kind in Kind)
    assert a.join(LOWEST) == a


@given(st.sampled_from(Privacy), st.sampled_from(Privacy))
def test_the_higher_level_reaches_less_far(a: Privacy, b: Privacy) -> None:
    assert (a.height <= b.height) == (a.reach.depth >= b.reach.depth)
    assert a.join(b).reach.depth == min(a.reach.depth, b.reach.depth)


@pytest.mark.slow
@given(
    levels_of_all_kinds,
    st.lists(st.dictionaries(st.sampled_from(LEVELLED), st.sampled_from(Privacy), min_size=1), max_size=4),
    st.booleans(),
    st.lists(st.sampled_from(["animal", "person", "Felidae", "other"]), max_size=3),
    st.floats(allow_nan=True, allow_infinity=True),
)
def test_no_rule_ever_lowers_a_level(
    base: Levels, raises: list[dict[Kind, Privacy]], person: bool, path: list[str], time_s: float
) -> None:
    stream = StreamSettings(**{kind.value: base.of(kind) for kind in LEVELLED})  # type: ignore[arg-type]
    rules = tuple(RuleSettings(name=f"r{n}", raise_=raise_, reason="") for n, raise_ in enumerate(raises))
    verdict = policy(*rules, stream=stream).levels(GARDEN, time_s, path=tuple(path), person=person)
    assert verdict.levels.join(base) == verdict.levels


# --- built in --------------------------------------------------------------------------------------------------


def test_of_an_unnamed_stream_only_the_answer_leaves_the_device() -> None:
    verdict = policy().levels("home/cam9/street", 0.0)
    assert verdict.rules == ("unnamed-stream",)
    assert verdict.levels.result is Privacy.EDGE_PRIVATE
    assert {verdict.levels.of(kind) for kind in LEVELLED if kind is not Kind.RESULT} == {Privacy.USER_PRIVATE}


@pytest.mark.parametrize("seen", [{"person": True}, {"path": ("person",)}])
def test_a_person_keeps_pixels_and_feature_on_their_device_and_the_answer_at_its_site(
    seen: dict[str, object],
) -> None:
    verdict = policy().levels(GARDEN, 0.0, **seen)  # type: ignore[arg-type]
    assert verdict.rules == ("stream-settings", "person-in-frame")
    assert (verdict.levels.pixels, verdict.levels.feature) == (Privacy.USER_PRIVATE, Privacy.USER_PRIVATE)
    assert verdict.levels.result is Privacy.EDGE_PRIVATE


def test_an_animal_raises_nothing() -> None:
    verdict = policy().levels(GARDEN, 0.0, path=("animal", "Felidae", "Felis catus"))
    assert verdict.rules == ("stream-settings",)
    assert verdict.levels.feature is Privacy.PUBLIC


def test_built_in_rules_have_names_of_their_own_and_a_reason() -> None:
    assert len({built_in.name for built_in in RULES}) == len(RULES)
    assert all(built_in.reason for built_in in RULES)


# --- of the settings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("glob", "matches"),
    [
        ("*", True),
        (GARDEN, True),
        ("cam1/garden", True),
        ("home/cam1/*", True),
        ("cam1/*", True),
        ("*/garden", True),
        ("cam2/*", False),
        ("garden", False),
        ("CAM1/*", False),
    ],
)
def test_a_rule_names_streams_with_or_without_their_site(glob: str, matches: bool) -> None:
    assert raised(policy(rule(stream=glob))) is matches


@pytest.mark.parametrize(
    ("label", "matches"), [("Felidae", True), ("felidae", True), ("animal", True), ("Canidae", False)]
)
def test_a_rule_matches_any_label_on_the_path(label: str, matches: bool) -> None:
    assert raised(policy(rule(label=label)), path=("animal", "Felidae", "Felis catus")) is matches


def test_a_rule_about_persons_needs_one() -> None:
    asked = policy(rule(person=True))
    assert raised(asked, person=True)
    assert not raised(asked)


def test_a_rule_needs_all_that_it_names() -> None:
    asked = policy(rule(label="Felidae", hours="22:00-06:00"))
    night, noon = "2026-05-01T23:00:00Z", "2026-05-01T12:00:00Z"
    assert raised(asked, night, path=("animal", "Felidae"))
    assert not raised(asked, noon, path=("animal", "Felidae"))
    assert not raised(asked, night, path=("animal", "Canidae"))


def test_hours_are_the_sites_own_also_in_summer() -> None:
    asked = policy(rule(hours="22:00-06:00"), timezone="Europe/Berlin")
    assert raised(asked, "2026-07-01T20:30:00Z")
    assert not raised(asked, "2026-01-01T20:30:00Z")


def test_a_time_that_cannot_be_meant_counts_as_within_every_schedule() -> None:
    asked = policy(rule(hours="22:00-06:00", weekdays=["mon"]))
    assert all("r" in asked.levels(GARDEN, time_s).rules for time_s in (1e300, float("inf"), float("nan")))


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        ("2026-05-08T23:00", True),
        ("2026-05-09T02:00", True),
        ("2026-05-08T02:00", False),
        ("2026-05-09T23:00", False),
        ("2026-05-08T12:00", False),
    ],
)
def test_hours_of_a_friday_night_begin_on_friday_and_end_on_saturday(local: str, expected: bool) -> None:
    friday: tuple[Weekday, ...] = ("fri",)
    assert holds(Hours.parse("22:00-06:00"), friday, dt.datetime.fromisoformat(local)) is expected


@given(st.integers(0, DAY_MIN - 1), st.integers(0, DAY_MIN), st.datetimes())
def test_each_minute_lies_in_a_span_or_in_the_rest_of_the_day(
    start_min: int, end_min: int, moment: dt.datetime
) -> None:
    if start_min == end_min or (start_min, end_min) == (0, DAY_MIN):
        return
    rest = Hours(end_min % DAY_MIN, start_min)
    assert holds(ALL_DAY, (), moment)
    if rest.start_min != rest.end_min:
        assert holds(Hours(start_min, end_min), (), moment) != holds(rest, (), moment)


@pytest.mark.parametrize("text", ["", "22:00", "24:00-06:00", "22:60-23:00", "08:00-08:00", "8:00-9:00", "00:00-24:01"])
def test_hours_that_cannot_be_meant_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r'"'):
        Hours.parse(text)


# --- advice ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", Task)
def test_the_advice_for_an_unnamed_stream_is_toml_that_names_it(task: Task, tmp_path: Path) -> None:
    file = tmp_path / "tierwise.toml"
    file.write_text(STARTER + policy().advice("home/cam9/street", task))
    named = Settings.load(file, {}).stream("home/cam9/street")
    assert named is not None
    assert named.task is task


# --- its page --------------------------------------------------------------------------------------------------


def test_the_pages_table_of_levels_is_what_is_decided(tmp_path: Path) -> None:
    file = tmp_path / "tierwise.toml"
    file.write_text(STARTER)
    starter = Policy(Settings.load(file, {}))
    columns = [
        starter.levels("home/cam9/street", 0.0).levels,
        starter.levels("home/cam1/garden", 0.0).levels,
        starter.levels("home/room1/co2", 0.0).levels,
        RULES[0].levels,
    ]
    expected = {kind.value: tuple(levels.of(kind).value for levels in columns) for kind in Kind}
    rows = re.findall(r"^\| `(\w+)` \| [^|]+" + 4 * r"\| `([a-z-]+)` " + r"\|$", PAGE.read_text(), re.MULTILINE)
    assert {kind: tuple(levels) for kind, *levels in rows} == expected


def test_the_pages_rule_is_a_valid_one(tmp_path: Path) -> None:
    file = tmp_path / "tierwise.toml"
    [example] = [part.split("```")[0] for part in PAGE.read_text().split("```toml\n") if "[[rules]]" in part]
    file.write_text(example)
    [found] = Settings.load(file, {}).rules
    assert found.name == "our-evenings"


# --- values in answers -----------------------------------------------------------------------------------------


@given(levels_of_all_kinds)
def test_an_answer_tells_a_value_only_if_the_reading_may_go_as_far_as_the_answer(levels: Levels) -> None:
    result = Result(
        event="e",
        time="2026-05-01T12:00:00Z",
        site="home",
        device="room1",
        stream="co2",
        sighting=None,
        task=Task.OCCUPANCY,
        tier=Tier.DEVICE,
        revision=1,
        pending=None,
        rank=Rank.STATE,
        label="normal",
        path=("normal",),
        probability=0.9,
        privacy=levels.result,
        rule="r",
        reason="",
        model="m",
        latency_ms=1.0,
        value=800.0,
        unit="ppm",
    )
    shown = within(result, levels)
    assert (shown.value is None) == (levels.reading.height > levels.result.height)
    assert shown.value is not None or shown.unit is None
    assert shown.label == result.label

"""The picture that Home Assistant shows of a camera: the newest crop that may be shown, and none that may not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sample_messages import NOW_S, event, event_id, result, settings

from agents.edge.last_pictures import shows_pictures
from agents.edge.store import SITE, EdgeStore
from agents.role import outbox
from pipeline import topics
from pipeline.clock import HandClock
from pipeline.errors import Withheld
from pipeline.messages import Crop, Event, Levels, Privacy, StreamPicture, Tier
from pipeline.privacy import gate
from pipeline.settings.settings import EdgeSettings, StreamSettings
from pipeline.spool import Spool

IMAGE = topics.image("home", "cam1", "garden")
SHOWN = Levels(pixels=Privacy.EDGE_PRIVATE)
HIDDEN = Levels(pixels=Privacy.USER_PRIVATE)


class Site:
    """An edge's store, and what the broker retains of its pictures."""

    def __init__(self, spool: Spool) -> None:
        self.clock = HandClock(NOW_S)
        self.spool, self.store = spool, EdgeStore("home", spool, self.clock)
        self.store.open()
        self.retained: dict[str, bytes] = {}

    def frame(self, number: int, jpeg: bytes, levels: Levels = SHOWN) -> Event:
        shot = event(result(event_id(number, NOW_S + number)), body=Crop(jpeg=jpeg, box=(0, 0, 1, 1)))
        with self.store.transaction() as tx:
            self.store.pictures.show(shot, levels, SITE, tx)
        return shot

    def picture(self) -> bytes | None:
        """Send what waits through the gate, and return the camera's picture."""
        for out in self.spool.outgoing(SITE, 99, NOW_S):
            cleared = outbox.cleared(out, to=Tier.EDGE)
            assert cleared.retain
            self.retained[cleared.topic] = cleared.payload
            self.spool.settle(SITE, [out.id])
        return self.retained.get(IMAGE) or None


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    spool = Spool.open(tmp_path / "spool.db", limit_bytes=1 << 20)
    yield Site(spool)
    spool.close()


def test_the_newest_picture_is_shown_as_it_is(site: Site) -> None:
    site.frame(2, b"newest")
    site.frame(1, b"late")
    assert site.picture() == b"newest"
    site.frame(3, b"next")
    assert site.picture() == b"next"


def test_a_picture_that_the_edge_may_not_see_is_not_shown(site: Site) -> None:
    site.frame(1, b"CANARY", HIDDEN)
    assert site.picture() is None


def test_a_person_clears_the_cameras_picture_even_if_it_waits(site: Site) -> None:
    for sent in (False, True):
        site.frame(1, b"CANARY")
        if sent:
            assert site.picture() == b"CANARY"
        with site.store.transaction() as tx:
            site.store.pictures.clear_stream("home/cam1/garden", SITE, tx)
        assert site.picture() is None
        assert site.retained[IMAGE] == b"", "an empty retained message clears the topic"


def test_a_raised_level_clears_the_picture_of_that_event_alone(site: Site) -> None:
    shown = [site.frame(number, b"%d" % number).result.event for number in (1, 2)]
    with site.store.transaction() as tx:
        site.store.pictures.levels_raised(shown[0], HIDDEN, SITE, tx)
        site.store.pictures.levels_raised(shown[1], SHOWN, SITE, tx)
    assert site.picture() == b"2"
    with site.store.transaction() as tx:
        site.store.pictures.levels_raised(shown[1], HIDDEN, SITE, tx)
    assert site.picture() is None


def test_forgetting_clears_it(site: Site) -> None:
    site.frame(1, b"old")
    assert site.picture() == b"old"
    site.store.forget(NOW_S + 1)
    assert site.picture() is None


def test_settings_that_no_longer_allow_it_clear_it(site: Site) -> None:
    allowed = settings(
        streams={"home/cam1/garden": StreamSettings(pixels=Privacy.EDGE_PRIVATE)},
        edge=EdgeSettings(home_assistant=True),
    )
    site.frame(1, b"seen")
    site.store.pictures.keep_only(allowed, SITE)
    assert site.picture() == b"seen"
    site.store.pictures.keep_only(msgspec.structs.replace(allowed, edge=EdgeSettings()), SITE)
    assert site.picture() is None
    assert shows_pictures(allowed, allowed.streams["home/cam1/garden"])
    assert not shows_pictures(allowed, StreamSettings())


def test_the_gate_lets_a_picture_out_by_its_level_and_to_its_site_alone() -> None:
    seen = StreamPicture(event=event_id(), privacy=Privacy.EDGE_PRIVATE, jpeg=b"jpeg")
    assert gate.clear(seen, IMAGE, to=Tier.EDGE).payload == b"jpeg"
    for picture, to in (
        (seen, Tier.CLOUD),
        (msgspec.structs.replace(seen, privacy=Privacy.USER_PRIVATE), Tier.EDGE),
    ):
        with pytest.raises(Withheld):
            gate.clear(picture, IMAGE, to=to)
    assert gate.reach(IMAGE) is Tier.EDGE

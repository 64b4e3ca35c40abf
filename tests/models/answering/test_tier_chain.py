"""All tiers in one process: the same stops as in the running system."""

from __future__ import annotations

import msgspec
import pytest
from sample_messages import NOW_S

from agents.demo.scenes import photo_folder
from models.answering.tier_chain import Classified, TierChain, classified
from models.shipped import GLIMPSE
from pipeline.clock import HandClock
from pipeline.errors import Rejected
from pipeline.messages import Privacy, Tier


@pytest.fixture(scope="module")
def chain() -> TierChain:
    return TierChain.open(clock=HandClock(NOW_S))


def classify(chain: TierChain, name: str) -> Classified:
    file = photo_folder() / name
    return classified(name, chain.answer(file.read_bytes()))


def test_a_cat_is_answered_by_three_tiers_each_deeper_than_the_one_before(chain: TierChain) -> None:
    told = classify(chain, "chelsea.png")
    assert [(each.tier, each.rank) for each in told.answers] == [
        (Tier.DEVICE, "kingdom"),
        (Tier.EDGE, "family"),
        (Tier.CLOUD, "species"),
    ]
    assert told.final.path == ("animal", "Felidae", "Felis catus")
    assert told.privacy is Privacy.PUBLIC
    assert set(told.ms) == {"device", "edge", "cloud"}


def test_a_person_is_answered_by_the_device_alone(chain: TierChain) -> None:
    told = classify(chain, "astronaut.png")
    assert [(each.tier, each.rule) for each in told.answers] == [(Tier.DEVICE, "person-in-frame")]
    assert told.privacy is Privacy.USER_PRIVATE


def test_a_weak_device_answers_by_its_own_network_and_keeps_its_pixels() -> None:
    told = classify(TierChain.open(device_model=GLIMPSE, clock=HandClock(NOW_S)), "chelsea.png")
    (answer,) = told.answers
    assert (answer.label, answer.rule) == ("animal", "person-check-too-weak")
    assert answer.model.startswith("glimpse@")


@pytest.mark.slow
def test_one_photo_does_not_colour_the_next(chain: TierChain) -> None:
    """Each is a first frame: no motion, no sighting goes on."""
    first = classify(chain, "chelsea.png")
    classify(chain, "astronaut.png")
    again = classify(chain, "chelsea.png")
    assert (again.answers, again.final, again.privacy) == (first.answers, first.final, first.privacy)


def test_what_is_no_picture_is_refused(chain: TierChain) -> None:
    with pytest.raises(Rejected) as caught:
        chain.answer(b"no picture")
    assert caught.value.reason == "image-unknown-format"


def test_an_answer_survives_as_a_line_of_json(chain: TierChain) -> None:
    told = classify(chain, "chelsea.png")
    assert msgspec.json.decode(msgspec.json.encode(told), type=Classified) == told

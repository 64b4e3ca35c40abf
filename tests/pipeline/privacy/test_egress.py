"""What leaves for people passes only if its level allows the place where it is read, or somebody asked for it."""

from __future__ import annotations

import pytest

from pipeline.errors import Withheld
from pipeline.messages import Privacy
from pipeline.privacy.egress import Reach, Released, release

PUBLIC, EDGE_PRIVATE, USER_PRIVATE = Privacy
FREELY = {
    Reach.DEVICE: {PUBLIC, EDGE_PRIVATE, USER_PRIVATE},
    Reach.SITE: {PUBLIC, EDGE_PRIVATE},
    Reach.CLOUD: {PUBLIC},
    Reach.OUTSIDE: {PUBLIC},
}


def passes(privacy: Privacy, reach: Reach, allow: Privacy = PUBLIC, *, person_picture: bool = False) -> bool:
    try:
        return release("x", privacy, reach, allow=allow, person_picture=person_picture).content == "x"
    except Withheld:
        return False


@pytest.mark.parametrize("reach", Reach)
def test_a_level_goes_as_far_as_it_may(reach: Reach) -> None:
    assert {level for level in Privacy if passes(level, reach)} == FREELY[reach]


@pytest.mark.parametrize("reach", Reach)
@pytest.mark.parametrize("allow", [EDGE_PRIVATE, USER_PRIVATE])
def test_edge_private_goes_outside_where_somebody_asks_and_user_private_never(reach: Reach, allow: Privacy) -> None:
    asked = {EDGE_PRIVATE} if allow is EDGE_PRIVATE else set()
    assert {level for level in Privacy if passes(level, reach, allow)} == FREELY[reach] | asked


@pytest.mark.parametrize("reach", [Reach.SITE, Reach.CLOUD, Reach.OUTSIDE])
def test_a_persons_picture_leaves_its_device_at_no_level_and_no_wish(reach: Reach) -> None:
    assert not any(passes(level, reach, EDGE_PRIVATE, person_picture=True) for level in Privacy)


def test_only_the_gate_makes_what_a_transport_takes() -> None:
    with pytest.raises(TypeError, match="only release"):
        Released("x", Reach.DEVICE)

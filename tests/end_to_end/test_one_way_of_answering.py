"""The tiers in one process and the running roles answer the same frames alike."""

from __future__ import annotations

import pytest
from stack import EACH_FRAME_COUNTS, LAWN, SITE, Stage, cats, jpeg, photo

from models.answering.tier_chain import TierChain
from pipeline import topics
from pipeline.messages import Result

pytestmark = pytest.mark.e2e


def comparable(result: Result) -> tuple[object, ...]:
    """Everything but the event's name, the times, and that each frame is a sighting of its own."""
    assert result.sighting == result.event
    fields = {name: getattr(result, name) for name in result.__struct_fields__}
    return tuple(
        (name, value) for name, value in fields.items() if name not in ("event", "time", "sighting", "latency_ms")
    )


def test_the_chain_in_one_process_answers_as_the_running_roles_do(stage: Stage) -> None:
    # A stack of its own: the shared one has learned by now. No deadline may add an answer on a busy machine.
    stack = stage.fresh(
        **EACH_FRAME_COUNTS, TIERWISE_EDGE__CLOUD_DEADLINE_S="60", TIERWISE_DEVICE__EDGE_DEADLINE_S="60"
    )
    stack.start()
    # The person comes last: a person also raises the levels of the frames that follow.
    pictures = (
        photo("coffee.png"),
        photo("rocket.jpg"),
        photo("motorcycle_left.png"),
        photo("astronaut.png"),
    )
    frames = [*cats(3), *(jpeg(picture) for picture in pictures)]
    chain, lawn = TierChain.open(stack.settings), topics.parse(LAWN)
    assert lawn is not None and lawn.site == SITE
    before, tiers = None, set[int]()
    with stack.listen() as listener:
        for frame in frames:
            before = chain.answer(frame, lawn, before=before)
            event = listener.capture(LAWN, frame)
            listener.last_word(event, before.results[-1].tier)
            answers = listener.answers(event)
            assert [comparable(answer) for answer in answers] == [comparable(answer) for answer in before.results]
            tiers.add(len(answers))
    assert tiers >= {1, 3}, "some frames stop at the device, others reach the cloud"

"""What a role tells of itself on its status topic and on `/health`."""

from __future__ import annotations

from agents.role.presence import model_names, presence, update_parts
from models.shipped import load_zoo
from pipeline.clock import HandClock
from pipeline.messages import Status, Update, decode

TRIED = Update(stage="canary", candidate="lite0@3", rule="seen-enough", reason="50 events compared")


def test_the_status_is_made_anew_each_time_and_the_will_promises_nothing() -> None:
    serving = ["lite0@2"]
    birth, will = presence("home", "edge", HandClock(), models=lambda: serving, backlog=lambda: 3, update=lambda: TRIED)
    serving.append("occupancy@1")
    online, offline = decode(Status, birth().payload), decode(Status, will.payload)
    assert (online.state, online.models, online.backlog, online.update) == (
        "online", ("lite0@2", "occupancy@1"), 3, TRIED,
    )  # fmt: skip
    assert (offline.state, offline.models, offline.update) == ("offline", (), None)
    assert birth().retain


def test_the_heads_that_serve_take_the_place_of_the_shipped_ones() -> None:
    zoo = load_zoo()
    names = model_names(zoo, "mine@1", heads="lite0@3")
    assert "lite0@3" in names
    assert names[-1] == "mine@1"
    assert [name for name in names if name.startswith("lite0")] == ["lite0@3"]
    assert [name for name in model_names(zoo) if name.startswith("lite0")] == [zoo.base().manifest.title]


def test_health_says_what_serves_what_is_tried_and_what_is_wrong() -> None:
    assert update_parts("lite0@2", TRIED) == {
        "model": "lite0@2",
        "update": "canary lite0@3 seen-enough: 50 events compared",
    }
    told = update_parts("lite0@2", Update(stage="idle", refused="lite0@3: fails", trouble="no-root: none"))
    assert (told["refused"], told["releases"]) == ("lite0@3: fails", "no-root: none")

"""The client as a user's own script imports it, against a small device agent and edge over a real broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sample_device import SmallDevice, small_device
from sample_messages import event_id

from agents.client import SiteClient, connect
from pipeline.errors import Rejected, Retry
from pipeline.settings.settings import Settings


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallDevice]:
    monkeypatch.setattr("agents.client.window.REPEAT_AFTER_S", 0.05)
    with small_device(tmp_path) as opened:
        yield opened


@pytest.fixture
def site(device: SmallDevice, tmp_path: Path) -> Iterator[SiteClient]:
    with connect(Settings.load(tmp_path / "tierwise.toml")) as client:
        yield client


def test_a_script_publishes_a_photo_and_labels_its_event(site: SiteClient, device: SmallDevice, tmp_path: Path) -> None:
    photo = tmp_path / "cat.jpg"
    photo.write_bytes(b"jpeg")
    answer = site.publish_photo(photo, "cam1/garden")
    assert (answer.event, answer.label, answer.pending) == ("e1", "Felidae", None)
    assert device.taken == [b"jpeg", b"jpeg"], "the first message was lost, and published again"
    labelled = site.label(event_id(1), "cam1", "Felis catus", by="ann")
    assert labelled is not None
    assert (labelled.event, labelled.label) == (event_id(1), "Felis catus")


def test_a_refusal_is_an_error_with_its_reason(site: SiteClient, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(Rejected, match="0 bytes"):
        site.publish_photo(tmp_path / "empty.png", "cam1/garden")
    with pytest.raises(Rejected, match="no such label"):
        site.label(event_id(1), "cam1", "nonsense")


def test_answers_are_followed_until_none_comes(site: SiteClient, tmp_path: Path) -> None:
    with connect(site.settings) as other:
        (tmp_path / "cat.jpg").write_bytes(b"jpeg")
        site.publish_photo(tmp_path / "cat.jpg", "cam1/garden")
        assert [answer.revision for answer in other.answers(timeout_s=1)] == [1, 2]


def test_an_agent_that_does_not_answer_is_an_error_to_try_again(
    site: SiteClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.client.site_client.ANSWERED_WITHIN_S", 0.1)
    (tmp_path / "cat.jpg").write_bytes(b"jpeg")
    with pytest.raises(Retry, match="not acknowledged"):
        site.publish_photo(tmp_path / "cat.jpg", "cam9/garden")

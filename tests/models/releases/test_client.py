"""The attack list of The Update Framework's specification: refused by name, and what was trusted stands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sample_releases import Cloud, Tier, current

from models.releases.repository import LIFE_S
from models.releases.targets import CURRENT
from pipeline.errors import Rejected, Retry


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    cloud = Cloud(tmp_path / "cloud")
    cloud.release(1)
    return cloud


@pytest.fixture
def tier(tmp_path: Path, cloud: Cloud) -> Tier:
    """It trusts release 1."""
    tier = Tier(tmp_path / "tier", cloud)
    tier.trust.refresh()
    return tier


@pytest.fixture
def thief(tmp_path: Path, cloud: Cloud) -> Cloud:
    """Somebody with keys of their own, and the same versions of everything."""
    thief = Cloud(tmp_path / "thief", cloud.clock)
    thief.release(1)
    return thief


def refused(tier: Tier) -> str:
    """Why; and nothing else is trusted than before."""
    before = tier.serving()
    with pytest.raises(Rejected) as caught:
        tier.trust.refresh()
    assert tier.serving() == before
    assert "stay in force" in str(caught.value) or caught.value.reason == "no-root"
    return caught.value.reason


def test_what_the_cloud_signed_is_trusted_with_each_files_length_and_digest(cloud: Cloud, tier: Tier) -> None:
    assert set(tier.trust.targets) == {
        "lite0/1/CARD.md",
        "lite0/1/manifest.json",
        "lite0/1/sums.bin",
        CURRENT,
    }
    assert tier.trust.targets["lite0/1/sums.bin"].length == 10_240
    before = tier.serving()
    cloud.release(2)
    tier.trust.refresh()
    assert tier.serving() != before


def test_arbitrary_install_what_another_signed_is_refused(cloud: Cloud, tier: Tier, thief: Cloud) -> None:
    thief.release(2)
    tier.received = {**cloud.received, **thief.received, "1.root.json": cloud.received["1.root.json"]}
    assert refused(tier) == "bad-signature"


def test_arbitrary_install_a_root_of_another_is_refused(cloud: Cloud, tier: Tier, thief: Cloud) -> None:
    thief.repository.rotate("root")
    tier.received = cloud.received | {"2.root.json": thief.repository.root}
    assert refused(tier) == "bad-signature"


def test_a_changed_byte_is_refused(cloud: Cloud, tier: Tier) -> None:
    cloud.release(2)
    told = json.loads(cloud.received["timestamp.json"])
    told["signed"]["version"] += 1
    tier.received = cloud.received | {"timestamp.json": json.dumps(told).encode()}
    assert refused(tier) == "bad-signature"


def test_rollback_an_older_timestamp_is_refused(cloud: Cloud, tier: Tier) -> None:
    old = dict(cloud.received)
    cloud.release(2)
    tier.trust.refresh()
    tier.received = cloud.received | old
    assert refused(tier) == "rollback"


def test_freeze_what_is_kept_from_a_tier_is_noticed_when_it_expires_and_serving_goes_on(
    cloud: Cloud, tier: Tier
) -> None:
    old = dict(cloud.received)
    cloud.release(2)
    tier.received = old
    cloud.hand.turn(LIFE_S["timestamp"] - 1)
    tier.trust.refresh()
    cloud.hand.turn(2)
    assert refused(tier) == "expired-metadata"
    assert "lite0/1/sums.bin" in tier.trust.targets
    cloud.repository.renew()
    cloud.send()
    tier.received = cloud.received
    tier.trust.refresh()
    assert "lite0/2/sums.bin" in tier.trust.targets


def test_a_tier_that_hears_nothing_goes_on_with_what_it_trusts_until_that_expires(cloud: Cloud, tier: Tier) -> None:
    tier.received = {}
    tier.trust.refresh()
    cloud.hand.turn(LIFE_S["timestamp"] + 1)
    assert refused(tier) == "expired-metadata"


@pytest.mark.parametrize("swapped", ["snapshot", "targets"])
def test_mix_and_match_metadata_of_different_times_are_refused(cloud: Cloud, tier: Tier, swapped: str) -> None:
    old = {name.partition(".")[2]: data for name, data in cloud.received.items() if name[0].isdigit()}
    cloud.release(2)
    newest = max(name for name in cloud.received if name.endswith(f".{swapped}.json"))
    tier.received = cloud.received | {newest: old[f"{swapped}.json"]}
    assert refused(tier) == "mix-and-match"


@pytest.mark.parametrize("name", ["timestamp.json", "3.snapshot.json", "3.targets.json", "2.root.json"])
def test_endless_data_metadata_that_are_too_long_are_refused(cloud: Cloud, tier: Tier, name: str) -> None:
    cloud.release(2)
    assert name in cloud.received or name == "2.root.json"
    tier.received = cloud.received | {name: bytes(2 << 20)}
    assert refused(tier) == "too-long"


@pytest.mark.parametrize("junk", [b"", b"{}", b"[]", b"\xff\xfe", b'{"signed":{},"signatures":[]}', b"[" * 9000])
def test_what_is_no_metadata_at_all_is_refused(cloud: Cloud, tier: Tier, junk: bytes) -> None:
    tier.received = cloud.received | {"timestamp.json": junk}
    assert refused(tier) == "malformed-metadata"


def test_metadata_under_anothers_name_are_refused(cloud: Cloud, tier: Tier) -> None:
    tier.received = cloud.received | {"timestamp.json": cloud.received["2.snapshot.json"]}
    assert refused(tier) == "bad-metadata"


def test_what_leads_to_metadata_that_have_not_come_is_waited_for(cloud: Cloud, tier: Tier) -> None:
    before = tier.serving()
    cloud.release(2)
    late = {name: cloud.received.pop(name) for name in ("3.snapshot.json", "3.targets.json")}
    for name, data in late.items():
        with pytest.raises(Retry, match=name):
            tier.trust.refresh()
        assert tier.serving() == before
        cloud.received[name] = data
    tier.trust.refresh()
    assert tier.serving() != before


def test_a_stolen_timestamp_key_that_ran_up_versions_is_recovered_from_by_new_keys(cloud: Cloud, tier: Tier) -> None:
    stolen = cloud.repository._shelf.opened()
    stolen.timestamp.signed.version = stolen.timestamp.signed.snapshot_meta.version = 10_000
    stolen.snapshot.signed.version = stolen.snapshot.signed.meta["targets.json"].version = 10_000
    shelf, cloud.repository._shelf = cloud.repository._shelf, _Copied()  # type: ignore[assignment]
    cloud.repository._sign("timestamp", stolen)
    tier.received = cloud.received | cloud.repository._shelf.written  # type: ignore[attr-defined]
    with pytest.raises(Retry, match=r"10000\.snapshot\.json"):
        tier.trust.refresh()  # the timestamp itself is signed well

    cloud.repository._shelf = shelf
    cloud.release(2)
    tier.received = cloud.received
    assert refused(tier) == "rollback"
    cloud.repository.rotate("timestamp")
    cloud.send()
    tier.trust.refresh()
    assert "lite0/2/sums.bin" in tier.trust.targets


class _Copied:
    """Writes nowhere."""

    def __init__(self) -> None:
        self.written: dict[str, bytes] = {}

    def write(self, role: str, metadata: object) -> bytes:
        data: bytes = metadata.to_bytes()  # type: ignore[attr-defined]
        self.written[f"{role}.json"] = data
        return data


def test_new_keys_of_every_role_are_followed_from_the_first_root_on(cloud: Cloud, tier: Tier) -> None:
    for role in ("root", "targets", "snapshot", "timestamp", "root"):
        cloud.repository.rotate(role)
    cloud.release(2)
    tier.trust.refresh()
    assert "lite0/2/sums.bin" in tier.trust.targets


def test_what_an_old_key_signs_counts_no_more(cloud: Cloud, tier: Tier) -> None:
    old = dict(cloud.received)
    cloud.repository.rotate("timestamp")
    cloud.send()
    tier.trust.refresh()
    tier.received = cloud.received | {"timestamp.json": old["timestamp.json"]}
    assert refused(tier) == "bad-signature"


def test_without_a_root_updates_are_off_and_the_words_say_what_to_do(cloud: Cloud, tier: Tier) -> None:
    tier.root.unlink()
    with pytest.raises(Rejected, match=r"no trusted root at .*copy it from the cloud.*serving goes on") as caught:
        tier.trust.refresh()
    assert caught.value.reason == "no-root"


def test_a_root_that_is_none_is_told_by_its_path(cloud: Cloud, tier: Tier) -> None:
    tier.root.write_text("{}")
    with pytest.raises(Rejected, match=str(tier.root)) as caught:
        tier.trust.refresh()
    assert caught.value.reason == "bad-root"


def test_a_newer_root_file_than_the_one_before_is_taken(cloud: Cloud, tier: Tier) -> None:
    cloud.repository.rotate("root")
    cloud.send()
    tier.root.write_bytes(cloud.repository.root)
    tier.trust.refresh()


@pytest.fixture
def full_disk(tier: Tier) -> Iterator[None]:
    """Where the trusted metadata would be written, there is a file."""
    folder = tier.root.parent / "trusted"
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("")
    yield
    folder.unlink()


def test_a_disk_that_refuses_is_no_attack(cloud: Cloud, tier: Tier, full_disk: None) -> None:
    with pytest.raises(Retry):
        tier.trust.refresh()


def test_a_rollback_that_the_cloud_signed_is_news(cloud: Cloud, tier: Tier) -> None:
    cloud.release(2)
    tier.trust.refresh()
    two = tier.serving()
    cloud.repository.serve(current(1, "it fails at night"))
    cloud.send()
    tier.trust.refresh()
    assert tier.serving() != two

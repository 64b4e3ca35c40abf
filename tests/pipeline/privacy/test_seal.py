"""Sealing: only the right key opens a record, and only under the header that it was sealed with."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import ids, records
from pipeline.errors import Rejected, Stop
from pipeline.messages import Envelope, Kind, Privacy
from pipeline.privacy.seal import (
    NONCE_BYTES,
    OVERHEAD_BYTES,
    PSEUDONYM,
    Hidden,
    Key,
    Keyring,
    build_private,
    header,
    open_private,
    pseudonym,
    routing_key,
    seal,
    unseal,
)

SITE = Key.of(Privacy.EDGE_PRIVATE, b"s" * 32)
USER = Key.of(Privacy.USER_PRIVATE, b"u" * 32)
RING = Keyring(SITE, USER)

envelopes = st.builds(
    Envelope,
    event=st.text(max_size=40),
    kind=st.sampled_from(Kind),
    privacy=st.just(Privacy.EDGE_PRIVATE),
    key=st.text(max_size=20),
    payload=st.binary(max_size=300),
    source=st.text(max_size=20),
    time=st.text(max_size=20),
    space=st.text(max_size=10),
    revision=st.integers(1, 9),
)


def an_envelope(**fields: object) -> Envelope:
    fields = {
        "event": "01937f3e-7b1c-7c3a-8f00-0123456789ab",
        "kind": Kind.FEATURE,
        "privacy": Privacy.EDGE_PRIVATE,
        "key": "home/cam1",
        "payload": b"a feature",
        "source": "home/cam1/garden",
        "time": "2026-05-01T12:00:00.000Z",
        "space": "s1",
    } | fields
    return Envelope(**fields)  # type: ignore[arg-type]


def refuses(envelope: Envelope, ring: Keyring = RING) -> bool:
    with pytest.raises(Rejected) as refused:
        unseal(envelope, ring)
    return refused.value.reason == "seal"


# --- sealing ---------------------------------------------------------------------------------------------------


@given(envelopes)
def test_what_was_sealed_opens_and_its_header_is_as_it_was(envelope: Envelope) -> None:
    sealed = seal(envelope, SITE)
    assert unseal(sealed, RING) == envelope.payload
    assert len(sealed.payload) == len(envelope.payload) + OVERHEAD_BYTES
    assert msgspec.structs.replace(sealed, payload=envelope.payload, sealed_by="") == envelope


@given(envelopes, st.sampled_from([name for name in Envelope.__struct_fields__ if name != "payload"]), st.data())
def test_a_relabelled_header_does_not_open(envelope: Envelope, field: str, data: st.DataObject) -> None:
    sealed = seal(envelope, SITE)
    values = {
        "kind": st.sampled_from(Kind),
        "privacy": st.sampled_from(Privacy),
        "revision": st.integers(1, 99),
        "sealed_by": st.sampled_from(["", USER.id, "site-other"]),
    }
    value = data.draw(values.get(field, st.text(max_size=40)))
    if value != getattr(sealed, field):
        assert refuses(msgspec.structs.replace(sealed, **{field: value}))


@given(envelopes, envelopes)
def test_headers_that_differ_are_spelled_differently(a: Envelope, b: Envelope) -> None:
    same = msgspec.structs.replace(a, payload=b"") == msgspec.structs.replace(b, payload=b"")
    assert (header(a) == header(b)) == same


def test_every_field_of_an_envelope_is_in_the_associated_data() -> None:
    parts = msgspec.msgpack.decode(header(an_envelope(sealed_by=SITE.id)))
    expected = msgspec.structs.asdict(an_envelope(sealed_by=SITE.id))
    del expected["payload"]
    assert set(parts[1:]) == set(expected.values())


@given(envelopes, st.data())
def test_a_changed_or_cut_payload_does_not_open(envelope: Envelope, data: st.DataObject) -> None:
    payload = bytearray(seal(envelope, SITE).payload)
    place = data.draw(st.integers(0, len(payload) - 1))
    cut = bytes(payload[:place])
    payload[place] ^= data.draw(st.integers(1, 255))
    for broken in (bytes(payload), cut):
        assert refuses(msgspec.structs.replace(seal(envelope, SITE), payload=broken))


def test_another_key_of_the_same_name_does_not_open() -> None:
    sealed = seal(an_envelope(), SITE)
    impostor = Key(Privacy.EDGE_PRIVATE, SITE.id, b"x" * 32)
    assert refuses(sealed, Keyring(site=impostor))


def test_a_missing_key_is_said() -> None:
    with pytest.raises(Rejected, match=f"sealed by {SITE.id}, whose key is not here"):
        unseal(seal(an_envelope(), SITE), Keyring(user=USER))


def test_a_payload_in_the_clear_is_not_taken_for_a_sealed_one() -> None:
    assert refuses(an_envelope())


def test_the_same_payload_is_never_sealed_with_the_same_nonce() -> None:
    nonces = {seal(an_envelope(), SITE).payload[:NONCE_BYTES] for _ in range(500)}
    assert len(nonces) == 500


def test_a_key_seals_its_own_level_and_nothing_twice() -> None:
    with pytest.raises(Rejected, match="seals user-private records"):
        seal(an_envelope(), USER)
    with pytest.raises(Rejected, match="already sealed"):
        seal(seal(an_envelope(), SITE), SITE)


def test_a_sealed_envelope_opens_after_its_way_through_kafka() -> None:
    sealed = seal(an_envelope(), SITE)
    record = records.to_record(sealed)
    assert unseal(records.from_record(record.headers, record.key, record.value), RING) == b"a feature"


# --- user-private records --------------------------------------------------------------------------------------

EVENT = ids.event_id(1_780_000_000.0)


def a_private_one(**fields: object) -> Envelope:
    fields = {
        "event": EVENT,
        "kind": Kind.PIXELS,
        "source": "home/cam1/garden",
        "time": "2026-05-28T20:26:40.000Z",
        "payload": b"a picture",
        "space": "s1",
    } | fields
    return build_private(USER, **fields)  # type: ignore[arg-type]


def test_a_user_private_record_opens_to_all_that_it_hid() -> None:
    expected = Hidden(EVENT, "home/cam1/garden", "2026-05-28T20:26:40.000Z", "s1", 1, b"a picture")
    assert open_private(a_private_one(), RING) == expected


def test_its_header_tells_its_kind_and_nothing_else() -> None:
    envelope = a_private_one(revision=3)
    visible = msgspec.structs.asdict(envelope)
    assert (visible["source"], visible["time"], visible["space"], visible["revision"]) == ("", "", "", 1)
    assert UUID(envelope.event).version == 8
    for secret in (EVENT, "home", "cam1", "garden", "2026"):
        assert secret not in str(visible | {"payload": ""})


def test_repeats_are_known_as_such_and_other_records_are_not() -> None:
    assert a_private_one().id == a_private_one().id
    others = {
        a_private_one(event=ids.event_id(0.0)).id,
        a_private_one(kind=Kind.FEATURE).id,
        a_private_one(revision=2).id,
    }
    assert len(others | {a_private_one().id}) == 4


def test_one_streams_records_stay_together_and_name_it_to_nobody_without_the_key() -> None:
    assert routing_key(USER, "home/cam1/garden") == a_private_one().key
    other = Key.of(Privacy.USER_PRIVATE, b"v" * 32)
    keys = {
        routing_key(USER, "home/cam1/garden"),
        routing_key(USER, "home/cam1/door"),
        routing_key(other, "home/cam1/garden"),
    }
    assert len(keys) == 3


def test_what_was_sealed_otherwise_is_no_user_private_record() -> None:
    with pytest.raises(Rejected, match="does not hold a user-private record"):
        open_private(seal(an_envelope(privacy=Privacy.USER_PRIVATE), USER), RING)


# --- keys ------------------------------------------------------------------------------------------------------


def test_keys_are_made_once_for_their_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    made = Keyring.open(folder, create=True)
    assert made.site is not None
    assert made.user is not None
    assert made.site.secret != made.user.secret
    assert Keyring.open(folder, create=True) == made
    assert {path.name for path in folder.iterdir()} == {"site.key", "user.key"}
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.stat().st_size == 32
    assert folder.stat().st_mode & 0o777 == 0o700


def test_without_create_a_missing_key_is_missing(tmp_path: Path) -> None:
    assert Keyring.open(tmp_path / "keys", create=False) == Keyring()
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_that_others_may_read_is_refused_with_the_cure(tmp_path: Path, mode: int) -> None:
    Keyring.open(tmp_path, create=True)
    (tmp_path / "user.key").chmod(mode)
    with pytest.raises(Stop, match=r"run: chmod 600 .*user\.key"):
        Keyring.open(tmp_path, create=False)


def test_a_key_of_the_wrong_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "site.key").write_bytes(b"short")
    (tmp_path / "site.key").chmod(0o600)
    with pytest.raises(Stop, match="not a key: 5 bytes instead of 32"):
        Keyring.open(tmp_path, create=True)


def test_a_folder_that_cannot_hold_keys_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Stop, match="cannot be read or made"):
        Keyring.open(tmp_path / "file" / "keys", create=True)


def test_a_key_never_shows_its_secret() -> None:
    assert "ssss" not in repr(RING)
    assert SITE.id.startswith("site-")
    assert USER.id.startswith("user-")


@given(st.text(max_size=80))
def test_a_pseudonym_is_twelve_digits_always_the_same_and_another_for_another_key_or_person(
    name: str,
) -> None:
    assert PSEUDONYM.fullmatch(pseudonym(SITE, name))
    assert pseudonym(SITE, name) == pseudonym(SITE, name)
    assert len({pseudonym(SITE, name), pseudonym(SITE, name + "x"), pseudonym(USER, name)}) == 3

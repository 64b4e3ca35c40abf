"""The secrets of a deployment: made once, each service sees its own, and what is wrong is said in one line."""

from __future__ import annotations

import base64
import datetime as dt
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from agents.cli import application
from agents.deploy import mosquitto
from agents.deploy.certificates import Authority, check, is_current
from agents.deploy.logins import AT_KAFKA, AT_SITE_LOGINS, AT_UPLINK, at_site
from agents.deploy.vault import FOLDERS, MASTER, Request, Vault, invitation, secret_from, uplink_password
from pipeline import topics
from pipeline.errors import Stop
from pipeline.messages import Privacy

NOW = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_running_it_again_changes_nothing(tmp_path: Path) -> None:
    request = Request(site="home", other_sites=("barn",), tls=True, names=("cloud.example.org",))
    Vault(tmp_path).make(request, NOW)
    first = contents(tmp_path)
    Vault(tmp_path).make(request, NOW + dt.timedelta(days=1))
    assert contents(tmp_path) == first


def test_the_root_of_releases_reaches_cloud_edge_and_invited_sites(tmp_path: Path) -> None:
    root = base64.b64encode(b'{"signatures":[],"signed":{"_type":"root"}}').decode()
    vault = Vault(tmp_path)
    vault.make(Request(site="home", other_sites=("barn",)), NOW)
    assert not any(line.startswith("RELEASES_ROOT=") for line in invitation(vault, "barn", "c:8884"))
    vault.make(Request(site="home", other_sites=("barn",), releases_root=root), NOW)
    for room in ("edge", "cloud"):
        assert (tmp_path / room / "releases-root.json").read_bytes() == base64.b64decode(root)
    assert f"RELEASES_ROOT={root}" in invitation(vault, "barn", "c:8884")
    with pytest.raises(Stop, match="RELEASES_ROOT: not a valid value"):
        vault.make(Request(site="home", releases_root="eyJ9"), NOW)


def test_no_secret_is_another_and_none_is_short(tmp_path: Path) -> None:
    Vault(tmp_path).make(Request(site="home"), NOW)
    found = [path.read_text() for path in (tmp_path / MASTER).iterdir()]
    assert len(set(found)) == len(found)
    assert min(map(len, found)) == 32


def test_a_room_holds_no_secret_of_a_service_that_is_not_its_own(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.make(Request(site="home", tls=True), NOW)
    cloud = b"".join(path.read_bytes() for path in (tmp_path / "cloud").iterdir())
    assert cloud.decode() == vault.known("kafka.cloud")
    for room in ("mosquitto", "uplink"):  # brokers know passwords by their digests
        kept = b"".join(path.read_bytes() for path in (tmp_path / room).iterdir()).decode()
        assert vault.known("mqtt.camera") not in kept
        assert vault.known("uplink.home") not in kept


def test_everything_in_it_is_its_owners_alone(tmp_path: Path) -> None:
    Vault(tmp_path).make(Request(site="home", tls=True), NOW)
    assert {path.name for path in tmp_path.iterdir()} == set(FOLDERS)
    for path in tmp_path.rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o007, path


def test_a_site_that_comes_later_gets_a_login_and_the_others_keep_theirs(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.make(Request(site="home"), NOW)
    before = vault.known("uplink.home")
    with pytest.raises(Stop, match="add it to SITES"):
        invitation(vault, "barn", "cloud:8884")
    vault.make(Request(site="home", other_sites=("barn",)), NOW)
    assert vault.known("uplink.home") == before
    assert invitation(vault, "barn", "cloud:8884")[:2] == ["SITE=barn", "UPLINK_ADDRESS=cloud:8884"]


def test_an_invitation_carries_the_authority_that_its_receiver_has_to_trust(tmp_path: Path) -> None:
    cloud, site = Vault(tmp_path / "cloud"), Vault(tmp_path / "site")
    cloud.make(Request(site="home", other_sites=("barn",), tls=True), NOW)
    lines = dict(line.split("=", 1) for line in invitation(cloud, "barn", "cloud:8884"))
    assert lines["UPLINK_ADDRESS"] == "mqtts://cloud:8884"
    site.make(Request(site="barn", uplink_password=uplink_password(cloud, "barn"), uplink_ca=lines["UPLINK_CA"]), NOW)
    assert (tmp_path / "site" / "edge" / "uplink-ca.pem").read_bytes() == cloud.authority()
    assert (tmp_path / "site" / "edge" / "uplink-password").read_text() == uplink_password(cloud, "barn")
    assert uplink_password(cloud, "barn") not in "".join(invitation(cloud, "barn", "cloud:8884"))


def test_a_secret_from_elsewhere_is_one_word_in_a_file(tmp_path: Path) -> None:
    assert secret_from(None, "uplink-password") == secret_from(tmp_path, "uplink-password") == ""
    file = tmp_path / "uplink-password"
    file.write_text("Zm9v-bar_1\n")
    assert secret_from(tmp_path, "uplink-password") == "Zm9v-bar_1"
    for wrong in (b"", b"two words", "g\u00e9".encode()):
        file.write_bytes(wrong)
        with pytest.raises(Stop, match="uplink-password"):
            secret_from(tmp_path, "uplink-password")


def test_a_secret_that_stands_in_the_environment_of_compose_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOVED", "uplink-password ")
    words = ["init", "--vault", str(tmp_path)]
    ended = CliRunner().invoke(application(words), words)
    assert "secrets/uplink-password (was UPLINK_PASSWORD)" in str(ended.exception)
    assert not list(tmp_path.iterdir())


# --- certificates ----------------------------------------------------------------------------------------------


def test_a_server_certificate_is_renewed_in_its_last_month_and_when_names_change(tmp_path: Path) -> None:
    vault, kept = Vault(tmp_path), tmp_path / "uplink" / "server.pem"
    vault.make(Request(site="home", tls=True), NOW)
    first = kept.read_bytes()
    vault.make(Request(site="home", tls=True, names=("10.0.0.7",)), NOW)
    second = kept.read_bytes()
    vault.make(Request(site="home", tls=True, names=("10.0.0.7",)), NOW + dt.timedelta(days=780))
    assert len({first, second, kept.read_bytes()}) == 3
    assert vault.authority() in first + second  # clients trust the same authority


def test_what_an_authority_signs_is_trusted_for_its_names(tmp_path: Path) -> None:
    authority = Authority.make("test", NOW)
    pair = authority.sign(("localhost", "10.0.0.7"), NOW)
    server, client = (
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        ssl.create_default_context(cadata=authority.pair.certificate.decode()),
    )
    for name, content in (("server.pem", pair.certificate), ("server-key.pem", pair.key)):
        (tmp_path / name).write_bytes(content)
    server.load_cert_chain(tmp_path / "server.pem", tmp_path / "server-key.pem")
    assert client.get_ca_certs()
    assert is_current(pair, ("10.0.0.7", "localhost"), NOW)
    assert not is_current(pair, ("localhost",), NOW)
    lasts = x509.load_pem_x509_certificate(pair.certificate).not_valid_after_utc - NOW
    assert lasts <= dt.timedelta(days=825)


def test_a_pair_of_the_operators_own_is_used_and_one_that_no_client_would_accept_is_refused(
    tmp_path: Path,
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    request = Request(site="home", tls=True, own_certificates=own)
    vault = Vault(tmp_path / "vault")
    authority = Authority.make("another", NOW)
    pair = authority.sign(("cloud.example.org",), NOW)
    (own / "server.pem").write_bytes(pair.certificate)
    with pytest.raises(Stop, match=r"server-key\.pem is missing"):
        vault.make(request, NOW)
    (own / "server-key.pem").write_bytes(authority.pair.key)
    with pytest.raises(Stop, match="is not the key of"):
        vault.make(request, NOW)
    (own / "server-key.pem").write_bytes(pair.key)
    with pytest.raises(Stop, match="valid from 2026-04-30 to"):
        vault.make(request, NOW + dt.timedelta(days=900))
    vault.make(request, NOW)
    assert (tmp_path / "vault" / "uplink" / "server.pem").read_bytes() == pair.certificate


@given(st.binary(max_size=200))
def test_any_bytes_in_place_of_a_certificate_are_refused_in_words(content: bytes) -> None:
    pair = Authority.make("a", NOW).sign(("b",), NOW)
    with pytest.raises(Stop, match="PEM"):
        check(type(pair)(content, pair.key), "here", NOW)
    with pytest.raises(Stop, match="PEM"):
        check(type(pair)(pair.certificate, content), "here", NOW)


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request(site="Our Home"), "is not a valid name"),
        (Request(site="uplink"), "is not a valid name"),
        (Request(site="home", other_sites=("../x",)), "is not a valid name"),
        (Request(site="home", tls=True, names=("a/b",)), "neither a host name nor an address"),
        (Request(site="home", uplink_ca="no base64"), "copy the whole line"),
    ],
)
def test_what_cannot_be_meant_is_refused(request_: Request, said: str, tmp_path: Path) -> None:
    with pytest.raises(Stop, match=said):
        Vault(tmp_path).make(request_, NOW)


def test_people_are_shown_what_they_log_in_with(tmp_path: Path) -> None:
    runner, words = (
        CliRunner(),
        ["credentials", "--vault", str(tmp_path), "--addresses", "mqtt=localhost:1883"],
    )
    assert runner.invoke(application(words), words).exit_code == 1
    making = ["init", "--vault", str(tmp_path)]
    assert runner.invoke(application(making), making).exit_code == 0
    told = runner.invoke(application(words), words).output
    for name in ("camera", "viewer", "owner", "homeassistant"):
        assert f"{name} " in told
        assert str(Vault(tmp_path).known(f"mqtt.{name}")) in told
    assert "localhost:1883" in told


# --- the tables ------------------------------------------------------------------------------------------------


def test_only_the_devices_agent_may_read_frames_and_readings_of_others() -> None:
    readers = {
        rule.login
        for rule in at_site("home")
        if rule.access != "write" and rule.topic.split("/")[4:5] in (["frame"], ["reading"])
    }
    assert readers == {".device"}


def test_topics_that_streams_listen_on_are_read_by_the_device_and_written_by_cameras_alone() -> None:
    rules = [rule for rule in at_site("home", ["zigbee2mqtt/+", "zigbee2mqtt/+"]) if rule.topic == "zigbee2mqtt/+"]
    assert {(rule.login, rule.access) for rule in rules} == {(".device", "read"), ("camera", "write")}
    assert len(rules) == 2


def test_init_gives_the_device_the_topics_of_the_settings(tmp_path: Path) -> None:
    file = tmp_path / "tierwise.toml"
    file.write_text(
        '[mqtt]\nusername = ".device"\npassword_file = "vault/device/mqtt-password"\n'
        '[streams."a/b"]\ntopic = "zigbee2mqtt/+"\nvalue = "t"\n'
    )
    making = ["init", "--vault", str(tmp_path / "vault"), "--settings", str(file)]
    assert CliRunner().invoke(application(making), making).exit_code == 0
    assert "topic read zigbee2mqtt/+" in (tmp_path / "vault" / "mosquitto" / "access").read_text()


def test_private_answers_are_read_by_their_owner_and_by_the_device_that_they_are_about() -> None:
    private = [rule for rule in at_site("home") if "/private/" in rule.topic and rule.access == "read"]
    assert {rule.login for rule in private} == {".device", "owner"}


def test_every_login_of_the_site_may_do_something_and_no_other_is_named() -> None:
    assert {rule.login for rule in at_site("home")} == set(AT_SITE_LOGINS)


def test_at_the_uplink_a_site_speaks_and_hears_for_itself_alone() -> None:
    for_all = [rule for rule in AT_UPLINK if rule.login == "*"]
    signed_for_all = {topics.release_metadata("+")}
    assert all("%u" in rule.topic for rule in for_all if rule.topic not in signed_for_all)
    assert all(rule.access == "read" for rule in for_all if rule.topic in signed_for_all)
    assert topics.uplink("%u") in {rule.topic for rule in for_all if rule.access == "write"}


def test_the_clouds_agent_may_read_what_is_public_and_nothing_else() -> None:
    reads = {right.name for right in AT_KAFKA if right.login == "cloud" and "READ" in right.operations}
    assert reads == {topics.ROUTED[Privacy.PUBLIC], topics.SUMMARIES, topics.MODELS, topics.Group.CLOUD}


def test_rules_are_spelled_as_mosquitto_reads_them() -> None:
    text = mosquitto.access_rules(AT_UPLINK)
    for line in filter(None, text.splitlines()):
        assert line.split(" ")[0] in ("user", "topic", "pattern")
    assert text.index("user .gateway") < text.index("pattern")

"""Kafka and InfluxDB made ready: commands for an administrator, and a small server that keeps what v2 documents."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from typer.testing import CliRunner

from agents.cli import application
from agents.cli.deploying import provision
from agents.cli.deploying.provision import data_source
from agents.deploy.influx import DAY_S, Influx
from agents.deploy.logins import AT_KAFKA
from pipeline import topics
from pipeline.errors import Retry, Stop
from pipeline.rights import Right
from pipeline.settings.settings import KafkaSettings


class Server:
    """One organisation; buckets and authorizations as /api/v2 has them. A token is told once, when it is made."""

    def __init__(self) -> None:
        self.buckets: dict[str, dict[str, Any]] = {}
        self.authorizations: dict[str, dict[str, Any]] = {}
        self.made = 0
        self.shard_s = 7 * DAY_S
        """Of a bucket that was made to keep its points for ever, as the image of InfluxDB makes it."""
        self.busy = 0
        """So many calls are answered with 503 first."""

    def answer(
        self, method: str, path: str, query: dict[str, str], body: dict[str, Any], token: str
    ) -> tuple[int, Any]:
        if self.busy:
            self.busy -= 1
            return 503, {"code": "unavailable"}
        kind, _, name = path.removeprefix("/api/v2/").partition("/")
        if token != "Token operator":
            may = [
                permission["action"]
                for each in self.authorizations.values()
                if token == f"Token token-{each['id'][1:]}"
                for permission in each["permissions"]
                if permission["resource"]["id"] in (name, query.get("bucket"))
            ]
            match method, kind, may:
                case "POST", "write", ["write"]:
                    return 400, {"code": "invalid", "message": "writing requires points"}
                case "GET", "buckets", ["read"]:
                    return 200, self.buckets[name]
            return 401, {"code": "unauthorized", "message": "unauthorized access"}
        match method, kind:
            case "GET", "orgs":
                return 200, {"orgs": [{"id": "o1", "name": "tierwise"}] if query["org"] == "tierwise" else []}
            case "GET", "buckets":
                shard = {"shardGroupDurationSeconds": self.shard_s}
                found = [
                    {**bucket, "retentionRules": [{**rule, **shard} for rule in bucket["retentionRules"]]}
                    for bucket in self.buckets.values()
                    if bucket["name"] == query["name"]
                ]
                return (200, {"buckets": found}) if found else (404, {"code": "not found"})
            case "POST", "buckets":
                self.made += 1
                self.buckets[f"b{self.made}"] = {"id": f"b{self.made}", **body}
                return 201, self.buckets[f"b{self.made}"]
            case "PATCH", "buckets":
                (rule,) = body["retentionRules"]
                shard_s = rule.get("shardGroupDurationSeconds", self.shard_s)
                if rule["everySeconds"] < shard_s:
                    return 422, {"code": "unprocessable entity", "message": "shard-group duration must be shorter"}
                self.shard_s = shard_s
                self.buckets[name] |= body
                return 200, self.buckets[name]
            case "GET", "authorizations":
                return 200, {"authorizations": list(self.authorizations.values())}
            case "POST", "authorizations":
                self.made += 1
                kept = {"id": f"a{self.made}", **body}
                self.authorizations[kept["id"]] = kept
                return 201, {**kept, "token": f"token-{self.made}"}
            case "DELETE", "authorizations":
                del self.authorizations[name]
                return 204, None
        return 404, {"code": "not found"}


class Handler(http.server.BaseHTTPRequestHandler):
    server_: ClassVar[Server]

    def _any(self) -> None:
        parsed = urllib.parse.urlsplit(self.path)
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        query = dict(urllib.parse.parse_qsl(parsed.query))
        status, told = self.server_.answer(
            self.command, parsed.path, query, body, self.headers.get("Authorization", "")
        )
        content = json.dumps(told).encode() if told is not None else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = do_DELETE = _any  # noqa: N815 - the names that http.server looks for

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, str]]:
    monkeypatch.setattr(provision, "RETRY_S", 0.01)
    kept = Server()
    handler = type("Bound", (Handler,), {"server_": kept})
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
    yield kept, f"http://127.0.0.1:{listening.server_address[1]}"
    listening.shutdown()
    listening.server_close()


def provisioned(url: str, folder: Path, token: str = "operator", days: int = 30) -> Any:
    (folder / "admin").write_text(token)
    words = [
        *(
            "provision",
            "influx",
            "--url",
            url,
            "--admin-token-file",
            str(folder / "admin"),
            "--keep-days",
            str(days),
        ),
        *(f"--token=edge=write:{folder}/edge", f"--token=grafana=read:{folder}/grafana"),
        f"--grafana-file={folder}/source.yaml",
    ]
    return CliRunner().invoke(application(words), words)


def test_each_gets_a_token_for_one_thing_and_running_it_again_changes_none(
    server: tuple[Server, str], tmp_path: Path
) -> None:
    kept, url = server
    kept.busy = 2  # it is still starting
    assert provisioned(url, tmp_path).exit_code == 0
    first = {name: (tmp_path / name).read_text() for name in ("edge", "grafana", "source.yaml")}
    assert provisioned(url, tmp_path, days=90).exit_code == 0
    assert {name: (tmp_path / name).read_text() for name in first} == first
    (bucket,) = kept.buckets.values()
    assert bucket["retentionRules"] == [{"type": "expire", "everySeconds": 90 * DAY_S}]
    may = {
        a["description"]: [(p["action"], p["resource"]["type"], p["resource"]["id"]) for p in a["permissions"]]
        for a in kept.authorizations.values()
    }
    assert may == {
        "edge": [("write", "buckets", bucket["id"])],
        "grafana": [("read", "buckets", bucket["id"])],
    }
    assert first["grafana"] in first["source.yaml"]
    assert first["edge"] not in first["source.yaml"]


def test_a_token_whose_file_was_lost_is_made_anew_and_the_old_one_ends(
    server: tuple[Server, str], tmp_path: Path
) -> None:
    kept, url = server
    provisioned(url, tmp_path)
    before = (tmp_path / "edge").read_text()
    (tmp_path / "edge").unlink()
    provisioned(url, tmp_path)
    assert (tmp_path / "edge").read_text() != before
    assert len(kept.authorizations) == 2


def test_a_token_that_the_server_refuses_is_made_anew(server: tuple[Server, str], tmp_path: Path) -> None:
    kept, url = server
    assert provisioned(url, tmp_path).exit_code == 0
    before = {name: (tmp_path / name).read_text() for name in ("edge", "grafana", "source.yaml")}
    kept.buckets.clear()
    kept.authorizations.clear()  # the volume was removed, and the server began anew
    assert provisioned(url, tmp_path).exit_code == 0
    after = {name: (tmp_path / name).read_text() for name in before}
    assert all(before[name] != after[name] for name in before)
    assert len(kept.authorizations) == 2
    assert provisioned(url, tmp_path).exit_code == 0
    assert {name: (tmp_path / name).read_text() for name in before} == after


def test_two_buckets_of_one_server_keep_their_tokens_of_one_name(server: tuple[Server, str]) -> None:
    _, url = server
    influx = Influx(url, "operator", "tierwise")
    home, barn = influx.bucket("home", 30), influx.bucket("barn", 30)
    tokens = {bucket: influx.renew_token("edge", "write", bucket) for bucket in (home, barn)}
    assert [influx.accepts(tokens[bucket], "write", bucket) for bucket in (home, barn)] == [True, True]
    assert not influx.accepts(tokens[home], "write", barn)


@pytest.mark.parametrize(("days", "shard_s"), [(1, 3_600), (2, 3_600), (3, DAY_S), (6, DAY_S)])
def test_a_bucket_that_keeps_less_than_a_week_has_shorter_shards(
    server: tuple[Server, str], tmp_path: Path, days: int, shard_s: int
) -> None:
    kept, url = server
    for_ever = {"type": "expire", "everySeconds": 0}
    kept.buckets["b0"] = {"id": "b0", "name": "tierwise", "retentionRules": [for_ever]}
    for each in (days, days, 365):
        assert provisioned(url, tmp_path, days=each).exit_code == 0
        assert kept.shard_s == (shard_s if each == days else 7 * DAY_S)


def test_a_refusal_that_is_not_about_the_token_does_not_speak_of_it(server: tuple[Server, str]) -> None:
    kept, url = server
    influx = Influx(url, "operator", "tierwise")
    influx.bucket("tierwise", 30)
    kept.shard_s = 100 * DAY_S
    with pytest.raises(Stop, match="422 to PATCH") as caught:
        influx.bucket("tierwise", 30)
    assert "token" not in str(caught.value)


def test_what_influxdb_refuses_is_told_with_what_to_do(server: tuple[Server, str]) -> None:
    _, url = server
    with pytest.raises(Stop, match=r"401 to GET /api/v2/buckets.*Check the admin token"):
        Influx(url, "wrong", "tierwise").bucket("tierwise", 30)
    with pytest.raises(Stop, match="has no organisation other"):
        Influx(url, "operator", "other").renew_token("a", "read", "b1")
    with pytest.raises(Retry):
        Influx("http://127.0.0.1:1", "operator", "tierwise").bucket("tierwise", 30)


def test_a_token_that_is_not_asked_for_in_full_is_told_so(tmp_path: Path) -> None:
    for text in ("edge", "edge=write", "edge=admin:/x", "=read:/x"):
        words = [
            "provision",
            "influx",
            "--url",
            "http://x",
            "--admin-token-file",
            str(tmp_path / "a"),
            "--token",
            text,
        ]
        (tmp_path / "a").write_text("t")
        assert CliRunner().invoke(application(words), words).exit_code == 2


def test_grafanas_file_is_yaml_with_the_token_as_it_is() -> None:
    text = data_source("http://influxdb:8086", "tierwise", "tierwise", "a+b==")
    assert '      token: "a+b=="' in text
    assert "type: influxdb" in text and "version: Flux" in text


# --- Kafka, by its administrator -------------------------------------------------------------------------------


def test_kafkas_own_tools_get_a_command_for_each_topic_and_each_right() -> None:
    configurations = {"tierwise.results": {"cleanup.policy": "compact"}}
    rights = (
        Right("cloud", "TOPIC", "tierwise.results", ("READ", "DESCRIBE")),
        Right("stream", "GROUP", "tierwise-stream", ("READ",), True),
    )
    kafka = KafkaSettings(address="broker.lan:9093", replication=3)
    assert provision.kafka_commands(rights, configurations, kafka) == [
        "kafka-topics.sh --bootstrap-server broker.lan:9093 --command-config admin.properties --create --if-not-exists "
        "--topic tierwise.results --partitions 12 --replication-factor 3 --config cleanup.policy=compact",
        "kafka-acls.sh --bootstrap-server broker.lan:9093 --command-config admin.properties --add "
        "--allow-principal User:cloud --topic tierwise.results --operation Read --operation Describe",
        "kafka-acls.sh --bootstrap-server broker.lan:9093 --command-config admin.properties --add "
        "--allow-principal User:stream --group tierwise-stream --resource-pattern-type prefixed --operation Read",
    ]


def test_no_role_needs_the_right_to_create_a_topic() -> None:
    assert {operation for right in AT_KAFKA for operation in right.operations} == {"READ", "WRITE", "DESCRIBE"}
    written = {right.name for right in AT_KAFKA if right.login == "stream" and "WRITE" in right.operations}
    assert set(topics.CHANGELOGS) <= written

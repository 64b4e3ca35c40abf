"""Apache Kafka as the stack configures it: logins, rights and TLS, with every client of ours (`make test-real`)."""

from __future__ import annotations

import contextlib
import datetime as dt
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaAdminClient
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion
from kafka_brokers import ApacheKafka, eventually, free_port

from agents.deploy import kafka as stack
from agents.deploy.logins import AT_KAFKA, KAFKA_LOGINS
from agents.deploy.vault import KAFKA_MOUNTED, Request, Vault
from agents.role.run_file import ask_health, running
from pipeline import clock, ids, kafka, topics
from pipeline.errors import Retry, Stop
from pipeline.kafka import Consumer, Producer
from pipeline.messages import Envelope, Kind, Privacy
from pipeline.privacy import gate
from pipeline.settings.settings import KafkaSettings

pytestmark = [
    pytest.mark.real,
    # kafka-python leaves the TLS sockets of a client that was closed to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

NOW_S = 1_770_000_000.0
EVENTS = [ids.derived(NOW_S, str(number)) for number in range(40)]

SCRAM_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


class SecuredKafka(ApacheKafka):
    """The stack's configuration on ports of its own; SCRAM beside PLAIN, and TLS without a login, to try them."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.tls_port, self.ssl_port = free_port(), free_port()
        self.vault = Vault(directory / "vault")
        self.vault.make(Request(site="home", tls=True), dt.datetime.now(dt.UTC))
        self.ca = directory / "vault" / "vault" / "ca.pem"

    def properties(self) -> str:
        logins = {name: str(self.vault.known(f"kafka.{name}")) for name in KAFKA_LOGINS}
        text = stack.properties(logins, "127.0.0.1", "localhost", KAFKA_MOUNTED, tls=True)
        for written, here in (
            (KAFKA_MOUNTED, str(self.directory / "vault" / "kafka")),
            ("/var/lib/kafka/data", str(self.directory / "data")),
            ("ROLES://:9092", f"ROLES://127.0.0.1:{self.port}"),
            ("ROLES://127.0.0.1:9092", f"ROLES://127.0.0.1:{self.port}"),
            ("PUBLIC://:9094", f"PUBLIC://127.0.0.1:{self.tls_port},OPEN://127.0.0.1:{self.ssl_port}"),
            (
                "PUBLIC://localhost:9094",
                f"PUBLIC://localhost:{self.tls_port},OPEN://localhost:{self.ssl_port}",
            ),
            ("PUBLIC:SASL_SSL", "PUBLIC:SASL_SSL,OPEN:SSL"),
            ("127.0.0.1:9093", f"127.0.0.1:{free_port()}"),
        ):
            assert written in text, written
            text = text.replace(written, here)
        keystore = f"{self.directory}/vault/kafka/keystore.pem"
        more = [f"listener.name.open.ssl.keystore.{key}" for key in (f"location={keystore}", "type=PEM")]
        more.append("listener.name.roles.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512")
        more += [
            f"listener.name.roles.{mechanism}.sasl.jaas.config={SCRAM_LOGIN}"
            for mechanism in ("scram-sha-256", "scram-sha-512")
        ]
        return "\n".join([text, *more, ""])

    def format(self) -> None:
        super().format()
        (self.directory / "server.properties").write_text(self.properties())
        data = self.directory / "data"
        if data.exists():
            subprocess.run(["rm", "-r", data], check=True)
        identity = ["-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", "server.properties"]
        self._java("-Xmx128m", "kafka.tools.StorageTool", "format", *identity).wait()

    def _answers(self) -> bool:
        try:
            kafka.check(self.login("admin"))
        except Exception:
            return False
        return True

    def login(self, name: str, **changes: object) -> KafkaSettings:
        plain = KafkaSettings(
            address=self.address,
            security="SASL_PLAINTEXT",
            username=name,
            password=str(self.vault.known(f"kafka.{name}")),
        )
        return msgspec.structs.replace(plain, **changes)

    def over_tls(self, name: str, **changes: object) -> KafkaSettings:
        tls = {"address": f"localhost:{self.tls_port}", "security": "SASL_SSL", "ca": str(self.ca)}
        return self.login(name, **(tls | changes))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    broker = SecuredKafka(tmp_path_factory.mktemp("secured-kafka"))
    broker.format()
    broker.start()
    kafka.create_topics(broker.login("admin"))
    assert kafka.grant(broker.login("admin"), AT_KAFKA) == kafka.grant(broker.login("admin"), AT_KAFKA)
    eventually(lambda: kafka.wait_for_topics(broker.login("cloud"), [topics.SUMMARIES], threading.Event(), 1))
    yield broker
    broker.stop()


def feature(number: int) -> Envelope:
    return Envelope(
        event=EVENTS[number],
        kind=Kind.FEATURE,
        privacy=Privacy.PUBLIC,
        key="home/cam1",
        payload=b"f",
        source="home/cam1/garden",
        time=clock.rfc3339(NOW_S),
        space="s1",
    )


def gets_in(settings: KafkaSettings) -> bool:
    """A password that was just set takes a moment."""
    try:
        kafka.check(settings)
    except Stop:
        return False
    return True


def seen_by(settings: KafkaSettings, *names: str) -> bool:
    return kafka.wait_for_topics(settings, names, threading.Event(), 5)


def test_every_kind_of_login_of_the_settings_gets_in(cluster: SecuredKafka) -> None:
    with contextlib.closing(
        KafkaAdminClient(
            bootstrap_servers=cluster.address,
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="PLAIN",
            sasl_plain_username="admin",
            sasl_plain_password=cluster.vault.known("kafka.admin"),
        )
    ) as admin:
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            wanted = UserScramCredentialUpsertion("scram", mechanism, "another secret", iterations=4096)
            assert admin.alter_user_scram_credentials([wanted]) == {"scram": None}
    kafka.check(cluster.login("reader"))
    kafka.check(cluster.over_tls("reader"))
    for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
        scram = cluster.login("reader", mechanism=mechanism, username="scram", password="another secret")
        eventually(lambda scram=scram: gets_in(scram))  # type: ignore[misc]
    kafka.check(KafkaSettings(address=f"localhost:{cluster.ssl_port}", security="SSL", ca=str(cluster.ca)))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password_is_told_as_one(cluster: SecuredKafka, mechanism: str) -> None:
    with pytest.raises(Stop, match=r"refuses us.*username and password"):
        kafka.check(cluster.login("cloud", password="wrong", mechanism=mechanism))


def test_a_certificate_that_is_not_trusted_is_told_as_such(cluster: SecuredKafka) -> None:
    with pytest.raises(Retry, match="certificate"):
        kafka.check(cluster.over_tls("cloud", ca=""))


def test_the_gateway_fills_ingest_and_nothing_that_the_router_fills(cluster: SecuredKafka) -> None:
    producer = Producer(cluster.over_tls("gateway"), "test")
    assert producer.deliver([gate.clear_record(feature(1))]) == ()
    for topic in (topics.ROUTED[Privacy.PUBLIC], topics.RESULTS):
        with pytest.raises(Stop, match="refuses us"):
            producer.deliver([gate.clear_record(feature(1), topic)])
    producer.close()


def test_the_clouds_agent_sees_what_is_public_and_nothing_else(cluster: SecuredKafka) -> None:
    cloud = cluster.login("cloud")
    assert seen_by(cloud, topics.ROUTED[Privacy.PUBLIC], topics.SUMMARIES, topics.RESULTS)
    for private in (topics.INGEST, topics.ROUTED[Privacy.EDGE_PRIVATE], topics.ROUTED[Privacy.USER_PRIVATE]):
        with pytest.raises(Stop, match="no right to topic"):
            seen_by(cloud, private)


def test_a_group_of_another_role_is_refused(cluster: SecuredKafka) -> None:
    consumer = Consumer(cluster.login("cloud"), [topics.SUMMARIES], topics.Group.GATEWAY, "test")
    with pytest.raises(Stop, match="refuses us"):
        for _ in range(20):
            consumer.poll(timeout_s=1)
    consumer.close()


def test_the_stream_role_routes_with_its_own_rights_over_tls(cluster: SecuredKafka, tmp_path: Path) -> None:
    """Faust logs in as the others do, makes its changelogs, and delivers what the gateway's login brought."""
    settings = cluster.over_tls("stream")
    file = tmp_path / "tierwise.toml"
    file.write_text(
        f'[http]\nstream = 0\n[kafka]\naddress = "{settings.address}"\nsecurity = "SASL_SSL"\nusername = "stream"\n'
        f'password = "{settings.password}"\nca = "{settings.ca}"\n'
    )
    process = subprocess.Popen([sys.executable, "-m", "agents", "stream", "--settings", str(file)])

    def ready() -> bool:
        told = running(tmp_path / "tierwise-data", "stream")
        return told is not None and told.port is not None and ask_health(told.port)[0]

    try:
        eventually(ready, 60)
        producer = Producer(cluster.login("gateway"), "test")
        producer.deliver([gate.clear_record(feature(number)) for number in range(20, 40)])
        producer.close()
        consumer = Consumer(cluster.login("cloud"), [topics.ROUTED[Privacy.PUBLIC]], topics.Group.CLOUD, "test")
        routed: set[str] = set()

        def all_there() -> bool:
            for record in consumer.poll():
                routed.add(dict(record.headers)["ce_id"].decode())
            return set(EVENTS[20:]) <= routed

        eventually(all_there, 60)
        consumer.close()
    finally:
        process.terminate()
        assert process.wait(10) == 0

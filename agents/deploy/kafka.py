"""Write Apache Kafka's ``server.properties`` for the compose stack: one KRaft node with logins and an authorizer.

Every listener requires a login, also the controller's, so no client is anonymous. `tierwise provision kafka` gives each
login its rights at the running broker, from the table in `logins.py`::

    >>> jaas({"admin": "a", "cloud": "c"}).partition(" required ")[2]
    'username="admin" password="a" user_admin="a" user_cloud="c";'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agents.deploy.logins import KAFKA_ADMIN
from pipeline.settings.addresses import KAFKA_PORT, LOOPBACK

PUBLIC_PORT: Final = 9094
"""Port with TLS, for clients outside the stack."""
CONTROLLER_PORT: Final = 9093


def properties(logins: Mapping[str, str], host: str, public_name: str, folder: str, *, tls: bool) -> str:
    """Return the text of server.properties.

    `host` is the broker's name within the stack, `folder` the mounted folder of its secrets.
    """
    listeners = {
        "ROLES": f"ROLES://:{KAFKA_PORT}",
        "CONTROLLER": f"CONTROLLER://{LOOPBACK}:{CONTROLLER_PORT}",
    }
    advertised = [f"ROLES://{host}:{KAFKA_PORT}"]
    protocols = ["ROLES:SASL_PLAINTEXT", "CONTROLLER:SASL_PLAINTEXT"]
    encrypted = ""
    if tls:
        listeners["PUBLIC"] = f"PUBLIC://:{PUBLIC_PORT}"
        advertised.append(f"PUBLIC://{public_name}:{PUBLIC_PORT}")
        protocols.append("PUBLIC:SASL_SSL")
        encrypted = f"""\
listener.name.public.ssl.keystore.type=PEM
listener.name.public.ssl.keystore.location={folder}/keystore.pem
listener.name.public.plain.sasl.jaas.config={jaas(logins)}
"""
    return f"""\
# Written by `tierwise init`, and written anew at each start.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{LOOPBACK}:{CONTROLLER_PORT}
listeners={",".join(listeners.values())}
advertised.listeners={",".join(advertised)}
listener.security.protocol.map={",".join(protocols)}
controller.listener.names=CONTROLLER
inter.broker.listener.name=ROLES
log.dirs=/var/lib/kafka/data

sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.mechanism.controller.protocol=PLAIN
listener.name.roles.plain.sasl.jaas.config={jaas(logins)}
listener.name.controller.plain.sasl.jaas.config={jaas({KAFKA_ADMIN: logins[KAFKA_ADMIN]})}
{encrypted}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:{KAFKA_ADMIN}
allow.everyone.if.no.acl.found=false

auto.create.topics.enable=false
num.partitions=12
offsets.topic.num.partitions=12
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
log.cleaner.dedupe.buffer.size=16777216
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
"""


def jaas(logins: Mapping[str, str]) -> str:
    """Return the line of the login module: the broker's own login, and all logins that it accepts."""
    users = " ".join(f'user_{name}="{secret}"' for name, secret in logins.items())
    own = f'username="{KAFKA_ADMIN}" password="{logins[KAFKA_ADMIN]}"'
    return f"org.apache.kafka.common.security.plain.PlainLoginModule required {own} {users};"

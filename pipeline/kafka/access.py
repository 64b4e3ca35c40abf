"""Rights: the administrator of a deployment gives each login the rights that its role needs.

This needs a Kafka with an authorizer, and the topics must exist already::

    grant(settings.kafka, AT_KAFKA)         # `tierwise provision kafka`
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from typing import Final

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)

from pipeline.errors import Retry
from pipeline.kafka.connection import address, errors_mapped, opened
from pipeline.rights import Right
from pipeline.settings.settings import KafkaSettings

IN_FORCE_WITHIN_S: Final = 15.0
"""A broker applies new rights within about a second. A role that connects before that would be refused for good."""
LOOK_EVERY_S: Final = 0.2

EVERY_RIGHT: Final = ACLFilter(
    None,
    None,
    ACLOperation.ANY,
    ACLPermissionType.ANY,
    ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY),
)


def grant(settings: KafkaSettings, rights: Iterable[Right]) -> int:
    """Give these rights and return their number once they are in force. Existing rights stay.

    Raises
    ------
    Retry
        Kafka cannot be reached, or the rights do not take effect in time.
    Stop
        The login is refused or may not give rights, or the broker has no authorizer.
    """
    wanted = [_acl(right, operation) for right in rights for operation in right.operations]
    with (
        errors_mapped(settings),
        contextlib.closing(opened(KafkaAdminClient, settings, "access")) as admin,
    ):
        for error in admin.create_acls(wanted)["failed"]:
            raise error(f"the login {settings.username or '(none)'} may not give rights")
        until = time.monotonic() + IN_FORCE_WITHIN_S
        while not set(wanted) <= set(admin.describe_acls(EVERY_RIGHT)[0]):
            if time.monotonic() > until:
                raise Retry(f"Kafka at {address(settings)}: rights that were given are not in force")
            time.sleep(LOOK_EVERY_S)
    return len(wanted)


def _acl(right: Right, operation: str) -> ACL:
    pattern = ACLResourcePatternType.PREFIXED if right.prefixed else ACLResourcePatternType.LITERAL
    return ACL(
        f"User:{right.login}",
        "*",
        ACLOperation[operation],
        ACLPermissionType.ALLOW,
        ResourcePattern(ResourceType[right.kind], right.name, pattern),
    )

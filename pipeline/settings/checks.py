"""Checks that find settings of the right type with impossible values, or values that contradict each other.

`pipeline.settings.strict` checks types and unknown keys before; here is one function for each subject. A problem reads
``key: what is wrong; what to do``, and `Settings.load` puts the file's name before it::

    for problem in problems(settings):
        raise Stop(f"{file}: {problem}")
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator
from zoneinfo import ZoneInfoNotFoundError

from pipeline import states, topics, units
from pipeline.credentials import hidden
from pipeline.foreign import filters, formats
from pipeline.messages import LEVELLED, RANKS, Privacy, Task
from pipeline.settings import deployment_keys
from pipeline.settings.addresses import EMBEDDED, MQTT_PORT, TLS_SCHEME, host_port
from pipeline.settings.hours import Hours
from pipeline.settings.keys import Keys, StreamSettings
from pipeline.settings.patterns import is_pattern


def problems(settings: Keys) -> Iterator[str]:
    """Yield all problems, in the order of the file."""
    yield from _names(settings)
    yield from _timezone(settings)
    yield from _addresses(settings)
    yield from _passwords(settings)
    yield from _device(settings)
    yield from _edge_model(settings.edge.model)
    yield from _intake(settings)
    yield from _streams(settings)
    yield from _topics(settings)
    yield from _rules(settings)
    yield from deployment_keys.problems(settings.deployments, settings.zone)


def _names(settings: Keys) -> Iterator[str]:
    for key, name in (("site", settings.site), *(("device.names", name) for name in settings.device.names)):
        if not topics.is_name(name):
            yield f'{key}: "{name}" is not a valid name; use a-z, 0-9, - and _, at most 63, and no reserved word'


def _timezone(settings: Keys) -> Iterator[str]:
    try:
        _ = settings.zone
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield f'timezone: "{settings.timezone}" is not known here; use a name such as "Europe/Berlin" or "UTC"'


def _addresses(settings: Keys) -> Iterator[str]:
    if settings.uplink.address == EMBEDDED:
        yield 'uplink.address: leave it empty ("") to use the site\'s broker'
    written = [("mqtt", settings.mqtt.address)]
    written += [("uplink", settings.uplink.address)] if settings.uplink.address else []
    written += [("kafka", part.strip()) for part in settings.kafka.address.split(",")]
    for section, address in written:
        if address != EMBEDDED and not _is_address(address, tls=section != "kafka"):
            forms = '"embedded" or "host:port"' + ("" if section == "kafka" else ' or "mqtts://host:port"')
            yield f'{section}.address: "{hidden(address)}" is no address; use {forms}'
        elif "@" in address:
            yield f"{section}.address: holds a login; write it as username and password_file of [{section}]"
    uplink = settings.uplink
    if not uplink.address and (uplink.username or uplink.ca):
        yield "uplink.address: is empty, so the login and certificates of [mqtt] are used; write them there"
    for section, mqtt in (("mqtt", settings.mqtt), ("uplink", settings.uplink_mqtt)):
        if mqtt.ca and not mqtt.tls:
            yield f'{section}.ca: used only with TLS; write the address as "{TLS_SCHEME}host:port"'


def _is_address(address: str, *, tls: bool) -> bool:
    try:
        host_port(address, MQTT_PORT)
    except ValueError:
        return False
    return tls or not address.startswith(TLS_SCHEME)


def _passwords(settings: Keys) -> Iterator[str]:
    for section, login in (("mqtt", settings.mqtt), ("uplink", settings.uplink), ("kafka", settings.kafka)):
        if login.password and not login.username:
            yield f"{section}.username: a password needs a user name; write both, or neither"


def _edge_model(title: str) -> Iterator[str]:
    name, _, version = title.partition("@")
    if title and not (topics.is_name(name) and version.isdecimal()):
        yield f'edge.model: "{title}" is no model; write name and version, as "mine@2" (`tierwise models list`)'


def _device(settings: Keys) -> Iterator[str]:
    if settings.device.backbone != "off":
        return
    if settings.device.send == "vector":
        yield 'device.send: only the backbone makes a "vector"; write backbone = "on", or send = "crop"'
    if Privacy.USER_PRIVATE in settings.uplink.sealed:
        yield (
            'uplink.sealed: only the backbone on the device can make the sealed copy of a "user-private" feature; '
            'write device.backbone = "on", or leave "user-private" out'
        )


def _intake(settings: Keys) -> Iterator[str]:
    ftp, mail = settings.intake.ftp, settings.intake.mail
    try:
        _ = ftp.passive_range
    except ValueError:
        yield f'intake.ftp.passive_ports: "{ftp.passive_ports}" is no range of ports from 1024; write it as "50000-50019"'
    if ftp.certificate and ftp.tls == "off":
        yield 'intake.ftp.certificate: used only with TLS; write tls = "required", or leave it out'
    if mail.host and not (mail.username and mail.password):
        yield "intake.mail: needs username and password (or password_file) of the mailbox"
    if mail.host and not any(stream.mail for stream in settings.streams.values()):
        yield 'intake.mail: no stream takes mails; write under a stream mail = "*+cam1@example.org"'


def _streams(settings: Keys) -> Iterator[str]:
    for source, stream in settings.streams.items():
        where = f'streams."{source}"'
        if stream.wants not in RANKS[stream.task]:
            ranks = ", ".join(RANKS[stream.task])
            yield f'{where}.wants: a {stream.task} stream has no "{stream.wants}"; it has {ranks}'
        if stream.mail and is_pattern(source):
            yield f"{where}.mail: the mails of a camera belong to one stream; name it without * and ?"
        if stream.mail and stream.task is not Task.WILDLIFE:
            yield f"{where}.mail: only cameras have one; their reports become readings by themselves"
        if stream.source and stream.task is not Task.WILDLIFE:
            yield f"{where}.source: only cameras have one; readings are published over MQTT"
        if stream.login and ("://" not in stream.source or "@" in stream.source):
            yield f"{where}.login: for a source such as rtsp://192.168.1.20/live that holds no login itself"
        yield from _states(where, stream)
        if stream.source and is_pattern(source):
            yield f"{where}.source: a camera belongs to one stream; name it without * and ?"
        if stream.unit is not None and units.find(stream.unit) is None:
            near = difflib.get_close_matches(stream.unit, units.UNITS, n=1, cutoff=0.0)[0]
            yield (
                f'{where}.unit: "{stream.unit}" is no known unit; the nearest is "{near}"; '
                "docs/sensors.md lists them all; without a unit, readings keep their own"
            )
        if stream.room is not None and topics.NAME.fullmatch(stream.room) is None:
            yield f'{where}.room: "{stream.room}" is not a valid name; use a-z, 0-9, - and _'


def _states(where: str, stream: StreamSettings) -> Iterator[str]:
    if not stream.states:
        return
    words = [word.strip().casefold() for word in stream.states]
    if stream.task is Task.WILDLIFE:
        yield f'{where}.states: only sensors have states; write task = "meter"'
    if stream.unit is not None:
        yield f"{where}.states: a stream has a unit or states; leave one of them out"
    if len(words) < 2 or len(words) != len(set(words)):
        yield f'{where}.states: write at least two different words, as ["closed", "open"]'
    if not all(0 < len(word) <= states.MAX_CHARS and word.isprintable() for word in words):
        yield f"{where}.states: a state is a text of 1 to {states.MAX_CHARS} characters"


def _topics(settings: Keys) -> Iterator[str]:
    """Yield the problems of streams that listen on other people's topics."""
    for source, stream in settings.streams.items():
        where = f'streams."{source}"'
        if not stream.topic:
            for key in ("format", "value", "time"):
                if getattr(stream, key):
                    yield f"{where}.{key}: says how to read a message of another topic; add topic, or leave it out"
            continue
        if why := filters.problem(stream.topic):
            yield f'{where}.topic: "{stream.topic}": {why}'
        if stream.source:
            yield f"{where}.topic: it has a source, too; keep only one"
        if not math.isfinite(stream.scale) or stream.scale == 0:
            yield f"{where}.scale: {stream.scale:g} is no factor; write a number such as 0.1"
        if stream.task is Task.WILDLIFE and (stream.value or stream.format not in ("", "frigate")):
            yield f'{where}.format: a camera publishes pictures; for a sensor write task = "meter"'
        for key in ("value", "time"):
            try:
                if getattr(stream, key):
                    formats.compiled(getattr(stream, key))
            except ValueError as error:
                yield f"{where}.{key}: no JMESPath: {error}; quote names with - and ., as '\"a-b\".c'"
        yield from _wildcards(source, stream)


def _wildcards(source: str, stream: StreamSettings) -> Iterator[str]:
    """Yield what is wrong if the wildcards of a topic cannot name what the entry leaves open."""
    device, name = (is_pattern(part) for part in source.split("/")[1:])
    found = filters.wildcards(stream.topic)
    by_message = bool(stream.format) and stream.task is not Task.WILDLIFE and not stream.value
    needed = int(device) + int(name and not by_message)
    if found < needed:
        yield (
            f'streams."{source}".topic: "{stream.topic}" names one topic for many streams; '
            f"use + or # for the {'device' if device else 'stream'}{' and the stream' if device and name else ''}"
        )


def _rules(settings: Keys) -> Iterator[str]:
    names = [rule.name for rule in settings.rules]
    for number, rule in enumerate(settings.rules):
        where = f"rules[{number}] ({rule.name})"
        if names.count(rule.name) > 1:
            yield f"{where}: two rules have this name; results name the rule that decided, so give each its own name"
        if not rule.raise_:
            yield f'{where}.raise: raises nothing; write a kind and its level, as {{ pixels = "user-private" }}'
        for kind in rule.raise_:
            if kind not in LEVELLED:
                yield f"{where}.raise: a {kind} has the level of its event, not its own; raise result or feature"
        if rule.hours is not None:
            try:
                Hours.parse(rule.hours)
            except ValueError as error:
                yield f"{where}.hours: {error}"

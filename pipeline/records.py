"""The form of our Kafka records: an envelope's routing facts in the headers, its payload in the value.

No role decodes a payload to route it, so the headers hold everything that a decision needs: CloudEvents 1.0 attributes
(Kafka binding, binary mode) and our own. They are read strictly: a header that is missing, repeated, unknown or
contradicts another one is refused with a reason, so that a damaged private record never looks like a public one::

    >>> envelope = Envelope(event="0193", kind=Kind.FEATURE, privacy=Privacy.PUBLIC, key="home/cam1",
    ...                     payload=b"...", source="home/cam1/garden", time="2026-05-01T12:00:00.000Z", space="s1")
    >>> record = to_record(envelope)
    >>> record.topic, from_record(record.headers, record.key, record.value) == envelope
    ('tierwise.features.ingest', True)
    >>> read_headers([("kind", b"feature")])
    Traceback (most recent call last):
    ...
    pipeline.errors.Rejected: no header privacy

A user-private record reveals neither source nor time; it has the headers in `PRIVATE_HEADERS` and no others.
This module imports no Kafka client, since the gate uses it on devices, too.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import Final, NamedTuple, NoReturn

from pipeline import clock, topics
from pipeline.errors import Rejected
from pipeline.messages import (
    Envelope,
    JsonMessage,
    Kind,
    Malformed,
    Privacy,
    Result,
    SightingReport,
    Task,
    decode,
    encode,
)
from pipeline.topics import Header

Headers = Sequence[tuple[str, bytes]]

SPEC_VERSION: Final = b"1.0"

PRIVATE_HEADERS: Final = frozenset(
    {Header.ID, Header.TYPE, Header.KIND, Header.PRIVACY, Header.SEALED_BY, Header.REVISION}
)
"""The only headers of a user-private record: any other header could name the device or the time."""

_ID, _TYPE, _KIND, _PRIVACY = Header.ID, Header.TYPE, Header.KIND, Header.PRIVACY
_SOURCE, _TIME, _REVISION = Header.SOURCE, Header.TIME, Header.REVISION
_PRIVACIES: Final = {level.value.encode(): level for level in Privacy}
_KINDS: Final = {kind.value.encode(): (kind, topics.event_type(kind).encode()) for kind in Kind}
_HEADERS_MAX_BYTES: Final = 4096
"""Our headers have about 200 bytes: source, time, id, kind, level. The rest is room for tracing headers of others."""
_REVISION_MAX_DIGITS: Final = 9
_TIME_END_S: Final = 253_370_764_800.0
"""Start of the year 9999. A later time, or one before 1970, comes from a broken clock; some time zones lack its day."""


class Record(NamedTuple):
    """One Kafka record. Kafka notes its arrival: by the time of an old event, retention would delete it at once."""

    topic: str
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class Facts(NamedTuple):
    """The routing facts in the headers."""

    event: str
    kind: Kind
    privacy: Privacy
    revision: int
    source: str
    time: str
    space: str
    sealed_by: str


def to_record(envelope: Envelope, topic: str = topics.INGEST) -> Record:
    """Return the record that carries this envelope."""
    headers = [
        (Header.ID, envelope.event.encode()),
        (Header.TYPE, topics.event_type(envelope.kind).encode()),
        (Header.KIND, envelope.kind.value.encode()),
        (Header.PRIVACY, envelope.privacy.value.encode()),
        (Header.REVISION, b"%d" % envelope.revision),
    ]
    if envelope.sealed_by:
        headers.append((Header.SEALED_BY, envelope.sealed_by.encode()))
    if envelope.privacy is not Privacy.USER_PRIVATE:
        headers += [
            (Header.SPEC, SPEC_VERSION),
            (Header.SOURCE, envelope.source.encode()),
            (Header.TIME, envelope.time.encode()),
        ]
        if envelope.space:
            headers.append((Header.SPACE, envelope.space.encode()))
    return Record(topic, envelope.key.encode(), envelope.payload, tuple(headers))


def from_record(headers: Headers, key: bytes | None, value: bytes | None) -> Envelope:
    """Return the envelope that a record carries.

    Raises
    ------
    Rejected
        With the reasons of `read_headers`, ``key-missing``, ``key-invalid`` or ``value-missing``.
    """
    facts = read_headers(headers)
    if not key:
        raise Rejected("key-missing", "a record needs its routing key, site/device or an HMAC")
    if value is None:
        raise Rejected("value-missing", "a record without a value deletes its key; an envelope needs a value")
    try:
        route_key = key.decode()
    except UnicodeDecodeError:
        raise Rejected("key-invalid", "a routing key is UTF-8: site/device or an HMAC in hex") from None
    return Envelope(
        event=facts.event,
        kind=facts.kind,
        privacy=facts.privacy,
        key=route_key,
        payload=value,
        source=facts.source,
        time=facts.time,
        space=facts.space,
        revision=facts.revision,
        sealed_by=facts.sealed_by,
    )


def read_headers(headers: Headers) -> Facts:
    """Return the facts in a record's headers, if the headers are complete and agree with each other.

    Raises
    ------
    Rejected
        With the reasons of `judge`.
    """
    privacy, kind, found = judge(headers)
    return Facts(
        found[Header.ID].decode(),
        kind,
        privacy,
        int(found[Header.REVISION]),
        found.get(Header.SOURCE, b"").decode(),
        found.get(Header.TIME, b"").decode(),
        found.get(Header.SPACE, b"").decode(),
        found.get(Header.SEALED_BY, b"").decode(),
    )


def judge(headers: Headers) -> tuple[Privacy, Kind, dict[str, bytes]]:
    """Check a record's headers. Return its level, its kind and the headers. Called for every record, so it is fast.

    Raises
    ------
    Rejected
        ``privacy-missing``, ``-repeated``, ``-unknown``, and the same for ``kind``; ``id-missing``, ``time-missing``,
        ``time-invalid``, ``source-missing``, ``source-invalid``, ``revision-invalid``, ``type-mismatch``,
        ``header-repeated``, ``header-invalid``; ``not-sealed``: a private record in the clear; ``sealed-public``: a
        public record that is sealed; ``header-forbidden``: a user-private record with a header beyond
        `PRIVATE_HEADERS`.
    """
    found = dict(headers)
    if len(found) != len(headers):
        raise _repeated(headers)
    privacy = _PRIVACIES.get(found.get(_PRIVACY) or _missing(_PRIVACY))
    if privacy is None:
        raise Rejected("privacy-unknown", "header privacy names no level: public, edge-private or user-private")
    kind, event_type = _KINDS.get(found.get(_KIND) or _missing(_KIND), (None, b""))
    if kind is None:
        raise Rejected("kind-unknown", f"header kind names no kind of record: {', '.join(Kind)}")
    if found.get(_TYPE) != event_type:
        raise Rejected("type-mismatch", f"header {_TYPE} of a {kind} must be {event_type.decode()}")
    if privacy is Privacy.PUBLIC:
        if Header.SEALED_BY in found:
            raise Rejected("sealed-public", "a public record is not sealed: one of both headers is wrong")
    elif not found.get(Header.SEALED_BY):
        raise Rejected("not-sealed", f"a record that is {privacy} may leave its site only sealed")
    revision = found.get(_REVISION) or b""
    if not revision.isdigit() or revision.startswith(b"0") or len(revision) > _REVISION_MAX_DIGITS:
        raise Rejected("revision-invalid", "header revision is not a number from 1 on")
    if privacy is Privacy.USER_PRIVATE:
        if not found.keys() <= PRIVATE_HEADERS:
            raise Rejected(
                "header-forbidden",
                "a user-private record has a header that it may not have, as source or time",
            )
    else:
        if not _is_source(found.get(_SOURCE) or _missing(_SOURCE)):
            raise Rejected("source-invalid", f"header {_SOURCE} is not site/device/stream")
        if not _is_time(found.get(_TIME) or _missing(_TIME)):
            raise Rejected("time-invalid", f"header {_TIME} is no RFC 3339 date and time since 1970")
    if not found.get(_ID):
        _missing(_ID)
    if None in found.values():  # Kafka and its clients allow a null header
        raise Rejected("header-invalid", "a header is null")
    text = b"".join(found.values())
    if len(text) > _HEADERS_MAX_BYTES or not text.isascii():
        raise Rejected("header-invalid", f"headers are ASCII, and at most {_HEADERS_MAX_BYTES} bytes together")
    return privacy, kind, found


NAMED_KINGDOMS: Final = frozenset({"animal", "plant"})
"""Only animals and plants make a sighting. A person's frames are private, and other frames show nothing to count."""


def answer_envelope(answered: Result | SightingReport) -> Envelope:
    """Return an answer's envelope for Kafka; a sighting travels under its own id."""
    return Envelope(
        event=answered.event if isinstance(answered, Result) else answered.sighting,
        kind=Kind.RESULT,
        privacy=answered.privacy,
        key=f"{answered.site}/{answered.device}",
        payload=encode(answered),
        source=answered.source,
        time=answered.time,
        revision=answered.revision,
    )


def answer(value: bytes) -> Result | SightingReport:
    """Read a record on the results topic: an edge's consensus or the cloud's answer. Their fields differ.

    Raises
    ------
    Rejected
        ``malformed``: the value is neither.
    """
    with contextlib.suppress(Malformed):
        return decode(SightingReport, value)
    with contextlib.suppress(Malformed):
        return decode(Result, value)
    # The decoder's own errors may quote the content, so the reason says no more.
    raise Rejected("malformed", "neither a SightingReport nor a Result")


class HourlySummary(JsonMessage, frozen=True):
    """One stream's readings in one hour, JSON. Key `source|hour`; the highest revision counts."""

    source: str
    hour: str
    task: Task
    unit: str
    count: int
    total: float
    low: float
    high: float
    mean: float
    revision: int
    room: str | None = None


def _missing(name: str) -> NoReturn:
    raise Rejected(f"{name.removeprefix('ce_')}-missing", f"no header {name}")


def _repeated(headers: Headers) -> Rejected:
    names = [name for name, _ in headers]
    name = next(name for name in names if names.count(name) > 1)
    reason = f"{name}-repeated" if name in (_PRIVACY, _KIND) else "header-repeated"
    return Rejected(reason, "a header is repeated")


@functools.lru_cache(maxsize=4096)  # few streams, many records
def _is_source(source: bytes) -> bool:
    try:
        names = source.decode().split("/")
    except UnicodeDecodeError:
        return False
    return len(names) == 3 and all(map(topics.is_name, names))


def _is_time(time: bytes) -> bool:
    try:
        return 0 <= clock.seconds(time.decode()) < _TIME_END_S
    except (ValueError, OverflowError):
        return False

"""The gate's table of what leaves for people: files that are exported, and alerts.

Files and alerts are transports, as MQTT and Kafka are (`gate.py`). They take only `Released`, and only this file makes
it, so the type proves that the level was checked against the place where the file or message will be read::

    >>> release("a cat", Privacy.PUBLIC, Reach.OUTSIDE).content
    'a cat'
    >>> release("a room", Privacy.EDGE_PRIVATE, Reach.OUTSIDE)
    Traceback (most recent call last):
    pipeline.errors.Withheld: edge-private: it stays at its site, unless somebody allows `edge-private` to leave

`EGRESSES` names each transport with its reach. What is asked for by name (`allow`) never includes user-private records,
nor pictures of persons.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from typing import Final, Generic, NamedTuple, NoReturn, TypeVar, final

from pipeline.errors import Withheld
from pipeline.messages import Privacy, Tier

T = TypeVar("T")

_TOKEN: Final = object()


class Reach(enum.StrEnum):
    """Where a file or an alert is read, from the nearest place to the farthest."""

    DEVICE = "device"
    SITE = "site"
    CLOUD = "cloud"
    OUTSIDE = "outside"
    """Other people's machines: a repository of data, a phone, a mailbox."""

    @property
    def tier(self) -> Tier:
        """The tier whose rights hold there."""
        return {Reach.DEVICE: Tier.DEVICE, Reach.SITE: Tier.EDGE}.get(self, Tier.CLOUD)


class Egress(NamedTuple):
    """One transport: the place that it reaches unless its user names another, and what it carries."""

    reach: Reach
    carries: str


EGRESSES: Final[Mapping[str, Egress]] = {
    "classify -o": Egress(Reach.DEVICE, "rows about pictures that lie on this machine"),
    "classify --sort-into": Egress(Reach.DEVICE, "copies of pictures that lie on this machine"),
    "export": Egress(Reach.SITE, "rows of the site's own stores"),
}
"""The transports to people. One without a row is refused."""


@final
@dataclass(frozen=True, slots=True)
class Released(Generic[T]):
    """Content that may be read at `reach`."""

    content: T
    reach: Reach
    token: InitVar[object] = None

    def __post_init__(self, token: object) -> None:
        if token is not _TOKEN:
            raise TypeError("only release() of pipeline.privacy.egress makes this")

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("Released cannot be subclassed")

    def __reduce__(self) -> NoReturn:
        raise TypeError("Released cannot be stored or copied: keep the content and release it again")


def release(
    content: T,
    privacy: Privacy,
    reach: Reach,
    *,
    allow: Privacy = Privacy.PUBLIC,
    person_picture: bool = False,
) -> Released[T]:
    """Let content out to this place. `person_picture`: it holds the picture of a person.

    Raises
    ------
    Withheld
        Its level does not allow that, and nobody asked for it; or nobody can ask for it.
    """
    tier = reach.tier
    if person_picture and tier is not Tier.DEVICE:
        raise Withheld("a person's picture leaves its device by no file and no alert")
    if tier.depth > privacy.reach.depth:
        if privacy is Privacy.USER_PRIVATE:
            raise Withheld("user-private: it stays on its device")
        if allow is not Privacy.EDGE_PRIVATE:
            raise Withheld("edge-private: it stays at its site, unless somebody allows `edge-private` to leave")
    return Released(content, reach, _TOKEN)

"""What to ask for next of the files that are wanted, given what is here: pure, and paced.

::

    edge                                     gateway
      | ChunkWanted(digest, 0, 65536)     >     |
      |     < Chunk(digest, 0, 65536 bytes)     |
      | ChunkWanted(digest, 65536, 30000) >     |      not before the pace allows it
      |     (lost, or the link was cut)         |
      | ChunkWanted(digest, 65536, 30000) >     |      again, and nothing that is here already

One request is on its way at a time, so that a slow link is never filled, and what comes is always what comes next of a
file: the bytes that are here are all there is to remember. An answer that was not asked for, is shorter or longer than
asked, or comes twice changes nothing. Times are any clock's seconds::

    >>> wishes = Wishes(bytes_per_s=65_536)
    >>> wishes.want({File("ab" * 32, 100_000): 65_536}, now_s=0.0)
    >>> wishes.next(0.0).offset, wishes.next(0.0)
    (65536, None)
    >>> wishes.take(Chunk(digest="ab" * 32, offset=65_536, data=bytes(34_464)), 0.2).length
    100000
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pipeline.errors import Rejected
from pipeline.files.blobs import File
from pipeline.messages import Chunk, ChunkWanted

CHUNK_BYTES: Final = 64 << 10
"""Half of what every broker takes, and a second of a slow link."""

REPEAT_MIN_S: Final = 5.0
REPEAT_MAX_S: Final = 60.0
"""What was not answered is asked for again after 5, 10, 20, 40, 60, 60 ... seconds."""

ABSENT_S: Final = 30.0
"""A gateway that has no such file may be given it yet."""

SPOILED_MIN_S: Final = 10.0
SPOILED_MAX_S: Final = 3600.0
"""A file that came whole and wrong is asked for again after 10, 20, 40 ... seconds: its sender gets no more of the link."""

SLOW_S: Final = 600.0
"""Nothing came for so long, over a link that stands: somebody keeps it from us."""


@dataclass(slots=True)
class _Wish:
    file: File
    held: int
    moved_s: float
    """When the last bytes came."""
    not_before_s: float = 0.0
    asked: int = 0
    """Times since the last bytes came."""
    spoiled: int = 0
    """Times that it came whole and wrong."""
    why: str = ""
    """What was wrong with what came last."""


class Wishes:
    """What one tier wants and has. Not thread-safe."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._wishes: dict[str, _Wish] = {}
        self._asked: ChunkWanted | None = None
        self._repeat_s = 0.0
        self._paced_s = 0.0

    def want(self, files: Mapping[File, int], now_s: float) -> None:
        """Want these files and no others, in this order, with so many of their first bytes here already."""
        before = {wish.file: wish for wish in self._open()}
        self._wishes = {
            file.digest: before.get(file) or _Wish(file, held, now_s) for file, held in files.items()
        }
        for file, held in files.items():
            self._wishes[file.digest].held = held
        if (asked := self._asked) is not None:
            wish = self._wishes.get(asked.digest)
            if wish is None or wish.held != asked.offset:
                self._asked = None

    def next(self, now_s: float) -> ChunkWanted | None:
        """What to ask for now; None: nothing yet (see `wait_s`)."""
        if self.wait_s(now_s) > 0:
            return None
        wish = next(each for each in self._open() if each.not_before_s <= now_s)
        length = min(CHUNK_BYTES, wish.file.length - wish.held)
        wish.asked += 1
        self._asked = ChunkWanted(digest=wish.file.digest, offset=wish.held, length=length)
        self._repeat_s = now_s + _doubled(REPEAT_MIN_S, wish.asked, REPEAT_MAX_S)
        self._paced_s = now_s + length / self._bytes_per_s
        return self._asked

    def wait_s(self, now_s: float) -> float:
        """How long nothing is to be asked for; infinite, if nothing is wanted."""
        starts = [wish.not_before_s for wish in self._open()]
        if not starts:
            return float("inf")
        return max(min(starts), self._paced_s, self._repeat_s if self._asked else 0.0) - now_s

    def take(self, chunk: Chunk, now_s: float) -> File | None:
        """Whether this is what was asked for: the file that these bytes come next of. None: it changes nothing."""
        asked, wish = self._asked, self._wishes.get(chunk.digest)
        if asked is None or wish is None or (chunk.digest, chunk.offset) != (asked.digest, asked.offset):
            return None
        if not chunk.data:
            self._asked, wish.not_before_s = None, now_s + ABSENT_S
            wish.why = "the gateway has no such file yet"
            return None
        if len(chunk.data) != asked.length:
            wish.why = f"{len(chunk.data)} bytes came where {asked.length} were asked for"
            return None
        self._asked = None
        wish.held += len(chunk.data)
        wish.moved_s, wish.asked, wish.why = now_s, 0, ""
        return wish.file

    def spoiled(self, digest: str, error: Rejected, now_s: float) -> None:
        """It came whole and wrong: from its start, later."""
        wish = self._wishes[digest]
        wish.spoiled += 1
        wish.held, wish.why = 0, str(error)
        wish.not_before_s = now_s + _doubled(SPOILED_MIN_S, wish.spoiled, SPOILED_MAX_S)

    def lost(self, digest: str, held: int) -> None:
        """What was taken could not be kept: so much is here."""
        self._wishes[digest].held = held

    def cut(self, now_s: float) -> None:
        """The link was cut: what was on its way will not come. Time without a link is nobody's fault."""
        self._asked = None
        for wish in self._wishes.values():
            wish.asked, wish.moved_s = 0, now_s

    def refused(self, now_s: float) -> Rejected | None:
        """Why what is wanted does not come, if that is no matter of waiting."""
        for wish in self._open():
            if wish.spoiled:
                return Rejected("digest-mismatch", wish.why)
            if now_s - wish.moved_s > SLOW_S:
                why = wish.why or "nothing came"
                return Rejected(
                    "slow-retrieval",
                    f"{wish.file.digest[:12]}…: no next bytes for {now_s - wish.moved_s:.0f} s ({why}): see whether the "
                    "gateway runs; it is asked again and again, and what serves goes on serving",
                )
        return None

    def progress(self) -> str:
        """For people: how much is here."""
        whole = sum(wish.file.length for wish in self._wishes.values())
        held = sum(wish.held for wish in self._wishes.values())
        why = next((f"; {wish.why}" for wish in self._open() if wish.why), "")
        return f"{held} of {whole} bytes are here{why}"

    def _open(self) -> list[_Wish]:
        return [wish for wish in self._wishes.values() if wish.held < wish.file.length]


def _doubled(first_s: float, times: int, limit_s: float) -> float:
    return float(min(first_s * 2 ** min(times - 1, 20), limit_s))

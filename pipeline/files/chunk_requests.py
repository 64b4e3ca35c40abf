"""Decides which bytes of the wanted files an edge requests next, and when. Pure: no I/O and no clock.

::

    edge                                     gateway
      | ChunkWanted(digest, 0, 65536)     >     |
      |     < Chunk(digest, 0, 65536 bytes)     |
      | ChunkWanted(digest, 65536, 30000) >     |      not before the pace allows it
      |     (lost, or the link was cut)         |
      | ChunkWanted(digest, 65536, 30000) >     |      again, without the bytes that are here already

Only one request is open at a time. So a slow link is never filled, and an answer always holds the next bytes of a
file: the number of bytes that are here is all the state there is. An answer that was not requested, has another length
or arrives twice changes nothing. Times are seconds of any clock::

    >>> requests = ChunkRequests(bytes_per_s=65_536)
    >>> requests.want({File("ab" * 32, 100_000): 65_536}, now_s=0.0)
    >>> requests.next(0.0).offset, requests.next(0.0)
    (65536, None)
    >>> requests.take(Chunk(digest="ab" * 32, offset=65_536, data=bytes(34_464)), 0.2).length
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
"""Half of the payload that every broker takes; a slow link needs a second for it."""

REPEAT_MIN_S: Final = 5.0
REPEAT_MAX_S: Final = 60.0
"""An unanswered request is repeated after 5, 10, 20, 40, 60, 60 ... seconds."""

ABSENT_S: Final = 30.0
"""A gateway that lacks the file may still receive it: ask again after this time."""

SPOILED_MIN_S: Final = 10.0
SPOILED_MAX_S: Final = 3600.0
"""A complete file with a wrong digest is requested again after 10, 20, 40 ... seconds, so it cannot fill the link."""

SLOW_S: Final = 600.0
"""No bytes for this long over a working link count as an attack that withholds the release (slow retrieval)."""


@dataclass(slots=True)
class _Download:
    file: File
    held: int
    """Bytes that are here."""
    moved_s: float
    """Time at which the last bytes arrived."""
    not_before_s: float = 0.0
    requests: int = 0
    """Requests since the last bytes arrived."""
    spoiled: int = 0
    """Number of times that the file was complete with a wrong digest."""
    why: str = ""
    """The fault of the last answer."""


class ChunkRequests:
    """The files that one tier wants and how much of each is here. Not thread-safe."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._downloads: dict[str, _Download] = {}
        self._asked: ChunkWanted | None = None
        self._repeat_s = 0.0
        self._paced_s = 0.0

    def want(self, files: Mapping[File, int], now_s: float) -> None:
        """Want these files and no others, in this order; the value is how many of the file's first bytes are here."""
        before = {download.file: download for download in self._open()}
        self._downloads = {
            file.digest: before.get(file) or _Download(file, held, now_s) for file, held in files.items()
        }
        for file, held in files.items():
            self._downloads[file.digest].held = held
        if (asked := self._asked) is not None:
            download = self._downloads.get(asked.digest)
            if download is None or download.held != asked.offset:
                self._asked = None

    def next(self, now_s: float) -> ChunkWanted | None:
        """Return the request to send now, or None if it is too early (see `wait_s`)."""
        if self.wait_s(now_s) > 0:
            return None
        download = next(each for each in self._open() if each.not_before_s <= now_s)
        length = min(CHUNK_BYTES, download.file.length - download.held)
        download.requests += 1
        self._asked = ChunkWanted(digest=download.file.digest, offset=download.held, length=length)
        self._repeat_s = now_s + _doubled(REPEAT_MIN_S, download.requests, REPEAT_MAX_S)
        self._paced_s = now_s + length / self._bytes_per_s
        return self._asked

    def wait_s(self, now_s: float) -> float:
        """Return the seconds until the next request; infinity if no file is wanted."""
        starts = [download.not_before_s for download in self._open()]
        if not starts:
            return float("inf")
        return max(min(starts), self._paced_s, self._repeat_s if self._asked else 0.0) - now_s

    def take(self, chunk: Chunk, now_s: float) -> File | None:
        """Return the file that this chunk continues, or None if it was not requested."""
        asked, download = self._asked, self._downloads.get(chunk.digest)
        if asked is None or download is None or (chunk.digest, chunk.offset) != (asked.digest, asked.offset):
            return None
        if not chunk.data:
            self._asked, download.not_before_s = None, now_s + ABSENT_S
            download.why = "the gateway has no such file yet"
            return None
        if len(chunk.data) != asked.length:
            download.why = f"{len(chunk.data)} bytes arrived, {asked.length} were requested"
            return None
        self._asked = None
        download.held += len(chunk.data)
        download.moved_s, download.requests, download.why = now_s, 0, ""
        return download.file

    def spoiled(self, digest: str, error: Rejected, now_s: float) -> None:
        """Note that the file was complete with a wrong digest: it is requested again from its start, later."""
        download = self._downloads[digest]
        download.spoiled += 1
        download.held, download.why = 0, str(error)
        download.not_before_s = now_s + _doubled(SPOILED_MIN_S, download.spoiled, SPOILED_MAX_S)

    def lost(self, digest: str, held: int) -> None:
        """Note that a chunk could not be stored; only `held` bytes are here."""
        self._downloads[digest].held = held

    def cut(self, now_s: float) -> None:
        """Note that the link was cut: the open request is void, and the time without a link does not count as slow."""
        self._asked = None
        for download in self._downloads.values():
            download.requests, download.moved_s = 0, now_s

    def refused(self, now_s: float) -> Rejected | None:
        """Return why the wanted files do not arrive, or None if waiting may help."""
        for download in self._open():
            if download.spoiled:
                return Rejected("digest-mismatch", download.why)
            if now_s - download.moved_s > SLOW_S:
                why = download.why or "nothing arrived"
                return Rejected(
                    "slow-retrieval",
                    f"{download.file.digest[:12]}…: no new bytes for {now_s - download.moved_s:.0f} s ({why}): check that the "
                    "gateway runs; the requests go on, and so does the model that serves",
                )
        return None

    def progress(self) -> str:
        """Return for people how much is here."""
        whole = sum(download.file.length for download in self._downloads.values())
        held = sum(download.held for download in self._downloads.values())
        why = next((f"; {download.why}" for download in self._open() if download.why), "")
        return f"{held} of {whole} bytes are here{why}"

    def _open(self) -> list[_Download]:
        return [download for download in self._downloads.values() if download.held < download.file.length]


def _doubled(first_s: float, times: int, limit_s: float) -> float:
    return float(min(first_s * 2 ** min(times - 1, 20), limit_s))

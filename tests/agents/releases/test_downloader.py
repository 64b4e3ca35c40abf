"""An edge downloads releases over its uplink: verified, resumed after a cut, and refused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_releases import FILES, Cloud, current

from agents.releases.downloader import FILES_MAX, Download, MetadataInbox
from models.releases.repository import LIFE_S
from pipeline import messages, topics
from pipeline.errors import Rejected, Retry
from pipeline.files.blobs import Blobs
from pipeline.files.chunk_requests import CHUNK_BYTES, SLOW_S
from pipeline.messages import Chunk, ChunkWanted
from pipeline.mqtt import Message
from pipeline.privacy import gate
from pipeline.settings.settings import ReleaseSettings, Settings

BIG = {"sums.bin": bytes(range(256)) * 1000}


class Link:
    """Of a connection, what a download uses; a test hands over what was published."""

    def __init__(self) -> None:
        self.connected = True
        self.sent: list[ChunkWanted] = []

    def publish(self, cleared: gate.Cleared) -> None:
        assert cleared.topic == topics.release_want("home")
        self.sent.append(messages.decode(ChunkWanted, cleared.payload))


class Edge:
    """A download, and a small gateway."""

    def __init__(self, folder: Path, cloud: Cloud) -> None:
        self.cloud = cloud
        self.root = folder / "releases-root.json"
        self.root.parent.mkdir(parents=True, exist_ok=True)
        if not self.root.exists():
            self.root.write_bytes(cloud.first_root)
        self.link = Link()
        told = Settings(data=str(folder), releases=ReleaseSettings(bytes_per_s=1 << 30))
        self.download = Download(told, self.root, cloud.clock)
        self.download._connection = self.link  # type: ignore[assignment]
        self.source = self.download.source
        self.served_bytes = 0

    def connect(self) -> None:
        """Connect, and receive everything that the broker retains."""
        self.download.connected(session_present=True)
        self.receive(self.cloud.received)

    def receive(self, metadata: dict[str, bytes]) -> None:
        batch = [Message(topics.release_metadata(name), data, True) for name, data in metadata.items()]
        self.download.received(batch)

    def serve(self, count: int = 1000) -> None:
        """Answer at most this number of requests."""
        for _ in range(count):
            self.cloud.hand.turn(0.01)
            self.download.request_next()
            if not self.link.sent:
                return
            self.hand(self.answer(self.link.sent.pop()))

    def answer(self, wanted: ChunkWanted) -> Chunk:
        data = self.cloud.repository.published()[1].get(wanted.digest, b"")
        data = data[wanted.offset :][: wanted.length]
        self.served_bytes += len(data)
        return Chunk(digest=wanted.digest, offset=wanted.offset, data=data)

    def hand(self, chunk: Chunk) -> None:
        self.download.received([Message(topics.release_chunk("home"), messages.encode(chunk), False)])

    def update(self) -> None:
        """Refresh and download as the updater does, until the release is complete."""
        for _ in range(4):
            try:
                target = self.source.refresh()
                assert target is not None
                self.source.files(target.version)
                return
            except Retry:
                self.serve()


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    cloud = Cloud(tmp_path / "cloud")
    cloud.release(1)
    return cloud


@pytest.fixture
def edge(tmp_path: Path, cloud: Cloud) -> Edge:
    edge = Edge(tmp_path / "edge", cloud)
    edge.connect()
    return edge


def refused(edge: Edge) -> str:
    with pytest.raises(Rejected) as caught:
        edge.source.refresh()
    return caught.value.reason


def test_a_release_comes_in_chunks_and_is_what_was_signed(edge: Edge) -> None:
    edge.update()
    assert edge.source.refresh() == current(1)
    assert edge.source.files(1) == {**FILES, "CARD.md": b"# 1"}


def test_a_download_reports_its_progress(edge: Edge, cloud: Cloud) -> None:
    cloud.release(2, BIG)
    edge.connect()
    with pytest.raises(Retry, match=r"0 of .* bytes are here"):
        edge.source.refresh()
    edge.serve()
    assert edge.source.refresh() == current(2)
    with pytest.raises(Retry):
        edge.source.files(2)
    edge.serve(2)
    with pytest.raises(Retry, match=r"[1-9]\d+ of 2560\d\d bytes are here"):
        edge.source.files(2)


def test_a_part_that_cannot_be_read_changes_nothing(edge: Edge) -> None:
    edge.download.received([Message(topics.release_chunk("home"), b"junk", False)])
    edge.update()
    assert edge.source.refresh() == current(1)


def test_nothing_was_ever_released_is_an_answer(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path / "cloud")
    cloud.send()
    edge = Edge(tmp_path / "edge", cloud)
    edge.connect()
    assert edge.source.refresh() is None
    with pytest.raises(Rejected, match="not among the signed releases"):
        edge.source.files(1)


def test_before_the_gateway_said_anything_it_is_waited_for(tmp_path: Path, cloud: Cloud) -> None:
    edge = Edge(tmp_path / "edge", cloud)
    with pytest.raises(Retry, match=r"timestamp\.json has not come yet"):
        edge.source.refresh()


def test_a_cut_or_a_kill_downloads_nothing_twice(edge: Edge, cloud: Cloud, tmp_path: Path) -> None:
    edge.update()
    cloud.release(2, BIG)
    edge.connect()
    edge.served_bytes = total = 0
    for _ in range(9):
        edge = Edge(tmp_path / "edge", cloud)  # killed, and started again
        edge.connect()
        try:
            edge.source.refresh()
            edge.source.files(2)
        except Retry:
            edge.serve(1)
        total += edge.served_bytes
    assert edge.source.files(2)["sums.bin"] == BIG["sums.bin"]
    targets = edge.source._trust.targets
    new = sum(file.length for path, file in targets.items() if "/2/" in path or "current" in path)
    assert total == new


def test_a_start_without_a_link_goes_on_with_what_was_here_also_after_it_expired(
    edge: Edge, cloud: Cloud, tmp_path: Path
) -> None:
    edge.update()
    after = Edge(tmp_path / "edge", cloud)
    after.link.connected = False
    assert after.source.refresh() == current(1)
    cloud.hand.turn(LIFE_S["timestamp"] + 1)
    assert refused(after) == "expired-metadata"
    assert after.source.files(1)["sums.bin"] == FILES["sums.bin"]


def test_a_release_that_cannot_come_says_that_the_link_is_down(edge: Edge) -> None:
    edge.link.connected = False
    with pytest.raises(Retry, match="the uplink is not connected"):
        edge.source.refresh()


# --- attacks -----------------------------------------------------------------------------------------------------


def test_a_retained_timestamp_of_somebody_else_is_refused_and_the_old_release_is_still_here(
    edge: Edge, cloud: Cloud, tmp_path: Path
) -> None:
    edge.update()
    thief = Cloud(tmp_path / "thief", cloud.clock)
    thief.release(9)
    edge.receive({"timestamp.json": thief.received["timestamp.json"]})
    assert refused(edge) == "bad-signature"
    assert edge.source.files(1)
    edge.connect()
    assert edge.source.refresh() == current(1)


def test_an_older_timestamp_is_refused_as_rollback(edge: Edge, cloud: Cloud) -> None:
    edge.update()
    old = cloud.received["timestamp.json"]
    cloud.release(2)
    edge.connect()
    edge.update()
    edge.receive({"timestamp.json": old})
    assert refused(edge) == "rollback"


@pytest.mark.parametrize("name", ["timestamp.json", "2.root.json"])
def test_endless_metadata_are_cut_off_when_they_come_and_refused(edge: Edge, name: str) -> None:
    edge.update()
    edge.receive({name: bytes(8 << 20)})
    assert sum(map(len, edge.download._inbox._files.values())) < 100_000
    assert refused(edge) == "too-long"


def test_more_files_of_metadata_than_there_can_be_are_not_kept() -> None:
    inbox = MetadataInbox()
    for number in range(1, FILES_MAX + 10):
        inbox.put(f"{number}.root.json", b"{}")
    assert inbox.read(f"{FILES_MAX + 5}.root.json") is None
    assert not inbox.put("../../etc/passwd", b"x")
    assert inbox.put("1.root.json", b"")
    assert inbox.read("1.root.json") is None
    assert inbox.put("timestamp.json", b"{}")


def test_a_swapped_file_of_the_same_length_is_thrown_away_and_reported(edge: Edge) -> None:
    with pytest.raises(Retry):
        edge.source.refresh()
    edge.download.request_next()
    wanted = edge.link.sent.pop()
    edge.hand(Chunk(digest=wanted.digest, offset=0, data=bytes(wanted.length)))
    assert refused(edge) == "digest-mismatch"
    edge.cloud.hand.turn(60)
    edge.serve()
    assert edge.source.refresh() == current(1)


@pytest.mark.parametrize("length", [1, 10, CHUNK_BYTES, 4 * CHUNK_BYTES])
def test_truncated_and_endless_chunks_are_not_taken(edge: Edge, length: int) -> None:
    with pytest.raises(Retry):
        edge.source.refresh()
    edge.download.request_next()
    wanted = edge.link.sent.pop()
    edge.hand(Chunk(digest=wanted.digest, offset=0, data=bytes(length)))
    with pytest.raises(Retry, match=r"0 of .*were requested"):
        edge.source.refresh()
    edge.cloud.hand.turn(60)
    edge.serve()
    assert edge.source.refresh() == current(1)


def test_a_chunk_that_was_not_requested_is_ignored(edge: Edge, tmp_path: Path) -> None:
    edge.hand(Chunk(digest="ab" * 32, offset=0, data=b"x"))
    edge.hand(Chunk(digest="../../x", offset=0, data=b"x"))
    assert Blobs(tmp_path / "edge" / "edge" / "releases" / "files").digests() == set()


def test_slow_retrieval_is_refused_with_its_reason_and_requested_again(edge: Edge) -> None:
    with pytest.raises(Retry):
        edge.source.refresh()
    edge.cloud.hand.turn(SLOW_S + 1)
    assert refused(edge) == "slow-retrieval"
    edge.serve()
    assert edge.source.refresh() == current(1)


def test_files_of_releases_that_are_no_longer_good_are_removed(edge: Edge, cloud: Cloud) -> None:
    edge.update()
    before = edge.download._blobs.digests()
    for version in range(2, 23):
        cloud.repository.release(version, {"sums.bin": b"%d" % version}, current(version))
    cloud.send()
    edge.connect()
    edge.update()
    assert edge.download._blobs.digests().isdisjoint(before)

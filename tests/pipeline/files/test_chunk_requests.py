"""What to ask for next: nothing twice, nothing for ever, whatever the network and its other end do."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pipeline.errors import Rejected
from pipeline.files.blobs import Blobs, File, sha256
from pipeline.files.chunk_requests import (
    ABSENT_S,
    CHUNK_BYTES,
    REPEAT_MIN_S,
    SLOW_S,
    SPOILED_MIN_S,
    ChunkRequests,
)
from pipeline.messages import Chunk, ChunkWanted

PACE = 65_536.0
A, B = File("aa" * 32, 150_000), File("bb" * 32, 10)


def answered(wanted: ChunkWanted | None, length: int | None = None) -> Chunk:
    assert wanted is not None
    return Chunk(digest=wanted.digest, offset=wanted.offset, data=bytes(wanted.length if length is None else length))


@pytest.fixture
def requests() -> ChunkRequests:
    requests = ChunkRequests(PACE)
    requests.want({A: 0, B: 0}, 0.0)
    return requests


def test_files_come_one_after_the_other_in_chunks_and_every_byte_once(requests: ChunkRequests) -> None:
    now_s, asked = 0.0, []
    while requests.wait_s(now_s) != float("inf"):
        now_s += requests.wait_s(now_s)
        wanted = requests.next(now_s)
        assert wanted is not None
        asked.append((wanted.digest[0], wanted.offset, wanted.length))
        assert requests.take(answered(wanted), now_s) in (A, B)
    assert asked == [("a", 0, 65_536), ("a", 65_536, 65_536), ("a", 131_072, 18_928), ("b", 0, 10)]
    assert requests.progress() == "150010 of 150010 bytes are here"


def test_what_is_here_already_is_not_asked_for(requests: ChunkRequests) -> None:
    requests.want({A: 140_000}, 0.0)
    assert requests.next(0.0) == ChunkWanted(digest=A.digest, offset=140_000, length=10_000)


def test_the_pace_is_kept_however_quick_the_answers_are(requests: ChunkRequests) -> None:
    requests.take(answered(requests.next(0.0)), 0.01)
    assert requests.next(0.5) is None
    assert requests.wait_s(0.5) == pytest.approx(0.5)
    assert requests.next(1.0) is not None


def test_what_is_not_answered_is_asked_for_again_less_and_less_often(requests: ChunkRequests) -> None:
    first = requests.next(0.0)
    assert requests.next(REPEAT_MIN_S - 0.1) is None
    assert requests.next(REPEAT_MIN_S) == first
    assert requests.next(2 * REPEAT_MIN_S) is None
    assert requests.next(3 * REPEAT_MIN_S) == first


def test_after_a_cut_it_is_asked_for_at_once(requests: ChunkRequests) -> None:
    first = requests.next(1.0)
    requests.cut(2.5)
    assert requests.next(2.5) == first


def test_an_answer_that_comes_twice_or_late_or_unasked_changes_nothing(requests: ChunkRequests) -> None:
    first = answered(requests.next(0.0))
    assert requests.take(first, 0.1) == A
    assert requests.take(first, 0.2) is None
    assert requests.take(Chunk(digest=B.digest, offset=0, data=bytes(10)), 0.3) is None
    assert requests.take(Chunk(digest="cc" * 32, offset=0, data=bytes(10)), 0.3) is None
    second = requests.next(1.0)
    assert requests.take(first, 1.1) is None
    assert requests.take(answered(second), 1.2) == A


@pytest.mark.parametrize("length", [1, 65_535, 65_537, 200_000])
def test_an_answer_of_another_length_is_not_taken(requests: ChunkRequests, length: int) -> None:
    wanted = requests.next(0.0)
    assert requests.take(answered(wanted, length), 0.1) is None
    assert "were requested" in requests.progress()
    assert requests.next(1.0) is None
    assert requests.next(REPEAT_MIN_S) == wanted


def test_a_file_that_is_not_there_yet_lets_the_others_pass(requests: ChunkRequests) -> None:
    assert requests.take(answered(requests.next(0.0), 0), 0.1) is None
    assert "no such file yet" in requests.progress()
    other = requests.next(1.0)
    assert other is not None and other.digest == B.digest
    requests.take(answered(other), 1.1)
    assert requests.next(2.0) is None
    again = requests.next(ABSENT_S + 0.1)
    assert again is not None and again.digest == A.digest


def test_a_file_that_came_whole_and_wrong_is_asked_for_less_and_less_often(requests: ChunkRequests) -> None:
    requests.want({B: 0}, 0.0)
    now_s, wrong = 0.0, Rejected("digest-mismatch", "another file")
    for times in (1, 2, 4):
        requests.take(answered(requests.next(now_s)), now_s)
        requests.spoiled(B.digest, wrong, now_s)
        refusal = requests.refused(now_s)
        assert refusal is not None and refusal.reason == "digest-mismatch"
        assert requests.wait_s(now_s) == pytest.approx(SPOILED_MIN_S * times)
        now_s += SPOILED_MIN_S * times


def test_slow_retrieval_is_told_and_time_without_a_link_does_not_count(requests: ChunkRequests) -> None:
    requests.cut(500.0)
    assert requests.refused(SLOW_S + 1) is None
    refusal = requests.refused(SLOW_S + 501)
    assert refusal is not None and refusal.reason == "slow-retrieval"


def test_a_part_that_could_not_be_kept_is_asked_for_again(requests: ChunkRequests) -> None:
    requests.take(answered(requests.next(0.0)), 0.1)
    requests.lost(A.digest, 0)
    again = requests.next(1.0)
    assert again is not None and again.offset == 0


def test_what_is_wanted_no_more_is_not_asked_for_again(requests: ChunkRequests) -> None:
    requests.next(0.0)
    requests.want({B: 0}, 0.5)
    wanted = requests.next(1.0)
    assert wanted is not None and wanted.digest == B.digest


# --- a network that does as it likes -----------------------------------------------------------------------------


class Network(RuleBasedStateMachine):
    """Answers are lost, repeated, swapped, cut short, changed; sides are killed; time passes."""

    @initialize(sizes=st.lists(st.integers(1, 3 * CHUNK_BYTES), min_size=1, max_size=3))
    def begin(self, sizes: list[int]) -> None:
        self.folder = tempfile.TemporaryDirectory()
        contents = [bytes([number]) * size for number, size in enumerate(sizes)]
        self.files = {File(sha256(data), len(data)): data for data in contents}
        self.by_digest = {file.digest: data for file, data in self.files.items()}
        self.now_s = 0.0
        self.flying: list[Chunk] = []
        self.harmed = False
        self.asked_bytes = 0
        self.start()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    @rule()
    def start(self) -> None:
        """After a kill, too."""
        self.blobs = Blobs(Path(self.folder.name))
        self.requests = ChunkRequests(1e9)
        self.want()

    @rule()
    def want(self) -> None:
        missing = [file for file in self.files if self.blobs.read(file.digest) is None]
        self.requests.want({file: self.blobs.resume(file) for file in missing}, self.now_s)

    @rule(seconds=st.sampled_from([0.1, 1.0, 60.0]))
    def ask(self, seconds: float) -> None:
        self.now_s += seconds
        wanted = self.requests.next(self.now_s)
        if wanted is not None:
            self.asked_bytes += wanted.length
            data = self.by_digest[wanted.digest][wanted.offset :][: wanted.length]
            self.flying.append(Chunk(digest=wanted.digest, offset=wanted.offset, data=data))

    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        if self.flying:
            self.arrive(self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1))))

    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        if self.flying:
            self.arrive(data.draw(st.sampled_from(self.flying)))

    @rule()
    def lose(self) -> None:
        self.harmed = self.harmed or bool(self.flying)
        self.flying.clear()

    @rule(cut=st.booleans(), data=st.data())
    def change(self, cut: bool, data: st.DataObject) -> None:
        if self.flying:
            self.harmed = True
            chunk = self.flying.pop()
            keep = data.draw(st.integers(0, len(chunk.data)))
            other = chunk.data[:keep] + (b"" if cut else b"?" * (len(chunk.data) - keep))
            self.arrive(Chunk(digest=chunk.digest, offset=chunk.offset, data=other))

    @rule()
    def swap(self) -> None:
        if len(self.flying) > 1:
            self.harmed = True
            each, two = self.flying[-2:]
            self.arrive(Chunk(digest=each.digest, offset=each.offset, data=two.data))

    def arrive(self, chunk: Chunk) -> None:
        file = self.requests.take(chunk, self.now_s)
        if file is not None:
            try:
                self.blobs.append(file, chunk.offset, chunk.data)
            except Rejected as error:
                assert self.harmed
                self.requests.spoiled(file.digest, error, self.now_s)

    @invariant()
    def what_is_whole_is_right(self) -> None:
        if hasattr(self, "blobs"):
            for file, data in self.files.items():
                assert self.blobs.read(file.digest) in (None, data)

    @rule()
    def an_honest_network_brings_everything(self) -> None:
        self.flying.clear()
        self.requests.cut(self.now_s)
        before = {file: self.blobs.held(file) for file in self.files}
        self.asked_bytes = 0
        for _ in range(200):
            missing = [file for file in self.files if self.blobs.read(file.digest) is None]
            if not missing:
                break
            self.want()
            self.now_s += max(0.0, self.requests.wait_s(self.now_s))
            self.ask(0.0)
            if self.flying:
                self.arrive(self.flying.pop())
        assert not [file for file in self.files if self.blobs.read(file.digest) is None]
        if not self.harmed:
            assert self.asked_bytes == sum(file.length - held for file, held in before.items())


TestNetwork = pytest.mark.slow(pytest.mark.slow(Network.TestCase))

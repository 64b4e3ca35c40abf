"""Drives the updates of one tier: does what the stage of `updates.State` asks for, and keeps what came of it.

::

    ReleaseSource --current, files--> Updater --trial, swap--> Serving (eyes)
                                         |
                                         +--> serving.json, heads/3/...  (before each swap)
                                         +--> status topic, log, counters (after each change)

One thread does all of it, so stages follow each other in order and no event waits. What serves is decided on the disk
first: a crash leaves the tier with what served, or with what was promoted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Set
from functools import partial
from typing import Final, Generic, TypeVar

import msgspec
import structlog

from agents.releases.source import ReleaseSource
from agents.role.telemetry import Metrics
from agents.rollout import state as updates
from agents.rollout.model_factory import Kit, gained, labels_of
from agents.rollout.promoted_store import Kept, ServingFiles, Trying
from agents.rollout.rules import TRIALS, WORKING, Found, Stage
from agents.rollout.serving import Serving, Trial
from agents.rollout.shadow import Tally
from agents.rollout.state import State
from models.answering.model_source import TierModel
from models.heads.release import HeadRelease
from models.releases.targets import MODEL, Current
from pipeline import clock
from pipeline.clock import Clock
from pipeline.errors import Rejected, Retry
from pipeline.messages import Update

log = structlog.get_logger(__name__)

TICK_S: Final = 0.25
"""How often a trial is judged."""
ASK_S: Final = 5.0
"""How often the source is asked where nothing arrives: its metadata may expire."""

E = TypeVar("E", bound=TierModel)


class Updater(Generic[E]):
    """Of one tier. Once it is made `serving` answers; from `start` on it looks for releases where `follow` said."""

    def __init__(
        self,
        kit: Kit[E],
        files: ServingFiles,
        make_serving: Callable[[E], Serving[E]],
        metrics: Metrics,
        time: Clock,
        changed: Callable[[], object] = lambda: None,
    ) -> None:
        """`changed` is called after each change of `update`, on the updater's thread."""
        self._kit = kit
        self._files = files
        self._metrics = metrics
        self._clock = time
        self._changed = changed
        self._source: ReleaseSource | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._kept, self._warm = self._resumed()
        """What is on the disk, and eyes by version: what serves, and what is gone back to once it was needed."""
        self._state = self._kept.state()
        self._candidate: tuple[int, E, HeadRelease | None] | None = None
        self._tally = Tally()
        self._trouble = ""
        self._awaited = ""
        """What is on its way, while it is."""
        self._since = ""
        """When this stage began, as people read it: stages last by a clock that is never set."""
        self._asked_s = float("-inf")
        self.serving = make_serving(self._warm[self._state.serving])

    # --- life ----------------------------------------------------------------------------------------------

    def follow(self, source: ReleaseSource) -> None:
        """Where releases come from: once, before `start`."""
        self._source = source

    def start(self) -> None:
        """Look for releases, and take them, on a thread of its own."""
        self.serving.start()
        self._metrics.serves(self.title)
        self._thread = threading.Thread(target=self._run, name="updates", daemon=True)
        self._thread.start()

    def stop(self, deadline_s: float) -> None:
        """What is being tried is begun with anew at the next start, and that counts as no failure of its."""
        self._stop.set()
        if self._source is not None:
            self._source.arrived.set()
        if self._thread is not None:
            self._thread.join(deadline_s)
            if not self._thread.is_alive():
                self._forget_try()
        self.serving.stop()

    def _run(self) -> None:
        assert self._source is not None
        while not self._stop.is_set():
            try:
                self.step()
            except Exception as error:  # whatever is wrong with updates, what serves goes on serving
                log.exception("updates met a bug of ours")
                self._tell_trouble(f"internal-error: {error!r}")
                self._stop.wait(ASK_S)
            self._source.arrived.wait(TICK_S if self._state.stage in WORKING else ASK_S)

    @property
    def title(self) -> str:
        """What serves."""
        return self._title(self._state.serving)

    @property
    def update(self) -> Update:
        """For the status topic and `/health`; may be asked from any thread."""
        state = self._state
        last = state.refused[-1] if state.refused else None
        return Update(
            stage=state.stage,
            candidate=self._title(state.candidate.version) if state.candidate else "",
            since=self._since,
            rule=state.rule,
            reason="; ".join(its for its in (state.reason, self._awaited) if its),
            previous=self._title(state.previous) if state.previous is not None else "",
            refused=f"{self._title(last.version)}: {last.rule}: {last.reason}" if last else "",
            trouble=self._trouble,
        )

    # --- one step ------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Hear what is to serve, and do what the stage asks for, until there is nothing to be done now."""
        self._awaited = ""
        try:
            self._hear()
            while self._state.stage in WORKING and not self._stop.is_set():
                before = self._state
                self._take(updates.advance(before, self._work(), self._clock.monotonic()))
                if self._state is before:
                    break
        except Retry as error:  # told with the next change: each chunk that comes changes it
            self._awaited = str(error)

    def _hear(self) -> None:
        assert self._source is not None
        now_s = self._clock.monotonic()
        if not self._source.arrived.is_set() and now_s - self._asked_s < ASK_S:
            return
        self._source.arrived.clear()
        self._asked_s = now_s
        try:
            word = self._source.refresh()
        except Rejected as error:
            self._tell_trouble(f"{error.reason}: {error}")
            return
        self._tell_trouble("")
        if word is not None:
            word = self._normal(word)
            self._take(updates.named(self._state, word, now_s, self._times_tried(word)))

    def _normal(self, word: Current) -> Current:
        """The shipped model has two numbers: its own, and 0."""
        return msgspec.structs.replace(word, version=0) if word.version <= self._kit.base_version else word

    def _times_tried(self, word: Current) -> int:
        trying = self._kept.trying
        return trying.times if trying is not None and trying.word == updates.word_key(word) else 0

    def _work(self) -> Found:
        """What the stage asks for, done. Raises `Retry`."""
        try:
            match self._state.stage:
                case Stage.VERIFYING:
                    return self._verify()
                case Stage.SMOKE:
                    return self._smoke()
                case _:
                    return Found(figures=self._tally.figures())
        except Retry:
            raise
        except Rejected as error:
            return Found(trouble=error.reason, reason=str(error))
        except Exception as error:  # a release on which our own code fails is none to serve with
            log.exception("a release met a bug of ours")
            return Found(trouble="internal-error", reason=repr(error))

    def _verify(self) -> Found:
        assert self._state.candidate is not None
        if self._state.tries > updates.MOST_TRIES:
            return Found()
        version = self._state.candidate.version
        warm = self._warm.get(version)
        if warm is not None:
            self._candidate = (version, warm, None)
            return Found(done=True)
        release: HeadRelease | None = None
        if version:
            release = self._files.release(version) or self._fetched(version)
        self._candidate = (version, self._kit.open(release), release)
        return Found(done=True)

    def _fetched(self, version: int) -> HeadRelease:
        assert self._source is not None
        files = self._source.files(version)
        release = HeadRelease.of(files)
        if release.title != self._title(version):
            raise Rejected(
                "other-version", f"{self._title(version)} was signed, and its files are {release.title}'s"
            )
        self._files.keep(version, files)
        return release

    def _smoke(self) -> Found:
        """An eye that served here, and the shipped one, were tried before."""
        assert self._candidate is not None
        _, eye, release = self._candidate
        complaints = self._kit.smoke(release, eye) if release is not None else ()
        if complaints:
            return Found(trouble="smoke", reason="; ".join(complaints[:3]))
        return Found(done=True)

    # --- a change ------------------------------------------------------------------------------------------

    def _take(self, state: State) -> None:
        """Make it so: on the disk, then in memory, then told. Raises `Retry` before anything changed."""
        before = self._state
        if state is before:
            return
        kept = self._to_keep(state)
        if kept != self._kept:
            self._files.write(kept)
            self._kept = kept
        self._state, self._since = state, clock.rfc3339(self._clock.now())
        if state.stage in TRIALS:
            self._try_out(state, fresh=before.stage not in TRIALS)
        elif before.stage in TRIALS:
            self.serving.try_out(None)
        if state.serving != before.serving:
            self._swap(state)
        if state.candidate is None:
            self._candidate = None
            self._files.tidy({state.serving, state.previous or 0})
        self._tell(before)

    def _to_keep(self, state: State) -> Kept:
        trying = None
        if state.candidate is not None:
            trying = Trying(updates.word_key(state.candidate), min(state.tries, updates.MOST_TRIES + 1))
        return Kept(
            base=self._kit.base,
            serving=state.serving,
            previous=state.previous,
            refused=state.refused,
            trying=trying,
        )

    def _try_out(self, state: State, *, fresh: bool) -> None:
        assert self._candidate is not None
        version, eye, release = self._candidate
        if fresh:
            self._tally = Tally(
                gained(
                    self.serving.model.tree,
                    self._known(),
                    eye.tree,
                    labels_of(release or self._files.release(version)),
                )
            )
        self.serving.try_out(Trial(eye, partial(updates.takes, state), self._tally))

    def _known(self) -> Set[str]:
        release = self._files.release(self._state.serving) if self._state.serving else None
        return self._kit.labels | labels_of(release)

    def _swap(self, state: State) -> None:
        assert self._candidate is not None
        version, eye, _ = self._candidate
        old = self.serving.model
        self.serving.swap(eye)
        assert state.previous is not None
        self._warm = {version: eye, state.previous: old}

    def _forget_try(self) -> None:
        if self._kept.trying is None:
            return
        kept = msgspec.structs.replace(self._kept, trying=None)
        try:
            self._files.write(kept)
            self._kept = kept
        except Retry as error:
            log.warning("this try counts as a failed one", error=str(error))

    # --- telling -------------------------------------------------------------------------------------------

    def _tell(self, before: State) -> None:
        state = self._state
        version = state.trying if state.trying is not None else before.trying
        model = self._title(version) if version is not None else ""
        self._metrics.update(state.stage, state.rule)
        if state.serving != before.serving:
            self._metrics.serves(self.title)
        tell = log.warning if state.stage in (Stage.REFUSED, Stage.ROLLED_BACK) else log.info
        tell("update", model=model, stage=str(state.stage), rule=state.rule, reason=state.reason)
        self._changed()

    def _tell_trouble(self, trouble: str) -> None:
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if trouble:
            log.warning("no news of releases; what serves goes on serving", why=trouble)
        self._changed()

    def _title(self, version: int) -> str:
        return f"{MODEL}@{version}" if version else self._kit.base

    # --- a start -------------------------------------------------------------------------------------------

    def _resumed(self) -> tuple[Kept, dict[int, E]]:
        """What served when the process ended; else what served before it; else the shipped model."""
        kept = self._files.read()
        for version in dict.fromkeys((kept.serving, kept.previous or 0, 0)):
            eye = self._opened(version)
            if eye is not None:
                if version != kept.serving:
                    kept = msgspec.structs.replace(kept, serving=version, previous=None)
                return kept, {version: eye}
        raise AssertionError("the shipped model opens, or raises Stop")

    def _opened(self, version: int) -> E | None:
        if not version:
            return self._kit.open(None)
        release = self._files.release(version)
        if release is None:
            log.error("what served is not here any more; what served before it does", version=version)
            return None
        try:
            return self._kit.open(release)
        except Rejected as error:
            log.error("what served cannot be opened; what served before it does", error=str(error))
            return None

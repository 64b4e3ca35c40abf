"""Drive the rollout of one tier: do the work of the current stage, apply `state.advance`, and store the result.

::

    ReleaseSource --signed target, files--> Updater --trial, swap--> Serving (models)
                                               |
                                               +--> serving.json, heads/3/...  (before each swap)
                                               +--> status topic, log, counters (after each change)

One thread does all of it, so stages follow each other in order and no event waits. The disk is written first: after a
crash, the tier serves the release that served before, or the promoted one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Set
from functools import partial
from typing import Final, Generic

import msgspec
import structlog

from agents.releases.source import ReleaseSource
from agents.role.telemetry import Metrics
from agents.rollout import state as rollout
from agents.rollout.model_factory import ModelFactory, gained_labels, labels_of
from agents.rollout.promoted_store import PendingCandidate, PromotedStore, ServingState
from agents.rollout.rules import MOST_TRIES, TRIALS, WORKING, RolloutStage, StageResult
from agents.rollout.serving import Serving, Trial
from agents.rollout.shadow import TrialTally
from agents.rollout.state import RolloutState
from models.answering.model_source import E
from models.heads.release import HeadRelease
from models.releases.targets import MODEL, Current
from pipeline import clock
from pipeline.clock import Clock
from pipeline.errors import Rejected, Retry
from pipeline.messages import Update

log = structlog.get_logger(__name__)

TICK_S: Final = 0.25
"""Time between two judgements of a trial."""
REFRESH_S: Final = 5.0
"""The source is refreshed this often even if nothing arrives, since its metadata may expire."""


class Updater(Generic[E]):
    """The updater of one tier. `serving` answers from the start; after `start`, the updater takes releases."""

    def __init__(
        self,
        factory: ModelFactory[E],
        store: PromotedStore,
        make_serving: Callable[[E], Serving[E]],
        metrics: Metrics,
        time: Clock,
        on_change: Callable[[], object] = lambda: None,
    ) -> None:
        """Open the model that served last. The updater's thread calls `on_change` after each change of `update`."""
        self._factory = factory
        self._store = store
        self._metrics = metrics
        self._clock = time
        self._on_change = on_change
        self._source: ReleaseSource | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._stored, self._open_models = self._resume()
        """The state on the disk, and open models by version: the serving one, and the previous one after a swap."""
        self._state = self._stored.state()
        self._candidate: tuple[int, E, HeadRelease | None] | None = None
        self._tally = TrialTally()
        self._trouble = ""
        self._waiting_for = ""
        """Why the current stage has to wait."""
        self._since = ""
        """Time of day at which this stage began, for people. Durations use the monotonic clock."""
        self._refreshed_s = float("-inf")
        self.serving = make_serving(self._open_models[self._state.serving])

    # --- life ----------------------------------------------------------------------------------------------

    def follow(self, source: ReleaseSource) -> None:
        """Set the source of releases. Call it once, before `start`."""
        self._source = source

    def start(self) -> None:
        """Take releases on a thread of its own."""
        self.serving.start()
        self._metrics.serves(self.title)
        self._thread = threading.Thread(target=self._run, name="updates", daemon=True)
        self._thread.start()

    def stop(self, deadline_s: float) -> None:
        """Stop in order. The next start tries the candidate again; this does not count as a failed try."""
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
            except Exception as error:  # no failure of an update may end the serving model
                log.exception("the update failed by an internal error")
                self._set_trouble(f"internal-error: {error!r}")
                self._stop.wait(REFRESH_S)
            self._source.arrived.wait(TICK_S if self._state.stage in WORKING else REFRESH_S)

    @property
    def title(self) -> str:
        """Return the title of the serving release or shipped model."""
        return self._title(self._state.serving)

    @property
    def update(self) -> Update:
        """Return the state for the status topic and `/health`. Any thread may call this."""
        state = self._state
        last = state.refused[-1] if state.refused else None
        return Update(
            stage=state.stage,
            candidate=self._title(state.candidate.version) if state.candidate else "",
            since=self._since,
            rule=state.rule,
            reason="; ".join(text for text in (state.reason, self._waiting_for) if text),
            previous=self._title(state.previous) if state.previous is not None else "",
            refused=f"{self._title(last.version)}: {last.rule}: {last.reason}" if last else "",
            trouble=self._trouble,
        )

    # --- one step ------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Refresh the signed target, then work through stages until one has to wait."""
        self._waiting_for = ""
        try:
            self._refresh_target()
            while self._state.stage in WORKING and not self._stop.is_set():
                before = self._state
                self._apply(rollout.advance(before, self._work(), self._clock.monotonic()))
                if self._state is before:
                    break
        except Retry as error:  # reported with the next change, since every chunk changes this text
            self._waiting_for = str(error)

    def _refresh_target(self) -> None:
        assert self._source is not None
        now_s = self._clock.monotonic()
        if not self._source.arrived.is_set() and now_s - self._refreshed_s < REFRESH_S:
            return
        self._source.arrived.clear()
        self._refreshed_s = now_s
        try:
            target = self._source.refresh()
        except Rejected as error:
            self._set_trouble(f"{error.reason}: {error}")
            return
        self._set_trouble("")
        if target is not None:
            target = self._normal(target)
            self._apply(rollout.named(self._state, target, now_s, self._earlier_tries(target)))

    def _normal(self, target: Current) -> Current:
        """Return the target with version 0 for the shipped model, which also has a version of its own."""
        return msgspec.structs.replace(target, version=0) if target.version <= self._factory.base_version else target

    def _earlier_tries(self, target: Current) -> int:
        pending = self._stored.trying
        return pending.times if pending is not None and pending.word == rollout.target_key(target) else 0

    def _work(self) -> StageResult:
        """Do the work of the stage and return its result. Raises `Retry`."""
        try:
            match self._state.stage:
                case RolloutStage.VERIFYING:
                    return self._verify()
                case RolloutStage.SMOKE:
                    return self._smoke()
                case _:
                    return StageResult(figures=self._tally.figures())
        except Retry:
            raise
        except Rejected as error:
            return StageResult(problem=error.reason, reason=str(error))
        except Exception as error:  # a release that causes an internal error must not serve
            log.exception("a release caused an internal error")
            return StageResult(problem="internal-error", reason=repr(error))

    def _verify(self) -> StageResult:
        assert self._state.candidate is not None
        if self._state.tries > MOST_TRIES:
            return StageResult()
        version = self._state.candidate.version
        model = self._open_models.get(version)
        if model is not None:
            self._candidate = (version, model, None)
            return StageResult(passed=True)
        release: HeadRelease | None = None
        if version:
            release = self._store.release(version) or self._fetch(version)
        self._candidate = (version, self._factory.open(release), release)
        return StageResult(passed=True)

    def _fetch(self, version: int) -> HeadRelease:
        assert self._source is not None
        files = self._source.files(version)
        release = HeadRelease.of(files)
        if release.title != self._title(version):
            raise Rejected("other-version", f"{self._title(version)} is signed, but its files are of {release.title}")
        self._store.keep(version, files)
        return release

    def _smoke(self) -> StageResult:
        """Run the smoke test. The shipped model and a model that served here need none."""
        assert self._candidate is not None
        _, model, release = self._candidate
        complaints = self._factory.smoke(release, model) if release is not None else ()
        if complaints:
            return StageResult(problem="smoke", reason="; ".join(complaints[:3]))
        return StageResult(passed=True)

    # --- a change ------------------------------------------------------------------------------------------

    def _apply(self, state: RolloutState) -> None:
        """Write the new state to the disk, apply it in memory, and report it. Raises `Retry` before any change."""
        before = self._state
        if state is before:
            return
        stored = self._to_store(state)
        if stored != self._stored:
            self._store.write(stored)
            self._stored = stored
        self._state, self._since = state, clock.rfc3339(self._clock.now())
        if state.stage in TRIALS:
            self._try_out(state, fresh=before.stage not in TRIALS)
        elif before.stage in TRIALS:
            self.serving.try_out(None)
        if state.serving != before.serving:
            self._swap(state)
        if state.candidate is None:
            self._candidate = None
            self._store.tidy({state.serving, state.previous or 0})
        self._report(before)

    def _to_store(self, state: RolloutState) -> ServingState:
        pending = None
        if state.candidate is not None:
            pending = PendingCandidate(rollout.target_key(state.candidate), min(state.tries, MOST_TRIES + 1))
        return ServingState(
            base=self._factory.base,
            serving=state.serving,
            previous=state.previous,
            refused=state.refused,
            trying=pending,
        )

    def _try_out(self, state: RolloutState, *, fresh: bool) -> None:
        assert self._candidate is not None
        version, model, release = self._candidate
        if fresh:
            labels = labels_of(release or self._store.release(version))
            self._tally = TrialTally(gained_labels(self.serving.model.tree, self._serving_labels(), model.tree, labels))
        self.serving.try_out(Trial(model, partial(rollout.takes, state), self._tally))

    def _serving_labels(self) -> Set[str]:
        release = self._store.release(self._state.serving) if self._state.serving else None
        return self._factory.labels | labels_of(release)

    def _swap(self, state: RolloutState) -> None:
        assert self._candidate is not None
        version, model, _ = self._candidate
        old = self.serving.model
        self.serving.swap(model)
        assert state.previous is not None
        self._open_models = {version: model, state.previous: old}

    def _forget_try(self) -> None:
        if self._stored.trying is None:
            return
        stored = msgspec.structs.replace(self._stored, trying=None)
        try:
            self._store.write(stored)
            self._stored = stored
        except Retry as error:
            log.warning("this try counts as a failed one", error=str(error))

    # --- reporting -----------------------------------------------------------------------------------------

    def _report(self, before: RolloutState) -> None:
        state = self._state
        version = state.trying if state.trying is not None else before.trying
        model = self._title(version) if version is not None else ""
        self._metrics.update(state.stage, state.rule)
        if state.serving != before.serving:
            self._metrics.serves(self.title)
        write = log.warning if state.stage in (RolloutStage.REFUSED, RolloutStage.ROLLED_BACK) else log.info
        write("update", model=model, stage=str(state.stage), rule=state.rule, reason=state.reason)
        self._on_change()

    def _set_trouble(self, trouble: str) -> None:
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if trouble:
            log.warning("release metadata cannot be refreshed; the serving model stays", why=trouble)
        self._on_change()

    def _title(self, version: int) -> str:
        return f"{MODEL}@{version}" if version else self._factory.base

    # --- a start -------------------------------------------------------------------------------------------

    def _resume(self) -> tuple[ServingState, dict[int, E]]:
        """Open the version that served last, or else the one before it, or else the shipped model."""
        stored = self._store.read()
        for version in dict.fromkeys((stored.serving, stored.previous or 0, 0)):
            model = self._open(version)
            if model is not None:
                if version != stored.serving:
                    stored = msgspec.structs.replace(stored, serving=version, previous=None)
                return stored, {version: model}
        raise AssertionError("the shipped model opens, or raises Stop")

    def _open(self, version: int) -> E | None:
        if not version:
            return self._factory.open(None)
        release = self._store.release(version)
        if release is None:
            log.error("the release that served is missing or damaged; an earlier one serves", version=version)
            return None
        try:
            return self._factory.open(release)
        except Rejected as error:
            log.error("the release that served cannot be opened; an earlier one serves", error=str(error))
            return None

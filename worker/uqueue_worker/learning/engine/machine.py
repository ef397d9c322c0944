"""The engine: it creates runs, advances them step by step, and does their parts.

An engine keeps nothing of a run. Another one, in another process, goes on where the store says that it stands.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

import structlog

from uqueue_config.learning.answers import FieldSamplesTaken
from uqueue_config.learning.record import Record
from uqueue_config.learning.runs import (
    CYCLE_ENDED,
    CycleRecord,
    CycleState,
    RunConfig,
    RunRecord,
    StopReason,
)
from uqueue_worker.learning.engine.approving import APPROVING
from uqueue_worker.learning.engine.attempts import MOST_CRASHES, counted, given_up
from uqueue_worker.learning.engine.checking import check_config
from uqueue_worker.learning.engine.continuing import check_continues
from uqueue_worker.learning.engine.crafting import CRAFTING
from uqueue_worker.learning.engine.evaluating import EVALUATING
from uqueue_worker.learning.engine.field_feedback import add_field_samples
from uqueue_worker.learning.engine.figures import count_step
from uqueue_worker.learning.engine.generating import GENERATING
from uqueue_worker.learning.engine.parts import Dispatcher, NotYet, Part, PartResult
from uqueue_worker.learning.engine.preparing import PREPARING
from uqueue_worker.learning.engine.prioritising import PRIORITISING
from uqueue_worker.learning.engine.re_evaluating import RE_EVALUATING
from uqueue_worker.learning.engine.states import may_follow
from uqueue_worker.learning.engine.steps import Assignment, Context, Move, Step, skipped
from uqueue_worker.learning.engine.stopping import stop_reason
from uqueue_worker.learning.engine.store import DeadLetter, RunStore, Transition
from uqueue_worker.learning.engine.training import TRAINING
from uqueue_worker.learning.engine.versions import code_versions
from uqueue_worker.learning.engine.work import do, failed, failure_of
from uqueue_worker.learning.engine.workshop import Workshop
from uqueue_worker.learning.errors import ActiveLearningError, RunConflict, SuggestionNotFound
from uqueue_worker.learning.observability.context import log_context
from uqueue_worker.learning.tracking import Tracker
from uqueue_worker.learning.tracking.history import track

Progress = Literal["busy", "parts", "moved", "lost", "waiting", "ended"]
STEPS: Mapping[CycleState, Step] = {
    "created": PREPARING,
    "evaluating": EVALUATING,
    "prioritising": PRIORITISING,
    "crafting": CRAFTING,
    "generating": GENERATING,
    "awaiting_approval": APPROVING,
    "training": TRAINING,
    "re_evaluating": RE_EVALUATING,
}
Kept = TypeVar("Kept", bound=Record)
_log = structlog.get_logger("uqueue.learning.engine")


class Engine:
    """dispatcher  who gets parts done; `InProcess` keeps them until a driver does them
    tracker     gets the history of each cycle; what it raises is logged and stops nothing
    """

    def __init__(
        self,
        store: RunStore,
        workshop: Workshop,
        dispatcher: Dispatcher,
        *,
        tracker: Tracker | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.store = store
        self.workshop = workshop
        self.dispatcher = dispatcher
        self._tracker = tracker
        self._clock = clock

    def create(self, config: RunConfig, *, run_id: str | None = None, idempotency_key: str | None = None) -> RunRecord:
        """Store a new run and have it begun; a key that was used before returns the run that it made.

        Raises RunConfigInvalid for values that nothing here could follow; RunNotFound and RunConflict for a run that
        cannot be continued.
        """
        check_config(config, self.workshop)
        check_continues(config, self.store, self.workshop.deployment_name)
        now = self._clock()
        run = RunRecord(
            run_id=run_id or f"run-{uuid.uuid4().hex[:16]}",
            idempotency_key=idempotency_key,
            config=config,
            config_hash=config.config_hash,
            created_at_utc=now.replace(microsecond=now.microsecond // 1000 * 1000),
            updated_at_utc=now,
        )
        stored = self.store.create_run(run)
        self.dispatcher.advance_later(stored.run_id)
        return stored

    def advance(self, run_id: str, *, again: bool = False, last_try: bool = False) -> Progress:
        """Do or dispatch one step and commit the transition; return at once if another process is at it.

        again     dispatches open parts that were dispatched before, for those that may be lost
        last_try  what may help if tried again ends the cycle instead of being raised
        Raises what the step raises, retryable errors above all; nothing is committed then.
        """
        with log_context(run_id=run_id), self.store.lock(run_id) as held:
            if not held:
                return "busy"
            progress = self._advance(run_id, again, last_try)
        if progress in ("moved", "lost") or (progress == "parts" and self._was_missed(run_id)):
            self.dispatcher.advance_later(run_id)
        return progress

    def _was_missed(self, run_id: str) -> bool:
        """Tell whether something happened that found the lock held: the last part ended, or the run was cancelled."""
        run = self.store.get_run(run_id)
        opened = self.store.parts(run_id, run.cycle, run.state)
        return run.status == "cancelling" or (bool(opened.parts) and opened.open == 0)

    def execute(self, part: Part) -> NotYet | bool:
        """Do a part and store its result; True if it was the last one of its step, which `advance` waits for.

        A part that has a result is not done again. Raises what the work raises; `give_up` ends a part that failed
        for good.
        """
        known = self.store.get_part(part.run_id, part.cycle, part.state, part.key)
        if known is None or known.result is not None:
            return False
        with log_context(run_id=part.run_id, cycle=part.cycle, weakness_id=known.part.payload.get("weakness_id")):
            self.store.begin_part(known.part)
            found = do(Assignment(self.workshop, self.store, self.store.get_run(part.run_id), known.part))
        if isinstance(found, NotYet):
            self.store.pause_part(known.part)
            return found
        return self.store.finish_part(part, found) == 0

    def give_up(self, part: Part, error: Exception) -> bool:
        """Store that a part failed, so that its step can be counted complete; True if it was the last one."""
        failure = failure_of(error)
        remaining = self.store.finish_part(part, failed(failure))
        if remaining is not None:
            told = failure.model_dump(exclude={"step"})
            letter = DeadLetter(part.run_id, part.cycle, part.state, part.key, part.kind, told, self._clock())
            self.store.add_dead_letter(letter)
        return remaining == 0

    def add_field_samples(self, run_id: str, samples: Iterable[Any]) -> FieldSamplesTaken:
        """Have a run go after labelled samples from the field that its model gets wrong, from its next cycle on.

        Samples that it holds already change nothing. Raises RunNotFound, RunConflict, EmptyDataset, DatasetFormat.
        """
        return add_field_samples(self.store, self.workshop, run_id, samples)

    def cancel(self, run_id: str) -> RunRecord:
        """Have a run stop before its next step. Raises RunConflict if it has ended."""
        return self._set_status(run_id, "cancelling", refuse_ended=True)

    def resume(self, run_id: str) -> RunRecord:
        """Let a cancelled or failed run go on after its last completed state. Raises RunConflict for another one."""
        run = self.store.get_run(run_id)
        if run.status not in ("cancelled", "failed"):
            raise RunConflict(run_id=run_id, status=run.status, reason="only a cancelled or failed run is resumed")
        self.store.reopen_failed_parts(run_id, run.cycle, run.state)
        changes: dict[str, Any] = {"stop_reason": None, "error": None, "skipped_in_a_row": 0}
        changes["status"] = "waiting" if run.state == "awaiting_approval" and self._undecided(run) else "running"
        if run.state in CYCLE_ENDED:
            changes |= {"cycle": run.cycle + 1, "state": "created"}
        return self._change(run, changes)

    def fail(self, run_id: str, error: Exception) -> RunRecord:
        """End a run whose step failed for good; it can be resumed."""
        run = self.store.get_run(run_id)
        failure = failure_of(error).model_copy(update={"step": run.state})
        return run if run.ended else self._change(run, {"status": "failed", "error": failure})

    def decide(self, suggestion_id: str, verdict: Literal["approved", "rejected"]) -> RunRecord:
        """Approve or reject a suggestion; the run goes on when none of its cycle is undecided.

        Raises SuggestionNotFound, and RunConflict for one that was decided before, whose run does not wait, or that is
        to be approved and names no parameter yet.
        """
        found = self.store.find_suggestion(suggestion_id)
        if found is None:
            raise SuggestionNotFound(suggestion_id=suggestion_id[:200])
        run_id, cycle, suggestion = found
        run = self.store.get_run(run_id)
        if run.status != "waiting" or run.cycle != cycle:
            raise RunConflict(run_id=run_id, status=run.status, reason="it does not wait for this suggestion")
        if verdict == "approved" and suggestion.needs_mapping:
            reason = "the suggestion names no parameter for a feature; map it first, or reject it"
            raise RunConflict(run_id=run_id, status=run.status, reason=reason)
        moved = self.store.move_suggestion(suggestion_id, "proposed", verdict)
        if not moved and suggestion.state != verdict:
            raise RunConflict(run_id=run_id, status=run.status, reason=f"the suggestion is {suggestion.state}")
        return run if self._undecided(run) else self._set_status(run_id, "running", refuse_ended=True)

    def _undecided(self, run: RunRecord) -> bool:
        return any(one.state == "proposed" for _, one in self.store.suggestions(run.run_id, run.cycle))

    def _set_status(self, run_id: str, status: str, *, refuse_ended: bool) -> RunRecord:
        run = self.store.get_run(run_id)
        if run.ended and refuse_ended:
            raise RunConflict(run_id=run_id, status=run.status, reason="it has ended")
        return run if run.status == status else self._change(run, {"status": status})

    def _change(self, run: RunRecord, changes: dict[str, Any]) -> RunRecord:
        """Commit a change that is no step; on top of whatever happened to the run meanwhile."""
        while True:
            changed = _next(run, self._clock(), changes)
            if self.store.commit(Transition(changed)):
                self.dispatcher.advance_later(run.run_id)
                return changed
            newer = self.store.get_run(run.run_id)
            if newer.ended != run.ended:
                raise RunConflict(run_id=run.run_id, status=newer.status, reason="it changed meanwhile")
            run = newer

    def _advance(self, run_id: str, again: bool, last_try: bool) -> Progress:
        run = self.store.get_run(run_id)
        if run.ended:
            return "ended"
        if run.status == "waiting":
            return "waiting"
        if run.status == "cancelling":
            ended = _next(run, self._clock(), {"status": "cancelled", "stop_reason": "manual"})
            return "ended" if self.store.commit(Transition(ended)) else "lost"
        context = self._context(run)
        with counted(self.store, run) as begun:
            if begun > MOST_CRASHES:
                return self._commit(context, _given_up(context))
            parts = self._open_parts(context, again)
            return "parts" if parts is None else self._finish(replace(context, results=parts), last_try)

    def _open_parts(self, context: Context, again: bool) -> dict[str, PartResult] | None:
        """Return the results of all parts of the step by key, or None while some are open."""
        run = context.run
        step, opened = STEPS[run.state], self.store.parts(run.run_id, run.cycle, run.state)
        fresh = False
        while True:
            results = {one.part.key: one for one in opened.parts}
            if opened.open:
                if fresh or again:
                    self.dispatcher.dispatch([one.part for one in opened.parts if one.result is None])
                return None
            wanted = step.parts(replace(context, results=results))
            missing = [part for part in wanted if part.key not in results]
            if not missing:
                return results
            opened = self.store.open_parts(missing)
            fresh = True

    def _finish(self, context: Context, last_try: bool) -> Progress:
        return self._commit(context, _settled(context, last_try))

    def _commit(self, context: Context, move: Move) -> Progress:
        run = context.run
        if not may_follow(run.state, move.state):
            raise RunConflict(run_id=run.run_id, status=run.status, reason=f"{move.state} cannot follow {run.state}")
        transition = self._transition(context, move)
        if not self.store.commit(transition):
            return "lost"
        told = {"cycle": run.cycle, "state": move.state, "status": transition.run.status}
        _log.info("run moved", run_id=run.run_id, **told)
        count_step(transition.run, transition.cycles[0], run.state, move.spots)
        if move.state in CYCLE_ENDED and self._tracker is not None:
            track(self._tracker, transition.run, transition.cycles[0])
        return "waiting" if transition.run.status == "waiting" else "ended" if transition.run.ended else "moved"

    def _context(self, run: RunRecord) -> Context:
        now = self._clock()
        cycle = self.store.get_cycle(run.run_id, run.cycle) or CycleRecord(
            run_id=run.run_id,
            cycle=run.cycle,
            config_hash=run.config_hash,
            seeds={"run": run.config.random_seed, "cycle": run.cycle},
            model_before=run.model,
            code_versions=code_versions(),
            started_at_utc=now,
        )
        return Context(run, cycle, self.workshop, self.store, now)

    def _transition(self, context: Context, move: Move) -> Transition:
        run, cycle, now = context.run, context.cycle, context.now
        changes: dict[str, Any] = {"state": move.state, "status": "running", **move.run}
        told: dict[str, Any] = {"state": move.state, **move.cycle}
        if run.state != "awaiting_approval":  # a person's time is none of the run's
            passed = max(0.0, (self._clock() - run.updated_at_utc).total_seconds())
            told["seconds"] = {**cycle.seconds, run.state: passed}
        if context.run.model is None and "model" in move.run:
            told.setdefault("model_before", move.run["model"])
        if move.state in CYCLE_ENDED:
            reason, ending = _ending(run, cycle, move, changes)
            changes |= ending
            told |= {"finished_at_utc": self._clock(), "stop_reason": reason}
        return Transition(
            run=_next(run, now, changes),
            cycles=(_copy(cycle, told),),
            spots=move.spots,
            spots_cycle=run.cycle,
            suggestions=move.suggestions,
            datasets=move.datasets,
            uses=move.uses,
        )


def _given_up(context: Context) -> Move:
    """Return the move that fails a cycle whose step ends every process that works on it."""
    failure = given_up(context.store, context.run, context.now)
    return replace(skipped(context, failure), state="failed")


def _settled(context: Context, last_try: bool) -> Move:
    """Return the step's move: where the repository or the model does not answer, the cycle is skipped in the end."""
    try:
        return STEPS[context.run.state].finish(context)
    except ActiveLearningError as error:
        if error.retryable and not last_try:
            raise
        failure = failure_of(error).model_copy(update={"step": context.run.state})
        return replace(skipped(context, failure), state="skipped" if error.retryable else "failed")


def _ending(
    run: RunRecord, cycle: CycleRecord, move: Move, changes: Mapping[str, Any]
) -> tuple[StopReason | None, dict[str, Any]]:
    """Return why the run stops after this cycle, if it does, and how the run changes at the end of a cycle."""
    in_a_row = 0 if move.state == "completed" else run.skipped_in_a_row + 1
    after = _copy(run, {**changes, "skipped_in_a_row": in_a_row})
    value = None if after.feedback is None else after.feedback.metrics.get(run.config.target_metric)
    reason = move.stop or stop_reason(after, run.cycle + 1, value)
    if reason is None:
        return None, {"skipped_in_a_row": in_a_row, "cycle": run.cycle + 1, "state": "created"}
    ending: dict[str, Any] = {"skipped_in_a_row": in_a_row, "stop_reason": reason, "status": "completed"}
    if reason == "repeated_failures":
        failures = (*cycle.failures, *move.cycle.get("failures", ()))
        ending |= {"status": "failed", "error": failures[-1] if failures else None}
    return reason, ending


def _next(run: RunRecord, now: datetime, changes: Mapping[str, Any]) -> RunRecord:
    return _copy(run, {**changes, "revision": run.revision + 1, "updated_at_utc": now})


def _copy(record: Kept, changes: Mapping[str, Any]) -> Kept:
    """Return a checked copy: a step that puts something wrong into a record fails here and not in its readers."""
    return type(record).model_validate({**{name: record[name] for name in record}, **changes})

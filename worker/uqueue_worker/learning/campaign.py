"""Runs driven in this process, for notebooks: what a manager's `run_cycle`, `run`, `status` and `resume` do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from uqueue_config.learning.answers import FieldSamplesTaken
from uqueue_config.learning.runs import CycleRecord, RunConfig, RunRecord
from uqueue_worker.learning.engine.in_process import run_to_end
from uqueue_worker.learning.engine.machine import Engine
from uqueue_worker.learning.errors import ActiveLearningError

Stop = Callable[[RunRecord], bool]


class InProcessCampaign:
    """Runs of one configuration, one at a time; `engine` has an `InProcess` dispatcher."""

    def __init__(self, engine: Engine, config: RunConfig) -> None:
        self._engine = engine
        self._config = config
        self._run_id: str | None = None

    def run(self, n_cycles: int, budget: int | None = None, stop: Stop | None = None) -> RunRecord:
        """Start a run of up to `n_cycles` cycles and `budget` samples and return it when it has ended or waits.

        `stop` is asked with the run after each step; if it says True, the run is cancelled before the next.
        """
        changes: dict[str, Any] = {"max_cycles": n_cycles}
        changes |= {} if budget is None else {"sample_budget_total": budget}
        config = RunConfig.read({**self._config.model_dump(), **changes})
        self._run_id = self._engine.create(config).run_id
        return self._driven(self._run_id, stop)

    def run_cycle(self) -> CycleRecord | None:
        """Go on with the current run, or start one, until its next cycle has ended or it waits; return that cycle."""
        if self._run_id is None or self._engine.store.get_run(self._run_id).ended:
            self._run_id = self._engine.create(self._config).run_id
        run_id = self._run_id
        cycle = self._engine.store.get_run(run_id).cycle

        def watch(run: RunRecord) -> None:
            if run.cycle != cycle:
                raise _CycleEnded

        with suppress(_CycleEnded):
            run_to_end(self._engine, run_id, watch=watch)
        return self._engine.store.get_cycle(run_id, cycle)

    def add_field_samples(self, samples: Iterable[Any]) -> FieldSamplesTaken:
        """Have the current run go after labelled samples from the field that its model gets wrong, from its next cycle
        on. Raises ActiveLearningError before the first run, and as `Engine.add_field_samples`."""
        if self._run_id is None:
            raise ActiveLearningError(reason="there is no run yet that samples could be given to")
        return self._engine.add_field_samples(self._run_id, samples)

    def status(self) -> dict[str, Any]:
        """Return the current run as JSON-able fields; {} before the first one."""
        return {} if self._run_id is None else self._engine.store.get_run(self._run_id).model_dump(mode="json")

    def resume(self, run_id: str) -> RunRecord:
        """Go on with a run after its last completed state, until it has ended or waits. Raises RunNotFound."""
        run = self._engine.store.get_run(run_id)
        if run.status == "completed":
            raise ActiveLearningError(reason=f"run {run_id} is complete")
        if run.ended:
            self._engine.resume(run_id)
        self._run_id = run_id
        return self._driven(run_id, None)

    def _driven(self, run_id: str, stop: Stop | None) -> RunRecord:
        def watch(run: RunRecord) -> None:
            if stop is not None and not run.ended and run.status != "cancelling" and stop(run):
                self._engine.cancel(run_id)

        return run_to_end(self._engine, run_id, watch=watch)


class _CycleEnded(Exception):
    """The driver is left; the store knows where the run stands."""

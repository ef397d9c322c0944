"""An evaluation that goes on a little with every `poll`, so that short tasks can drive it, in whichever process.

What a handle knows beyond its request can be had again: chunks are made of the file, keys of chunks, and jobs and their
answers found by keys. A handle that is made again sends what was sent before, which does nothing, and goes on.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from uqueue_config.errors import UqueueError
from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.record import Record
from uqueue_worker.learning.errors import ModelIntegrity
from uqueue_worker.learning.models.evaluation import EvaluationOptions
from uqueue_worker.learning.models.explain import Importances, occluded_columns, occlusion_scores
from uqueue_worker.learning.models.features import FeatureSpec
from uqueue_worker.learning.models.queue.merge import Merged, Merging, feedback
from uqueue_worker.learning.models.queue.pinned import PinnedModel
from uqueue_worker.learning.models.queue.wave import Deadline, Progress, Wave
from uqueue_worker.learning.models.sample_table import SampleTable
from uqueue_worker.learning.observability.metrics import count_feedback

if TYPE_CHECKING:
    from uqueue_worker.learning.models.queue.interface import QueueBackedModelInterface

Status = Literal["running", "done", "failed", "cancelled"]
POLL_SECONDS = 0.1


class Request(Record):
    """What an evaluation is of; `began_at` in seconds since the epoch."""

    dataset: str
    version: str
    content: str
    began_at: float = Field(ge=0)
    deadline_seconds: float = Field(gt=0)


class QueueFeedbackHandle:
    """`options` are the interface's unless given."""

    def __init__(
        self, interface: QueueBackedModelInterface, request: Request, options: EvaluationOptions | None = None
    ) -> None:
        self.request = request
        self.progress = Progress(0, 0, None, 0)
        self._interface = interface
        self._options = options or interface.options
        self._deadline = Deadline(request.began_at, request.deadline_seconds)
        self._steps = self._evaluate()
        self._waves: list[Wave[Any]] = []
        self._status: Status = "running"
        self._result: ModelPerformanceData | None = None
        self._error: BaseException | None = None

    def to_message(self) -> dict[str, Any]:
        """Return what makes the same handle again: references, whatever the data set's size."""
        return self.request.model_dump()

    def poll(self) -> Status:
        """Go on as far as that needs no waiting, and return how it stands."""
        if self._status == "running":
            try:
                next(self._steps, None)
                self._status = "running" if self._result is None else "done"
            except Exception as error:  # it belongs to whoever asks for the result
                self._end("failed", error)
            if self._status in ("done", "failed"):
                outcome = "ok" if self._status == "done" else "failed"
                count_feedback("queue", outcome, max(0.0, time.time() - self.request.began_at))
        return self._status

    def result(self, timeout_seconds: float | None = None) -> ModelPerformanceData:
        """Wait for the feedback. Raises what an evaluation raises, TimeoutError, and CancelledError after `cancel`."""
        until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while self.poll() == "running":
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"the evaluation goes on after {timeout_seconds:g} s")
            time.sleep(POLL_SECONDS)
        if self._result is None:
            raise self._error or CancelledError()
        return self._result

    def cancel(self) -> bool:
        """Cancel all jobs that have no answer; False where the evaluation is over."""
        if self._status != "running":
            return False
        self._end("cancelled", CancelledError())
        return True

    def _end(self, status: Status, error: BaseException) -> None:
        self._status, self._error = status, error
        self._steps.close()
        for wave in self._waves:
            wave.cancel()

    def _evaluate(self) -> Generator[None]:
        """Do the whole evaluation; yields where it would have to wait."""
        interface, request = self._interface, self.request
        model = interface.pinned(request.version)
        if model.content != request.content:
            raise ModelIntegrity(file=model.manifest.reference, reason="it is not the version that was to be evaluated")
        chunks = interface.chunks(request.dataset, model)
        merging = Merging(model, chunks.spec, self._options)
        wave: Wave[SampleTable] = self._wave(model, interface.queue.max_in_flight)
        for table in chunks.tables:
            yield from self._send(wave, table, merging)
        while wave.in_flight:
            yield from self._receive(wave, merging)
        merged = merging.merged(chunks.identifier, interface.queue.max_failed_fraction)
        importances = yield from self._explain(merged, chunks.spec, model)
        duration_seconds = max(0.0, time.time() - request.began_at)
        self._result = feedback(merged, model, chunks.spec, self._options, importances, duration_seconds)

    def _send(self, wave: Wave[SampleTable], table: SampleTable, merging: Merging) -> Iterator[None]:
        while wave.is_full:
            yield from self._receive(wave, merging)
        while not wave.try_to_send((table, table.matrix)):
            yield

    def _receive(self, wave: Wave[SampleTable], merging: Merging) -> Iterator[None]:
        while (found := wave.try_to_receive()) is None:
            yield
        merging.add(*found)
        self._show(Progress(merging.samples, merging.failed, None, wave.in_flight))

    def _explain(
        self, merged: Merged, spec: FeatureSpec, model: PinnedModel
    ) -> Generator[None, None, Importances | None]:
        """Ask about the samples to report without each of their features, and return the importances."""
        if merged.reported is None or len(merged.reported[2].explained) == 0:
            return None
        table, said, reported = merged.reported
        columns = occluded_columns(table.values[reported.explained], spec)
        wave: Wave[int] = self._wave(model, self._interface.queue.explaining_in_flight)
        done, samples, answers = self.progress, merged.fields["n_samples"], []
        rest = list(self._interface.cut(columns))
        while rest or wave.in_flight:
            if rest and not wave.is_full:
                if wave.try_to_send(rest[0]):
                    rest.pop(0)
                else:
                    yield
                continue
            if (found := wave.try_to_receive()) is None:
                yield
                continue
            if isinstance(found[1], UqueueError):
                wave.cancel()
                return Importances("NONE", None, f"explanations failed: {found[1].message}"[:300])
            answers.append(found[1].probabilities)
            self._show(Progress(samples, done.samples_failed, samples, wave.in_flight, explaining=True))
        return Importances("OCCLUSION", occlusion_scores(np.concatenate(answers), said.predicted[reported.explained]))

    def _wave(self, model: PinnedModel, in_flight: int) -> Wave[Any]:
        self._waves.append(Wave(self._interface.client, model, self._deadline, in_flight))
        return self._waves[-1]

    def _show(self, progress: Progress) -> None:
        self.progress = progress
        self._interface.on_progress(progress)

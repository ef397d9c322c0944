"""Evaluations for the engine of campaigns, whose parts ask again until the feedback is there."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.references import ModelRef
from uqueue_worker.learning.engine.adapters import EXPLAINED
from uqueue_worker.learning.engine.parts import NotYet
from uqueue_worker.learning.errors import ModelIntegrity
from uqueue_worker.learning.models.queue.handle import QueueFeedbackHandle, Request
from uqueue_worker.learning.models.queue.interface import QueueBackedModelInterface

#: After this time without being asked, somebody else goes on with an evaluation, or nobody does.
FORGET_SECONDS = 60.0


@dataclass
class _Going:
    handle: QueueFeedbackHandle
    asked_at: float


class QueueEvaluator:
    """Evaluates on files that the interface may read.

    explained   so many of the reported samples are explained
    wait_seconds  pause between two calls of a part

    Any process may be asked, each time another one: jobs are found again by what they are about.
    """

    def __init__(
        self, interface: QueueBackedModelInterface, *, explained: int = EXPLAINED, wait_seconds: float = 0.5
    ) -> None:
        self._interface = interface
        self._explained = explained
        self._wait_seconds = wait_seconds
        self._going: dict[tuple[str, str, bool], _Going] = {}

    def evaluate(
        self, dataset: str, model: ModelRef, *, n_samples: int, every_sample: bool
    ) -> ModelPerformanceData | NotYet:
        """Return the feedback, or NotYet while jobs are open. Raises as an evaluation does."""
        key = (dataset, model.version, every_sample)
        now = time.monotonic()
        self._going = {one: going for one, going in self._going.items() if now - going.asked_at < FORGET_SECONDS}
        if key not in self._going:
            self._going[key] = _Going(self._begin(dataset, model, every_sample), now)
        going = self._going[key]
        going.asked_at = now
        if going.handle.poll() == "running":
            return NotYet(self._wait_seconds)
        del self._going[key]
        return going.handle.result()

    def _begin(self, dataset: str, model: ModelRef, every_sample: bool) -> QueueFeedbackHandle:
        interface = self._interface
        pinned = interface.pinned(model.version)
        if model.sha not in (None, pinned.manifest.sha256):
            raise ModelIntegrity(file=pinned.manifest.reference, reason="its SHA-256 is not the one that was named")
        options = replace(interface.options, max_explained=self._explained)
        if every_sample:
            options = replace(
                options, uncertainty_threshold=0.0, max_uncertain=None, max_misclassified=None, max_per_class=None
            )
        request = Request(
            dataset=dataset,
            version=pinned.manifest.version,
            content=pinned.content,
            began_at=time.time(),
            deadline_seconds=interface.queue.deadline_seconds,
        )
        return QueueFeedbackHandle(interface, request, options)

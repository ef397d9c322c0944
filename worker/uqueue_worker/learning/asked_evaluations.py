"""Evaluations that clients ask for, through the queue: they go on from task to task, and no task waits for them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.names import LearningQueue, LearningTask
from uqueue_worker.learning.asked import LATER, Later
from uqueue_worker.learning.models.queue import QueueBackedModelInterface, QueueFeedbackHandle
from uqueue_worker.learning.post import Post

#: How long a task goes on with an evaluation before it makes room for another one.
TURN_SECONDS = 4.0
_POLL_SECONDS = 0.1
#: After this time without a turn, another process goes on with an evaluation, or nobody does.
_FORGET_SECONDS = 120.0


@dataclass
class _Going:
    handle: QueueFeedbackHandle
    turn_at: float


class AskedEvaluations:
    """What this process knows of evaluations that are under way; any other can go on with them from their messages."""

    def __init__(self, model: QueueBackedModelInterface, post: Post) -> None:
        self._model = model
        self._post = post
        self._going: dict[str, _Going] = {}

    def begin(self, token: str, dataset: str, model_version: str | None) -> ModelPerformanceData | Later:
        """Start with the evaluation of a file; LATER where another task gives the answer. Raises as evaluations do."""
        handle = self._model.submit_feedback(evaluation_dataset=dataset, model_version_tag=model_version)
        return self._turn(token, handle)

    def go_on(self, token: str, message: Mapping[str, Any]) -> ModelPerformanceData | Later:
        """Go on with what `begin` or another turn began; `message` describes it."""
        known = self._going.pop(token, None)
        return self._turn(token, self._model.feedback_handle(message) if known is None else known.handle)

    def _turn(self, token: str, handle: QueueFeedbackHandle) -> ModelPerformanceData | Later:
        until = time.monotonic() + TURN_SECONDS
        while handle.poll() == "running":
            if time.monotonic() > until:
                self._keep(token, handle)
                arguments = {"token": token, "handle": handle.to_message()}
                self._post.send(LearningTask.EVALUATE, LearningQueue.ALM.value, arguments)
                return LATER
            time.sleep(_POLL_SECONDS)
        return handle.result()

    def _keep(self, token: str, handle: QueueFeedbackHandle) -> None:
        now = time.monotonic()
        self._going = {one: going for one, going in self._going.items() if now - going.turn_at < _FORGET_SECONDS}
        self._going[token] = _Going(handle, now)

"""native-evaluate: the server evaluates by itself; it gets samples or the name of a data set, and answers feedback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from uqueue_config.learning.feedback import InvalidFeedback, ModelPerformanceData
from uqueue_worker.learning.models.evaluation import EvaluationOptions
from uqueue_worker.learning.models.rest.answers import Unfit, members_of
from uqueue_worker.learning.models.rest.dialects.native import Native


class NativeEvaluate(Native):
    """The same server as of `native`, asked for the evaluation as a whole."""

    def evaluate_path(self) -> str:
        return f"/v1/models/{self.model}/evaluate"

    def evaluate_body(
        self,
        request_id: str,
        version: str | None,
        options: EvaluationOptions,
        *,
        samples: Sequence[Any] | None = None,
        dataset: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return the request: with samples, or with a reference that the server can follow."""
        data = {"dataset": dataset} if samples is None else {"samples": jsonable(list(samples))}
        told = asdict(options)
        del told["explanation"]  # no part of the dialect: the server explains as it likes
        return {"request_id": request_id, "model_version": version, "options": told, **data}

    def read_feedback(self, answer: Any, ids: Sequence[str] | None) -> ModelPerformanceData:
        """Return the feedback that the server answered. Raises Unfit for what is none, or about other samples."""
        try:
            feedback = ModelPerformanceData.read(members_of(answer, "the answer"))
        except InvalidFeedback as problem:
            raise Unfit(str(problem).rstrip(".")) from None
        listed = [*feedback.uncertain_samples, *feedback.misclassified_samples]
        if ids is not None and not {one.raw_sample_id for one in listed} <= set(ids):
            raise Unfit("feedback about samples that were not sent")
        if ids is not None and feedback.n_samples not in (None, len(ids)):
            raise Unfit(f"feedback about {feedback.n_samples} samples, where {len(ids)} were sent")
        if not feedback.model_version_evaluated:
            raise Unfit("model_version_evaluated: expected a version")
        return feedback


def jsonable(value: Any) -> Any:
    """Return a sample as JSON has it: times as milliseconds since the epoch, as in its Avro schema."""
    if isinstance(value, dict):
        return {str(name): jsonable(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(one) for one in value]
    if isinstance(value, datetime):
        return round(value.astimezone(UTC).timestamp() * 1000)
    return value

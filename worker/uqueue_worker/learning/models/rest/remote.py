"""An evaluation that the server makes by itself."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any
from uuid import uuid4

from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_worker.learning.errors import DatasetFormat, EmptyDataset
from uqueue_worker.learning.models.datasets import Dataset
from uqueue_worker.learning.models.evaluation import EvaluationOptions
from uqueue_worker.learning.models.rest.answers import Unfit
from uqueue_worker.learning.models.rest.batches import encoded
from uqueue_worker.learning.models.rest.dialects.native_evaluate import NativeEvaluate
from uqueue_worker.learning.models.rest.evaluations import Evaluation
from uqueue_worker.learning.models.rest.transport import Transport


def evaluated_there(
    evaluation: Evaluation, dialect: NativeEvaluate, given: Any, opened: Dataset, options: EvaluationOptions
) -> ModelPerformanceData:
    """Return the feedback that the server makes: of a list it gets the samples, of a file its path and SHA-256.

    Raises EmptyDataset, and DatasetFormat for samples that are too many for one request or cannot be sent.
    """
    request_id, ids = str(uuid4()), None
    if isinstance(given, str | Path):
        data: dict[str, Any] = {"dataset": _reference(Path(given))}
    else:
        samples = list(opened.samples)
        ids = _ids(samples)
        data = {"samples": samples}
    try:
        body = encoded(dialect.evaluate_body(request_id, evaluation.tag, options, **data))
    except (ValueError, TypeError):
        reason = "a sample holds NaN, infinities or what JSON cannot carry"
        raise DatasetFormat(dataset="the list given", reason=reason) from None
    limit = dialect.endpoint.batch_bytes
    if len(body) > limit:
        reason = f"it makes a request of {len(body)} bytes, more than {limit}; give a file, which goes as a reference"
        raise DatasetFormat(dataset="the list given", reason=reason)

    async def work(transport: Transport) -> ModelPerformanceData:
        answer = await transport.post(dialect.evaluate_path(), body, request_id)
        try:
            return dialect.read_feedback(answer, ids)
        except Unfit as problem:
            raise dialect.unfit(dialect.evaluate_path(), str(problem)) from None

    return evaluation.run(work)


def _ids(samples: list[Any]) -> list[str]:
    if not samples:
        raise EmptyDataset(dataset="the list given")
    for number, sample in enumerate(samples):
        if not isinstance(sample, dict) or sample.get("sample_id") is None:
            reason = f"sample {number}: expected an object with a sample_id"
            raise DatasetFormat(dataset="the list given", reason=reason)
    return [str(sample["sample_id"]) for sample in samples]


def _reference(path: Path) -> dict[str, Any]:
    if path.is_dir():
        raise DatasetFormat(dataset=str(path), reason="a folder cannot be named to a server; give one file")
    with path.open("rb") as file:
        return {"uri": str(path.resolve()), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}

"""What answers must hold to, and how those of all batches become the predictions of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from uqueue_worker.learning.metrics import FloatArray
from uqueue_worker.learning.models.predictions import Predictions
from uqueue_worker.learning.models.rest.answers import PARTS, Answer, Unfit

SUM_TOLERANCE = 1e-3
RENORMALISED_TOLERANCE = 1e-2
_ROUNDING = 1e-6


class SeveralVersions(Unfit):
    """Not all batches were answered by one version of the model."""


def one_version(answers: Sequence[Answer]) -> str | None:
    """Return the version that answered. Raises SeveralVersions, and Unfit where only some say which one they are."""
    versions = {answer.version for answer in answers}
    if len(versions) > 1:
        raise SeveralVersions(f"batches were answered by several versions: {', '.join(sorted(map(str, versions)))}")
    return versions.pop()


def predictions_of(
    answers: Sequence[Answer], classes: tuple[str, ...], *, version: str, declared_method: str
) -> tuple[Predictions, list[str]]:
    """Return the answers as one, with columns in the order of `classes`, and warnings.

    declared_method  what the manifest says of the model's uncertainty; it holds where the answers carry that
    Raises Unfit for other classes, and for what are no probabilities.
    """
    if any(set(answer.classes) != set(classes) for answer in answers):
        raise Unfit(f"other classes than the manifest's {', '.join(classes[:20])}")
    kinds = {(answer.labels is None, 0 if answer.shares is None else answer.shares.ndim) for answer in answers}
    if len(kinds) != 1:
        raise Unfit("answers of several kinds to batches of one evaluation")
    if answers[0].shares is None:
        labels = [label for answer in answers for label in answer.labels or ()]
        return Predictions.from_labels(labels, classes, model_version=version), []
    shares = np.concatenate([_ordered(answer, classes) for answer in answers])
    shares, warnings = checked(shares)
    if shares.ndim == 3:
        method = _method(declared_method, shares.shape[1])
        return Predictions.from_members(shares, classes, model_version=version, uncertainty_method=method), warnings
    parts, told = _parts(answers)
    method = declared_method if "epistemic" in parts else "single_model"
    found = Predictions.from_probabilities(shares, classes, model_version=version, uncertainty_method=method, **parts)
    agreed = [answer for answer in answers if answer.labels is not None]
    if agreed and [label for answer in answers for label in answer.labels or ()] != found.labels:
        told.append("some predicted labels are not those of the highest probability; the probabilities count")
    return found, [*warnings, *told]


def checked(shares: FloatArray) -> tuple[FloatArray, list[str]]:
    """Return probabilities (..., K) within [0, 1]; sums off by up to 0.01 are scaled, with a warning. Raises Unfit."""
    if shares.size == 0 or shares.min() < -_ROUNDING or shares.max() > 1 + _ROUNDING:
        raise Unfit("probabilities beyond [0, 1]")
    shares = np.clip(shares, 0, 1)
    sums = shares.sum(axis=-1, keepdims=True)
    off = np.abs(sums - 1)
    if off.max() > RENORMALISED_TOLERANCE:
        raise Unfit(f"probabilities that sum to {float(sums.flat[off.argmax()]):.4g}")
    n_off = int((off > SUM_TOLERANCE).sum())
    if n_off == 0:
        return shares, []
    scaled: FloatArray = shares / sums
    return scaled, [f"the probabilities of {n_off} rows did not sum to 1 within {SUM_TOLERANCE} and were scaled"]


def _ordered(answer: Answer, classes: tuple[str, ...]) -> FloatArray:
    assert answer.shares is not None  # noqa: S101 - the kinds were compared
    return answer.shares[..., [answer.classes.index(name) for name in classes]]


def _method(declared: str, n_members: int) -> str:
    if n_members == 1:
        return "single_model"
    return declared if declared.endswith(f":{n_members}") else f"ensemble:{n_members}"


def _parts(answers: Sequence[Answer]) -> tuple[dict[str, Any], list[str]]:
    """Return the uncertainties that are there for every row."""
    parts, warnings = {}, []
    for name in PARTS:
        given = [answer.uncertainty.get(name) for answer in answers]
        there = [one for one in given if one is not None]
        if len(there) < len(given):
            continue
        values = np.concatenate(there)
        if ((values < 0) | (values > 1)).any():
            raise Unfit(f"uncertainty.{name}: expected values within [0, 1]")
        n_absent = int(np.isnan(values).sum())
        if n_absent == 0:
            parts[name] = values
        elif n_absent < len(values):
            warnings.append(f"{n_absent} rows have no {name} uncertainty, so that it is not used for any")
    return parts, warnings

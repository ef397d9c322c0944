"""The operator's units: a model answers in the units of its training targets, which the artifact does not name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, overload

import numpy as np

from uqueue_config.catalog import ModelSpec
from uqueue_config.errors import SettingsError
from uqueue_config.prediction import IntervalPrediction
from uqueue_worker.models.kinds import AnyPrediction


@overload
def in_target_units(prediction: IntervalPrediction, spec: ModelSpec) -> IntervalPrediction: ...
@overload
def in_target_units(prediction: AnyPrediction, spec: ModelSpec) -> AnyPrediction: ...
def in_target_units(prediction: AnyPrediction, spec: ModelSpec) -> AnyPrediction:
    """Apply the operator's scale and offset per target: `value x scale + offset`; q_hat and pass_std only scale.

    A localization has units of its own, a classification none; they stay as they are.
    """
    if not isinstance(prediction, IntervalPrediction):
        return prediction
    targets = prediction.lower.shape[1]
    scale = _per_target(spec.name, spec.target_scale or (1.0,), targets)
    offset = _per_target(spec.name, spec.target_offset or (0.0,), targets)
    if not spec.target_scale and not spec.target_offset:
        return replace(prediction, unit=spec.target_unit)
    return replace(
        prediction,
        lower=prediction.lower * scale + offset,
        upper=prediction.upper * scale + offset,
        pass_std=(prediction.pass_std * scale).astype(np.float32),
        q_hat=prediction.q_hat * scale,
        unit=spec.target_unit,
    )


def _per_target(name: str, values: tuple[float, ...], targets: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    if len(values) not in (1, targets):
        raise SettingsError(
            f"target_scale and target_offset of model {name}: expected 1 or {targets} numbers, got {len(values)}"
        )
    return np.broadcast_to(np.asarray(values, dtype=np.float64), (targets,))

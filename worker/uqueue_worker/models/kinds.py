"""The two kinds of model that a store may hold, and how a pair of files becomes one.

A store, the catalog and the heartbeat need of either only what both have: an identity, a number in a registry, what
engine evaluates them, and `check` and `predict` with the same arguments.
"""

from __future__ import annotations

from uqueue_config.errors import ModelInvalid
from uqueue_config.localization import Localization
from uqueue_config.prediction import IntervalPrediction
from uqueue_worker.artifacts import ArtifactPair
from uqueue_worker.localization import Localizer, OnnxOptions, load_localizer
from uqueue_worker.models.engine import EngineChoice, ForwardMode
from uqueue_worker.models.interval_model import IntervalModel, load_interval_model

AnyModel = IntervalModel | Localizer
AnyPrediction = IntervalPrediction | Localization


def load_model(pair: ArtifactPair, *, forward_mode: ForwardMode, engine: EngineChoice, onnx: OnnxOptions) -> AnyModel:
    """Return the model that a pair of files holds, of the kind that the engine asks for. Raises ModelInvalid."""
    if pair.is_calibrated == (engine == "onnx"):
        wanted = "a localization model" if engine == "onnx" else "a network and its calibration"
        raise ModelInvalid(file=pair.model_filename, reason=f"the engine {engine} evaluates {wanted}")
    if engine == "onnx":
        return load_localizer(pair, onnx)
    return load_interval_model(pair, forward_mode=forward_mode, engine=engine)

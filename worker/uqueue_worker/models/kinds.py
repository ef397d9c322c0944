"""The kinds of model that a store may hold, and how a pair of files becomes one.

A store, the catalog and the heartbeat need of each only what all have: an identity, a number in a registry, what engine
evaluates them, and `check` and `predict` with the same arguments.
"""

from __future__ import annotations

from uqueue_config.classification import ENGINE as CLASSIFIER
from uqueue_config.classification import Classification
from uqueue_config.errors import ModelError, ModelInvalid
from uqueue_config.localization import Localization
from uqueue_config.prediction import IntervalPrediction
from uqueue_worker.artifacts import ArtifactPair
from uqueue_worker.artifacts.classifier_folder import read_manifest
from uqueue_worker.artifacts.declaration_file import DeclarationFile
from uqueue_worker.classification import Classifier, load_classifier
from uqueue_worker.localization import Localizer, OnnxOptions, load_localizer
from uqueue_worker.models.engine import EngineChoice, ForwardMode
from uqueue_worker.models.interval_model import IntervalModel, load_interval_model

AnyModel = IntervalModel | Localizer | Classifier
AnyPrediction = IntervalPrediction | Localization | Classification
#: Engines that evaluate what ONNX Runtime loads.
ONNX_ENGINES = ("onnx", CLASSIFIER)
_WANTED = {"onnx": "a localization model", CLASSIFIER: "a classifier"}


def load_model(pair: ArtifactPair, *, forward_mode: ForwardMode, engine: EngineChoice, onnx: OnnxOptions) -> AnyModel:
    """Return the model that a pair of files holds, of the kind that the engine asks for. Raises ModelInvalid."""
    found = CLASSIFIER if pair.is_classifier else "auto" if pair.is_calibrated else "onnx"
    if found != (engine if engine in ONNX_ENGINES else "auto"):
        wanted = _WANTED.get(engine, "a network and its calibration")
        raise ModelInvalid(file=pair.model_filename, reason=f"the engine {engine} evaluates {wanted}")
    if engine == "onnx":
        return load_localizer(pair, onnx)
    if engine == CLASSIFIER:
        return load_classifier(pair, providers=onnx.providers, threads=onnx.threads)
    return load_interval_model(pair, forward_mode=forward_mode, engine=engine)


def number_of(pair: ArtifactPair) -> str | None:
    """Return the number under which an ONNX model is registered, or the name of its version, as far as that can be
    read."""
    try:
        if pair.is_classifier:
            return read_manifest(pair.state).version
        return None if pair.is_calibrated else DeclarationFile.parse(pair.state).number
    except ModelError:
        return None

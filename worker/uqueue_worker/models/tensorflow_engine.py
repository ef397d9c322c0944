"""Evaluates any other allowed Keras model in TensorFlow, with the same dropout masks as the NumPy engine.

Rows and passes are flattened into batches of a few fixed sizes, so that TensorFlow keeps few compiled shapes. Its
products round a row differently in another batch: one job gives the same bytes however often it runs on one machine
with one number of threads, but a row's last bits may depend on the other rows of its job. TensorFlow keeps its own
choice of threads (one pool per process, as many as there are cores).

TensorFlow is imported when the first such model loads, never in a parent process that forks, and `clear_session` is
never called: it would pull the layers from under the model that is serving.
"""

from __future__ import annotations

import os
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_config.errors import ModelInvalid
from uqueue_worker.artifacts import ModelFile, is_dropout
from uqueue_worker.models.engine import ForwardMode
from uqueue_worker.models.graph import NORMALIZATION_EPSILON
from uqueue_worker.models.heads import count_targets
from uqueue_worker.models.randomness import UInt64
from uqueue_worker.models.tensorflow_masks import HookedLayer, MaskSource
from uqueue_worker.models.weights import read_weights
from uqueue_worker.uncertainty import Draw

Float32 = NDArray[np.float32]

_BATCHES = (32, 256, 2048)  # rows x passes per call
_PLAIN_DROPOUT = frozenset({"Dropout", "SpatialDropout1D"})


def load_tensorflow_engine(model: bytes, model_file: ModelFile, *, file: str = "model.h5") -> TensorFlowEngine:
    """Return the engine of a checked model file.

    Raises ModelInvalid where TensorFlow is not installed, Keras cannot read the file, or the model does not have one
    table as input and two quantile heads as output.
    """
    keras = _import_keras(file)
    read_weights(model, file=file)
    return TensorFlowEngine(_load(keras, model, model_file, file), file)


class TensorFlowEngine:
    """A Keras model that answers passes. Any number of threads may use one object; they take turns."""

    name = "tensorflow"
    batch_independent = False

    def __init__(self, model: Any, file: str) -> None:
        import tensorflow as tf

        self.n_features = _input_width(model, file)
        self._model = model
        self._turn = threading.Lock()
        self._masks = MaskSource(
            [
                HookedLayer(layer, always_on=type(layer).__name__ not in _PLAIN_DROPOUT)
                for layer in _layers(model)
                if is_dropout(type(layer).__name__)
            ]
        )
        with self._masks.recording():
            outputs = model(tf.zeros((1, self.n_features)), training=False)
        shapes = [tuple(int(size) for size in output.shape[1:]) for output in _listed(outputs, file)]
        self.n_targets = count_targets(shapes, file=file)
        self.input_statistics = _input_statistics(model, self.n_features)
        self._functions = {mode: self._function(mode == "dropout") for mode in ("dropout", "deterministic")}

    def random_layers(self, forward_mode: ForwardMode) -> int:
        """Return how many dropout layers act in this mode."""
        return len(self._masks.acting(forward_mode == "dropout"))

    def passes(self, features: Float32, keys: UInt64, forward_mode: ForwardMode) -> Draw:
        """Return the draw of features float32 (n, n_features); row i has the random stream `keys[i]`, uint64 (n,)."""
        function = self._functions[forward_mode]

        def draw(rows: NDArray[np.intp], start: int, count: int) -> Float32:
            if not self.random_layers(forward_mode):
                heads = self._run(function, features[rows], keys[rows], np.zeros(len(rows), np.uint64))
                return np.broadcast_to(heads, (count, *heads.shape))
            passes = np.tile(np.arange(start, start + count, dtype=np.uint64), len(rows))
            heads = self._run(function, np.repeat(features[rows], count, 0), np.repeat(keys[rows], count), passes)
            return heads.reshape(len(rows), count, 2, self.n_targets).swapaxes(0, 1)

        return draw

    def _run(self, function: Any, features: Float32, keys: UInt64, passes: UInt64) -> Float32:
        """Return float32 (n, 2, n_targets) of n pairs of row and pass, in batches of the fixed sizes."""
        import tensorflow as tf

        out = np.empty((len(features), 2, self.n_targets), np.float32)
        for part, size in _batches(len(features)):
            padded = [tf.constant(_pad(array[part], size)) for array in (features, keys, passes)]
            with self._turn:
                heads = function(*padded).numpy()
            out[part] = heads[: part.stop - part.start]
        return out

    def _function(self, dropout_mode: bool) -> Any:
        import tensorflow as tf

        acting = self._masks.acting(dropout_mode)

        def heads(features: Any, keys: Any, passes: Any) -> Any:
            with self._masks.serving(keys, passes, acting):
                outputs = _listed(self._model(features, training=False), "")
            joined = tf.stack(outputs, axis=1) if len(outputs) == 2 else outputs[0]
            return tf.reshape(tf.cast(joined, tf.float32), (-1, 2, self.n_targets))

        signature = [
            tf.TensorSpec((None, self.n_features), tf.float32),
            tf.TensorSpec((None,), tf.uint64),
            tf.TensorSpec((None,), tf.uint64),
        ]
        return tf.function(heads, input_signature=signature).get_concrete_function()  # traced here, once


def _import_keras(file: str) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read once, when the library loads: no banner on stderr
    try:
        import keras
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise ModelInvalid(
            file=file,
            reason=f"this model needs TensorFlow, which is not installed ({error}); install uqueue[tensorflow]",
        ) from error
    if keras.backend.backend() != "tensorflow":
        raise ModelInvalid(
            file=file, reason=f"Keras runs on {keras.backend.backend()} here; set KERAS_BACKEND=tensorflow"
        )
    return keras


def _load(keras: Any, model: bytes, model_file: ModelFile, file: str) -> Any:
    with tempfile.TemporaryDirectory(prefix="uqueue-") as folder:
        path = Path(folder) / "model.h5"
        path.write_bytes(model)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Keras 3 remarks on the settings of Keras 2 that it translates
                return keras.models.load_model(path, compile=False, custom_objects=_custom_dropouts(keras, model_file))
        except Exception as error:  # Keras raises whatever a layer raises
            version = model_file.keras_version or "an unknown version"
            reason = f"Keras {keras.__version__} cannot load this file, written by {version}: {error}"
            raise ModelInvalid(file=file, reason=reason) from error


def _custom_dropouts(keras: Any, model_file: ModelFile) -> dict[str, Any]:
    """Return a plain subclass for every dropout class that Keras does not know; its `call` is replaced anyway."""
    classes = {}
    for registered in model_file.layer_classes:
        name = registered.rpartition(">")[2]
        if is_dropout(registered) and registered not in _PLAIN_DROPOUT:
            base = keras.layers.SpatialDropout1D if "Spatial" in name else keras.layers.Dropout
            classes[registered] = classes[name] = type(name, (base,), {})
    return classes


def _layers(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _layers(layer)
        else:
            yield layer


def _input_width(model: Any, file: str) -> int:
    shapes = [tuple(tensor.shape) for tensor in model.inputs or ()]
    if len(shapes) != 1 or len(shapes[0]) != 2 or not isinstance(shapes[0][1], int):
        raise ModelInvalid(
            file=file, reason=f"the model reads inputs of the shapes {shapes}, expected (rows, features)"
        )
    return shapes[0][1]


def _listed(outputs: Any, file: str) -> list[Any]:
    if isinstance(outputs, dict):
        raise ModelInvalid(file=file, reason="the model names its outputs in a dict; their order would be a guess")
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def _input_statistics(model: Any, n_features: int) -> tuple[Float32, Float32] | None:
    for layer in _layers(model):
        if type(layer).__name__ == "Normalization" and not layer.invert:
            mean = np.asarray(layer.mean, np.float32).reshape(-1)
            spread = np.maximum(np.sqrt(np.asarray(layer.variance, np.float32)), NORMALIZATION_EPSILON).reshape(-1)
            if mean.size in (1, n_features):
                return np.broadcast_to(mean, (n_features,)), np.broadcast_to(spread, (n_features,)).astype(np.float32)
    return None


def _batches(n: int) -> Iterator[tuple[slice, int]]:
    begin = 0
    while begin < n:
        size = next((size for size in _BATCHES if size >= n - begin), _BATCHES[-1])
        yield slice(begin, min(begin + size, n)), size
        begin += size


def _pad(array: NDArray[Any], size: int) -> NDArray[Any]:
    return np.concatenate([array, np.zeros((size - len(array), *array.shape[1:]), array.dtype)])

"""What the orchestrator outside this project does: train a multi-quantile network with Keras and save it as H5."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import numpy as np

from uqueue_worker.sample.buildings import Buildings

QUANTILES: Final = (0.05, 0.95)
HIDDEN_UNITS: Final = 128
DROPOUT_RATE: Final = 0.1
BATCH_ROWS: Final = 128
LEARNING_RATE: Final = 3e-3


def train_model(buildings: Buildings, path: Path, *, seed: int, epochs: int) -> None:
    """Train on these buildings and write the H5 file to `path`, which must end in .h5. Takes a few seconds.

    The same seed gives the same weights on the same machine. Raises ImportError without the tensorflow extra.
    """
    keras = quiet_keras()
    keras.utils.set_random_seed(seed)
    keras.config.disable_interactive_logging()
    model = _build(keras, buildings)
    model.compile(optimizer=keras.optimizers.Adam(LEARNING_RATE), loss=[_pinball(keras, level) for level in QUANTILES])
    heads = [buildings.targets] * len(QUANTILES)
    model.fit(buildings.features, heads, batch_size=BATCH_ROWS, epochs=epochs, verbose=0)
    model.save(path, include_optimizer=False)


def _build(keras: Any, buildings: Buildings) -> Any:
    """Return the usual network: its heads count by position, so the lower quantile comes first."""
    layers = keras.layers
    n_features, n_targets = buildings.features.shape[1], buildings.targets.shape[1]
    normalization = layers.Normalization(name="normalization")
    normalization.adapt(buildings.features)
    inputs = keras.Input((n_features,), name="features")
    hidden = layers.Dense(HIDDEN_UNITS, activation="relu")(normalization(inputs))
    hidden = layers.Dropout(DROPOUT_RATE)(hidden, training=True)
    hidden = layers.Dense(HIDDEN_UNITS, activation="relu")(hidden)
    heads = [layers.Dense(n_targets, name=f"q{index}") for index in range(len(QUANTILES))]
    model = keras.Model(inputs, [head(hidden) for head in heads])
    for head, level in zip(heads, QUANTILES, strict=True):
        head.bias.assign(np.quantile(buildings.targets, level, axis=0))
    return model


def _pinball(keras: Any, level: float) -> Any:
    """Return the loss whose minimum is the quantile `level` (Koenker and Bassett, 1978)."""

    def pinball(truth: Any, predicted: Any) -> Any:
        error = truth - predicted
        return keras.ops.mean(keras.ops.maximum(level * error, (level - 1) * error), axis=-1)

    return pinball


def quiet_keras() -> Any:
    """Import Keras so that a training run prints nothing and repeats itself."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import absl.logging
    import keras
    import tensorflow as tf

    absl.logging.set_verbosity(absl.logging.ERROR)
    tf.config.experimental.enable_op_determinism()
    return keras

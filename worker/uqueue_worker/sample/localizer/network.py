"""The network: three convolutions and two dense layers that predict a position and its uncertainty.

It is trained by the likelihood of a normal distribution in the plane (Nix and Weigend, 1994), whose covariance has two
sigmas along axes that are turned by theta. Everything is in units of `SCALE_M`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from uqueue_worker.sample.localizer.scene import HALF_SIDE_M
from uqueue_worker.sample.localizer.waveform import Heard
from uqueue_worker.sample.training import quiet_keras

#: One standard deviation of positions in the square.
SCALE_M: Final = float(HALF_SIDE_M / np.sqrt(3))
#: Bounds of the sigmas' logarithms: 1 % of the scale, and more than the whole square.
LOG_SIGMA: Final = (-4.6, 1.4)
CONVOLUTIONS: Final = ((16, (8, 4), (4, 2)), (32, (3, 3), (2, 2)), (32, (3, 3), (2, 2)))
DENSE_UNITS: Final = 64
#: position x and y, logarithms of both sigmas, and a vector whose direction is twice theta.
OUTPUTS: Final = 6
BATCH: Final = 64
LEARNING_RATE: Final = 2e-3


@dataclass(frozen=True)
class Weights:
    """What was learned: kernels (height, width, in, out) or (in, out) and biases (out,), layer by layer."""

    kernels: list[NDArray[np.float32]]
    biases: list[NDArray[np.float32]]


def train(heard: Heard, *, seed: int, epochs: int) -> tuple[Any, Weights]:
    """Return the Keras model (features in, `OUTPUTS` numbers out) and its weights.

    The same seed gives the same weights on the same machine. Raises ImportError without the tensorflow extra.
    """
    keras = quiet_keras()
    keras.utils.set_random_seed(seed)
    model = _build(keras)
    steps = epochs * -(-len(heard.features) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    model.compile(optimizer=keras.optimizers.Adam(rate, clipnorm=1.0), loss=_likelihood(keras))
    targets = (heard.positions_m / SCALE_M).astype(np.float32)
    model.fit(heard.features, targets, batch_size=BATCH, epochs=epochs, verbose=0)
    layers = [layer.get_weights() for layer in model.layers if layer.get_weights()]
    return model, Weights([kernel for kernel, _ in layers], [bias for _, bias in layers])


def _build(keras: Any) -> Any:
    layers = keras.layers
    inputs = keras.Input((3, 128, 32), name="mel_spectrogram")
    hidden = layers.Permute((2, 3, 1))(inputs)
    for filters, size, strides in CONVOLUTIONS:
        hidden = layers.Conv2D(filters, size, strides, activation="relu")(hidden)
    hidden = layers.Dense(DENSE_UNITS, activation="relu")(layers.Flatten()(hidden))
    return keras.Model(inputs, layers.Dense(OUTPUTS)(hidden))


def _likelihood(keras: Any) -> Any:
    """Return the negative logarithm of the likelihood, without its constant."""
    ops = keras.ops

    def negative_log_likelihood(truth: Any, predicted: Any) -> Any:
        x, y = truth[:, 0] - predicted[:, 0], truth[:, 1] - predicted[:, 1]
        first, second = (ops.clip(predicted[:, column], *LOG_SIGMA) for column in (2, 3))
        cosine, sine = _direction(ops, predicted)
        # The squares of the error along the turned axes, from twice the angle: no angle has to be computed.
        half, turned = (x * x + y * y) / 2, cosine * (x * x - y * y) / 2 + sine * x * y
        along, across = half + turned, half - turned
        return first + second + (along * ops.exp(-2 * first) + across * ops.exp(-2 * second)) / 2

    return negative_log_likelihood


def _direction(ops: Any, predicted: Any) -> tuple[Any, Any]:
    u, v = predicted[:, 4], predicted[:, 5]
    length = ops.sqrt(u * u + v * v + 1e-6)
    return u / length, v / length

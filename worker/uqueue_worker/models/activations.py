"""Keras activations in NumPy. Each takes a float32 array that it may overwrite, and returns the float32 result.

NaN stays NaN (in Keras relu(NaN) = 0), so a row that went wrong is seen to be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_worker.models.unsupported import UnsupportedGraph

Float32 = NDArray[np.float32]
Activation = Callable[[Float32], Float32]

_SELU_ALPHA = np.float32(1.6732632423543772)
_SELU_SCALE = np.float32(1.0507009873554805)
_ONE = np.float32(1)


def linear(x: Float32) -> Float32:
    return x


def relu(x: Float32) -> Float32:
    return np.maximum(x, np.float32(0), out=x)


def relu6(x: Float32) -> Float32:
    return np.clip(x, np.float32(0), np.float32(6), out=x)


def tanh(x: Float32) -> Float32:
    return np.asarray(np.tanh(x, out=x))


def sigmoid(x: Float32) -> Float32:
    decay = np.exp(np.negative(x, out=x), out=x)
    return np.asarray(np.divide(_ONE, np.add(decay, _ONE, out=decay), out=decay))


def silu(x: Float32) -> Float32:
    return np.asarray(x * sigmoid(x.copy()))


def softplus(x: Float32) -> Float32:
    return np.asarray(np.logaddexp(x, np.float32(0), out=x))


def softsign(x: Float32) -> Float32:
    return np.asarray(x / (_ONE + np.abs(x)))


def exponential(x: Float32) -> Float32:
    return np.asarray(np.exp(x, out=x))


def selu(x: Float32) -> Float32:
    return np.asarray(_SELU_SCALE * elu(float(_SELU_ALPHA))(x))


def elu(alpha: float) -> Activation:
    scale = np.float32(alpha)
    return lambda x: np.where(x > 0, x, scale * np.expm1(np.minimum(x, np.float32(0))))


def leaky_relu(slope: float) -> Activation:
    factor = np.float32(slope)
    return lambda x: np.where(x > 0, x, factor * x)


def from_setting(setting: Any) -> Activation:
    """Return what the `activation` of a layer names: text, None, or an activation layer's config in a dict."""
    if setting is None:
        return linear
    if isinstance(setting, Mapping):
        return from_layer(str(setting.get("class_name")), setting.get("config") or {})
    if setting not in _BY_NAME:
        raise UnsupportedGraph(f"the activation {setting} is not one that NumPy evaluates here")
    return _BY_NAME[setting]


def from_layer(kind: str, config: Mapping[str, Any]) -> Activation:
    """Return what a ReLU, LeakyReLU, ELU or Activation layer computes. Keras 2 says alpha for negative_slope."""
    if kind == "Activation":
        return from_setting(config.get("activation"))
    if kind == "ELU":
        return elu(float(config.get("alpha", 1.0)))
    if kind == "LeakyReLU":
        return leaky_relu(float(config.get("negative_slope", config.get("alpha", 0.3))))
    if kind == "ReLU" and config.get("max_value") is None and not config.get("threshold"):
        slope = float(config.get("negative_slope") or 0.0)
        return leaky_relu(slope) if slope else relu
    raise UnsupportedGraph(f"the activation {kind} with these settings is not one that NumPy evaluates here")


_BY_NAME: Mapping[str, Activation] = {
    "elu": elu(1.0),
    "exponential": exponential,
    "leaky_relu": leaky_relu(0.2),
    "linear": linear,
    "relu": relu,
    "relu6": relu6,
    "selu": selu,
    "sigmoid": sigmoid,
    "silu": silu,
    "softplus": softplus,
    "softsign": softsign,
    "swish": silu,
    "tanh": tanh,
}

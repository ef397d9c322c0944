"""The weights of a Keras H5 file by layer, read with h5py from bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from uqueue_config.errors import ModelInvalid

Weights = Mapping[str, Mapping[str, NDArray[Any]]]


def read_weights(data: bytes, *, file: str) -> Weights:
    """Return {layer: {"kernel": array, ...}}; names lose their path and the `:0` of Keras 2.

    Layers without weights are left out. Raises ModelInvalid where a listed weight is missing or is not finite.
    """
    with h5py.File(io.BytesIO(data), "r") as root:
        layers = root["model_weights"]
        found = {name: _layer(group, name, file) for name, group in list(layers.items())}
    return {name: weights for name, weights in found.items() if weights}


def _layer(group: Any, layer: str, file: str) -> dict[str, NDArray[Any]]:
    weights = {}
    for entry in group.attrs.get("weight_names", ()):
        path = entry.decode() if isinstance(entry, bytes) else str(entry)
        if not isinstance(group.get(path), h5py.Dataset):
            raise ModelInvalid(file=file, reason=f"the weight {path} of layer {layer} is listed and not there")
        value = np.asarray(group[path][()])
        if not np.isfinite(value).all():
            raise ModelInvalid(file=file, reason=f"the weight {path} of layer {layer} holds values that are not finite")
        weights[path.rpartition("/")[2].partition(":")[0]] = value
    return weights


def take(weights: Weights, layer: str, name: str, shape: tuple[int, ...], *, file: str) -> NDArray[np.float32]:
    """Return one weight as float32. Raises ModelInvalid when it is missing or has another shape."""
    value = weights.get(layer, {}).get(name)
    if value is None:
        raise ModelInvalid(file=file, reason=f"layer {layer} has no weight {name!r}")
    if value.shape != shape:
        raise ModelInvalid(
            file=file, reason=f"the weight {name!r} of layer {layer} has shape {value.shape}, expected {shape}"
        )
    return np.ascontiguousarray(value, dtype=np.float32)

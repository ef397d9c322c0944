"""Model and state files as a training run leaves them, written without Keras and without the MCCP library."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

DEFAULT_STATE: dict[str, Any] = {
    "q_hat": np.array([0.25, -0.1]),
    "patience": 2,
    "delta": 5e-4,
    "max_mc": 50,
    "alpha": 0.1,
    "mode": "regression",
    "model": None,
}


@contextlib.contextmanager
def mccp_class() -> Iterator[type[Any]]:
    """Provide the class `mccp_lib.mccp.mccp.MCCP` while something is pickled, as if that library were there."""
    names = ["mccp_lib", "mccp_lib.mccp", "mccp_lib.mccp.mccp"]
    modules = {name: types.ModuleType(name) for name in names}
    cls = type("MCCP", (), {"__module__": names[-1]})
    modules[names[-1]].MCCP = cls  # type: ignore[attr-defined]
    sys.modules.update(modules)
    try:
        yield cls
    finally:
        for name in names:
            sys.modules.pop(name, None)


def write_state_pickle(path: Path | None = None, *, protocol: int = 4, as_dict: bool = False, **attrs: Any) -> bytes:
    """Return the pickle of a calibration state, the defaults overridden by `attrs`; written to `path` where given.

    An attribute given as `...` is left out.
    """
    merged = {name: value for name, value in {**DEFAULT_STATE, **attrs}.items() if value is not ...}
    with mccp_class() as cls:
        state = cls()
        vars(state).update(merged)
        data = pickle.dumps(merged if as_dict else state, protocol)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return data


def write_workspace(
    root: Path, name: str = "mccp-uq", *, model: bytes | None = None, **attrs: Any
) -> tuple[Path, Path]:
    """Write models/<name>/model.h5, then state/<name>/mccp_state.pkl, and return both paths."""
    model_path, state_path = root / "models" / name / "model.h5", root / "state" / name / "mccp_state.pkl"
    model_path.parent.mkdir(parents=True, exist_ok=True)
    model_path.write_bytes(mqnn_h5_bytes() if model is None else model)
    write_state_pickle(state_path, **attrs)
    return model_path, state_path


def mqnn_h5_bytes(
    *,
    features: int = 8,
    targets: int = 2,
    hidden: tuple[int, ...] = (16, 16),
    rate: float = 0.1,
    seed: int = 0,
    keras: Literal[2, 3] = 3,
    dropout_class: str = "Dropout",
    activation: str = "relu",
    heads: Literal["two", "single"] = "two",
    normalization: bool = True,
) -> bytes:
    """Return the H5 file of an untrained multi-quantile network, laid out as Keras 3 (or Keras 2) saves it.

    Input(features) -> Normalization -> Dense -> dropout -> Dense ... -> heads `q0`, `q1` of `targets` units each, or
    one head `quantiles` of shape (n, 2), or (n, 2, targets) through a Reshape. The dropout follows the first hidden
    layer; a plain Dropout is called with training=True, any other class is taken to be always on.
    """
    network = _Network(keras, np.random.default_rng(seed))
    network.input(features)
    if normalization:
        network.normalization(features)
    width = features
    for index, units in enumerate(hidden):
        network.dense("dense" if index == 0 else f"dense_{index}", width, units, activation)
        width = units
        if index == 0:
            network.dropout(dropout_class, rate)
    if heads == "two":
        body = network.last
        outputs = [network.dense(f"q{head}", width, targets, "linear", source=body, shift=head) for head in (0, 1)]
    else:
        network.dense("quantiles", width, 2 * targets, "linear")
        outputs = [network.last] if targets == 1 else [network.reshape((2, targets))]
    return network.to_h5(outputs)


class _Network:
    """Layer configurations and weights in file order; `last` is the layer that the next one reads."""

    def __init__(self, keras: Literal[2, 3], rng: np.random.Generator) -> None:
        self.keras = keras
        self.rng = rng
        self.layers: list[dict[str, Any]] = []
        self.weights: dict[str, dict[str, Any]] = {}
        self.shapes: dict[str, list[int | None]] = {}
        self.last = ""

    def input(self, features: int) -> None:
        shape_key = "batch_shape" if self.keras == 3 else "batch_input_shape"
        config: dict[str, Any] = {shape_key: [None, features], "dtype": "float32", "sparse": False, "ragged": False}
        config |= {"name": "features"} | ({"optional": False} if self.keras == 3 else {})
        self.layers.append({"class_name": "InputLayer", "config": config, "name": "features", "inbound_nodes": []})
        self._remember("features", [None, features], {})

    def normalization(self, features: int) -> None:
        config = {"axis": [-1], "invert": False, "mean": None, "variance": None}
        config = config if self.keras == 3 else {"axis": [-1], "mean": None, "variance": None}
        mean, variance = self.rng.normal(size=features), self.rng.uniform(0.5, 2, features)
        weights = {"mean": mean.astype("f4"), "variance": variance.astype("f4"), "count": np.int64(100)}
        self._add("Normalization", "normalization", config, weights, [None, features])

    def dense(
        self, name: str, width: int, units: int, activation: str, *, source: str | None = None, shift: float = 0.0
    ) -> str:
        axes = {"input_axes": None, "output_axes": None} if self.keras == 3 else {}
        config: dict[str, Any] = {
            "units": units,
            "activation": activation,
            "use_bias": True,
            "kernel_initializer": self._initializer("GlorotUniform", {"seed": None} | axes),
            "bias_initializer": self._initializer("Zeros", {}),
            **dict.fromkeys(("kernel_regularizer", "bias_regularizer", "activity_regularizer")),
            **dict.fromkeys(("kernel_constraint", "bias_constraint")),
        }
        if self.keras == 3:
            del config["activity_regularizer"]
            config["quantization_config"] = None
        kernel = self.rng.normal(scale=width**-0.5, size=(width, units)).astype("f4")
        bias = (self.rng.normal(scale=0.1, size=units) + shift).astype("f4")
        return self._add("Dense", name, config, {"kernel": kernel, "bias": bias}, [None, units], source=source)

    def dropout(self, class_name: str, rate: float) -> None:
        config = {"rate": rate, "seed": None, "noise_shape": None}
        kwargs = {"training": True} if class_name == "Dropout" else {}
        self._add(class_name, "dropout", config, {}, self.shapes[self.last], kwargs=kwargs)

    def reshape(self, shape: tuple[int, ...]) -> str:
        return self._add("Reshape", "reshape", {"target_shape": list(shape)}, {}, [None, *shape])

    def to_h5(self, outputs: list[str]) -> bytes:
        config = {
            "name": "functional" if self.keras == 3 else "model",
            "trainable": True,
            "layers": self.layers,
            "input_layers": ["features", 0, 0] if self.keras == 3 else [["features", 0, 0]],
            "output_layers": [[name, 0, 0] for name in outputs] if len(outputs) > 1 else [outputs[0], 0, 0],
        }
        if self.keras == 2 and len(outputs) == 1:
            config["output_layers"] = [[outputs[0], 0, 0]]
        version = "3.15.1" if self.keras == 3 else "2.15.0"
        return h5_bytes({"class_name": "Functional", "config": config}, self._named_weights(), version)

    def _named_weights(self) -> dict[str, dict[str, Any]]:
        suffix = "" if self.keras == 3 else ":0"
        return {
            layer: {f"{layer}/{name}{suffix}": value for name, value in weights.items()}
            for layer, weights in self.weights.items()
        }

    def _add(
        self,
        class_name: str,
        name: str,
        config: dict[str, Any],
        weights: dict[str, Any],
        shape: list[int | None],
        *,
        source: str | None = None,
        kwargs: dict[str, Any] | None = None,
    ) -> str:
        source = source or self.last
        config = {"name": name, "trainable": True, "dtype": self._dtype(), **config}
        node = self._node(source, kwargs or {})
        self.layers.append({"class_name": class_name, "config": config, "name": name, "inbound_nodes": [node]})
        self._remember(name, shape, weights)
        return name

    def _remember(self, name: str, shape: list[int | None], weights: dict[str, Any]) -> None:
        self.shapes[name] = shape
        self.weights[name] = weights
        self.last = name

    def _node(self, source: str, kwargs: dict[str, Any]) -> Any:
        if self.keras == 2:
            return [[source, 0, 0, kwargs]]
        history = {"shape": self.shapes[source], "dtype": "float32", "keras_history": [source, 0, 0]}
        return {"args": [{"class_name": "__keras_tensor__", "config": history}], "kwargs": kwargs}

    def _dtype(self) -> Any:
        if self.keras == 2:
            return "float32"
        return {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None}

    def _initializer(self, class_name: str, config: dict[str, Any]) -> dict[str, Any]:
        if self.keras == 2:
            return {"class_name": class_name, "config": config}
        return {"module": "keras.initializers", "class_name": class_name, "config": config, "registered_name": None}


def h5_bytes(
    model_config: dict[str, Any] | str | None,
    weights: dict[str, dict[str, Any]] | None = None,
    keras_version: str = "3.15.1",
    *,
    extra: Any = None,
) -> bytes:
    """Return a Keras H5 file. `weights` maps layer -> weight name -> array; `extra(file)` may add what it likes."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["backend"] = "tensorflow"
        file.attrs["keras_version"] = keras_version
        if model_config is not None:
            file.attrs["model_config"] = model_config if isinstance(model_config, str) else json.dumps(model_config)
        group = file.create_group("model_weights")
        group.attrs["backend"] = "tensorflow"
        group.attrs["keras_version"] = keras_version
        group.attrs["layer_names"] = _names(weights or {}, keras_version)
        for layer, arrays in {**(weights or {}), "top_level_model_weights": {}}.items():
            layer_group = group.create_group(layer)
            layer_group.attrs["weight_names"] = _names(arrays, keras_version)
            for name, array in arrays.items():
                layer_group.create_dataset(name, data=array)
        if extra is not None:
            extra(file)
    return buffer.getvalue()


def _names(names: dict[str, Any], keras_version: str) -> list[Any]:
    """Keras 3 writes names as variable-length text, Keras 2 as an array of fixed-length bytes."""
    return list(names) if keras_version.startswith("3") else [name.encode() for name in names]


def sequential_h5_bytes(*layers: dict[str, Any], extra: Any = None) -> bytes:
    """Return an H5 file whose model is a Sequential of these layer configurations, without weights."""
    config = {"name": "sequential", "trainable": True, "dtype": "float32", "layers": list(layers)}
    return h5_bytes({"class_name": "Sequential", "config": config}, extra=extra)


def layer(class_name: str, /, **config: Any) -> dict[str, Any]:
    """Return the configuration of one layer."""
    return {"class_name": class_name, "config": {"name": class_name.lower(), "trainable": True, **config}}

from __future__ import annotations

import contextlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders.artifacts import h5_bytes, layer, mqnn_h5_bytes, sequential_h5_bytes
from uqueue_config.errors import UqueueError
from uqueue_worker.artifacts import ALLOWED_LAYERS, is_dropout, read_model_file
from uqueue_worker.artifacts.keras_config import check_model_config

USUAL = ("Functional", "InputLayer", "Normalization", "Dense", "Dropout", "Dense", "Dense", "Dense")


def classes(*layers: dict[str, Any]) -> tuple[str, ...]:
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": list(layers)}}
    return check_model_config(config, file="model.h5")


@pytest.mark.parametrize("keras", [2, 3])
def test_the_usual_network(keras: Any) -> None:
    model = read_model_file(mqnn_h5_bytes(keras=keras))
    assert model.layer_classes == USUAL
    assert model.keras_version == {2: "2.15.0", 3: "3.15.1"}[keras]
    assert model.backend == "tensorflow"
    assert model.config["config"]["layers"][0]["name"] == "features"


@pytest.mark.parametrize("keras", [2, 3])
def test_variants(keras: Any) -> None:
    model = read_model_file(mqnn_h5_bytes(keras=keras, heads="single", targets=3, dropout_class="pkg>MCDropout"))
    assert model.layer_classes[-1] == "Reshape"
    assert "pkg>MCDropout" in model.layer_classes
    assert read_model_file(mqnn_h5_bytes(normalization=False, hidden=(4,), activation="tanh")).layer_classes == (
        *("Functional", "InputLayer", "Dense", "Dropout", "Dense", "Dense"),
    )


def test_compressed_weights_are_read() -> None:
    def add(file: Any) -> None:
        weights = file["model_weights"]
        weights.create_dataset("kernel", data=np.arange(10_000.0), compression="gzip", shuffle=True, fletcher32=True)

    assert read_model_file(sequential_h5_bytes(extra=add)).layer_classes == ("Sequential",)


def test_nested_models_and_every_listed_layer() -> None:
    inner = layer("Sequential", layers=[layer("Dense", activation=layer("LeakyReLU"))])
    assert classes(inner) == ("Sequential", "Sequential", "Dense", "LeakyReLU")
    for name in sorted(ALLOWED_LAYERS):
        assert classes(layer(name, rate=0.1) if is_dropout(name) else layer(name)) == ("Sequential", name)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"kernel_initializer": "glorot_uniform"}, id="initializer by name"),
        pytest.param(
            {"kernel_initializer": {"class_name": "HeNormal", "config": {"seed": 1}}}, id="Keras 2 initializer"
        ),
        pytest.param({"kernel_regularizer": {"class_name": "L2", "config": {"l2": 0.01}}}, id="regularizer"),
        pytest.param({"kernel_constraint": {"class_name": "MaxNorm", "config": {"max_value": 2}}}, id="constraint"),
        pytest.param({"dtype": {"class_name": "Policy", "config": {"name": "float32"}}}, id="Keras 2 policy"),
        pytest.param({"batch_input_shape": {"class_name": "__tuple__", "items": [None, 8]}}, id="tuple"),
        pytest.param({"activation": None}, id="no activation"),
    ],
)
def test_built_in_parts(config: dict[str, Any]) -> None:
    assert classes(layer("Dense", **config)) == ("Sequential", "Dense")


def test_a_dropout_subclass_from_another_module() -> None:
    custom = layer("MCDropout", rate=0.2, seed=None, noise_shape=None)
    custom |= {"module": "training.layers", "registered_name": "training>MCDropout"}
    assert classes(custom) == ("Sequential", "MCDropout")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Dropout", True),
        ("SpatialDropout1D", True),
        ("pkg>MCDropout", True),
        ("AlwaysOnDropout", True),
        ("GaussianDropout", False),
        ("AlphaDropout", False),
        ("pkg>MCAlphaDropout", False),
        ("SpatialDropout2D", False),
        ("Dropout>Dense", False),
        ("Dense", False),
    ],
)
def test_is_dropout(name: str, expected: bool) -> None:
    assert is_dropout(name) is expected


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["class_name", "config", "module", "layers", "dtype", "activation"]), inner)
    ),
    max_leaves=12,
)


@given(JSON)
def test_random_configurations_raise_only_our_errors(value: Any) -> None:
    with contextlib.suppress(UqueueError):
        check_model_config({"class_name": "Sequential", "config": value}, file="model.h5")


REAL = [mqnn_h5_bytes(hidden=(4,)), mqnn_h5_bytes(hidden=(4,), keras=2)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(REAL), st.data())
def test_mutated_files_raise_only_our_errors(data: bytes, draw: st.DataObject) -> None:
    changed = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 6))):
        position = draw.draw(st.integers(0, len(changed) - 1))
        changed[position] = draw.draw(st.sampled_from([0, 1, 127, 255]))
    with contextlib.suppress(UqueueError):
        assert set(read_model_file(bytes(changed)).layer_classes) <= ALLOWED_LAYERS


@given(st.binary(max_size=200), st.booleans())
@settings(max_examples=20, deadline=None)
def test_random_bytes_are_refused(data: bytes, signed: bool) -> None:
    with pytest.raises(UqueueError):
        read_model_file((b"\x89HDF\r\n\x1a\n" if signed else b"") + data)


def test_the_lists_hold_what_keras_has() -> None:
    """Names are compared with the source of keras, which is not imported: that would load TensorFlow."""
    origin = importlib.util.find_spec("keras").submodule_search_locations[0]  # type: ignore[union-attr,index]
    text = Path(origin, "layers", "__init__.py").read_text()
    names = ALLOWED_LAYERS - {"Functional", "Model", "Sequential"}
    assert [name for name in sorted(names) if f" {name} as {name}" not in text and f" {name}\n" not in text] == []


def test_config_is_the_parsed_json() -> None:
    config = {"class_name": "Sequential", "config": {"name": "s", "layers": []}}
    assert read_model_file(h5_bytes(json.dumps(config))).config == config

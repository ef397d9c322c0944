"""Keras files as graphs: what is read, what is refused, and what is left to TensorFlow."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from builders.artifacts import h5_bytes, layer, mqnn_h5_bytes
from uqueue_config.errors import ModelInvalid
from uqueue_worker.artifacts import read_model_file
from uqueue_worker.models import choose_engine
from uqueue_worker.models.graph import Dropout, Graph, Node, read_graph
from uqueue_worker.models.numpy_engine import NumpyEngine
from uqueue_worker.models.unsupported import UnsupportedGraph

DATA = Path(__file__).parents[2] / "data"


def graph_of(data: bytes) -> Graph:
    return read_graph(read_model_file(data).config, data)


def dense(name: str, units: int, **config: Any) -> dict[str, Any]:
    return layer("Dense", **{"name": name, "units": units, "activation": "linear", "use_bias": True, **config})


def sequential(*layers: dict[str, Any], width: int = 3, weights: dict[str, Any] | None = None) -> bytes:
    """Return a Sequential whose Dense layers have random weights, others those given."""
    rng = np.random.default_rng(0)
    arrays: dict[str, dict[str, Any]] = {}
    current = width
    for entry in layers:
        if entry["class_name"] == "Dense":
            units, name = entry["config"]["units"], entry["config"]["name"]
            arrays[name] = {
                f"{name}/kernel": rng.normal(size=(current, units)).astype("f4"),
                f"{name}/bias": rng.normal(size=units).astype("f4"),
            }
            current = units
    begin = layer("InputLayer", batch_shape=[None, width])
    config = {"name": "sequential", "layers": [begin, *layers]}
    return h5_bytes({"class_name": "Sequential", "config": config}, {**arrays, **(weights or {})})


@pytest.mark.parametrize("keras", [2, 3])
@pytest.mark.parametrize(("heads", "targets"), [("two", 2), ("two", 1), ("single", 1), ("single", 3)])
def test_the_usual_network_is_read(keras: Literal[2, 3], heads: Literal["two", "single"], targets: int) -> None:
    graph = graph_of(mqnn_h5_bytes(keras=keras, heads=heads, targets=targets, hidden=(16, 12), rate=0.2))
    assert (graph.n_features, graph.n_targets, graph.words_per_pass) == (8, targets, 4)
    statistics = graph.input_statistics
    assert statistics is not None
    assert (statistics[1] > 0.7).all()
    layers = [node.operation.layer for node in graph.nodes if isinstance(node.operation, Dropout)]
    assert [(found.units, found.rate) for found in layers] == [(16, 0.2)]


@pytest.mark.parametrize(("name", "always_on"), [("keras2_functional", False), ("keras2_sequential", True)])
def test_files_written_by_keras_2_give_what_keras_2_gave(name: str, always_on: bool) -> None:
    graph = graph_of((DATA / f"{name}.h5").read_bytes())
    stored = np.load(DATA / f"{name}.npz")
    assert [node.operation.always_on for node in graph.nodes if isinstance(node.operation, Dropout)] == [always_on]
    found = _without_dropout(graph).passes(stored["x"], np.zeros(20, np.uint64), "deterministic")(np.arange(20), 0, 1)
    expected = stored["expected"] if len(stored["expected"]) == 2 else stored["expected"][0].T[:, :, None]
    np.testing.assert_allclose(found[0].swapaxes(0, 1), expected, rtol=2e-6, atol=1e-6)


def _without_dropout(graph: Graph) -> NumpyEngine:
    def calm(node: Node) -> Node:
        operation = node.operation
        return replace(node, operation=replace(operation, always_on=False)) if isinstance(operation, Dropout) else node

    return NumpyEngine(replace(graph, nodes=tuple(calm(node) for node in graph.nodes)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (sequential(dense("a", 1)), "one output unit"),
        (sequential(dense("a", 5)), "one head of 5 units"),
        (sequential(dense("a", 6), layer("Reshape", target_shape=[3, 2])), "shapes"),
    ],
)
def test_outputs_that_are_no_two_heads_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ModelInvalid, match=reason):
        graph_of(data)


def functional(outputs: Any, *, heads: int = 3, inputs: Any = None) -> bytes:
    def entry(name: str, class_name: str, config: dict[str, Any], *sources: str) -> dict[str, Any]:
        nodes = [[[source, 0, 0, {}] for source in sources]] if sources else []
        return {"class_name": class_name, "name": name, "config": {"name": name, **config}, "inbound_nodes": nodes}

    layers = [entry("x", "InputLayer", {"batch_shape": [None, 3]})]
    weights: dict[str, dict[str, Any]] = {}
    for head in range(heads):
        name = f"q{head}"
        layers.append(entry(name, "Dense", {"units": 1 + (head == 2), "activation": "linear"}, "x"))
        units = 1 + (head == 2)
        weights[name] = {
            f"{name}/kernel": np.full((3, units), head, np.float32),
            f"{name}/bias": np.zeros(units, np.float32),
        }
    config = {"name": "m", "layers": layers, "input_layers": inputs or [["x", 0, 0]], "output_layers": outputs}
    return h5_bytes({"class_name": "Functional", "config": config}, weights)


def test_heads_count_by_position() -> None:
    for order, expected in (("q0 q1", [0.0, 3.0]), ("q1 q0", [3.0, 0.0])):
        data = functional([[name, 0, 0] for name in order.split()])
        engine = choose_engine(data, read_model_file(data), "numpy")
        draw = engine.passes(np.ones((1, 3), np.float32), np.zeros(1, np.uint64), "dropout")
        assert draw(np.arange(1), 0, 1)[0, 0, :, 0].tolist() == expected


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        ([["q0", 0, 0], ["q1", 0, 0], ["q2", 0, 0]], "3 heads"),
        ([["q0", 0, 0], ["q2", 0, 0]], "1 and 2 units"),
        ({"lower": ["q0", 0, 0], "upper": ["q1", 0, 0]}, "in a dict"),
        (["q0", 0, 0], "one output unit"),
    ],
)
def test_wrong_numbers_of_heads_are_refused(outputs: Any, reason: str) -> None:
    with pytest.raises(ModelInvalid, match=reason):
        graph_of(functional(outputs))


def test_a_second_input_is_refused() -> None:
    with pytest.raises(ModelInvalid, match="2 inputs"):
        graph_of(functional(["q2", 0, 0], inputs=[["x", 0, 0], ["x", 0, 0]]))


def norm(**config: Any) -> dict[str, Any]:
    return layer("Normalization", **{"name": "n", "axis": [-1], "invert": False, **config})


@pytest.mark.parametrize(
    ("entry", "weights", "expected"),
    [
        (norm(mean=[1, 2, 3], variance=[4, 4, 0]), {}, [0.5, 0.5, 1e7]),
        (norm(mean=1.0, variance=4.0), {}, [0.5, 1.0, 1.5]),
        (norm(axis=None, mean=None), {"n": {"n/mean": np.float32(1), "n/variance": np.float32(4)}}, [0.5, 1, 1.5]),
        (layer("Rescaling", name="r", scale=2.0, offset=1.0), {}, [5, 7, 9]),
    ],
)
def test_inputs_are_scaled_as_keras_does(entry: dict[str, Any], weights: dict[str, Any], expected: list[float]) -> None:
    data = sequential(entry, dense("out", 2), weights=weights)
    graph = graph_of(data)
    engine = choose_engine(data, read_model_file(data), "numpy")
    found = engine.passes(np.array([[2, 3, 4]], np.float32), np.zeros(1, np.uint64), "dropout")(np.arange(1), 0, 1)
    kernel, bias = graph.nodes[-1].operation.kernel, graph.nodes[-1].operation.bias  # type: ignore[union-attr]
    np.testing.assert_allclose(found[0, 0, :, 0], np.array(expected, np.float32) @ kernel + bias, rtol=1e-5)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([norm(invert=True, mean=[1, 2, 3], variance=[1, 1, 1])], "inverted"),
        ([layer("BatchNormalization")], "BatchNormalization"),
        ([layer("ReLU", max_value=3.0)], "ReLU"),
        ([layer("Activation", activation="mish")], "mish"),
        ([dense("a", 3, activation="softmax")], "softmax"),
        ([dense("a", 3, dtype="float64")], "float64"),
        ([dense("a", 3, dtype={"class_name": "DTypePolicy", "config": {"name": "mixed_float16"}})], "mixed_float16"),
        ([layer("Dropout", rate=0.1, noise_shape=[1, None])], "noise shape"),
        ([layer("SpatialDropout1D", rate=0.1)], "several axes"),
        ([layer("Flatten")], "Flatten"),
        ([layer("Sequential", layers=[])], "Sequential"),
    ],
)
def test_what_numpy_cannot_do_is_left_to_tensorflow(entries: list[dict[str, Any]], reason: str) -> None:
    data = sequential(*entries, dense("out", 2))
    with pytest.raises(UnsupportedGraph, match=reason):
        graph_of(data)
    with pytest.raises(ModelInvalid, match=reason):
        choose_engine(data, read_model_file(data), "numpy")


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({"out": {"out/kernel": np.ones((4, 2), "f4"), "out/bias": np.ones(2, "f4")}}, r"shape \(4, 2\), expected"),
        ({"out": {"out/kernel": np.ones((3, 2), "f4")}}, "no weight 'bias'"),
        ({"out": {"out/kernel": np.full((3, 2), np.nan, "f4"), "out/bias": np.ones(2, "f4")}}, "not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelInvalid, match=reason):
        graph_of(sequential(dense("out", 2), weights=weights))


def test_a_listed_weight_that_is_not_there_is_refused() -> None:
    def forget(file: Any) -> None:
        del file["model_weights/q0/q0/bias"]

    config = json.loads(json.dumps(read_model_file(mqnn_h5_bytes()).config))
    arrays = {"q0": {"q0/kernel": np.ones((16, 2), "f4"), "q0/bias": np.ones(2, "f4")}}
    with pytest.raises(ModelInvalid, match="listed and not there"):
        read_graph(config, h5_bytes(config, arrays, extra=forget))


def test_one_decision_per_row_is_a_noise_shape_too() -> None:
    data = sequential(dense("a", 8), layer("Dropout", rate=0.5, noise_shape=[None, 1]), dense("out", 2))
    engine = choose_engine(data, read_model_file(data), "numpy")
    drawn = engine.passes(np.ones((1, 3), np.float32), np.ones(1, np.uint64), "dropout")(np.arange(1), 0, 200)
    assert len(np.unique(drawn.round(4), axis=0)) == 2


def test_an_engine_of_another_name_is_refused() -> None:
    data = mqnn_h5_bytes()
    with pytest.raises(ValueError, match="engine must be one of"):
        choose_engine(data, read_model_file(data), "openvino")  # type: ignore[arg-type]
    with pytest.raises(ModelInvalid, match="evaluates localization models only"):
        choose_engine(data, read_model_file(data), "onnx")


def test_without_tensorflow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras", None)
    data = sequential(layer("BatchNormalization"), dense("out", 2))
    with pytest.raises(ModelInvalid, match=r"install uqueue\[tensorflow\]"):
        choose_engine(data, read_model_file(data))


def test_the_usual_network_needs_no_tensorflow() -> None:
    code = "import sys, uqueue_worker.models; sys.exit(bool({'tensorflow', 'keras'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

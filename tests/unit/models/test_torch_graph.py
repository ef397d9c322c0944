"""PyTorch files without PyTorch: the graphs that they become, and the fused and NumPy engines on them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from builders.artifacts import mqnn_h5_bytes, write_state_pickle
from builders.torch_files import FORWARD, SPEC_LAYERS, script_file, spec, spec_file, state_file, weights
from uqueue_config.errors import ModelInvalid
from uqueue_worker.artifacts.model_file import read_any_model_file
from uqueue_worker.artifacts.pair import ArtifactPair, fingerprint
from uqueue_worker.artifacts.torch_file import read_torch_file
from uqueue_worker.artifacts.torch_program import Program
from uqueue_worker.models import load_interval_model
from uqueue_worker.models.choice import choose_engine
from uqueue_worker.models.graph import Dense, Dropout
from uqueue_worker.models.numpy_engine import NumpyEngine
from uqueue_worker.models.randomness import counter_steps, lanes, row_keys
from uqueue_worker.models.torch_graph import program_graph
from uqueue_worker.models.weights import read_weights

Float64 = NDArray[np.float64]
FEATURES = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
ROWS = np.arange(6)
REFERENCE: dict[str, tuple[dict[str, Any], Any]] = {
    "ReLU": ({}, lambda x: np.maximum(x, 0)),
    "ReLU6": ({}, lambda x: np.clip(x, 0, 6)),
    "Hardtanh": ({"min_val": 0, "max_val": 6}, lambda x: np.clip(x, 0, 6)),
    "Tanh": ({}, np.tanh),
    "Sigmoid": ({}, lambda x: 1 / (1 + np.exp(-x))),
    "SiLU": ({}, lambda x: x / (1 + np.exp(-x))),
    "Softplus": ({}, lambda x: np.log1p(np.exp(x))),
    "Softsign": ({}, lambda x: x / (1 + np.abs(x))),
    "ELU": ({"alpha": 0.7}, lambda x: np.where(x > 0, x, 0.7 * np.expm1(x))),
    "SELU": ({}, lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))),
    "LeakyReLU": ({}, lambda x: np.where(x > 0, x, 0.01 * x)),
}


def model_of(data: bytes, engine: Any = "auto", **attrs: Any) -> Any:
    state = write_state_pickle(**attrs)
    pair = ArtifactPair("m", data, state, fingerprint(data, 1), fingerprint(state, 2))
    return load_interval_model(pair, engine=engine)


def program_of(data: bytes) -> Program:
    return read_torch_file(data, file="model.pt").program


def numpy_engine(data: bytes) -> NumpyEngine:
    return NumpyEngine(program_graph(program_of(data), file="model.pt"))


def state_of_keras(data: bytes) -> dict[str, Any]:
    """Return the weights of a Keras file under the names that a state_dict would give them."""
    names = {"body.0": "dense", "body.3": "dense_1", "q0": "q0", "q1": "q1"}
    layers = read_weights(data, file="model.h5")
    found = {"mean": layers["normalization"]["mean"], "variance": layers["normalization"]["variance"]}
    for torch_name, keras_name in names.items():
        found[f"{torch_name}.weight"] = np.ascontiguousarray(layers[keras_name]["kernel"].T)
        found[f"{torch_name}.bias"] = layers[keras_name]["bias"]
    return found


@pytest.mark.parametrize("engine", ["fused", "numpy"])
def test_a_spec_file_answers_as_the_keras_file_of_the_same_weights(engine: Any) -> None:
    keras = mqnn_h5_bytes()
    torch = spec_file(state_of_keras(keras))
    rows = np.random.default_rng(3).normal(size=(40, 8))
    answers = [model_of(data, engine).predict(rows, seed=11) for data in (keras, torch)]
    assert answers[0].stochastic
    for name in ("lower", "upper", "passes_used", "converged", "pass_std"):
        assert getattr(answers[0], name).tobytes() == getattr(answers[1], name).tobytes()
    assert answers[1].model.engine == engine
    assert answers[1].model.keras_version is None


def test_the_best_engine_is_taken() -> None:
    assert model_of(spec_file()).engine_name == "fused"
    assert model_of(script_file(FORWARD), q_hat=0.1).engine_name == "fused"
    softplus = spec_file(layers=[*SPEC_LAYERS, {"type": "Softplus"}])
    assert model_of(softplus).engine_name == "numpy"


def test_one_head_holds_the_lower_quantiles_and_then_the_upper_ones() -> None:
    state = weights()
    both = {f"q.{part}": np.concatenate([state[f"q0.{part}"], state[f"q1.{part}"]]) for part in ("weight", "bias")}
    files = spec_file(state), spec_file({**state, **both}, heads=["q"])
    drawn = [numpy_engine(data).passes(FEATURES, row_keys(1, 6), "dropout")(ROWS, 0, 4) for data in files]
    assert drawn[0].shape == (4, 6, 2, 2)
    assert drawn[0].tobytes() == drawn[1].tobytes()
    single = spec_file(weights(targets=2), heads=["q0"])
    assert numpy_engine(single).n_targets == 1


def test_activations_join_the_layer_before_and_normalization_is_one_operation() -> None:
    graph = program_graph(program_of(spec_file()), file="model.pt")
    kinds = [type(node.operation).__name__ for node in graph.nodes]
    assert kinds == ["Input", "Affine", "Dense", "Dropout", "Dense", "Dense"]
    mean, spread = graph.input_statistics or (None, None)
    assert mean is not None
    assert np.array_equal(mean, weights()["mean"])
    np.testing.assert_allclose(spread, np.sqrt(weights()["variance"]), rtol=1e-6)


@given(
    kinds=st.lists(st.sampled_from([*REFERENCE, "Linear", "Dropout", "BatchNorm1d"]), max_size=6),
    seed=st.integers(0, 2**31),
    rate=st.floats(0.05, 0.9),
)
@settings(max_examples=60, deadline=None)
def test_passes_are_what_the_layers_say(kinds: list[str], seed: int, rate: float) -> None:
    """Every stack of layers against NumPy in float64, layer after layer, row after row, with masks bit by bit."""
    rng = np.random.default_rng(seed)
    state = weights(seed=seed)
    layers: list[dict[str, Any]] = [*SPEC_LAYERS[:2]]
    for index, kind in enumerate(kinds):
        layer: dict[str, Any] = {"type": kind, **REFERENCE.get(kind, ({}, None))[0]}
        if kind == "Linear":
            state[f"l{index}.weight"] = rng.normal(scale=0.25, size=(16, 16)).astype("f4")
            layer["name"] = f"l{index}"
        elif kind == "Dropout":
            layer["p"] = rate
        elif kind == "BatchNorm1d":
            state |= {f"l{index}.{part}": rng.uniform(0.5, 2, 16).astype("f4") for part in ("weight", "running_var")}
            state |= {f"l{index}.{part}": rng.normal(size=16).astype("f4") for part in ("bias", "running_mean")}
            layer["name"] = f"l{index}"
        layers.append(layer)
    engine = numpy_engine(spec_file(state, layers=layers))
    keys = row_keys(seed, 6)
    found = engine.passes(FEATURES, keys, "dropout")(np.array([4, 1]), 2, 3)
    for place, row in enumerate((4, 1)):
        for step in range(3):
            expected = one_pass(layers, state, FEATURES[row], keys[row], 2 + step, rate)
            np.testing.assert_allclose(found[step, place], expected, rtol=2e-4, atol=2e-4)


def one_pass(
    layers: list[dict[str, Any]], state: dict[str, Any], row: Any, key: Any, index: int, rate: float
) -> Float64:
    x: Float64 = row.astype(np.float64)
    drop = [layer for layer in layers if layer["type"] == "Dropout"]
    masks = _masks(len(drop), rate, key, index)
    for layer in layers:
        kind, name = layer["type"], layer.get("name")
        if kind == "Normalization":
            x = (x - state["mean"]) / np.sqrt(state["variance"].astype(np.float64))
        elif kind == "Linear":
            x = state[f"{name}.weight"].astype(np.float64) @ x + state.get(f"{name}.bias", 0)
        elif kind == "BatchNorm1d":
            x = (x - state[f"{name}.running_mean"]) / np.sqrt(state[f"{name}.running_var"] + 1e-5)
            x = x * state[f"{name}.weight"] + state[f"{name}.bias"]
        elif kind == "Dropout":
            x = np.where(masks.pop(0), x / (1 - rate), 0)
        else:
            x = REFERENCE[kind][1](x)
    return np.stack([state[f"{head}.weight"].astype(np.float64) @ x + state[f"{head}.bias"] for head in ("q0", "q1")])


def _masks(count: int, rate: float, key: Any, index: int) -> list[Any]:
    """Return the masks of `count` dropout layers of 16 units, by the rule of `randomness`."""
    words = 4 * count
    if not count:
        return []
    drawn = lanes(np.array([key]), counter_steps(index, 1, words), words)[0, 0]
    return [drawn[16 * layer : 16 * layer + 16] < round((1 - rate) * 65536) for layer in range(count)]


def test_a_layer_that_is_always_on_acts_in_both_modes() -> None:
    layers = [*SPEC_LAYERS, {"type": "Dropout", "p": 0.2, "always_on": True}]
    engine = numpy_engine(spec_file(layers=layers))
    assert engine.random_layers("dropout") == 2
    assert engine.random_layers("deterministic") == 1


def test_a_script_is_followed_in_evaluation_mode() -> None:
    engine = numpy_engine(script_file(FORWARD))
    assert (engine.n_features, engine.n_targets) == (3, 2)
    assert engine.random_layers("dropout") == 1
    assert engine.random_layers("deterministic") == 0
    always = numpy_engine(script_file(FORWARD.replace("self.training", "True")))
    assert always.random_layers("deterministic") == 1
    (dropout,) = [node.operation for node in always.graph.nodes if isinstance(node.operation, Dropout)]
    assert (dropout.layer.units, dropout.layer.rate, dropout.always_on) == (4, 0.1, True)


def test_what_a_script_may_do_beside_layers() -> None:
    body = """
    count, = annotate(Tuple[int], (torch.add(1, 1),))
    if torch.gt(count, 3):
      h = x
    else:
      w = torch.t(self.w0)
      h = torch.add(torch.matmul(x, w), self.b0)
    if torch.__not__(self.training):
      h0 = torch.relu(h)
    else:
      h0 = h
    scale = float(count)
    parts = [torch.linear(h0, self.w1, self.b1), torch.linear(torch.mul(h0, scale), self.w1)]
    return torch.reshape(torch.stack(parts, 1), [torch.size(x, 0), 2, -1])
"""
    data = script_file(body)
    engine = numpy_engine(data)
    graph = engine.graph
    dense = next(node.operation for node in graph.nodes if isinstance(node.operation, Dense))
    x = np.random.default_rng(4).normal(size=(5, 3)).astype("f4")
    hidden = np.maximum(x @ dense.kernel + _attribute(data, "b0"), 0)
    w1 = _attribute(data, "w1")
    expected = np.stack([hidden @ w1.T + _attribute(data, "b1"), 2 * hidden @ w1.T], axis=1)
    found = engine.passes(x, row_keys(0, 5), "deterministic")(np.arange(5), 0, 1)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def _attribute(data: bytes, name: str) -> Any:
    """Return a weight of `script_file`, made again."""
    rng = np.random.default_rng(1)
    own = {"w0": (4, 3), "b0": (4,), "w1": (2, 4), "b1": (2,)}
    return {key: rng.normal(size=shape).astype("f4") for key, shape in own.items()}[name]


def test_the_number_of_features_may_stand_beside_a_script() -> None:
    late = "    h = torch.cat([x, x], 1)\n    return (torch.linear(h, self.wide), torch.linear(h, self.wide))\n"
    attributes = {"wide": np.ones((1, 6), "f4")}
    with pytest.raises(ModelInvalid, match="how many features it takes does not show"):
        program_of(script_file(late, attributes=attributes))
    noted = script_file(late, attributes=attributes, extra={"extra/uqueue.json": b'{"n_features": 3}'})
    assert program_of(noted).n_features == 3


def test_other_kinds_of_numbers_are_read_as_float32() -> None:
    state = weights()
    expected = numpy_engine(spec_file(state)).passes(FEATURES, row_keys(1, 6), "dropout")(ROWS, 0, 2)
    double = spec_file({name: value.astype("f8") for name, value in state.items()})
    assert numpy_engine(double).passes(FEATURES, row_keys(1, 6), "dropout")(ROWS, 0, 2).tobytes() == expected.tobytes()
    half = spec_file({name: value.astype("f2") for name, value in state.items()})
    np.testing.assert_allclose(
        numpy_engine(half).passes(FEATURES, row_keys(1, 6), "deterministic")(ROWS, 0, 1),
        numpy_engine(spec_file(state)).passes(FEATURES, row_keys(1, 6), "deterministic")(ROWS, 0, 1),
        atol=0.02,
    )


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (spec_file(weights(targets=1), heads=["q0"]), "its one head has 1 units"),
        (spec_file({**weights(), "q1.weight": np.ones((3, 16), "f4"), "q1.bias": np.ones(3, "f4")}), "2 and 3 units"),
        (script_file("    return torch.linear(x, self.w0, self.b0)\n"), "one head of 4 units"),
    ],
)
def test_heads_that_are_not_two_quantiles_are_refused(data: bytes, sentence: str) -> None:
    for engine in ("auto", "numpy"):
        with pytest.raises(ModelInvalid, match=sentence):
            choose_engine(data, read_torch_file(data, file="model.pt"), engine)


def test_engines_of_another_library_are_refused_by_name() -> None:
    data, keras = spec_file(), mqnn_h5_bytes()
    with pytest.raises(
        ModelInvalid, match=r"model\.pt: TensorFlow cannot evaluate a PyTorch file; set .* auto or torch"
    ):
        choose_engine(data, read_any_model_file(data), "tensorflow")
    with pytest.raises(
        ModelInvalid, match=r"model\.h5: PyTorch cannot evaluate a Keras file; set .* auto or tensorflow"
    ):
        choose_engine(keras, read_any_model_file(keras), "torch")
    gelu = spec_file(layers=[*SPEC_LAYERS, {"type": "GELU"}])
    with pytest.raises(ModelInvalid, match="the NumPy engine cannot evaluate it: the operation gelu"):
        choose_engine(gelu, read_any_model_file(gelu), "numpy")


def test_without_pytorch_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    data = spec_file()
    checked = read_any_model_file(data)
    assert choose_engine(data, checked).name == "fused"
    with pytest.raises(ModelInvalid, match=r"needs PyTorch, which is not installed.*install uqueue\[torch\]"):
        choose_engine(data, checked, "torch")


def test_reading_and_serving_a_plain_network_never_imports_pytorch(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(spec_file())
    code = (
        "import sys, pathlib\n"
        "from uqueue_worker.artifacts.model_file import read_any_model_file\n"
        "from uqueue_worker.models import choose_engine\n"
        "data = pathlib.Path('model.pt').read_bytes()\n"
        "choose_engine(data, read_any_model_file(data), 'numpy')\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0


def test_a_checkpoint_may_hold_more_than_is_read() -> None:
    top = {"uqueue_spec": json.dumps(spec()), "state_dict": weights(), "epoch": 12, "losses": [1.0, 0.5]}
    assert program_of(state_file(top)).n_features == 8

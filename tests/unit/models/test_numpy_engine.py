"""The NumPy engine against a loop over rows, passes and layers, and the bits that it promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from builders.artifacts import mqnn_h5_bytes
from uqueue_worker.artifacts import read_model_file
from uqueue_worker.models import activations
from uqueue_worker.models.choice import choose_engine
from uqueue_worker.models.graph import Activate, Affine, Dense, Dropout, Input
from uqueue_worker.models.numpy_engine import NumpyEngine
from uqueue_worker.models.randomness import counter_steps, kept, lanes, row_keys
from uqueue_worker.uncertainty import adaptive_passes

Float32 = NDArray[np.float32]


def engine_of(**network: Any) -> NumpyEngine:
    data = mqnn_h5_bytes(**network)
    engine = choose_engine(data, read_model_file(data), "numpy")
    assert isinstance(engine, NumpyEngine)
    return engine


def one_pass_slowly(engine: NumpyEngine, row: Float32, key: np.uint64, index: int) -> NDArray[np.float64]:
    """Return (2, targets) in float64, layer after layer, for a network without branches."""
    words = engine.graph.words_per_pass
    drawn = lanes(np.array([key]), counter_steps(index, 1, words), words)
    x = row.astype(np.float64)
    for node in engine.graph.nodes:
        operation = node.operation
        if isinstance(operation, Affine):
            x = (x - operation.shift) / operation.spread
        elif isinstance(operation, Dense):
            x = operation.activation(x @ operation.kernel + operation.bias)
        elif isinstance(operation, Dropout):
            x = np.where(kept(drawn, operation.layer)[0, 0], x / (1 - operation.layer.rate), 0)
        else:
            assert isinstance(operation, Input | Activate)
    return x.reshape(2, -1)


@pytest.mark.parametrize("activation", ["relu", "linear", "relu6"])
@pytest.mark.parametrize("targets", [1, 2])
def test_passes_are_what_the_layers_say(activation: str, targets: int) -> None:
    engine = engine_of(activation=activation, targets=targets, hidden=(13, 9), rate=0.3)
    features = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    keys = row_keys(4, 5)
    drawn = engine.passes(features, keys, "dropout")(np.array([3, 1]), 7, 6)
    for position, row in enumerate((3, 1)):
        for step in range(6):
            expected = one_pass_slowly(engine, features[row], keys[row], 7 + step)
            np.testing.assert_allclose(drawn[step, position], expected, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("hidden", [(128, 128, 64), (16,), (7, 300)])
def test_a_row_has_the_same_bits_in_any_company(hidden: tuple[int, ...]) -> None:
    engine = engine_of(hidden=hidden)
    features = np.random.default_rng(1).normal(size=(300, 8)).astype(np.float32)
    keys = row_keys(8, 300)
    rule = {"patience": 2, "delta": 0.01, "max_passes": 50}
    whole = adaptive_passes(engine.passes(features, keys, "dropout"), 300, **rule)
    for rows in (np.array([299]), np.arange(17, 60), np.arange(300)[::-1]):
        part = adaptive_passes(engine.passes(features[rows], keys[rows], "dropout"), len(rows), **rule)
        assert part.mean.tobytes() == whole.mean[rows].tobytes()
        assert part.std.tobytes() == whole.std[rows].tobytes()
        assert part.passes_used.tolist() == whole.passes_used[rows].tolist()
    for count in (1, 16):
        calm = engine.passes(features, keys, "deterministic")(np.arange(300), 0, count)
        alone = engine.passes(features[41:42], keys[41:42], "deterministic")(np.arange(1), 0, count)
        assert calm[:, 41].tobytes() == alone[:, 0].tobytes()


def test_a_single_pass_is_the_first_of_a_tile() -> None:
    engine = engine_of()
    features = np.ones((3, 8), np.float32)
    draw = engine.passes(features, row_keys(1, 3), "dropout")
    np.testing.assert_allclose(draw(np.arange(3), 0, 1), draw(np.arange(3), 0, 16)[:1], rtol=1e-5)


def test_plain_dropout_rests_in_deterministic_mode_and_always_on_dropout_never() -> None:
    assert engine_of().random_layers("dropout") == 1
    assert engine_of().random_layers("deterministic") == 0
    assert engine_of(dropout_class="pkg>MCDropout").random_layers("deterministic") == 1
    assert engine_of(rate=0.0).random_layers("dropout") == 0


def test_nan_passes_through_relu_and_dropout() -> None:
    engine = engine_of()
    features = np.ones((2, 8), np.float32)
    features[1, 3] = np.nan
    drawn = engine.passes(features, row_keys(1, 2), "dropout")(np.arange(2), 0, 8)
    assert np.isfinite(drawn[:, 0]).all()
    assert np.isnan(drawn[:, 1]).all()


FORMULAS = {
    "elu": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "exponential": np.exp,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "linear": lambda x: x,
    "relu": lambda x: np.where(x > 0, x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1)),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "softsign": lambda x: x / (1 + abs(x)),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_activations_follow_their_formulas(name: str) -> None:
    x = np.linspace(-8, 8, 161)
    found = activations.from_setting(name)(x.astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, FORMULAS[name](x), rtol=1e-5, atol=1e-6)
    with np.errstate(invalid="ignore"):
        assert np.isnan(activations.from_setting(name)(np.array([np.nan], np.float32))).all()


def test_every_activation_is_tested_and_extremes_stay_finite() -> None:
    assert set(FORMULAS) == set(activations._BY_NAME)
    extreme = np.array([-1e30, 1e30], np.float32)
    with np.errstate(over="ignore", invalid="raise"):
        for name in set(FORMULAS) - {"exponential"}:
            assert np.isfinite(activations.from_setting(name)(extreme.copy())).all(), name

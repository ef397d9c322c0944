"""The fused engine against the NumPy engine and against the stop rule on its own recorded passes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from builders.networks import chain, mqnn
from uqueue_worker.models import activations
from uqueue_worker.models.engine import ForwardMode
from uqueue_worker.models.fused.compiled import VARIANTS, Variant, load_kernels
from uqueue_worker.models.fused.engine import MOST_PASSES, FusedEngine, load_fused_engine
from uqueue_worker.models.graph import Dense, Dropout, Graph, Input, Node
from uqueue_worker.models.numpy_engine import NumpyEngine
from uqueue_worker.models.randomness import DropoutLayer, counter_steps, kept, lanes, row_keys
from uqueue_worker.uncertainty import PassSummary, adaptive_passes

Float32 = NDArray[np.float32]
MODES: tuple[ForwardMode, ...] = ("dropout", "deterministic")


def fused(graph: Graph, variant: Variant = "vector", **options: Any) -> FusedEngine:
    return FusedEngine(graph, load_kernels(variant), **options)


def table(n: int, columns: int = 8, seed: int = 1) -> Float32:
    return np.random.default_rng(seed).normal(size=(n, columns)).astype(np.float32)


def same(one: PassSummary, other: PassSummary) -> bool:
    return all(a.tobytes() == b.tobytes() for a, b in zip(vars(one).values(), vars(other).values(), strict=True))


def assert_agrees(graph: Graph, variant: Variant = "vector", rows: int = 6, start: int = 5, count: int = 7) -> None:
    features, keys = table(rows, graph.n_features), row_keys(9, rows)
    chosen = np.arange(rows)[::-1]
    for mode in MODES:
        found = fused(graph, variant).passes(features, keys, mode)(chosen, start, count)
        expected = NumpyEngine(graph).passes(features, keys, mode)(chosen, start, count)
        size = max(1e-3, float(np.abs(expected).max()))
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * size)


SHAPES: dict[str, Graph] = {
    "the usual network": mqnn(),
    "dropout after every layer": mqnn(everywhere=True),
    "width 1": chain(1, 0.3, 1),
    "width 3": chain(3, 0.3, 3, features=3),
    "widths 17 and 129": chain(17, 0.2, 129, 0.2, 17, features=5, targets=3),
    "129 inputs": chain(0.1, 129, features=129, targets=1),
    "wide": chain("normalize", 300, 0.1, 200, targets=2),
    "dropout before the first layer": chain("normalize", 0.25, 32, 16),
    "dropout before the heads": chain(32, 32, 0.2),
    "only a dropout before the heads": chain(0.5),
    "half and more dropped": chain(32, 0.5, 32, 0.9, 32),
    "two dropout layers in a row": chain(32, 0.1, 0.2, 32),
    "an activation behind the dropout": chain((32, "linear"), 0.2, "relu", 32),
    "many targets": chain(32, 0.1, 32, targets=9),
    "nine targets behind a dropout": chain(32, 0.1, targets=9),
    "heads with an activation": chain(32, 0.1, 32, heads="tanh"),
    "no hidden layer": chain("normalize"),
    "rescaled": chain("rescale", 16, 0.1, "rescale", 16),
    "always on": chain(32, (0.2, "always"), 32, 0.2, 16),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", SHAPES)
def test_passes_agree_with_numpy(name: str, variant: Variant) -> None:
    assert_agrees(SHAPES[name], variant)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", sorted(set(activations._BY_NAME) - {"softplus"}))
def test_activations_agree_with_numpy(name: str, variant: Variant) -> None:
    if name != "exponential":  # of an exponential, the last bit counts
        assert_agrees(chain((40, name), 0.2, (33, name), 0.1, name, 16), variant)
    assert_agrees(chain((40, name), 0.2, 16), variant)
    assert_agrees(chain("normalize", (19, name)), variant)


layer = st.one_of(
    st.integers(1, 70),
    st.tuples(st.integers(1, 70), st.sampled_from(["linear", "relu", "tanh", "sigmoid", "elu", "leaky_relu"])),
    st.sampled_from([0.05, 0.1, 0.3, 0.5, 0.8]),
    st.sampled_from(["rescale", "relu", "tanh", "selu"]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(layer, max_size=7), st.integers(1, 40), st.integers(1, 10), st.integers(0, 99), st.integers(0, 9))
def test_any_chain_agrees_with_numpy(layers: list[Any], features: int, targets: int, seed: int, start: int) -> None:
    graph = chain(*layers, features=features, targets=targets, seed=seed)
    assert_agrees(graph, start=start)
    engine, keys = fused(graph), row_keys(seed, 5)
    draw = engine.passes(table(5, features), keys, "dropout")
    delta = float(draw(np.arange(5), 0, 9).std(axis=0).mean() / 8)
    rule = {"patience": 2, "delta": delta, "max_passes": 21}
    assert same(engine.summary(table(5, features), keys, "dropout", **rule), adaptive_passes(draw, 5, **rule))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("units", [4, 18, 128, 130])
def test_masks_are_those_of_numpy(units: int, variant: Variant) -> None:
    layers = (DropoutLayer(units, 0.3, 0), DropoutLayer(units, 0.1, -(-units // 4)))
    for layer in layers:
        identity = Dense(np.eye(units, dtype=np.float32), np.zeros(units, np.float32), activations.linear)
        nodes = (Node(Input(), (), units), Node(Dropout(layer, False), (0,), units), Node(identity, (1,), units))
        graph = Graph(nodes, units, units // 2, 2 * layer.words)
        keys = row_keys(77, 50)
        drawn = fused(graph, variant).passes(np.ones((50, units), np.float32), keys, "dropout")(np.arange(50), 3, 20)
        words = lanes(keys, counter_steps(3, 20, 2 * layer.words), 2 * layer.words)
        expected = kept(words, layer).swapaxes(0, 1).reshape(drawn.shape)
        np.testing.assert_array_equal(drawn > 0.5, expected)


@lru_cache
def recorded(everywhere: bool) -> tuple[FusedEngine, Float32, Any, Float32]:
    """Return an engine, 2,000 rows, their keys and their 50 passes."""
    engine = fused(mqnn(everywhere=everywhere))
    features, keys = table(2000), row_keys(3, 2000)
    return engine, features, keys, engine.passes(features, keys, "dropout")(np.arange(2000), 0, 50)


def deltas(history: Float32) -> list[float]:
    """Return deltas that observed changes of the deviation equal, and their neighbours in float32."""
    some = history[:, :40]
    stds = np.stack([np.std(some[:p], axis=0) for p in range(1, 51)])
    changes = np.sort(np.abs(np.diff(stds, axis=0)).max(axis=(2, 3)).reshape(-1))
    chosen = changes[[len(changes) // 50, len(changes) // 5, len(changes) // 3, len(changes) // 2]]
    return [float(np.nextafter(value, np.float32(to))) for value in chosen for to in (0, value, 1)]


@pytest.mark.parametrize("everywhere", [False, True])
@pytest.mark.parametrize("patience", [1, 2, 5])
def test_stop_decisions_are_those_of_the_rule_on_the_same_passes(everywhere: bool, patience: int) -> None:
    engine, features, keys, history = recorded(everywhere)

    def replay(rows: NDArray[np.intp], start: int, count: int) -> Float32:
        return history[start : start + count, rows]

    used = set()
    for delta in deltas(history):
        rule = {"patience": patience, "delta": delta, "max_passes": 50}
        answer = engine.summary(features, keys, "dropout", **rule)
        assert same(answer, adaptive_passes(replay, 2000, **rule)), delta
        used.update(answer.passes_used.tolist())
    assert len(used) > 30


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "rule", [(0, 1e-3, 50), (2, 0.0, 7), (2, 1e-3, 1), (2, 1e-3, 2), (3, 1e-3, 4), (2, 1e300, 50), (1, np.inf, 3)]
)
def test_rules_at_their_limits(rule: tuple[int, float, int], variant: Variant) -> None:
    patience, delta, max_passes = rule
    options = {"patience": patience, "delta": delta, "max_passes": max_passes}
    engine, features, keys = fused(mqnn((16, 16)), variant), table(40), row_keys(2, 40)
    for mode in MODES:
        expected = adaptive_passes(engine.passes(features, keys, mode), 40, **options)
        assert same(engine.summary(features, keys, mode, **options), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_have_the_same_bits_in_any_company(variant: Variant) -> None:
    graph = mqnn((40, 40))
    features, keys = table(2500), row_keys(8, 2500)
    rule = {"patience": 2, "delta": 2e-3, "max_passes": 50}
    whole = fused(graph, variant).summary(features, keys, "dropout", **rule)
    assert same(whole, fused(graph, variant, threads=3).summary(features, keys, "dropout", **rule))
    for rows in (np.array([2499]), np.arange(17, 60), np.arange(300)[::-1]):
        part = fused(graph, variant).summary(features[rows], keys[rows], "dropout", **rule)
        assert part.mean.tobytes() == whole.mean[rows].tobytes()
        assert part.std.tobytes() == whole.std[rows].tobytes()
        assert part.passes_used.tolist() == whole.passes_used[rows].tolist()


def test_passes_have_the_same_bits_in_any_tile() -> None:
    engine = fused(mqnn((40, 40), everywhere=True))
    draw = engine.passes(table(9), row_keys(8, 9), "dropout")
    whole = draw(np.arange(9), 0, 30)
    for start, count in ((0, 1), (1, 1), (3, 9), (29, 1), (4, 8)):
        part = draw(np.array([7, 2]), start, count)
        assert part.tobytes() == whole[start : start + count][:, [7, 2]].tobytes()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "layers", [("normalize", 32, 0.1, 32), (32, 0.2, 32, 0.2, 16), ((32, "tanh"), 0.1, 16), (0.4,)]
)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_what_is_not_finite_reaches_the_answer(layers: Sequence[Any], bad: float, variant: Variant) -> None:
    graph = chain(*layers)
    features, keys = table(5), row_keys(1, 5)
    features[2, 3] = bad
    rule = {"patience": 2, "delta": 1e-2, "max_passes": 12}
    answer = fused(graph, variant).summary(features, keys, "dropout", **rule)
    expected = adaptive_passes(NumpyEngine(graph).passes(features, keys, "dropout"), 5, **rule)
    failed = ~(np.isfinite(answer.mean).all(axis=(1, 2)) & np.isfinite(answer.std).all(axis=(1, 2)))
    reference = ~(np.isfinite(expected.mean).all(axis=(1, 2)) & np.isfinite(expected.std).all(axis=(1, 2)))
    assert failed.tolist() == reference.tolist()
    assert not failed[[0, 1, 3, 4]].any()
    assert answer.passes_used[failed].tolist() == [12] * int(failed.sum())


def test_a_run_reports_progress_and_can_be_ended() -> None:
    features, keys = table(3000), row_keys(1, 3000)
    rule = {"patience": 2, "delta": 1e-2, "max_passes": 12}
    for threads in (1, 2):
        engine, seen = fused(mqnn((16, 16)), threads=threads), list[int]()
        engine.summary(features, keys, "dropout", **rule, on_progress=seen.append)
        assert seen == [1024, 2048, 3000]

        def stop(rows_done: int) -> None:
            raise TimeoutError(rows_done)

        with pytest.raises(TimeoutError, match="1024"):
            engine.summary(features, keys, "dropout", **rule, on_progress=stop)


def test_wide_networks_report_more_often() -> None:
    seen = list[int]()
    engine = fused(chain(1500, 0.1, 1500))
    engine.summary(table(30), row_keys(1, 30), "dropout", patience=2, delta=1.0, max_passes=50, on_progress=seen.append)
    assert len(seen) > 1
    assert seen[-1] == 30


def test_more_passes_than_a_history_holds_are_left_to_the_stop_rule() -> None:
    engine = fused(mqnn((16, 16)))
    rule = {"patience": 2, "delta": 1e-3}
    many = engine.summary(table(7), row_keys(1, 7), "dropout", **rule, max_passes=MOST_PASSES + 1)
    assert same(many, engine.summary(table(7), row_keys(1, 7), "dropout", **rule, max_passes=MOST_PASSES))


def test_tables_that_do_not_fit_are_refused_before_the_kernel_sees_them() -> None:
    engine = fused(mqnn((16, 16)))
    rule = {"patience": 2, "delta": 1e-3, "max_passes": 5}
    with pytest.raises(ValueError, match="expected"):
        engine.summary(table(3, 7), row_keys(1, 3), "dropout", **rule)
    with pytest.raises(ValueError, match="expected"):
        engine.passes(table(3), row_keys(1, 2), "dropout")
    with pytest.raises(ValueError, match="adaptive_passes needs"):
        engine.summary(table(0), row_keys(1, 0), "dropout", **rule)
    with pytest.raises(IndexError):
        engine.passes(table(3), row_keys(1, 3), "dropout")(np.array([3]), 0, 1)


def test_arrays_of_any_layout_are_taken() -> None:
    engine = fused(mqnn((16, 16)))
    rule = {"patience": 2, "delta": 1e-3, "max_passes": 9}
    features, keys = table(20), row_keys(1, 20)
    expected = engine.summary(features, keys, "dropout", **rule)
    frozen = features.copy()
    frozen.flags.writeable = False
    for given_features in (np.asfortranarray(features), frozen, np.repeat(features, 2, axis=0)[::2]):
        assert same(engine.summary(given_features, keys, "dropout", **rule), expected)


def test_the_engine_says_what_it_is() -> None:
    graph = chain("normalize", 8, 0.1, 8, (0.1, "always"))
    engine = load_fused_engine(graph)
    assert (engine.name, engine.batch_independent, engine.n_features, engine.n_targets) == ("fused", True, 8, 2)
    assert (engine.random_layers("dropout"), engine.random_layers("deterministic")) == (2, 1)
    assert engine.input_statistics is graph.input_statistics or engine.input_statistics is not None
    assert engine.kernels.variant == "vector"

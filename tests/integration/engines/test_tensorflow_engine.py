"""NumPy and TensorFlow evaluate the same networks with the same masks, and both draw what Keras draws."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from builders.artifacts import mqnn_h5_bytes, write_state_pickle
from uqueue_config.errors import ModelInvalid
from uqueue_worker.artifacts import ArtifactPair, read_model_file
from uqueue_worker.artifacts.pair import fingerprint
from uqueue_worker.models import Engine, choose_engine, load_interval_model
from uqueue_worker.models.randomness import row_keys
from uqueue_worker.uncertainty import adaptive_passes

pytestmark = pytest.mark.timeout(300)  # importing TensorFlow may take half a minute
DATA = Path(__file__).parents[2] / "data"
ROWS = 40
FEATURES = np.random.default_rng(0).normal(2, 3, (ROWS, 4)).astype(np.float32)
EVERY_ROW = np.arange(ROWS)
KS_ALPHA = 1e-4  # per comparison; seeds are fixed, so a test that passes keeps passing


@pytest.fixture(scope="module")
def keras() -> Any:
    import keras

    keras.utils.set_random_seed(3)
    return keras


def mqnn(keras: Any, activation: Any = "relu", targets: int = 2, dropout: Any = None) -> Any:
    layers = keras.layers
    inputs = keras.Input((4,))
    normalize = layers.Normalization()
    normalize.adapt(FEATURES)
    x = layers.Dense(24, activation=activation, bias_initializer="random_normal")(normalize(inputs))
    x = dropout(0.2)(x) if dropout else layers.Dropout(0.2)(x, training=True)
    x = layers.Dense(16, activation=activation)(x)
    return keras.Model(inputs, [layers.Dense(targets, name=name)(x) for name in ("q0", "q1")])


def branched(keras: Any) -> Any:
    layers = keras.layers
    inputs = keras.Input((4,))
    long = layers.Dropout(0.3)(layers.Dense(10, activation="selu")(inputs), training=True)
    long = layers.LeakyReLU(0.1)(layers.Dense(9)(long))
    short = layers.Dropout(0.1)(layers.Dense(7, activation="softplus")(inputs), training=True)
    joined = layers.ReLU()(layers.Concatenate()([layers.Dropout(0.2)(long), short, inputs]))
    return keras.Model(inputs, [layers.Dense(1, activation="elu")(joined), layers.Dense(1)(short)])


def stacked(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [keras.Input((4,)), layers.Rescaling(0.5, 1.0), layers.Dense(8, "tanh"), layers.Dropout(0.25), layers.Dense(2)]
    )


def convolutional(keras: Any) -> Any:
    layers = keras.layers
    inputs = keras.Input((4,))
    x = layers.BatchNormalization(name="norm")(layers.Dense(12, activation="gelu")(inputs))
    x = layers.SpatialDropout1D(0.3)(layers.Conv1D(6, 2, activation="relu")(layers.Reshape((4, 3))(x)))
    body = keras.Sequential([keras.Input((18,)), layers.Dense(9, "relu"), layers.Dropout(0.2)])
    x = body(layers.Flatten()(x))
    model = keras.Model(inputs, layers.Reshape((2, 3))(layers.Dense(6)(x)))
    model.get_layer("norm").moving_mean.assign(np.linspace(-1, 1, 12))
    model.get_layer("norm").moving_variance.assign(np.linspace(0.5, 2, 12))
    return model


NETWORKS: dict[str, Callable[[Any], Any]] = {
    "relu": mqnn,
    "tanh": lambda keras: mqnn(keras, "tanh", 1),
    "sigmoid": lambda keras: mqnn(keras, "sigmoid", 3),
    "elu": lambda keras: mqnn(keras, "elu"),
    "leaky": lambda keras: mqnn(keras, keras.layers.LeakyReLU(0.05)),
    "branched": branched,
    "sequential": stacked,
}


def saved(model: Any, folder: Path) -> bytes:
    model.save(folder / "model.h5")
    return (folder / "model.h5").read_bytes()


def both(data: bytes) -> tuple[Engine, Engine]:
    checked = read_model_file(data)
    return choose_engine(data, checked, "numpy"), choose_engine(data, checked, "tensorflow")


def heads_of(outputs: Any) -> NDArray[Any]:
    """Return (rows, heads, targets) of what a Keras model gives."""
    outputs = [np.asarray(head) for head in outputs] if isinstance(outputs, list) else np.asarray(outputs)
    if isinstance(outputs, list):
        return np.stack(outputs, axis=1)
    return outputs if outputs.ndim == 3 else outputs[:, :, None]


@pytest.mark.parametrize("name", NETWORKS)
def test_both_engines_give_what_keras_gives(keras: Any, name: str, tmp_path: Path) -> None:
    model = NETWORKS[name](keras)
    numpy_engine, tensorflow_engine = both(saved(model, tmp_path))
    expected = heads_of(model.predict(FEATURES, verbose=0))
    keys = row_keys(11, ROWS)
    for engine in (numpy_engine, tensorflow_engine):
        calm = engine.passes(FEATURES, keys, "deterministic")(EVERY_ROW, 0, 2)
        np.testing.assert_allclose(calm[1], expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    one, other = (engine.passes(FEATURES, keys, "dropout")(EVERY_ROW, 5, 7) for engine in both(saved(model, tmp_path)))
    assert one.std(axis=0).max() > 0.01
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert numpy_engine.random_layers("dropout") == tensorflow_engine.random_layers("dropout") > 0


def test_both_engines_stop_at_the_same_passes(keras: Any, tmp_path: Path) -> None:
    data = saved(mqnn(keras), tmp_path)
    rule = {"patience": 2, "delta": 0.01, "max_passes": 50}
    keys = row_keys(2, ROWS)
    draws = [engine.passes(FEATURES, keys, "dropout") for engine in both(data)]
    recorded = draws[1](EVERY_ROW, 0, 50)
    found = [adaptive_passes(draw, ROWS, **rule) for draw in draws]
    replayed = adaptive_passes(lambda rows, start, count: recorded[start : start + count, rows], ROWS, **rule)
    assert (found[0].passes_used == found[1].passes_used).mean() >= 0.95  # passes differ by some 1e-7
    assert (replayed.passes_used == found[1].passes_used).mean() >= 0.95
    assert len(set(found[0].passes_used.tolist())) > 3


def test_passes_have_the_distribution_of_keras_dropout(keras: Any, tmp_path: Path) -> None:
    """Two-sample Kolmogorov-Smirnov test of 4,000 passes of one row, per head and target, at KS_ALPHA each."""
    model = mqnn(keras)
    keras.utils.set_random_seed(17)
    row = FEATURES[:1]
    theirs = heads_of(model(np.repeat(row, 4000, axis=0)))
    for engine in both(saved(model, tmp_path)):
        ours = engine.passes(row, row_keys(23, 1), "dropout")(np.arange(1), 0, 4000)[:, 0]
        assert smallest_p_value(ours, theirs) > KS_ALPHA


def smallest_p_value(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Compare (passes, heads, targets), rounded: the same mask may give values that differ in the last bits."""
    pairs = [(ours[:, h, t], theirs[:, h, t]) for h in range(2) for t in range(ours.shape[2])]
    return float(min(stats.ks_2samp(one.round(4), other.round(4)).pvalue for one, other in pairs))


def test_dropout_is_silently_off_under_model_predict(keras: Any, tmp_path: Path) -> None:
    """Why there are two forward modes: Keras 3 lets the outer call's training=False override the recorded True."""
    model = mqnn(keras)
    same = [heads_of(model.predict(FEATURES, verbose=0)) for _ in range(3)]
    np.testing.assert_array_equal(same[0], same[1])
    np.testing.assert_array_equal(same[0], same[2])
    assert np.abs(heads_of(model(FEATURES)) - heads_of(model(FEATURES))).max() > 0
    pair = pair_of(saved(model, tmp_path))
    consumer = load_interval_model(pair, forward_mode="deterministic").predict(FEATURES, seed=1)
    assert (consumer.passes_used == 3).all()
    np.testing.assert_allclose(consumer.lower + consumer.q_hat, same[0][:, 0], rtol=1e-5, atol=1e-5)
    method = load_interval_model(pair).predict(FEATURES, seed=1)
    assert method.stochastic
    assert method.passes_used.mean() > 3


def pair_of(model: bytes, **state: Any) -> ArtifactPair:
    pickled = write_state_pickle(**{"q_hat": 0.5, **state})
    return ArtifactPair("mccp-uq", model, pickled, fingerprint(model, 1), fingerprint(pickled, 2))


def test_an_always_on_subclass_acts_in_both_modes(keras: Any, tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("project")
    class MCDropout(keras.layers.Dropout):  # type: ignore[name-defined,misc]
        def call(self, inputs: Any, training: Any = None) -> Any:
            return super().call(inputs, training=True)

    model = mqnn(keras, dropout=MCDropout)
    data = saved(model, tmp_path)
    keras.saving.get_custom_objects().clear()
    theirs = [heads_of(model.predict(FEATURES, verbose=0)) for _ in range(2)]
    assert np.abs(theirs[0] - theirs[1]).max() > 0
    one, other = (engine.passes(FEATURES, row_keys(1, ROWS), "deterministic") for engine in both(data))
    np.testing.assert_allclose(one(EVERY_ROW, 0, 9), other(EVERY_ROW, 0, 9), rtol=1e-5, atol=1e-5)
    assert one(EVERY_ROW, 0, 9).std(axis=0).max() > 0.01


@pytest.mark.parametrize("name", ["keras2_functional", "keras2_sequential"])
def test_files_of_keras_2_give_the_same_in_both_engines(keras: Any, name: str) -> None:
    data = (DATA / f"{name}.h5").read_bytes()
    features = np.load(DATA / f"{name}.npz")["x"]
    rows = np.arange(len(features))
    for mode in ("dropout", "deterministic"):
        one, other = (engine.passes(features, row_keys(1, len(rows)), mode)(rows, 3, 8) for engine in both(data))
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_other_networks_go_to_tensorflow(keras: Any, tmp_path: Path) -> None:
    model = convolutional(keras)
    pair = pair_of(saved(model, tmp_path), delta=0.01)
    expected = heads_of(model.predict(FEATURES, verbose=0))
    with pytest.raises(ModelInvalid, match="NumPy engine cannot"):
        load_interval_model(pair, engine="numpy")
    calm = load_interval_model(pair, forward_mode="deterministic")
    answer = calm.predict(FEATURES, seed=1)
    assert (calm.engine_name, calm.n_targets, calm.stochastic) == ("tensorflow", 3, False)
    np.testing.assert_allclose(answer.lower + answer.q_hat, expected[:, 0], rtol=1e-5, atol=1e-6)
    lively = load_interval_model(pair)
    first, second = lively.predict(FEATURES, seed=4), lively.predict(FEATURES, seed=4)
    assert lively.stochastic
    assert first.to_message("base64") == second.to_message("base64")
    assert [answer.seed for answer in lively.predict_many([(FEATURES[:2], 4), (FEATURES[2:], 5)])] == [4, 5]
    many = lively.engine.passes(FEATURES[:1], row_keys(1, 1), "dropout")(np.arange(1), 0, 3000)[:, 0]
    keras.utils.set_random_seed(5)
    acting = convolutional_passes(keras, model, FEATURES[:1], 3000)
    assert smallest_p_value(many, acting) > KS_ALPHA


def convolutional_passes(keras: Any, model: Any, row: NDArray[Any], passes: int) -> NDArray[Any]:
    """Return (passes, heads, targets) with only the dropout layers in training mode, by Keras itself."""
    x = np.repeat(row, passes, axis=0)
    for layer in model.layers[1:]:
        if layer.name.startswith("sequential"):
            for inner in layer.layers:
                x = inner(x, training=True) if "Dropout" in type(inner).__name__ else inner(x)
        elif "Dropout" in type(layer).__name__:
            x = layer(x, training=True)
        else:
            x = layer(x, training=False) if layer.name == "norm" else layer(x)
    return heads_of(x)


def test_a_dropout_layer_used_twice_draws_twice(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    inputs = keras.Input((4,))
    shared = layers.Dropout(0.5)
    ones = layers.Dense(6, kernel_initializer="zeros", bias_initializer="ones")(inputs)
    model = keras.Model(inputs, [layers.Average()([shared(ones), shared(ones)]), ones])
    data = saved(model, tmp_path)
    engine = choose_engine(data, read_model_file(data))
    drawn = engine.passes(FEATURES[:1], row_keys(1, 1), "dropout")(np.arange(1), 0, 200)[:, 0, 0]
    assert engine.name == "tensorflow"
    assert set(np.unique(drawn)) == {0.0, 1.0, 2.0}


def test_outputs_that_are_no_heads_are_refused(keras: Any, tmp_path: Path) -> None:
    inputs = keras.Input((4,))
    lone = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.BatchNormalization()(inputs)))
    with pytest.raises(ModelInvalid, match="one output unit"):
        load_interval_model(pair_of(saved(lone, tmp_path)), engine="tensorflow")
    named = keras.Model(inputs, {name: keras.layers.Dense(1)(inputs) for name in ("a", "b")})
    for engine in ("auto", "tensorflow"):
        with pytest.raises(ModelInvalid, match="in a dict"):
            load_interval_model(pair_of(saved(named, tmp_path)), engine=engine)


def test_a_file_that_keras_cannot_load_says_which_versions_met(keras: Any) -> None:
    import io

    import h5py

    buffer = io.BytesIO(mqnn_h5_bytes())
    with h5py.File(buffer, "r+") as file:
        del file["model_weights/q0/q0/kernel"]
        file["model_weights/q0/q0/kernel"] = np.ones((3, 3), np.float32)
    with pytest.raises(ModelInvalid, match=r"Keras 3\.\d+\.\d+ cannot load this file, written by 3\.15\.1"):
        load_interval_model(pair_of(buffer.getvalue()), engine="tensorflow")

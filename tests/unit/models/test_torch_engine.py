"""The PyTorch engine against PyTorch itself, and against the other engines."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from builders.artifacts import write_state_pickle
from builders.torch_files import spec_file
from uqueue_config.errors import ModelInvalid
from uqueue_worker.artifacts.pair import ArtifactPair, fingerprint
from uqueue_worker.artifacts.torch_file import read_torch_file
from uqueue_worker.models import IntervalModel, load_interval_model
from uqueue_worker.models.choice import choose_engine
from uqueue_worker.models.randomness import counter_steps, kept, lanes, lay_out, row_keys
from uqueue_worker.models.torch_engine import TorchEngine
from uqueue_worker.uncertainty import adaptive_passes

torch = pytest.importorskip("torch")

from builders.torch_networks import (  # noqa: E402
    Monotone,
    Mqnn,
    Stacked,
    Zoo,
    made,
    script_bytes,
    spec_bytes,
    traced_bytes,
)

Float32 = NDArray[np.float32]
FEATURES = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
EVERY = np.arange(50)
PLAIN = [(Mqnn, spec_bytes), (Mqnn, script_bytes), (Mqnn, traced_bytes), (Stacked, script_bytes)]
FILES = [*PLAIN, (Stacked, traced_bytes), (Zoo, script_bytes), (Zoo, traced_bytes)]


def engine_of(data: bytes, choice: Any = "torch") -> Any:
    return choose_engine(data, read_torch_file(data, file="model.pt"), choice)


def model_of(data: bytes, engine: Any = "torch", **settings: Any) -> IntervalModel:
    state = write_state_pickle(delta=0.01)
    pair = ArtifactPair("m", data, state, fingerprint(data, 1), fingerprint(state, 2))
    return load_interval_model(pair, engine=engine, **settings)


def heads_of(network: Any, features: Float32) -> Float32:
    """Return what the module itself gives, (rows, 2, targets)."""
    with torch.no_grad():
        outputs = network(torch.from_numpy(features))
    heads: Float32 = (torch.stack(outputs, 1) if isinstance(outputs, tuple) else outputs).numpy()
    return heads


@pytest.mark.parametrize(("network", "save"), FILES)
@pytest.mark.parametrize("choice", ["torch", "auto"])
def test_deterministic_outputs_are_those_of_the_module_in_evaluation_mode(network: Any, save: Any, choice: Any) -> None:
    module = made(network)
    engine = engine_of(save(module), choice)
    drawn = engine.passes(FEATURES, row_keys(1, 50), "deterministic")(EVERY, 0, 3)
    np.testing.assert_allclose(drawn[0], heads_of(module, FEATURES), rtol=0, atol=1e-6)
    assert drawn[2].tobytes() == drawn[0].tobytes()


@pytest.mark.parametrize(("network", "save"), PLAIN)
def test_all_engines_drop_the_same_units(network: Any, save: Any) -> None:
    data = save(made(network, hidden=13))
    drawn = [
        engine_of(data, choice).passes(FEATURES, row_keys(7, 50), "dropout")(EVERY[::-1], 5, 9)
        for choice in ("torch", "numpy", "fused")
    ]
    assert not np.array_equal(drawn[0][0], drawn[0][1])
    for other in drawn[1:]:
        np.testing.assert_allclose(drawn[0], other, rtol=1e-5, atol=1e-6)


def test_masks_are_bit_for_bit_those_of_the_counter() -> None:
    """A network that shows its masks: ones, dropped, and one output per unit."""
    one = {"w.weight": np.concatenate([np.eye(6), np.eye(6)]).astype("f4")}
    layers = [{"type": "Dropout", "p": 0.25}, {"type": "Dropout", "p": 0.5}]
    engine = engine_of(spec_file(one, n_features=6, layers=layers, heads=["w"]))
    drawn = engine.passes(np.ones((4, 6), np.float32), row_keys(3, 4), "dropout")(np.arange(4), 11, 5)
    (first, second), words = lay_out([(6, 0.25), (6, 0.5)])
    every = lanes(row_keys(3, 4), counter_steps(11, 5, words), words)
    expected = kept(every, first) * np.float32(first.scale) * kept(every, second) * np.float32(second.scale)
    assert drawn[:, :, 0].tobytes() == np.ascontiguousarray(expected.swapaxes(0, 1), np.float32).tobytes()


def test_a_script_and_a_spec_of_one_network_give_the_same_bytes() -> None:
    module = made(Mqnn)
    answers = [model_of(save(module)).predict(FEATURES, seed=5) for save in (spec_bytes, script_bytes, traced_bytes)]
    assert {answer.lower.tobytes() for answer in answers} == {answers[0].lower.tobytes()}
    assert len({answer.passes_used.tobytes() for answer in answers}) == 1
    assert answers[0].model.engine == "torch"


@pytest.mark.parametrize(("network", "save"), [(Mqnn, spec_bytes), (Monotone, script_bytes), (Zoo, traced_bytes)])
def test_the_same_job_gives_the_same_bytes(network: Any, save: Any) -> None:
    data = save(made(network))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    model = model_of(data)
    first = model.predict(FEATURES, seed=9)
    assert torch.equal(before, torch.get_rng_state()), "torch's own generator was used"
    torch.manual_seed(2)
    again = [model.predict(FEATURES, seed=9), model_of(data).predict(FEATURES, seed=9)]
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(model.predict(FEATURES, seed=9)))
    thread.start()
    model.predict(FEATURES[:7], seed=10)
    thread.join()
    for answer in (*again, *found):
        assert answer.lower.tobytes() == first.lower.tobytes()
        assert answer.pass_std.tobytes() == first.pass_std.tobytes()
    assert model.predict(FEATURES, seed=10).lower.tobytes() != first.lower.tobytes()


def test_jobs_answered_together_have_the_bytes_of_each_alone() -> None:
    model = model_of(spec_bytes(made(Mqnn)))
    assert not model.engine.batch_independent
    requests = [(FEATURES[:3], 1), (FEATURES[3:20], 2), (FEATURES[20:21], 3)]
    for (rows, seed), answer in zip(requests, model.predict_many(requests), strict=True):
        assert answer.upper.tobytes() == model.predict(rows, seed=seed).upper.tobytes()


@pytest.mark.parametrize(("network", "save"), [(Mqnn, spec_bytes), (Monotone, script_bytes)])
def test_rows_depend_on_their_neighbours_in_the_last_bits_only(network: Any, save: Any) -> None:
    engine = engine_of(save(made(network)))
    keys = row_keys(1, 50)
    whole = engine.passes(FEATURES, keys, "dropout")(EVERY, 0, 16)
    alone = engine.passes(FEATURES[40:41], keys[40:41], "dropout")(np.arange(1), 0, 16)
    np.testing.assert_allclose(whole[:, 40], alone[:, 0], rtol=1e-5, atol=1e-6)
    tiles = [engine.passes(FEATURES, keys, "dropout")(EVERY, start, 4) for start in (0, 4, 8, 12)]
    np.testing.assert_allclose(np.concatenate(tiles), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("network", "save"), [(Mqnn, spec_bytes), (Monotone, script_bytes)])
def test_stop_decisions_are_those_of_the_rule_on_the_recorded_passes(network: Any, save: Any) -> None:
    model = model_of(save(made(network)))
    rule = model.calibration
    answer = model.predict(FEATURES, seed=21)
    tiles: dict[int, Any] = {}
    draw = model.engine.passes(FEATURES, row_keys(21, 50), "dropout")

    def recording(rows: Any, start: int, count: int) -> Any:
        drawn = draw(rows, start, count)
        for place, row in enumerate(rows):
            for step in range(count):
                tiles[(int(row) << 16) + start + step] = drawn[step, place]
        return drawn

    adaptive_passes(recording, 50, patience=rule.patience, delta=rule.delta, max_passes=rule.max_mc)
    assert len(set(answer.passes_used.tolist())) > 3
    for row in range(50):
        used, converged, mean = stopped(
            lambda step, row=row: tiles[(row << 16) + step], rule.patience, rule.delta, rule.max_mc
        )
        assert (used, converged) == (answer.passes_used[row], answer.converged[row])
        assert (mean[0] - rule.q_hat).tobytes() == answer.lower[row].tobytes()


def stopped(passes: Any, patience: int, delta: float, max_passes: int) -> tuple[int, bool, Any]:
    """The rule of the paper for one row, pass by pass."""
    history: list[Any] = []
    calm, before = 0, None
    while len(history) < max_passes:
        history.append(passes(len(history)))
        spread = np.stack(history).std(axis=0)
        if before is not None:
            calm = calm + 1 if (np.abs(before - spread) <= delta).all() else 0
        before = spread
        if calm >= patience:
            break
    return len(history), calm >= patience, np.stack(history).mean(axis=0)


def drawn_by_torch(module: Any, row: Float32, passes: int, seed: int) -> Float32:
    """Return (passes, 2, targets) of a row, with torch's own dropout in training mode."""
    for part in module.modules():
        part.training = isinstance(part, torch.nn.Dropout)
    torch.manual_seed(seed)
    found = heads_of(module, np.repeat(row[None], passes, 0))
    module.eval()
    return found


@pytest.mark.parametrize(
    ("network", "save"), [(Mqnn, spec_bytes), (Mqnn, script_bytes), (Monotone, script_bytes), (Zoo, script_bytes)]
)
def test_passes_are_distributed_as_those_of_torch(network: Any, save: Any) -> None:
    module = made(network)
    engine = engine_of(save(module))
    row = FEATURES[17]
    ours = engine.passes(row[None], row_keys(1, 1), "dropout")(np.arange(1), 0, 5000)[:, 0]
    theirs = drawn_by_torch(module, row, 5000, seed=3)
    for head in range(2):
        for target in range(engine.n_targets):
            # equal masks give values that differ by rounding, which the test would take for different ones
            pair = (np.round(drawn[:, head, target], 4) for drawn in (ours, theirs))
            assert stats.ks_2samp(*pair).pvalue > 1e-3
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=5 * theirs.std(0).max() / np.sqrt(5000))


def test_another_rate_would_be_noticed() -> None:
    module = made(Mqnn)
    other = made(Mqnn, rate=0.15)
    engine = engine_of(spec_bytes(module))
    ours = engine.passes(FEATURES[17:18], row_keys(1, 1), "dropout")(np.arange(1), 0, 5000)[:, 0]
    theirs = drawn_by_torch(other, FEATURES[17], 5000, seed=3)
    assert stats.ks_2samp(ours[:, 0, 0].round(4), theirs[:, 0, 0].round(4)).pvalue < 1e-6


def test_forward_modes_and_what_is_reported_of_them() -> None:
    data = spec_bytes(made(Mqnn))
    calm = model_of(data, forward_mode="deterministic").predict(FEATURES, seed=1)
    assert not calm.stochastic
    assert set(calm.passes_used.tolist()) == {3}
    assert model_of(data).predict(FEATURES, seed=1).stochastic
    # functional dropout that is always on: also in deterministic mode, as in the module's own evaluation mode
    assert model_of(script_bytes(made(Monotone)), forward_mode="deterministic").predict(FEATURES, seed=1).stochastic


def test_statistics_of_the_features_are_known() -> None:
    for save in (spec_bytes, script_bytes, traced_bytes):
        module = made(Mqnn)
        mean, spread = engine_of(save(module)).input_statistics
        np.testing.assert_allclose(mean, module.mean.numpy())
        np.testing.assert_allclose(spread, np.sqrt(module.variance.numpy()), rtol=1e-6)
        far = model_of(save(module)).predict(np.full((1, 8), 1e3), seed=1)
        assert any("standard deviations" in note for note in far.warnings)
    assert engine_of(script_bytes(made(Zoo))).input_statistics is None


def test_more_values_than_fit_into_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    data = spec_bytes(made(Mqnn))
    whole = engine_of(data).passes(FEATURES, row_keys(1, 50), "dropout")(EVERY, 0, 8)
    monkeypatch.setattr("uqueue_worker.models.torch_engine._BATCH_VALUES", 120 * 8 * 7)
    parts = engine_of(data).passes(FEATURES, row_keys(1, 50), "dropout")(EVERY, 0, 8)
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)


def test_a_network_that_overwrites_its_values() -> None:
    module = torch.nn.Sequential(
        torch.nn.Linear(8, 6), torch.nn.ReLU(inplace=True), torch.nn.Dropout(0.5, inplace=True), torch.nn.Linear(6, 2)
    ).eval()
    for save in (script_bytes, traced_bytes):
        engine = engine_of(save(module))
        drawn = engine.passes(FEATURES, row_keys(1, 50), "deterministic")(EVERY, 0, 1)[0]
        np.testing.assert_allclose(drawn[:, :, 0], heads_of(module, FEATURES), rtol=0, atol=1e-6)
        assert engine.random_layers("dropout") == 1


def test_what_pytorch_cannot_evaluate_is_invalid() -> None:
    from builders.torch_files import script_file

    body = "    h = torch.pow(torch.linear(x, self.w0), 'two')\n    return (h, h)\n"
    with pytest.raises(ModelInvalid, match=r"model\.pt: PyTorch cannot evaluate it: "):
        engine_of(script_file(body))


def test_pytorch_gets_one_thread() -> None:
    assert isinstance(engine_of(spec_bytes(made(Mqnn))), TorchEngine)
    assert torch.get_num_threads() == 1


def test_pytorch_and_tensorflow_live_in_one_process() -> None:
    pytest.importorskip("tensorflow")
    code = (
        "import tensorflow, torch, numpy\n"
        "from tensorflow import constant\n"
        "assert numpy.allclose(torch.ones(3).numpy() @ constant([1., 2., 3.]).numpy(), 6)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_the_models_does_not_import_pytorch() -> None:
    code = "import sys, uqueue_worker.models, uqueue_worker.artifacts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""What becomes of the fused engine where numba is missing, broken, or may not write; and what its parts promise."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.artifacts import mqnn_h5_bytes
from builders.networks import chain, mqnn
from uqueue_config.errors import ModelInvalid
from uqueue_worker.artifacts import read_model_file
from uqueue_worker.models import activations
from uqueue_worker.models.choice import choose_engine
from uqueue_worker.models.fused import compiled
from uqueue_worker.models.fused import engine as fused_engine
from uqueue_worker.models.fused.__main__ import main as compile_ahead
from uqueue_worker.models.fused.compiled import Kernels, KernelUnavailable, load_kernels
from uqueue_worker.models.fused.engine import load_fused_engine
from uqueue_worker.models.fused.plan import ACTIVATIONS, ALIGNMENT, aligned, make_plan
from uqueue_worker.models.graph import Activate, Concatenate, Dropout, Graph, Node
from uqueue_worker.models.randomness import DropoutLayer, row_keys
from uqueue_worker.models.unsupported import UnsupportedGraph


@pytest.fixture
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_loaded", {})
    monkeypatch.setattr(compiled, "_forgotten", set())


@pytest.mark.usefixtures("nothing_loaded")
def test_without_numba_there_is_no_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(KernelUnavailable, match="numba"):
        load_fused_engine(mqnn((8, 8)))


@pytest.mark.usefixtures("nothing_loaded")
def test_intrinsics_that_do_not_load_leave_the_plain_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(compiled._MODULES, "vector", "no_such_module")
    assert load_fused_engine(mqnn((8, 8))).kernels.variant == "plain"


def broken(answer: Any = None, record: Any = None) -> Any:
    def load(variant: compiled.Variant) -> Kernels:
        good = load_kernels("vector")
        return replace(good, variant=variant, answer=answer or good.answer, record=record or good.record)

    return load


def raises(*arguments: Any) -> None:
    raise TypeError("an internal of numba has moved")


def wrong(*arguments: Any) -> None:
    arguments[-1][...] = 0.5


def wrong_decisions(*arguments: Any) -> None:
    load_kernels("vector").answer(*arguments)
    arguments[-2][...] += 1


@pytest.mark.parametrize(
    ("answer", "record", "reason"),
    [
        (raises, None, "TypeError: an internal of numba has moved"),
        (None, wrong, "its passes are up to"),
        (wrong_decisions, None, "its stop rule differs"),
    ],
)
def test_a_kernel_that_fails_its_test_is_not_used(
    monkeypatch: pytest.MonkeyPatch, answer: Any, record: Any, reason: str
) -> None:
    monkeypatch.setattr(fused_engine, "load_kernels", broken(answer, record))
    monkeypatch.setattr(fused_engine, "forget_compiled", lambda variant: False)
    with pytest.raises(KernelUnavailable, match=reason):
        load_fused_engine(mqnn((8, 8)))


def test_graphs_that_the_kernel_does_not_evaluate_are_left_to_numpy() -> None:
    graph = chain(8, 0.1, 8)
    branched = (*graph.nodes[:-1], Node(Concatenate(), (2, 3), 16))
    shared = tuple(
        replace(node, operation=Dropout(DropoutLayer(1, 0.1), False)) if isinstance(node.operation, Dropout) else node
        for node in graph.nodes
    )
    softplus = (*graph.nodes, Node(Activate(activations.softplus), (len(graph.nodes) - 1,), 4))
    for nodes, reason in ((branched, "one chain"), (shared, "all units together"), (softplus, "does not have")):
        with pytest.raises(UnsupportedGraph, match=reason):
            load_fused_engine(Graph(nodes, 8, 2, graph.words_per_pass))


def test_padding_is_zero_and_memory_is_aligned() -> None:
    assert aligned(37).ctypes.data % ALIGNMENT == 0
    plan = make_plan(chain(17, 0.1, 3), "dropout")
    assert plan.weights.ctypes.data % ALIGNMENT == 0
    kernels = plan.weights[: 16 * 32].reshape(16, 32)
    assert not kernels[8:].any()
    assert not kernels[:, 17:].any()


def test_the_cache_is_kept_where_only_this_user_writes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "other"))
    folder = compiled.cache_folder(numba)
    assert folder is not None
    assert folder.parent == tmp_path / "uqueue" / "kernels"
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o777)
    fallback = compiled.cache_folder(numba)
    assert fallback is not None
    assert fallback.is_relative_to(tmp_path / "other")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "file" / "below"))
    (tmp_path / "file").touch()
    assert compiled.cache_folder(numba) is None
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "given"))
    given = compiled.cache_folder(numba)
    assert given is not None
    assert given.is_relative_to(tmp_path / "given")


@pytest.mark.usefixtures("nothing_loaded")
def test_without_a_folder_the_kernel_works_uncached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "cache_folder", lambda numba: None)
    assert load_fused_engine(mqnn((8, 8))).kernels.variant == "vector"


def test_a_second_process_reads_the_compiled_kernel_and_importing_loads_nothing() -> None:
    load_fused_engine(mqnn((8, 8)))
    script = (
        "import sys, uqueue_worker.models, uqueue_worker.models.fused.engine as e, uqueue_worker.models.fused.plan\n"
        "assert not {'numba', 'llvmlite'} & set(sys.modules)\n"
        "from builders.networks import mqnn\n"
        "kernels = e.load_fused_engine(mqnn((8, 8))).kernels\n"
        "print([len(entry.stats.cache_misses) for entry in (kernels.answer, kernels.record)])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[-2] == "[0, 0]"


def test_damaged_files_are_compiled_anew(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "NUMBA_CACHE_DIR": ""}
    command = [sys.executable, "-m", "uqueue_worker.models.fused"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120)
    kept = list(tmp_path.rglob("*.nbc"))
    assert len(kept) == 2
    for file in kept:
        file.write_bytes(file.read_bytes()[:1000])
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120)
    assert "vector kernel ready" in done.stderr
    assert all(file.stat().st_size > 1000 for file in kept)


FORMULAS: dict[str, Any] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x > 0, x, np.float64(np.float32(0.3)) * x),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "exponential": np.exp,
    "elu": lambda x: np.where(x > 0, x, np.float64(np.float32(0.3)) * np.expm1(x)),
    "scale_by": lambda x: np.float64(np.float32(0.3)) * x,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_right_to_a_few_units_in_the_last_place(name: str) -> None:
    from numba import njit

    from uqueue_worker.models.fused import vector_ir

    operation = getattr(vector_ir, name)

    @njit
    def apply(address: int, width: int, alpha: float) -> None:
        operation(address, 0, width, alpha)

    spread = np.concatenate([np.linspace(-20, 20, 400_001), np.logspace(-30, 1, 1000), -np.logspace(-30, 1, 1000)])
    x = spread.astype(np.float32)
    memory = aligned(-(-len(x) // 16) * 16)
    memory[: len(x)] = x
    apply(memory.ctypes.data, len(x), np.float32(0.3))
    expected = FORMULAS[name](x.astype(np.float64))
    steps = np.spacing(np.maximum(np.abs(expected.astype(np.float32)), np.finfo(np.float32).tiny))
    assert (np.abs(memory[: len(x)] - expected) / steps).max() < 3
    assert not memory[len(x) :].any()
    special = aligned(16)
    special[:3] = np.nan, np.inf, -np.inf
    apply(special.ctypes.data, 3, np.float32(0.3))
    with np.errstate(all="ignore"):
        wanted = FORMULAS[name](np.array([np.nan, np.inf, -np.inf]))
    assert np.isnan(special[0])
    assert np.isfinite(special[1]) == np.isfinite(wanted[1])


def test_auto_falls_back_to_numpy_and_fused_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    data = mqnn_h5_bytes()
    assert choose_engine(data, read_model_file(data), "auto").name == "fused"
    softplus = mqnn_h5_bytes(activation="softplus")
    assert choose_engine(softplus, read_model_file(softplus), "auto").name == "numpy"
    with pytest.raises(ModelInvalid, match="the fused engine cannot evaluate it: an activation"):
        choose_engine(softplus, read_model_file(softplus), "fused")
    monkeypatch.setattr(fused_engine, "load_kernels", broken(answer=raises))
    monkeypatch.setattr(fused_engine, "forget_compiled", lambda variant: False)
    assert choose_engine(data, read_model_file(data), "auto").name == "numpy"
    with pytest.raises(ModelInvalid, match="the fused engine cannot evaluate it: TypeError"):
        choose_engine(data, read_model_file(data), "fused")


def test_kernels_can_be_compiled_ahead(capsys: pytest.CaptureFixture[str]) -> None:
    assert compile_ahead() == 0
    assert "vector kernel ready" in capsys.readouterr().err


def test_a_forked_child_and_several_threads_give_the_same_bits() -> None:
    engine = load_fused_engine(mqnn((16, 16)))
    features, keys = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32), row_keys(1, 300)

    def answer() -> bytes:
        summary = engine.summary(features, keys, "dropout", patience=2, delta=1e-3, max_passes=50)
        return summary.mean.tobytes()

    expected = answer()
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: answer(), range(16))) == {expected}
    child = os.fork()
    if child == 0:
        os._exit(0 if answer() == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

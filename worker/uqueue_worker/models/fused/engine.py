"""The fused kernel as an engine: it answers whole tables, and draws passes like the other engines."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import structlog
from numpy.typing import NDArray

from uqueue_worker.models.engine import ForwardMode
from uqueue_worker.models.fused.compiled import (
    VARIANTS,
    Kernels,
    KernelUnavailable,
    Variant,
    forget_compiled,
    load_kernels,
)
from uqueue_worker.models.fused.plan import Plan, make_plan
from uqueue_worker.models.graph import Graph
from uqueue_worker.models.numpy_engine import NumpyEngine
from uqueue_worker.models.randomness import UInt64, row_keys
from uqueue_worker.models.unsupported import UnsupportedGraph
from uqueue_worker.uncertainty import Draw, PassSummary, adaptive_passes

Float32 = NDArray[np.float32]

MOST_PASSES = 1 << 16  # of a row, whose history lies in memory; beyond it the passes are drawn one tile after another
_BLOCK_ROWS = 1024
_BLOCK_WORK = 1 << 31  # rows x passes x weights in a block: about a tenth of a second between two reports of progress
_PROBE_SEED, _PROBE_ROWS, _PROBE_PASSES = 20_240_221, 8, 8
_TOLERANCE = 1e-3  # of the largest value: far above rounding, far below a wrong mask

_log = structlog.get_logger("uqueue.models")


class FusedEngine:
    """A graph evaluated by the compiled kernel. One object serves any number of threads.

    A row has the same bits in any table, at any place in it, on any number of threads, and for any tile of passes.
    Against the NumPy engine the masks are equal and the passes agree to float32 rounding. For the passes that it draws,
    means, deviations and stop decisions are those of `adaptive_passes`, bit for bit.
    """

    name = "fused"
    batch_independent = True

    def __init__(self, graph: Graph, kernels: Kernels, *, threads: int = 1) -> None:
        self.kernels = kernels
        self.threads = threads
        self.n_features = graph.n_features
        self.n_targets = graph.n_targets
        self.input_statistics = graph.input_statistics
        self._numpy = NumpyEngine(graph)
        self._plans: dict[ForwardMode, Plan] = {
            "dropout": make_plan(graph, "dropout"),
            "deterministic": make_plan(graph, "deterministic"),
        }

    def random_layers(self, forward_mode: ForwardMode) -> int:
        """Return how many dropout layers act in this mode."""
        return self._numpy.random_layers(forward_mode)

    def passes(self, features: Float32, keys: UInt64, forward_mode: ForwardMode) -> Draw:
        """Return the draw of features float32 (n, n_features); row i has the random stream `keys[i]`, uint64 (n,)."""
        plan = self._plans[forward_mode]
        features, keys = _checked(features, keys, self.n_features)

        def draw(rows: NDArray[np.intp], start: int, count: int) -> Float32:
            rows = np.array(rows, np.intp)
            if len(rows) and not 0 <= rows.min() <= rows.max() < len(features):
                raise IndexError(f"rows must lie in 0 .. {len(features) - 1}")
            out = np.empty((count, len(rows), plan.values), np.float32)
            self.kernels.record(plan.program, plan.weights, plan.scratch(0), features, keys, rows, start, count, out)
            return out.reshape(count, len(rows), 2, self.n_targets)

        return draw

    def summary(
        self,
        features: Float32,
        keys: UInt64,
        forward_mode: ForwardMode,
        *,
        patience: int,
        delta: float,
        max_passes: int,
        on_progress: Callable[[int], None] | None = None,
    ) -> PassSummary:
        """Return what `adaptive_passes` does for the passes of this engine, in one go.

        `on_progress(rows_done)` is called after every block of rows; what it raises ends the run.
        """
        features, keys = _checked(features, keys, self.n_features)
        n = len(features)
        if not (n >= 1 and patience >= 0 and delta >= 0 and 1 <= max_passes <= MOST_PASSES):
            draw = self.passes(features, keys, forward_mode)
            return adaptive_passes(
                draw, n, patience=patience, delta=delta, max_passes=max_passes, on_progress=on_progress
            )
        plan = self._plans[forward_mode]
        summary = PassSummary(
            mean=np.empty((n, 2, self.n_targets), np.float32),
            std=np.empty((n, 2, self.n_targets), np.float32),
            passes_used=np.empty(n, np.int32),
            converged=np.empty(n, np.bool_),
        )
        mean, std = summary.mean.reshape(n, plan.values), summary.std.reshape(n, plan.values)
        single = _as_float32(delta)

        def fill(begin: int, end: int) -> None:
            self.kernels.answer(
                plan.program,
                plan.weights,
                plan.scratch(max_passes),
                features,
                keys,
                begin,
                end,
                patience,
                single,
                max_passes,
                mean,
                std,
                summary.passes_used,
                summary.converged,
            )

        self._in_blocks(fill, n, _block_rows(plan, max_passes), on_progress)
        return summary

    def _in_blocks(
        self, fill: Callable[[int, int], None], n: int, block: int, on_progress: Callable[[int], None] | None
    ) -> None:
        """Fill rows 0 .. n - 1, on several threads where there is enough to do; the kernel releases the GIL."""
        ends = [min(begin + block, n) for begin in range(0, n, block)]
        if self.threads < 2 or len(ends) < 2:
            for end in ends:
                fill((end - 1) // block * block, end)
                if on_progress is not None:
                    on_progress(end)
            return
        with ThreadPoolExecutor(min(self.threads, len(ends)), "uqueue-fused") as pool:
            pending = [pool.submit(fill, (end - 1) // block * block, end) for end in ends]
            try:
                for future, end in zip(pending, ends, strict=True):
                    future.result()
                    if on_progress is not None:
                        on_progress(end)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def fused_or_numpy(graph: Graph, *, threads: int = 1) -> FusedEngine | NumpyEngine:
    """Return the fused engine where it can be had, else NumPy's; why is in the log."""
    try:
        return load_fused_engine(graph, threads=threads)
    except (UnsupportedGraph, KernelUnavailable) as refusal:
        _log.warning("fused_engine_not_used", reason=str(refusal))
        return NumpyEngine(graph)


def load_fused_engine(graph: Graph, *, threads: int = 1, variants: tuple[Variant, ...] = VARIANTS) -> FusedEngine:
    """Return the engine of a graph, compiled and tested against NumPy.

    The vector kernel is tried first, then the plain one. Raises UnsupportedGraph for a graph that no kernel evaluates,
    and KernelUnavailable, with the reason, where numba is missing or what it compiled does not agree with NumPy.
    """
    reason = "no kernel was asked for"
    for variant in variants:
        again = True
        while again:
            try:
                engine = FusedEngine(graph, load_kernels(variant), threads=threads)
                _test(engine, NumpyEngine(graph))
            except KernelUnavailable as error:
                reason = str(error)
                _log.warning("kernel_not_used", kernel=variant, reason=reason)
                again = forget_compiled(variant)
                continue
            return engine
    raise KernelUnavailable(reason)


def _test(engine: FusedEngine, reference: NumpyEngine) -> None:
    """Compare some passes with NumPy's, and summaries with the stop rule's. Raises KernelUnavailable."""
    statistics = engine.input_statistics
    mean, spread = statistics if statistics is not None else (np.float32(0), np.float32(1))
    around = np.random.default_rng(_PROBE_SEED).standard_normal((_PROBE_ROWS, engine.n_features), np.float32)
    probe = np.asarray(mean + spread * around, dtype=np.float32)
    keys, rows = row_keys(_PROBE_SEED, _PROBE_ROWS), np.arange(_PROBE_ROWS, dtype=np.intp)
    modes: tuple[ForwardMode, ...] = ("dropout", "deterministic")
    for mode in modes:
        try:
            draw = engine.passes(probe, keys, mode)
            found = draw(rows, 3, _PROBE_PASSES)
            delta = _some_delta(found)
            answer = engine.summary(probe, keys, mode, patience=2, delta=delta, max_passes=20)
        except Exception as error:  # whatever numba or LLVM make of a version that they were not tested with
            raise KernelUnavailable(f"{type(error).__name__}: {error}") from error
        _compare(found, reference.passes(probe, keys, mode)(rows, 3, _PROBE_PASSES), mode)
        expected = adaptive_passes(draw, _PROBE_ROWS, patience=2, delta=delta, max_passes=20)
        for one, other in zip(vars(answer).values(), vars(expected).values(), strict=True):
            if one.tobytes() != other.tobytes():
                raise KernelUnavailable(f"its stop rule differs from NumPy's ({mode} mode)")


def _some_delta(passes: Float32) -> float:
    """Return a delta that some rows reach soon and others late."""
    with np.errstate(all="ignore"):
        delta = float(passes.std(axis=0).mean() / 8)
    return delta if np.isfinite(delta) else 0.0


def _compare(found: Float32, expected: Float32, mode: ForwardMode) -> None:
    if not np.array_equal(np.isfinite(found), np.isfinite(expected)):
        raise KernelUnavailable(f"other passes are finite than NumPy's ({mode} mode)")
    with np.errstate(invalid="ignore"):
        apart, size = np.nanmax(np.abs(found - expected), initial=0), np.nanmax(np.abs(expected), initial=0)
    if apart > _TOLERANCE * size:
        raise KernelUnavailable(f"its passes are up to {apart:.2g} from NumPy's, of {size:.2g} ({mode} mode)")


def _checked(features: Float32, keys: UInt64, n_features: int) -> tuple[Float32, UInt64]:
    """Return both as the kernel takes them: contiguous, and writeable because numba compiles anew for what is not.

    The kernel checks no bounds, so this does.
    """
    if features.ndim != 2 or features.shape[1] != n_features or keys.shape != features.shape[:1]:
        raise ValueError(f"expected (n, {n_features}) features and n keys, got {features.shape} and {keys.shape}")
    features, keys = np.ascontiguousarray(features, np.float32), np.ascontiguousarray(keys, np.uint64)
    return (
        features if features.flags.writeable else features.copy(),
        keys if keys.flags.writeable else keys.copy(),
    )


def _block_rows(plan: Plan, max_passes: int) -> int:
    return max(1, min(_BLOCK_ROWS, _BLOCK_WORK // (max_passes * len(plan.weights))))


def _as_float32(delta: float) -> np.float32:
    """Return delta as NumPy compares it with float32; one beyond float32's range lets every finite change pass."""
    return np.float32(min(delta, float(np.finfo(np.float32).max)))

"""Adaptive Monte Carlo dropout: draw passes until their standard deviation stands still.

Bethell, Gerasimou, Calinescu, "Robust Uncertainty Quantification Using Conformalised Monte Carlo Prediction", AAAI
2024. For each row on its own, after pass p,

    s_p = np.std(history[:p], axis=0)              population standard deviation, float32, per head and target
    counter += 1 if all(|s_{p-1} - s_p| <= delta) else counter = 0        from pass 2 on
    stop when counter >= patience or p == max_passes

and the answer is `np.mean(history[:p], axis=0)`. What the paper calls variance is this standard deviation; delta is
absolute, in target units, and compared as NumPy compares a float32 array with a Python float.

The rule is evaluated for many rows and passes at once and gives the same bits as that loop over rows, because NumPy
adds along the first axis one pass after another, whatever the other axes hold. The one exception is a history with a
single value per pass, which NumPy adds pairwise: such histories take a path of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Draw = Callable[[NDArray[np.intp], int, int], Float32]

_TILE = 16  # passes per draw: a longer tile wastes draws past the stopping pass, a shorter one wastes calls
_BLOCK_ROWS = 4096
_BLOCK_VALUES = 1 << 21  # passes x rows whose history is held at once
_CHUNK_VALUES = 1 << 15  # history values looked at together: they stay in the processor's cache


@dataclass(frozen=True, eq=False)
class PassSummary:
    """What the passes of each row came to.

    mean, std    float32 (rows, heads, targets), over the passes used
    passes_used  int32 (rows,)
    converged    bool (rows,), False where `max_passes` ended the passes before the counter reached patience
    """

    mean: Float32
    std: Float32
    passes_used: NDArray[np.int32]
    converged: NDArray[np.bool_]


@dataclass(frozen=True)
class _Rule:
    patience: int
    delta: float
    max_passes: int


@dataclass
class _Block:
    """The rows of a block that have not stopped yet: `rows` (r,), `history` (passes, r, values), `counter` (r,)."""

    rows: NDArray[np.intp]
    history: Float32
    counter: NDArray[np.int64]

    def keep(self, where: NDArray[np.bool_]) -> None:
        self.rows, self.counter = self.rows[where], self.counter[where]
        self.history = np.ascontiguousarray(self.history[:, where])


def adaptive_passes(
    draw: Draw,
    n_rows: int,
    *,
    patience: int,
    delta: float,
    max_passes: int,
    on_progress: Callable[[int], None] | None = None,
) -> PassSummary:
    """Return mean, deviation, passes used and convergence of `n_rows` rows.

    `draw(rows, start, count)` returns float32 (count, len(rows), heads, targets): passes start .. start + count - 1 of
    those rows. It is asked for the same tiles of passes whatever the rows are. A row whose passes are not finite runs
    to `max_passes` (the rule never holds for it) and has a mean that is not finite. `on_progress(rows_done)` is called
    after every tile, an open row counting by its share of `max_passes`; what it raises ends the run. Raises ValueError
    for a rule or number of rows that makes no sense.
    """
    rule = _checked(n_rows, patience, delta, max_passes)
    block_rows = max(1, min(_BLOCK_ROWS, _BLOCK_VALUES // max_passes))
    blocks = []
    for first in range(0, n_rows, block_rows):
        rows = np.arange(first, min(first + block_rows, n_rows), dtype=np.intp)
        blocks.append(_run_block(draw, rows, rule, on_progress or _nobody_asked))
    return PassSummary(
        mean=np.concatenate([block.mean for block in blocks]),
        std=np.concatenate([block.std for block in blocks]),
        passes_used=np.concatenate([block.passes_used for block in blocks]),
        converged=np.concatenate([block.converged for block in blocks]),
    )


def rule_without_spread(*, patience: int, max_passes: int) -> tuple[int, bool]:
    """Return (passes used, converged) of a row whose passes are all equal and finite."""
    passes = min(max_passes, patience + 1)
    return passes, passes == patience + 1


def _checked(n_rows: int, patience: int, delta: float, max_passes: int) -> _Rule:
    if n_rows < 1 or patience < 0 or max_passes < 1 or not delta >= 0:
        raise ValueError(
            "adaptive_passes needs n_rows >= 1, patience >= 0, delta >= 0 and max_passes >= 1, "
            f"got {n_rows}, {patience}, {delta} and {max_passes}"
        )
    return _Rule(int(patience), float(delta), int(max_passes))


def _nobody_asked(rows_done: int) -> None:
    """Take no notice of progress."""


def _tiles(rule: _Rule) -> Iterator[tuple[int, int]]:
    """Yield (start, count). A short rest joins the last tile: 50 passes are drawn as 16 + 16 + 18."""
    if rule.patience == 0:
        yield 0, 1
        return
    start = 0
    while start < rule.max_passes:
        left = rule.max_passes - start
        count = _TILE if left >= _TILE + _TILE // 2 else left
        yield start, count
        start += count


def _run_block(draw: Draw, rows: NDArray[np.intp], rule: _Rule, on_progress: Callable[[int], None]) -> PassSummary:
    first, n = int(rows[0]), len(rows)
    result: PassSummary | None = None
    block = _Block(rows, np.empty((0, n, 0), np.float32), np.zeros(n, np.int64))
    for start, count in _tiles(rule):
        drawn = np.ascontiguousarray(draw(block.rows, start, count), dtype=np.float32)
        if result is None:
            result = _empty_summary(n, drawn.shape[2:])
            block.history = drawn.reshape(count, n, -1)
        else:
            block.history = np.concatenate([block.history, drawn.reshape(count, len(block.rows), -1)])
        stopped = np.concatenate([_settle(result, first, block, start, part, rule) for part in _parts(block)])
        block.keep(~stopped)
        open_rows = len(block.rows)
        on_progress(first + n - open_rows + open_rows * (start + count) // rule.max_passes)
        if not len(block.rows):
            break
    if result is None:
        raise ValueError("the stop rule asks for no pass at all")
    return result


def _empty_summary(n_rows: int, shape: tuple[int, ...]) -> PassSummary:
    return PassSummary(
        mean=np.empty((n_rows, *shape), np.float32),
        std=np.empty((n_rows, *shape), np.float32),
        passes_used=np.zeros(n_rows, np.int32),
        converged=np.zeros(n_rows, np.bool_),
    )


def _parts(block: _Block) -> Iterator[slice]:
    passes, n, values = block.history.shape
    step = max(1, _CHUNK_VALUES // (passes * values))
    for begin in range(0, n, step):
        yield slice(begin, min(begin + step, n))


def _settle(result: PassSummary, first: int, block: _Block, start: int, part: slice, rule: _Rule) -> NDArray[np.bool_]:
    """Apply the rule to the newest tile of some rows; write those that stop into `result`. Returns bool (rows,)."""
    history = block.history[:, part]
    with np.errstate(invalid="ignore", over="ignore"):
        means, stds = _prefix_statistics(history, max(start - 1, 0))  # one pass earlier, to compare the first with
        counters = _counters(stds, start, block.counter[part], rule.delta)
    tile = len(history) - start
    means, stds = means[-tile:], stds[-tile:]
    stop = counters >= rule.patience
    converged = stop.any(axis=0)
    at = np.where(converged, stop.argmax(axis=0), tile - 1)
    done: NDArray[np.bool_] = converged | (len(history) == rule.max_passes)
    chosen, which = at[done], np.flatnonzero(done)
    target = block.rows[part][done] - first
    shape = (len(target), *result.mean.shape[1:])
    result.mean[target] = means[chosen, which].reshape(shape)
    result.std[target] = stds[chosen, which].reshape(shape)
    result.passes_used[target] = chosen + start + 1
    result.converged[target] = converged[done]
    block.counter[part] = counters[-1]
    return done


def _counters(stds: Float32, start: int, carried: NDArray[np.int64], delta: float) -> NDArray[np.int64]:
    """Return int (tile, rows): how many passes in a row have been within delta, after each pass of the tile."""
    small = (np.abs(stds[:-1] - stds[1:]) <= delta).all(axis=2)
    if start == 0:
        small = np.concatenate([np.zeros_like(small, shape=(1, small.shape[1])), small])  # pass 1 has none before it
    position = np.arange(1, len(small) + 1)[:, None]
    last_large = np.maximum.accumulate(np.where(small, -carried, position), axis=0)
    return np.asarray(position - last_large)


def _prefix_statistics(history: Float32, begin: int) -> tuple[Float32, Float32]:
    """Return means and deviations of history[:p] for p = begin + 1 .. len(history); each (p's, rows, values)."""
    if history.shape[2] == 1:
        return _pairwise_statistics(history, begin)
    passes = len(history)
    means = np.add.accumulate(history, axis=0)[begin:]
    means /= np.arange(begin + 1, passes + 1, dtype=np.float32)[:, None, None]
    stds = np.empty_like(means)
    together = max(1, _CHUNK_VALUES // history.size)  # few rows: many p's per call, many rows: one
    for low in range(begin, passes, together):
        high = min(low + together, passes)
        stds[low - begin : high - begin] = _deviations(history[:high], means[low - begin : high - begin], low)
    return means, stds


def _deviations(history: Float32, means: Float32, low: int) -> Float32:
    """Return np.std(history[:p], axis=0) for p = low + 1 .. len(history), given the means of those prefixes."""
    squares = history[None] - means[:, None]
    np.multiply(squares, squares, out=squares)
    for behind in range(1, len(means)):
        squares[behind - 1, low + behind :] = 0  # passes after p do not count
    sizes = np.arange(low + 1, len(history) + 1, dtype=np.float32)[:, None, None]
    variances = np.add.reduce(squares, axis=1)
    variances /= sizes
    return np.asarray(np.sqrt(variances, out=variances))


def _pairwise_statistics(history: Float32, begin: int) -> tuple[Float32, Float32]:
    by_row = np.ascontiguousarray(history[:, :, 0].T)
    sizes = range(begin + 1, len(history) + 1)
    means = np.stack([np.mean(by_row[:, :p], axis=1) for p in sizes])
    return means[:, :, None], np.stack([np.std(by_row[:, :p], axis=1) for p in sizes])[:, :, None]

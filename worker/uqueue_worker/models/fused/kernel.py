"""The fused kernel: adaptive passes of many rows, row after row, compiled by numba.

Per row: everything before the first dropout once; then four passes at a time, whose standard deviations are compared
after each pass exactly as `uqueue_worker.uncertainty.adaptive` does, until the row stops. The masks are those of
`uqueue_worker.models.randomness`. Nothing is shared between rows, so a row has the same bits in any company, in any
order and on any number of threads. Four passes are always drawn together, also past the last one that counts: a weight
is loaded once for all of them.

`p`, `w` and `m` are the addresses of a plan's program, of its weights and of the scratch memory; see `plan` for what
lies where. Importing this module imports numba.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit

from uqueue_worker.models.fused import vector_ir as v
from uqueue_worker.models.fused.plan import (
    AFFINE,
    BASE,
    BITS,
    BITS_PER_PASS,
    DENSE,
    DEVIATIONS,
    DROP,
    FEATURES,
    FIRST_ACTIVATION,
    FIXED,
    FOUR,
    HEADER,
    HEADS,
    HISTORY,
    LANES,
    LAYER,
    LAYERS,
    LISTED,
    MEANS,
    PADDED_VALUES,
    PREVIOUS,
    QUADS,
    RANDOM_FROM,
    RESCALE,
    STEP,
    STEPS,
    SUBTRACT,
    SUMS,
    UNITS,
    VALUES,
    WIDE,
    WORDS_PER_PASS,
)

(RELU, RELU6, LEAKY_RELU, TANH, SIGMOID, SILU, SOFTSIGN, EXPONENTIAL, ELU, SCALE_BY) = range(
    FIRST_ACTIVATION, FIRST_ACTIVATION + 10
)
NO_FLOOR = np.float32(-np.inf)


@njit(error_model="numpy")
def _dense(p, w, m, count, kernel_at, start, start_at, out_at, vectors, floor):
    """Write `vectors` vectors of start + sum of listed values times their weights, not below `floor`."""
    values, offsets = v.integer(p, LISTED), v.integer(p, UNITS)
    block = 0
    while vectors - block >= 8:
        at = block * LANES
        v.dense_8(m, values, offsets, count, w, kernel_at + at, start, start_at + at, out_at + at, floor)
        block += 8
    if vectors - block >= 4:
        at = block * LANES
        v.dense_4(m, values, offsets, count, w, kernel_at + at, start, start_at + at, out_at + at, floor)
        block += 4
    if vectors - block >= 2:
        at = block * LANES
        v.dense_2(m, values, offsets, count, w, kernel_at + at, start, start_at + at, out_at + at, floor)
        block += 2
    if vectors - block >= 1:
        at = block * LANES
        v.dense_1(m, values, offsets, count, w, kernel_at + at, start, start_at + at, out_at + at, floor)


@njit(error_model="numpy")
def _dense_four(p, w, m, x_at, size, kernel_at, bias_at, y_at, vectors, floor):
    """Write `vectors` vectors of bias + x @ kernel, not below `floor`, of four passes to another place."""
    wide, units = v.integer(p, WIDE), v.integer(p, UNITS)
    count = v.list_any(m, x_at, wide, size, units)
    stride = vectors * LANES
    block = 0
    while vectors - block >= 4:
        at = block * LANES
        v.dense_four_4(m, x_at, wide, units, count, w, kernel_at + at, stride, bias_at + at, y_at + at, floor)
        block += 4
    if vectors - block >= 2:
        at = block * LANES
        v.dense_four_2(m, x_at, wide, units, count, w, kernel_at + at, stride, bias_at + at, y_at + at, floor)
        block += 2
    if vectors - block >= 1:
        at = block * LANES
        v.dense_four_1(m, x_at, wide, units, count, w, kernel_at + at, stride, bias_at + at, y_at + at, floor)


@njit(error_model="numpy")
def _activate(code, m, at, width, alpha):
    if code == RELU:
        v.relu(m, at, width, alpha)
    elif code == TANH:
        v.tanh(m, at, width, alpha)
    elif code == ELU:
        v.elu(m, at, width, alpha)
    elif code == LEAKY_RELU:
        v.leaky_relu(m, at, width, alpha)
    elif code == SIGMOID:
        v.sigmoid(m, at, width, alpha)
    elif code == SILU:
        v.silu(m, at, width, alpha)
    elif code == RELU6:
        v.relu6(m, at, width, alpha)
    elif code == SOFTSIGN:
        v.softsign(m, at, width, alpha)
    elif code == EXPONENTIAL:
        v.exponential(m, at, width, alpha)
    elif code == SCALE_BY:
        v.scale_by(m, at, width, alpha)


@njit(error_model="numpy")
def _one_step(p, step, w, m, x_at, bits_at, out_at):
    """Run a step that works in place on the values of one pass, or the last layer, which writes to `out_at`."""
    code, size, at = v.integer(p, step), v.integer(p, step + 1), v.integer(p, step + 3)
    if code == QUADS:
        bias = v.integer(p, step + 4)
        for quad in range(v.integer(p, step + 2)):
            v.dense_quads(m, x_at, size, w, at + quad * size * LANES * FOUR, bias + FOUR * quad, out_at + FOUR * quad)
    elif code == DROP:
        v.drop(m, x_at, size, bits_at + at, v.number(p, step + 5, 8))
    elif code == AFFINE:
        v.affine(m, x_at, size, w, at, v.integer(p, step + 4))
    elif code == RESCALE:
        v.rescale(m, x_at, size, w, at, v.integer(p, step + 4))
    else:
        _activate(code, m, x_at, size, v.number(p, step + 5, 8))


@njit(error_model="numpy")
def _begin_row(p, w, m, features):
    """Evaluate what does not depend on the pass: FIXED goes into the first dropout, BASE are the sums behind it."""
    wide, n_features = v.integer(p, WIDE), v.integer(p, FEATURES)
    v.copy(features, 0, m, 0, n_features)
    v.fill(m, n_features, wide - n_features, np.float32(0))
    random = HEADER + STEP * v.integer(p, RANDOM_FROM)
    for step in range(HEADER, random, STEP):
        if v.integer(p, step) == DENSE:
            vectors = v.integer(p, step + 2)
            count = v.list_nonzero(
                m, 0, v.integer(p, step + 1), vectors * LANES, v.integer(p, LISTED), v.integer(p, UNITS)
            )
            at, bias, floor = v.integer(p, step + 3), v.integer(p, step + 4), v.number(p, step + 5, 8)
            _dense(p, w, m, count, at, w, bias, 0, vectors, floor)
        else:
            _one_step(p, step, w, m, 0, 0, v.integer(p, HEADS))
    fixed = v.integer(p, FIXED)
    v.copy(m, 0, m, fixed, wide)
    if v.integer(p, SUBTRACT):
        v.scale_by(m, fixed, wide, v.number(p, random + 5, 8))
        step = random + STEP
        vectors, at, bias = v.integer(p, step + 2), v.integer(p, step + 3), v.integer(p, step + 4)
        count = v.list_nonzero(
            m, fixed, v.integer(p, step + 1), vectors * LANES, v.integer(p, LISTED), v.integer(p, UNITS)
        )
        _dense(p, w, m, count, at, w, bias, v.integer(p, BASE), vectors, NO_FLOOR)


@njit(error_model="numpy")
def _draw_masks(p, m, key, first):
    """Write the dropped bits of all layers for passes first .. first + 3."""
    layers = HEADER + STEP * v.integer(p, STEPS)
    for turn in range(FOUR):
        counter = (first + turn) * v.integer(p, WORDS_PER_PASS)
        bits = v.integer(p, BITS) + turn * v.integer(p, BITS_PER_PASS)
        for layer in range(layers, layers + LAYER * v.integer(p, LAYERS), LAYER):
            words, threshold = v.integer(p, layer + 1), v.integer(p, layer + 2)
            v.draw_bits(key, counter + v.integer(p, layer), words, threshold, m, bits + v.integer(p, layer + 3))


@njit(error_model="numpy")
def _subtract_dropped(p, drop, w, m):
    """Write the layer behind the first dropout of four passes: its sums over all units less those of dropped ones."""
    step = drop + STEP
    size, vectors, at = v.integer(p, step + 1), v.integer(p, step + 2), v.integer(p, step + 3)
    for turn in range(FOUR):
        bits = v.integer(p, BITS) + turn * v.integer(p, BITS_PER_PASS) + v.integer(p, drop + 3)
        count = v.list_dropped(
            m, v.integer(p, FIXED), size, vectors * LANES, v.integer(p, LISTED), v.integer(p, UNITS), bits
        )
        place = turn * v.integer(p, WIDE)
        _dense(p, w, m, count, at, m, v.integer(p, BASE), place, vectors, v.number(p, step + 5, 8))


@njit(error_model="numpy")
def _draw_four(p, w, m, key, first, out_at):
    """Write the values of passes first .. first + 3 to `out_at`, PADDED_VALUES apart."""
    wide, padded_values, bits_per_pass = v.integer(p, WIDE), v.integer(p, PADDED_VALUES), v.integer(p, BITS_PER_PASS)
    begin = HEADER + STEP * v.integer(p, RANDOM_FROM)
    end = HEADER + STEP * v.integer(p, STEPS)
    _draw_masks(p, m, key, first)
    if v.integer(p, SUBTRACT):
        _subtract_dropped(p, begin, w, m)
        begin += 2 * STEP
    else:
        for turn in range(FOUR):
            v.copy(m, v.integer(p, FIXED), m, turn * wide, wide)
    here = 0
    for step in range(begin, end, STEP):
        if v.integer(p, step) == DENSE:
            there = FOUR * wide - here
            size, vectors = v.integer(p, step + 1), v.integer(p, step + 2)
            at, bias, floor = v.integer(p, step + 3), v.integer(p, step + 4), v.number(p, step + 5, 8)
            _dense_four(p, w, m, here, size, at, bias, there, vectors, floor)
            here = there
        else:
            for turn in range(FOUR):
                bits = v.integer(p, BITS) + turn * bits_per_pass
                _one_step(p, step, w, m, here + turn * wide, bits, out_at + turn * padded_values)
    in_quads = end > HEADER and v.integer(p, end - STEP) == QUADS
    if in_quads and begin < end:
        return
    for turn in range(FOUR):
        source = v.integer(p, HEADS) if in_quads else here + turn * wide
        v.copy(m, source, m, out_at + turn * padded_values, padded_values)


@njit(error_model="numpy")
def _settle(p, m, known, counter, patience, delta, max_passes):
    """Apply the stop rule to passes known + 1 .. known + 4. Return (turn it stopped at or -1, counter, converged)."""
    padded_values = v.integer(p, PADDED_VALUES)
    history, sums, previous = v.integer(p, HISTORY), v.integer(p, SUMS), v.integer(p, PREVIOUS)
    means, deviations = v.integer(p, MEANS), v.integer(p, DEVIATIONS)
    small = np.int64(0xFFFF)
    for q in range(0, padded_values, FOUR):
        small &= v.settle_four(
            m, history + q, padded_values, known, sums + q, previous + q, means + q, deviations + q, delta
        )
    for turn in range(FOUR):
        still = (small >> (FOUR * turn)) & 15 == 15
        counter = counter + 1 if still and known + turn > 0 else 0
        if counter >= patience:
            return turn, counter, True
        if known + turn + 1 == max_passes:
            return turn, counter, False
    return -1, counter, False


@njit(error_model="numpy", nogil=True)
def answer(
    program, weights, scratch, features, keys, begin, end, patience, delta, max_passes, mean, std, used, converged
):
    """Fill mean, std float32 (n, values), used int32 (n,) and converged bool (n,) for rows begin .. end - 1.

    features float32 (n, n_features) and keys uint64 (n,), C-contiguous as is all else.
    """
    p, w, m = program.ctypes.data, weights.ctypes.data, scratch.ctypes.data
    values, padded_values = program[VALUES], program[PADDED_VALUES]
    for row in range(begin, end):
        _begin_row(p, w, m, features.ctypes.data + 4 * row * program[FEATURES])
        v.fill(m, program[SUMS], padded_values, np.float32(-0.0))  # -0 + x is x, also for x = -0
        known, counter, turn, done = 0, 0, -1, False
        while turn < 0:
            _draw_four(p, w, m, keys[row], known, program[HISTORY] + known * padded_values)
            turn, counter, done = _settle(p, m, known, counter, patience, delta, max_passes)
            known += FOUR
        for i in range(values):
            mean[row, i] = v.number(m, program[MEANS] + turn * padded_values + i, 4)
            std[row, i] = v.number(m, program[DEVIATIONS] + turn * padded_values + i, 4)
        used[row] = known - FOUR + turn + 1
        converged[row] = done


@njit(error_model="numpy", nogil=True)
def record(program, weights, scratch, features, keys, rows, start, count, out):
    """Fill out float32 (count, len(rows), values) with passes start .. start + count - 1 of those rows."""
    p, w, m = program.ctypes.data, weights.ctypes.data, scratch.ctypes.data
    values, padded_values, four = program[VALUES], program[PADDED_VALUES], program[HISTORY]
    for index in range(len(rows)):
        row = rows[index]
        _begin_row(p, w, m, features.ctypes.data + 4 * row * program[FEATURES])
        for first in range(start // FOUR * FOUR, start + count, FOUR):  # the same fours as in `answer`
            _draw_four(p, w, m, keys[row], first, four)
            for turn in range(max(0, start - first), min(FOUR, start + count - first)):
                for i in range(values):
                    out[first + turn - start, index, i] = v.number(m, four + turn * padded_values + i, 4)

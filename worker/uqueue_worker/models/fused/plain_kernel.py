"""The fused kernel in plain numba, for where the vectors of `vector_ir` do not compile: slower, and shorter.

It runs the same plans with the same masks and the same stop rule, one pass after another, and does without the tricks:
nothing is subtracted, nothing is kept in registers on purpose. Importing this module imports numba.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit

from uqueue_worker.models.fused.plan import (
    AFFINE,
    DENSE,
    DROP,
    FEATURES,
    FIRST_ACTIVATION,
    HEADER,
    HISTORY,
    LANES,
    LAYER,
    PADDED_VALUES,
    QUADS,
    RANDOM_FROM,
    RESCALE,
    STEP,
    STEPS,
    VALUES,
    WIDE,
    WORDS_PER_PASS,
)
from uqueue_worker.models.randomness import GAMMA, MIX_LAST_SHIFT, MIX_STEPS

(RELU, RELU6, LEAKY_RELU, TANH, SIGMOID, SILU, SOFTSIGN, EXPONENTIAL, ELU, SCALE_BY) = range(
    FIRST_ACTIVATION, FIRST_ACTIVATION + 10
)
ONE, SIX, ZERO = np.float32(1), np.float32(6), np.float32(0)
STEP_1, STEP_2, LAST = np.uint64(MIX_STEPS[0][0]), np.uint64(MIX_STEPS[1][0]), np.uint64(MIX_LAST_SHIFT)
FACTOR_1, FACTOR_2, STRIDE = np.uint64(MIX_STEPS[0][1]), np.uint64(MIX_STEPS[1][1]), np.uint64(GAMMA)


@njit(error_model="numpy")
def _word(key, counter):
    z = key + np.uint64(counter) * STRIDE
    z = (z ^ (z >> STEP_1)) * FACTOR_1
    z = (z ^ (z >> STEP_2)) * FACTOR_2
    return z ^ (z >> LAST)


@njit(error_model="numpy")
def _activation(code, x, alpha):
    if code == RELU:
        return ZERO if x < ZERO else x
    if code == RELU6:
        return ZERO if x < ZERO else (SIX if x > SIX else x)
    if code == LEAKY_RELU:
        return x if x > ZERO else alpha * x
    if code == TANH:
        return np.tanh(x)
    if code == SIGMOID:
        return ONE / (ONE + np.exp(-x))
    if code == SILU:
        return x / (ONE + np.exp(-x))
    if code == SOFTSIGN:
        return x / (ONE + abs(x))
    if code == EXPONENTIAL:
        return np.exp(x)
    if code == ELU:
        return x if x > ZERO else alpha * np.expm1(x)
    return alpha * x


@njit(error_model="numpy")
def _dense(x, y, kernel, bias, units, width):
    columns = np.uint64(width)  # unsigned, so that no index is checked for being negative and loops become vectors
    for column in range(columns):
        y[column] = bias[column]
    for unit in range(units):
        value = x[unit]
        if value != ZERO:
            row = np.uint64(unit) * columns
            for column in range(columns):
                y[column] += value * kernel[row + column]


@njit(error_model="numpy")
def _dot(x, row, vectors):
    """Return the sum of products in eight sums, which the compiler may keep in one vector."""
    a = b = c = d = e = f = g = h = ZERO
    for at in range(0, vectors * LANES, 8):
        a += x[at] * row[at]
        b += x[at + 1] * row[at + 1]
        c += x[at + 2] * row[at + 2]
        d += x[at + 3] * row[at + 3]
        e += x[at + 4] * row[at + 4]
        f += x[at + 5] * row[at + 5]
        g += x[at + 6] * row[at + 6]
        h += x[at + 7] * row[at + 7]
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


@njit(error_model="numpy")
def _run(program, weights, begin, end, key, index, x, y):
    """Run steps begin .. end - 1 of pass `index` on x in place."""
    parameters = program.view(np.float32)[::2]
    first_layer = HEADER + STEP * program[STEPS]
    for step in range(begin, end, STEP):
        code, size, out = program[step], program[step + 1], program[step + 2]
        at, bias, parameter = program[step + 3], program[step + 4], parameters[step + 5]
        if code == DENSE:
            _dense(x, y, weights[at:], weights[bias:], size * LANES, out * LANES)
            for column in range(out * LANES):
                x[column] = parameter if y[column] < parameter else y[column]
        elif code == QUADS:
            for column in range(4 * out):
                y[column] = _dot(x, weights[at + column * size * LANES :], size) + weights[bias + column]
            x[: 4 * out] = y[: 4 * out]
        elif code == DROP:
            layer = first_layer
            while program[layer + 3] != at:
                layer += LAYER
            counter = index * program[WORDS_PER_PASS] + program[layer] + 1
            threshold = np.uint64(program[layer + 2])
            for word in range(program[layer + 1]):
                drawn = _word(key, counter + word)
                for lane in range(4):
                    keeps = ((drawn >> np.uint64(16 * lane)) & np.uint64(0xFFFF)) < threshold
                    x[4 * word + lane] *= parameter if keeps else ZERO
        elif code == AFFINE:
            for column in range(size * LANES):
                x[column] = (x[column] - weights[at + column]) / weights[bias + column]
        elif code == RESCALE:
            for column in range(size * LANES):
                x[column] = x[column] * weights[at + column] + weights[bias + column]
        else:
            for column in range(size):
                x[column] = _activation(code, x[column], parameter)


@njit(error_model="numpy")
def _begin_row(program, weights, features, row, fixed, y):
    fixed[:] = ZERO
    fixed[: program[FEATURES]] = features[row]
    _run(program, weights, HEADER, HEADER + STEP * program[RANDOM_FROM], np.uint64(0), 0, fixed, y)


@njit(error_model="numpy")
def _draw(program, weights, key, index, fixed, x, y):
    x[:] = fixed
    begin, end = HEADER + STEP * program[RANDOM_FROM], HEADER + STEP * program[STEPS]
    _run(program, weights, begin, end, key, index, x, y)


@njit(error_model="numpy")
def _statistics(history, passes, value):
    """Return mean and standard deviation of one value, added in the order of the passes in float32."""
    total = np.float32(-0.0)
    for index in range(passes):
        total += history[index, value]
    mean = total / np.float32(passes)
    squares = ZERO
    for index in range(passes):
        away = history[index, value] - mean
        squares += away * away
    return mean, np.sqrt(squares / np.float32(passes))


@njit(error_model="numpy")
def _near(history, passes, means, deviations, delta):
    """Update the statistics after a pass; tell whether no deviation changed by more than delta."""
    near = passes > 1
    for value in range(len(means)):
        mean, deviation = _statistics(history, passes, value)
        near &= abs(deviations[value] - deviation) <= delta
        means[value], deviations[value] = mean, deviation
    return near


@njit(error_model="numpy", nogil=True)
def answer(
    program, weights, scratch, features, keys, begin, end, patience, delta, max_passes, mean, std, used, converged
):
    """See `kernel.answer`."""
    wide, values, padded_values = program[WIDE], program[VALUES], program[PADDED_VALUES]
    fixed, x, y = scratch[:wide], scratch[wide : 2 * wide], scratch[2 * wide : 3 * wide]
    history = scratch[program[HISTORY] :][: max_passes * padded_values].reshape(max_passes, padded_values)
    for row in range(begin, end):
        _begin_row(program, weights, features, row, fixed, y)
        counter, passes, done = 0, 0, False
        while passes < max_passes and not done:
            _draw(program, weights, keys[row], passes, fixed, x, y)
            history[passes, :values] = x[:values]
            passes += 1
            counter = counter + 1 if _near(history, passes, mean[row], std[row], delta) else 0
            done = counter >= patience
        used[row] = passes
        converged[row] = done


@njit(error_model="numpy", nogil=True)
def record(program, weights, scratch, features, keys, rows, start, count, out):
    """See `kernel.record`."""
    wide, values = program[WIDE], program[VALUES]
    fixed, x, y = scratch[:wide], scratch[wide : 2 * wide], scratch[2 * wide : 3 * wide]
    for index in range(len(rows)):
        _begin_row(program, weights, features, rows[index], fixed, y)
        for turn in range(count):
            _draw(program, weights, keys[rows[index]], start + turn, fixed, x, y)
            out[turn, index] = x[:values]

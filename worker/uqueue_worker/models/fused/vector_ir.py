"""The inner loops of the fused kernel as numba intrinsics, vectors of 16 float32 at a time.

This is the only file that depends on numba's internals. Memory comes in as an address and positions count items of 4
bytes, because numba counts references to arrays atomically at every call, which took half of the time. Nothing is
bounds-checked.

Multiplications and additions of layers may be fused (`llvm.fmuladd`), as BLAS does; those of the stop rule are never
fused, because NumPy's are not and its decisions are to be kept bit for bit.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from uqueue_worker.models.fused import vector_math as formulas
from uqueue_worker.models.fused.plan import FOUR, LANES
from uqueue_worker.models.fused.vector_code import F4, F16, FLOAT, I16, I32, I32X16, I64, I64X8, MASK, Code, Value
from uqueue_worker.models.randomness import GAMMA, MIX_LAST_SHIFT, MIX_STEPS


def _intrinsic(result: Any) -> Callable[[Callable[..., Value]], Any]:
    """Make a numba intrinsic: the body gets integers as i64 and floats as float32."""

    def decorate(body: Callable[..., Value]) -> Any:
        def define(typing_context: Any, *kinds: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, values: Sequence[Value]) -> Value:
                wanted = [types.float32 if isinstance(kind, types.Float) else types.int64 for kind in signature.args]
                operands = [
                    context.cast(builder, value, kind, target)
                    for value, kind, target in zip(values, signature.args, wanted, strict=True)
                ]
                made = body(Code(builder), *operands)
                return context.get_dummy_value() if made is None else made

            return result(*kinds), generate

        define.__name__ = define.__qualname__ = body.__name__
        define.__doc__ = body.__doc__
        define.__signature__ = inspect.signature(body)  # type: ignore[attr-defined]  # numba counts arguments by it
        return intrinsic(define)

    return decorate


@_intrinsic(types.int64)
def integer(c: Code, base: Value, item: Value) -> Value:
    """Return item `item` of int64 at an address."""
    return c.load(I64, base, item, size=8, align=8)


@_intrinsic(types.float32)
def number(c: Code, base: Value, item: Value, size: Value) -> Value:
    """Return the float32 that item `item`, of `size` bytes each, begins with."""
    return c.b.load(c.b.inttoptr(c.b.add(base, c.b.mul(item, size)), FLOAT.as_pointer()), align=4)


@_intrinsic(types.void)
def copy(c: Code, source: Value, source_at: Value, target: Value, target_at: Value, count: Value) -> None:
    """Copy `count` 4-byte items."""

    def body(i: Value, _: list[Value]) -> list[Value]:
        c.store(c.load(FLOAT, source, c.b.add(source_at, i)), target, c.b.add(target_at, i))
        return []

    c.repeat(count, 1, [], body)


@_intrinsic(types.void)
def fill(c: Code, target: Value, target_at: Value, count: Value, value: Value) -> None:
    """Set `count` items to a float32."""

    def body(i: Value, _: list[Value]) -> list[Value]:
        c.store(value, target, c.b.add(target_at, i))
        return []

    c.repeat(count, 1, [], body)


@_intrinsic(types.void)
def draw_bits(c: Code, key: Value, counter: Value, words: Value, threshold: Value, memory: Value, at: Value) -> None:
    """Write a bit for every 16-bit lane of SplitMix64 words counter + 1 ... of stream `key`: 1 where it is dropped.

    Eight words give 32 bits, one item; surplus bits are noise.
    """
    b = c.b
    gamma = ir.Constant(I64, GAMMA)
    first = c.splat(b.add(key, b.mul(b.add(counter, c.index(1)), gamma)), 8)
    ahead = ir.Constant(I64X8, [lane * GAMMA % 2**64 for lane in range(8)])
    limit = c.splat(b.trunc(threshold, I16), 32)

    def body(i: Value, carried: list[Value]) -> list[Value]:
        (word,) = carried
        z = word
        for shift, factor in MIX_STEPS:
            z = b.mul(b.xor(z, b.lshr(z, _all64(shift))), _all64(factor))
        z = b.xor(z, b.lshr(z, _all64(MIX_LAST_SHIFT)))
        lanes = b.bitcast(z, ir.VectorType(I16, 32))
        bits = b.bitcast(b.icmp_unsigned(">=", lanes, limit), I32)
        c.store(bits, memory, b.add(at, b.lshr(i, c.index(3))))
        return [b.add(word, _all64(8 * GAMMA % 2**64))]

    c.repeat(words, 8, [b.add(first, ahead)], body)


def _all64(value: int) -> Value:
    return ir.Constant(I64X8, [value] * 8)


def _list_nonzero(
    c: Code, m: Value, at: Value, vectors: Value, stride: Value, values: Value, offsets: Value, bits_at: Value | None
) -> Value:
    """List the lanes that are not zero (NaN counts): value, and lane * stride. Return how many there are."""
    b = c.b
    step = c.splat(b.trunc(stride, I32))
    zero = c.number(0.0)

    def body(i: Value, carried: list[Value]) -> list[Value]:
        count, place = carried
        value = c.load(F16, m, b.add(at, b.mul(i, c.index(LANES))), align=64)
        chosen = b.fcmp_unordered("!=", value, zero)
        if bits_at is not None:
            chosen = b.and_(chosen, c.mask(m, bits_at, i))
            value = b.fneg(value)
        c.store(c.compress(b.bitcast(value, I32X16), chosen), m, b.add(values, count))
        c.store(c.compress(place, chosen), m, b.add(offsets, count))
        found = c.call("llvm.ctpop.i16", I16, [b.bitcast(chosen, I16)])
        return [b.add(count, b.zext(found, I64)), b.add(place, b.mul(step, ir.Constant(I32X16, [LANES] * LANES)))]

    start = b.mul(step, ir.Constant(I32X16, list(range(LANES))))
    count, _ = c.repeat(vectors, 1, [c.index(0), start], body)
    c.store(zero, m, b.add(values, count))
    c.store(ir.Constant(I32X16, None), m, b.add(offsets, count))
    return count


@_intrinsic(types.int64)
def list_nonzero(
    c: Code, memory: Value, at: Value, vectors: Value, stride: Value, values: Value, offsets: Value
) -> Value:
    """List (x, position * stride) of what is not zero in `vectors` vectors of x, followed by zeros."""
    return _list_nonzero(c, memory, at, vectors, stride, values, offsets, None)


@_intrinsic(types.int64)
def list_dropped(
    c: Code,
    memory: Value,
    at: Value,
    vectors: Value,
    stride: Value,
    values: Value,
    offsets: Value,
    bits_at: Value,
) -> Value:
    """List (-x, position * stride) of what is not zero and dropped by the bits of `draw_bits`."""
    return _list_nonzero(c, memory, at, vectors, stride, values, offsets, bits_at)


def _dense(blocks: int, together: int) -> Any:
    """Return an intrinsic for `blocks` output vectors that takes `together` inputs at a time into separate sums."""

    def body(
        c: Code,
        memory: Value,
        values: Value,
        offsets: Value,
        count: Value,
        weights: Value,
        kernel_at: Value,
        start: Value,
        start_at: Value,
        out_at: Value,
        floor: Value,
    ) -> None:
        """Write out = max(start + sum of value * weights[kernel_at + offset ...], floor), NaN staying NaN."""
        b = c.b
        kernel = c.address(weights, kernel_at)

        def vector(base: Value, item: Value, block: int) -> Value:
            return c.load(F16, base, b.add(item, c.index(LANES * block)), align=64)

        sums = [vector(start, start_at, block) for block in range(blocks)]
        sums += [c.number(0.0)] * (blocks * (together - 1))

        def step(i: Value, carried: list[Value]) -> list[Value]:
            made = []
            for turn in range(together):
                item = b.add(i, c.index(turn))
                value = c.splat(c.load(FLOAT, memory, b.add(values, item)))
                offset = b.sext(c.load(I32, memory, b.add(offsets, item)), I64)
                for block in range(blocks):
                    made.append(c.fma(value, vector(kernel, offset, block), carried[turn * blocks + block]))
            return made

        sums = c.repeat(count, together, sums, step)
        lowest = c.splat(floor)
        for block in range(blocks):
            parts = sums[block::blocks]
            while len(parts) > 1:
                parts = [b.fadd(*parts[i : i + 2]) for i in range(0, len(parts), 2)]
            c.store(c.at_least(parts[0], lowest), memory, b.add(out_at, c.index(LANES * block)), align=64)

    body.__name__ = f"dense_{blocks}"
    return _intrinsic(types.void)(body)


# As many sums as the processor can keep adding to at once, and no more than its registers hold.
dense_8, dense_4, dense_2, dense_1 = _dense(8, 1), _dense(4, 2), _dense(2, 4), _dense(1, 4)


@_intrinsic(types.int64)
def list_any(c: Code, memory: Value, at: Value, wide: Value, vectors: Value, units: Value) -> Value:
    """List the positions that are not zero in any of four passes, whose values lie `wide` items apart."""
    b = c.b
    zero = c.number(0.0)

    def body(i: Value, carried: list[Value]) -> list[Value]:
        count, place = carried
        chosen = None
        for turn in range(FOUR):
            item = b.add(b.add(at, b.mul(wide, c.index(turn))), b.mul(i, c.index(LANES)))
            active = b.fcmp_unordered("!=", c.load(F16, memory, item, align=64), zero)
            chosen = active if chosen is None else b.or_(chosen, active)
        c.store(c.compress(place, chosen), memory, b.add(units, count))
        found = c.call("llvm.ctpop.i16", I16, [b.bitcast(chosen, I16)])
        return [b.add(count, b.zext(found, I64)), b.add(place, ir.Constant(I32X16, [LANES] * LANES))]

    count, _ = c.repeat(vectors, 1, [c.index(0), ir.Constant(I32X16, list(range(LANES)))], body)
    return count


def _dense_four(blocks: int) -> Any:
    """Return an intrinsic for `blocks` output vectors of four passes: each weight is loaded once for all of them."""

    def body(
        c: Code,
        memory: Value,
        at: Value,
        wide: Value,
        units: Value,
        count: Value,
        weights: Value,
        kernel_at: Value,
        stride: Value,
        bias_at: Value,
        out_at: Value,
        floor: Value,
    ) -> None:
        """Write out = max(bias + sum over the listed units of x * weights, floor) for four passes, `wide` apart."""
        b = c.b
        kernel = c.address(weights, kernel_at)
        rows = [c.address(memory, b.add(at, b.mul(wide, c.index(turn)))) for turn in range(FOUR)]
        bias = [c.load(F16, weights, b.add(bias_at, c.index(LANES * block)), align=64) for block in range(blocks)]

        def step(i: Value, sums: list[Value]) -> list[Value]:
            unit = b.sext(c.load(I32, memory, b.add(units, i)), I64)
            weight_at = b.mul(unit, stride)
            taken = [c.load(F16, kernel, b.add(weight_at, c.index(LANES * block)), align=64) for block in range(blocks)]
            made = []
            for turn in range(FOUR):
                value = c.splat(c.load(FLOAT, rows[turn], unit))
                made += [c.fma(value, taken[block], sums[turn * blocks + block]) for block in range(blocks)]
            return made

        sums = c.repeat(count, 1, bias * FOUR, step)
        lowest = c.splat(floor)
        for turn in range(FOUR):
            for block in range(blocks):
                place = b.add(b.add(out_at, b.mul(wide, c.index(turn))), c.index(LANES * block))
                c.store(c.at_least(sums[turn * blocks + block], lowest), memory, place, align=64)

    body.__name__ = f"dense_four_{blocks}"
    return _intrinsic(types.void)(body)


dense_four_4, dense_four_2, dense_four_1 = _dense_four(4), _dense_four(2), _dense_four(1)


def _fold(c: Code, one: Value, other: Value) -> Value:
    """Return the sums of neighbouring lanes of both, side by side."""
    return c.b.fadd(c.shuffle(one, other, range(0, 32, 2)), c.shuffle(one, other, range(1, 32, 2)))


@_intrinsic(types.void)
def dense_quads(
    c: Code,
    memory: Value,
    at: Value,
    vectors: Value,
    weights: Value,
    kernel_at: Value,
    bias_at: Value,
    out_at: Value,
) -> None:
    """Write 4 outputs of a narrow layer: weights hold those of output 0, then those of output 1, 2, 3."""
    b = c.b

    def body(i: Value, sums: list[Value]) -> list[Value]:
        item = b.mul(i, c.index(LANES))
        inputs = c.load(F16, memory, b.add(at, item), align=64)
        made = []
        for turn, total in enumerate(sums):
            row = b.add(kernel_at, b.mul(vectors, c.index(LANES * turn)))
            made.append(c.fma(inputs, c.load(F16, weights, b.add(row, item), align=64), total))
        return made

    sums = c.repeat(vectors, 1, [c.number(0.0)] * 4, body)
    # add up the lanes of four vectors at once: halve and join twice, then add the quarters
    halves = [_fold(c, one, two) for one, two in (sums[:2], sums[2:])]
    pairs = _fold(c, halves[0], halves[1])  # four lanes of each output, one after the other
    parts = [c.shuffle(pairs, pairs, [output * 4 + part for output in range(4)]) for part in range(4)]
    result = b.fadd(b.fadd(parts[0], parts[1]), b.fadd(parts[2], parts[3]))
    c.store(b.fadd(result, c.load(F4, weights, bias_at, align=16)), memory, out_at)


@_intrinsic(types.void)
def drop(c: Code, memory: Value, at: Value, vectors: Value, bits_at: Value, scale: Value) -> None:
    """Multiply x by `scale` where it is kept and by 0 where it is dropped, so that NaN and infinity stay visible."""
    b = c.b
    factor, zero = c.splat(scale), c.number(0.0)

    def body(i: Value, _: list[Value]) -> list[Value]:
        item = b.add(at, b.mul(i, c.index(LANES)))
        value = c.load(F16, memory, item, align=64)
        c.store(b.fmul(value, b.select(c.mask(memory, bits_at, i), zero, factor)), memory, item, align=64)
        return []

    c.repeat(vectors, 1, [], body)


def _by_column(name: str, formula: Callable[[Code, Value, Value, Value], Value]) -> Any:
    """Return an intrinsic that applies the formula to x in place with two constants per column."""

    def body(c: Code, memory: Value, at: Value, vectors: Value, weights: Value, one_at: Value, two_at: Value) -> None:
        def step(i: Value, _: list[Value]) -> list[Value]:
            ahead = c.b.mul(i, c.index(LANES))
            item = c.b.add(at, ahead)
            one, two = (c.load(F16, weights, c.b.add(begin, ahead), align=64) for begin in (one_at, two_at))
            c.store(formula(c, c.load(F16, memory, item, align=64), one, two), memory, item, align=64)
            return []

        c.repeat(vectors, 1, [], step)

    body.__name__ = name
    return _intrinsic(types.void)(body)


affine = _by_column("affine", lambda c, x, shift, spread: c.b.fdiv(c.b.fsub(x, shift), spread))
rescale = _by_column("rescale", lambda c, x, scale, offset: c.b.fadd(c.b.fmul(x, scale), offset))


def _elementwise(name: str, formula: Callable[[Code, Value, Value], Value]) -> Any:
    """Return an intrinsic (memory, at, width, alpha) that applies the formula in place and keeps padded lanes zero."""

    def body(c: Code, memory: Value, at: Value, width: Value, alpha: Value) -> None:
        b = c.b
        parameter = c.splat(alpha)

        def step(i: Value, _: list[Value]) -> list[Value]:
            result = formula(c, c.load(F16, memory, b.add(at, i), align=64), parameter)
            left = c.splat(b.trunc(b.sub(width, i), I32))
            real = b.icmp_signed("<", ir.Constant(I32X16, list(range(LANES))), left)
            c.store(b.select(real, result, c.number(0.0)), memory, b.add(at, i), align=64)
            return []

        c.repeat(width, LANES, [], step)

    body.__name__ = name
    return _intrinsic(types.void)(body)


relu = _elementwise("relu", formulas.relu)
relu6 = _elementwise("relu6", formulas.relu6)
tanh = _elementwise("tanh", formulas.tanh)
sigmoid = _elementwise("sigmoid", formulas.sigmoid)
silu = _elementwise("silu", formulas.silu)
softsign = _elementwise("softsign", formulas.softsign)
exponential = _elementwise("exponential", formulas.exponential)
elu = _elementwise("elu", formulas.elu)
leaky_relu = _elementwise("leaky_relu", formulas.leaky_relu)
scale_by = _elementwise("scale_by", formulas.scale_by)


@_intrinsic(types.int64)
def settle_four(
    c: Code,
    memory: Value,
    history: Value,
    stride: Value,
    known: Value,
    sums: Value,
    previous: Value,
    means: Value,
    deviations: Value,
    delta: Value,
) -> Value:
    """Return 16 bits, 4 for each of passes known + 1 ... known + 4: |deviation before - deviation| <= delta, by value.

    `history` is where the passes lie, `stride` items apart, of which 4 values are looked at; `sums` and `previous`
    carry their running sum and last deviation from four passes to the next. Means and deviations of the four prefixes
    are written `stride` items apart. All is added in the order of the passes, in float32, as NumPy does along axis 0.
    """
    b = c.b
    fresh = [c.load(F4, memory, b.add(history, b.mul(b.add(known, c.index(turn)), stride))) for turn in range(FOUR)]
    total = c.load(F4, memory, sums)
    totals = []
    for values in fresh:
        total = b.fadd(total, values)
        totals.append(total)
    steps = ir.Constant(F16, [1.0 + lane // 4 for lane in range(LANES)])
    sizes = b.fadd(c.splat(b.sitofp(known, FLOAT)), steps)
    mean = b.fdiv(c.join(totals), sizes)

    def squared(values: Value) -> Value:
        away = b.fsub(c.four_times(values), mean)
        return b.fmul(away, away)

    def body(i: Value, carried: list[Value]) -> list[Value]:
        return [b.fadd(carried[0], squared(c.load(F4, memory, b.add(history, b.mul(i, stride)))))]

    (squares,) = c.repeat(known, 1, [c.number(0.0)], body)
    for turn, values in enumerate(fresh):
        counts = ir.Constant(MASK, [lane // 4 >= turn for lane in range(LANES)])
        squares = b.fadd(squares, b.select(counts, squared(values), c.number(0.0)))
    deviation = c.call("llvm.sqrt.v16f32", F16, [b.fdiv(squares, sizes)])
    before = c.load(F4, memory, previous)
    shifted = c.join([before, *(c.quad(deviation, turn) for turn in range(3))])
    change = c.call("llvm.fabs.v16f32", F16, [b.fsub(shifted, deviation)])
    small = b.fcmp_ordered("<=", change, c.splat(delta))
    for turn in range(FOUR):
        ahead = b.mul(c.index(turn), stride)
        c.store(c.quad(mean, turn), memory, b.add(means, ahead))
        c.store(c.quad(deviation, turn), memory, b.add(deviations, ahead))
    c.store(totals[3], memory, sums)
    c.store(c.quad(deviation, 3), memory, previous)
    return b.zext(b.bitcast(small, I16), I64)

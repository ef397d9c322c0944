"""Activations of 16 float32 at a time, right to less than 2 units in the last place; NaN stays NaN."""

from __future__ import annotations

from llvmlite import ir

from uqueue_worker.models.fused.plan import LANES
from uqueue_worker.models.fused.vector_code import F16, I32X16, Code, Value

_LOG2_E = 1.4426950408889634
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4  # their sum is ln 2, the first exact in few bits (Cephes expf)
_ROUNDER, _ROUNDER_BITS = 1.5 * 2.0**23, 0x4B400000  # adding it leaves the nearest integer in the low bits
_EXPM1 = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)


def _split_exponential(c: Code, x: Value) -> tuple[Value, Value]:
    """Return (n, expm1(r)) with x = n ln 2 + r, n int32, |r| <= ln 2 / 2 (Cephes expf, Moshier)."""
    b = c.b
    shifted = c.fma(x, c.number(_LOG2_E), c.number(_ROUNDER))
    n = b.fsub(shifted, c.number(_ROUNDER))
    r = c.fma(n, c.number(-_LN2_LOW), c.fma(n, c.number(-_LN2_HIGH), x))
    rest = c.fma(c.polynomial(r, _EXPM1), b.fmul(r, r), r)
    return b.sub(b.bitcast(shifted, I32X16), ir.Constant(I32X16, [_ROUNDER_BITS] * LANES)), rest


def _power_of_two(c: Code, n: Value) -> Value:
    """Return 2**n for n in -126 .. 127."""
    biased = c.b.add(n, ir.Constant(I32X16, [127] * LANES))
    return c.b.bitcast(c.b.shl(biased, ir.Constant(I32X16, [23] * LANES)), F16)


def _exp(c: Code, x: Value) -> Value:
    """Return exp(x), by two factors so that it overflows and underflows as it should."""
    b = c.b
    n, rest = _split_exponential(c, c.at_most(c.at_least(x, c.number(-110.0)), c.number(90.0)))
    half = b.ashr(n, ir.Constant(I32X16, [1] * LANES))
    value = b.fmul(b.fadd(rest, c.number(1.0)), _power_of_two(c, half))
    return b.fmul(value, _power_of_two(c, b.sub(n, half)))


def _expm1(c: Code, x: Value) -> Value:
    """Return exp(x) - 1 for x <= 0."""
    n, rest = _split_exponential(c, c.at_least(x, c.number(-80.0)))
    power = _power_of_two(c, n)
    return c.fma(power, rest, c.b.fsub(power, c.number(1.0)))


def tanh(c: Code, x: Value, alpha: Value) -> Value:
    """Return tanh(x) (Cephes tanhf): a polynomial below 0.625, else 1 - 2 / (exp(2 |x|) + 1)."""
    b = c.b
    size = c.call("llvm.fabs.v16f32", F16, [x])
    square = b.fmul(x, x)
    small = c.fma(b.fmul(c.polynomial(square, _TANH), square), x, x)
    n, rest = _split_exponential(c, c.at_most(b.fadd(size, size), c.number(30.0)))
    power = _power_of_two(c, n)
    quotient = b.fdiv(c.number(2.0), b.fadd(c.fma(power, rest, power), c.number(1.0)))
    large = c.call("llvm.copysign.v16f32", F16, [b.fsub(c.number(1.0), quotient), x])
    return b.select(b.fcmp_unordered("<", size, c.number(0.625)), small, large)


def sigmoid(c: Code, x: Value, alpha: Value) -> Value:
    decay = _exp(c, c.b.fneg(x))
    return c.b.fdiv(c.number(1.0), c.b.fadd(decay, c.number(1.0)))


def elu(c: Code, x: Value, alpha: Value) -> Value:
    below = c.b.fmul(alpha, _expm1(c, c.at_most(x, c.number(0.0))))
    return c.b.select(c.b.fcmp_ordered(">", x, c.number(0.0)), x, below)


def leaky_relu(c: Code, x: Value, alpha: Value) -> Value:
    return c.b.select(c.b.fcmp_ordered(">", x, c.number(0.0)), x, c.b.fmul(alpha, x))


def softsign(c: Code, x: Value, alpha: Value) -> Value:
    size = c.call("llvm.fabs.v16f32", F16, [x])
    return c.b.fdiv(x, c.b.fadd(c.number(1.0), size))


def relu(c: Code, x: Value, alpha: Value) -> Value:
    return c.at_least(x, c.number(0.0))


def relu6(c: Code, x: Value, alpha: Value) -> Value:
    return c.at_most(c.at_least(x, c.number(0.0)), c.number(6.0))


def silu(c: Code, x: Value, alpha: Value) -> Value:
    return c.b.fmul(x, sigmoid(c, x, alpha))


def exponential(c: Code, x: Value, alpha: Value) -> Value:
    return _exp(c, x)


def scale_by(c: Code, x: Value, alpha: Value) -> Value:
    return c.b.fmul(x, alpha)

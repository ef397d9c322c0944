"""What llvmlite's builder is told in a few words: vectors of 16 float32 at addresses in memory.

No instruction of a certain processor is named: LLVM lowers the vectors to AVX-512, AVX2 or SSE2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from uqueue_worker.models.fused.plan import LANES

I1, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 16, 32, 64))
FLOAT = ir.FloatType()
F4, F16 = ir.VectorType(FLOAT, 4), ir.VectorType(FLOAT, LANES)
I32X16, I64X8, MASK = ir.VectorType(I32, LANES), ir.VectorType(I64, 8), ir.VectorType(I1, LANES)

Value = Any  # an llvmlite value


class Code:
    """llvmlite's builder with the few words that this file needs. Addresses are i64, positions count 4-byte items."""

    def __init__(self, builder: Any) -> None:
        self.b = builder

    def index(self, number: int) -> Value:
        return ir.Constant(I64, number)

    def address(self, base: Value, item: Value, size: int = 4) -> Value:
        return self.b.add(base, self.b.mul(item, self.index(size)))

    def load(self, kind: Any, base: Value, item: Value, *, size: int = 4, align: int = 4) -> Value:
        return self.b.load(self.b.inttoptr(self.address(base, item, size), kind.as_pointer()), align=align)

    def store(self, value: Value, base: Value, item: Value, *, align: int = 4) -> None:
        self.b.store(value, self.b.inttoptr(self.address(base, item), value.type.as_pointer()), align=align)

    def call(self, name: str, result: Any, arguments: Sequence[Value]) -> Value:
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        declared = self.b.module.globals.get(name) or ir.Function(self.b.module, kind, name)
        return self.b.call(declared, arguments)

    def splat(self, value: Value, lanes: int = LANES) -> Value:
        """Return a vector that holds the scalar in every lane."""
        kind = ir.VectorType(value.type, lanes)
        first = self.b.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(I32, 0))
        return self.shuffle(first, first, [0] * lanes)

    def number(self, value: float) -> Value:
        return ir.Constant(F16, [value] * LANES)

    def shuffle(self, one: Value, other: Value, order: Sequence[int]) -> Value:
        return self.b.shuffle_vector(one, other, ir.Constant(ir.VectorType(I32, len(order)), list(order)))

    def four_times(self, quad: Value) -> Value:
        """Return 16 lanes that hold the 4 lanes four times."""
        return self.shuffle(quad, quad, [0, 1, 2, 3] * 4)

    def join(self, quads: Sequence[Value]) -> Value:
        """Return 16 lanes from four vectors of 4."""
        low, high = (self.shuffle(a, b, range(8)) for a, b in (quads[:2], quads[2:]))
        return self.shuffle(low, high, range(16))

    def quad(self, vector: Value, which: int) -> Value:
        return self.shuffle(vector, vector, range(4 * which, 4 * which + 4))

    def mask(self, memory: Value, bits_at: Value, vector: Value) -> Value:
        """Return the 16 bits of a vector from those that begin at item `bits_at`."""
        return self.b.bitcast(self.load(I16, self.address(memory, bits_at), vector, size=2, align=2), MASK)

    def compress(self, items: Value, chosen: Value) -> Value:
        """Return the chosen 32-bit integers at the front; what follows them is undefined.

        With floats and a value for the rest, LLVM 22 aborts the process where there is no AVX-512.
        """
        rest = ir.Constant(I32X16, ir.Undefined)
        return self.call("llvm.experimental.vector.compress.v16i32", I32X16, [items, chosen, rest])

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        return self.call("llvm.fmuladd.v16f32", F16, [a, b, c])

    def polynomial(self, x: Value, coefficients: Sequence[float]) -> Value:
        """Return the polynomial by Horner's rule, the highest power first."""
        result = self.number(coefficients[0])
        for coefficient in coefficients[1:]:
            result = self.fma(result, x, self.number(coefficient))
        return result

    def at_least(self, x: Value, floor: Value) -> Value:
        """Return max(x, floor), NaN where x is NaN."""
        return self.b.select(self.b.fcmp_ordered("<", x, floor), floor, x)

    def at_most(self, x: Value, ceiling: Value) -> Value:
        return self.b.select(self.b.fcmp_ordered(">", x, ceiling), ceiling, x)

    def repeat(
        self, count: Value, step: int, carried: Sequence[Value], body: Callable[[Value, list[Value]], Sequence[Value]]
    ) -> list[Value]:
        """Emit `for i in range(0, count, step): carried = body(i, carried)`; return what is carried out."""
        b = self.b
        before = b.block
        head, inner, after = (b.append_basic_block(name) for name in ("head", "inner", "after"))
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(I64)
        phis = [b.phi(value.type) for value in carried]
        b.cbranch(b.icmp_signed("<", i, count), inner, after)
        b.position_at_end(inner)
        results = body(i, phis)
        following = b.add(i, self.index(step))
        last = b.block
        b.branch(head)
        i.add_incoming(self.index(0), before)
        i.add_incoming(following, last)
        for phi, start, result in zip(phis, carried, results, strict=True):
            phi.add_incoming(start, before)
            phi.add_incoming(result, last)
        b.position_at_end(after)
        return phis

"""The output convention: two quantile heads, lower first (specs: index 0 lower, index 1 upper)."""

from __future__ import annotations

from collections.abc import Sequence

from uqueue_config.errors import ModelInvalid

_EXPECTED = "expected two heads (lower and upper quantile), one output of (rows, 2), or one of (rows, 2, targets)"


def count_targets(shapes: Sequence[tuple[int, ...]], *, file: str) -> int:
    """Return the number of targets of a model whose outputs, without the rows, have these shapes.

    Raises ModelInvalid saying what there is instead of two heads of equal width.
    """
    found = _describe(shapes)
    if len(shapes) == 1:
        shape = shapes[0]
        if shape == (2,):
            return 1
        if len(shape) == 2 and shape[0] == 2 and shape[1] >= 1:
            return shape[1]
    elif len(shapes) == 2 and all(len(shape) == 1 for shape in shapes):
        if shapes[0] == shapes[1] and shapes[0][0] >= 1:
            return shapes[0][0]
        found = f"its two heads have {shapes[0][0]} and {shapes[1][0]} units"
    raise ModelInvalid(file=file, reason=f"{found}; {_EXPECTED}")


def _describe(shapes: Sequence[tuple[int, ...]]) -> str:
    if len(shapes) > 2:
        return f"the model has {len(shapes)} heads"
    if list(shapes) == [(1,)]:
        return "the model has one output unit, so it gives a point and no interval"
    if len(shapes) == 1 and len(shapes[0]) == 1:
        return f"the model has one head of {shapes[0][0]} units"
    return f"the model's outputs have the shapes {[('rows', *shape) for shape in shapes]}"

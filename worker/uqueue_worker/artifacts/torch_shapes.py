"""Operations along axes: they join, cut and rearrange the values of a row, and never touch the axis of the rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from uqueue_worker.artifacts.torch_program import ProgramBuilder, Row, Shape

MOST_PARTS: Final = 256


class RowCount:
    """The number of rows, which `size` gives and only `reshape` takes."""

    def __repr__(self) -> str:
        return "(the number of rows)"


ROWS: Final = RowCount()


def _axis(b: ProgramBuilder, op: str, dim: Any, axes: int) -> int:
    """Return the axis counted from the front, the rows being axis 0, which no operation may touch."""
    if type(dim) is not int or not -axes <= dim < axes or dim % axes == 0:
        raise b.invalid(
            f"its operation {op} works along axis {dim!r:.20} of {axes}, which would mix rows or is not there"
        )
    return dim % axes


def along(name: str) -> Callable[..., Row]:
    """An operation along one axis that keeps the shape."""

    def operation(b: ProgramBuilder, input: Any, dim: Any, dtype: Any = None) -> Row:
        row = b.row(input, name)
        if dtype not in (None, 6):
            raise b.invalid(f"its operation {name} computes in another type than float32")
        shape = b.known_shape(row)
        return b.emit(name, (row, _axis(b, name, dim, len(shape) + 1)), shape)

    return operation


def _rows(b: ProgramBuilder, values: Any, op: str) -> tuple[list[Row], list[Shape]]:
    if not isinstance(values, list | tuple) or not 1 <= len(values) <= MOST_PARTS:
        raise b.invalid(f"its operation {op} joins something that is not a list of values")
    rows = [b.row(value, op) for value in values]
    return rows, [b.known_shape(row) for row in rows]


def cat(b: ProgramBuilder, tensors: Any, dim: Any = 0) -> Row:
    rows, shapes = _rows(b, tensors, "cat")
    axis = _axis(b, "cat", dim, len(shapes[0]) + 1)
    others = {(*shape[: axis - 1], *shape[axis:]) for shape in shapes}
    if len(others) != 1 or len({len(shape) for shape in shapes}) != 1:
        raise b.invalid(f"its operation cat joins values of the shapes {shapes}"[:200])
    width = sum(shape[axis - 1] for shape in shapes)
    return b.emit("cat", (rows, axis), (*shapes[0][: axis - 1], width, *shapes[0][axis:]))


def stack(b: ProgramBuilder, tensors: Any, dim: Any = 0) -> Row:
    rows, shapes = _rows(b, tensors, "stack")
    if len(set(shapes)) != 1:
        raise b.invalid(f"its operation stack joins values of the shapes {shapes}"[:200])
    axis = _axis(b, "stack", dim, len(shapes[0]) + 2)
    shape = shapes[0]
    return b.emit("stack", (rows, axis), (*shape[: axis - 1], len(rows), *shape[axis - 1 :]))


def _view(b: ProgramBuilder, row: Row, op: str, arguments: tuple[Any, ...], shape: Shape) -> Row:
    """A value that may share the memory of another."""
    view = b.emit(op, (row, *arguments), shape)
    row.viewed = view.viewed = True
    return view


def narrow(b: ProgramBuilder, input: Any, dim: Any, start: Any, length: Any) -> Row:
    row = b.row(input, "narrow")
    shape = b.known_shape(row)
    axis = _axis(b, "narrow", dim, len(shape) + 1)
    size = shape[axis - 1]
    if type(start) is not int or type(length) is not int or not (start >= 0 and 1 <= length <= size - start):
        raise b.invalid(f"it cuts {length!r:.20} values at {start!r:.20} out of {size}")
    return _view(b, row, "narrow", (axis, start, length), (*shape[: axis - 1], length, *shape[axis:]))


def slice_(b: ProgramBuilder, input: Any, dim: Any = 0, start: Any = None, end: Any = None, step: Any = 1) -> Row:
    row = b.row(input, "slice")
    axes = len(b.shape(row)) + 1
    whole = start in (None, 0) and (end is None or (type(end) is int and end >= 1 << 62)) and step == 1
    if dim == 0 and whole:
        return row
    axis = _axis(b, "slice", dim, axes)
    if whole:
        return row
    if step != 1 or any(value is not None and type(value) is not int for value in (start, end)):
        raise b.invalid("it slices with a step or with something that is not a number")
    begin, stop, _ = slice(start, end).indices(b.known_shape(row)[axis - 1])
    return narrow(b, row, axis, begin, stop - begin)


def select(b: ProgramBuilder, input: Any, dim: Any, index: Any) -> Row:
    row = b.row(input, "select")
    shape = b.known_shape(row)
    axis = _axis(b, "select", dim, len(shape) + 1)
    size = shape[axis - 1]
    if type(index) is not int or not -size <= index < size:
        raise b.invalid(f"it selects value {index!r:.20} of {size}")
    return _view(b, row, "select", (axis, index % size), (*shape[: axis - 1], *shape[axis:]))


def split(b: ProgramBuilder, input: Any, split_size: Any, dim: Any = 0) -> list[Row]:
    row = b.row(input, "split")
    shape = b.known_shape(row)
    axis = _axis(b, "split", dim, len(shape) + 1)
    size = shape[axis - 1]
    if type(split_size) is int and split_size > 0 and size <= MOST_PARTS * split_size:
        sizes = [min(split_size, size - begin) for begin in range(0, size, split_size)]
    elif (
        isinstance(split_size, list) and len(split_size) <= MOST_PARTS and all(type(part) is int for part in split_size)
    ):
        sizes = split_size
    else:
        raise b.invalid("it splits into something that is not a few plain sizes")
    if sum(sizes) != size:
        raise b.invalid(f"it splits {size} values into {sizes}"[:200])
    return [narrow(b, row, axis, sum(sizes[:index]), length) for index, length in enumerate(sizes)]


def chunk(b: ProgramBuilder, input: Any, chunks: Any, dim: Any = 0) -> list[Row]:
    row = b.row(input, "chunk")
    shape = b.known_shape(row)
    axis = _axis(b, "chunk", dim, len(shape) + 1)
    if type(chunks) is not int or not 1 <= chunks <= MOST_PARTS:
        raise b.invalid("it splits into something that is not a few parts")
    return split(b, row, -(-shape[axis - 1] // chunks), axis)


def unsqueeze(b: ProgramBuilder, input: Any, dim: Any) -> Any:
    if isinstance(input, np.ndarray) and type(dim) is int and -input.ndim <= dim + 1 <= input.ndim + 1:
        return np.expand_dims(input, dim)
    row = b.row(input, "unsqueeze")
    shape = b.known_shape(row)
    axis = _axis(b, "unsqueeze", dim, len(shape) + 2)
    return _view(b, row, "unsqueeze", (axis,), (*shape[: axis - 1], 1, *shape[axis - 1 :]))


def squeeze(b: ProgramBuilder, input: Any, dim: Any) -> Row:
    row = b.row(input, "squeeze")
    shape = b.known_shape(row)
    axis = _axis(b, "squeeze", dim, len(shape) + 1)
    if shape[axis - 1] != 1:
        return row
    return _view(b, row, "squeeze", (axis,), (*shape[: axis - 1], *shape[axis:]))


def transpose(b: ProgramBuilder, input: Any, dim0: Any, dim1: Any) -> Any:
    if isinstance(input, np.ndarray) and input.ndim == 2 and sorted((dim0, dim1)) in ([0, 1], [-2, -1], [-1, 0]):
        return input.T
    row = b.row(input, "transpose")
    shape = list(b.known_shape(row))
    first, second = (_axis(b, "transpose", dim, len(shape) + 1) for dim in (dim0, dim1))
    shape[first - 1], shape[second - 1] = shape[second - 1], shape[first - 1]
    return _view(b, row, "transpose", (first, second), tuple(shape))


def reshape(b: ProgramBuilder, input: Any, shape: Any) -> Any:
    """Rows stay rows: the first size must be the number of rows, or -1 where the others leave no choice."""
    if not isinstance(shape, list) or not 1 <= len(shape) <= 5:
        raise b.invalid("its operation reshape takes something that is not a few sizes")
    if any(type(size) is not int for size in shape[1:]) or (type(shape[0]) is not int and shape[0] is not ROWS):
        raise b.invalid("its operation reshape takes sizes that are not known")
    sizes = [int(size) for size in shape[1:]]
    if isinstance(input, np.ndarray):
        known = math.prod(size for size in [shape[0], *sizes] if type(size) is int and size > 0)
        if ROWS in shape or known > input.size:
            raise b.invalid("its operation reshape takes sizes that do not fit")
        try:
            return input.reshape(shape)
        except ValueError:
            raise b.invalid("its operation reshape takes sizes that do not fit") from None
    row = b.row(input, "reshape")
    values = math.prod(b.known_shape(row))
    if -1 in sizes and shape[0] is ROWS and sizes.count(-1) == 1:
        rest = -math.prod(sizes)
        sizes[sizes.index(-1)] = values // rest if rest > 0 else 0
    if (shape[0] is not ROWS and shape[0] != -1) or any(size < 1 for size in sizes) or math.prod(sizes) != values:
        given = ", ".join(str(size) for size in shape)
        raise b.invalid(f"it reshapes rows of {values} values to ({given}), which does not keep the rows")
    return _view(b, row, "reshape", (tuple(sizes),), tuple(sizes))


def flatten(b: ProgramBuilder, input: Any, start_dim: Any = 0, end_dim: Any = -1) -> Row:
    row = b.row(input, "flatten")
    shape = b.known_shape(row)
    if start_dim != 1 or end_dim not in (-1, len(shape)):
        raise b.invalid("its operation flatten does not keep the rows")
    return reshape(b, row, [ROWS, -1])  # type: ignore[no-any-return]


def unflatten(b: ProgramBuilder, input: Any, dim: Any, sizes: Any) -> Row:
    row = b.row(input, "unflatten")
    shape = b.known_shape(row)
    axis = _axis(b, "unflatten", dim, len(shape) + 1)
    if not isinstance(sizes, list | tuple):
        raise b.invalid("its operation unflatten takes something that is not a few sizes")
    return reshape(b, row, [ROWS, *shape[: axis - 1], *sizes, *shape[axis:]])  # type: ignore[no-any-return]


def size(b: ProgramBuilder, input: Any, dim: Any = None) -> Any:
    sizes: list[Any] = (
        list(input.shape) if isinstance(input, np.ndarray) else [ROWS, *b.known_shape(b.row(input, "size"))]
    )
    if dim is None:
        return sizes
    if type(dim) is not int or not -len(sizes) <= dim < len(sizes):
        raise b.invalid(f"it asks for the size of axis {dim!r:.20} of {len(sizes)}")
    return sizes[dim]


def dim(b: ProgramBuilder, input: Any) -> int:
    return input.ndim if isinstance(input, np.ndarray) else 1 + len(b.shape(b.row(input, "dim")))

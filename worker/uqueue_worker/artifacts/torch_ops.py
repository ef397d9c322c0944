"""The operations of PyTorch that a model may use, each as what it adds to a `ProgramBuilder`.

A value is a Row (it depends on the features), a NumPy array (it depends on weights alone, and is computed here), a
number, text, None, or a list. Everything that is not in OPERATIONS is refused by its name; nothing is looked up in
torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from uqueue_worker.artifacts import torch_shapes
from uqueue_worker.artifacts.torch_program import UNKNOWN, ProgramBuilder, Row, Shape

Operation = Callable[..., Any]


_REQUIRED = inspect.Parameter.empty
# Operations on each value by itself, with their settings in PyTorch's order and its defaults.
_PLAIN: Final = (
    "relu relu6 tanh sigmoid silu mish selu exp log log1p abs neg sqrt rsqrt square reciprocal erf log_sigmoid "
    "hardsigmoid hardswish softsign"
)
_ELEMENTWISE: Final[Mapping[str, Mapping[str, Any]]] = {
    **{name: {} for name in _PLAIN.split()},
    "celu": {"alpha": 1.0},
    "clamp": {"min": None, "max": None},
    "clamp_max": {"max": _REQUIRED},
    "clamp_min": {"min": _REQUIRED},
    "elu": {"alpha": 1.0, "scale": 1.0, "input_scale": 1.0},
    "gelu": {"approximate": "none"},
    "hardtanh": {"min_val": -1.0, "max_val": 1.0},
    "leaky_relu": {"negative_slope": 0.01},
    "pow": {"exponent": _REQUIRED},
    "softplus": {"beta": 1.0, "threshold": 20.0},
}
_BINARY: Final[Mapping[str, Callable[..., Any]]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
}
_FOLDED: Final[Mapping[str, Callable[..., Any]]] = {
    "abs": np.abs,
    "clamp": lambda x, low, high: np.clip(x, low, high) if (low, high) != (None, None) else x,
    "clamp_max": np.minimum,
    "clamp_min": np.maximum,
    "exp": np.exp,
    "log": np.log,
    "neg": np.negative,
    "pow": np.power,
    "reciprocal": np.reciprocal,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sqrt": np.sqrt,
    "square": np.square,
}


def is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _constant(b: ProgramBuilder, value: Any, op: str, *shapes: Shape) -> Any:
    """Return an array that has one of these shapes."""
    if not isinstance(value, np.ndarray) or value.shape not in shapes:
        found = f"an array of shape {value.shape}" if isinstance(value, np.ndarray) else "something else"
        raise b.invalid(f"its operation {op} takes weights of shape {' or '.join(map(str, shapes))}, got {found}")
    return value


def _folding(b: ProgramBuilder, shape: Shape, function: Callable[[], Any]) -> Any:
    """Return the float32 array of this shape that the function computes from weights."""
    b.fold(shape)
    with np.errstate(all="ignore"):
        return np.asarray(function(), np.float32)


def _elementwise(name: str, settings: Mapping[str, Any]) -> Operation:
    def operation(b: ProgramBuilder, input: Any, *given: Any) -> Any:
        if any(value is not None and type(value) not in (int, float, str) for value in given):
            raise b.invalid(f"the settings of its operation {name} are not plain numbers")
        if isinstance(input, np.ndarray) and name in _FOLDED:
            return _folding(b, input.shape, lambda: _FOLDED[name](input, *given))
        row = b.row(input, name)
        return b.emit(name, (row, *given), b.shape(row))

    names = list(settings)

    def bound(b: ProgramBuilder, input: Any, *args: Any, **kwargs: Any) -> Any:
        if len(args) > len(names) or set(kwargs) - set(names[len(args) :]):
            raise TypeError("other arguments")
        values = {**settings, **dict(zip(names, args, strict=False)), **kwargs}
        if any(value is _REQUIRED for value in values.values()):
            raise TypeError("a missing argument")
        return operation(b, input, *values.values())

    return bound


def _broadcast(b: ProgramBuilder, op: str, row: Row, other: Any) -> Shape:
    """Return the shape of one row with a number, weights or another row; rows never meet."""
    shape = b.shape(row)
    if is_number(other):
        return shape
    if isinstance(other, Row):
        with_shape = b.shape(other)
        if len(with_shape) != len(shape):
            raise b.invalid(f"its operation {op} joins values of {len(shape)} and {len(with_shape)} axes")
    elif isinstance(other, np.ndarray) and (other.ndim <= len(shape) or other.shape[: -len(shape)] == (1,)):
        with_shape = other.shape[-len(shape) :]
    else:
        raise b.invalid(f"its operation {op} joins values of shape {shape} with something that is not one per column")
    if shape == (UNKNOWN,) and with_shape not in ((UNKNOWN,), (1,), ()):
        b.last_size(row, with_shape[-1])
        shape = b.shape(row)
    if with_shape == (UNKNOWN,):
        b.last_size(other, shape[-1])
        with_shape = b.shape(other)
    if shape == with_shape:
        return shape
    try:
        return np.broadcast_shapes(shape, with_shape)
    except ValueError:
        raise b.invalid(f"its operation {op} joins values of the shapes {shape} and {with_shape}") from None


def _binary(name: str) -> Operation:
    def operation(b: ProgramBuilder, input: Any, other: Any, *, alpha: Any = 1) -> Any:
        if not is_number(alpha) or (alpha != 1 and not is_number(other)):
            raise b.invalid(f"its operation {name} has an alpha")
        if alpha != 1:
            other *= alpha
        for value in (input, other):
            if not isinstance(value, Row | np.ndarray) and not is_number(value):
                raise b.invalid(f"its operation {name} joins something that is not numbers")
        if isinstance(input, Row):
            return b.emit(name, (input, other), _broadcast(b, name, input, other))
        if isinstance(other, Row):
            return b.emit(name, (input, other), _broadcast(b, name, other, input))
        try:
            shape = np.broadcast_shapes(np.shape(input), np.shape(other))
        except ValueError:
            raise b.invalid(f"its operation {name} joins weights of different shapes") from None
        return _folding(b, shape, lambda: _BINARY[name](input, other))

    return operation


_subtract = _binary("sub")


def rsub(b: ProgramBuilder, input: Any, other: Any, alpha: Any = 1) -> Any:
    if alpha != 1:
        raise b.invalid("its operation rsub has an alpha")
    return _subtract(b, other, input)


def linear(b: ProgramBuilder, input: Any, weight: Any, bias: Any = None) -> Row:
    row = b.row(input, "linear")
    if not isinstance(weight, np.ndarray) or weight.ndim != 2:
        raise b.invalid("its operation linear takes a matrix of weights")
    units, width = weight.shape
    b.last_size(row, width)
    if bias is not None:
        _constant(b, bias, "linear", (units,))
    return b.emit("linear", (row, weight, bias), (*b.shape(row)[:-1], units))


def matmul(b: ProgramBuilder, input: Any, other: Any) -> Any:
    if not isinstance(other, np.ndarray) or other.ndim != 2:
        raise b.invalid("its operation matmul multiplies with something that is not a matrix of weights")
    return linear(b, input, other.T)


def addmm(b: ProgramBuilder, input: Any, mat1: Any, mat2: Any, *, beta: Any = 1, alpha: Any = 1) -> Any:
    if beta != 1 or alpha != 1 or not isinstance(mat2, np.ndarray) or mat2.ndim != 2:
        raise b.invalid("its operation addmm is not a linear layer")
    return linear(b, mat1, mat2.T, input)


def t(b: ProgramBuilder, input: Any) -> Any:
    if not isinstance(input, np.ndarray) or input.ndim > 2:
        raise b.invalid("its operation t is applied to something that is not a matrix of weights")
    return input.T


def dropout(b: ProgramBuilder, input: Any, p: Any, train: Any) -> Row:
    """A dropout layer whose `train` is true in evaluation mode is always on."""
    row = b.row(input, "dropout")
    if not is_number(p) or not 0 <= p < 1:
        raise b.invalid(f"a dropout layer drops the share {p!r:.40}, expected a number in [0, 1)")
    b.known_shape(row)
    return b.emit("dropout", (row, float(p), bool(train)), b.shape(row))


def batch_norm(
    b: ProgramBuilder,
    input: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: Any,
    momentum: Any,
    eps: Any,
    cudnn_enabled: Any = False,
) -> Row:
    row = b.row(input, "batch_norm")
    if training or running_mean is None or running_var is None:
        raise b.invalid("a batch normalization takes its statistics from the rows of a request")
    width = (np.size(running_mean),)
    mean = _constant(b, running_mean, "batch_norm", width)
    b.last_size(row, width[0])
    if len(b.shape(row)) != 1 or not is_number(eps):
        raise b.invalid("a batch normalization of more than one value per channel")
    variance = _constant(b, running_var, "batch_norm", width)
    spread = _folding(b, width, lambda: np.sqrt(variance + np.float32(eps)))
    row = b.emit("div", (b.emit("sub", (row, mean), width), spread), width)
    if weight is not None:
        row = b.emit("mul", (row, _constant(b, weight, "batch_norm", width)), width)
    if bias is not None:
        row = b.emit("add", (row, _constant(b, bias, "batch_norm", width)), width)
    return row


def layer_norm(
    b: ProgramBuilder,
    input: Any,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: Any = 1e-5,
    cudnn_enable: Any = True,
) -> Row:
    row = b.row(input, "layer_norm")
    if not isinstance(normalized_shape, list | tuple) or len(normalized_shape) != 1 or not is_number(eps):
        raise b.invalid("a layer normalization over more than the last axis")
    size = normalized_shape[0]
    b.last_size(row, size if type(size) is int else 0)
    weights = [None if value is None else _constant(b, value, "layer_norm", (size,)) for value in (weight, bias)]
    return b.emit("layer_norm", (row, (size,), *weights, float(eps)), b.shape(row))


def prelu(b: ProgramBuilder, input: Any, weight: Any) -> Row:
    row = b.row(input, "prelu")
    _constant(b, weight, "prelu", (1,), b.known_shape(row)[:1])
    return b.emit("prelu", (row, weight), b.shape(row))


def same(b: ProgramBuilder, input: Any, *_: Any, **__: Any) -> Any:
    """What changes nothing here: detach, contiguous."""
    if not isinstance(input, Row | np.ndarray):
        raise b.invalid("it treats something as values that is none")
    return input


def clone(b: ProgramBuilder, input: Any, *, memory_format: Any = None) -> Any:
    return Row(input.step) if isinstance(input, Row) else same(b, input)


def to(b: ProgramBuilder, input: Any, *args: Any, **kwargs: Any) -> Any:
    kinds = [value for value in (*args, *kwargs.values()) if type(value) is int and type(value) is not bool]
    if any(kind != 6 for kind in kinds):
        raise b.invalid("it computes in another type than float32")
    return same(b, input)


def _in_place(name: str, operation: Operation) -> Operation:
    """The form that overwrites its input, which every name of that value then sees."""

    def overwrite(b: ProgramBuilder, input: Any, *args: Any, **kwargs: Any) -> Any:
        row = b.row(input, name)
        if row.viewed:
            raise b.invalid(f"its operation {name} overwrites a value that others share")
        before = b.shape(row)
        made = operation(b, row, *args, **kwargs)
        if b.shape(made) != b.shape(row) and UNKNOWN not in before:
            raise b.invalid(f"its operation {name} changes the shape of what it overwrites")
        row.step = made.step
        return row

    return overwrite


def _table() -> dict[str, Operation]:
    elementwise = {name: _elementwise(name, settings) for name, settings in _ELEMENTWISE.items()}
    changing = {**elementwise, **{name: _binary(name) for name in _BINARY}, "dropout": dropout}
    return {
        **changing,
        **{f"{name}_": _in_place(f"{name}_", operation) for name, operation in changing.items()},
        **{name: torch_shapes.along(name) for name in ("softmax", "log_softmax", "cumsum")},
        "addmm": addmm,
        "batch_norm": batch_norm,
        "cat": torch_shapes.cat,
        "chunk": torch_shapes.chunk,
        "clone": clone,
        "concat": torch_shapes.cat,
        "contiguous": same,
        "detach": same,
        "dim": torch_shapes.dim,
        "divide": changing["div"],
        "flatten": torch_shapes.flatten,
        "layer_norm": layer_norm,
        "linear": linear,
        "matmul": matmul,
        "mm": matmul,
        "multiply": changing["mul"],
        "narrow": torch_shapes.narrow,
        "prelu": prelu,
        "reshape": torch_shapes.reshape,
        "rsub": rsub,
        "select": torch_shapes.select,
        "size": torch_shapes.size,
        "slice": torch_shapes.slice_,
        "split": torch_shapes.split,
        "split_with_sizes": torch_shapes.split,
        "squeeze": torch_shapes.squeeze,
        "stack": torch_shapes.stack,
        "subtract": changing["sub"],
        "t": t,
        "to": to,
        "transpose": torch_shapes.transpose,
        "unflatten": torch_shapes.unflatten,
        "unsqueeze": torch_shapes.unsqueeze,
        "view": torch_shapes.reshape,
    }


OPERATIONS: Final[Mapping[str, Operation]] = _table()

"""A PyTorch model as a list of steps on a table of features, whatever it was read from.

Every step works on each row by itself: shapes here are those of one row, and nothing that would mix rows can be written
down. So a row's answer cannot depend on its neighbours, and the dropout masks of a row are its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from uqueue_config.errors import ModelInvalid

Shape = tuple[int, ...]
Float32 = NDArray[np.float32]

MAX_STEPS: Final = 4096
MAX_ROW_VALUES: Final = 1 << 20  # of one value, for one row
MAX_PROGRAM_VALUES: Final = 1 << 22  # of all steps together, for one row
MAX_PRODUCTS: Final = 1 << 28  # multiplications of one row in one pass; weights may be used many times
MAX_FOLDED_VALUES: Final = 1 << 24  # in sum, of what is computed from weights alone
UNKNOWN: Final = -1  # the width of the features, until something says it


@dataclass(frozen=True)
class Ref:
    """What the step at this position computed."""

    step: int


@dataclass(frozen=True, eq=False)
class Step:
    """One operation. Arguments are Ref, float32 arrays (the weights), numbers, text, None, and tuples of these.

    `op` is "features" (the first step, and only it), "dropout" (values, rate, always_on), or the name of an operation
    of PyTorch with its positional arguments; `shape` is what it gives per row.
    """

    op: str
    arguments: tuple[Any, ...] = field(repr=False)
    shape: Shape

    @property
    def sources(self) -> tuple[int, ...]:
        """The positions of the steps that it reads."""
        return tuple(_sources(self.arguments))


@dataclass(frozen=True, eq=False)
class Program:
    """Steps, each after what it reads, and the positions of those whose values are the model's outputs."""

    steps: tuple[Step, ...]
    n_features: int
    outputs: tuple[int, ...]

    @property
    def output_shapes(self) -> list[Shape]:
        return [self.steps[position].shape for position in self.outputs]


@dataclass(eq=False)
class Row:
    """A value that depends on the features. `viewed`: another value may share its memory."""

    step: int
    viewed: bool = False


class ProgramBuilder:
    """Collects steps and learns from them how many features there are."""

    def __init__(self, file: str, n_features: int | None = None) -> None:
        self.file = file
        self.n_features = UNKNOWN if n_features is None else n_features
        self.steps = [Step("features", (), (UNKNOWN,))]
        self.features = Row(0)
        self._folded = 0

    def invalid(self, reason: str) -> ModelInvalid:
        return ModelInvalid(file=self.file, reason=reason)

    def row(self, value: Any, op: str) -> Row:
        """Return the value if it depends on the features. Raises ModelInvalid if not."""
        if not isinstance(value, Row):
            raise self.invalid(f"its operation {op} is applied to something that does not depend on the features")
        return value

    def shape(self, row: Row) -> Shape:
        """Return the shape; UNKNOWN in it stands for the features, where their number is not known yet."""
        return tuple(self.n_features if size == UNKNOWN else size for size in self.steps[row.step].shape)

    def known_shape(self, row: Row) -> Shape:
        shape = self.shape(row)
        if UNKNOWN in shape:
            raise self.invalid("how many features it takes does not show before their number is needed")
        return shape

    def last_size(self, row: Row, expected: int) -> None:
        """Require that the last axis has this size; where that is the unknown number of features, it becomes known."""
        shape = self.shape(row)
        if shape and shape[-1] == UNKNOWN:
            if expected < 1:
                raise self.invalid("it takes no features")
            self.n_features = expected
        elif not shape or shape[-1] != expected:
            raise self.invalid(f"its shapes do not fit: {expected} columns are expected of values of shape {shape}")

    def emit(self, op: str, arguments: Sequence[Any], shape: Shape) -> Row:
        """Append a step and return its value."""
        known = [size for size in shape if size != UNKNOWN]
        if len(self.steps) >= MAX_STEPS or len(shape) > 4 or math.prod(known) > MAX_ROW_VALUES:
            raise self.invalid(f"more than {MAX_STEPS} steps, or more than {MAX_ROW_VALUES} values per row")
        if any(size < 1 for size in known):
            raise self.invalid(f"its operation {op} gives no values")
        self.steps.append(Step(op, tuple(_argument(value) for value in arguments), shape))
        return Row(len(self.steps) - 1)

    def fold(self, shape: Shape) -> None:
        """Account for an array that is computed from weights alone. Raises ModelInvalid where they become too many."""
        self._folded += math.prod(shape)
        if self._folded > MAX_FOLDED_VALUES:
            raise self.invalid(f"its weights unfold to more than {MAX_FOLDED_VALUES} values")

    def program(self, outputs: Sequence[Row]) -> Program:
        """Return the finished program, without the steps that no output needs."""
        if self.n_features == UNKNOWN:
            raise self.invalid("it does not show how many features it takes")
        needed = _needed(self.steps, [row.step for row in outputs])
        place = {old: new for new, old in enumerate(needed)}
        steps = [
            Step(
                step.op,
                _moved(step.arguments, place),
                tuple(self.n_features if s == UNKNOWN else s for s in step.shape),
            )
            for step in (self.steps[old] for old in needed)
        ]
        self._check_cost(steps)
        return Program(tuple(steps), self.n_features, tuple(place[row.step] for row in outputs))

    def _check_cost(self, steps: Sequence[Step]) -> None:
        """Refuse what would keep a process busy or fill its memory with a single row."""
        values = sum(math.prod(step.shape) for step in steps)
        products = sum(math.prod(step.shape[:-1]) * step.arguments[1].size for step in steps if step.op == "linear")
        if values > MAX_PROGRAM_VALUES or products > MAX_PRODUCTS:
            raise self.invalid(f"a row takes {values} values and {products} multiplications, which is too much")


def weight(value: NDArray[Any], name: str, *, file: str) -> Float32:
    """Return weights as float32. Raises ModelInvalid where they are not finite numbers."""
    with np.errstate(over="ignore"):
        converted = np.ascontiguousarray(value, np.float32).reshape(value.shape)
    if not np.isfinite(converted).all():
        raise ModelInvalid(file=file, reason=f"the weight {name} holds values that are not finite")
    return converted


def _argument(value: Any) -> Any:
    if isinstance(value, Row):
        return Ref(value.step)
    if isinstance(value, list | tuple):
        return tuple(_argument(item) for item in value)
    return value


def _sources(arguments: tuple[Any, ...]) -> list[int]:
    found = []
    for value in arguments:
        if isinstance(value, Ref):
            found.append(value.step)
        elif isinstance(value, tuple):
            found.extend(_sources(value))
    return found


def _moved(arguments: tuple[Any, ...], place: dict[int, int]) -> tuple[Any, ...]:
    moved: list[Any] = []
    for value in arguments:
        if isinstance(value, Ref):
            moved.append(Ref(place[value.step]))
        else:
            moved.append(_moved(value, place) if isinstance(value, tuple) else value)
    return tuple(moved)


def _needed(steps: Sequence[Step], outputs: Sequence[int]) -> list[int]:
    needed = {0, *outputs}
    for position in range(len(steps) - 1, 0, -1):
        if position in needed:
            needed.update(steps[position].sources)
    return sorted(needed)

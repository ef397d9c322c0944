"""The input and output of an ensemble classifier: `features` float32 (rows, features) in, `members` out, the class
probabilities of every member, float32 (rows, members, classes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from uqueue_config.errors import ModelInvalid
from uqueue_worker.artifacts.onnx_ports import FLOAT, Port

INPUT: Final = "features"
OUTPUT: Final = "members"
#: How far probabilities may be from summing to 1, as `uqueue_worker.learning.metrics` has it.
SUM_TOLERANCE: Final = 1e-3


class EnsembleShape(NamedTuple):
    """How many columns the model reads, how many members it has, and how many classes they tell apart."""

    features: int
    members: int
    classes: int

    def __str__(self) -> str:
        return ",".join(map(str, tuple(self)))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` wrote."""
        return cls(*map(int, text.split(",")))


def check_ports(inputs: Sequence[Port], outputs: Sequence[Port], shape: EnsembleShape, *, file: str) -> None:
    """Raise ModelInvalid, with what is wrong, unless these are the input and the output of such a model."""
    if [port.name for port in inputs] != [INPUT]:
        named = ", ".join(port.name for port in inputs)[:200] or "none"
        raise ModelInvalid(file=file, reason=f"expected one input, {INPUT}; it has {named}")
    answer = next((port for port in outputs if port.name == OUTPUT), None)
    if answer is None:
        named = ", ".join(port.name for port in outputs)[:200] or "none"
        raise ModelInvalid(file=file, reason=f"expected an output {OUTPUT}; it has {named}")
    _check("input", inputs[0], (shape.features,), file)
    if answer.shape or answer.dtype != FLOAT:  # where the file states no shape, the trial run will tell
        _check("output", answer, (shape.members, shape.classes), file)


def check_members(answer: Any, shape: EnsembleShape, rows: int) -> str:
    """Return what is wrong with what a run answered for so many rows, "" where nothing is."""
    expected = (rows, shape.members, shape.classes)
    if not isinstance(answer, np.ndarray) or answer.dtype != np.float32:
        return f"output {OUTPUT} is no array of float32"
    if answer.shape != expected:
        return f"output {OUTPUT} has the shape {answer.shape}, expected {expected}"
    if not (np.isfinite(answer).all() and answer.min() >= 0 and answer.max() <= 1):
        return f"output {OUTPUT} holds what is no probability"
    if np.abs(answer.sum(axis=-1, dtype=np.float64) - 1).max() > SUM_TOLERANCE:
        return f"the probabilities of output {OUTPUT} do not sum to 1"
    return ""


def probe_table(rows: int, shape: EnsembleShape) -> NDArray[np.float32]:
    """Return made-up features: zeros, and then noise."""
    made = np.random.default_rng(20_260_321).standard_normal((rows, shape.features), np.float32)
    made[0] = 0
    return made


def _check(what: str, port: Port, sizes: tuple[int, ...], file: str) -> None:
    found = list(port.shape)
    fits = len(found) == 1 + len(sizes) and all(
        not isinstance(size, int) or size == wanted for size, wanted in zip(found[1:], sizes, strict=True)
    )
    if not fits or port.dtype != FLOAT:
        expected = f"float32 [batch, {', '.join(map(str, sizes))}]"
        raise ModelInvalid(file=file, reason=f"{what} {port.name!r} is {port.dtype} {found}, expected {expected}")
    if isinstance(found[0], int):
        raise ModelInvalid(file=file, reason=f"{what} {port.name!r} has a batch axis of {found[0]}; {_EXPORT}")


_EXPORT = "export the model with a dynamic one"

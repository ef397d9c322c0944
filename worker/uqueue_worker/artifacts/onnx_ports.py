"""The inputs and outputs of a localization model: which is which, and whether they are what they have to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from uqueue_config.errors import ModelInvalid

FLOAT: Final = "tensor(float)"
#: What an output may be called; one that has none of these names is known by its place.
NAMES: Final = (("positions", "position"), ("uncertainties", "uncertainty"), ("confidence", "confidences"))
_KNOWN: Final = {name for names in NAMES for name in names}


class Port(NamedTuple):
    """One input or output, as ONNX Runtime describes it: a size is a number, or anything else where it is dynamic."""

    name: str
    dtype: str
    shape: Sequence[Any]


class Ports(NamedTuple):
    """What the model's input and outputs are called; None for an output that it does not have."""

    input: str
    position: str
    sigma: str | None
    confidence: str | None

    @property
    def outputs(self) -> list[str]:
        return [name for name in self[1:] if name is not None]


def find_ports(inputs: Sequence[Port], outputs: Sequence[Port], row: Sequence[int], *, file: str) -> Ports:
    """Return which is which, for a model that reads float32 (batch, *row). Raises ModelInvalid with what is wrong."""
    if len(inputs) != 1:
        named = ", ".join(port.name for port in inputs)[:200]
        raise ModelInvalid(file=file, reason=f"expected one input, it has {len(inputs)} ({named})")
    _check("input", inputs[0], row, file)
    found = _roles(outputs)
    if found[0] is None:
        raise ModelInvalid(file=file, reason="it has no output for positions")
    for role, port in zip(("positions", "uncertainties", "confidence"), found, strict=True):
        if port is not None:
            _check_output(role, port, file)
    position, sigma, confidence = (None if port is None else port.name for port in found)
    return Ports(inputs[0].name, str(position), sigma, confidence)


def check_answers(ports: Ports, answers: Mapping[str, Any], rows: int) -> str:
    """Return what is wrong with the shapes of a run's outputs for so many rows, "" where nothing is."""
    wanted: dict[str, list[tuple[int, ...]]] = {ports.position: [(rows, 2)]}
    if ports.sigma is not None:
        wanted[ports.sigma] = [(rows, 2), (rows, 3)]
    if ports.confidence is not None:
        wanted[ports.confidence] = [(rows,), (rows, 1)]
    for name, shapes in wanted.items():
        answer = answers[name]
        if not isinstance(answer, np.ndarray):
            return f"output {name} is no array"
        if answer.shape not in shapes:
            return f"output {name} has the shape {answer.shape}, expected {' or '.join(map(str, shapes))}"
    return ""


def probe_rows(rows: int, row: Sequence[int]) -> NDArray[np.float32]:
    """Return made-up features (rows, *row): silence, which is zeros, and then noise as normalised spectra have it."""
    made = np.random.default_rng(20_240_220).standard_normal((rows, *row), np.float32)
    made[0] = 0
    return made


def _roles(outputs: Sequence[Port]) -> list[Port | None]:
    """Return the outputs for position, uncertainty and confidence: by name, else by place among those without one."""
    found: list[Port | None] = []
    for place, names in enumerate(NAMES):
        named = next((port for port in outputs if port.name in names), None)
        here = outputs[place] if place < len(outputs) else None
        found.append(named or (here if here is not None and here.name not in _KNOWN else None))
    return found


def _check(what: str, port: Port, row: Sequence[int], file: str) -> None:
    expected = f"float32 [batch, {', '.join(map(str, row))}]"
    sizes = list(port.shape)
    fits = len(sizes) == 1 + len(row) and all(
        not isinstance(size, int) or size == wanted for size, wanted in zip(sizes[1:], row, strict=False)
    )
    if port.dtype != FLOAT or not fits:
        reason = f"{what} {port.name[:80]!r} is {port.dtype} {sizes}, expected {expected}"
        raise ModelInvalid(file=file, reason=reason)
    if isinstance(sizes[0], int):
        raise ModelInvalid(file=file, reason=f"{what} {port.name[:80]!r} has a batch axis of {sizes[0]}; {_EXPORT}")


_EXPORT = "export the model with a dynamic one"


def _check_output(role: str, port: Port, file: str) -> None:
    sizes = list(port.shape)
    if port.dtype not in (FLOAT, "tensor(double)"):
        reason = f"output {port.name[:80]!r} for {role} is {port.dtype}, expected float32"
        raise ModelInvalid(file=file, reason=reason)
    ranks, width = {"positions": ((2,), (2,)), "uncertainties": ((2,), (2, 3)), "confidence": ((1, 2), (1,))}[role]
    if not sizes and role != "confidence":  # a shape that the file does not state: the trial run will tell
        return
    wrong_width = len(sizes) == 2 and isinstance(sizes[1], int) and sizes[1] not in width
    if len(sizes) not in ranks or wrong_width:
        wanted = "[batch]" if role == "confidence" else f"[batch, {' or '.join(map(str, width))}]"
        raise ModelInvalid(file=file, reason=f"output {port.name[:80]!r} for {role} is {sizes}, expected {wanted}")
    if isinstance(sizes[0], int):
        raise ModelInvalid(file=file, reason=f"output {port.name[:80]!r} has a batch axis of {sizes[0]}; {_EXPORT}")

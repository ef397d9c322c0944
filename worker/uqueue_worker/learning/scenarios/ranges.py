"""The places of a parameter model that can vary, with the limits and ranges that their annotations give them."""

from __future__ import annotations

import math
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from uqueue_worker.learning.scenarios.parameters import Fixed, Location, Parameters, Usual

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class NumericParameter:
    """A number of a parameter model: its value, its limits (both included), and the range it has in service."""

    value: float
    low: float
    high: float
    usual_low: float
    usual_high: float

    @property
    def span(self) -> float:
        return self.usual_high - self.usual_low

    @property
    def normalised(self) -> float:
        """The value on a scale on which the usual range goes from 0 to 1."""
        return (self.value - self.usual_low) / self.span


@dataclass(frozen=True)
class Place:
    """Where in the parameters something varies: a number, the numbers of a location together, or a choice."""

    path: Path
    kind: Literal["number", "integer", "location", "choice"]
    numbers: tuple[NumericParameter, ...] = ()
    choices: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        return ".".join(map(str, self.path))


def places(parameters: Parameters, path: Path = ()) -> Iterator[Place]:
    """Yield what can vary, in the order of the fields; `Fixed` fields and groups that are not given are left out."""
    for name, field in type(parameters).model_fields.items():
        annotation = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        yield from _places(annotation, getattr(parameters, name), (*path, name))


def numeric_parameters(parameters: Parameters) -> dict[str, NumericParameter]:
    """Return every number that can vary by its dotted path (`environment.wind_speed_mps`, `location.0`)."""
    found: dict[str, NumericParameter] = {}
    for place in places(parameters):
        if place.kind == "location":
            found |= {f"{place.name}.{axis}": number for axis, number in enumerate(place.numbers)}
        elif place.numbers:
            found[place.name] = place.numbers[0]
    return found


def _places(annotation: Any, value: Any, path: Path) -> Iterator[Place]:
    inner, metadata = _split(annotation)
    if value is None or any(isinstance(item, Fixed) for item in metadata):
        return
    if isinstance(value, Parameters):
        yield from places(value, path)
    elif inner == Location:
        numbers = (_number(*_split(part), one) for part, one in zip(get_args(inner), value, strict=True))
        yield Place(path, "location", tuple(numbers))
    elif get_origin(inner) is Literal:
        yield Place(path, "choice", choices=get_args(inner))
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _places(get_args(inner)[1], part, (*path, key))
    elif isinstance(value, tuple):
        for index, part in enumerate(value):
            yield from _places(get_args(inner)[0], part, (*path, index))
    elif inner in (int, float):
        yield Place(path, "integer" if inner is int else "number", (_number(inner, metadata, value),))


def _split(annotation: Any) -> tuple[Any, list[Any]]:
    """Return the type below `Annotated` and `| None`, and all that is said about it."""
    metadata: list[Any] = []
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *said = get_args(annotation)
            metadata = [*_flat(said), *metadata]
        elif get_origin(annotation) in (Union, types.UnionType) and type(None) in get_args(annotation):
            (annotation,) = [part for part in get_args(annotation) if part is not type(None)]
        else:
            return annotation, metadata


def _flat(said: Sequence[Any]) -> Iterator[Any]:
    for item in said:
        if isinstance(item, FieldInfo):
            yield from item.metadata
        else:
            yield item


def _number(inner: Any, metadata: Sequence[Any], value: float) -> NumericParameter:
    low, high = -math.inf, math.inf
    usual: Usual | None = None
    for item in metadata:
        if isinstance(item, Ge | Gt):
            low = max(low, float(item.ge if isinstance(item, Ge) else _next(item.gt, math.inf, inner)))  # type: ignore[arg-type]
        elif isinstance(item, Le | Lt):
            high = min(high, float(item.le if isinstance(item, Le) else _next(item.lt, -math.inf, inner)))  # type: ignore[arg-type]
        elif isinstance(item, Usual):
            usual = item
    if not (math.isfinite(low) and math.isfinite(high)):
        raise TypeError("a number of a parameter model needs a lower and an upper limit")
    usual = usual or Usual(low, high)
    return NumericParameter(float(value), low, high, usual.low, usual.high)


def _next(limit: Any, towards: float, inner: Any) -> float:
    """Return the first number beyond a limit that does not belong to the range itself."""
    if inner is int:
        return float(limit + math.copysign(1, towards))
    return float(limit) + math.copysign(max(abs(float(limit)), 1.0) * 1e-9, towards)

"""What the parameter models of all families are made of.

A number's limits are those of its field (`ge`, `le`); `Usual` narrows them to the range that it has in service, which
is what one standard deviation of jitter is measured by. `Fixed` marks what the sample's label depends on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from uqueue_config.learning.problems import problems_of
from uqueue_worker.learning.errors import ScenarioParameterError


@dataclass(frozen=True)
class Usual:
    """The range that a number has in service."""

    low: float
    high: float


@dataclass(frozen=True)
class Fixed:
    """A parameter that jitter leaves alone, because the label depends on it."""


Number = Annotated[float, Field(strict=True)]  # no text and no bool passes for a number
Percent = Annotated[Number, Field(ge=0, le=100), Usual(15, 98)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Horizontal = Annotated[Number, Field(ge=-500, le=500), Usual(-12.5, 12.5)]
Height = Annotated[Number, Field(ge=0, le=100), Usual(0, 5)]
#: Metres east, north and up of the sensor unit.
Location = tuple[Horizontal, Horizontal, Height]
HeatWatts = Annotated[Number, Field(ge=0, le=1e6)]
Substance = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,39}$")]


class Parameters(BaseModel):
    """Parameters of a family. Unknown keys are refused, numbers are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)
    #: Pairs of fields of which the first must not exceed the second.
    ordered: ClassVar[tuple[tuple[str, str], ...]] = ()

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for low, high in self.ordered:
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{high} must be at least {low}")
        return self

    @classmethod
    def settle(cls, values: dict[str, Any], fixed: Collection[str]) -> None:
        """Make jittered `values` agree with each other again, without moving those whose names are in `fixed`."""
        for low, high in cls.ordered:
            if values[low] > values[high]:
                yielding, other = (low, high) if high in fixed else (high, low)
                values[yielding] = values[other]

    @classmethod
    def read(cls, family: str, values: Mapping[str, Any]) -> Self:
        """Return the checked parameters. Raises ScenarioParameterError naming all that is wrong, without the values."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ScenarioParameterError(family=family, reason=problems_of(error)) from None

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can carry; optional groups that are not given are left out."""
        return self.model_dump(mode="json", exclude_none=True)


class Ambient(Parameters):
    """The surroundings of a scenario: weather, and what traffic and machinery (0 to 1) add to every reading."""

    air_temperature_celsius: Annotated[Number, Field(ge=-50, le=60), Usual(-5, 38)] = 18.0
    relative_humidity_percent: Percent = 50.0
    wind_speed_mps: Annotated[Number, Field(ge=0, le=60), Usual(0, 12)] = 1.5
    traffic: Fraction = 0.2
    machinery: Fraction = 0.2


class FamilyParameters(Parameters):
    """What every family takes: surroundings other than the usual ones, if they matter."""

    environment: Ambient | None = None

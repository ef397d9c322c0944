"""What gateway and worker agree on about localization: a model's declaration, its card, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from uqueue_config.arrays import Encoding, decode_array, encode_array
from uqueue_config.errors import InvalidMessage
from uqueue_config.prediction import ModelIdentity
from uqueue_config.recipes import Recipe, find_recipe
from uqueue_config.recipes.envelope_logmel import BANDS, FRAMES

#: What the member `kind` of a localization's message says; an interval prediction has none.
KIND = "localization"
FloatArray = NDArray[np.float64]
Pair = tuple[float, float]
_SHOWN_CHARACTERS = 60


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a number")  # noqa: TRY004 - pydantic reports this one
    return value


def _pair(value: Any) -> Any:
    """Read `1.5, 2` and `[1.5, 2]`, as tags write two numbers."""
    numbers = value
    if isinstance(value, str):
        try:
            numbers = from_json(value if value.lstrip().startswith("[") else f"[{value}]")
        except ValueError:
            raise ValueError("expected two numbers") from None
    if not isinstance(numbers, list | tuple) or len(numbers) != 2 or any(isinstance(one, bool) for one in numbers):
        raise ValueError("expected two numbers")
    return tuple(numbers)


Rate = Annotated[float, BeforeValidator(_no_bool)]
Count = Annotated[int, BeforeValidator(_no_bool)]
Numbers = Annotated[Pair, BeforeValidator(_pair)]


class Declaration(BaseModel):
    """What a model says of its inputs and outputs: the tags of its registered version, or `manifest.json` beside it.

    output_encoding   order and unit of the sigmas; `custom` needs sigma_units and sigma_order
    position_encoding what the two positions are; the offsets in metres (east, north) need `origin` (latitude,
                      longitude), `zscore_offset_m` also `mean` and `std`
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, allow_inf_nan=False)

    output_encoding: Literal["degrees-latlon-sigma", "metres-xy-sigma", "custom"] = "degrees-latlon-sigma"
    sigma_units: Literal["degrees", "meters"] | None = None
    sigma_order: Literal["lat_lon", "xy"] | None = None
    position_encoding: Literal["degrees", "offset_m", "zscore_offset_m"] = "degrees"
    origin: Numbers | None = None
    mean: Numbers | None = None
    std: Numbers | None = None
    feature_recipe: str = Field("envelope-logmel-v1", max_length=100)
    sample_rate_hz: Rate = Field(192_000.0, gt=0)
    receivers: Count = Field(3, ge=1, le=64)
    semver: str | None = Field(None, max_length=64)
    sha256: Annotated[str, AfterValidator(str.lower)] | None = Field(None, pattern=r"^[0-9A-Fa-f]{64}$")

    @classmethod
    def read(cls, *sources: Mapping[str, Any]) -> Self:
        """Return what the sources declare, of which the first wins: the tags of a version, then its manifest.

        Values may be text, as tags are: numbers, and pairs as `52.0,5.0` or `[52.0, 5.0]`. Members that are not a
        declaration's are left out. Raises ValueError with everything that is wrong.
        """
        try:
            return cls.model_validate(cls.members(*sources))
        except ValidationError as error:
            raise ValueError("; ".join(_wrong(item) for item in error.errors(include_url=False))) from None

    @classmethod
    def members(cls, *sources: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the sources say about a declaration's members, unchecked; the first source wins."""
        merged: dict[str, Any] = {}
        for source in reversed(sources):
            merged |= {name: source[name] for name in cls.model_fields if source.get(name) is not None}
        return merged

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed = {"custom": ("sigma_units", "sigma_order"), "offset_m": ("origin",)}
        needed["zscore_offset_m"] = ("origin", "mean", "std")
        for encoding in (self.output_encoding, self.position_encoding):
            missing = [name for name in needed.get(encoding, ()) if getattr(self, name) is None]
            if missing:
                raise ValueError(f"{encoding} needs {' and '.join(missing)}")
        said = (self.sigma_units or self.sigma_layout[0], self.sigma_order or self.sigma_layout[1])
        if said != self.sigma_layout:
            raise ValueError(f"sigma_units and sigma_order contradict {self.output_encoding}; they belong to custom")
        if self.origin is not None and not (abs(self.origin[0]) <= 90 and abs(self.origin[1]) <= 180):
            raise ValueError("origin: expected latitude and longitude in degrees")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError("std: expected numbers above 0")
        self.recipe()
        return self

    @property
    def sigma_layout(self) -> tuple[str, str]:
        """Unit and order of the two sigmas: degrees or meters, lat_lon (north, east) or xy (east, north)."""
        if self.output_encoding == "custom":
            return str(self.sigma_units), str(self.sigma_order)
        return ("degrees", "lat_lon") if self.output_encoding == "degrees-latlon-sigma" else ("meters", "xy")

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """What one row of features is to the model: (receivers, bands, frames)."""
        return self.receivers, BANDS, FRAMES

    @property
    def defaulted(self) -> tuple[str, ...]:
        """Which members were not declared, so that their defaults apply; only of what `read` returned."""
        return tuple(name for name in _EXPECTED if name not in self.model_fields_set)

    def recipe(self) -> Recipe:
        """Return what turns samples into the model's input. Raises ValueError for a recipe that is not known here."""
        return find_recipe(self.feature_recipe, {"sample_rate_hz": self.sample_rate_hz, "receivers": self.receivers})


_EXPECTED = ("output_encoding", "position_encoding", "feature_recipe", "sample_rate_hz", "receivers")


def _wrong(item: Any) -> str:
    """Return one problem of a declaration: the member, what was expected, and a little of what came."""
    said = str(item["msg"]).removeprefix("Value error, ")
    if not item["loc"]:
        return said
    return f"{item['loc'][0]}: {said[:1].lower()}{said[1:]}, got {str(item.get('input'))[:_SHOWN_CHARACTERS]!r}"


class ModelCard(BaseModel):
    """What a worker says of a localization model that it has loaded.

    version     the registered version, a number as text; the content's 16 characters where there is no registry
    content     `ModelIdentity.version`
    stage       the stage that the registry named when it was last asked, "None" where it names none
    alias       the alias under which the worker looks for it, where it does
    created_at  ISO 8601 UTC with Z
    seen_at     when a process last held it, in seconds since the epoch; renewed every few seconds while one does
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    version: str
    content: str
    sha256: str
    stage: str = "None"
    alias: str | None = None
    created_at: str | None = None
    run_id: str | None = None
    accuracy_meters: float | None = None
    training_samples: int | None = None
    seen_at: float = 0.0
    declaration: Declaration


def cards_key(model: str) -> str:
    """The cards of a model's versions that some process has loaded (a hash: version -> ModelCard as JSON)."""
    return f"uqueue:cards:{model}"


@dataclass(frozen=True, eq=False)
class Localization:
    """Where the emitters of `rows` inputs are, decoded to degrees and metres and checked.

    latitude, longitude  float64 (rows,), degrees; longitude within [-180, 180]
    sigma_x, sigma_y     float64 (rows,), metres along axes turned by theta (0: x = East, y = North); 0 where absent
    theta                float64 (rows,), degrees counter-clockwise from East
    confidence           float64 (rows,) in [0, 1], or None where the model states none
    uncertainty_source   "model", or "absent" where the model states no sigmas
    model_version        the registered version that answered, as in `ModelCard.version`
    onnx_seconds         how long the model ran for these rows
    """

    latitude: FloatArray
    longitude: FloatArray
    sigma_x: FloatArray
    sigma_y: FloatArray
    theta: FloatArray
    confidence: FloatArray | None
    uncertainty_source: Literal["model", "absent"]
    model: ModelIdentity
    model_version: str
    onnx_seconds: float
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.latitude)

    def to_message(self, encoding: Encoding = "lists") -> dict[str, Any]:
        """Return the JSON form (schema 1), with arrays in the encoding asked for (see `uqueue_config.arrays`)."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        confidence = None if self.confidence is None else encode_array(self.confidence, encoding)
        return {
            "schema": 1,
            "kind": KIND,
            **{name: encode_array(array, encoding) for name, array in arrays.items()},
            "confidence": confidence,
            "uncertainty_source": self.uncertainty_source,
            "model": self.model.to_message(),
            "model_version": self.model_version,
            "onnx_seconds": self.onnx_seconds,
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Localization:
        """Read what `to_message` wrote. Raises InvalidMessage when it is of another schema or not complete."""
        if message.get("schema") != 1 or message.get("kind") != KIND:
            raise InvalidMessage(reason="the result is no localization of schema 1")
        try:
            confidence = message["confidence"]
            arrays = {name: decode_array(message[name], "<f8") for name in _ARRAYS}
            if len({array.shape for array in arrays.values()}) != 1:
                raise ValueError("expected arrays of one length")
            return cls(
                **arrays,
                confidence=None if confidence is None else decode_array(confidence, "<f8"),
                uncertainty_source=message["uncertainty_source"],
                model=ModelIdentity.from_message(message["model"]),
                model_version=str(message["model_version"]),
                onnx_seconds=float(message["onnx_seconds"]),
                warnings=tuple(message["warnings"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidMessage(reason=f"the result cannot be read ({error!r})") from error


_ARRAYS = ("latitude", "longitude", "sigma_x", "sigma_y", "theta")

"""What gateway and worker agree on about localization: a model's declaration, its card, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from uqueue_config.arrays import Encoding, decode_array, encode_array
from uqueue_config.errors import InvalidMessage
from uqueue_config.prediction import ModelIdentity

#: What the member `kind` of a localization's message says; an interval prediction has none.
KIND = "localization"
FloatArray = NDArray[np.float64]
Pair = tuple[float, float]


class Declaration(BaseModel):
    """What a model says of its inputs and outputs: the tags of its registered version, or `manifest.json` beside it.

    output_encoding   order and unit of the sigmas; `custom` needs sigma_units and sigma_order
    position_encoding what the two positions are; the offsets in metres (east, north) need `origin` (latitude,
                      longitude), `zscore_offset_m` also `mean` and `std`
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    output_encoding: Literal["degrees-latlon-sigma", "metres-xy-sigma", "custom"] = "degrees-latlon-sigma"
    sigma_units: Literal["degrees", "meters"] | None = None
    sigma_order: Literal["lat_lon", "xy"] | None = None
    position_encoding: Literal["degrees", "offset_m", "zscore_offset_m"] = "degrees"
    origin: Pair | None = None
    mean: Pair | None = None
    std: Pair | None = None
    feature_recipe: str = "envelope-logmel-v1"
    sample_rate_hz: float = Field(192_000.0, gt=0)
    receivers: int = Field(3, ge=1)
    semver: str | None = None
    sha256: str | None = None


class ModelCard(BaseModel):
    """What a worker says of a localization model that it has loaded.

    version     the registered version, a number as text; the content's 16 characters where there is no registry
    content     `ModelIdentity.version`
    created_at  ISO 8601 UTC with Z
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

"""The members of a localization answer that follow from position and sigmas alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from uqueue.localization.ellipse import Convention, confidence_within, ellipse_from_sigmas, finite, length
from uqueue.localization.geojson import ellipse_feature

NOMINAL_LABEL = 0.68  # of unscaled sigmas; a one-sigma ellipse holds 39.35 %


@dataclass(frozen=True)
class Estimate:
    """What a model says of one emitter, checked: ValueError for what cannot be, nothing is clamped.

    latitude, longitude  degrees; a longitude beyond 180 is wrapped
    sigma_x, sigma_y     metres, one sigma along axes turned by theta (0: x = East, y = North); 0 where absent
    theta                degrees counter-clockwise from East, wrapped into [-180, 180]
    confidence           in [0, 1], or None where the model states none
    uncertainty_source   "model", or "absent" where the model states no sigmas
    """

    latitude: float
    longitude: float
    sigma_x: float = 0.0
    sigma_y: float = 0.0
    theta: float = 0.0
    confidence: float | None = None
    uncertainty_source: Literal["model", "absent"] = "model"

    def __post_init__(self) -> None:
        latitude = finite("latitude", self.latitude)
        if not -90 <= latitude <= 90:
            raise ValueError(f"latitude must be within [-90, 90], got {latitude}")
        values = {
            "latitude": latitude,
            "longitude": _wrapped(finite("longitude", self.longitude)),
            "sigma_x": length("sigma_x", self.sigma_x),
            "sigma_y": length("sigma_y", self.sigma_y),
            "theta": _wrapped(finite("theta", self.theta)),
        }
        if self.confidence is not None:
            values["confidence"] = finite("confidence", self.confidence)
            if not 0 <= values["confidence"] <= 1:
                raise ValueError(f"confidence must be within [0, 1], got {self.confidence}")
        if self.uncertainty_source not in ("model", "absent"):
            raise ValueError(f"uncertainty_source must be model or absent, got {self.uncertainty_source!r}")
        for name, value in values.items():
            object.__setattr__(self, name, value)


def present(
    estimate: Estimate,
    *,
    ellipse_level: float = 0.68,
    ellipse_convention: Convention = "joint",
    confidence_radius_m: float = 50.0,
    num_points: int = 64,
) -> dict[str, Any]:
    """Return `position`, `uncertainty`, `uncertainty_source`, `uncertainty_m`, `confidence`, `confidence_source` and
    `ellipse` of an answer, ready for JSON.

    uncertainty_m is the radius of the circle with the area of the scaled ellipse. A confidence that the model does not
    state is the probability of lying within confidence_radius_m; without sigmas that is 1. ValueError for settings
    that cannot be and sigmas of thousands of kilometres. Needs the extra `localization`.
    """
    e = estimate
    axes = ellipse_from_sigmas(e.sigma_x, e.sigma_y, e.theta, ellipse_level, ellipse_convention)
    major, minor = axes["semi_major_scaled"], axes["semi_minor_scaled"]
    derived = e.confidence is None
    within = confidence_within(confidence_radius_m, axes["semi_major_axis"], axes["semi_minor_axis"])
    return {
        "position": {"latitude": e.latitude, "longitude": e.longitude},
        "uncertainty": {
            "sigma_x": e.sigma_x,
            "sigma_y": e.sigma_y,
            "theta": e.theta,
            "confidence_interval": NOMINAL_LABEL,
        },
        "uncertainty_source": e.uncertainty_source,
        "uncertainty_m": (major * minor) ** 0.5,
        "confidence": within if derived else e.confidence,
        "confidence_source": "derived" if derived else "model",
        "ellipse": {
            "center": [e.latitude, e.longitude],
            "semi_major_axis_m": major,
            "semi_minor_axis_m": minor,
            "rotation_degrees": axes["rotation_angle"],
            "confidence_level": axes["confidence_interval"],
            "convention": ellipse_convention,
            "feature": ellipse_feature(
                e.latitude,
                e.longitude,
                major,
                minor,
                axes["rotation_angle"],
                confidence_level=ellipse_level,
                convention=ellipse_convention,
                num_points=num_points,
            ),
        },
    }


def _wrapped(degrees: float) -> float:
    return degrees if -180 <= degrees <= 180 else (degrees + 180) % 360 - 180

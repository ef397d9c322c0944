"""Uncertainty ellipses of a position with normal errors: axes, scaling to a level, probability within a radius.

WARNING: a one-sigma ellipse holds 39.35 % of the probability, not 68 %. The response member
`uncertainty.confidence_interval` = 0.68 is only the nominal label of unscaled sigmas; `semi_major_scaled` and
`semi_minor_scaled` are the axes that hold the stated level.

x is East and y is North, in metres. Angles are degrees counter-clockwise from East.
"""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist
from typing import Literal, TypedDict

import numpy as np

Convention = Literal["joint", "marginal"]
_ROUNDING = 1e-9  # by which |covariance| may exceed the product of the sigmas
_NODES = 64


class UncertaintyEllipse(TypedDict):
    """Axes in metres, angle in degrees; `scaled` are the axes at `confidence_interval`, the others one sigma."""

    semi_major_axis: float
    semi_minor_axis: float
    rotation_angle: float
    confidence_interval: float
    area_m2: float
    semi_major_scaled: float
    semi_minor_scaled: float
    convention: Convention


def compute_uncertainty_ellipse(
    sigma_x: float,
    sigma_y: float,
    covariance_xy: float = 0.0,
    confidence_level: float = 0.68,
    convention: Convention = "joint",
) -> UncertaintyEllipse:
    """Return the ellipse of the covariance [[sigma_x^2, c], [c, sigma_y^2]]: its eigen-axes.

    rotation_angle is that of the major axis, in [0, 180); a circle has 0. A one-sigma ellipse (unscaled) holds
    39.35 %. ValueError for sigmas that are negative or not finite, |c| > sigma_x sigma_y, and what `scale_factor`
    refuses.
    """
    x, y = length("sigma_x", sigma_x), length("sigma_y", sigma_y)
    covariance = finite("covariance_xy", covariance_xy)
    if covariance == 0:
        return _ellipse(max(x, y), min(x, y), 90.0 * (y > x), confidence_level, convention)
    unit = max(x, y) or 1.0  # squares of what is left do not overflow
    x, y, c = x / unit, y / unit, covariance / unit / unit
    if not abs(c) <= x * y * (1 + _ROUNDING):
        raise ValueError(f"covariance_xy must not exceed sigma_x sigma_y in size, got {covariance_xy}")
    larger = (x * x + y * y) / 2 + math.hypot((x * x - y * y) / 2, c)
    smaller = max((x * y - c) * (x * y + c), 0.0) / larger  # the determinant: its factors do not cancel
    rotation = math.degrees(0.5 * math.atan2(2 * c, x * x - y * y))
    return _ellipse(unit * math.sqrt(larger), unit * math.sqrt(smaller), rotation, confidence_level, convention)


def ellipse_from_sigmas(
    sigma_x: float,
    sigma_y: float,
    theta: float = 0.0,
    confidence_level: float = 0.68,
    convention: Convention = "joint",
) -> UncertaintyEllipse:
    """Return the ellipse of sigmas along axes that are turned by theta degrees, as a model states them.

    The same as `compute_uncertainty_ellipse` of var_x = sx^2 cos^2 + sy^2 sin^2, var_y = sx^2 sin^2 + sy^2 cos^2,
    c = (sx^2 - sy^2) sin cos, without its rounding. A one-sigma ellipse (unscaled) holds 39.35 %.
    """
    x, y = length("sigma_x", sigma_x), length("sigma_y", sigma_y)
    turned = finite("theta", theta)
    rotation = 0.0 if x == y else turned if x > y else turned + 90
    return _ellipse(max(x, y), min(x, y), rotation, confidence_level, convention)


def scale_factor(confidence_level: float, convention: Convention = "joint") -> float:
    """Return by how many sigmas an ellipse holds the level p.

    joint     sqrt(-2 ln(1 - p)): the ellipse holds p. 1.0000 for 0.3935, 1.5096 for 0.68, 2.4477 for 0.95
    marginal  the normal quantile of (1 + p) / 2: each axis alone holds p, the ellipse less

    ValueError unless 0 <= p < 1.
    """
    level = finite("confidence_level", confidence_level)
    if not 0 <= level < 1:
        raise ValueError(f"confidence_level must be at least 0 and below 1, got {confidence_level}")
    if convention == "joint":
        return math.sqrt(-2 * math.log1p(-level))
    if convention == "marginal":
        return abs(NormalDist().inv_cdf((1 - level) / 2))
    raise ValueError(f"convention must be joint or marginal, got {convention!r}")


def confidence_within(radius_m: float, semi_major_axis: float, semi_minor_axis: float) -> float:
    """Return the probability that the true position lies within radius_m of the estimate; axes are one sigma.

    P = 2 / (a sqrt(2 pi)) * integral from 0 to min(r, 8a) of exp(-x^2 / 2a^2) erf(sqrt(r^2 - x^2) / (b sqrt 2)) dx,
    by 64 Gauss-Legendre nodes in x = X sin t. Without any uncertainty (a = 0) it is 1.
    """
    r, a = length("radius_m", radius_m), length("semi_major_axis", semi_major_axis)
    b = length("semi_minor_axis", semi_minor_axis)
    if b > a:
        raise ValueError(f"semi_minor_axis must not exceed semi_major_axis, got {b} and {a}")
    if a == 0:
        return 1.0
    r, b = r / a, b / a
    if b == 0:
        return math.erf(r / math.sqrt(2))
    if b == 1:
        return -math.expm1(-r * r / 2)
    upper = min(r, 8.0)
    total = 0.0
    for sine, cosine, weight in _quadrature():
        x = upper * sine
        across = upper * cosine if upper == r else math.sqrt((r - x) * (r + x))
        total += weight * upper * cosine * math.exp(-x * x / 2) * math.erf(across / b / math.sqrt(2))
    return min(max(total * math.sqrt(2 / math.pi), 0.0), 1.0)


@cache
def _quadrature() -> tuple[tuple[float, float, float], ...]:
    """sin t, cos t and weight of the nodes on [0, pi / 2]."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)  # type: ignore[no-untyped-call]
    angles = (nodes + 1) * (math.pi / 4)
    return tuple(zip(np.sin(angles).tolist(), np.cos(angles).tolist(), (weights * math.pi / 4).tolist(), strict=True))


def _ellipse(a: float, b: float, rotation: float, level: float, convention: Convention) -> UncertaintyEllipse:
    k = scale_factor(level, convention)
    area = math.pi * a * b
    if not math.isfinite(area) or not math.isfinite(k * a):
        raise ValueError(f"the sigmas are too large: axes of {a} m and {b} m")
    turned = 0.0 if a == b else rotation % 180
    return UncertaintyEllipse(
        semi_major_axis=a,
        semi_minor_axis=b,
        rotation_angle=turned if turned < 180 else 0.0,  # a tiny negative angle rounds to 180
        confidence_interval=float(level),
        area_m2=area,
        semi_major_scaled=k * a,
        semi_minor_scaled=k * b,
        convention=convention,
    )


def finite(name: str, value: float) -> float:
    if isinstance(value, bool | np.bool_ | str | bytes):
        raise ValueError(f"{name} must be a number, got {value!r}")  # noqa: TRY004  one kind of error for all of it
    try:
        number = float(value)
    except (TypeError, OverflowError):
        raise ValueError(f"{name} must be a finite number, got an object of type {type(value).__name__}") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, got {number}")
    return number


def length(name: str, value: float) -> float:
    number = finite(name, value)
    if number < 0:
        raise ValueError(f"{name} must not be negative, got {number}")
    return number

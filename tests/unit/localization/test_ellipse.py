"""Axes against eigenvalues, scaling against published numbers, confidence against simulation and integration."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from uqueue.localization import compute_uncertainty_ellipse, confidence_within, ellipse_from_sigmas, scale_factor

sigmas = st.floats(0.01, 1e5)


@given(x=sigmas, y=sigmas, correlation=st.floats(-0.999, 0.999))
def test_axes_are_those_of_the_covariance(x: float, y: float, correlation: float) -> None:
    c = correlation * x * y
    made = compute_uncertainty_ellipse(x, y, c)
    values, vectors = np.linalg.eigh([[x * x, c], [c, y * y]])
    a, b = made["semi_major_axis"], made["semi_minor_axis"]
    assert a == pytest.approx(math.sqrt(values[1]), rel=1e-12)
    assert a * b == pytest.approx(x * y * math.sqrt(1 - correlation**2), rel=1e-9)
    assert made["area_m2"] == pytest.approx(math.pi * a * b)
    assert 0 <= made["rotation_angle"] < 180
    if values[1] > values[0] * 1.01:
        angle = math.degrees(math.atan2(vectors[1, 1], vectors[0, 1])) % 180
        assert min(abs(angle - made["rotation_angle"]), 180 - abs(angle - made["rotation_angle"])) < 1e-5


@pytest.mark.parametrize(
    ("x", "y", "c", "rotation"),
    [
        (2, 1, 0, 0),
        (1, 2, 0, 90),
        (1, 2, -0.0, 90),
        (1, 1, 0, 0),
        (0, 0, 0, 0),
        (1, 1, 0.5, 45),
        (1, 1, -0.5, 135),
        (0, 3, 0, 90),
        (2, 1, 1, 0.5 * math.degrees(math.atan2(2, 3))),
        (2, 1, -1e-30, 0),
    ],
)
def test_the_major_axis_turns_counter_clockwise_from_east(x: float, y: float, c: float, rotation: float) -> None:
    assert compute_uncertainty_ellipse(x, y, c)["rotation_angle"] == pytest.approx(rotation, abs=1e-12)


def test_the_answer_has_exactly_these_members() -> None:
    made = compute_uncertainty_ellipse(30, 40, 0, 0.95, "marginal")
    assert made == {
        "semi_major_axis": 40,
        "semi_minor_axis": 30,
        "rotation_angle": 90,
        "confidence_interval": 0.95,
        "area_m2": pytest.approx(math.pi * 1200),
        "semi_major_scaled": pytest.approx(40 * 1.959964, rel=1e-6),
        "semi_minor_scaled": pytest.approx(30 * 1.959964, rel=1e-6),
        "convention": "marginal",
    }
    assert compute_uncertainty_ellipse(30, 40)["semi_major_scaled"] == pytest.approx(40 * 1.50959, rel=1e-5)


@given(x=sigmas, y=sigmas, theta=st.floats(-720, 720))
def test_turned_sigmas_are_the_covariance_of_the_specification(x: float, y: float, theta: float) -> None:
    sin, cos = math.sin(math.radians(theta)), math.cos(math.radians(theta))
    var_x, var_y = (x * cos) ** 2 + (y * sin) ** 2, (x * sin) ** 2 + (y * cos) ** 2
    turned = ellipse_from_sigmas(x, y, theta)
    general = compute_uncertainty_ellipse(
        math.sqrt(var_x), math.sqrt(var_y), _inside((x * x - y * y) * sin * cos, var_x, var_y)
    )
    a, b = max(x, y), min(x, y)
    assert (turned["semi_major_axis"], turned["semi_minor_axis"]) == (a, b)
    assert general["semi_major_axis"] == pytest.approx(a, rel=1e-9)
    assert general["semi_minor_axis"] == pytest.approx(b, rel=1e-6, abs=1e-6 * a)
    if a > 1.01 * b:
        apart = abs(general["rotation_angle"] - turned["rotation_angle"])
        assert min(apart, 180 - apart) < 1e-6


def _inside(c: float, var_x: float, var_y: float) -> float:
    """Take away the rounding by which a flat ellipse's covariance may exceed its bound."""
    bound = math.sqrt(var_x) * math.sqrt(var_y)
    return min(max(c, -bound), bound)


def test_theta_zero_is_no_turn() -> None:
    assert ellipse_from_sigmas(3, 5) == compute_uncertainty_ellipse(3, 5)
    assert ellipse_from_sigmas(5, 3, 30)["rotation_angle"] == 30
    assert ellipse_from_sigmas(3, 5, 30)["rotation_angle"] == 120
    assert ellipse_from_sigmas(5, 3, -30)["rotation_angle"] == 150
    assert ellipse_from_sigmas(5, 3, -1e-20)["rotation_angle"] == 0
    assert ellipse_from_sigmas(4, 4, 30)["rotation_angle"] == 0


@pytest.mark.parametrize(
    ("level", "joint", "marginal"),
    [
        (0.3935, 1.0, 0.515),
        (0.68, 1.5096, 0.9945),
        (0.90, 2.1460, 1.645),
        (0.95, 2.4477, 1.96),
        (0.997, 3.4086, 2.968),
        (0, 0, 0),
    ],
)
def test_scaling_follows_the_table(level: float, joint: float, marginal: float) -> None:
    assert scale_factor(level) == pytest.approx(joint, abs=6e-5)
    assert scale_factor(level, "marginal") == pytest.approx(marginal, abs=5e-4)
    assert scale_factor(level, "marginal") == pytest.approx(norm.ppf((1 + level) / 2), rel=1e-12, abs=1e-15)


def test_a_joint_ellipse_holds_its_level_and_one_sigma_holds_39_percent() -> None:
    points = np.random.default_rng(5).multivariate_normal([0, 0], [[900, 500], [500, 1600]], 100_000)
    made = compute_uncertainty_ellipse(30, 40, 500)
    turn = math.radians(made["rotation_angle"])
    u = points @ [math.cos(turn), math.sin(turn)]
    v = points @ [-math.sin(turn), math.cos(turn)]
    for kind, share in (("scaled", 0.68), ("axis", 0.3935)):
        a, b = made[f"semi_major_{kind}"], made[f"semi_minor_{kind}"]  # type: ignore[literal-required]
        inside = np.mean((u / a) ** 2 + (v / b) ** 2 <= 1)
        assert abs(inside - share) < 4 * math.sqrt(share * (1 - share) / len(points))


@pytest.mark.parametrize("level", [-0.1, 1, 1.5, math.nan, math.inf, "0.68", None, True])
def test_impossible_levels_are_refused(level: Any) -> None:
    for convention in ("joint", "marginal"):
        with pytest.raises(ValueError, match="confidence_level must"):
            scale_factor(level, convention)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="confidence_level must"):
        compute_uncertainty_ellipse(1, 1, 0, level)


def test_levels_next_to_one_stay_finite() -> None:
    for convention in ("joint", "marginal"):
        assert 8 < scale_factor(math.nextafter(1, 0), convention) < 9  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="joint or marginal"):
        scale_factor(0.5, "both")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("x", "y", "c"),
    [
        (-1, 1, 0),
        (1, -1e-9, 0),
        (math.nan, 1, 0),
        (1, math.inf, 0),
        (1, 1, math.nan),
        (1, 1, math.inf),
        (1, 1, 1.00001),
        (1, 1, -1.00001),
        (0, 1, 1e-12),
        (0, 0, 1e-300),
        ("1", 1, 0),
        (None, 1, 0),
        (True, 1, 0),
        (10**400, 1, 0),
        (1e200, 1e200, 0),
        (1e-320, 1e-320, 1e-300),
    ],
)
def test_impossible_sigmas_are_refused(x: Any, y: Any, c: Any) -> None:
    with pytest.raises(ValueError, match=r"must|too large"):
        compute_uncertainty_ellipse(x, y, c)


def test_rounding_at_the_bound_is_no_error() -> None:
    made = compute_uncertainty_ellipse(3, 4, 12 * (1 + 5e-10))
    assert made["semi_minor_axis"] == 0
    assert made["semi_major_axis"] == pytest.approx(5)


@pytest.mark.parametrize("ratio", [1.0, 0.9, 0.5, 0.1, 0.01, 1e-4])
@pytest.mark.parametrize("radius", [0.01, 0.5, 1.0, 2.5, 7.9, 8.1, 30.0])
def test_confidence_is_the_integral(ratio: float, radius: float) -> None:
    def density(t: float) -> float:
        x = radius * math.sin(t)
        return math.exp(-x * x / 2) * math.erf(radius * math.cos(t) / (ratio * math.sqrt(2))) * radius * math.cos(t)

    edges = [0, *sorted(math.pi / 2 - min(k * ratio / radius, 1.5) for k in (0, 1, 8)), min(12 / radius, 1.5)]
    pieces = [quad(density, low, high, epsabs=1e-13, limit=500)[0] for low, high in pairwise(sorted(edges))]
    truth = sum(pieces) * math.sqrt(2 / math.pi)
    assert confidence_within(radius * 20, 20, ratio * 20) == pytest.approx(truth, abs=1e-6)


def test_confidence_agrees_with_simulation() -> None:
    points = np.random.default_rng(6).normal(size=(200_000, 2)) * [60, 25]
    inside = np.mean(np.hypot(*points.T) <= 50)
    assert confidence_within(50, 60, 25) == pytest.approx(inside, abs=4 * math.sqrt(0.25 / len(points)))


def test_confidence_at_its_limits() -> None:
    assert confidence_within(50, 0, 0) == 1
    assert confidence_within(0, 0, 0) == 1
    assert confidence_within(0, 10, 5) == 0
    assert confidence_within(50, 30, 30) == pytest.approx(1 - math.exp(-(50**2) / 1800))
    assert confidence_within(50, 30, 30 - 1e-9) == pytest.approx(1 - math.exp(-(50**2) / 1800))
    assert confidence_within(50, 30, 0) == pytest.approx(math.erf(50 / 30 / math.sqrt(2)))
    assert confidence_within(50, 30, 1e-320) == pytest.approx(math.erf(50 / 30 / math.sqrt(2)), abs=1e-4)
    assert confidence_within(1e300, 1e-300, 1e-305) == pytest.approx(1)
    assert confidence_within(50, 1100, 1100) == pytest.approx(0.00103, abs=1e-5)


@given(r=st.floats(0, 1e6), a=st.floats(0, 1e6), share=st.floats(0, 1))
def test_confidence_is_a_probability(r: float, a: float, share: float) -> None:
    assert 0 <= confidence_within(r, a, a * share) <= 1


@pytest.mark.parametrize("values", [(-1, 1, 1), (1, -1, -1), (1, 1, 2), (math.nan, 1, 1), (1, math.inf, 1)])
def test_impossible_axes_are_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        confidence_within(*values)

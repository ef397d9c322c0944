"""From an estimate to the members of an answer."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import pytest

from uqueue.localization import Estimate, present


def test_the_members_of_an_answer() -> None:
    made = present(Estimate(52.0, 5.0, 30.0, 40.0, 10.0))
    feature = made["ellipse"].pop("feature")
    assert feature["geometry"]["type"] == "Polygon"
    assert feature["properties"]["rotation_deg"] == 100
    assert made == {
        "position": {"latitude": 52, "longitude": 5},
        "uncertainty": {"sigma_x": 30, "sigma_y": 40, "theta": 10, "confidence_interval": 0.68},
        "uncertainty_source": "model",
        "uncertainty_m": pytest.approx(1.50959 * math.sqrt(1200), rel=1e-5),
        "confidence": pytest.approx(0.6384, abs=0.02),
        "confidence_source": "derived",
        "ellipse": {
            "center": [52, 5],
            "semi_major_axis_m": pytest.approx(1.50959 * 40, rel=1e-5),
            "semi_minor_axis_m": pytest.approx(1.50959 * 30, rel=1e-5),
            "rotation_degrees": 100,
            "confidence_level": 0.68,
            "convention": "joint",
        },
    }


def test_settings_rule_ellipse_and_radius() -> None:
    made = present(
        Estimate(52, 5, 30, 30), ellipse_level=0.95, ellipse_convention="marginal", confidence_radius_m=30, num_points=8
    )
    assert made["uncertainty_m"] == pytest.approx(58.8, abs=0.01)
    assert made["uncertainty"]["confidence_interval"] == 0.68
    assert made["confidence"] == pytest.approx(1 - math.exp(-0.5))
    assert made["ellipse"]["confidence_level"] == 0.95
    assert made["ellipse"]["feature"]["properties"]["convention"] == "marginal"
    assert len(made["ellipse"]["feature"]["geometry"]["coordinates"][0]) == 9


def test_a_circular_joint_answer_holds_its_level() -> None:
    """What the client draws: 1, 2 and 3 times uncertainty_m hold 68, 98.95 and 99.996 %."""
    radius = present(Estimate(0, 0, 100, 100))["uncertainty_m"]
    held = [1 - math.exp(-((times * radius / 100) ** 2) / 2) for times in (1, 2, 3)]
    assert held == [pytest.approx(0.68), pytest.approx(0.98951, abs=1e-5), pytest.approx(0.99996, abs=1e-5)]


def test_a_model_s_confidence_goes_before() -> None:
    made = present(Estimate(0, 0, 1, 1, confidence=0.25))
    assert (made["confidence"], made["confidence_source"]) == (0.25, "model")


def test_without_sigmas_the_ellipse_is_a_point() -> None:
    made = present(Estimate(10, 20, uncertainty_source="absent"))
    assert made["uncertainty_source"] == "absent"
    assert (made["uncertainty_m"], made["confidence"], made["confidence_source"]) == (0, 1, "derived")
    assert made["ellipse"]["feature"]["geometry"] == {"type": "Point", "coordinates": [20, 10]}


@pytest.mark.parametrize("place", [(0, 180), (90, 0), (-90, -180), (89.99, 179.99)])
def test_answers_are_json(place: tuple[float, float]) -> None:
    text = json.dumps(present(Estimate(*place, 900, 1200, -170)), allow_nan=False)
    assert 0 <= json.loads(text)["ellipse"]["rotation_degrees"] < 360


@pytest.mark.parametrize(
    ("given_degrees", "wrapped"), [(180, 180), (-180, -180), (181, -179), (-190, 170), (540, -180), (725, 5)]
)
def test_longitude_and_theta_are_wrapped(given_degrees: float, wrapped: float) -> None:
    made = Estimate(0, given_degrees, 1, 2, given_degrees)
    assert (made.longitude, made.theta) == (wrapped, wrapped)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"latitude": 90.0001}, "latitude must be within"),
        ({"latitude": math.nan}, "latitude must be a finite number"),
        ({"longitude": math.inf}, "longitude must be a finite number"),
        ({"longitude": None}, "longitude must be a finite number"),
        ({"sigma_x": -1e-9}, "sigma_x must not be negative"),
        ({"sigma_y": math.nan}, "sigma_y must be a finite number"),
        ({"theta": math.inf}, "theta must be a finite number"),
        ({"confidence": 1.01}, "confidence must be within"),
        ({"confidence": -0.01}, "confidence must be within"),
        ({"confidence": math.nan}, "confidence must be a finite number"),
        ({"confidence": "0.5"}, "confidence must be a number"),
        ({"uncertainty_source": "guess"}, "model or absent"),
    ],
)
def test_what_cannot_be_is_refused_and_never_clamped(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Estimate(**{"latitude": 0.0, "longitude": 0.0, **wrong})


def test_sigmas_beyond_the_globe_are_refused() -> None:
    with pytest.raises(ValueError, match="axes must be"):
        present(Estimate(0, 0, 1e7, 1e7))


def test_only_polygons_need_pyproj() -> None:
    code = "import sys, uqueue.localization; sys.exit('pyproj' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

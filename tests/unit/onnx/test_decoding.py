"""Every encoding that a model may declare, against geographiclib at several latitudes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from geographiclib.geodesic import Geodesic

from uqueue_config.localization import Declaration
from uqueue_worker.localization.decoding import Decoded, Raw, decode
from uqueue_worker.localization.geodesy import metres_per_degree, moved

LATITUDES = (-89.9, -60.0, -33.3, 0.0, 1.5, 45.0, 52.1, 60.0, 80.0, 89.9)
WGS84 = Geodesic.WGS84


def decoded(position: object, sigma: object = None, confidence: object = None, **declared: object) -> Decoded:
    arrays = [None if one is None else np.array(one, np.float32) for one in (position, sigma, confidence)]
    return decode(Raw(*arrays), Declaration.read(declared))


def span(latitude: float, north: float, east: float) -> float:
    """Return metres between a place and another that lies so many degrees north and east of it."""
    return float(WGS84.Inverse(latitude, 5.0, latitude + north, 5.0 + east)["s12"])


@pytest.mark.parametrize("latitude", LATITUDES)
def test_a_small_angle_has_as_many_metres_as_the_geodesic(latitude: float) -> None:
    north, east = metres_per_degree(np.array([latitude]))
    assert float(north[0]) * 1e-4 == pytest.approx(span(latitude, 1e-4, 0.0), rel=1e-5)
    assert float(east[0]) * 1e-4 == pytest.approx(span(latitude, 0.0, 1e-4), rel=1e-5)


@pytest.mark.parametrize("latitude", LATITUDES)
@pytest.mark.parametrize(
    ("declared", "swapped", "in_degrees"),
    [
        ({}, True, True),
        ({"output_encoding": "degrees-latlon-sigma"}, True, True),
        ({"output_encoding": "metres-xy-sigma"}, False, False),
        ({"output_encoding": "custom", "sigma_units": "degrees", "sigma_order": "lat_lon"}, True, True),
        ({"output_encoding": "custom", "sigma_units": "degrees", "sigma_order": "xy"}, False, True),
        ({"output_encoding": "custom", "sigma_units": "meters", "sigma_order": "lat_lon"}, True, False),
        ({"output_encoding": "custom", "sigma_units": "meters", "sigma_order": "xy"}, False, False),
    ],
)
def test_sigmas_come_out_in_metres_east_and_north(
    latitude: float, declared: dict[str, str], swapped: bool, in_degrees: bool
) -> None:
    first, second = (3e-4, 7e-4) if in_degrees else (30.0, 70.0)
    found = decoded([[latitude, 5.0]], [[first, second]], **declared)
    east, north = (second, first) if swapped else (first, second)
    if in_degrees:
        east, north = span(latitude, 0.0, east), span(latitude, north, 0.0)
    assert float(found.sigma_x[0]) == pytest.approx(east, rel=1e-4)
    assert float(found.sigma_y[0]) == pytest.approx(north, rel=1e-4)
    assert list(found.problems) == [""]


@pytest.mark.parametrize("latitude", [*LATITUDES, 90.0, -90.0])
@pytest.mark.parametrize("metres", [0.0, 30.0, 5_000.0, 200_000.0, 9_000_000.0])
def test_offsets_lead_where_the_geodesic_does(latitude: float, metres: float) -> None:
    angles = np.radians(np.arange(0, 360, 30))
    east, north = metres * np.sin(angles), metres * np.cos(angles)
    found = moved(latitude, 179.9, east, north)
    for index in range(len(angles)):
        # At a pole geographiclib counts azimuths from the meridian, as this does.
        true = WGS84.Direct(latitude, 179.9, math.degrees(math.atan2(east[index], north[index])), metres)
        off = WGS84.Inverse(found[0][index], found[1][index], true["lat2"], true["lon2"])["s12"]
        assert off < 1e-3
    assert (np.abs(found[1]) <= 180).all()


def test_positions_of_every_encoding() -> None:
    origin = {"origin": [52.0, 5.0]}
    true = WGS84.Direct(52.0, 5.0, math.degrees(math.atan2(3000, -4000)), 5000)
    offset = decoded([[3000.0, -4000.0]], position_encoding="offset_m", **origin)
    scaled = decoded([[2.0, -1.0]], position_encoding="zscore_offset_m", mean=[1000, -3000], std=[1000, 1000], **origin)
    for found in (offset, scaled):
        assert float(found.latitude[0]) == pytest.approx(true["lat2"], abs=1e-9)
        assert float(found.longitude[0]) == pytest.approx(true["lon2"], abs=1e-9)
    plain = decoded([[52.0, 5.0]], **origin, mean="1,1", std="2,2")
    assert (float(plain.latitude[0]), float(plain.longitude[0])) == (52.0, 5.0)


def test_sigmas_in_degrees_are_those_at_the_predicted_latitude_and_not_at_the_origin() -> None:
    found = decoded([[0.0, 2_000_000.0]], [[1e-3, 1e-3]], position_encoding="offset_m", origin="40,5")
    assert float(found.latitude[0]) == pytest.approx(57.95, abs=0.05)
    assert float(found.sigma_x[0]) == pytest.approx(span(float(found.latitude[0]), 0, 1e-3), rel=1e-4)


def test_longitude_and_theta_are_wrapped_and_nothing_is_clamped() -> None:
    found = decoded([[0, 180], [0, -180], [0, 181], [0, 540.5], [0, -190]], [[1, 1, 200.0]] * 5)
    assert found.longitude.tolist() == [180.0, -180.0, -179.0, -179.5, 170.0]
    assert found.theta.tolist() == [-160.0] * 5
    assert set(found.problems) == {""}


@pytest.mark.parametrize(
    ("position", "sigma", "confidence", "words"),
    [
        ([np.nan, 0], [1, 1], 0.5, "a position that is not finite"),
        ([0, np.inf], [1, 1], 0.5, "a position that is not finite"),
        ([90.001, 0], [1, 1], 0.5, "a latitude outside"),
        ([-91, 0], [1, 1], 0.5, "a latitude outside"),
        ([0, 0], [-1e-9, 1], 0.5, "a sigma below 0"),
        ([0, 0], [1, np.nan], 0.5, "an uncertainty that is not finite"),
        ([0, 0], [1, 1, np.inf], 0.5, "an uncertainty that is not finite"),
        ([0, 0], [1, 1], 1.001, "a confidence outside"),
        ([0, 0], [1, 1], -0.001, "a confidence outside"),
        ([0, 0], [1, 1], np.nan, "a confidence outside"),
    ],
)
def test_what_cannot_be_is_named_for_its_row_alone(
    position: list[float], sigma: list[float], confidence: float, words: str
) -> None:
    good = ([0.0, 0.0], [1.0] * len(sigma), 0.5)
    rows = list(zip(good, (position, sigma, confidence), good, strict=True))
    found = decoded(*rows)
    assert found.problems[0] == found.problems[2] == ""
    assert words in found.problems[1]


def test_an_offset_around_the_earth_cannot_be() -> None:
    far = decoded([[3e7, 0.0], [2e7, 0.0]], position_encoding="offset_m", origin="0,0")
    assert "around the Earth" in far.problems[0]
    assert far.problems[1] == ""


def test_edges_are_good() -> None:
    found = decoded([[90, 0], [-90, 0]], [[0, 0], [1e-4, 1e-4]], [0, 1])
    assert list(found.problems) == ["", ""]
    assert float(found.sigma_x[1]) == pytest.approx(0.0, abs=1e-6)
    assert found.sigma_y[1] > 11


def test_without_sigmas_they_are_zero() -> None:
    found = decoded([[1, 2]] * 3)
    assert found.sigma_x.tolist() == found.sigma_y.tolist() == found.theta.tolist() == [0.0] * 3
    assert found.confidence is None

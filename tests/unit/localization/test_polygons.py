"""Ellipse polygons against geographiclib's solution of the geodesic problems, which is not the library they use."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from geographiclib.geodesic import Geodesic
from hypothesis import given, settings
from hypothesis import strategies as st

from uqueue.localization import circle_feature, ellipse_feature, position_feature

WGS84 = Geodesic.WGS84
Position = tuple[float, float]


def rings_of(geometry: dict[str, Any]) -> list[list[Position]]:
    polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    assert all(len(polygon) == 1 for polygon in polygons)
    return [[(lon, lat) for lon, lat in polygon[0]] for polygon in polygons]


def true_vertices(lat: float, lon: float, a: float, b: float, rotation: float, n: int) -> list[tuple[float, Position]]:
    """Distance from the centre, and position, of every vertex."""
    q = math.radians(rotation)
    made = []
    for i in range(n):
        u, v = a * math.cos(2 * math.pi * i / n), b * math.sin(2 * math.pi * i / n)
        east, north = u * math.cos(q) - v * math.sin(q), u * math.sin(q) + v * math.cos(q)
        there = WGS84.Direct(lat, lon, math.degrees(math.atan2(east, north)), math.hypot(east, north))
        made.append((math.hypot(east, north), (there["lon2"], there["lat2"])))
    return made


def apart(p: Position, q: Position) -> float:
    return float(WGS84.Inverse(p[1], p[0], q[1], q[0])["s12"])


def signed_area(ring: list[Position]) -> float:
    """Twice the area in square degrees, positive when the closed ring runs counter-clockwise."""
    x, y = ring[0]
    shifted = [(lon - x, lat - y) for lon, lat in ring]
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(shifted))


def holds(rings: list[list[Position]], point: Position) -> bool:
    inside = False
    for ring in rings:
        for (x1, y1), (x2, y2) in pairwise(ring):
            if (y1 > point[1]) != (y2 > point[1]) and point[0] < x1 + (point[1] - y1) / (y2 - y1) * (x2 - x1):
                inside = not inside
    return inside


def assert_valid(geometry: dict[str, Any]) -> list[list[Position]]:
    rings = rings_of(geometry)
    assert (len(rings) == 1) == (geometry["type"] == "Polygon")
    for ring in rings:
        assert len(ring) >= 4
        assert ring[0] == ring[-1]
        assert all(-180 <= lon <= 180 and -90 <= lat <= 90 for lon, lat in ring)
        assert signed_area(ring) > 0
    return rings


PLACES = [(lat, lon) for lat in (0.0, 60.0, -60.0, 80.1, 89.9, -89.9, 90.0, -90.0) for lon in (12.5, 180.0, -180.0)]
PLACES += [(45.0, 179.99999), (-45.0, -179.99999), (0.0, 179.5), (89.9, 179.5), (-90.0, 179.5)]


@pytest.mark.parametrize("a", [1.0, 50.0, 5_000.0, 11_169.0, 100_000.0])
@pytest.mark.parametrize("place", PLACES)
def test_vertices_are_where_geodesics_end(place: Position, a: float) -> None:
    for b, rotation in ((a, 0.0), (0.4 * a, 30.0), (0.05 * a, 135.0)):
        made = ellipse_feature(*place, a, b, rotation)
        rings = assert_valid(made["geometry"])
        left = [position for ring in rings for position in ring]
        for distance, truth in true_vertices(*place, a, b, rotation, 64):
            nearest = min(left, key=lambda p, t=truth: _roughly(p, t))
            assert apart(nearest, truth) <= 1e-6 * distance + 1e-8
        _assert_holds_the_ellipse(rings, place, a, b, rotation)


def _roughly(p: Position, q: Position) -> float:
    turn = math.radians(p[0] - q[0])
    high = math.cos(math.radians(p[1])) * math.cos(math.radians(q[1]))
    return math.sin(math.radians(p[1] - q[1]) / 2) ** 2 + high * math.sin(turn / 2) ** 2


def _assert_holds_the_ellipse(
    rings: list[list[Position]], place: Position, a: float, b: float, rotation: float
) -> None:
    for scale, expected in ((0.6, True), (1.5, False)):
        for _, (lon, lat) in true_vertices(*place, scale * a, scale * b, rotation, 7):
            assert holds(rings, (lon, lat)) is expected


@pytest.mark.parametrize(
    ("lat", "lon", "rings"), [(0, 12.5, 1), (60, -180, 2), (0, 180, 2), (89.9999, 7, 1), (-90, 180, 1), (0, 179.5, 2)]
)
def test_what_crosses_the_antimeridian_is_cut_there(lat: float, lon: float, rings: int) -> None:
    made = rings_of(ellipse_feature(lat, lon, 100_000, 30_000, 20)["geometry"])
    assert len(made) == rings
    if rings == 2:
        edges = [{position[0] for position in ring if abs(position[0]) == 180} for ring in made]
        assert edges == [{180}, {-180}]
        crossed = [sorted(lat for lon, lat in set(ring) if abs(lon) == 180) for ring in made]
        assert crossed[0] == crossed[1]


@pytest.mark.parametrize(("lat", "pole"), [(89.9, 90), (90, 90), (-89.95, -90), (-90, -90)])
def test_around_a_pole_the_polygon_reaches_the_edge_of_the_map(lat: float, pole: int) -> None:
    for lon in (0, 77.7, -180, 180):
        made = ellipse_feature(lat, lon, 50_000, 40_000, 60)["geometry"]
        (ring,) = assert_valid(made)
        assert {(180, pole), (-180, pole)} <= set(ring)
        assert holds([ring], (-170.123, pole * 0.99999))
        assert holds([ring], (10.1, pole * 0.99999))


def test_the_ring_is_closed_and_runs_counter_clockwise_from_the_major_axis() -> None:
    made = ellipse_feature(52, 5, 200, 50, 0)
    (ring,) = assert_valid(made["geometry"])
    assert len(ring) == 65
    first, quarter = WGS84.Inverse(52, 5, *ring[0][::-1]), WGS84.Inverse(52, 5, *ring[16][::-1])
    assert (first["s12"], first["azi1"]) == (pytest.approx(200), pytest.approx(90))
    assert (quarter["s12"], quarter["azi1"]) == (pytest.approx(50), pytest.approx(0, abs=1e-5))
    turned = ellipse_feature(52, 5, 200, 50, 30, num_points=4)["geometry"]["coordinates"][0]
    assert len(turned) == 5
    assert WGS84.Inverse(52, 5, *turned[0][::-1])["azi1"] == pytest.approx(60)


def test_properties_say_what_is_drawn() -> None:
    made = ellipse_feature(52, 5, 200, 50, 30, confidence_level=0.95, convention="marginal")
    assert made["type"] == "Feature"
    assert made["properties"] == {
        "name": "Uncertainty Ellipse",
        "semi_major_m": 200,
        "semi_minor_m": 50,
        "rotation_deg": 30,
        "center_lat": 52,
        "center_lon": 5,
        "confidence_level": 0.95,
        "convention": "marginal",
    }


def test_no_uncertainty_is_a_point() -> None:
    assert ellipse_feature(52, 5, 0, 0, 0)["geometry"] == {"type": "Point", "coordinates": [5, 52]}


@pytest.mark.parametrize("place", [*PLACES, (89.99, 0.0)])
def test_one_axis_alone_is_a_closed_line(place: Position) -> None:
    for n in (4, 5, 64):
        geometry = ellipse_feature(*place, 3000, 0, 25, num_points=n)["geometry"]
        for ring in rings_of(geometry):
            assert len(ring) >= 4
            assert ring[0] == ring[-1]
            assert all(-180 <= lon <= 180 for lon, _ in ring)
            assert signed_area(ring) == pytest.approx(0, abs=1e-9)
        ends = [truth for _, truth in true_vertices(*place, 3000, 0, 25, 2)]
        drawn = [position for ring in rings_of(geometry) for position in ring]
        assert min(apart(ends[0], position) for position in drawn) < 1e-6


def test_circles_have_32_vertices() -> None:
    made = circle_feature(-33, 151, 1000)
    (ring,) = assert_valid(made["geometry"])
    assert len(ring) == 33
    assert all(apart((151, -33), position) == pytest.approx(1000, rel=1e-9) for position in ring)
    assert made["properties"] == {"name": "Circle", "radius_m": 1000, "center_lat": -33, "center_lon": 151}


def test_a_position_carries_its_sigmas() -> None:
    assert position_feature(52, 5, sigma_x=30, sigma_y=40, theta=10) == {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [5, 52]},
        "properties": {"name": "Position", "sigma_x_m": 30, "sigma_y_m": 40, "theta_deg": 10},
    }


@settings(max_examples=300, deadline=None)
@given(
    lat=st.floats(-90, 90),
    lon=st.floats(-180, 180),
    exponent=st.floats(0, 6.3),
    share=st.floats(0.01, 1),
    rotation=st.floats(-360, 360),
    n=st.integers(8, 40),
)
def test_any_ellipse_gives_a_valid_polygon(
    lat: float, lon: float, exponent: float, share: float, rotation: float, n: int
) -> None:
    a = 10**exponent
    geometry = ellipse_feature(lat, lon, a, share * a, rotation, num_points=n)["geometry"]
    drawn = {position for ring in assert_valid(geometry) for position in ring}
    for distance, truth in true_vertices(lat, lon, a, share * a, rotation, n):
        nearest = min(drawn, key=lambda p: _roughly(p, truth))
        assert apart(nearest, truth) <= 1e-3 * distance


@pytest.mark.parametrize(
    ("lat", "lon", "a", "share", "rotation", "n"),
    [
        (-89.99972617767689, -180.0, 6115.2, 0.00197, -154.7, 32),
        (89.92537318842507, 180.0, 124536.0, 0.0198, 191.76, 4),
        (89.99897825335896, -179.99642163655147, 13545.6, 0.001065, 351.67, 8),
        (89.99900821605264, 179.99998582184213, 34420.4, 0.00123, -309.17, 4),
        (89.99999876092141, 180.0, 23.6, 0.00105, 122.7, 64),
        (87.75338461255572, -179.99993269706744, 1678536.5, 0.0087, 312.07, 4),
        (90.0, -180.0, 0.001, 1.0, 45.0, 8),
        (90.0, 180.0, 0.001, 1.0, 45.0, 32),
    ],
)
def test_narrow_ellipses_past_a_pole_do_not_cross_themselves(
    lat: float, lon: float, a: float, share: float, rotation: float, n: int
) -> None:
    rings = assert_valid(ellipse_feature(lat, lon, a, share * a, rotation, num_points=n)["geometry"])
    for scale, expected in ((0.5, True), (1.7, False)):
        inside = [
            holds(rings, truth) for _, truth in true_vertices(lat, lon, scale * a, scale * share * a, rotation, 2)
        ]
        assert inside == [expected] * 2


def test_away_from_the_poles_nothing_is_added() -> None:
    for lat in (0, 60, -80, 89.9):
        assert len(rings_of(ellipse_feature(lat, 20, 5000, 800, 30)["geometry"])[0]) == 65


@settings(max_examples=100, deadline=None)
@given(
    lat=st.floats(-90, 90),
    lon=st.floats(-180, 180),
    a=st.floats(1e6, 1e7),
    share=st.floats(0, 1),
    rotation=st.floats(-360, 360),
)
def test_huge_ellipses_stay_on_the_map(lat: float, lon: float, a: float, share: float, rotation: float) -> None:
    for ring in rings_of(ellipse_feature(lat, lon, a, share * a, rotation)["geometry"]):
        assert ring[0] == ring[-1]
        assert len(ring) >= 4
        assert all(-180 <= x <= 180 and -90 <= y <= 90 for x, y in ring)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((91, 0, 1, 1, 0), "position must be within"),
        ((0, 180.1, 1, 1, 0), "position must be within"),
        ((math.nan, 0, 1, 1, 0), "position must be within"),
        ((0, math.inf, 1, 1, 0), "position must be within"),
        ((0, 0, 1, 2, 0), "axes must be"),
        ((0, 0, 1, -1, 0), "axes must be"),
        ((0, 0, math.nan, 1, 0), "axes must be"),
        ((0, 0, math.inf, 1, 0), "axes must be"),
        ((0, 0, 1.1e7, 1, 0), "axes must be"),
        ((0, 0, 1, 1, math.nan), "rotation must be"),
    ],
)
def test_impossible_ellipses_are_refused(arguments: tuple[float, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ellipse_feature(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [3, 0, -4, 4.0, True, None])
def test_polygons_have_at_least_four_points(n: Any) -> None:
    with pytest.raises(ValueError, match="num_points"):
        ellipse_feature(0, 0, 1, 1, 0, num_points=n)
    with pytest.raises(ValueError, match="within"):
        position_feature(0, 181, sigma_x=1, sigma_y=1)

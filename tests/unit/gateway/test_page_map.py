"""The map: where positions lie, across 180 degrees and at the poles too."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.html_page import Element, read_html
from builders.page_views import localization
from uqueue.gateway.page.geometry import Frame, round_length, round_steps, wrapped
from uqueue.gateway.page.map import HEIGHT, WIDTH, map_figure

Place = tuple[float, float]


def drawn(*places: Place, uncertainty_m: float = 100.0, **members: object) -> Element:
    recent = [
        localization(n, latitude=latitude, longitude=longitude, uncertainty_m=uncertainty_m, **members)
        for n, (latitude, longitude) in enumerate(places)
    ]
    return read_html(map_figure(recent))


def dots(figure: Element) -> list[Place]:
    return [(float(one.attributes["cx"]), float(one.attributes["cy"])) for one in figure.all("circle", class_="dot")]


def path_points(figure: Element, name: str) -> list[list[Place]]:
    paths = [one.attributes["d"] for one in figure.all("path") if name in one.attributes.get("class", "").split()]
    return [[(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", path)] for path in paths]


def extent(points: list[Place]) -> tuple[float, float]:
    return max(x for x, _ in points) - min(x for x, _ in points), max(y for _, y in points) - min(y for _, y in points)


@pytest.mark.parametrize(
    "places",
    [
        [(52.0, 5.0)],
        [(52.0, 5.0), (52.1, 5.2), (51.9, 4.9)],
        [(-17.0, 179.99), (-17.01, -179.98)],
        [(0.0, 180.0), (0.0, -180.0)],
        [(89.999, 0.0), (89.999, 120.0), (89.999, -120.0)],
        [(-90.0, 0.0)],
        [(90.0, 12.0), (-90.0, -170.0)],
        [(0.0, longitude) for longitude in range(-180, 180, 10)],
    ],
    ids=["one", "near", "antimeridian", "180 twice", "around a pole", "a pole", "both poles", "all round"],
)
@pytest.mark.parametrize("uncertainty_m", [0.0, 100.0, 1_000_000.0, 9e6])
def test_every_position_is_on_the_map(places: list[Place], uncertainty_m: float) -> None:
    figure = drawn(*places, uncertainty_m=uncertainty_m)
    found = dots(figure)
    assert len(found) == len(places)
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in found)
    for name in ("area", "edge"):
        for points in path_points(figure, name):
            assert all(math.isfinite(x) and math.isfinite(y) for x, y in points)


@given(st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=1, max_size=6), st.floats(0, 1e7))
def test_every_position_is_on_the_map_wherever(places: list[Place], uncertainty_m: float) -> None:
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in dots(drawn(*places, uncertainty_m=uncertainty_m)))


def test_neighbours_across_180_degrees_are_neighbours() -> None:
    west, east = dots(drawn((-17.0, 179.999), (-17.0, -179.999)))[::-1]
    near = dots(drawn((-17.0, 9.999), (-17.0, 10.001)))[::-1]
    assert west[0] < east[0]
    assert (west, east) == (pytest.approx(near[0]), pytest.approx(near[1]))
    labels = [one.text for one in drawn((-17.0, 177.5), (-17.0, -177.5)).all("text")]
    assert any(text.endswith("W") for text in labels)
    assert any(text.endswith("E") for text in labels)
    assert "180°" in labels


def test_a_circle_across_180_degrees_has_its_size_and_no_edge_where_it_is_cut() -> None:
    figure = drawn((10.0, 180.0), uncertainty_m=1000)
    whole = drawn((10.0, 20.0), uncertainty_m=1000)
    [points] = path_points(whole, "area")
    pieces = path_points(figure, "area")
    assert len(pieces) == 2
    assert extent([point for piece in pieces for point in piece]) == pytest.approx(extent(points), abs=0.3)
    middle = WIDTH / 2
    for line in path_points(figure, "edge"):
        for (x, _), (next_x, _) in pairwise(line):
            assert not (abs(x - middle) < 0.1 and abs(next_x - middle) < 0.1)


def test_a_circle_is_round_away_from_the_equator() -> None:
    [points] = path_points(drawn((60.0, 5.0), uncertainty_m=500), "area")
    wide, high = extent(points)
    assert wide == pytest.approx(high, rel=0.02)


def test_an_ellipse_that_was_kept_is_drawn() -> None:
    [points] = path_points(drawn((50.0, 5.0), ellipse=[400.0, 100.0, 90.0]), "area")
    wide, high = extent(points)
    assert high / wide == pytest.approx(4, rel=0.03)


def test_the_newest_stands_out_and_lies_on_top() -> None:
    groups = [one.attributes["class"] for one in drawn((1.0, 1.0), (1.0, 1.01), (1.0, 1.02)).all("g")]
    assert [name for name in groups if name.startswith("mark")] == ["mark", "mark", "mark newest"]


def test_the_scale_is_true() -> None:
    figure = drawn((50.0, 5.0), uncertainty_m=1000)
    [points] = path_points(figure, "area")
    path = figure.one("g", class_="scale").one("path").attributes["d"]
    left, right = (float(number) for number in re.findall(r"M([\d.]+),.*H([\d.]+)", path)[0])
    length = {"500 m": 500, "1 km": 1000, "2 km": 2000}[figure.one("g", class_="scale").one("text").text]
    assert length / (right - left) == pytest.approx(2000 / extent(points)[0], rel=0.02)


def test_no_scale_where_there_is_none() -> None:
    assert drawn((89.9, 0.0), uncertainty_m=1000).all("g", class_="scale") == []
    assert drawn((0.0, 0.0), (0.0, 170.0)).all("g", class_="scale") == []


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (51.98, 52.03), (-1e-6, 1e-6), (-3e300, 3e300), (179.9, 180.1), (5, 5)]
)
def test_steps_are_round_and_inside(low: float, high: float) -> None:
    steps = round_steps(low, high, 5)
    assert 1 <= len(steps) <= 6
    assert all(low - 1e-12 <= step <= high + (high - low) * 1e-6 for step in steps)


def test_round_lengths() -> None:
    assert [round_length(one) for one in (1, 1.9, 2, 4.9, 99, 100, 0.03)] == [1, 1, 2, 2, 50, 100, pytest.approx(0.02)]
    assert [wrapped(one) for one in (180, 181, -181, 540)] == [-180, -179, 179, -180]


def test_the_smallest_map_is_chosen() -> None:
    frame = Frame.around([(170.0, 0.0), (-170.0, 0.0)], 100, 100)
    assert frame.east - frame.west < 30
    assert frame.place((180.0, 0.0))[0] == pytest.approx(50)

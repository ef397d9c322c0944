"""How the localization demo compares answers with the truth, and draws both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyproj import Geod

from builders.recordings import write_recording
from uqueue.cli.localization_map import draw_map, map_features
from uqueue.cli.recording import open_recording
from uqueue.cli.sites import Site, distance_m, inside, offset_m
from uqueue.localization import Estimate, present


def site(tmp_path: Path, east_m: float, north_m: float) -> Site:
    """Return an emitter so far from 52 degrees north, 5 east."""
    eastern = Geod(ellps="WGS84").fwd(5.0, 52.0, 90, east_m)
    longitude, latitude, _ = Geod(ellps="WGS84").fwd(eastern[0], eastern[1], 0, north_m)
    recording = open_recording(write_recording(tmp_path, samples=2048))
    return Site({"recording": "000", "latitude": latitude, "longitude": longitude}, recording)


def answer(sigma_x: float, sigma_y: float, theta: float = 0.0) -> dict[str, Any]:
    return present(Estimate(52.0, 5.0, sigma_x=sigma_x, sigma_y=sigma_y, theta=theta))


def test_the_ellipse_is_a_joint_one(tmp_path: Path) -> None:
    """Along an axis it ends at 1.5096 sigmas for 68 % and 2.4477 for 95 %."""
    for along, level in ((150, 0.68), (244, 0.95)):
        assert inside(site(tmp_path, along, 0), answer(100, 10), level)
        assert inside(site(tmp_path, 0, along), answer(100, 10, theta=90), level)
        assert not inside(site(tmp_path, along + 2, 0), answer(100, 10), level)
        assert not inside(site(tmp_path, 0, along), answer(100, 10), level)


def test_distances_are_metres_east_and_north(tmp_path: Path) -> None:
    one = site(tmp_path, 30, -40)
    assert offset_m(one, answer(1, 1)) == pytest.approx((30, -40), abs=0.01)
    assert distance_m(one, answer(1, 1)) == pytest.approx(50, abs=0.01)
    assert one.about == {"sample_rate_hz": 192_000, "frequency_mhz": 121.5}


def test_the_map_holds_everything_and_can_be_drawn(tmp_path: Path) -> None:
    sites = [site(tmp_path, 30, -40), site(tmp_path, 300, 100)]
    answers = {"1": [answer(100, 50, 30), answer(80, 80)], "2": [answer(40, 20), answer(30, 30)]}
    made = map_features(sites, answers, {"receivers": [[52.01, 5.0], [51.99, 5.01]]})
    roles = [one["properties"]["role"] for one in made["features"]]
    assert {role: roles.count(role) for role in roles} == {"receiver": 2, "truth": 2, "estimate": 4, "ellipse": 8}
    draw_map(tmp_path / "map.png", made)
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")

"""GeoJSON (RFC 7946) of ellipses, circles and positions on the WGS 84 ellipsoid."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uqueue.localization.ellipse import Convention
from uqueue.localization.rings import Ring, ring_geometry

if TYPE_CHECKING:
    from pyproj import Geod

LARGEST_AXIS_M = 10_000_000.0  # a quarter of the way round: beyond it an ellipse would overlap itself
_FEWEST_POINTS = 4
_MOST_BISECTIONS = 40


def ellipse_feature(
    latitude: float,
    longitude: float,
    semi_major_m: float,
    semi_minor_m: float,
    rotation_deg: float,
    *,
    confidence_level: float = 0.68,
    convention: Convention = "joint",
    num_points: int = 64,
) -> dict[str, Any]:
    """Return a GeoJSON Feature of the ellipse with these axes, drawn as they are: scale them to the level before.

    rotation_deg turns the major axis counter-clockwise from East. The ring has num_points vertices at their exact
    geodesic distance and azimuth, runs counter-clockwise and repeats the first vertex. Two axes of 0 give a Point, one
    a closed ring without width; across 180 degrees it is a MultiPolygon, around a pole it reaches to the map's edge.
    Where an edge passes close to a pole, vertices are added, because edges are straight in longitude and latitude.
    ValueError for a position outside [-90, 90] and [-180, 180], axes that are negative, in the wrong order or above
    10,000 km, what is not finite, and fewer than 4 points. Needs the extra `localization`.
    """
    geometry = _geometry(latitude, longitude, semi_major_m, semi_minor_m, rotation_deg, num_points)
    properties = {
        "name": "Uncertainty Ellipse",
        "semi_major_m": float(semi_major_m),
        "semi_minor_m": float(semi_minor_m),
        "rotation_deg": float(rotation_deg),
        "center_lat": float(latitude),
        "center_lon": float(longitude),
        "confidence_level": float(confidence_level),
        "convention": convention,
    }
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def circle_feature(latitude: float, longitude: float, radius_m: float, *, num_points: int = 32) -> dict[str, Any]:
    """Return a GeoJSON Feature of the circle, with the rules of `ellipse_feature`."""
    properties = {
        "name": "Circle",
        "radius_m": float(radius_m),
        "center_lat": float(latitude),
        "center_lon": float(longitude),
    }
    geometry = _geometry(latitude, longitude, radius_m, radius_m, 0.0, num_points)
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def position_feature(
    latitude: float, longitude: float, *, sigma_x: float, sigma_y: float, theta: float = 0.0
) -> dict[str, Any]:
    """Return a GeoJSON Feature of the position with its one-sigma uncertainty (metres, degrees) as properties.

    ValueError for a position outside [-90, 90] and [-180, 180].
    """
    _check_position(latitude, longitude)
    properties = {"name": "Position", "sigma_x_m": sigma_x, "sigma_y_m": sigma_y, "theta_deg": theta}
    return {"type": "Feature", "geometry": _point(latitude, longitude), "properties": properties}


def _geometry(
    latitude: float, longitude: float, semi_major_m: float, semi_minor_m: float, rotation_deg: float, num_points: int
) -> dict[str, Any]:
    _check_position(latitude, longitude)
    if not 0 <= semi_minor_m <= semi_major_m <= LARGEST_AXIS_M:
        raise ValueError(
            f"the axes must be 0 <= semi_minor <= semi_major <= {LARGEST_AXIS_M:.0f} m, got {semi_minor_m} and "
            f"{semi_major_m}"
        )
    if not math.isfinite(rotation_deg):
        raise ValueError(f"the rotation must be a finite number of degrees, got {rotation_deg}")
    if type(num_points) is not int or num_points < _FEWEST_POINTS:
        raise ValueError(f"num_points must be a whole number from {_FEWEST_POINTS} on, got {num_points!r}")
    if semi_major_m == 0:
        return _point(latitude, longitude)
    return ring_geometry(_vertices(latitude, longitude, semi_major_m, semi_minor_m, rotation_deg, num_points))


def _vertices(latitude: float, longitude: float, a: float, b: float, rotation_deg: float, n: int) -> Ring:
    """Return n vertices, and more only where an edge next to a pole would lead round it instead of past it."""

    def solve(steps: NDArray[np.float64]) -> Ring:
        if b == 0:
            steps = np.minimum(steps, n - steps)  # the way back is the same to the last bit
        angle = 2 * np.pi * steps / n
        return _direct(latitude, longitude, a * np.cos(angle), b * np.sin(angle), math.radians(rotation_deg))

    steps = np.arange(n, dtype=np.float64)
    ring = solve(steps)
    for _ in range(_MOST_BISECTIONS):
        wide = np.flatnonzero(_is_bent(np.array(ring)))
        if not len(wide):
            break
        between = (steps[wide] + np.append(steps, n)[wide + 1]) / 2
        for place, position in reversed(list(zip(wide + 1, solve(between), strict=True))):
            ring.insert(int(place), position)
        steps = np.insert(steps, wide + 1, between)
    return ring


def _is_bent(ring: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which edges (from each vertex to the next) are far from straight in longitude and latitude: those at a pole.

    They span many degrees, or some while one end is much farther from the pole than the other.
    """
    ends = np.concatenate([ring, ring[:1]])
    turns = np.abs((np.diff(ends[:, 0]) + 180) % 360 - 180)
    from_pole = np.cos(np.radians(ends[:, 1]))
    nearer, farther = np.minimum(from_pole[:-1], from_pole[1:]), np.maximum(from_pole[:-1], from_pole[1:])
    return np.asarray((turns > 20) | ((turns > 0.1) & (farther > 1.5 * nearer)))


def _direct(
    latitude: float, longitude: float, along: NDArray[np.float64], across: NDArray[np.float64], turned: float
) -> Ring:
    """Solve the direct geodesic problem for points given along the axes of an ellipse."""
    east = along * math.cos(turned) - across * math.sin(turned)
    north = along * math.sin(turned) + across * math.cos(turned)
    azimuth = np.degrees(np.arctan2(east, north))
    count = len(along)
    longitudes, latitudes, _ = _wgs84().fwd(
        [float(longitude)] * count, [float(latitude)] * count, azimuth.tolist(), np.hypot(east, north).tolist()
    )
    return list(zip(longitudes, latitudes, strict=True))


@cache
def _wgs84() -> Geod:
    from pyproj import Geod

    return Geod(ellps="WGS84")


def _point(latitude: float, longitude: float) -> dict[str, Any]:
    return {"type": "Point", "coordinates": [float(longitude), float(latitude)]}


def _check_position(latitude: float, longitude: float) -> None:
    if not -90 <= latitude <= 90 or not -180 <= longitude <= 180:
        raise ValueError(f"the position must be within [-90, 90] and [-180, 180] degrees, got {latitude}, {longitude}")

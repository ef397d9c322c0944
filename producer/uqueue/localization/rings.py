"""Rings on the globe as GeoJSON polygons: cut at the antimeridian, carried along the edge of the map around a pole.

RFC 7946, 3.1.9: no geometry crosses 180 degrees; a straight line between two positions is straight in longitude and
latitude. Rings here are lists of (longitude, latitude) without the closing repetition.
"""

from __future__ import annotations

import math
from typing import Any

Position = tuple[float, float]
Ring = list[Position]
_ROUNDING = 1e-11  # degrees, a micrometre: nearer to 180 is at 180


def ring_geometry(ring: Ring) -> dict[str, Any]:
    """Return a Polygon, or a MultiPolygon where the ring crosses 180 degrees, of a counter-clockwise ring.

    `ring` has longitudes in [-180, 180], and neighbours less than half a turn apart. Where it goes round a pole, the
    answer reaches to the pole's latitude. All longitudes of the answer are in [-180, 180].
    """
    unwrapped, turns = _unwrap([(_snapped(longitude), latitude) for longitude, latitude in ring])
    whole = unwrapped if turns == 0 else _around_pole(unwrapped, turns)
    pieces = [_into_map(piece) for piece in _cut_all(_into_map(whole))]
    closed = [[[list(position) for position in [*piece, piece[0]]]] for piece in pieces]
    if len(closed) == 1:
        return {"type": "Polygon", "coordinates": closed[0]}
    return {"type": "MultiPolygon", "coordinates": closed}


def _snapped(longitude: float) -> float:
    return math.copysign(180.0, longitude) if abs(longitude) > 180 - _ROUNDING else longitude


def _unwrap(ring: Ring) -> tuple[Ring, int]:
    """Return the ring with longitudes that do not jump, and how often it goes round the globe eastwards."""
    made, turns = [ring[0]], 0
    for (before, _), (here, latitude) in zip(ring, [*ring[1:], ring[0]], strict=True):
        turns -= round((here - before) / 360)
        made.append((here + 360 * turns, latitude))
    return made[:-1], turns


def _around_pole(ring: Ring, turns: int) -> Ring:
    """Begin the ring where it crosses 180 degrees and close it along the edges of the map.

    Counter-clockwise and eastwards means around the north pole, westwards the south pole.
    """
    edge, pole = (-180.0, 90.0) if turns > 0 else (180.0, -90.0)
    ends = [*ring, (ring[0][0] + 360 * turns, ring[0][1])]
    at = next(i for i in range(len(ring)) if _map_of(ends[i + 1][0]) - _map_of(ends[i][0]) == (1 if turns > 0 else -1))
    line = 360 * max(_map_of(ends[at][0]), _map_of(ends[at + 1][0])) - 180
    latitude = _latitude_at(ends[at], ends[at + 1], line)
    later = [(longitude - line + edge, north) for longitude, north in ring[at + 1 :]]
    earlier = [(longitude + 360 * turns - line + edge, north) for longitude, north in ring[: at + 1]]
    chain = [(edge, latitude), *later, *earlier, (-edge, latitude)]
    return _without_repetition([*chain, (-edge, pole), (edge, pole)])


def _map_of(longitude: float) -> int:
    """Number the maps that lie side by side along the unwrapped axis; 0 is [-180, 180)."""
    return math.floor((longitude + 180) / 360)


def _into_map(ring: Ring) -> Ring:
    shift = 360 * _map_of(min(longitude for longitude, _ in ring))
    return [(longitude - shift, latitude) for longitude, latitude in ring] if shift else ring


def _cut_all(ring: Ring) -> list[Ring]:
    pieces: list[Ring] = []
    rest = [ring]
    line = 180
    while rest and max(longitude for piece in rest for longitude, _ in piece) > line:
        halves = [_cut(piece, line) for piece in rest]
        pieces += [piece for left, _ in halves for piece in left]
        rest = [piece for _, right in halves for piece in right]
        line += 360
    return pieces + rest


def _cut(ring: Ring, line: float) -> tuple[list[Ring], list[Ring]]:
    """Return the parts of a simple ring west and east of a meridian, each in the direction of the ring."""
    east = [longitude >= line for longitude, _ in ring]
    begins = [i for i in range(len(ring)) if east[i] != east[i - 1]]
    if not begins:
        return ([], [ring]) if east[0] else ([ring], [])
    crossings = [(line, _latitude_at(ring[i - 1], ring[i], line)) for i in begins]
    chains = []  # chain c runs from crossing c to crossing c + 1 on one side
    for c, begin in enumerate(begins):
        end = begins[(c + 1) % len(begins)]
        inner = ring[begin:end] if begin < end else ring[begin:] + ring[:end]
        chains.append([crossings[c], *inner, crossings[(c + 1) % len(begins)]])
    joined = _join(chains, [latitude for _, latitude in crossings])
    sides: tuple[list[Ring], list[Ring]] = ([], [])
    for first, piece in joined:
        if any(longitude != line for longitude, _ in piece):
            sides[east[begins[first]]].append(_without_repetition(piece))
    return sides


def _join(chains: list[Ring], latitudes: list[float]) -> list[tuple[int, Ring]]:
    """Close chains along the meridian: sorted by latitude, each two neighbouring crossings bound the inside."""
    order = sorted(range(len(chains)), key=latitudes.__getitem__)
    partner = {order[i]: order[i ^ 1] for i in range(len(order))}
    left = set(range(len(chains)))
    joined = []
    while left:
        first = chain = min(left)
        piece: Ring = []
        while chain in left:
            left.remove(chain)
            piece += chains[chain]
            chain = partner[(chain + 1) % len(chains)]
        joined.append((first, piece))
    return joined


def _latitude_at(before: Position, after: Position, line: float) -> float:
    share = (line - before[0]) / (after[0] - before[0])
    return after[1] if share >= 1 else before[1] + share * (after[1] - before[1])


def _without_repetition(ring: Ring) -> Ring:
    kept = [position for i, position in enumerate(ring) if position != ring[i - 1]]
    return kept if len(kept) > 2 else ring  # a closed ring has at least four positions

"""Receivers, true positions, estimates and their ellipses: as GeoJSON, and as a picture without any map service."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uqueue.cli.sites import Site, distance_m
from uqueue.localization import ellipse_feature, ellipse_from_sigmas

LEVELS = (0.68, 0.95)
SCALE_BAR_M = 500
METRES_PER_DEGREE = 111_320  # along the equator; good enough for a bar
_BLUE, _ORANGE, _GREY = "#0072b2", "#d55e00", "#555555"


def map_features(
    sites: Sequence[Site], answers: Mapping[str, Sequence[dict[str, Any]]], scene: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a FeatureCollection; `answers` are those of each model version, in the order of the sites.

    The property `role` is receiver, truth, estimate or ellipse; the latter two have `version` and `emitter`.
    """
    features = [_point(*place, role="receiver") for place in scene["receivers"]]
    features += [_point(site.latitude, site.longitude, role="truth", emitter=site.name) for site in sites]
    for version, of_version in answers.items():
        for site, answer in zip(sites, of_version, strict=True):
            at, about = answer["position"], {"version": version, "emitter": site.name}
            error = round(distance_m(site, answer), 1)
            features.append(_point(at["latitude"], at["longitude"], role="estimate", error_m=error, **about))
            features += [_ellipse(answer, level, about) for level in LEVELS]
    return {"type": "FeatureCollection", "features": features}


def draw_map(path: Path, features: Mapping[str, Any]) -> None:
    """Draw these features as a PNG, a panel for each model version."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = features["features"]
    versions = sorted({one["properties"]["version"] for one in points if "version" in one["properties"]})
    figure = Figure(figsize=(8 * len(versions), 8.2), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(versions), squeeze=False, sharex=True, sharey=True)[0]
    for panel, version in zip(panels, versions, strict=True):
        _draw_version(panel, points, version)
    panels[0].set_ylabel("latitude (degrees)")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
    FigureCanvasAgg(figure)
    figure.savefig(path, format="png")


def _draw_version(panel: Any, features: Sequence[Mapping[str, Any]], version: str) -> None:
    chosen = [one for one in features if one["properties"].get("version", version) == version]
    truth = _places(chosen, "truth")
    estimates = _places(chosen, "estimate")
    for level, alpha in zip(LEVELS, (0.22, 0.10), strict=True):
        rings = [
            one["geometry"]["coordinates"][0]
            for one in chosen
            if one["properties"]["role"] == "ellipse" and one["properties"]["confidence_level"] == level
        ]
        for index, ring in enumerate(rings):
            label = f"{level:.0%} ellipse" if index == 0 else None
            panel.fill(*zip(*ring, strict=True), facecolor=_BLUE, alpha=alpha, linewidth=0, label=label)
            panel.plot(*zip(*ring, strict=True), color=_BLUE, alpha=0.5, linewidth=0.6)
    for one, other in zip(truth, estimates, strict=True):
        panel.plot(*zip(one, other, strict=True), color=_GREY, linewidth=0.7)
    panel.plot(*zip(*estimates, strict=True), "o", color=_BLUE, markersize=4, label="estimate")
    panel.plot(*zip(*truth, strict=True), "x", color=_ORANGE, markersize=7, markeredgewidth=1.8, label="true position")
    panel.plot(*zip(*_places(chosen, "receiver"), strict=True), "^", color="black", markersize=10, label="receiver")
    errors = [one["properties"]["error_m"] for one in chosen if one["properties"]["role"] == "estimate"]
    panel.set_title(f"version {version}: median error {statistics.median(errors):.0f} m of {len(errors)} emitters")
    panel.set_xlabel("longitude (degrees)")
    panel.set_aspect(1 / math.cos(math.radians(truth[0][1])))
    panel.ticklabel_format(useOffset=False)
    panel.grid(alpha=0.25)
    _draw_scale(panel, truth[0][1])


def _draw_scale(panel: Any, latitude: float) -> None:
    """Draw a bar of known length in the lower left corner."""
    left, bottom = panel.get_xlim()[0], panel.get_ylim()[0]
    width, height = panel.get_xlim()[1] - left, panel.get_ylim()[1] - bottom
    length = SCALE_BAR_M / (METRES_PER_DEGREE * math.cos(math.radians(latitude)))
    first, at = left + width * 0.04, bottom + height * 0.03
    panel.plot([first, first + length], [at, at], color="black", linewidth=2)
    panel.text(first + length / 2, at + height * 0.01, f"{SCALE_BAR_M} m", ha="center", va="bottom")


def _places(features: Sequence[Mapping[str, Any]], role: str) -> list[tuple[float, float]]:
    return [tuple(one["geometry"]["coordinates"]) for one in features if one["properties"]["role"] == role]


def _ellipse(answer: Mapping[str, Any], level: float, about: Mapping[str, Any]) -> dict[str, Any]:
    at, spread = answer["position"], answer["uncertainty"]
    axes = ellipse_from_sigmas(spread["sigma_x"], spread["sigma_y"], spread["theta"], level, "joint")
    feature = ellipse_feature(
        at["latitude"],
        at["longitude"],
        axes["semi_major_scaled"],
        axes["semi_minor_scaled"],
        axes["rotation_angle"],
        confidence_level=level,
    )
    return {**feature, "properties": {**feature["properties"], "role": "ellipse", **about}}


def _point(latitude: float, longitude: float, **properties: Any) -> dict[str, Any]:
    geometry = {"type": "Point", "coordinates": [longitude, latitude]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}

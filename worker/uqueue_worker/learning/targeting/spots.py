"""What a weak spot says, as repositories and people are told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Spot = Mapping[str, Any]


def details(spot: Spot) -> Mapping[str, Any]:
    """Return the details of a spot; empty where it has none."""
    found = spot.get("details")
    return found if isinstance(found, Mapping) else {}


def features_summary(spot: Spot) -> dict[str, Any] | None:
    """Return the explanation of a spot's sample, None where there is none."""
    found = details(spot).get("sample_features_summary")
    return dict(found) if isinstance(found, Mapping) and found else None


def top_features(summary: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Return the features of an explanation that have a path, the most important first."""
    given = (summary or {}).get("top_n_features") or ()
    return [one for one in given if isinstance(one, Mapping) and isinstance(one.get("feature_path"), str)]


def top_feature(summary: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    return next(iter(top_features(summary)), None)


def provenance(spot: Spot) -> dict[str, Any]:
    """Return the modifications that say what a variation is for: the spot, and its top feature if it has one."""
    told: dict[str, Any] = {"alm_triggering_weak_spot_id": spot["weakness_id"]}
    feature = top_feature(features_summary(spot))
    if feature is not None:
        told["alm_focus_feature"] = feature["feature_path"]
        told["alm_focus_feature_value"] = feature.get("raw_value")
    return told


def class_of(spot: Spot) -> str | None:
    """Return the class that samples of a spot should have: the true one, or else the one predicted."""
    told = details(spot)
    return told.get("true_label") or told.get("predicted_label")

"""Localization, the pure parts: from SigMF bytes to samples; from a position and its sigmas to ellipse and GeoJSON.

A one-sigma ellipse holds 39.35 % of the probability, not 68 %; `scale_factor` has the numbers. Polygons need the extra
`uqueue[localization]`, everything else does without.
"""

from __future__ import annotations

from uqueue.localization.annotation import annotated, annotation
from uqueue.localization.ellipse import (
    Convention,
    UncertaintyEllipse,
    compute_uncertainty_ellipse,
    confidence_within,
    ellipse_from_sigmas,
    scale_factor,
)
from uqueue.localization.geojson import circle_feature, ellipse_feature, position_feature
from uqueue.localization.presentation import Estimate, present
from uqueue.localization.sigmf import Recording, read_recording

__all__ = [
    "Convention",
    "Estimate",
    "Recording",
    "UncertaintyEllipse",
    "annotated",
    "annotation",
    "circle_feature",
    "compute_uncertainty_ellipse",
    "confidence_within",
    "ellipse_feature",
    "ellipse_from_sigmas",
    "position_feature",
    "present",
    "read_recording",
    "scale_factor",
]

"""Answers as SigMF annotations: what `core:` has no name for stands in the namespace `uqueue`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from uqueue_config.errors import InvalidRecording

EXTENSION = {"name": "uqueue", "version": "1.0.0", "optional": True}
LABEL = "localization"


def annotation(
    answer: Mapping[str, Any], *, start: int, count: int, sample_rate_hz: float | None, frequency_hz: float | None
) -> dict[str, Any]:
    """Return the annotation of `count` samples from `start` on for one answer, with the members of `present`.

    start         the sample's number within the data; `annotated` adds the recording's offset
    frequency_hz  of the capture; where it or the rate is not known (None), the annotation has no edges
    """
    position, spread = answer["position"], answer["uncertainty"]
    ellipse = answer["ellipse"]
    place = f"{position['latitude']:.6f}, {position['longitude']:.6f}"
    made = {
        "core:sample_start": start,
        "core:sample_count": count,
        "core:label": LABEL,
        "core:comment": f"{place}; the {ellipse['confidence_level']:.0%} ellipse has semi-axes of "
        f"{ellipse['semi_major_axis_m']:.0f} m and {ellipse['semi_minor_axis_m']:.0f} m",
        "core:generator": f"uqueue, model version {answer['model_version']}",
        "uqueue:latitude": position["latitude"],
        "uqueue:longitude": position["longitude"],
        "uqueue:sigma_x_m": spread["sigma_x"],
        "uqueue:sigma_y_m": spread["sigma_y"],
        "uqueue:theta_deg": spread["theta"],
        "uqueue:uncertainty_source": answer["uncertainty_source"],
        "uqueue:confidence": answer["confidence"],
        "uqueue:confidence_source": answer["confidence_source"],
        "uqueue:model_version": answer["model_version"],
    }
    if frequency_hz is not None and sample_rate_hz is not None:
        made["core:freq_lower_edge"] = frequency_hz - sample_rate_hz / 2
        made["core:freq_upper_edge"] = frequency_hz + sample_rate_hz / 2
    return made


def annotated(metadata: bytes, annotations: Sequence[Mapping[str, Any]], *, dataset: str | None = None) -> bytes:
    """Return metadata (as `read_recording` accepts them) with these annotations in their places.

    dataset  the data file's name, for metadata that are to lie beside it under another name than its own
    Raises InvalidRecording for annotations or extensions that are no SigMF.
    """
    document = json.loads(metadata)
    about = document["global"]
    there = document.setdefault("annotations", [])
    extensions = about.setdefault("core:extensions", [])
    if not isinstance(there, list) or not all(isinstance(one, dict) and _is_placed(one) for one in there):
        raise InvalidRecording(reason="annotations must be a list of objects with core:sample_start")
    if not isinstance(extensions, list) or not all(isinstance(one, dict) for one in extensions):
        raise InvalidRecording(reason="core:extensions must be a list of objects")
    if all(one.get("name") != EXTENSION["name"] for one in extensions):
        extensions.append(dict(EXTENSION))
    if dataset is not None:
        about["core:dataset"] = dataset
    base = about.get("core:offset", 0)
    there += [{**one, "core:sample_start": base + one["core:sample_start"]} for one in annotations]
    there.sort(key=lambda one: one["core:sample_start"])
    return (json.dumps(document, indent=4, ensure_ascii=False) + "\n").encode()


def _is_placed(one: Mapping[str, Any]) -> bool:
    return type(one.get("core:sample_start")) is int

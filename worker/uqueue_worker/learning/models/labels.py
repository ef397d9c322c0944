"""What samples say of their own class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from uqueue_worker.learning.avro.records import UNLABELLED

Sample = Mapping[str, Any]


def label_of(sample: Sample, key: str | None = None) -> str | None:
    """Return the true class of an exported or raw sample, None where it has none.

    It is `extracted_class_label`, else the event type of the ground truth. `key` names another field: of the sample,
    of its ground truth, or of that one's scenario-specific details.
    """
    truth = sample.get("ground_truth_labels") or sample.get("labels") or {}
    if key is None:
        found = sample.get("extracted_class_label")
        found = truth.get("event_type") if found is None else found
    else:
        details = truth.get("scenario_specific_details") or {}
        found = next((holder[key] for holder in (sample, truth, details) if holder.get(key) is not None), None)
    return None if found is None or found == UNLABELLED else str(found)

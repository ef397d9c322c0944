"""Other spellings of feedback, brought to the names of the contract. Where both are given, the contract's wins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FEEDBACK = {"dataset_source_identifier": "dataset_identifier"}
_OVERALL = {"f1_macro": "macro_f1_score"}
_CLASS = {"f1-score": "f1_score"}
_SAMPLE = {"sample_id": "raw_sample_id", "prediction_probability": "confidence_of_prediction"}
_NESTED_SCORES = "uncertainty_scores"
_SCORES = {
    "uncertainty_score": "uncertainty_score",
    "epistemic_uncertainty_score": "epistemic_uncertainty_score",
    "aleatoric_uncertainty_score": "aleatoric_uncertainty_score",
    "disagreement_score": "disagreement_score",
    "confidence_score": "confidence_of_prediction",
}


def normalise_feedback(feedback: Mapping[str, Any]) -> dict[str, Any]:
    """Return feedback with the contract's names at its top and in its overall metrics.

    Classes and samples have functions of their own. Raises ValueError where the evaluation reports an error.
    """
    if feedback.get("error") is not None:
        raise ValueError(f"the evaluation failed: {str(feedback['error'])[:200]}")
    found = _renamed(feedback, _FEEDBACK)
    found.pop("error", None)
    overall = found.get("overall_metrics")
    if isinstance(overall, Mapping):
        found["overall_metrics"] = _renamed(overall, _OVERALL)
    return found


def normalise_class_metrics(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return _renamed(metrics, _CLASS)


def normalise_sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Return a reported sample with the contract's names, and with nested scores as fields of their own."""
    found = _renamed(sample, _SAMPLE)
    nested = found.get(_NESTED_SCORES)
    if not isinstance(nested, Mapping):
        return found
    for spelling, name in _SCORES.items():
        if found.get(name) is None and spelling in nested:
            found[name] = nested[spelling]
    left = {name: value for name, value in nested.items() if name not in _SCORES}
    del found[_NESTED_SCORES]
    return found | ({_NESTED_SCORES: left} if left else {})


def _renamed(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    found = dict(given)
    for spelling, name in names.items():
        if spelling in found:
            value = found.pop(spelling)
            if found.get(name) is None:
                found[name] = value
    return found

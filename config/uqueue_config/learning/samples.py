"""What feedback says of one sample: how uncertain the model was, what it said, and what it looked at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from uqueue_config.learning.feature_path import canonical_feature_path
from uqueue_config.learning.normalise import normalise_sample
from uqueue_config.learning.values import Identifier, JsonValue, Number, Score, json_value

Method = Literal["SHAP", "LIME", "OCCLUSION", "PERMUTATION", "COEFFICIENT", "API", "NONE"]
_SUM_TOLERANCE = 1e-6


class Reported(BaseModel):
    """A part of feedback: fields that it does not know are kept, as long as JSON can carry them."""

    model_config = ConfigDict(frozen=True, extra="allow", hide_input_in_errors=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _json_extras(self) -> Self:
        for name, value in (self.model_extra or {}).items():
            try:
                json_value(value)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return self

    def to_message(self) -> dict[str, Any]:
        """Return the JSON form, without the fields that were not given."""
        return self.model_dump(mode="json", exclude_unset=True)


class FeatureContribution(Reported):
    """One feature of an explanation; `importance_score` is None where the method gives only the value."""

    feature_path: Annotated[str, AfterValidator(canonical_feature_path)]
    importance_score: Number | None = None
    raw_value: JsonValue = None


class FeatureSummary(Reported):
    """Which features a prediction rests on, by absolute importance, the largest first."""

    method: Method
    top_n_features: tuple[FeatureContribution, ...] = ()
    target_class_for_explanation: str | None = None
    baseline: JsonValue = None
    all_raw_values: dict[str, JsonValue] | None = None

    @field_validator("top_n_features")
    @classmethod
    def _largest_first(cls, features: tuple[FeatureContribution, ...]) -> tuple[FeatureContribution, ...]:
        return tuple(sorted(features, key=lambda one: -abs(one.importance_score or 0.0)))


class ProblematicSampleInfo(Reported):
    """A sample that the model was uncertain about or classified wrongly; what is not known is absent or None."""

    raw_sample_id: Identifier
    sensor_id: str | None = None
    uncertainty_score: Score | None = None
    epistemic_uncertainty_score: Score | None = None
    aleatoric_uncertainty_score: Score | None = None
    disagreement_score: Score | None = None
    predicted_label_distribution: dict[str, Score] | None = None
    true_label: str | None = None
    predicted_label: str | None = None
    confidence_of_prediction: Score | None = None
    original_scenario_id: str | None = None
    scenario_timestep_seconds: Annotated[Number, Field(ge=0)] | None = None
    ambiguity_score: Score | None = None
    sample_features_summary: FeatureSummary | None = None

    @model_validator(mode="before")
    @classmethod
    def _contract_names(cls, values: Any) -> Any:
        return normalise_sample(values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        shares = self.predicted_label_distribution
        if shares is not None and abs(math.fsum(shares.values()) - 1) > _SUM_TOLERANCE:
            raise ValueError("predicted_label_distribution: expected probabilities that sum to 1")
        return self

    @property
    def classes_named(self) -> set[str]:
        named = {self.true_label, self.predicted_label, *(self.predicted_label_distribution or ())}
        return {name for name in named if name is not None}

"""What an evaluation says of a model: metrics over everything, per class and per sensor, and the samples to look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, Field, ValidationError, model_validator

from uqueue_config.learning.normalise import normalise_class_metrics, normalise_feedback
from uqueue_config.learning.problems import problems_of
from uqueue_config.learning.samples import ProblematicSampleInfo, Reported
from uqueue_config.learning.values import Count, Number, Score

#: Without these three, feedback says nothing that a strategy can use.
REQUIRED = ("per_class_metrics", "uncertain_samples", "misclassified_samples")


class InvalidFeedback(ValueError):
    """Feedback that cannot be used; the message names everything that is wrong."""


class ClassMetrics(Reported):
    """How well one class is recognised. `support` is the number of samples that truly are of the class."""

    recall: Score | None = None
    precision: Score | None = None
    f1_score: Score | None = None
    support: Count | None = None
    sensor_id: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _contract_names(cls, values: Any) -> Any:
        return normalise_class_metrics(values) if isinstance(values, Mapping) else values


class SensorMetrics(Reported):
    """The same over the samples in which a sensor has a reading."""

    overall_accuracy_for_sensor_data: Score | None = None
    per_class_metrics: dict[str, ClassMetrics] = Field(default_factory=dict)
    n_samples: Count | None = None


class ModelPerformanceData(Reported):
    """An evaluation of one model version on one data set.

    uncertain_samples      the highest uncertainty first
    misclassified_samples  the highest confidence first; `n_misclassified` counts those that are left out, too
    confusion_matrix       rows are the true classes, columns the predicted ones, both in the order of `classes`
    task                   "regression" for intervals: classes are ranges of a number, and misclassified samples those
                           whose true value lies outside
    """

    model_version_evaluated: str | None = None
    dataset_identifier: str | None = None
    overall_metrics: dict[str, Number] = Field(default_factory=dict)
    per_class_metrics: dict[str, ClassMetrics]
    sensor_specific_metrics: dict[str, SensorMetrics] | None = None
    uncertain_samples: tuple[ProblematicSampleInfo, ...]
    misclassified_samples: tuple[ProblematicSampleInfo, ...]
    schema_version: Annotated[str, Field(pattern=r"^1\.\d+$")] = "1.0"
    evaluated_at_utc: AwareDatetime | None = None
    n_samples: Count | None = None
    n_failed: Count | None = None
    n_misclassified: Count | None = None
    classes: tuple[str, ...] | None = None
    confusion_matrix: tuple[tuple[Count, ...], ...] | None = None
    uncertainty_method: str | None = None
    feature_spec_fingerprint: str | None = None
    duration_seconds: Annotated[Number, Field(ge=0)] | None = None
    warnings: tuple[str, ...] = ()
    task: Literal["classification", "regression"] = "classification"

    @classmethod
    def read(cls, feedback: Mapping[str, Any]) -> Self:
        """Return the feedback that a mapping holds. Raises InvalidFeedback naming every problem with its path."""
        try:
            return cls.model_validate(feedback)
        except ValidationError as error:
            raise InvalidFeedback(f"The feedback cannot be used: {problems_of(error)}.") from None

    @model_validator(mode="before")
    @classmethod
    def _contract_names(cls, values: Any) -> Any:
        return normalise_feedback(values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _agrees_with_classes(self) -> Self:
        if self.classes is None:
            return self
        known = set(self.classes)
        if len(known) != len(self.classes):
            raise ValueError("classes: expected every class once")
        problems = [f"{path}: {', '.join(sorted(names - known)[:5])}" for path, names in self._named() if names - known]
        if problems:
            raise ValueError(f"expected only classes that `classes` lists; {'; '.join(problems[:20])}")
        matrix = self.confusion_matrix
        if matrix is not None and {len(matrix), *map(len, matrix)} != {len(known)}:
            raise ValueError(f"confusion_matrix: expected {len(known)} rows of {len(known)} counts")
        return self

    def _named(self) -> list[tuple[str, set[str]]]:
        """Return where classes are named, and which."""
        named = [("per_class_metrics", set(self.per_class_metrics))]
        for sensor, metrics in (self.sensor_specific_metrics or {}).items():
            named.append((f"sensor_specific_metrics.{sensor}", set(metrics.per_class_metrics)))
        for field in REQUIRED[1:]:
            named += [(f"{field}[{i}]", one.classes_named) for i, one in enumerate(getattr(self, field))]
        return named

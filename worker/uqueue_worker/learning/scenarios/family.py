"""What the families that come with uqueue share: checked parameters, a duration, labels by event type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from uqueue_config.learning.scenario import ScenarioComplexityLevel
from uqueue_worker.learning.scenarios.base import BaseScenario
from uqueue_worker.learning.scenarios.parameters import Ambient, FamilyParameters

if TYPE_CHECKING:
    from uqueue_worker.learning.simulator.orchestrator import EnvironmentOrchestrator, EnvironmentState

_CLOCK_TOLERANCE_SECONDS = 1e-6


class FamilyScenario(BaseScenario):
    """A scenario of one of the families; `parameters` is its checked parameter model.

    Category and duration default to the family's. Raises ScenarioParameterError for parameters that it refuses, and
    as BaseScenario.
    """

    family_category: ClassVar[str]
    event_type: ClassVar[str]
    duration_seconds: ClassVar[float]
    parameter_model: ClassVar[type[FamilyParameters]]
    is_anomaly: ClassVar[bool] = True

    def __init__(
        self,
        scenario_id: str,
        name: str,
        description: str = "",
        category: str | None = None,
        difficulty_level: ScenarioComplexityLevel | str = ScenarioComplexityLevel.MEDIUM,
        expected_duration_seconds: float | None = None,
        tags: Sequence[str] | None = None,
        version: int = 1,
        creation_timestamp_utc: float | datetime | str | None = None,
        author: str | None = None,
        related_scenario_ids: Sequence[str] | None = None,
        **parameters: Any,
    ) -> None:
        super().__init__(
            scenario_id,
            name,
            description,
            self.family_category if category is None else category,
            difficulty_level,
            expected_duration_seconds,
            tags,
            version,
            creation_timestamp_utc,
            author,
            related_scenario_ids,
        )
        self.parameters: Any = self.read_parameters(parameters)
        self.expected_duration_seconds = self._duration(expected_duration_seconds)

    @classmethod
    def read_parameters(cls, values: Mapping[str, Any]) -> FamilyParameters:
        """Return checked parameters of this family. Raises ScenarioParameterError naming all that is wrong."""
        return cls.parameter_model.read(cls.__name__, values)

    @property
    def progress(self) -> float:
        """How much of the duration has passed, 0 to 1."""
        duration = self.expected_duration_seconds or self.duration_seconds
        return min(self.current_time_seconds / duration, 1.0)

    def setup_environment(self, orchestrator: EnvironmentOrchestrator) -> None:
        orchestrator.surround(**(self.parameters.environment or Ambient()).to_dict())
        self._drive(orchestrator)

    def update(self, dt: float, orchestrator: EnvironmentOrchestrator) -> None:
        self.current_time_seconds += dt
        self._drive(orchestrator)

    def is_completed(self, state: EnvironmentState) -> bool:
        duration = self.expected_duration_seconds or self.duration_seconds
        return self.current_time_seconds > duration - _CLOCK_TOLERANCE_SECONDS

    def get_ground_truth_labels(self, state: EnvironmentState) -> dict[str, Any]:
        severity = self._severity() if self.is_anomaly else 0.0
        return {
            "event_type": self.event_type,
            "event_subtype": self._subtype(),
            "is_anomaly": self.is_anomaly,
            "anomaly_severity_score": round(min(max(severity, 0.0), 1.0), 6),
            "anomaly_tags": [self.family_category] if self.is_anomaly else [],
            "scenario_progress": round(self.progress, 6),
        }

    def _get_specific_params(self) -> dict[str, Any]:
        parameters: dict[str, Any] = self.parameters.to_dict()
        return parameters

    def _duration(self, given: float | None) -> float:
        """Return the duration that counts; families whose parameters say it do not look at the one given."""
        return self.duration_seconds if given is None else given

    def _subtype(self) -> str | None:
        return None

    def _severity(self) -> float:
        """Return how strong the event is now, 0 to 1."""
        return self.progress

    def _drive(self, orchestrator: EnvironmentOrchestrator) -> None:
        """Tell the orchestrator what holds at the current time."""
        raise NotImplementedError


def rise_and_fall(progress: float, start: float, peak: float, peak_at: float) -> float:
    """Return a strength that goes straight from `start` to `peak`, and after `peak_at` half the way back."""
    if progress <= peak_at:
        return start + (peak - start) * (progress / peak_at if peak_at > 0 else 1.0)
    return peak - (peak - start) * 0.5 * (progress - peak_at) / (1 - peak_at)

"""The interfaces of active learning. Calls use keywords, so the names of parameters are part of them.

Abstract methods are what an implementation must have. The others work through those or raise NotImplementedError, so
that small implementations are complete ones.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_config.learning.spots import WeakSpot
from uqueue_config.learning.suggestions import CreateScenario, ModifyScenario

DatasetType = list[dict[str, Any]]
FilePathType = str
Definition = ScenarioDefinition | None
Feedback = ModelPerformanceData | Mapping[str, Any]


def _not_offered(owner: object, name: str) -> NoReturn:
    raise NotImplementedError(f"{type(owner).__name__} does not offer {name}")


class ModelInterface(ABC):
    """Evaluates a version of a model on a data set. It knows no scenarios."""

    @abstractmethod
    def get_model_performance_feedback(
        self, evaluation_dataset: DatasetType | FilePathType, model_version_tag: str | None
    ) -> ModelPerformanceData:
        """Return the whole feedback for a list of samples or a file of them; None is the configured version.

        Raises an ActiveLearningError; never returns a part.
        """

    async def aget_model_performance_feedback(
        self, evaluation_dataset: DatasetType | FilePathType, model_version_tag: str | None
    ) -> ModelPerformanceData:
        """Do the same in a thread of its own, so that an event loop goes on."""
        return await asyncio.to_thread(
            self.get_model_performance_feedback,
            evaluation_dataset=evaluation_dataset,
            model_version_tag=model_version_tag,
        )

    def predict(self, dataset: DatasetType | FilePathType, model_version_tag: str | None) -> Any:
        """Return labels, classes, probabilities and uncertainties."""
        _not_offered(self, "predict")

    def explain(self, samples: DatasetType, **options: Any) -> Any:
        """Return which features the predictions rest on."""
        _not_offered(self, "explain")

    def list_versions(self) -> list[str]:
        _not_offered(self, "list_versions")

    def health(self) -> dict[str, Any]:
        _not_offered(self, "health")

    def submit_feedback(self, **request: Any) -> Any:
        """Start an evaluation and return a handle with `poll`, `result` and `cancel`."""
        _not_offered(self, "submit_feedback")


class ScenarioRepositoryInterface(ABC):
    """Keeps scenario definitions, and makes new ones of them.

    A backend that does not answer raises RepositoryUnavailable; None and False always mean "there is none".
    """

    @abstractmethod
    def get_scenario_by_id(self, scenario_id: str) -> Definition:
        """Return a definition, or None if it is absent or the id is of an unknown form."""

    @abstractmethod
    def get_scenarios_by_category(
        self, category: str, sensor_type: str | None = None, num_to_get: int = 5
    ) -> list[ScenarioDefinition]:
        """Return those of exactly this category, with the tag `sensor_<type>` if one is given; latest update first."""

    @abstractmethod
    def get_scenarios_by_class_label(
        self, class_label: str, sensor_type: str | None = None, num_to_get: int = 5
    ) -> list[ScenarioDefinition]:
        """Return those with the tag `class_<label>`; otherwise as `get_scenarios_by_category`."""

    @abstractmethod
    def create_scenario_variation(
        self,
        base_scenario: Any,
        new_id_suffix: str,
        param_modifications: dict[str, Any],
        sensor_context: dict[str, Any] | None = None,
    ) -> Definition:
        """Store and return a variation of a scenario, or None where it would behave like its base."""

    @abstractmethod
    def craft_scenario_from_features(
        self,
        features_summary: dict[str, Any],
        base_id: str,
        target_class: str | None = None,
        sensor_type: str | None = None,
    ) -> Definition:
        """Store and return a new definition aimed at the features described, or None where no crafter has one."""

    @abstractmethod
    def get_default_exploration_scenario(self, scenario_id: str, sensor_type: str | None = None) -> Definition:
        """Return the exploration scenario for a type of sensor, made under the id suggested if there is none yet."""

    @abstractmethod
    def save_scenario_definition(self, scenario_def: dict[str, Any]) -> str:
        """Insert or replace a definition and return its id, made here if missing. Raises ScenarioInvalid."""

    @abstractmethod
    def update_scenario_definition(
        self, scenario_def_id: str, updates: dict[str, Any], expected_version: int | None = None
    ) -> bool:
        """Change some fields; False for an unknown id. Raises ScenarioConflict if it is at another version."""

    def search(
        self,
        query: str | None = None,
        filters: dict[str, Any] | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Any:
        _not_offered(self, "search")

    def get_history(self, scenario_id: str) -> list[dict[str, Any]]:
        _not_offered(self, "get_history")

    def get_version(self, scenario_id: str, version: int) -> Definition:
        _not_offered(self, "get_version")

    def restore_version(self, scenario_id: str, version: int) -> Definition:
        _not_offered(self, "restore_version")

    def archive(self, scenario_id: str) -> bool:
        _not_offered(self, "archive")

    def find_by_weak_spot(self, weakness_id: str) -> list[ScenarioDefinition]:
        _not_offered(self, "find_by_weak_spot")

    def apply(self, suggestion: ModifyScenario | CreateScenario) -> Definition:
        _not_offered(self, "apply")


class MLDataGeneratorInterface(ABC):
    """Runs scenarios in a simulator and returns labelled samples."""

    @abstractmethod
    def generate_training_dataset(
        self,
        scenarios: Sequence[Any],
        samples_per_scenario: int | Sequence[int],
        output_format: str = "list_of_dicts",
        dataset_name: str | None = None,
        imperfection_settings: dict[str, Any] | None = None,
        time_step_seconds: float | None = None,
        seed: int | None = None,
    ) -> Any:
        """Return raw samples, or None for an error. Raises ValueError for a list of another length than scenarios."""

    def export(self, samples: DatasetType, output_format: str, dataset_name: str) -> Any:
        """Return the path of a written data set, or the samples as a list; None where it failed."""
        return self._export_data(samples, output_format, dataset_name)

    def _export_data(self, samples: DatasetType, output_format: str, dataset_name: str) -> Any:
        raise AttributeError(f"{type(self).__name__} does not offer export")


class PrioritizationStrategyInterface(ABC):
    """Ranks weak spots: a pure function of feedback."""

    sensor_id_to_type_map: Mapping[str, str] | None

    @abstractmethod
    def calculate_priority(
        self,
        sample_info: Mapping[str, Any] | None = None,
        class_metrics_info: Mapping[str, Any] | None = None,
        weakness_type: str | None = None,
        sensor_type: str | None = None,
    ) -> float:
        """Return the priority within [0, 1] that the formula gives; 0.0 for an unknown type or missing input."""

    @abstractmethod
    def identify_weaknesses(
        self, model_performance_data: Feedback, target_sensor_id: str | None = None
    ) -> list[WeakSpot]:
        """Return weak spots by priority, the highest first; [] and a warning for what is no feedback."""


class ActiveLearningManagerInterface(ABC):
    """Goes from feedback to weak spots, suggestions, scenarios and samples."""

    @abstractmethod
    def identify_weak_spots(
        self, model_performance_data: Feedback, target_sensor_id: str | None = None
    ) -> list[WeakSpot]:
        """Return the strategy's list unchanged; [] without a model interface."""

    @abstractmethod
    def generate_targeted_samples(
        self,
        weak_spots: Sequence[Mapping[str, Any]],
        num_samples_per_spot_type: int = 50,
        output_format: str = "list_of_dicts",
        dataset_name_prefix: str = "alm_targeted",
    ) -> DatasetType | FilePathType | None:
        """Return samples or the path of a data set aimed at the spots; None where nothing was produced."""

    @abstractmethod
    def suggest_scenario_modifications(self, weakness_analysis: list[Any]) -> Sequence[ModifyScenario | CreateScenario]:
        """Return one suggestion per spot of a known type, in the order given."""

    @abstractmethod
    def process_real_world_feedback(self, feedback_data: dict[str, Any]) -> None:
        """Take in labelled samples from the field."""

    def run_cycle(self) -> Any:
        _not_offered(self, "run_cycle")

    def run(self, n_cycles: int, budget: int | None = None, stop: Any = None) -> Any:
        _not_offered(self, "run")

    def status(self) -> dict[str, Any]:
        _not_offered(self, "status")

    def resume(self, run_id: str) -> Any:
        _not_offered(self, "resume")

"""The manager: from feedback to weak spots, suggestions, scenarios and samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog

from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.spots import WeakSpot
from uqueue_config.learning.suggestions import CreateScenario, ModifyScenario
from uqueue_worker.learning.crafting.families import ClassFamilies
from uqueue_worker.learning.errors import ActiveLearningError
from uqueue_worker.learning.field_samples import MOST_FIELD_SPOTS, field_spots, read_field_data
from uqueue_worker.learning.interfaces import ActiveLearningManagerInterface, DatasetType, Feedback
from uqueue_worker.learning.sensors import sensor_type_of, sensor_types
from uqueue_worker.learning.suggestions import Suggester
from uqueue_worker.learning.targeting.cycle import Cycle
from uqueue_worker.learning.targeting.finding import ScenarioFinder, attempted, check_takes, parameters_of
from uqueue_worker.learning.targeting.tracing import identity, traced

_RAW = "list_of_dicts"
_log = structlog.get_logger("uqueue.learning.manager")


class Campaign(Protocol):
    """Runs of cycles, as the manager hands them on."""

    def run_cycle(self) -> Any: ...

    def run(self, n_cycles: int, budget: int | None = None, stop: Any = None) -> Any: ...

    def status(self) -> dict[str, Any]: ...

    def resume(self, run_id: str) -> Any: ...


class ActiveLearningManager(ActiveLearningManagerInterface):
    """Any collaborator may be None: what needs it then returns nothing, and says so in the log.

    sensor_id_to_type_map  the default map for None; an empty one stays empty. A strategy without one gets it
    families               which scenario family makes samples of a class, for suggestions
    campaign               does `run_cycle`, `run`, `status` and `resume`
    cycle                  the run and cycle that samples and suggestions are made for; may be set anew
    """

    def __init__(
        self,
        data_generator: Any,
        scenario_repository: Any,
        model_interface: Any,
        prioritization_strategy: Any,
        sensor_id_to_type_map: Mapping[str, str] | None = None,
        *,
        families: ClassFamilies | None = None,
        campaign: Campaign | None = None,
        cycle: Cycle | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.data_generator = data_generator
        self.scenario_repository = scenario_repository
        self.model_interface = model_interface
        self.prioritization_strategy = prioritization_strategy
        self.sensor_id_to_type_map = sensor_types(sensor_id_to_type_map)
        self.families = families or ClassFamilies()
        self.campaign = campaign
        self.cycle = cycle or Cycle()
        self._clock = clock
        self._field_spots: dict[str, WeakSpot] = {}
        strategy = prioritization_strategy
        if strategy is not None and getattr(strategy, "sensor_id_to_type_map", None) is None:
            strategy.sensor_id_to_type_map = self.sensor_id_to_type_map

    def sensor_type_of(self, sensor_id: str | None) -> str | None:
        """Return the type of a sensor, None for None and for an unknown id."""
        return sensor_type_of(sensor_id, self.sensor_id_to_type_map)

    def identify_weak_spots(
        self, model_performance_data: Feedback, target_sensor_id: str | None = None
    ) -> list[WeakSpot]:
        if self.model_interface is None or self.prioritization_strategy is None:
            missing = "model interface" if self.model_interface is None else "prioritization strategy"
            _log.error("weak spots cannot be identified", reason=f"there is no {missing}")
            return []
        identify = self.prioritization_strategy.identify_weaknesses
        found: list[WeakSpot] = identify(model_performance_data, target_sensor_id=target_sensor_id)
        return found

    def generate_targeted_samples(
        self,
        weak_spots: Sequence[Mapping[str, Any]],
        num_samples_per_spot_type: int = 50,
        output_format: str = _RAW,
        dataset_name_prefix: str = "alm_targeted",
    ) -> DatasetType | str | None:
        """Return samples aimed at the spots: `num_samples_per_spot_type` of each scenario found or made for each spot,
        as a list or as the path of a file; None where nothing was produced or the export failed.

        An error affects only its spot. Raises RepositoryUnavailable and CircuitOpen, and TypeError for a collaborator
        without the parameters of its interface.
        """
        if self.data_generator is None or self.scenario_repository is None or not weak_spots:
            _log.warning("no targeted samples", reason="there is no generator, no repository or no weak spot")
            return None
        finder = ScenarioFinder(self.scenario_repository, self.sensor_id_to_type_map)
        samples: list[Any] = []
        used: set[Any] = set()
        for spot in weak_spots:
            scenarios = finder.scenarios_of(spot)
            samples += self._samples_of(spot, scenarios, num_samples_per_spot_type, used)
            used.update(identity(scenario) for scenario in scenarios)
        if not samples:
            _log.warning("no targeted samples", reason="no weak spot led to any")
            return None
        exported: DatasetType | str | None = self._exported(samples, output_format, dataset_name_prefix)
        return exported

    def suggest_scenario_modifications(self, weakness_analysis: list[Any]) -> list[ModifyScenario | CreateScenario]:
        suggester = Suggester(self.sensor_id_to_type_map, self.families, self.scenario_repository, self.cycle)
        return suggester.suggest(weakness_analysis)

    def process_real_world_feedback(self, feedback_data: dict[str, Any]) -> None:
        """Have the model evaluated on labelled samples from the field; those that it gets wrong become weak spots,
        which `take_field_spots` returns.

        `feedback_data` has `samples` (or `dataset`, a path) and perhaps `model_version_tag`. Raises DatasetFormat or
        EmptyDataset for other data, and what the model interface raises.
        """
        if self.model_interface is None:
            _log.error("field samples cannot be evaluated", reason="there is no model interface")
            return
        samples, tag = read_field_data(feedback_data)
        evaluate = self.model_interface.get_model_performance_feedback
        given = evaluate(evaluation_dataset=samples, model_version_tag=tag)
        feedback = given if isinstance(given, ModelPerformanceData) else ModelPerformanceData.read(given)
        found = field_spots(feedback, self.prioritization_strategy, self.sensor_id_to_type_map)
        held = {**self._field_spots, **{spot.weakness_id: spot for spot in found}}
        kept = sorted(held.values(), key=lambda spot: -spot.priority)[:MOST_FIELD_SPOTS]
        self._field_spots = {spot.weakness_id: spot for spot in kept}
        _log.info("field samples evaluated", weak_spots=len(found), held=len(kept))

    def take_field_spots(self) -> list[WeakSpot]:
        """Return the weak spots that field samples showed, the highest priority first, and forget them."""
        taken, self._field_spots = list(self._field_spots.values()), {}
        return taken

    def run_cycle(self) -> Any:
        """Do one cycle of the current run, or of a new one, and return its record."""
        return self._campaign().run_cycle()

    def run(self, n_cycles: int, budget: int | None = None, stop: Any = None) -> Any:
        """Run up to `n_cycles` cycles with at most `budget` samples, until `stop` says so, and return the run."""
        return self._campaign().run(n_cycles=n_cycles, budget=budget, stop=stop)

    def status(self) -> dict[str, Any]:
        return self._campaign().status()

    def resume(self, run_id: str) -> Any:
        """Go on with a run that was interrupted, cancelled or failed, and return it."""
        return self._campaign().resume(run_id=run_id)

    def _campaign(self) -> Campaign:
        if self.campaign is None:
            raise ActiveLearningError(reason="this manager has nothing to run cycles with; give it campaign=…")
        return self.campaign

    def _samples_of(self, spot: Mapping[str, Any], scenarios: list[Any], count: int, used: Set[Any]) -> list[Any]:
        if not scenarios:
            _log.warning("no scenario for a weak spot", weakness_id=spot.get("weakness_id"))
            return []
        generate = self.data_generator.generate_training_dataset
        told = {"scenarios": scenarios, "samples_per_scenario": count, "output_format": _RAW}
        again = self.cycle.number is not None or any(identity(scenario) in used for scenario in scenarios)
        if again and "seed" in parameters_of(generate):  # the generator's own seed would give the same samples again
            told["seed"] = self.cycle.stream(spot["weakness_id"], 0)
        check_takes(generate, **told)
        chunk = attempted(lambda: generate(**told), spot, "generate_training_dataset")
        return [] if chunk is None else traced(chunk, spot["weakness_id"], scenarios, self.cycle)

    def _exported(self, samples: list[Any], output_format: str, prefix: str) -> Any:
        export = getattr(self.data_generator, "export", None) or getattr(self.data_generator, "_export_data", None)
        name = f"{prefix}_{self._clock():%Y%m%d_%H%M%S}"
        reason = "the generator has no export"
        if export is not None:
            try:
                return export(samples, output_format, name)
            except AttributeError as error:
                reason = str(error)
        _log.warning("samples are not exported", dataset=name, reason=reason[:500])
        return samples if output_format == _RAW else None

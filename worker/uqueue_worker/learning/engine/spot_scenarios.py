"""Scenarios of one weak spot: variations of where its samples came from, or what a repository has for it."""

from __future__ import annotations

from collections.abc import Mapping

from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_config.learning.spots import WeakSpot
from uqueue_worker.learning.interfaces import ScenarioRepositoryInterface
from uqueue_worker.learning.sensors import sensor_type_of, sensor_types
from uqueue_worker.learning.targeting.cycle import Cycle
from uqueue_worker.learning.targeting.finding import ScenarioFinder, attempted
from uqueue_worker.learning.targeting.regions import is_region, region_draws, region_variation


def spot_scenarios(
    spot: WeakSpot,
    count: int,
    cycle: Cycle,
    repository: ScenarioRepositoryInterface,
    scenario_of: Mapping[str, str],
) -> list[ScenarioDefinition]:
    """Return at most `count` stored scenarios, [] where there are none and nothing can be made: the run then explores.

    Samples whose scenarios are known get one variation each, of scenarios drawn by how weak their samples are. An
    error counts as nothing found. Raises RepositoryUnavailable and CircuitOpen.
    """
    original = spot.details.get("original_scenario_id")
    if is_region(spot):
        draws = region_draws(spot, count, cycle, scenario_of)
    else:
        draws = [str(original)] * count if original else []
    found = [_varied(spot, base, index, cycle, repository) for index, base in enumerate(draws)]
    kept = [scenario for scenario in found if scenario is not None]
    return kept or ScenarioFinder(repository, sensor_types(None)).scenarios_of(spot, explore=False)[:count]


def _varied(
    spot: WeakSpot, base_id: str, index: int, cycle: Cycle, repository: ScenarioRepositoryInterface
) -> ScenarioDefinition | None:
    def vary() -> ScenarioDefinition | None:
        base = repository.get_scenario_by_id(scenario_id=base_id)
        if base is None:
            return None
        sensor = spot.sensor_id
        kind = sensor_type_of(sensor, sensor_types(None))
        context = None if sensor is None else {"sensor_id": sensor, "sensor_type": kind}
        return region_variation(spot, base, index, cycle, repository, context) or base

    varied: ScenarioDefinition | None = attempted(vary, spot, "variation")
    return varied

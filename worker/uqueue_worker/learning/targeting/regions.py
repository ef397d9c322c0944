"""Region spots: variations of the scenarios that a region's samples came from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.crafting.levers import focus_parameter
from uqueue_worker.learning.interfaces import ScenarioRepositoryInterface
from uqueue_worker.learning.scenarios import FamilyScenario, jittered
from uqueue_worker.learning.scenarios.base import BaseScenario
from uqueue_worker.learning.targeting.cycle import Cycle
from uqueue_worker.learning.targeting.spots import details, features_summary, provenance, top_feature

_DRAWING = -1  # the stream of the draws, beside those of the variations, which count from 0


def is_region(spot: Mapping[str, Any]) -> bool:
    """Say whether a spot stands for several samples."""
    return bool(details(spot).get("members"))


def region_draws(
    spot: Mapping[str, Any], count: int, cycle: Cycle, scenario_of: Mapping[str, str] | None = None
) -> list[str]:
    """Return `count` ids of original scenarios, drawn with probability in proportion to the scores of their samples.

    No scenario is drawn again before all were drawn. `scenario_of` is raw sample id -> scenario id, from the feedback
    that the spot was found in; members may name their `original_scenario_id` instead. Members without a scenario do
    not count; [] if none has one. The first draws are the same for any count.
    """
    weights = _weights(spot, scenario_of or {})
    if not weights:
        return []
    random = np.random.Generator(np.random.PCG64(cycle.stream(spot["weakness_id"], _DRAWING)))
    logs = np.log(np.array(list(weights.values())))
    drawn: list[str] = []
    while len(drawn) < count:
        order = np.argsort(-(logs + random.gumbel(size=len(logs))), kind="stable")  # Gumbel top-k: without replacement
        drawn += [list(weights)[place] for place in order]
    return drawn[:count]


def region_variation(
    spot: Mapping[str, Any],
    base: ScenarioDefinition,
    index: int,
    cycle: Cycle,
    repository: ScenarioRepositoryInterface,
    sensor_context: dict[str, Any] | None = None,
) -> ScenarioDefinition | None:
    """Store and return the `index`-th variation of a region; with a sigma of 0 the scenario itself.

    Its parameters come from the stream of (run seed, cycle, spot, index) and are all given to the repository, which
    adds nothing random. What the label depends on stays; the parameter behind the spot's top feature moves twice as
    far. Raises as `create_scenario_variation`, and as building the scenario does.
    """
    if cycle.sigma == 0:
        return base
    scenario = BaseScenario.from_scenario_definition_dict(base)
    if not isinstance(scenario, FamilyScenario):
        values: Mapping[str, Any] = {}
    else:
        feature = top_feature(features_summary(spot))
        focus = None if feature is None else focus_parameter(feature["feature_path"], scenario)
        seed = cycle.stream(spot["weakness_id"], index)
        values = jittered(scenario.parameters, seed=seed, sigma=cycle.sigma, focus=focus).to_dict()
    number = "" if cycle.number is None else f"c{cycle.number}_"
    return repository.create_scenario_variation(
        base_scenario=base,
        new_id_suffix=f"_alm_var_{spot['weakness_id']}_{number}{index}",
        param_modifications={**({"specific_params": dict(values)} if values else {}), **provenance(spot)},
        sensor_context=sensor_context,
    )


def scenarios_of_samples(samples: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return raw sample id -> original scenario id of the samples of feedback that name one."""
    return {
        str(sample["raw_sample_id"]): str(sample["original_scenario_id"])
        for sample in samples
        if sample.get("raw_sample_id") is not None and sample.get("original_scenario_id") is not None
    }


def _weights(spot: Mapping[str, Any], scenario_of: Mapping[str, str]) -> dict[str, float]:
    """Return the summed scores of the members of each scenario; equal ones if all scores are 0."""
    found: dict[str, float] = {}
    for member in details(spot).get("members") or ():
        raw, score = str(member.get("raw_sample_id")), member.get("score") or 0.0
        scenario = member.get("original_scenario_id") or scenario_of.get(raw)
        if scenario is not None and math.isfinite(score):
            found[scenario] = found.get(scenario, 0.0) + max(0.0, score)
    positive = {scenario: weight for scenario, weight in found.items() if weight > 0}
    return positive or dict.fromkeys(found, 1.0)

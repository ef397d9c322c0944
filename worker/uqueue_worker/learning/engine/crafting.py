"""Crafting: which scenarios make the samples of a cycle, one part for each weak spot and one for exploration."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import structlog

from uqueue_config.learning.references import ScenarioRef
from uqueue_config.learning.runs import Allotment, Failure
from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_config.learning.spots import WeakSpot
from uqueue_worker.learning.engine.allocation import allocate, exploring
from uqueue_worker.learning.engine.behalf import on_behalf
from uqueue_worker.learning.engine.files import read_feedback
from uqueue_worker.learning.engine.parts import Part
from uqueue_worker.learning.engine.spot_scenarios import spot_scenarios
from uqueue_worker.learning.engine.steps import Assignment, Context, Move, Step, cycle_of, in_turn, skipped
from uqueue_worker.learning.engine.stopping import budget_left
from uqueue_worker.learning.errors import CraftingFailed, DatasetNotFound, ScenarioNotFound
from uqueue_worker.learning.simulator.runs import derived_seed
from uqueue_worker.learning.targeting.regions import scenarios_of_samples

_EXPLORE = "explore"
_ENDS_THE_CYCLE = ("repository_unavailable", "circuit_open")
_log = structlog.get_logger("uqueue.learning.engine")


def _parts(context: Context) -> Sequence[Part]:
    config, budget = context.run.config, budget_left(context.run)
    explored = exploring(budget, config.exploration_fraction)
    spots = _spots(context)
    shares = allocate(budget - explored, [spot.priority for spot in spots])
    parts = [
        context.part("craft", f"spot:{spot.weakness_id}", weakness_id=spot.weakness_id, samples=share)
        for spot, share in zip(spots, shares, strict=True)
        if share > 0
    ]
    if explored:
        parts.append(context.part("craft", _EXPLORE, weakness_id=None, samples=explored))
    return in_turn(context, parts)


def _finish(context: Context) -> Move:
    failures = context.failures()
    done = [one.result for one in context.results.values() if one.ok and one.result is not None]
    plan = tuple(Allotment.model_validate(one) for result in done for one in result["allotments"])
    if any(one.code in _ENDS_THE_CYCLE for one in failures):
        return skipped(context)
    if not plan:
        error = CraftingFailed(weakness_id="any", reason="no scenario was found or made")
        return skipped(context, Failure(code=error.code, message=error.message, step="crafting"))
    if context.run.config.auto_apply:
        for _, suggestion in context.store.suggestions(context.run.run_id, context.run.cycle):
            context.store.move_suggestion(suggestion.suggestion_id, "proposed", "approved")
            if not suggestion.needs_mapping:
                context.store.move_suggestion(suggestion.suggestion_id, "approved", "applied")
    return Move("generating", cycle={"plan": plan, "failures": (*context.cycle.failures, *failures)})


def craft(job: Assignment) -> dict[str, Any]:
    """Find or make the scenarios of one weak spot, or draw those that explore; all are stored."""
    count = job.part.payload["samples"]
    weakness_id = job.part.payload["weakness_id"]
    if weakness_id is None:
        found = [
            _allotment(job, scenario, None, place, 1) for place, scenario in enumerate(_explored(job, count, None))
        ]
        return _result(found)
    spot = next(one for _, one in job.store.spots(job.run.run_id, job.part.cycle) if one.weakness_id == weakness_id)
    each = job.run.config.samples_per_variation
    wanted = math.ceil(count / each)
    scenarios = spot_scenarios(
        spot, wanted, cycle_of(job.run), on_behalf(job.workshop.repository, job.run), _scenario_of(job)
    )
    if not scenarios:
        _log.warning("exploring instead of crafting", run_id=job.run.run_id, weakness_id=weakness_id)
        scenarios = _explored(job, wanted, weakness_id)
    return _result(list(_shared_out(job, spot, scenarios, count, wanted)))


def _shared_out(
    job: Assignment, spot: WeakSpot, scenarios: Sequence[ScenarioDefinition], count: int, wanted: int
) -> Iterator[Allotment]:
    """Yield a spot's samples over its scenarios: `samples_per_variation` from each, more where there are fewer."""
    least, more = divmod(count, len(scenarios))
    each = job.run.config.samples_per_variation
    for place, scenario in enumerate(scenarios):
        samples = min(each, count - each * place) if len(scenarios) == wanted else least + (place < more)
        if samples > 0:
            yield _allotment(job, scenario, spot.weakness_id, place, samples)


def _explored(job: Assignment, count: int, weakness_id: str | None) -> list[ScenarioDefinition]:
    """Draw scenarios from the deployment distribution and store them."""
    seed = derived_seed(job.run.config.random_seed, "exploration", job.part.cycle, weakness_id)
    repository = job.workshop.repository
    kept = []
    for scenario in job.workshop.deployment.draw_scenarios(count, seed):
        stored_id = repository.save_scenario_definition(scenario_def=scenario.to_record())
        stored = repository.get_scenario_by_id(scenario_id=stored_id)
        if stored is None:
            raise ScenarioNotFound(scenario_id=stored_id)
        kept.append(stored)
    return kept


def _allotment(
    job: Assignment, scenario: ScenarioDefinition, weakness_id: str | None, place: int, samples: int
) -> Allotment:
    return Allotment(
        scenario=ScenarioRef(id=scenario.scenario_definition_id, version=scenario.version),
        weakness_id=weakness_id,
        group="exploration" if weakness_id is None else "spot",
        samples=samples,
        seed=derived_seed(job.run.config.random_seed, "samples", job.part.cycle, weakness_id, place),
    )


def _result(found: Sequence[Allotment]) -> dict[str, Any]:
    return {"ok": True, "allotments": [one.model_dump(mode="json") for one in found]}


def _scenario_of(job: Assignment) -> dict[str, str]:
    """Return raw sample id -> scenario id of the pool's samples, from the feedback of this cycle."""
    cycle = job.store.get_cycle(job.run.run_id, job.part.cycle)
    if cycle is None or cycle.evaluation_before is None:
        raise DatasetNotFound(dataset=f"the feedback of run {job.run.run_id}, cycle {job.part.cycle}")
    return _scenarios_in(cycle.evaluation_before.uri, cycle.evaluation_before.sha256)


@lru_cache(maxsize=2)
def _scenarios_in(uri: str, sha256: str) -> dict[str, str]:
    """All spots of a cycle ask the same feedback, and a file of that SHA-256 never changes."""
    feedback = read_feedback(uri, sha256)
    listed = (*feedback.uncertain_samples, *feedback.misclassified_samples)
    return scenarios_of_samples([sample.model_dump() for sample in listed])


def _spots(context: Context) -> list[WeakSpot]:
    """Return the cycle's weak spots in the order in which they were ranked."""
    found = {spot.weakness_id: spot for _, spot in context.store.spots(context.run.run_id, context.run.cycle)}
    return [found[weakness_id] for weakness_id in context.cycle.spot_ids]


CRAFTING = Step(_parts, _finish)

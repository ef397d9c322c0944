"""Samples that say which weak spot, scenario and cycle they were made for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from uqueue_worker.learning.scenarios.base import BaseScenario
from uqueue_worker.learning.targeting.cycle import Cycle


def traced(samples: Iterable[Any], weakness_id: str, scenarios: Sequence[Any], cycle: Cycle) -> list[Any]:
    """Return copies of raw samples with originating_weak_spot_id, scenario_definition_id, scenario_version, alm_run_id
    and alm_cycle in their metadata. What is no mapping stays as it is."""
    known = {name: told for scenario in scenarios for told in [identity(scenario)] for name in _names(scenario)}
    only = identity(scenarios[0]) if len(scenarios) == 1 else (None, None)
    return [_traced(sample, weakness_id, known, only, cycle) for sample in samples]


def _traced(sample: Any, weakness_id: str, known: Mapping[Any, Any], only: tuple[Any, Any], cycle: Cycle) -> Any:
    if not isinstance(sample, Mapping):
        return sample
    definition_id, version = known.get(sample.get("scenario_id"), only)
    metadata = {
        **(sample.get("sample_metadata") or {}),
        "originating_weak_spot_id": weakness_id,
        "scenario_definition_id": definition_id,
        "scenario_version": version,
        **cycle.metadata(),
    }
    return {**sample, "sample_metadata": metadata}


def identity(scenario: Any) -> tuple[Any, Any]:
    """Return the id of a scenario's definition and its version."""
    if isinstance(scenario, Mapping):
        return scenario.get("scenario_definition_id"), scenario.get("version")
    if isinstance(scenario, BaseScenario):
        return scenario.scenario_id, scenario.version
    return getattr(scenario, "scenario_id", None), getattr(scenario, "version", None)


def _names(scenario: Any) -> set[Any]:
    """Return what a sample may call the scenario."""
    told = [identity(scenario)[0]]
    told += [scenario.get("scenario_instance_id")] if isinstance(scenario, Mapping) else []
    return {name for name in told if isinstance(name, str)}

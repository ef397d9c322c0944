"""The report of a run from what store, repository and files hold of it."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from contextlib import suppress

from uqueue_config.learning.answers import ReportFormat
from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.runs import CycleRecord, Evaluation
from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_worker.learning.engine.files import read_feedback
from uqueue_worker.learning.engine.store import RunStore
from uqueue_worker.learning.errors import DatasetFormat, DatasetNotFound
from uqueue_worker.learning.interfaces import ScenarioRepositoryInterface
from uqueue_worker.learning.report import Comparison, ReportData, render_page, report_csv, report_json


def report_text(
    store: RunStore, repository: ScenarioRepositoryInterface, run_id: str, format: ReportFormat = "html"
) -> str:
    """Return the report of a run as it stands: a whole HTML page, JSON, or CSV.

    Raises RunNotFound, and RepositoryUnavailable.
    """
    data = report_data(store, repository, run_id)
    match format:
        case "html":
            return render_page(data)
        case "csv":
            return report_csv(data)
    return json.dumps(report_json(data), indent=1, allow_nan=False) + "\n"


def report_data(
    store: RunStore,
    repository: ScenarioRepositoryInterface,
    run_id: str,
    *,
    comparison: Comparison | None = None,
    commands: tuple[str, ...] = (),
) -> ReportData:
    """Return what the report of a run is made of. Feedback files and scenarios that are gone are left out.

    Raises RunNotFound, and RepositoryUnavailable.
    """
    run, cycles = store.get_run(run_id), tuple(store.cycles(run_id))
    feedback = _feedback(cycles)
    scenarios = _scenarios(repository, _named(feedback.values(), cycles))
    spots, suggestions = store.spots(run_id), store.suggestions(run_id)
    numbers = [cycle.cycle for cycle in cycles]
    return ReportData(
        run=run,
        cycles=cycles,
        spots={number: [spot for of, spot in spots if of == number] for number in numbers},
        suggestions={number: [one for of, one in suggestions if of == number] for number in numbers},
        feedback=feedback,
        scenarios=scenarios,
        parents={name: parent for name, one in scenarios.items() for parent in one.related_scenario_ids[:1]},
        comparison=comparison,
        commands=commands or (f"uqueue learn report {run_id}",),
        parts=store.part_times(run_id),
        field_sets=[one for one in store.datasets(run_id) if one.role == "field"],
        machine={"Machine": f"{platform.machine()}, {os.cpu_count()} processors", "Python": platform.python_version()},
    )


def _feedback(cycles: Iterable[CycleRecord]) -> dict[str, ModelPerformanceData]:
    found: dict[str, ModelPerformanceData] = {}
    for evaluation in _evaluations(cycles):
        if evaluation.uri not in found:
            with suppress(DatasetNotFound, DatasetFormat):
                found[evaluation.uri] = read_feedback(evaluation.uri, evaluation.sha256)
    return found


def _evaluations(cycles: Iterable[CycleRecord]) -> Iterable[Evaluation]:
    for cycle in cycles:
        every = (cycle.evaluation_before, cycle.evaluation_after, cycle.test_before, cycle.test_after)
        yield from (one for one in every if one is not None)


def _named(feedback: Iterable[ModelPerformanceData], cycles: Iterable[CycleRecord]) -> set[str]:
    """Return the ids of the scenarios of all samples, and of those that the run made."""
    found = {one.scenario.id for cycle in cycles for one in cycle.plan}
    for evaluation in feedback:
        listed = (*evaluation.uncertain_samples, *evaluation.misclassified_samples)
        found.update(sample.original_scenario_id for sample in listed if sample.original_scenario_id)
    return found


def _scenarios(repository: ScenarioRepositoryInterface, names: set[str]) -> dict[str, ScenarioDefinition]:
    """Return the scenarios that the repository has, and those that they are variations of."""
    found: dict[str, ScenarioDefinition] = {}
    asked, pending = set(names), sorted(names)
    while pending:
        for name in pending:
            definition = repository.get_scenario_by_id(scenario_id=name)
            if definition is not None:
                found[name] = definition
        bases = {base for name in pending if name in found for base in found[name].related_scenario_ids[:1]}
        pending = sorted(bases - asked)
        asked |= bases
    return found

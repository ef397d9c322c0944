"""How `uqueue learn` shows runs, weak spots, suggestions, scenarios and feedback."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.table import Table

from uqueue.cli.output import print_pairs, say, stdout, table

if TYPE_CHECKING:
    from uqueue_config.learning.answers import (
        RunDetails,
        RunList,
        ScenarioPage,
        ScenarioVersions,
        SpotList,
        SuggestionList,
    )
    from uqueue_config.learning.feedback import ModelPerformanceData
    from uqueue_config.learning.runs import CycleRecord, Evaluation, RunRecord
    from uqueue_config.learning.scenario import ScenarioDefinition
    from uqueue_config.learning.spots import WeakSpot
    from uqueue_config.learning.suggestions import CreateScenario, ModifyScenario

_SHOWN = 20


def run_line(details: RunDetails) -> str:
    """Return where a run stands, in one line."""
    run = details.run
    value = run.feedback.metrics.get(run.config.target_metric) if run.feedback else None
    metric = "" if value is None else f", {run.config.target_metric} {value:.4f}"
    return f"{run.status}: cycle {run.cycle + 1} of at most {run.config.max_cycles}, {run.state}{metric}"


def runs_table(found: RunList) -> Table:
    """Return a line per run."""
    columns = ["run", "status", "cycle", "state", "strategy", "metric", "pool", "test", "samples", "created", "why"]
    lines = [
        [
            one.run_id,
            one.status,
            f"{one.cycle + 1}/{one.max_cycles}",
            one.state,
            one.strategy,
            one.target_metric,
            _number(one.value),
            _number(one.test_value),
            one.samples_spent,
            _moment(one.created_at_utc),
            one.stop_reason or one.error,
        ]
        for one in found.runs
    ]
    return table(columns, lines)


def show_run(details: RunDetails) -> None:
    """Print a run and a line for each of its cycles."""
    run = details.run
    print_pairs(
        [
            ("run", run.run_id),
            ("status", run.status),
            ("stopped", run.stop_reason),
            ("continues", run.config.continues),
            ("error", run.error and f"{run.error.code}: {run.error.message}"),
            ("cycle", f"{run.cycle + 1} of at most {run.config.max_cycles}, {run.state}"),
            ("model", run.model and f"{run.model.name}@{run.model.version}"),
            (f"{run.config.target_metric} (pool)", _metric(run, run.feedback)),
            (f"{run.config.target_metric} (test)", _metric(run, run.test)),
            ("samples made", run.samples_spent),
            ("strategy, seed", f"{run.config.strategy}, {run.config.random_seed}"),
            ("created", _moment(run.created_at_utc)),
            ("updated", _moment(run.updated_at_utc)),
        ]
    )
    if details.cycles:
        stdout().print(_cycles_table(run, details.cycles))
    if run.status == "waiting":
        say(f"It waits for approval: `uqueue learn suggestions {run.run_id} --state proposed`.")


def _cycles_table(run: RunRecord, cycles: tuple[CycleRecord, ...]) -> Table:
    columns = ["cycle", "state", "spots", "samples", "pool before", "pool after", "test before", "test after"]
    lines = [
        [
            one.cycle,
            one.state,
            len(one.spot_ids),
            f"{one.samples_generated}/{one.samples_requested}",
            _metric(run, one.evaluation_before),
            _metric(run, one.evaluation_after),
            _metric(run, one.test_before),
            _metric(run, one.test_after),
            {True: "yes", False: "no", None: None}[one.promoted],
            one.failures[0].message[:80] if one.failures else one.promotion_reason,
        ]
        for one in cycles
    ]
    return table([*columns, "promoted", "why"], lines)


def spots_table(found: SpotList) -> Table:
    """Return a line per weak spot, the most urgent first."""
    lines = [
        [number, one.weakness_id, _kind(one), f"{one.priority:.3f}", one.sensor_id, _where(one)]
        for number, one in enumerate(found.spots, 1)
    ]
    return table(["rank", "weak spot", "type", "priority", "sensor", "where"], lines)


def suggestions_table(found: SuggestionList) -> Table:
    """Return a line per suggestion."""
    lines = [
        [
            entry.suggestion.suggestion_id,
            entry.cycle,
            entry.suggestion.state,
            entry.suggestion.kind,
            f"{entry.suggestion.priority:.3f}",
            _aim(entry.suggestion),
            _moved(entry.suggestion),
            entry.suggestion.reason,
        ]
        for entry in found.suggestions
    ]
    return table(["suggestion", "cycle", "state", "kind", "priority", "scenario", "moves", "reason"], lines)


def scenarios_table(found: ScenarioPage) -> Table:
    """Return a line per scenario."""
    lines = [
        [
            one.scenario_definition_id,
            one.version,
            one.name,
            one.category,
            one.scenario_class_name,
            ", ".join(one.tags[:6]) + (" …" if len(one.tags) > 6 else ""),
        ]
        for one in found.scenarios
    ]
    return table(["scenario", "version", "name", "category", "family", "tags"], lines)


def show_scenario(found: ScenarioDefinition) -> None:
    """Print everything that a scenario says."""
    record = found.to_record()
    record["creation_timestamp_utc"] = _moment(found.created_at)
    record["tags"] = ", ".join(found.tags) or None
    record["related_scenario_ids"] = ", ".join(found.related_scenario_ids) or None
    print_pairs((name, value if value != "" else None) for name, value in record.items())


def history_table(found: ScenarioVersions) -> Table:
    """Return a line per version of a scenario."""
    lines = [
        [one.version, one.operation, _moment(one.changed_at_utc), one.changed_by, one.reason] for one in found.versions
    ]
    return table(["version", "change", "when", "by", "why"], lines)


def show_feedback(found: ModelPerformanceData) -> None:
    """Print the metrics of an evaluation, over everything and per class."""
    pairs = [("model", found.model_version_evaluated), ("data set", found.dataset_identifier)]
    counts = [("samples", found.n_samples), ("failed", found.n_failed), ("misclassified", found.n_misclassified)]
    metrics = [(name, f"{value:.4f}") for name, value in found.overall_metrics.items()]
    print_pairs([*pairs, *counts, ("uncertainty", found.uncertainty_method), *metrics])
    lines = [
        [name, _number(one.recall), _number(one.precision), _number(one.f1_score), one.support]
        for name, one in found.per_class_metrics.items()
    ]
    stdout().print(table(["class", "recall", "precision", "F1", "samples"], lines))
    for warning in found.warnings[:_SHOWN]:
        say(f"warning: {warning}")


def _kind(spot: WeakSpot) -> str:
    """Return the type of a weak spot, and its origin where feedback on the pool did not name it."""
    origin = spot.details.get("origin")
    return f"{spot.type} ({origin})" if isinstance(origin, str) else spot.type


def _where(spot: WeakSpot) -> str | None:
    """Return what a weak spot is about: a class, or a region of parameters."""
    details = spot.details
    region, name = details.get("region"), details.get("class_name") or details.get("true_label")
    bounds = []
    if isinstance(region, dict):
        bounds = [f"{path} {_range(box)}" for path, box in list(region.items())[:3] if isinstance(box, list | dict)]
    found = ", ".join([*([str(name)] if name else []), *bounds])
    return found or spot.raw_sample_id


def _range(box: Any) -> str:
    low, high = (box.get("min"), box.get("max")) if isinstance(box, dict) else (*box, None, None)[:2]
    return f"{_number(low)} to {_number(high)}"


def _aim(suggestion: ModifyScenario | CreateScenario) -> str:
    if suggestion.kind == "modify_existing_scenario":
        return suggestion.target_scenario_definition_id
    return suggestion.basis_for_new_scenario.scenario_definition_id_suggestion


def _moved(suggestion: ModifyScenario | CreateScenario) -> str | None:
    if suggestion.kind != "modify_existing_scenario":
        return None
    return ", ".join(one.param_path for one in suggestion.suggested_modifications_for_specific_params) or None


def _metric(run: RunRecord, evaluation: Evaluation | None) -> str | None:
    return None if evaluation is None else _number(evaluation.metrics.get(run.config.target_metric))


def _number(value: Any) -> str | None:
    return None if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _moment(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")

"""A run of active learning as its records tell it, for tests of the report: two cycles, a pool of two classes."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.references import DatasetRef, ModelRef, ScenarioRef
from uqueue_config.learning.runs import Allotment, CycleRecord, DatasetEntry, Evaluation, RunConfig, RunRecord
from uqueue_config.learning.scenario import ScenarioDefinition
from uqueue_config.learning.spots import WeakSpot
from uqueue_worker.learning.report import TARGETED, Arm, Comparison, ReportData

NORMAL, CORONA = "NORMAL", "CORONA"
_START = datetime(2026, 3, 2, 9, tzinfo=UTC)
_POOL = 200
_HUMID = 85.0


def told_run(name: str = "run-1", model: str = "airguard", comparison: Comparison | None = None) -> ReportData:
    """Return a run whose first model takes corona in humid air for normal operation and whose last one does not.

    `name` and `model` stand in every place where a name of the run, a scenario, a spot or a model is shown.
    """
    scenarios = {f"{name}-{number}": _scenario(f"{name}-{number}", number) for number in range(_POOL)}
    feedback = {f"pool-{step}": _pool_feedback(scenarios, wrong) for step, wrong in enumerate((1.0, 0.5, 0.1))}
    feedback |= {f"test-{step}": _test_feedback(right) for step, right in enumerate((60, 75, 90))}
    made = {f"{name}-made-{number}": _scenario(f"{name}-made-{number}", number) for number in range(4)}
    cycles = tuple(_cycle(name, model, number, list(made)[2 * number :][:2]) for number in range(2))
    config = RunConfig.read({"model": model, "max_cycles": 2, "sample_budget_per_cycle": 10})
    run = RunRecord(
        run_id=name,
        status="completed",
        config=config,
        config_hash=config.config_hash,
        cycle=1,
        state="completed",
        stop_reason="cycles_spent",
        model=_model(model, 2),
        datasets=(_dataset("test", 100), _dataset("pool", _POOL)),
        test=_evaluation(model, 2, "test"),
        samples_spent=20,
        created_at_utc=_START,
        updated_at_utc=_START + timedelta(seconds=60),
    )
    spots = {number: [_spot(name, number, scenarios, feedback[f"pool-{number}"])] for number in range(2)}
    parents = dict.fromkeys(made, f"{name}-1")
    return ReportData(
        run=run,
        cycles=cycles,
        spots=spots,
        feedback=feedback,
        scenarios={**scenarios, **made},
        parents=parents,
        comparison=comparison,
        commands=(f"uqueue learn report {name}",),
        machine={"processor": "two cores"},
    )


def comparison_of(gain: float, seeds: int = 4) -> Comparison:
    """Return two policies whose curves differ by `gain` at the end, the same in every pair up to a thousandth."""
    random_curves = tuple((0.80 + seed / 100, 0.82 + seed / 100, 0.84 + seed / 100) for seed in range(seeds))
    targeted = tuple(
        (start, middle + gain / 2, end + gain + (-1) ** number / 1000)
        for number, (start, middle, end) in enumerate(random_curves)
    )
    arms = (
        Arm(TARGETED, "targeted", targeted),
        Arm("random_deployment", "random draws from deployment", random_curves),
    )
    return Comparison("macro_f1_score", tuple(range(seeds)), 10, arms, reference=(0.9,) * seeds)


def _scenario(identity: str, number: int) -> ScenarioDefinition:
    drawn = random.Random(number)
    humidity, distance = drawn.uniform(20, 98), drawn.uniform(1, 25)
    parameters: dict[str, Any] = {
        "location": [0.0, distance, 0.5],
        "environment": {"relative_humidity_percent": humidity, "wind_speed_mps": drawn.uniform(0, 12)},
    }
    return ScenarioDefinition.read(
        {"scenario_definition_id": identity, "name": identity, "specific_params_json": parameters}
    )


def _humidity(scenario: ScenarioDefinition) -> float:
    return float(scenario.specific_params["environment"]["relative_humidity_percent"])


def _pool_feedback(scenarios: dict[str, ScenarioDefinition], wrong_share: float) -> ModelPerformanceData:
    samples, errors = [], []
    for number, (identity, scenario) in enumerate(scenarios.items()):
        true = CORONA if number % 2 else NORMAL
        hard = true == CORONA and _humidity(scenario) > _HUMID
        wrong = hard and random.Random(f"errs {number}").random() < wrong_share
        fields = {
            "raw_sample_id": f"sample-{number}",
            "original_scenario_id": identity,
            "true_label": true,
            "predicted_label": NORMAL if wrong else true,
            "epistemic_uncertainty_score": 0.6 if hard else 0.1,
            "aleatoric_uncertainty_score": 0.2,
        }
        (errors if wrong else samples).append(fields)
    return ModelPerformanceData.read(
        {"per_class_metrics": {}, "uncertain_samples": samples, "misclassified_samples": errors, "n_samples": _POOL}
    )


def _test_feedback(right: int) -> ModelPerformanceData:
    matrix = [[100, 0], [100 - right, right]]
    empty: dict[str, Any] = {"per_class_metrics": {}, "uncertain_samples": [], "misclassified_samples": []}
    return ModelPerformanceData.read({**empty, "classes": [NORMAL, CORONA], "confusion_matrix": matrix})


def _spot(name: str, cycle: int, scenarios: dict[str, ScenarioDefinition], pool: ModelPerformanceData) -> WeakSpot:
    members = [
        {"raw_sample_id": one.raw_sample_id, "score": 1.0}
        for one in (*pool.uncertain_samples, *pool.misclassified_samples)
        if one.true_label == CORONA and _humidity(scenarios[str(one.original_scenario_id)]) > _HUMID
    ]
    summary = {
        "method": "OCCLUSION",
        "top_n_features": [
            {"feature_path": "sample_metadata.U21_SHT85__relative_humidity_percent", "importance_score": 0.3}
        ],
    }
    details = {
        "true_label": CORONA,
        "epistemic_uncertainty_score": 0.6,
        "aleatoric_uncertainty_score": 0.2,
        "members": members,
        "sample_features_summary": summary,
    }
    return WeakSpot(
        weakness_id=f"rg_misc_{name}_{cycle}",
        type="misclassified_region",
        priority=1.0,
        sensor_id=name,
        details=details,
    )


def _cycle(name: str, model: str, number: int, made: list[str]) -> CycleRecord:
    spot = f"rg_misc_{name}_{number}"
    return CycleRecord(
        run_id=name,
        cycle=number,
        state="completed",
        config_hash="0" * 64,
        seeds={"run": 7},
        model_before=_model(model, number),
        candidate=_model(model, number + 1),
        model_after=_model(model, number + 1),
        promoted=True,
        promotion_reason=f"nothing against {name}",
        evaluation_before=_evaluation(model, number, "pool"),
        evaluation_after=_evaluation(model, number + 1, "pool"),
        test_before=_evaluation(model, number, "test"),
        test_after=_evaluation(model, number + 1, "test"),
        spot_ids=(spot,),
        plan=tuple(
            Allotment(scenario=ScenarioRef(id=one, version=1), weakness_id=why, group=group, samples=5, seed=1)
            for one, why, group in ((made[0], spot, "spot"), (made[1], None, "exploration"))
        ),
        samples_requested=10,
        samples_generated=10,
        seconds={"evaluating": 2.0, "training": 1.5},
        code_versions={"uqueue": "0.1.0"},
        started_at_utc=_START + timedelta(seconds=20 * number),
        finished_at_utc=_START + timedelta(seconds=20 * number + 20),
    )


def _model(model: str, step: int) -> ModelRef:
    return ModelRef(name=model, version=f"v{step}")


def _dataset(role: Any, n: int) -> DatasetEntry:
    ref = DatasetRef(uri=f"{role}.avro", sha256="a" * 64, n=n, schema_fingerprint="b" * 16)
    return DatasetEntry(name=role, role=role, ref=ref, content_sha256="c" * 64, requested=n)


def _evaluation(model: str, step: int, split: str) -> Evaluation:
    return Evaluation(
        model=_model(model, step),
        dataset=split,
        dataset_sha256="a" * 64,
        cycle=step,
        n_samples=100,
        metrics={"macro_f1_score": 0.80 + 0.05 * step, "accuracy": 0.85 + 0.04 * step, "ece": 0.06 - 0.02 * step},
        recalls={NORMAL: 1.0, CORONA: 0.6 + 0.15 * step},
        uri=f"{split}-{step}",
        sha256="d" * 64,
    )

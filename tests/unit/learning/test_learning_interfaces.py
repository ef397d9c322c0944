"""The interfaces: parameter names, and that small implementations are complete ones."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
from typing import Any

import pytest

from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_worker.learning.interfaces import (
    ActiveLearningManagerInterface,
    MLDataGeneratorInterface,
    ModelInterface,
    PrioritizationStrategyInterface,
    ScenarioRepositoryInterface,
)
from uqueue_worker.learning.sensors import DEFAULT_SENSOR_ID_TO_TYPE_MAPPING, sensor_type_of, sensor_types
from uqueue_worker.learning.strategies import STRATEGIES

NONE: Any = None
CONTRACT: dict[type, dict[str, dict[str, Any]]] = {
    ModelInterface: {"get_model_performance_feedback": {"evaluation_dataset": ..., "model_version_tag": ...}},
    ScenarioRepositoryInterface: {
        "get_scenario_by_id": {"scenario_id": ...},
        "get_scenarios_by_category": {"category": ..., "sensor_type": NONE, "num_to_get": 5},
        "get_scenarios_by_class_label": {"class_label": ..., "sensor_type": NONE, "num_to_get": 5},
        "create_scenario_variation": {
            "base_scenario": ...,
            "new_id_suffix": ...,
            "param_modifications": ...,
            "sensor_context": NONE,
        },
        "craft_scenario_from_features": {
            "features_summary": ...,
            "base_id": ...,
            "target_class": NONE,
            "sensor_type": NONE,
        },
        "get_default_exploration_scenario": {"scenario_id": ..., "sensor_type": NONE},
        "save_scenario_definition": {"scenario_def": ...},
        "update_scenario_definition": {"scenario_def_id": ..., "updates": ..., "expected_version": NONE},
    },
    MLDataGeneratorInterface: {
        "generate_training_dataset": {
            "scenarios": ...,
            "samples_per_scenario": ...,
            "output_format": "list_of_dicts",
            "dataset_name": NONE,
            "imperfection_settings": NONE,
            "time_step_seconds": NONE,
            "seed": NONE,
        }
    },
    PrioritizationStrategyInterface: {
        "calculate_priority": {
            "sample_info": NONE,
            "class_metrics_info": NONE,
            "weakness_type": NONE,
            "sensor_type": NONE,
        },
        "identify_weaknesses": {"model_performance_data": ..., "target_sensor_id": NONE},
    },
    ActiveLearningManagerInterface: {
        "identify_weak_spots": {"model_performance_data": ..., "target_sensor_id": NONE},
        "generate_targeted_samples": {
            "weak_spots": ...,
            "num_samples_per_spot_type": 50,
            "output_format": "list_of_dicts",
            "dataset_name_prefix": "alm_targeted",
        },
        "suggest_scenario_modifications": {"weakness_analysis": ...},
        "process_real_world_feedback": {"feedback_data": ...},
    },
}


def parameters(method: Any) -> dict[str, Any]:
    found = list(inspect.signature(method).parameters.values())[1:]
    assert all(one.kind is one.POSITIONAL_OR_KEYWORD for one in found)
    return {one.name: ... if one.default is one.empty else one.default for one in found}


@pytest.mark.parametrize("interface", CONTRACT, ids=lambda one: one.__name__)
def test_abstract_methods_have_the_contracts_names_and_defaults(interface: type) -> None:
    abstract: frozenset[str] = interface.__abstractmethods__  # type: ignore[attr-defined]
    assert {name: parameters(getattr(interface, name)) for name in abstract} == CONTRACT[interface]
    for name in abstract:
        assert (inspect.getdoc(getattr(interface, name)) or "").strip()


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=lambda one: one.__name__)
def test_strategies_have_the_interfaces_signatures(strategy: type) -> None:
    for name, expected in CONTRACT[PrioritizationStrategyInterface].items():
        assert parameters(getattr(strategy, name)) == expected


class Small(ModelInterface):
    def get_model_performance_feedback(self, evaluation_dataset: Any, model_version_tag: str | None) -> Any:
        return ModelPerformanceData.read(
            {
                "per_class_metrics": {},
                "uncertain_samples": [],
                "misclassified_samples": [],
                "n_samples": len(evaluation_dataset),
                "model_version_evaluated": model_version_tag,
            }
        )


def test_a_small_model_interface_is_a_complete_one() -> None:
    found = asyncio.run(Small().aget_model_performance_feedback(evaluation_dataset=[{}], model_version_tag="7"))
    assert (found.n_samples, found.model_version_evaluated) == (1, "7")
    with pytest.raises(NotImplementedError, match="Small does not offer list_versions"):
        Small().list_versions()


class Generator(MLDataGeneratorInterface):
    def generate_training_dataset(self, *args: Any, **options: Any) -> list[dict[str, Any]]:
        return []


class Exporting(Generator):
    def _export_data(self, samples: Any, output_format: str, dataset_name: str) -> str:
        return f"{dataset_name}.{output_format}"


def test_the_alias_alone_is_enough_to_export() -> None:
    assert Exporting().export([], "avro", "set_20260302_091407") == "set_20260302_091407.avro"
    with pytest.raises(AttributeError, match="does not offer export"):
        Generator().export([], "avro", "set")


def test_the_sensor_map() -> None:
    assert len(DEFAULT_SENSOR_ID_TO_TYPE_MAPPING) == 12
    assert sensor_types(None) == dict(DEFAULT_SENSOR_ID_TO_TYPE_MAPPING)
    assert sensor_types({}) == {}
    assert sensor_type_of("U29_TFEMF", DEFAULT_SENSOR_ID_TO_TYPE_MAPPING) == "EMFSensor"
    assert {sensor_type_of(None, {"a": "b"}), sensor_type_of("a", {}), sensor_type_of("a", None)} == {None}


#: What talks to a database or a service, or starts one: loaded by others on first use.
DRIVERS = (
    *(
        f"repository.{name}"
        for name in ("breaking", "connection", "faults", "migrating", "postgres", "ranking", "rows", "selecting")
    ),
    *("engine.postgres_store", "engine.rows", "demo.playing", "demo.stage", "tasks"),
)


def test_the_library_loads_nothing_heavy() -> None:
    program = """
import importlib, json, pkgutil, sys
import uqueue_config.learning, uqueue_worker.learning
drivers = ["uqueue_worker.learning." + name for name in json.loads(sys.argv[1])]
for package in (uqueue_config.learning, uqueue_worker.learning):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__") and module.name not in drivers:
            importlib.import_module(module.name)
heavy = "celery kombu redis psycopg onnxruntime keras tensorflow shap mlflow sklearn scipy".split()
print(json.dumps([name for name in (*heavy, *drivers) if name in sys.modules]))
"""
    asked = [sys.executable, "-c", program, json.dumps(DRIVERS)]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout) == []

"""What the parts of the library count: evaluations, scenarios, calls of a database, and its breaker."""

from __future__ import annotations

from typing import Any

import pytest

from builders.classifier_samples import ensemble, samples
from builders.learning_scenarios import a_scenario
from uqueue_worker.learning.breaker import BreakerRules, CircuitBreaker
from uqueue_worker.learning.errors import CircuitOpen, EmptyDataset, RepositoryUnavailable
from uqueue_worker.learning.models.local import LocalModelInterface
from uqueue_worker.learning.observability.metrics import metrics
from uqueue_worker.learning.repository import MemoryScenarioRepository, open_database, postgres_repository


def value(name: str, **labels: str) -> float:
    return float(metrics().registry.get_sample_value(name, labels) or 0.0)


def test_evaluations() -> None:
    def counted() -> list[float]:
        return [value("alm_feedback_total", interface="local", outcome=outcome) for outcome in ("ok", "failed")]

    local, before = LocalModelInterface.of(ensemble()), counted()
    local.get_model_performance_feedback(samples(20), None)
    with pytest.raises(EmptyDataset):
        local.get_model_performance_feedback([], None)
    assert counted() == [before[0] + 1, before[1] + 1]


def test_scenarios() -> None:
    def counted() -> float:
        return value("alm_scenarios_created_total", method="variation", outcome="stored")

    repository, before = MemoryScenarioRepository(), counted()
    base = a_scenario("CoronaDischarge").to_definition()
    repository.save_scenario_definition(base)
    spot = {"alm_triggering_weak_spot_id": "rg_misc_a"}
    assert repository.create_scenario_variation(base, "_near", spot)
    assert repository.create_scenario_variation(base, "_near", spot)  # the same one, which is there
    assert counted() == before + 1


def test_a_database_that_does_not_answer() -> None:
    def counted() -> float:
        return value("alm_repository_seconds_count", op="get", outcome="failed")

    database: Any = open_database("postgresql://nobody:s3cret@127.0.0.1:1/nowhere", wait_seconds=0.1)
    breaker = CircuitBreaker("repository", rules=BreakerRules(failures_in_a_row=2))
    before = counted()
    with database:
        repository = postgres_repository(database, breaker=breaker)
        for _ in range(2):
            with pytest.raises(RepositoryUnavailable):
                repository.get_scenario_by_id("a")
        with pytest.raises(CircuitOpen, match="repository failed too often") as raised:
            repository.get_scenario_by_id("a")
    assert "s3cret" not in str(raised.value)
    assert (counted(), value("alm_breaker_state", target="repository")) == (before + 2, 2)

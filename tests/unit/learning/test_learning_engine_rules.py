"""The rules of a run that are pure functions: sharing out samples, decay, stopping, the guard, moves between states."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from uqueue_config.learning.errors import RunConfigInvalid
from uqueue_config.learning.references import ModelRef
from uqueue_config.learning.runs import Evaluation, RunConfig, RunRecord
from uqueue_config.learning.settings import LearningSettings
from uqueue_config.learning.spots import WeakSpot
from uqueue_worker.learning.engine.allocation import allocate, exploring
from uqueue_worker.learning.engine.seen import Standing, decayed, stubborn
from uqueue_worker.learning.engine.states import MOVES, may_follow
from uqueue_worker.learning.engine.stopping import budget_left, gained, refusal, stop_reason

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
MODEL = ModelRef(name="m", version="v1")


def a_run(config: dict[str, Any] | None = None, **changes: Any) -> RunRecord:
    made = RunConfig.read(config or {})
    given = {"run_id": "r", "config": made, "config_hash": made.config_hash}
    return RunRecord(**{**given, "created_at_utc": NOW, "updated_at_utc": NOW, **changes})


def an_evaluation(metric: float, **recalls: float) -> Evaluation:
    return Evaluation(
        model=MODEL,
        dataset="pool",
        dataset_sha256="a",
        cycle=0,
        n_samples=1,
        metrics={"macro_f1_score": metric},
        recalls=recalls,
        uri="x",
        sha256="b",
    )


def region(name: str, members: list[str], low: float, high: float, at: float, priority: float = 1.0) -> WeakSpot:
    details = {
        "true_label": "CORONA",
        "members": [{"raw_sample_id": one, "score": 1.0} for one in members],
        "region": {"humidity": {"min": low, "max": high}},
        "medoid_position": {"humidity": at},
    }
    return WeakSpot(weakness_id=name, type="misclassified_region", priority=priority, details=details)


@pytest.mark.parametrize(
    ("budget", "priorities", "shares"),
    [
        (10, [1.0, 0.5, 0.5], [5, 3, 2]),
        (10, [0.7, 0.2, 0.1], [7, 2, 1]),
        (4, [1.0, 0.01, 0.01], [2, 1, 1]),
        (2, [0.9, 0.5, 0.4], [1, 1, 0]),
        (0, [0.9, 0.5], [0, 0]),
        (5, [0.0, 0.0], [3, 2]),
        (5, [], []),
    ],
)
def test_samples_go_by_priority_with_at_least_one_each(budget: int, priorities: list[float], shares: list[int]) -> None:
    assert allocate(budget, priorities) == shares


@given(st.integers(0, 500), st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_shares_use_the_whole_budget_and_never_favour_less_priority(budget: int, priorities: list[float]) -> None:
    ranked = sorted(priorities, reverse=True)
    shares = allocate(budget, ranked)
    assert sum(shares) == budget
    assert all(first >= second for first, second in pairwise(shares))
    assert min(shares) >= (1 if budget >= len(ranked) else 0)


def test_exploration_is_a_share_of_the_budget_and_never_nothing_unless_switched_off() -> None:
    assert [exploring(48, 0.15), exploring(3, 0.15), exploring(48, 0.0), exploring(0, 0.5), exploring(2, 1.0)] == [
        7,
        1,
        0,
        0,
        2,
    ]


def test_a_region_is_stubborn_unless_fewer_of_its_members_are_wrong() -> None:
    spots = [region("a", ["1", "2"], 0, 10, 5), region("b", ["3"], 50, 60, 55)]
    before, now = Standing(frozenset("123"), {}), Standing(frozenset("23"), {})
    assert [spot.weakness_id for spot in stubborn(spots, before, now)] == ["b"]


def test_a_class_is_stubborn_unless_its_recall_rose() -> None:
    spot = WeakSpot(weakness_id="c", type="low_recall_class", priority=0.4, details={"class_name": "CORONA"})
    before, better = Standing(frozenset(), {"CORONA": 0.6}), Standing(frozenset(), {"CORONA": 0.7})
    assert stubborn([spot], before, better) == []
    assert stubborn([spot], before, before) == [spot]


def test_each_cycle_without_success_costs_a_factor_where_the_region_is_the_same() -> None:
    tried = [region("old", ["1"], 0, 10, 5)]
    inside, outside = region("new", ["9"], 3, 8, 6, 0.8), region("far", ["8"], 70, 80, 75, 0.5)
    found = decayed([inside, outside], [tried, tried], 0.5)
    assert [(spot.weakness_id, spot.priority) for spot in found] == [("far", 0.5), ("new", 0.2)]
    assert found[1].details["priority_before_decay"] == 0.8
    assert found[1].details["cycles_without_improvement"] == 2


@pytest.mark.parametrize(
    ("config", "run", "cycles", "value", "reason"),
    [
        ({}, {}, 1, 0.5, None),
        ({"max_cycles": 2}, {}, 2, 0.5, "cycles_spent"),
        ({"target_value": 0.9}, {}, 1, 0.9, "target_reached"),
        ({"target_value": 0.9}, {}, 1, 0.89, None),
        ({"target_value": 0.9}, {}, 1, None, None),
        ({"patience": 2}, {"cycles_without_gain": 2}, 1, 0.5, "converged"),
        ({"sample_budget_total": 48}, {"samples_spent": 48}, 1, 0.5, "budget_spent"),
        ({"sample_budget_total": 49}, {"samples_spent": 48}, 1, 0.5, None),
        ({"target_value": 0.1}, {"skipped_in_a_row": 3}, 3, 0.5, "repeated_failures"),
        ({}, {"skipped_in_a_row": 2}, 2, 0.5, None),
    ],
)
def test_why_a_run_ends(
    config: dict[str, Any], run: dict[str, Any], cycles: int, value: float | None, reason: str | None
) -> None:
    assert stop_reason(a_run(config, **run), cycles, value) == reason


def test_a_cycle_may_spend_what_is_left() -> None:
    config = {"sample_budget_per_cycle": 48, "sample_budget_total": 100}
    assert [budget_left(a_run(config, samples_spent=spent)) for spent in (0, 60, 100, 120)] == [48, 40, 0, 0]
    assert budget_left(a_run(samples_spent=10_000)) == 48


def test_a_gain_is_at_least_min_delta() -> None:
    assert [gained(None, 0.1, 0.003), gained(0.9, 0.903, 0.003), gained(0.9, 0.9029, 0.003)] == [True, True, False]


def test_the_guard_refuses_a_loss_of_the_metric_or_of_a_critical_class() -> None:
    config = RunConfig(critical_classes=("CORONA",))
    before = an_evaluation(0.9, CORONA=0.8, NORMAL=0.9)
    assert refusal(before, an_evaluation(0.891, CORONA=0.78, NORMAL=0.1), config) is None
    assert refusal(before, an_evaluation(0.889, CORONA=0.8), config) == (
        "macro_f1_score fell by 0.0110, more than 0.01"
    )
    refused = refusal(before, an_evaluation(0.9, CORONA=0.76), config)
    assert refused == "recall of the critical class CORONA fell by 0.0400, more than 0.03"


def test_a_cycle_moves_forward_or_ends_and_nothing_follows_its_end() -> None:
    assert may_follow("created", "evaluating")
    assert may_follow("training", "skipped")
    assert not may_follow("training", "evaluating")
    assert not any(may_follow(ended, state) for ended in ("completed", "failed", "skipped") for state in MOVES)


def test_a_configuration_names_everything_that_is_wrong_with_it() -> None:
    with pytest.raises(RunConfigInvalid, match=r"max_cycles: .*; colour: "):
        RunConfig.read({"max_cycles": 0, "colour": "red"})
    with pytest.raises(RunConfigInvalid):
        RunConfig.read("nothing")


def test_a_configuration_takes_over_the_settings_and_its_hash_tells_it_from_others() -> None:
    settings = LearningSettings(patience=5, random_seed=3)
    config = RunConfig.from_settings(settings, random_seed=4)
    assert (config.patience, config.random_seed) == (5, 4)
    assert config.config_hash == RunConfig.read(config.model_dump(mode="json")).config_hash
    assert config.config_hash != RunConfig.from_settings(settings).config_hash


def test_records_refuse_what_they_do_not_know() -> None:
    with pytest.raises(ValidationError):
        a_run(status="asleep")

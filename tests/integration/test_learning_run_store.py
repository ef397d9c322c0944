"""Run stores: one set of tests for memory and PostgreSQL."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from builders.learning_runs import an_engine
from builders.postgres import migrated_database, postgres_server
from uqueue_config.learning.references import DatasetRef, ModelRef, ScenarioRef
from uqueue_config.learning.runs import Allotment, CycleRecord, DatasetEntry, RunConfig, RunRecord
from uqueue_config.learning.spots import WeakSpot
from uqueue_config.learning.suggestions import CreateScenario
from uqueue_worker.learning.engine import machine
from uqueue_worker.learning.engine.memory_store import MemoryRunStore
from uqueue_worker.learning.engine.parts import Part
from uqueue_worker.learning.engine.postgres_store import PostgresRunStore
from uqueue_worker.learning.engine.steps import Step, no_parts
from uqueue_worker.learning.engine.store import AnySuggestion, DeadLetter, RunStore, ScenarioUse, Transition
from uqueue_worker.learning.errors import RunNotFound
from uqueue_worker.learning.repository.connection import Database

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
MODEL = ModelRef(name="m", version="v1", sha="a" * 64)


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    with postgres_server() as server, migrated_database(server) as found:
        yield found


@pytest.fixture(scope="module")
def database(dsn: str) -> Iterator[Database]:
    with Database(dsn) as opened:
        yield opened


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> RunStore:
    if request.param == "memory":
        return MemoryRunStore()
    opened: Database = request.getfixturevalue("database")
    with opened.transaction() as connection:
        connection.execute("truncate simulation.alm_runs, simulation.alm_dead_letters cascade")
    return PostgresRunStore(opened)


def a_run(run_id: str = "run-1", **changes: Any) -> RunRecord:
    config = RunConfig(random_seed=7, training={"n_estimators": 3})
    given = {"run_id": run_id, "config": config, "config_hash": config.config_hash}
    return RunRecord(**{**given, "created_at_utc": NOW, "updated_at_utc": NOW, **changes})


def after(run: RunRecord, **changes: Any) -> RunRecord:
    return run.model_copy(update={"revision": run.revision + 1, **changes})


def a_cycle(run: RunRecord, number: int = 0, **changes: Any) -> CycleRecord:
    given: dict[str, Any] = {"run_id": run.run_id, "cycle": number, "config_hash": run.config_hash}
    return CycleRecord(**{**given, "started_at_utc": NOW, **changes})


def a_part(key: str, run: RunRecord, state: Any = "generating") -> Part:
    return Part(run.run_id, 0, state, key, "generate", {"seed": 2**53 - 1, "scenario": {"id": key}})


def a_spot(name: str, priority: float) -> WeakSpot:
    return WeakSpot(
        weakness_id=name, type="misclassified_region", priority=priority, raw_sample_id=name, details={"x": [1, None]}
    )


def a_suggestion(number: int) -> CreateScenario:
    basis = {
        "scenario_definition_id_suggestion": "alm_new_x",
        "name": "New",
        "description": "",
        "category": "ACTIVE_LEARNING_TARGETED",
        "tags": ["alm_generated"],
        "specific_params_json_template": {},
    }
    return CreateScenario(
        suggestion_id=f"sugg_{number:012x}",
        reason="",
        priority=0.5,
        suggestion_confidence=0.5,
        originating_weak_spot_ids=("a",),
        original_weak_spot_info={},
        basis_for_new_scenario=basis,
    )


def test_a_run_is_kept_as_it_was_and_a_repeated_key_returns_it(store: RunStore) -> None:
    run = store.create_run(a_run(idempotency_key="k"))
    assert store.get_run("run-1") == run
    assert store.create_run(a_run("run-2", idempotency_key="k")) == run
    assert store.create_run(a_run("run-1", idempotency_key="other")) == run
    assert [one.run_id for one in store.list_runs()] == ["run-1"]


def test_an_unknown_run_is_an_error_of_its_own(store: RunStore) -> None:
    with pytest.raises(RunNotFound, match="There is no run nothing"):
        store.get_run("nothing")
    with pytest.raises(RunNotFound):
        store.commit(Transition(after(a_run())))


def test_runs_are_listed_by_status_the_latest_first(store: RunStore) -> None:
    for number, status in enumerate(("running", "completed", "running")):
        store.create_run(a_run(f"run-{number}", status=status, created_at_utc=NOW + timedelta(hours=number)))
    assert [run.run_id for run in store.list_runs(["running"])] == ["run-2", "run-0"]
    assert [run.run_id for run in store.list_runs(limit=1)] == ["run-2"]


def test_runs_follow_on_a_place_in_the_list(store: RunStore) -> None:
    for number, hour in enumerate((0, 1, 1, 2)):
        store.create_run(a_run(f"run-{number}", created_at_utc=NOW + timedelta(hours=hour), status="running"))
    second = (NOW + timedelta(hours=1), "run-2")
    assert [run.run_id for run in store.list_runs(after=second)] == ["run-1", "run-0"]
    assert [run.run_id for run in store.list_runs(["running"], 1, second)] == ["run-1"]
    assert store.list_runs(["failed"], 1, second) == store.list_runs(after=(NOW, "run-0")) == []


def test_stale_runs_have_neither_ended_nor_moved_and_wait_for_nobody(store: RunStore) -> None:
    for number, status in enumerate(("running", "waiting", "completed", "pending", "cancelling")):
        store.create_run(a_run(f"run-{number}", status=status, updated_at_utc=NOW - timedelta(hours=number)))
    assert store.stale_runs(NOW) == ["run-4", "run-3"]


def test_a_transition_is_committed_once_whoever_comes_second_changes_nothing(store: RunStore) -> None:
    run = store.create_run(a_run())
    first = after(run, status="running", state="evaluating", model=MODEL)
    assert store.commit(Transition(first, cycles=(a_cycle(run, state="evaluating"),)))
    assert not store.commit(Transition(after(run, status="failed"), cycles=(a_cycle(run, state="failed"),)))
    assert store.get_run("run-1") == first
    assert [cycle.state for cycle in store.cycles("run-1")] == ["evaluating"]


def test_everything_of_a_transition_can_be_read_back(store: RunStore) -> None:
    run = store.create_run(a_run())
    scenario = ScenarioRef(id="s-1", version=2)
    plan = (Allotment(scenario=scenario, weakness_id="a", group="spot", samples=3, seed=2**53 - 1),)
    cycle = a_cycle(run, plan=plan, model_before=MODEL, seconds={"training": 0.1})
    reference = DatasetRef(uri="/tmp/x.avro", sha256="b" * 64, n=3, schema_fingerprint="c" * 16)
    entry = DatasetEntry(name="d", role="training", cycle=0, ref=reference, content_sha256="e" * 64, requested=3)
    uses = (ScenarioUse("run-1", 0, "a", scenario, "d", 3), ScenarioUse("run-1", 0, None, scenario, "d", 1))
    spots, suggestions = (a_spot("a", 0.25), a_spot("b", 0.75)), (a_suggestion(2), a_suggestion(1))
    moved = after(run, datasets=(entry,))
    transition = Transition(moved, (cycle,), spots, 0, suggestions, (entry,), uses)
    assert store.commit(transition)
    assert store.get_run("run-1") == moved
    assert store.get_cycle("run-1", 0) == cycle
    assert store.get_cycle("run-1", 1) is None
    assert [(number, spot.weakness_id) for number, spot in store.spots("run-1")] == [(0, "b"), (0, "a")]
    assert store.spots("run-1", 0)[1][1] == spots[0]
    assert store.suggestions("run-1", 0) == [(0, suggestions[0]), (0, suggestions[1])]
    assert store.spots("run-1", 1) == store.suggestions("run-1", 1) == []
    assert store.datasets("run-1") == [entry]
    assert set(store.uses("run-1")) == set(uses)
    assert store.uses_of_scenario("s-1") == store.uses("run-1")
    assert store.uses_of_scenario("s-2") == []


def test_a_data_set_that_no_step_made_is_added_once(store: RunStore) -> None:
    run = store.create_run(a_run())
    reference = DatasetRef(uri="/tmp/f.avro", sha256="b" * 64, n=3, schema_fingerprint="c" * 16)
    field = DatasetEntry(name="field_1", role="field", cycle=2, ref=reference, content_sha256="e" * 64, requested=3)
    assert store.add_dataset(run.run_id, field)
    assert not store.add_dataset(run.run_id, field.model_copy(update={"cycle": 3}))
    assert store.datasets(run.run_id) == [field]
    assert store.get_run(run.run_id) == run, "where the run stands is another matter"


def test_steps_are_counted_until_they_end(store: RunStore) -> None:
    run = store.create_run(a_run())
    assert [store.begin_step("run-1", 0, "training") for _ in range(3)] == [1, 2, 3]
    assert store.begin_step("run-1", 1, "training") == 1
    store.open_parts([a_part("a", run, "training")])
    store.end_step("run-1", 0, "training")
    store.end_step("run-1", 0, "crafting")
    assert store.begin_step("run-1", 0, "training") == 1
    assert store.parts("run-1", 0, "training").open == 1


def test_what_a_transition_adds_is_there_once_however_often_it_is_added(store: RunStore) -> None:
    run = store.create_run(a_run())
    spots, suggestions = (a_spot("a", 0.25),), (a_suggestion(1),)
    uses = (ScenarioUse("run-1", 0, None, ScenarioRef(id="s", version=1), "d", 1),)
    for _ in range(2):
        run = after(run)
        assert store.commit(Transition(run, (), spots, 0, suggestions, (), uses))
    assert len(store.spots("run-1")) == len(store.suggestions("run-1")) == len(store.uses("run-1")) == 1


def test_a_suggestion_moves_from_the_state_that_is_expected_only(store: RunStore) -> None:
    run = store.create_run(a_run())
    store.commit(Transition(after(run), (), (), 0, (a_suggestion(1),)))
    identity = a_suggestion(1).suggestion_id
    assert store.move_suggestion(identity, "proposed", "approved")
    assert not store.move_suggestion(identity, "proposed", "rejected")
    found = store.find_suggestion(identity)
    assert found is not None
    assert (found[0], found[1], found[2].state) == ("run-1", 0, "approved")
    assert store.suggestions("run-1")[0][1].state == "approved"
    assert store.find_suggestion("sugg_000000000000") is None


def test_a_suggestion_is_changed_in_its_place_or_not_at_all(store: RunStore) -> None:
    run = store.create_run(a_run())
    store.commit(Transition(after(run), (), (), 0, (a_suggestion(1), a_suggestion(2))))
    identity = a_suggestion(1).suggestion_id

    def told(reason: str) -> AnySuggestion | None:
        return store.change_suggestion(identity, lambda one: one.model_copy(update={"reason": one.reason + reason}))

    assert told("a") == a_suggestion(1).model_copy(update={"reason": "a"})
    threads = [threading.Thread(target=told, args=(sign,)) for sign in "bcdefg"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [one for _, one in store.suggestions("run-1")]
    assert [one.suggestion_id for one in found] == [identity, a_suggestion(2).suggestion_id]
    assert sorted(found[0].reason) == list("abcdefg")

    def refused(one: AnySuggestion) -> AnySuggestion:
        raise RunNotFound(run_id="for the test")

    with pytest.raises(RunNotFound):
        store.change_suggestion(identity, refused)
    assert store.suggestions("run-1")[0][1] == found[0]
    assert store.change_suggestion("sugg_000000000000", refused) is None


def test_parts_say_when_they_were_done_and_how_often_they_were_tried(store: RunStore) -> None:
    run = store.create_run(a_run())
    parts = [a_part(key, run) for key in ("a", "b", "c")]
    store.open_parts(parts)
    before = datetime.now(UTC)
    for part in parts[:2]:
        store.begin_part(part)
    store.begin_part(parts[0])  # after a try that failed
    store.finish_part(parts[0], {"ok": True, "n": 3, "rejected": 1})
    began = store.part_times("run-1")[1].started_at_utc
    store.pause_part(parts[1])
    store.begin_part(parts[1])  # goes on
    store.pause_part(parts[1])
    store.begin_part(parts[1])
    first, second, third = store.part_times("run-1")
    assert (first.cycle, first.kind, first.tries, first.ok, first.samples) == (0, "generate", 2, True, 4)
    assert first.started_at_utc is not None
    assert first.finished_at_utc is not None
    assert before <= first.started_at_utc <= first.finished_at_utc <= datetime.now(UTC)
    assert (second.tries, second.ok, second.started_at_utc, second.finished_at_utc) == (1, None, began, None)
    assert (third.tries, third.started_at_utc, third.samples) == (0, None, 0)
    store.begin_part(parts[0])  # it has a result
    store.begin_part(a_part("unknown", run))
    store.pause_part(parts[0])
    assert store.part_times("run-1") == [first, second, third]
    store.finish_part(parts[1], {"ok": False, "error": {}})
    assert store.part_times("run-1")[1].ok is False
    store.reopen_failed_parts("run-1", 0, "generating")
    store.begin_part(parts[1])
    again = store.part_times("run-1")[1]
    assert (again.tries, again.ok, again.finished_at_utc) == (2, None, None)
    assert store.part_times("another") == []


def test_parts_are_counted_down_and_a_repeated_result_writes_nothing(store: RunStore) -> None:
    run = store.create_run(a_run())
    parts = [a_part(key, run) for key in ("b", "a", "c")]
    opened = store.open_parts(parts)
    assert [one.part for one in opened.parts] == parts
    assert opened.open == 3
    assert store.finish_part(parts[0], {"ok": True, "n": 1}) == 2
    assert store.finish_part(parts[0], {"ok": True, "n": 2}) is None
    again = store.open_parts([*parts, a_part("d", run)])
    assert (len(again.parts), again.open) == (4, 3)
    assert again.parts[0].result == {"ok": True, "n": 1}
    remaining = [store.finish_part(one, {"ok": False, "error": {}}) for one in (*parts[1:], a_part("d", run))]
    assert remaining == [2, 1, 0]
    assert store.parts("run-1", 0, "generating").open == 0
    assert store.parts("run-1", 0, "training").parts == ()
    found = store.get_part("run-1", 0, "generating", "a")
    assert found is not None
    assert not found.ok
    assert store.finish_part(a_part("unknown", run), {"ok": True}) is None


def test_parts_that_failed_are_opened_again_and_the_others_are_not(store: RunStore) -> None:
    run = store.create_run(a_run())
    parts = [a_part(key, run) for key in ("a", "b")]
    store.open_parts(parts)
    store.finish_part(parts[0], {"ok": True})
    store.finish_part(parts[1], {"ok": False, "error": {}})
    assert store.reopen_failed_parts("run-1", 0, "generating") == 1
    assert store.parts("run-1", 0, "generating").open == 1
    assert store.finish_part(parts[1], {"ok": True}) == 0


def test_of_many_threads_that_finish_parts_exactly_one_sees_zero(store: RunStore) -> None:
    run = store.create_run(a_run())
    parts = [a_part(str(number), run) for number in range(12)]
    store.open_parts(parts)
    seen: list[int | None] = []
    threads = [
        threading.Thread(target=lambda one=part: seen.append(store.finish_part(one, {"ok": True})))
        for part in [*parts, *parts[:4]]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen.count(0) == 1
    assert seen.count(None) == 4


def test_a_lock_is_held_by_one_and_free_for_the_next(store: RunStore) -> None:
    with store.lock("run-1") as first, store.lock("run-1") as second, store.lock("run-2") as other:
        assert (first, second, other) == (True, False, True)
    with store.lock("run-1") as again:
        assert again


def test_dead_letters_are_kept_once_per_part(store: RunStore) -> None:
    letters = [
        DeadLetter("run-1", 0, "training", "train", "train", {"code": "x"}, NOW + timedelta(minutes=minute))
        for minute in range(2)
    ]
    other = DeadLetter("run-2", 0, "training", "train", "train", {"code": "x"}, NOW)
    for letter in (*letters, other):
        store.add_dead_letter(letter)
    assert store.dead_letters("run-1") == letters[:1]
    assert len(store.dead_letters()) == 2


def test_a_step_that_kills_its_process_fails_the_cycle_at_the_fourth(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deadly(context: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setitem(cast(dict[Any, Any], machine.STEPS), "evaluating", Step(no_parts, deadly))
    with Database(dsn) as database:
        PostgresRunStore(database).create_run(a_run("run-deadly", state="evaluating", status="running"))
    ends = [_advanced(dsn, tmp_path) for _ in range(4)]
    assert ends == [-signal.SIGKILL] * 3 + [0]
    with Database(dsn) as database:
        store = PostgresRunStore(database)
        (cycle,) = store.cycles("run-deadly")
        assert (cycle.state, cycle.failures[0].step) == ("failed", "evaluating")
        (letter,) = store.dead_letters("run-deadly")
        assert (letter.state, letter.kind) == ("evaluating", "step")
        run = store.get_run("run-deadly")
        assert (run.cycle, run.state, run.status, run.skipped_in_a_row) == (1, "created", "running", 1)


def _advanced(dsn: str, folder: Path) -> int:
    """Advance the run in a process of its own; return how that ended, as `subprocess` says it."""
    child = os.fork()
    if child == 0:
        code = 1
        with suppress(Exception), Database(dsn) as database:
            an_engine(folder, PostgresRunStore(database)).advance("run-deadly")
            code = 0
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

"""Whole runs with the real simulator, generator, strategy, crafting, repository and model files, in memory."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastavro import reader

from builders.learning_runs import MODEL, NOW, a_workshop, an_engine, campaign, small_config
from builders.learning_uses import assert_uses_are_those_of_the_samples
from uqueue_config.learning.feedback import ModelPerformanceData
from uqueue_config.learning.references import ModelRef
from uqueue_config.learning.runs import RunRecord
from uqueue_worker.learning.engine import Engine, InProcess, MemoryRunStore, Part, run_to_end
from uqueue_worker.learning.engine.samples import read_registered, sample_ids
from uqueue_worker.learning.errors import (
    ActiveLearningError,
    EndpointUnavailable,
    GenerationFailed,
    RunConflict,
    ScenarioInvalid,
    SuggestionNotFound,
)
from uqueue_worker.learning.models.writing import alias_version
from uqueue_worker.learning.repository.memory import MemoryScenarioRepository

RUN = "run-1"


def no_sleep(seconds: float) -> None:
    """Pauses cost time and change nothing here."""


def finished(engine: Engine, **changes: Any) -> RunRecord:
    engine.create(small_config(**changes), run_id=RUN)
    return run_to_end(engine, RUN, sleep=no_sleep)


def first_cycle(found: dict[str, Any]) -> dict[str, Any]:
    """Return what does not depend on how many cycles there are, of data and of the first of them."""
    kept = {name: found[name][:1] for name in ("plans", "models", "metrics")}
    kept["spots"] = [spot for spot in found["spots"] if spot[0] == 0]
    return {**kept, "data": [(name, content) for name, content, _ in found["data"][:4]]}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, RunRecord]:
    engine = an_engine(tmp_path_factory.mktemp("undisturbed"))
    return engine, finished(engine)


def test_a_run_goes_through_its_cycles_and_says_what_it_did(undisturbed: tuple[Engine, RunRecord]) -> None:
    engine, run = undisturbed
    assert (run.status, run.stop_reason, run.cycle) == ("completed", "cycles_spent", 1)
    cycles = engine.store.cycles(RUN)
    assert [cycle.state for cycle in cycles] == ["completed", "completed"]
    for cycle in cycles:
        assert cycle.evaluation_before is not None
        assert cycle.evaluation_after is not None
        assert cycle.test_after is not None
        assert cycle.candidate is not None
        assert cycle.dataset is not None
        assert cycle.samples_requested == cycle.samples_generated == cycle.dataset.ref.n == 12
        assert sum(one.samples for one in cycle.plan if one.group == "exploration") == 2
        assert cycle.spot_ids
        assert len(cycle.suggestion_ids) == len(cycle.spot_ids)
        assert {"python", "numpy", "scikit-learn"} <= cycle.code_versions.keys()
    assert cycles[0].model_after == cycles[1].model_before
    assert cycles[1].feedback_reused
    assert run.samples_spent == 24


def test_the_promoted_model_is_in_service_and_its_parent_is_the_one_before(
    undisturbed: tuple[Engine, RunRecord],
) -> None:
    engine, run = undisturbed
    assert run.model is not None
    models = engine.workshop.root.parent / "models"
    assert alias_version(models, MODEL, "production") == run.model.version
    assert all(cycle.promoted for cycle in engine.store.cycles(RUN))


def test_training_pool_and_test_share_no_sample_and_training_grows(undisturbed: tuple[Engine, RunRecord]) -> None:
    _, run = undisturbed
    roles = [(one.name, one.role, one.ref.n) for one in run.datasets]
    assert roles == [
        ("start", "training", 30),
        ("pool", "pool", 40),
        ("test", "test", 30),
        ("alm_targeted_c000", "training", 12),
        ("alm_targeted_c001", "training", 12),
    ]
    ids = [sample_ids(one.ref) for one in run.datasets]
    assert len(frozenset.union(*ids)) == sum(map(len, ids)) == 124


def test_spots_and_training_never_see_the_test_set(undisturbed: tuple[Engine, RunRecord]) -> None:
    engine, run = undisturbed
    test = run.dataset("test")
    assert test is not None
    hidden = sample_ids(test.ref)
    for _, spot in engine.store.spots(RUN):
        members = {one["raw_sample_id"] for one in spot.details.get("members", ())}
        assert not hidden & (members | {spot.raw_sample_id})
    scenarios = {sample["scenario_id"] for sample in read_registered(test.ref)}
    assert not scenarios & {use.scenario.id for use in engine.store.uses(RUN)}
    assert all(engine.workshop.repository.get_scenario_by_id(one) is None for one in scenarios)


def test_each_sample_says_what_it_was_made_for_to_any_reader(undisturbed: tuple[Engine, RunRecord]) -> None:
    engine, run = undisturbed
    (cycle, _) = engine.store.cycles(RUN)
    assert cycle.dataset is not None
    spots = {one.weakness_id for one in cycle.plan}
    with Path(cycle.dataset.ref.uri).open("rb") as file:
        samples: list[Any] = list(reader(file))
    for sample in samples:
        told = sample["sample_metadata"]
        assert told["alm_run_id"] == RUN
        assert told["alm_cycle"] == 0
        assert told.get("originating_weak_spot_id") in spots
        assert told["scenario_definition_id"] == sample["scenario_id"]
        assert told["scenario_version"] == 1
        assert sample["extracted_class_label"] in ("CORONA", "NORMAL", "OVERHEATING")
        assert sample["generation_timestamp_utc"] == run.created_at_utc == NOW


def test_spots_lead_to_scenarios_and_scenarios_back_to_spots(undisturbed: tuple[Engine, RunRecord]) -> None:
    engine, _ = undisturbed
    use = next(use for use in engine.store.uses(RUN) if use.weakness_id is not None)
    assert use in engine.store.uses_of_scenario(use.scenario.id)
    for cycle in engine.store.cycles(RUN):
        assert_uses_are_those_of_the_samples(engine, cycle)
    assert {one.state for _, one in engine.store.suggestions(RUN)} <= {"applied", "approved"}


class Refusing:
    """A generator that cannot do a scenario that was asked of it first."""

    def __init__(self, generator: Any) -> None:
        self.generator = generator
        self.refused: str | None = None

    def generate_training_dataset(self, scenarios: Any, **asked: Any) -> Any:
        (scenario,) = scenarios
        if "_alm_var_" in scenario.scenario_definition_id:
            self.refused = self.refused or scenario.scenario_definition_id
        if scenario.scenario_definition_id == self.refused:
            raise GenerationFailed(reason="not this one")
        return self.generator.generate_training_dataset(scenarios=scenarios, **asked)


def test_links_count_what_was_made_not_what_was_wanted(tmp_path: Path) -> None:
    workshop = a_workshop(tmp_path)
    generator: Any = Refusing(workshop.generator)
    engine = an_engine(tmp_path, workshop=replace(workshop, generator=generator))
    assert finished(engine, max_cycles=1).status == "completed"
    (cycle,) = engine.store.cycles(RUN)
    assert cycle.dataset is not None
    assert 0 < cycle.dataset.ref.n < sum(one.samples for one in cycle.plan)
    assert engine.store.uses_of_scenario(generator.refused) == []
    assert_uses_are_those_of_the_samples(engine, cycle)


def test_the_same_seed_gives_the_same_campaign_under_another_run_id(
    undisturbed: tuple[Engine, RunRecord], tmp_path: Path
) -> None:
    engine, run = undisturbed
    other = an_engine(tmp_path)
    other.create(small_config(max_cycles=1), run_id="another")
    ended = run_to_end(other, "another", sleep=no_sleep)
    assert first_cycle(campaign(other, ended)) == first_cycle(campaign(engine, run))


def test_another_seed_gives_other_data(undisturbed: tuple[Engine, RunRecord], tmp_path: Path) -> None:
    engine, run = undisturbed
    other = an_engine(tmp_path)
    other.create(small_config(random_seed=1), run_id=RUN)
    other.advance(RUN, again=True)
    dispatcher = other.dispatcher
    assert isinstance(dispatcher, InProcess)
    for part in iter(dispatcher.take, None):
        other.execute(part)
    drawn = [one.result["entry"]["content_sha256"] for one in other.store.parts(RUN, 0, "created").parts if one.result]
    assert len(drawn) == 2  # the pool follows the start set
    assert not {one[1] for one in campaign(engine, run)["data"]} & set(drawn)


class Crash(BaseException):
    """What a process that was killed leaves: nothing catches it."""


class Crashes:
    """Raises the first time that a point is passed."""

    def __init__(self) -> None:
        self.passed: list[str] = []

    def at(self, point: str) -> None:
        if point not in self.passed:
            self.passed.append(point)
            raise Crash(point)


class CrashingStore(MemoryRunStore):
    def __init__(self, crashes: Crashes) -> None:
        super().__init__()
        self._crashes = crashes

    def commit(self, transition: Any) -> bool:
        point = f"commit {transition.run.state} {transition.run.cycle}"
        self._crashes.at(f"before {point}")
        done = super().commit(transition)
        self._crashes.at(f"after {point}")
        return done

    def open_parts(self, parts: Any) -> Any:
        point = f"open {parts[0].state} {parts[0].cycle}"
        self._crashes.at(f"before {point}")
        opened = super().open_parts(parts)
        self._crashes.at(f"after {point}")
        return opened

    def finish_part(self, part: Part, result: dict[str, Any]) -> int | None:
        point = f"finish {part.kind} {part.state} {part.cycle}"
        self._crashes.at(f"before {point}")
        remaining = super().finish_part(part, result)
        self._crashes.at(f"after {point}")
        return remaining


class CrashingRepository(MemoryScenarioRepository):
    crashes: Crashes

    def create_scenario_variation(self, *given: Any, **named: Any) -> Any:
        made = super().create_scenario_variation(*given, **named)
        self.crashes.at(f"variation {self._run.cycle}")
        return made


class Crashing:
    """Calls through to a collaborator; each of its methods crashes after the first time that it did its work."""

    def __init__(self, target: Any, crashes: Crashes) -> None:
        self._target, self._crashes = target, crashes

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not callable(found):
            return found

        def calling(*given: Any, **named: Any) -> Any:
            result = found(*given, **named)
            self._crashes.at(f"{type(self._target).__name__}.{name}")
            return result

        return calling


def test_a_run_that_is_killed_at_every_point_comes_to_the_same(
    undisturbed: tuple[Engine, RunRecord], tmp_path: Path
) -> None:
    crashes = Crashes()
    store, repository = CrashingStore(crashes), CrashingRepository()
    repository.crashes = crashes

    evaluator = a_workshop(tmp_path).evaluator  # it keeps nothing but loaded versions, and loading takes its time

    def new_engine() -> Engine:
        workshop = a_workshop(tmp_path, repository, evaluator=evaluator)
        names = ("evaluator", "trainer", "generator", "deployment")
        broken = {name: Crashing(getattr(workshop, name), crashes) for name in names}
        return an_engine(tmp_path, store, workshop=replace(workshop, **broken))

    an_engine(tmp_path, store, workshop=a_workshop(tmp_path, repository)).create(small_config(), run_id=RUN)
    while True:
        engine = new_engine()
        try:
            run = run_to_end(engine, RUN, sleep=no_sleep)
        except Crash:
            continue
        break
    assert len(crashes.passed) > 60
    for state in ("created", "evaluating", "prioritising", "crafting", "generating", "training", "re_evaluating"):
        assert any(state in point for point in crashes.passed), state
    expected = campaign(*undisturbed)
    found = campaign(engine, run)
    assert {key: found[key] for key in expected} == expected


def test_parts_and_steps_that_are_delivered_twice_change_nothing(
    undisturbed: tuple[Engine, RunRecord], tmp_path: Path
) -> None:
    engine = an_engine(tmp_path)
    engine.create(small_config(max_cycles=1), run_id=RUN)
    dispatcher = engine.dispatcher
    assert isinstance(dispatcher, InProcess)
    while not engine.store.get_run(RUN).ended:
        for _ in range(2):
            engine.advance(RUN, again=True)
        parts = list(iter(dispatcher.take, None))
        for part in [*parts, *reversed(parts), *parts]:
            engine.execute(part)
            engine.give_up(part, ActiveLearningError(reason="late"))
    assert first_cycle(campaign(engine, engine.store.get_run(RUN))) == first_cycle(campaign(*undisturbed))
    assert engine.advance(RUN) == "ended"


class Post:
    """A dispatcher whose messages are all delivered twice, to whoever asks next."""

    def __init__(self) -> None:
        self.messages: queue.Queue[Part | str] = queue.Queue()

    def dispatch(self, parts: Any) -> None:
        for part in (*parts, *parts):
            self.messages.put(part)

    def advance_later(self, run_id: str, seconds: float = 0.0) -> None:
        self.messages.put(run_id)
        self.messages.put(run_id)


def test_three_workers_at_once_come_to_the_same(undisturbed: tuple[Engine, RunRecord], tmp_path: Path) -> None:
    store, repository, post = MemoryRunStore(), MemoryScenarioRepository(), Post()
    problems: list[BaseException] = []

    def work() -> None:
        engine = Engine(store, a_workshop(tmp_path, repository), post, clock=lambda: NOW)
        while not problems and not store.get_run(RUN).ended:
            try:
                message = post.messages.get(timeout=0.05)
                if isinstance(message, Part):
                    if engine.execute(message):
                        post.advance_later(RUN)
                else:
                    engine.advance(message)
            except queue.Empty:
                continue
            except BaseException as error:
                problems.append(error)

    first = Engine(store, a_workshop(tmp_path, repository), post, clock=lambda: NOW)
    first.create(small_config(max_cycles=1), run_id=RUN)
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert problems == []
    assert first_cycle(campaign(first, store.get_run(RUN))) == first_cycle(campaign(*undisturbed))


def test_a_run_is_created_once_per_key(tmp_path: Path) -> None:
    engine = an_engine(tmp_path)
    first = engine.create(small_config(), idempotency_key="k")
    assert engine.create(small_config(), idempotency_key="k") == first


def test_only_one_process_advances_a_run(tmp_path: Path) -> None:
    engine = an_engine(tmp_path)
    engine.create(small_config(), run_id=RUN)
    with engine.store.lock(RUN):
        assert engine.advance(RUN) == "busy"
    assert engine.advance(RUN) == "parts"


def test_a_last_part_that_finds_the_run_locked_is_not_forgotten(tmp_path: Path) -> None:
    class Eager:
        """Does parts at once, while `advance` still holds the lock."""

        def __init__(self) -> None:
            self.advanced: list[str] = []
            self.later: list[str] = []

        def dispatch(self, parts: Any) -> None:
            for part in parts:
                if engine.execute(part):
                    self.advanced.append(engine.advance(RUN))

        def advance_later(self, run_id: str, seconds: float = 0.0) -> None:
            self.later.append(run_id)

    dispatcher = Eager()
    engine = Engine(MemoryRunStore(), a_workshop(tmp_path), dispatcher)
    engine.create(small_config(start_samples=5, pool_samples=5, test_samples=5), run_id=RUN)
    dispatcher.later.clear()
    assert engine.advance(RUN) == "parts"
    assert (dispatcher.advanced, dispatcher.later) == (["busy"], [RUN])


def test_the_budget_is_kept_to_the_sample(tmp_path: Path) -> None:
    engine = an_engine(tmp_path)
    run = finished(engine, sample_budget_total=19, max_cycles=5)
    assert (run.status, run.stop_reason, run.samples_spent) == ("completed", "budget_spent", 19)
    assert [cycle.samples_generated for cycle in engine.store.cycles(RUN)] == [12, 7]


def test_a_cancelled_run_stops_at_its_next_step_and_resumes_to_the_same(
    undisturbed: tuple[Engine, RunRecord], tmp_path: Path
) -> None:
    engine = an_engine(tmp_path)
    engine.create(small_config(), run_id=RUN)

    def cancel_in_generating(run: RunRecord) -> None:
        if run.state == "generating" and run.status == "running":
            engine.cancel(RUN)

    run = run_to_end(engine, RUN, watch=cancel_in_generating, sleep=no_sleep)
    assert (run.status, run.state, run.stop_reason) == ("cancelled", "generating", "manual")
    with pytest.raises(RunConflict, match="it has ended"):
        engine.cancel(RUN)
    assert engine.resume(RUN).status == "running"
    with pytest.raises(RunConflict, match="only a cancelled or failed run"):
        engine.resume(RUN)
    again = run_to_end(engine, RUN, sleep=no_sleep)
    assert campaign(engine, again) == campaign(*undisturbed)


def test_parts_of_a_cancelled_run_are_not_begun(tmp_path: Path) -> None:
    engine = an_engine(tmp_path)
    engine.create(small_config(), run_id=RUN)
    engine.advance(RUN, again=True)
    dispatcher = engine.dispatcher
    assert isinstance(dispatcher, InProcess)
    part = dispatcher.take()
    assert part is not None
    engine.cancel(RUN)
    engine.execute(part)
    found = engine.store.get_part(RUN, 0, "created", part.key)
    assert found is not None
    assert found.result == {
        "ok": False,
        "error": {"code": "cancelled", "message": "The run is cancelled.", "retryable": False},
    }
    assert engine.advance(RUN) == "ended"
    engine.resume(RUN)
    again = engine.store.get_part(RUN, 0, "created", part.key)
    assert again is not None
    assert again.result is None


def test_a_run_waits_for_approval_and_drops_what_was_rejected(tmp_path: Path) -> None:
    engine = an_engine(tmp_path)
    run = finished(engine, auto_apply=False, max_cycles=1, strategy_parameters={"n_regions": 2})
    assert (run.status, run.state) == ("waiting", "awaiting_approval")
    assert [one.role for one in run.datasets] == ["training", "pool", "test"]
    assert engine.advance(RUN) == "waiting"
    engine.cancel(RUN)
    engine.advance(RUN)
    assert engine.resume(RUN).status == "waiting"
    suggested = [one for _, one in engine.store.suggestions(RUN)]
    assert {one.state for one in suggested} == {"proposed"}
    rejected = suggested[0]
    dropped = rejected.originating_weak_spot_ids[0]
    repository = engine.workshop.repository
    assert isinstance(repository, MemoryScenarioRepository)
    made = [one.scenario.id for one in engine.store.cycles(RUN)[0].plan if one.weakness_id == dropped]
    drafts = [stored.draft for one in made if (stored := repository.get_stored(one))]
    assert drafts == [True] * len(made)
    assert engine.decide(rejected.suggestion_id, "rejected").status == ("running" if len(suggested) == 1 else "waiting")
    for one in suggested[1:]:
        run = engine.decide(one.suggestion_id, "approved")
    assert run.status == "running"
    engine.cancel(RUN)
    assert engine.advance(RUN) == "ended"
    assert engine.resume(RUN).status == "running"
    run = run_to_end(engine, RUN, sleep=no_sleep)
    assert (run.status, run.stop_reason) == ("completed", "cycles_spent")
    (cycle,) = engine.store.cycles(RUN)
    assert cycle.dataset is not None
    samples = read_registered(cycle.dataset.ref)
    assert cycle.dataset.name == "alm_targeted_c000_approved"
    assert_uses_are_those_of_the_samples(engine, cycle)
    assert 0 < len(samples) < 12
    assert dropped not in {sample["sample_metadata"].get("originating_weak_spot_id") for sample in samples}
    archived = [stored.archived_at is not None for one in made if (stored := repository.get_stored(one))]
    assert archived == [True] * len(made)
    kept = [one.scenario.id for one in cycle.plan if one.weakness_id not in (None, dropped)]
    waiting = [stored.draft for one in kept if (stored := repository.get_stored(one))]
    assert waiting == [False] * len(kept)


def test_without_suggestions_nobody_is_waited_for(tmp_path: Path) -> None:
    engine = an_engine(tmp_path, suggest=lambda spots, cycle: [])
    run = finished(engine, auto_apply=False, max_cycles=1)
    assert (run.status, run.stop_reason) == ("completed", "cycles_spent")


def test_decisions_that_make_no_sense_are_refused(undisturbed: tuple[Engine, RunRecord], tmp_path: Path) -> None:
    engine, _ = undisturbed
    with pytest.raises(SuggestionNotFound):
        engine.decide("sugg_000000000000", "approved")
    _, suggestion = engine.store.suggestions(RUN)[0]
    with pytest.raises(RunConflict, match="it does not wait for this suggestion"):
        engine.decide(suggestion.suggestion_id, "rejected")


class Failing:
    """An evaluator or trainer of which one method raises as long as `down`."""

    def __init__(self, target: Any, method: str, error: Callable[[], Exception]) -> None:
        self.down = True
        self._target, self._method, self._error = target, method, error

    def __getattr__(self, name: str) -> Any:
        if not callable(getattr(self._target, name)):
            return getattr(self._target, name)

        def calling(*given: Any, **named: Any) -> Any:
            if self.down and name == self._method:
                raise self._error()
            return getattr(self._target, name)(*given, **named)

        return calling


def unavailable() -> Exception:
    return EndpointUnavailable(url="http://127.0.0.1:9", reason="connection refused")


def test_three_skipped_cycles_fail_the_run_and_it_resumes_when_the_model_answers(tmp_path: Path) -> None:
    workshop = a_workshop(tmp_path)
    evaluator = Failing(workshop.evaluator, "evaluate", unavailable)
    engine = an_engine(tmp_path, workshop=replace(workshop, evaluator=evaluator))
    run = finished(engine, max_cycles=4)
    assert (run.status, run.stop_reason) == ("failed", "repeated_failures")
    assert run.error is not None
    assert (run.error.code, run.error.retryable) == ("endpoint_unavailable", True)
    assert [cycle.state for cycle in engine.store.cycles(RUN)] == ["skipped"] * 3
    evaluator.down = False
    engine.resume(RUN)
    run = run_to_end(engine, RUN, sleep=no_sleep)
    assert (run.status, run.stop_reason) == ("completed", "cycles_spent")
    assert [cycle.state for cycle in engine.store.cycles(RUN)] == ["skipped"] * 3 + ["completed"]


def test_a_failed_training_costs_its_cycle_and_the_samples_stay(tmp_path: Path) -> None:
    workshop = a_workshop(tmp_path)
    engine = an_engine(tmp_path, workshop=workshop)
    engine.create(small_config(), run_id=RUN)
    trainer = Failing(workshop.trainer, "train", lambda: ScenarioInvalid(reason="for the test"))
    trainer.down = False
    engine.workshop = replace(workshop, trainer=trainer)

    def down_in_first_training(run: RunRecord) -> None:
        trainer.down = (run.state, run.cycle) == ("training", 0)

    run = run_to_end(engine, RUN, watch=down_in_first_training, sleep=no_sleep)
    first, second = engine.store.cycles(RUN)
    assert (first.state, second.state, run.status) == ("skipped", "completed", "completed")
    assert [one.code for one in first.failures] == ["scenario_invalid"]
    assert [one.n for one in second.training_datasets] == [30, 12, 12]


def test_a_run_without_weak_spots_ends(tmp_path: Path) -> None:
    class Satisfied:
        def identify_weaknesses(self, *given: Any, **named: Any) -> list[Any]:
            return []

    engine = an_engine(tmp_path, strategy=lambda config: Satisfied())
    run = finished(engine)
    assert (run.status, run.stop_reason, run.samples_spent) == ("completed", "no_weak_spots", 0)
    assert engine.store.cycles(RUN)[0].state == "completed"


def test_a_worse_candidate_is_kept_out_of_service(tmp_path: Path) -> None:
    workshop = a_workshop(tmp_path)

    class Worse:
        """Trains stumps from the second model on."""

        def __getattr__(self, name: str) -> Any:
            return getattr(workshop.trainer, name)

        def train(self, *, parent: ModelRef | None, hyper_parameters: Any, **named: Any) -> ModelRef:
            settings = hyper_parameters if parent is None else {"n_estimators": 1, "min_samples_leaf": 40}
            return workshop.trainer.train(parent=parent, hyper_parameters=settings, **named)

    engine = an_engine(tmp_path, workshop=replace(workshop, trainer=Worse()))
    run = finished(engine, regression_guard=0.01, patience=2, max_cycles=5)
    assert (run.status, run.stop_reason) == ("completed", "converged")
    first, second = engine.store.cycles(RUN)
    assert (first.promoted, second.promoted) == (False, False)
    assert first.promotion_reason is not None
    assert first.promotion_reason.startswith("macro_f1_score fell by ")
    assert run.model == first.model_before == second.model_after != second.candidate
    assert run.model is not None
    assert alias_version(tmp_path / "models", MODEL, "production") == run.model.version


def test_a_target_that_is_reached_ends_the_run(tmp_path: Path) -> None:
    run = finished(an_engine(tmp_path), target_value=0.1)
    assert (run.status, run.stop_reason, run.cycle) == ("completed", "target_reached", 0)


def test_feedback_about_a_test_sample_is_refused(tmp_path: Path) -> None:
    workshop = a_workshop(tmp_path)

    class Leaking:
        def evaluate(self, dataset: str, model: ModelRef, **named: Any) -> ModelPerformanceData:
            found = workshop.evaluator.evaluate(dataset.replace("pool.avro", "test.avro"), model, **named)
            assert isinstance(found, ModelPerformanceData)
            return found

    engine = an_engine(tmp_path, workshop=replace(workshop, evaluator=Leaking()))
    finished(engine, max_cycles=1)
    (cycle,) = engine.store.cycles(RUN)
    assert cycle.state == "failed"
    assert "the strategy would see its sample" in cycle.failures[0].message


def test_a_changed_data_file_is_not_trained_on(tmp_path: Path) -> None:
    engine = an_engine(tmp_path)
    engine.create(small_config(max_cycles=1), run_id=RUN)

    def damage(run: RunRecord) -> None:
        if run.state == "training":
            path = Path(run.datasets[0].ref.uri)
            path.write_bytes(path.read_bytes() + b"x")

    run_to_end(engine, RUN, watch=damage, sleep=no_sleep)
    (cycle,) = engine.store.cycles(RUN)
    assert cycle.state == "skipped"
    assert "its content is not what was registered" in cycle.failures[0].message


@pytest.mark.parametrize("strategy", ["real_time", "heterogeneous"])
def test_the_other_strategies_drive_a_run_as_well(tmp_path: Path, strategy: str) -> None:
    engine = an_engine(tmp_path)
    run = finished(engine, strategy=strategy, strategy_parameters={}, max_cycles=1)
    (cycle,) = engine.store.cycles(RUN)
    assert run.status == "completed"
    assert cycle.samples_generated == 12

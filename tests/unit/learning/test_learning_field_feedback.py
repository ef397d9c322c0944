"""Labelled samples from the field that are given for a run: what its next cycles make of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from builders.learning_runs import CLASSES, NOW, a_workshop, an_engine, campaign, scenarios, small_config
from uqueue_config.learning.answers import FieldSamplesTaken
from uqueue_config.learning.requests import AddFieldSamples
from uqueue_config.learning.runs import CycleState, DatasetEntry, RunConfig, RunRecord
from uqueue_config.learning.spots import WeakSpot
from uqueue_worker.learning.answering import Services, answer
from uqueue_worker.learning.avro import read_samples, write_samples
from uqueue_worker.learning.campaign import InProcessCampaign
from uqueue_worker.learning.crafting import ClassFamilies, ScenarioCrafter
from uqueue_worker.learning.engine import Engine, MemoryRunStore, run_to_end
from uqueue_worker.learning.engine.field_feedback import field_candidates
from uqueue_worker.learning.engine.field_records import field_records
from uqueue_worker.learning.engine.samples import records_of, sample_ids
from uqueue_worker.learning.errors import (
    ActiveLearningError,
    DatasetFormat,
    DatasetNotFound,
    EmptyDataset,
    RunConflict,
    RunNotFound,
)
from uqueue_worker.learning.models import onnx_file
from uqueue_worker.learning.reporting import report_text
from uqueue_worker.learning.repository.memory import MemoryScenarioRepository

RUN = "run-1"
FAMILIES = ClassFamilies({"CORONA": "CoronaDischarge", "OVERHEATING": "EquipmentOverheat"})
SIZES = {"start_samples": 24, "pool_samples": 24, "test_samples": 8, "training": {"n_estimators": 5}}
CONFIG = small_config(max_cycles=3, max_weak_spots=5, strategy_parameters={"n_regions": 2}, **SIZES)
TWO_CYCLES = CONFIG.model_copy(update={"max_cycles": 2})
GIVEN = 12
Sample = dict[str, Any]


def met_in_the_field(folder: Path, count: int = GIVEN) -> list[Sample]:
    """Return labelled samples of conditions that the start model has a hole at; nobody stored their scenarios."""
    deployment = a_workshop(folder).deployment
    raw = deployment.draw(6 * count, 99)
    kept = records_of(raw, deployment, seed=99, generated=NOW, metadata={})
    corona = [one for one in kept if one["extracted_class_label"] == "CORONA"]
    return corona[:count]


def as_json(samples: list[Sample]) -> list[Sample]:
    """Return the samples as a client sends them."""
    found: list[Sample] = json.loads(json.dumps(samples, default=lambda one: one.isoformat()))
    return found


def house(folder: Path, store: MemoryRunStore | None = None, **changes: Any) -> Engine:
    repository = MemoryScenarioRepository(crafter=ScenarioCrafter(families=FAMILIES))
    return an_engine(folder, store, repository=changes.pop("repository", repository), **changes)


def driven(
    engine: Engine,
    give: Callable[[], Any],
    cycle: int = 0,
    state: CycleState = "prioritising",
    config: RunConfig = CONFIG,
) -> tuple[RunRecord, list[Any]]:
    """Run to the end, and give samples once when the run is at that state of that cycle."""
    found = []

    def watch(run: RunRecord) -> None:
        if (run.cycle, run.state) == (cycle, state) and not found:
            found.append(give())

    engine.create(config, run_id=RUN)
    return run_to_end(engine, RUN, watch=watch, sleep=lambda seconds: None), found


def of_the_field(engine: Engine, cycle: int) -> list[WeakSpot]:
    return [spot for _, spot in engine.store.spots(RUN, cycle) if spot.details.get("origin") == "field"]


@pytest.fixture(scope="module", autouse=True)
def no_trial_runs() -> Iterator[None]:
    """Models that this process wrote are not tried by another one first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_file, "probe_ensemble", lambda *given, **named: None)
        yield


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return met_in_the_field(tmp_path_factory.mktemp("field"))


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, samples: list[Sample]) -> tuple[Engine, RunRecord, Any]:
    engine = house(tmp_path_factory.mktemp("given"))
    run, (taken,) = driven(engine, lambda: engine.add_field_samples(RUN, samples))
    return engine, run, taken


def test_errors_in_the_field_are_weak_spots_of_the_next_cycle(given: tuple[Engine, RunRecord, Any]) -> None:
    engine, run, taken = given
    assert taken == FieldSamplesTaken(run_id=RUN, taken=GIVEN, known=0, cycle=1)
    assert run.status == "completed"
    first, second, third = engine.store.cycles(RUN)
    assert (first.field_evaluations, of_the_field(engine, 0)) == ((), [])
    (evaluation,) = second.field_evaluations
    assert (evaluation.model, evaluation.n_samples) == (second.model_before, GIVEN)
    spots = of_the_field(engine, 1)
    assert spots
    for spot in spots:
        assert spot.weakness_id == f"field_misc_{spot.raw_sample_id}"
        assert spot.details["true_label"] == "CORONA" != spot.details["predicted_label"]
        assert spot.details["original_scenario_id"] is None, "nobody stored it"
    assert third.field_evaluations[0].model == third.model_before
    assert third.field_evaluations[0].dataset_sha256 == evaluation.dataset_sha256


def test_they_share_the_budget_by_priority(given: tuple[Engine, RunRecord, Any]) -> None:
    engine, _, _ = given
    cycle = engine.store.cycles(RUN)[1]
    ranked = [spot for _, spot in engine.store.spots(RUN, 1)]
    assert [spot.priority for spot in ranked] == sorted((spot.priority for spot in ranked), reverse=True)
    assert len(ranked) == CONFIG.max_weak_spots
    assert {spot.details.get("origin") for spot in ranked} == {None, "field"}, "neither drives the other out"
    made = {one.weakness_id: 0 for one in cycle.plan}
    for one in cycle.plan:
        made[one.weakness_id] += one.samples
    assert all(made[spot.weakness_id] >= 1 for spot in of_the_field(engine, 1))
    assert sum(made.values()) == cycle.samples_generated == CONFIG.sample_budget_per_cycle


def test_scenarios_are_crafted_for_them_and_suggestions_and_report_name_them(
    given: tuple[Engine, RunRecord, Any],
) -> None:
    engine, _, _ = given
    repository: Any = engine.workshop.repository
    names = {spot.weakness_id for spot in of_the_field(engine, 1)}
    uses = [use for use in engine.store.uses(RUN) if use.weakness_id in names]
    assert {repository.get_stored(use.scenario.id).origin["method"] for use in uses} == {"crafting"}
    told = {one for _, found in engine.store.suggestions(RUN, 1) for one in found.originating_weak_spot_ids}
    assert names <= told
    page = report_text(engine.store, repository, RUN)
    assert "errors (field)" in page
    (held,) = [one for one in engine.store.datasets(RUN) if one.role == "field"]
    assert held.name in page


def test_nothing_is_trained_on_them(given: tuple[Engine, RunRecord, Any], samples: list[Sample]) -> None:
    engine, run, _ = given
    field = {one["sample_id"] for one in samples}
    assert all(entry.role != "field" and not field & sample_ids(entry.ref) for entry in run.datasets)
    trained = [one.uri for cycle in engine.store.cycles(RUN) for one in cycle.training_datasets]
    assert trained
    assert not any("field" in Path(uri).name for uri in trained)
    assert [one.role for one in engine.store.datasets(RUN)].count("field") == 1


def test_the_cycles_before_are_those_of_a_run_without_them(
    given: tuple[Engine, RunRecord, Any], tmp_path: Path
) -> None:
    engine, run, _ = given
    alone = house(tmp_path)
    alone.create(CONFIG, run_id=RUN)
    found, expected = campaign(engine, run), campaign(alone, run_to_end(alone, RUN))
    assert found["plans"][0] == expected["plans"][0]
    assert found["models"][0] == expected["models"][0]
    assert found["plans"][1] != expected["plans"][1]


def test_the_same_samples_twice_in_another_order_and_form_change_nothing(
    given: tuple[Engine, RunRecord, Any], samples: list[Sample], tmp_path: Path
) -> None:
    engine = house(tmp_path)

    def give() -> list[FieldSamplesTaken]:
        found = [engine.add_field_samples(RUN, list(reversed(as_json(samples))) + samples[:2])]
        return [*found, engine.add_field_samples(RUN, samples), engine.add_field_samples(RUN, samples[:3])]

    run, (answers,) = driven(engine, give)
    assert [(one.taken, one.known) for one in answers] == [(GIVEN, 0), (0, GIVEN), (0, 3)]
    assert campaign(engine, run) == campaign(given[0], given[1])


class Killed(BaseException):
    """A process that ends in the middle of something."""


class DeadlyStore(MemoryRunStore):
    """Kills once at each point that has to do with samples from the field, and at each commit."""

    def __init__(self) -> None:
        super().__init__()
        self.passed: list[str] = []

    def at(self, point: str) -> None:
        if point not in self.passed:
            self.passed.append(point)
            raise Killed(point)

    def add_dataset(self, run_id: str, entry: DatasetEntry) -> bool:
        self.at("before add")
        done = super().add_dataset(run_id, entry)
        self.at("after add")
        return done

    def finish_part(self, part: Any, result: dict[str, Any]) -> int | None:
        if "field" in part.key:
            self.at(f"before {part.cycle}")
        remaining = super().finish_part(part, result)
        if "field" in part.key:
            self.at(f"after {part.cycle}")
        return remaining

    def commit(self, transition: Any) -> bool:
        self.at(f"before {transition.run.state} {transition.run.cycle}")
        done = super().commit(transition)
        self.at(f"after {transition.run.state} {transition.run.cycle}")
        return done


def test_killed_anywhere_it_is_the_same_campaign(
    given: tuple[Engine, RunRecord, Any], samples: list[Sample], tmp_path: Path
) -> None:
    store, repository = DeadlyStore(), MemoryScenarioRepository(crafter=ScenarioCrafter(families=FAMILIES))
    house(tmp_path, store, repository=repository).create(CONFIG, run_id=RUN)
    kills = 0
    while not store.get_run(RUN).ended:
        engine = house(tmp_path, store, repository=repository)

        def watch(run: RunRecord, engine: Engine = engine) -> None:
            if (run.cycle, run.state) == (0, "crafting"):
                engine.add_field_samples(RUN, samples)  # whoever got no answer asks again

        try:
            if (found := store.get_run(RUN)).state == "crafting":
                watch(found)
            run_to_end(engine, RUN, watch=watch, sleep=lambda seconds: None)
        except Killed:
            kills += 1
    assert kills == len(store.passed) > 30
    assert {"before add", "after add", "before 1", "after 1", "before 2", "after 2"} <= {*store.passed}
    assert campaign(engine, store.get_run(RUN)) == campaign(given[0], given[1])


def test_scenarios_that_the_repository_has_are_varied(samples: list[Sample], tmp_path: Path) -> None:
    engine = house(tmp_path)
    named = {one["scenario_id"] for one in samples}
    for scenario in scenarios(6 * GIVEN, 99):
        if scenario.scenario_definition_id in named:
            engine.workshop.repository.save_scenario_definition(scenario_def=scenario.to_record())
    driven(engine, lambda: engine.add_field_samples(RUN, samples), config=TWO_CYCLES)
    origins = {spot.weakness_id: spot.details["original_scenario_id"] for spot in of_the_field(engine, 1)}
    assert origins
    assert {*origins.values()} <= named
    for use in engine.store.uses(RUN):
        if use.cycle == 1 and use.weakness_id in origins:
            assert use.scenario.id.startswith(f"{origins[use.weakness_id]}_alm_var_field_misc_")


def test_without_any_crafter_the_run_explores_for_them(samples: list[Sample], tmp_path: Path) -> None:
    engine = house(tmp_path, repository=MemoryScenarioRepository())
    driven(engine, lambda: engine.add_field_samples(RUN, samples), config=TWO_CYCLES)
    assert [cycle.state for cycle in engine.store.cycles(RUN)] == ["completed"] * 2
    names = {spot.weakness_id for spot in of_the_field(engine, 1)}
    uses = {use.scenario.id for use in engine.store.uses(RUN) if use.weakness_id in names and use.cycle == 1}
    assert uses
    assert all(name.startswith("met-") for name in uses), "of the deployment distribution"


def test_a_scenario_that_shows_no_class_of_the_model_costs_its_samples_and_no_training(
    samples: list[Sample], tmp_path: Path
) -> None:
    """Whoever set it up took another family for that of the class."""
    crafter = ScenarioCrafter(("explore",), ClassFamilies({"CORONA": "ArcingEvent"}))
    engine = house(tmp_path, repository=MemoryScenarioRepository(crafter=crafter))
    config = TWO_CYCLES.model_copy(update={"crafter_order": ("explore",)})
    run, _ = driven(engine, lambda: engine.add_field_samples(RUN, samples), config=config)
    cycles = engine.store.cycles(RUN)
    assert [cycle.state for cycle in cycles] == ["completed"] * 2
    assert any("which is no class of the model" in one.message for one in cycles[1].failures)
    assert 0 < cycles[1].samples_generated < 12
    assert {one for entry in run.training_sets() for one in labels(entry)} <= {*CLASSES}


def labels(entry: DatasetEntry) -> set[str]:
    return {one["extracted_class_label"] for one in read_samples(entry.ref.uri)}


def test_samples_that_cannot_be_evaluated_cost_no_cycle(samples: list[Sample], tmp_path: Path) -> None:
    blind = [
        {**one, "sensor_readings_map": {**one["sensor_readings_map"], "readings": {}}, "sample_metadata": None}
        for one in samples
    ]
    engine = house(tmp_path)
    run, _ = driven(engine, lambda: engine.add_field_samples(RUN, blind))
    assert run.status == "completed"
    cycles = engine.store.cycles(RUN)
    assert [cycle.state for cycle in cycles] == ["completed"] * 3
    assert [[one.code for one in cycle.failures] for cycle in cycles] == [[], *[["feature_mismatch"]] * 2]
    assert cycles[1].failures[0].step == "evaluating"


# --- what is refused ---


def refusals(engine: Engine, samples: list[Any]) -> Callable[[], Exception]:
    def give() -> Exception:
        with pytest.raises(ActiveLearningError) as raised:
            engine.add_field_samples(RUN, samples)
        assert not [one for one in engine.store.datasets(RUN) if one.role == "field"], "nothing was taken"
        engine.cancel(RUN)
        return raised.value

    return give


def test_a_sample_of_the_test_set_is_refused_and_all_that_came_with_it(samples: list[Sample], tmp_path: Path) -> None:
    engine = house(tmp_path)

    def give() -> Exception:
        test = engine.store.get_run(RUN).dataset("test")
        assert test is not None
        return refusals(engine, [*samples, read_samples(test.ref.uri)[3]])()

    _, (error,) = driven(engine, give)
    assert isinstance(error, DatasetFormat)
    assert "is in the run's test set" in error.message


def test_a_run_that_would_not_go_after_them_refuses_them(
    given: tuple[Engine, RunRecord, Any], samples: list[Sample], tmp_path: Path
) -> None:
    with pytest.raises(RunConflict, match="run-1 is completed: it goes after no more samples"):
        given[0].add_field_samples(RUN, samples)
    with pytest.raises(RunNotFound):
        given[0].add_field_samples("run-nobody", samples)
    engine = house(tmp_path)
    run = engine.create(CONFIG, run_id=RUN)
    with pytest.raises(RunConflict, match="data sets are not drawn yet"):
        engine.add_field_samples(RUN, samples)
    engine.cancel(run.run_id)
    with pytest.raises(RunConflict, match="is cancelling"):
        engine.add_field_samples(RUN, samples)


def test_the_last_cycle_takes_samples_only_before_it_begins(samples: list[Sample], tmp_path: Path) -> None:
    early = house(tmp_path / "early")
    _, (taken,) = driven(early, lambda: early.add_field_samples(RUN, samples), 2, "created")
    assert taken.cycle == 2
    assert early.store.cycles(RUN)[2].field_evaluations
    late = house(tmp_path / "late")
    _, (error,) = driven(late, refusals(late, samples), 2, "evaluating")
    assert isinstance(error, RunConflict)
    assert "its last cycle has begun without these samples" in error.message


def without(name: str) -> Callable[[Sample], Any]:
    return lambda sample: {key: value for key, value in sample.items() if key != name}


def unlabelled(sample: Sample) -> Sample:
    return {**sample, "extracted_class_label": None, "ground_truth_labels": {}}


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda sample: "a sample", "sample 1 is no object"),
        (without("sample_id"), "sample 1 has no sample_id"),
        (lambda sample: {**sample, "sample_id": "a b"}, "without spaces"),
        (unlabelled, "has no label; expected extracted_class_label"),
        (without("sensor_readings_map"), "has no sensor_readings_map.readings"),
        (lambda sample: {**sample, "ground_truth_labels": [1]}, "ground_truth_labels has the wrong type"),
        (lambda sample: {**sample, "generation_timestamp_utc": "noon"}, "'noon' is no time"),
        (lambda sample: {**sample, "scenario_timestep_seconds": "1"}, "scenario_timestep_seconds is no number"),
        (lambda sample: {**sample, "scenario_timestep_seconds": -1.0}, "scenario_timestep_seconds: expected at least"),
        (lambda sample: {**sample, "more": 1}, "1 of 2 samples were refused, the first: .*more"),
    ],
)
def test_what_is_no_labelled_sample_is_refused_with_its_place(
    broken: Callable[[Sample], Any], said: str, samples: list[Sample], tmp_path: Path
) -> None:
    engine = waiting(tmp_path)
    with pytest.raises(DatasetFormat, match=said):
        engine.add_field_samples(RUN, [samples[0], broken(samples[1])])
    assert engine.store.datasets(RUN) == []
    assert list((engine.workshop.root / RUN / "field").glob("*.avro")) == []


def test_no_samples_at_all_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EmptyDataset, match="field samples"):
        waiting(tmp_path).add_field_samples(RUN, [])


def waiting(folder: Path) -> Engine:
    """Return an engine with a run in its first cycle, whose test set has one sample."""
    engine, store = house(folder), MemoryRunStore()
    told = {"sample_id": "of-the-test", "extracted_class_label": "CORONA", "sensor_readings_map": {"readings": {}}}
    report = write_samples(folder / "test.avro", field_records([told], NOW).values())
    reference = {"uri": str(report.path), "sha256": report.sha256, "n": 1, "schema_fingerprint": "0" * 16}
    test = DatasetEntry(name="test", role="test", ref=reference, content_sha256="0" * 64, requested=1)
    config = CONFIG
    run = RunRecord(
        run_id=RUN, config=config, config_hash=config.config_hash, created_at_utc=NOW, updated_at_utc=NOW,
        state="evaluating", status="running", datasets=(test,),
    )  # fmt: skip
    store.create_run(run)
    return Engine(store, engine.workshop, engine.dispatcher, clock=lambda: NOW)


def test_a_run_holds_so_many(samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = waiting(tmp_path)
    monkeypatch.setattr("uqueue_worker.learning.engine.field_feedback.MOST_FIELD_SAMPLES", 3)
    monkeypatch.setattr("uqueue_worker.learning.engine.field_records.MOST_FIELD_SAMPLES", 4)
    monkeypatch.setattr("uqueue_worker.learning.engine.field_feedback.MOST_FIELD_SETS", 2)
    with pytest.raises(DatasetFormat, match="there are more than 4"):
        engine.add_field_samples(RUN, iter(samples[:5]))
    assert engine.add_field_samples(RUN, samples[:1]).taken == 1
    with pytest.raises(RunConflict, match="it would hold 4 field samples; 3 are allowed"):
        engine.add_field_samples(RUN, samples[1:4])
    assert engine.add_field_samples(RUN, samples[:2]).taken == 1
    with pytest.raises(RunConflict, match="given 2 times, which is allowed"):
        engine.add_field_samples(RUN, samples[2:3])


# --- as samples come ---


def test_what_samples_leave_out_is_filled_in(tmp_path: Path) -> None:
    least = {"sample_id": "b", "extracted_class_label": "X", "sensor_readings_map": {"readings": {}}}
    later = {**least, "sample_id": "a", "generation_timestamp_utc": "2026-01-02T03:04:05.123456"}
    records = field_records([least, later], NOW)
    assert list(records) == ["a", "b"]
    assert records["a"]["generation_timestamp_utc"] == datetime(2026, 1, 2, 3, 4, 5, 123000, UTC)
    write_samples(tmp_path / "x.avro", records.values(), max_rejected_fraction=0.0)
    back = {one["sample_id"]: one for one in read_samples(tmp_path / "x.avro")}
    assert back["b"]["generation_timestamp_utc"] == NOW
    assert back["b"]["ground_truth_labels"]["event_type"] is None


def test_samples_of_one_scenario_may_come_in_any_order(samples: list[Sample], tmp_path: Path) -> None:
    same = [
        {**one, "scenario_id": "s", "scenario_timestep_seconds": float(9 - place), "sample_metadata": None}
        for place, one in enumerate(samples[:5])
    ]
    assert waiting(tmp_path).add_field_samples(RUN, same).taken == 5


# --- which of them are gone after ---


def candidates(folder: Path, feedback: list[Mapping[str, Any]], others: list[WeakSpot]) -> list[WeakSpot]:
    from uqueue_worker.learning.engine.files import write_whole

    found = []
    for place, one in enumerate(feedback):
        path = folder / f"{place}.json"
        found.append(SimpleNamespace(uri=str(path), sha256=write_whole(path, json.dumps(one).encode())))
    context: Any = SimpleNamespace(cycle=SimpleNamespace(field_evaluations=found))
    return field_candidates(context, cast(Any, None), others)


def wrong(*names: str, confidence: float = 0.5) -> Mapping[str, Any]:
    listed = [
        {"raw_sample_id": name, "true_label": "A", "predicted_label": "B", "confidence_of_prediction": confidence}
        for name in names
    ]
    return {"per_class_metrics": {}, "uncertain_samples": [], "misclassified_samples": listed}


def test_a_sample_is_one_spot_and_left_to_the_pool_where_that_has_it(tmp_path: Path) -> None:
    region = WeakSpot(
        weakness_id="rg_misc_m", type="misclassified_region", priority=1.0, raw_sample_id="m",
        details={"members": [{"raw_sample_id": "m"}, {"raw_sample_id": "n"}]},
    )  # fmt: skip
    found = candidates(tmp_path, [wrong("a", "m", "n"), wrong("a", "b", confidence=0.7)], [region])
    assert [spot.raw_sample_id for spot in found] == ["b", "a"]


def test_the_thousand_highest_are_held(tmp_path: Path) -> None:
    low = wrong(*(f"low-{number}" for number in range(999)), confidence=0.1)
    found = candidates(tmp_path, [low, wrong("x", "y", confidence=0.9)], [])
    assert len(found) == 1000
    assert [spot.raw_sample_id for spot in found[:2]] == ["x", "y"]


# --- from outside ---


def test_a_worker_takes_samples_along_with_a_request_and_from_files(samples: list[Sample], tmp_path: Path) -> None:
    engine = waiting(tmp_path)
    nothing = cast(Any, None)
    inside = tmp_path / "data"
    at_hand = Services(engine, nothing, nothing, nothing, nothing, data_roots=(inside,))
    asked = AddFieldSamples(run_id=RUN, samples=as_json(samples[:2]))
    assert answer(asked, at_hand) == FieldSamplesTaken(run_id=RUN, taken=2, known=0, cycle=1)
    for place in (inside / "field.avro", tmp_path / "field.avro"):
        write_samples(place, samples)
    named = AddFieldSamples(run_id=RUN, dataset=str(inside / "field.avro"))
    assert answer(named, at_hand) == FieldSamplesTaken(run_id=RUN, taken=GIVEN - 2, known=2, cycle=1)
    with pytest.raises(DatasetNotFound):
        answer(AddFieldSamples(run_id=RUN, dataset=str(tmp_path / "field.avro")), at_hand)


def test_a_campaign_hands_them_on(samples: list[Sample], tmp_path: Path) -> None:
    engine = house(tmp_path)
    driver = InProcessCampaign(engine, CONFIG)
    with pytest.raises(ActiveLearningError, match="no run yet"):
        driver.add_field_samples(samples)
    driver.run_cycle()
    assert driver.add_field_samples(samples).cycle == 1

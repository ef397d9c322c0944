"""Every value of a run's configuration changes what a run does, or is refused: one row for each field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from builders.learning_runs import CLASSES, MODEL, a_workshop, an_engine, small_config
from uqueue_config.errors import SettingsError
from uqueue_config.learning.runs import CycleState, Evaluation, RunConfig, RunRecord
from uqueue_config.learning.settings import LearningSettings
from uqueue_config.learning.spots import WeakSpot
from uqueue_worker.learning.crafting import ClassFamilies, CraftingContext, CraftingStrategy, ScenarioCrafter
from uqueue_worker.learning.engine import Engine, run_to_end
from uqueue_worker.learning.engine.behalf import is_draft, on_behalf
from uqueue_worker.learning.engine.crafting import CRAFTING, craft
from uqueue_worker.learning.engine.generating import GENERATING, merged
from uqueue_worker.learning.engine.parts import Part, PartResult
from uqueue_worker.learning.engine.preparing import PREPARING, draw
from uqueue_worker.learning.engine.prioritising import PRIORITISING
from uqueue_worker.learning.engine.re_evaluating import RE_EVALUATING
from uqueue_worker.learning.engine.steps import Assignment, Context
from uqueue_worker.learning.engine.stopping import stop_reason
from uqueue_worker.learning.engine.training import TRAINING, train
from uqueue_worker.learning.errors import RunConfigInvalid
from uqueue_worker.learning.local_run import run_here
from uqueue_worker.learning.repository.memory import MemoryScenarioRepository
from uqueue_worker.learning.subject import crafter_of

RUN = "run-1"
Values = dict[str, Any]


@dataclass(frozen=True)
class World:
    """A run of two cycles that has ended; its steps are asked again, as if its configuration had been another."""

    engine: Engine
    run: RunRecord

    def at(self, state: CycleState, changes: Values, cycle: int = 0) -> Context:
        config = small_config(**{"strategy_parameters": {}, **changes})
        told = {"config": config, "state": state, "cycle": cycle, "samples_spent": 0, "status": "running"}
        run = self.run.model_copy(update=told)
        record = self.engine.store.get_cycle(RUN, cycle)
        assert record is not None
        return Context(run, record, self.engine.workshop, self.engine.store, run.created_at_utc)

    def job(self, state: CycleState, changes: Values, kind: Any, **payload: Any) -> Assignment:
        context = self.at(state, changes)
        part = Part(RUN, 0, state, "k", kind, payload)
        return Assignment(context.workshop, context.store, context.run, part)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("config")
    repository = MemoryScenarioRepository(crafter=ScenarioCrafter(families=FAMILIES))
    engine = an_engine(folder, workshop=a_workshop(folder, repository))
    engine.create(small_config(strategy_parameters={}), run_id=RUN)
    return World(engine, run_to_end(engine, RUN))


FAMILIES = ClassFamilies({"CORONA": "CoronaDischarge", "OVERHEATING": "EquipmentOverheat"})
FIELD = "sensor_readings_map.readings.U29_TFEMF.ac_field_strength_microteslas"
LOST = {
    "features_summary": {"method": "OCCLUSION", "top_n_features": [{"feature_path": FIELD, "raw_value": 0.13}]},
    "target_class": "CORONA",
}


def chosen(world: World, changes: Values) -> Any:
    return [(spot.weakness_id, spot.priority) for spot in PRIORITISING.finish(world.at("prioritising", changes)).spots]


def chosen_again(world: World, changes: Values) -> Any:
    """After a cycle that bettered nothing."""
    context, first = world.at("prioritising", changes, cycle=1), world.at("prioritising", changes)
    cycle = context.cycle.model_copy(update={"evaluation_before": first.cycle.evaluation_before})
    return [spot.priority for spot in PRIORITISING.finish(replace(context, cycle=cycle)).spots]


def shared_out(world: World, changes: Values) -> Any:
    context, shares = world.at("crafting", changes), []
    while parts := [one for one in CRAFTING.parts(context) if one.key not in context.results]:
        shares += [(one.key, one.payload["samples"]) for one in parts]
        done = {one.key: PartResult(one, {"ok": True}) for one in parts}
        context = replace(context, results={**context.results, **done})
    return shares


def varied(world: World, changes: Values) -> Any:
    _, spot = world.engine.store.spots(RUN, 0)[0]
    found = craft(world.job("crafting", changes, "craft", weakness_id=spot.weakness_id, samples=4))
    repository = world.engine.workshop.repository
    names = [(one["scenario"]["id"], one["samples"]) for one in found["allotments"]]
    return [(repository.get_scenario_by_id(name), is_draft(repository, name), samples) for name, samples in names]


def drafted(world: World, changes: Values) -> Any:
    seed = 1000 + changes["auto_apply"]  # variations that nobody made before
    return [draft for _, draft, _ in varied(world, {"random_seed": seed, **changes})]


def crafted(world: World, changes: Values) -> Any:
    repository = world.engine.workshop.repository
    view: Any = on_behalf(repository, world.at("crafting", changes).run)
    made = view.craft_scenario_from_features(base_id=f"lost-{changes['crafter_order'][0]}", **LOST)
    return view.get_stored(made.scenario_definition_id).origin["crafter"]


def drawn(role: str) -> Callable[[World, Values], Any]:
    def probe(world: World, changes: Values) -> Any:
        files = {"root": world.engine.workshop.root / "drawn"}
        job = world.job("created", {"test_samples": 5, "pool_samples": 5, **changes}, "draw", role=role)
        return draw(replace(job, workshop=replace(job.workshop, **files)))["entry"]["content_sha256"]

    return probe


def blocks(world: World, changes: Values) -> Any:
    context = world.at("generating", changes)
    plan = (context.cycle.plan[0].model_copy(update={"samples": 10}),)
    cycle = context.cycle.model_copy(update={"plan": plan})
    return [one.payload["samples"] for one in GENERATING.parts(replace(context, cycle=cycle))]


def named(world: World, changes: Values) -> Any:
    context = world.at("generating", changes)
    entry = context.cycle.dataset
    assert entry is not None
    return merged(context, [(entry.ref.uri, entry.ref.sha256)], 12, 0).name


def trained(world: World, changes: Values) -> Any:
    (part,) = TRAINING.parts(world.at("training", changes))
    return train(world.job("training", changes, "train", **part.payload))["model"]


def started(world: World, changes: Values) -> Any:
    context = world.at("created", changes)
    sets = {one.role: one for one in reversed(context.run.datasets)}
    drawn = {f"draw:{role}": {"ok": True, "entry": one.model_dump(mode="json")} for role, one in sets.items()}
    results = {key: PartResult(context.part("draw", key), result) for key, result in drawn.items()}
    empty = context.run.model_copy(update={"datasets": ()})
    return [one.kind for one in PREPARING.parts(replace(context, run=empty, results=results))]


def begun(world: World, changes: Values) -> Any:
    context = world.at("created", changes)
    empty = context.run.model_copy(update={"datasets": ()})
    return [one.payload for one in PREPARING.parts(replace(context, run=empty))]


def decided(world: World, changes: Values) -> Any:
    """A candidate that is a little worse on the pool, and misses a class."""
    context = world.at("re_evaluating", {"regression_guard": 0.5, **changes})
    before = context.cycle.evaluation_before
    assert before is not None
    lower = {name: value - 0.1 for name, value in before.metrics.items()}
    lower["accuracy"] -= 0.05
    after = before.model_copy(update={"metrics": lower, "recalls": {**before.recalls, "CORONA": 0.0}})
    cycle = context.cycle.model_copy(update={"evaluation_before": _sure(before)})
    results = {
        f"evaluate:{role}": PartResult(
            context.part("evaluate", f"evaluate:{role}"), {"ok": True, "evaluation": after.model_dump(mode="json")}
        )
        for role in ("pool", "test")
    }
    run = context.run.model_copy(update={"best_value": lower["macro_f1_score"] - 0.01, "cycles_without_gain": 0})
    move = RE_EVALUATING.finish(replace(context, cycle=cycle, results=results, run=run))
    return (move.cycle["promotion_reason"], move.run)


def _sure(evaluation: Evaluation) -> Evaluation:
    return evaluation.model_copy(update={"recalls": {**evaluation.recalls, "CORONA": 1.0}})


def stopped(world: World, changes: Values) -> Any:
    run = world.at("re_evaluating", {"patience": 3, "max_cycles": 9, **changes}).run
    return stop_reason(run.model_copy(update={"cycles_without_gain": 2}), 5, 0.9)


Probe = Callable[[World, Values], Any]
#: For each field two values for which something is not the same.
CHANGES: dict[str, tuple[Probe, Any, Any]] = {
    "max_cycles": (stopped, 5, 6),
    "sample_budget_per_cycle": (shared_out, 12, 20),
    "sample_budget_total": (shared_out, 6, None),
    "exploration_fraction": (shared_out, 0.0, 0.5),
    "max_weak_spots": (chosen, 1, 3),
    "min_priority": (chosen, 0.05, 0.99),
    "samples_per_variation": (varied, 1, 2),
    "jitter_sigma": (varied, 0.05, 0.0),
    "seen_spot_decay": (chosen_again, 1.0, 0.01),
    "patience": (stopped, 2, 3),
    "min_delta": (decided, 0.0, 0.5),
    "target_metric": (decided, "macro_f1_score", "accuracy"),
    "target_value": (stopped, 0.8, None),
    "regression_guard": (decided, 0.05, 0.5),
    "auto_apply": (drafted, True, False),
    "random_seed": (drawn("pool"), 0, 1),
    "strategy": (chosen, "region", "real_time"),
    "dataset_prefix": (named, "alm_targeted", "night"),
    "crafter_order": (crafted, ["rule", "explore"], ["explore", "rule"]),
    "model": (trained, MODEL, "other"),
    "start_version": (started, None, "production"),
    "start_samples": (drawn("training"), 30, 4),
    "pool_samples": (drawn("pool"), 5, 4),
    "test_samples": (drawn("test"), 5, 4),
    "samples_per_part": (blocks, 16, 4),
    "strategy_parameters": (chosen, {"n_regions": 3}, {"n_regions": 1}),
    "critical_classes": (decided, [], ["CORONA"]),
    "critical_recall_loss": (decided, 0.03, 1.0),
    "training": (trained, {"n_estimators": 4}, {"n_estimators": 5}),
    "continues": (begun, None, RUN),
}
#: What else goes with a field there, so that it counts.
BESIDE: dict[str, Values] = {"critical_recall_loss": {"critical_classes": ["CORONA"]}}
#: Values that the engine refuses, and what it says.
REFUSED: list[tuple[Values, str]] = [
    ({"deployment": "mars"}, "deployment: there is no distribution 'mars' here; expected default"),
    (
        {"crafter_order": ["rule", "magic"]},
        r"crafter_order: no crafting strategy is called magic; there are template, rule, optimise, explore\.$",
    ),
    ({"strategy_parameters": {"depth": 3}}, "strategy_parameters: region: got an unexpected .* 'depth'"),
    ({"strategy_parameters": {"n_regions": 0}}, "strategy_parameters: region: n_regions: expected a whole number"),
    ({"strategy_parameters": {"class_criticality_map": 3}}, "strategy_parameters: region: "),
    ({"strategy_parameters": {"parameters_of": {}}}, "parameters_of is code"),
    ({"critical_classes": ["CORONNA"]}, "critical_classes: the model has no class CORONNA; it has CORONA, NORMAL"),
    ({"start_version": "7"}, "start_version: There is no model small"),
    ({"training": {"trees": 3}}, "training.trees: there is no such value; there are n_estimators, min_samples_leaf"),
    ({"training": {"n_estimators": 0}}, "training.n_estimators: expected a whole number from 1"),
    ({"training": {"max_features": 2}}, "training.max_features: expected a number above 0, at most 1"),
    ({"target_metric": "log_loss"}, "target_metric: log_loss is better the smaller it is"),
]


def test_each_field_is_here() -> None:
    """`deployment` has one value only: others are refused."""
    assert {*CHANGES, "deployment"} == set(RunConfig.model_fields)


@pytest.mark.parametrize("field", CHANGES)
def test_each_field_changes_what_a_run_does(world: World, field: str) -> None:
    probe, one, other = CHANGES[field]
    beside = BESIDE.get(field, {})
    assert probe(world, {**beside, field: one}) != probe(world, {**beside, field: other})
    assert probe(world, {**beside, field: one}) == probe(world, {**beside, field: one}), "the probe is stable"


@pytest.mark.parametrize(("changes", "said"), REFUSED, ids=lambda one: str(one)[:40])
def test_what_would_have_no_effect_is_refused_before_there_is_a_run(changes: Values, said: str, tmp_path: Path) -> None:
    engine = an_engine(tmp_path)
    with pytest.raises(RunConfigInvalid, match=said):
        engine.create(small_config(**changes))
    assert engine.store.list_runs() == []


def test_everything_that_is_refused_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(RunConfigInvalid, match=r"deployment: .*; crafter_order: .*; critical_classes: "):
        an_engine(tmp_path).create(
            small_config(deployment="mars", crafter_order=["magic"], critical_classes=["X", *CLASSES])
        )


def test_a_name_in_the_settings_that_no_crafter_has_is_refused(tmp_path: Path) -> None:
    settings = LearningSettings.load({"UQUEUE_LEARNING_CRAFTER_ORDER": "rule,magic"})
    with pytest.raises(SettingsError, match=r"UQUEUE_LEARNING_CRAFTER_ORDER: .*'magic'; there are template, rule"):
        run_here({}, tmp_path, settings)


@pytest.mark.parametrize("changes", [{"auto_apply": False}, {"crafter_order": ["magic"]}])
def test_a_run_in_one_process_refuses_what_it_cannot_do(changes: Values, tmp_path: Path) -> None:
    with pytest.raises(RunConfigInvalid, match=next(iter(changes))):
        run_here(changes, tmp_path, LearningSettings())


class Own(CraftingStrategy):
    """A strategy of one's own, which is not registered."""

    name = "own"

    def supports(self, context: CraftingContext) -> float:
        return 0.0

    def craft(self, context: CraftingContext, n: int) -> list[Any]:
        return []


def test_strategies_of_a_crafters_own_can_be_named(tmp_path: Path) -> None:
    crafter = ScenarioCrafter(("explore", Own()), FAMILIES)
    engine = an_engine(tmp_path, repository=MemoryScenarioRepository(crafter=crafter))
    run = engine.create(small_config(crafter_order=["own", "rule"], random_seed=4))
    view: Any = on_behalf(engine.workshop.repository, run)
    assert [one.name for one in view.crafter.strategies] == ["own", "rule"]
    assert (view.crafter.seed, crafter.seed) == (4, 0)
    assert [one.name for one in crafter.strategies] == ["explore", "own"], "other runs have theirs"


def test_the_crafter_of_a_worker_keeps_its_own_order_outside_of_runs(world: World) -> None:
    crafter = crafter_of(LearningSettings(crafter_order=("explore",)), _subject())
    assert [one.name for one in crafter.strategies] == ["explore"]


def _subject() -> Any:
    from builders.learning_subject import small

    return small()


def test_a_lost_scenario_is_crafted_in_the_order_of_the_run(tmp_path: Path) -> None:
    """The whole way: a weak spot whose scenario nobody knows."""
    spot = WeakSpot(
        weakness_id="rt_misc_lost",
        type="misclassified_region",
        priority=0.9,
        raw_sample_id="lost",
        details={"true_label": "CORONA", "sample_features_summary": LOST["features_summary"]},
    )

    class One:
        sensor_id_to_type_map = None

        def identify_weaknesses(self, feedback: Any, target_sensor_id: str | None = None) -> list[WeakSpot]:
            return [spot]

    found = []
    for order in (["rule"], ["explore"]):
        repository = MemoryScenarioRepository(crafter=ScenarioCrafter(families=FAMILIES))
        engine = an_engine(tmp_path / order[0], repository=repository, strategy=lambda config: One())
        sizes = {"start_samples": 12, "pool_samples": 5, "test_samples": 5, "max_cycles": 1}
        engine.create(small_config(crafter_order=order, strategy_parameters={}, **sizes), run_id=RUN)
        run_to_end(engine, RUN)
        (use,) = [one for one in engine.store.uses(RUN) if one.weakness_id is not None]
        found.append(repository.get_stored(use.scenario.id).origin["crafter"])  # type: ignore[union-attr]
    assert found == ["rule", "explore"]

"""Runs that continue others: what they take over, that they can be repeated and interrupted, what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from builders.learning_runs import MODEL, a_workshop, an_engine, campaign, small_config
from uqueue_config.learning.requests import StartRun
from uqueue_config.learning.runs import RunConfig, RunRecord
from uqueue_config.learning.settings import LearningSettings
from uqueue_worker.learning.answering import Services, answer
from uqueue_worker.learning.engine import Engine, MemoryRunStore, run_to_end
from uqueue_worker.learning.engine.samples import read_registered, sample_ids
from uqueue_worker.learning.errors import RunConfigInvalid, RunConflict, RunNotFound
from uqueue_worker.learning.models.versions import read_manifest
from uqueue_worker.learning.report import render_page
from uqueue_worker.learning.reporting import report_data
from uqueue_worker.learning.repository.memory import MemoryScenarioRepository

FIRST, SECOND = "run-first", "run-second"


def played(folder: Path) -> Engine:
    """Return an engine with a run of one cycle."""
    engine = an_engine(folder)
    engine.create(small_config(max_cycles=1), run_id=FIRST)
    run_to_end(engine, FIRST)
    return engine


def continued(engine: Engine, run_id: str = SECOND, **changes: Any) -> RunRecord:
    given = {"continues": FIRST, "random_seed": 1, "max_cycles": 1, **changes}
    return run_to_end(engine, engine.create(small_config(**given), run_id=run_id).run_id)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, RunRecord, RunRecord]:
    engine = played(tmp_path_factory.mktemp("both"))
    ended = continued(engine)
    return engine, engine.store.get_run(FIRST), ended


def test_the_start_set_is_all_that_was_trained_on_and_the_pool(both: tuple[Engine, RunRecord, RunRecord]) -> None:
    _, first, second = both
    assert (second.status, second.stop_reason) == ("completed", "cycles_spent")
    roles = [(one.name, one.role, one.ref.n) for one in second.datasets]
    assert roles == [
        ("start", "training", 30 + 12 + 40),
        ("pool", "pool", 40),
        ("test", "test", 30),
        ("alm_targeted_c000", "training", 12),
    ]
    start, pool, test, _ = second.datasets
    before = [sample_ids(one.ref) for one in first.datasets if one.role != "test"]
    assert sample_ids(start.ref) == frozenset.union(*before)
    assert not sample_ids(pool.ref) & frozenset.union(*before)
    frozen = first.dataset("test")
    assert frozen is not None
    assert (test.content_sha256, test.ref.sha256) == (frozen.content_sha256, frozen.ref.sha256)
    assert test.ref.uri != frozen.ref.uri
    assert sample_ids(test.ref) == sample_ids(frozen.ref)
    assert read_registered(test.ref) == read_registered(frozen.ref)
    ids = [sample_ids(one.ref) for one in second.datasets]
    assert len(frozenset.union(*ids)) == sum(map(len, ids))


def test_the_start_model_is_trained_on_it_and_follows_the_last_one(both: tuple[Engine, RunRecord, RunRecord]) -> None:
    engine, first, _ = both
    (cycle,) = engine.store.cycles(SECOND)
    model = cycle.model_before
    assert model is not None
    assert first.model is not None
    assert model != first.model
    folder = engine.workshop.root.parent / "models" / MODEL / model.version
    manifest = read_manifest(folder, folder.parent)
    assert manifest.parent_version == first.model.version
    repository: Any = engine.workshop.repository
    assert f"Continues run</dt><dd>{FIRST}<" in render_page(report_data(engine.store, repository, SECOND))


def test_the_same_seeds_give_the_same_campaign(both: tuple[Engine, RunRecord, RunRecord], tmp_path: Path) -> None:
    engine, _, second = both
    other = played(tmp_path)
    found, expected = campaign(other, continued(other)), campaign(engine, second)
    assert found == expected


class Crash(BaseException):
    """What a process that was killed leaves."""


class Killed(MemoryRunStore):
    """A store at which the process dies once around each part and step of preparing."""

    armed = False

    def __init__(self) -> None:
        super().__init__()
        self.passed: set[str] = set()

    def _at(self, point: str) -> None:
        if self.armed and point not in self.passed:
            self.passed.add(point)
            raise Crash

    def finish_part(self, part: Any, result: dict[str, Any]) -> int | None:
        self._at(f"before {part.key}") if part.state == "created" else None
        found = super().finish_part(part, result)
        self._at(f"after {part.key}") if part.state == "created" else None
        return found

    def commit(self, transition: Any) -> bool:
        self._at(f"commit {transition.run.state}")
        return super().commit(transition)


def test_killed_while_it_is_prepared_it_comes_to_the_same(
    both: tuple[Engine, RunRecord, RunRecord], tmp_path: Path
) -> None:
    engine, _, second = both
    store, repository = Killed(), MemoryScenarioRepository()
    evaluator = a_workshop(tmp_path).evaluator

    def new_engine() -> Engine:
        return an_engine(tmp_path, store, workshop=a_workshop(tmp_path, repository, evaluator=evaluator))

    new_engine().create(small_config(max_cycles=1), run_id=FIRST)
    run_to_end(new_engine(), FIRST)
    new_engine().create(small_config(continues=FIRST, random_seed=1, max_cycles=1), run_id=SECOND)
    store.armed = True
    while True:
        last = new_engine()
        try:
            run = run_to_end(last, SECOND)
        except Crash:
            continue
        break
    keys = ("draw:training", "draw:pool", "draw:test", "start_model")
    assert {f"{when} {key}" for when in ("before", "after") for key in keys} < store.passed
    assert campaign(last, run) == campaign(engine, second)


def test_a_third_run_continues_the_second(both: tuple[Engine, RunRecord, RunRecord]) -> None:
    engine, *_ = both
    third = continued(engine, "run-third", continues=SECOND, random_seed=2, start_version="production")
    assert third.status == "completed"
    start, test = third.dataset("training"), third.dataset("test")
    assert start is not None
    assert test is not None
    assert start.ref.n == 30 + 12 + 40 + 40 + 12
    assert test.content_sha256 == both[1].dataset("test").content_sha256  # type: ignore[union-attr]
    (cycle,) = engine.store.cycles("run-third")
    assert cycle.model_before == engine.store.get_run(SECOND).model
    with pytest.raises(RunConfigInvalid, match=f"random_seed: run {FIRST} drew its samples with 0"):
        engine.create(small_config(continues="run-third", random_seed=0))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"continues": "nothing"}, RunNotFound, "There is no run nothing"),
        ({"continues": "begun"}, RunConflict, "only a run that has ended is continued"),
        ({"continues": "bare"}, RunConflict, "it has no data sets to continue with"),
        ({"continues": "other"}, RunConfigInvalid, "model: run other is about 'another'"),
        ({"continues": "elsewhere"}, RunConfigInvalid, "deployment: run elsewhere is about 'the moon'"),
        ({"random_seed": 0}, RunConfigInvalid, "drew its samples with 0; give another"),
    ],
)
def test_what_cannot_be_continued_is_refused(
    changes: dict[str, Any], error: type[Exception], words: str, both: tuple[Engine, RunRecord, RunRecord]
) -> None:
    engine, first, _ = both

    def known(run_id: str, **more: Any) -> None:
        config = RunConfig.read({**first.config.model_dump(), **more.pop("config", {})})
        engine.store.create_run(first.model_copy(update={"run_id": run_id, "config": config, **more}))

    known("begun", status="waiting")
    known("bare", status="failed", datasets=())
    known("other", config={"model": "another"})
    known("elsewhere", config={"deployment": "the moon"})
    with pytest.raises(error, match=words):
        engine.create(small_config(**{"continues": FIRST, "random_seed": 1, **changes}), run_id="never")
    with pytest.raises(RunNotFound):
        engine.store.get_run("never")


def test_a_client_that_names_no_seed_gets_one_that_is_free(both: tuple[Engine, RunRecord, RunRecord]) -> None:
    engine, _, _ = both
    nothing: Any = None
    services = Services(engine, nothing, nothing, nothing, LearningSettings.load({}))

    def started(**configuration: Any) -> RunConfig:
        sizes = {"model": MODEL, **configuration}
        found: Any = answer(StartRun(configuration=sizes), services)
        return found.run.config

    assert started(continues=FIRST).random_seed == 1
    assert started(continues=SECOND).random_seed == 2
    assert started(continues=SECOND, random_seed=9).random_seed == 9
    assert started(continues=None).random_seed == 0
    with pytest.raises(
        RunConfigInvalid, match=r"start_samples: .*; test_samples: a run that continues another has its"
    ):
        started(continues=FIRST, start_samples=10, test_samples=10)
    with pytest.raises(RunConfigInvalid, match="continues"):
        started(continues=7)
    with pytest.raises(RunNotFound):
        started(continues="nothing")


def test_a_configuration_without_it_has_the_hash_that_it_had() -> None:
    told = small_config().model_dump(mode="json")
    del told["continues"]
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    assert small_config().config_hash == hashlib.sha256(text.encode()).hexdigest()
    assert small_config(continues=FIRST).config_hash != small_config().config_hash

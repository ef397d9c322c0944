"""A loaded localization model, the store that holds it and the lane that asks it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import structlog
from structlog.testing import capture_logs

from builders.onnx_models import features, tiny_localizer, write_localizer
from uqueue.cli.sources import examine
from uqueue.submission import prepare
from uqueue_config.answers import read_answer
from uqueue_config.catalog import Catalog, ModelSpec
from uqueue_config.errors import (
    ArtifactMismatch,
    InferenceFailed,
    InvalidDeclaration,
    InvalidFeatures,
    ModelInvalid,
    ModelOutputInvalid,
    SettingsError,
    UqueueError,
    VersionNotServed,
    from_wire,
)
from uqueue_config.ledger import ClaimedJob, Wish
from uqueue_config.localization import Localization
from uqueue_config.messages import PredictRequest
from uqueue_config.settings import Settings
from uqueue_worker.artifacts import ArtifactCache, ArtifactPair
from uqueue_worker.artifacts.localizer_folder import LocalizerFolder
from uqueue_worker.artifacts.opening import open_provider
from uqueue_worker.lane.batch import Answer, Batch
from uqueue_worker.localization import Localizer, OnnxOptions, load_localizer
from uqueue_worker.localization import localizer as localizer_module
from uqueue_worker.localization.session import threads_for
from uqueue_worker.models.catalog import ModelCatalog, Served
from uqueue_worker.models.comparison import Comparisons
from uqueue_worker.models.store import LoadOptions, ModelState, ModelStore

NAME = "localization_model"
SETTINGS = Settings(engine="onnx", max_onnx_batch=4)


@pytest.fixture(autouse=True)
def no_child(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Each load costs a process of half a second; what that one finds is the subject of test_hostile_onnx."""
    monkeypatch.setattr(localizer_module, "probe_onnx", lambda data, row, *, file: None)


@pytest.fixture
def quiet() -> Iterator[list[Any]]:
    structlog.reset_defaults()
    with capture_logs() as logs:
        yield logs


def pair(root: Path, model: bytes | None = None, number: str = "1", **members: Any) -> ArtifactPair:
    write_localizer(root, model, number=number, **members)
    return LocalizerFolder(root, NAME).load()


def test_positions_and_sigmas_come_out_in_degrees_and_metres(tmp_path: Path) -> None:
    model = load_localizer(pair(tmp_path, tiny_localizer(theta=30.0, confidence=0.75), number="7"))
    found = model.predict(features(3))
    assert (len(found), found.model_version, found.uncertainty_source) == (3, "7", "model")
    assert found.latitude == pytest.approx([52.0] * 3, abs=0.0011)
    assert found.sigma_y == pytest.approx([0.0003 * 111_265] * 3, rel=0.11)
    assert found.theta == pytest.approx([30.0] * 3)
    assert found.confidence == pytest.approx([0.75] * 3)
    assert len(set(found.latitude.tolist())) == 3, "each row has an answer of its own"
    assert found.onnx_seconds >= 0
    assert isinstance(read_answer(json.loads(json.dumps(found.to_message("base64")))), Localization)


def test_rows_are_answered_alike_in_any_company_and_in_parts(tmp_path: Path) -> None:
    several = load_localizer(pair(tmp_path), OnnxOptions(max_batch=4))
    table, seen = features(11), []
    whole = several.predict(table, on_progress=seen.append)
    assert seen == [4, 8]
    alone = [several.predict(table[row : row + 1]) for row in range(11)]
    for name in ("latitude", "longitude", "sigma_x", "sigma_y"):
        one_by_one = [float(getattr(one, name)[0]) for one in alone]
        assert getattr(whole, name) == pytest.approx(one_by_one, rel=1e-6)


def test_what_progress_raises_ends_the_run(tmp_path: Path) -> None:
    model = load_localizer(pair(tmp_path), OnnxOptions(max_batch=1))

    def stop(rows: int) -> None:
        raise KeyError(rows)

    with pytest.raises(KeyError):
        model.predict(features(2), on_progress=stop)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    model = load_localizer(pair(tmp_path))
    bad = features(2)
    bad[1, 5] = np.nan
    for table, words in ((features(1)[:, :100], "expected 12288 columns, got 100"), (bad, "row 1, column 5")):
        with pytest.raises(InvalidFeatures, match=words):
            model.predict(table)
    with pytest.raises(InvalidFeatures, match="has no targets"):
        model.predict(features(1), target_dim=2)


def test_an_answer_that_cannot_be_is_an_error_and_not_clamped(tmp_path: Path) -> None:
    model = load_localizer(pair(tmp_path, tiny_localizer(position=(90.0, 0.0), sway=0.01), number="4"))
    table = features(8)
    answers = model.predict_together(table, [1] * 8)
    kinds = {type(answer) for answer in answers}
    assert kinds == {Localization, ModelOutputInvalid}, "about half of the rows are beyond the pole"
    wrong = next(row for row, answer in enumerate(answers) if isinstance(answer, ModelOutputInvalid))
    with pytest.raises(ModelOutputInvalid, match=r"version 4, answered what cannot be: a latitude outside.*row 0"):
        model.predict(table[wrong : wrong + 1])


def test_a_failing_runtime_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_localizer(pair(tmp_path))

    class Broken:
        def run(self, *arguments: object) -> None:
            raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : out of memory")

    monkeypatch.setattr(model.session, "_session", Broken())
    with pytest.raises(InferenceFailed, match="version 1, could not be evaluated: 6 : RUNTIME_EXCEPTION : out of mem"):
        model.predict(features(1))


def test_one_warning_per_load_names_all_defaults(tmp_path: Path, quiet: list[Any]) -> None:
    load_localizer(pair(tmp_path))
    assert quiet == []
    missing = pair(tmp_path, tiny_localizer(sigma=None), output_encoding=None, receivers=None)
    model = load_localizer(missing)
    assert [line["event"] for line in quiet] == ["declaration_defaults", "no_uncertainty_output"]
    assert quiet[0]["defaults"] == {"output_encoding": "degrees-latlon-sigma", "receivers": 3}
    found = model.predict(features(1))
    assert (found.uncertainty_source, found.sigma_x.tolist(), found.sigma_y.tolist()) == ("absent", [0.0], [0.0])


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    def refused(kind: type[ModelInvalid], **members: Any) -> str:
        with pytest.raises(kind) as caught:
            load_localizer(pair(tmp_path, **members))
        return caught.value.message

    assert "its sha256 is" in refused(ArtifactMismatch, sha256="0" * 64)
    assert "there is no feature recipe 'x'" in refused(InvalidDeclaration, feature_recipe="x")
    assert "offset_m needs origin" in refused(InvalidDeclaration, position_encoding="offset_m")
    assert "expected float32 [batch, 2, 128, 32]" in refused(ModelInvalid, receivers=2)
    with pytest.raises(ModelInvalid, match="UQUEUE_ONNX_PROVIDERS names CUDA; here there is"):
        load_localizer(pair(tmp_path), OnnxOptions(providers=("CUDA",)))


def test_two_receivers_make_another_shape(tmp_path: Path) -> None:
    model = tiny_localizer(shape=("batch", 2, 128, 32))
    assert (
        load_localizer(pair(tmp_path, model, receivers=2)).predict(np.zeros((2, 8192), np.float32)).latitude.size == 2
    )


def test_the_threads_of_all_processes_are_no_more_than_the_cores() -> None:
    assert threads_for(10_000) == 1
    assert threads_for(1) * 1 >= threads_for(2) * 1 >= 1


# --- folder, cache and store ---


def test_a_folder_needs_both_files_and_a_new_declaration_is_a_new_version(tmp_path: Path) -> None:
    provider = open_provider(Settings(engine="onnx", workspace_root=tmp_path), NAME, ArtifactCache(tmp_path / "c"))
    assert isinstance(provider, LocalizerFolder)
    first = pair(tmp_path)
    assert provider.version() == first.version
    assert pair(tmp_path, semver="2").version != first.version
    assert not first.stale
    (tmp_path / "models" / NAME / "localization.json").unlink()
    with pytest.raises(UqueueError, match=r"localization\.json is missing"):
        LocalizerFolder(tmp_path, NAME).load()


def test_the_cache_gives_back_what_it_got(tmp_path: Path) -> None:
    stored, cache = pair(tmp_path / "w"), ArtifactCache(tmp_path / "cache")
    cache.put(stored)
    assert cache.get(NAME, stored.version) == stored
    assert cache.last_served(NAME) == stored
    cache.remember(NAME, "version 3", stored.version)
    assert (cache.remembered(NAME, "version 3"), cache.remembered(NAME, "4")) == (stored.version, "")
    (cache.place(NAME, stored.version) / "localization.json").write_bytes(b"{}")
    assert cache.get(NAME, stored.version) is None


def store_of(root: Path, cache: ArtifactCache, **options: Any) -> ModelStore:
    return ModelStore(NAME, LocalizerFolder(root, NAME), cache, LoadOptions(engine="onnx", **options))


def test_a_bad_candidate_is_refused_with_its_number_and_tried_again(tmp_path: Path) -> None:
    store = store_of(tmp_path, ArtifactCache(tmp_path / "cache"))
    write_localizer(tmp_path)
    store.start(None)
    assert (store.state, store.version is not None) == (ModelState.READY, True)
    good = store.version
    write_localizer(tmp_path, number="2", sha256="0" * 64)
    for _ in range(2):
        candidate = store.examine()
        assert (candidate.outcome, candidate.number) == ("rejected", "2")
        assert "its sha256 is" in (candidate.reason or "")
    assert store.version == good
    write_localizer(tmp_path, number="2")
    assert store.examine().outcome == "moved", "an older declaration file is no reason to refuse a new model"
    model = store.model
    assert isinstance(model, Localizer)
    assert (model.number, store.card().version if store.card() else None) == ("2", "2")  # type: ignore[union-attr]


def test_jobs_do_not_wait_for_a_move(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path / "cache")
    write_localizer(tmp_path, number="2")
    later = store_of(tmp_path, cache)
    later.start(None)
    write_localizer(tmp_path, number="1")
    store = store_of(tmp_path, cache)
    store.start(None)
    wish = Wish(later.version or "", 5)
    assert store.serve(wish).number == "1"
    assert store.follow(wish)
    assert store.serve(wish).number == "2"


def test_the_kind_of_model_is_that_of_the_engine(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path / "cache")
    stored = pair(tmp_path)
    cache.put(stored)
    store = ModelStore(NAME, None, cache, LoadOptions(engine="auto"))
    assert store.follow(Wish(stored.version)) is False
    assert "the engine auto evaluates a network and its calibration" in (store.reason or "")


def test_the_doctor_knows_what_a_folder_has_to_hold(tmp_path: Path) -> None:
    settings = Settings(engine="onnx", workspace_root=tmp_path)
    [found] = examine(settings)
    assert (found.level, "model.onnx, " in found.found) == ("fail", True)
    write_localizer(tmp_path, name="mccp-uq")
    [found] = examine(settings)
    assert found.level == "ok"


# --- catalog ---


def catalog_of(root: Path, text: str) -> ModelCatalog:
    (root / "models.toml").write_text(text.replace("FOLDER", str(root)))
    cache = ArtifactCache(root / "cache")

    def open_store(spec: ModelSpec, track: str, source: str | None) -> ModelStore:
        provider = LocalizerFolder(source or "", spec.name)
        return ModelStore(spec.name, provider, cache, LoadOptions(engine="onnx"), track=track)

    made = ModelCatalog(Catalog.load(Settings.load({"UQUEUE_MODELS": str(root / "models.toml")})), open_store)
    for store in made.stores.values():
        store.start(None)
    return made


def test_a_number_is_answered_by_the_track_that_serves_it(tmp_path: Path) -> None:
    write_localizer(tmp_path / "stable", number="3")
    write_localizer(tmp_path / "canary", number="4")
    text = '[models.localization_model]\nengine = "onnx"\nsource = "FOLDER/stable"\n'
    models = catalog_of(tmp_path, text + 'canary = { source = "FOLDER/canary", share = 0.5 }\n')

    def asked(version: str) -> Localizer:
        model = models.serve(PredictRequest.of(features(1), NAME, version=version), "job", {}).model
        assert isinstance(model, Localizer)
        return model

    stable = asked("3")
    assert stable is models.stores[NAME].model
    assert asked(stable.identity.version) is stable
    assert asked("canary").number == "4"
    with pytest.raises(VersionNotServed, match="versions in a folder have no names"):
        asked("4")  # the canary's folder is another one, in which 4 may be anything
    assert sorted(card.version for card in models.cards()) == ["3", "4"]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('source = "s3://bucket/a"', "come from a folder or an MLflow registry, not from a bucket"),
        ('source = "/a"\nshadow = { source = "/b" }', "has none; use a canary"),
    ],
)
def test_what_a_localization_model_cannot_have(tmp_path: Path, lines: str, words: str) -> None:
    (tmp_path / "m.toml").write_text(f'[models.a]\nengine = "onnx"\n{lines}\n')
    with pytest.raises(SettingsError, match=words):
        Catalog.load(Settings.load({"UQUEUE_MODELS": str(tmp_path / "m.toml")}))


def test_settings_of_its_own() -> None:
    with pytest.raises(SettingsError, match="not from a bucket"):
        Settings.load({"UQUEUE_ENGINE": "onnx", "UQUEUE_ARTIFACT_SOURCE": "s3://bucket/a"})
    plain = {"MLFLOW_TRACKING_URI": "http://mlflow:5000", "ONNXRUNTIME_PROVIDERS": "A, B"}
    read = Settings.load(plain)
    assert (read.mlflow_tracking_url, read.onnx_providers) == ("http://mlflow:5000", ("A", "B"))
    read = Settings.load({**plain, "UQUEUE_ONNX_PROVIDERS": "C", "MLFLOW_TRACKING_URI": "sqlite:///x.db"})
    assert (read.mlflow_tracking_url, read.onnx_providers) == (None, ("C",))
    assert Settings.load({}).onnx_providers == ("CPUExecutionProvider",)


# --- lane ---


def job_for(table: Any, attempt: int = 1, **options: Any) -> ClaimedJob:
    [application] = prepare(SETTINGS, table, NAME, **options).applications
    return ClaimedJob(application.job_id, attempt, application.message)  # type: ignore[arg-type]


def answers_of(model: Localizer, jobs: list[ClaimedJob]) -> tuple[dict[str, Answer], list[int]]:
    """Return the answers by job, and how many rows each run had."""
    served, runs = Served(model, ModelSpec.of(SETTINGS, NAME)), []
    run = model.session._run
    object.__setattr__(model.session, "_run", lambda rows: (runs.append(len(rows)), run(rows))[1])
    batch = Batch(SETTINGS, lambda *_: served, lambda job_id, rows: lambda done: None, Comparisons())
    found = {answer.job_id: answer for group in batch.answers(jobs, {}) for answer in group}
    object.__setattr__(model.session, "_run", run)
    return found, runs


def test_waiting_jobs_are_answered_from_common_runs(tmp_path: Path) -> None:
    model = load_localizer(pair(tmp_path), OnnxOptions(max_batch=4))
    tables = [features(1 + index % 2, seed=index) for index in range(7)]
    jobs = [job_for(table) for table in tables]
    jobs.append(job_for(tables[0], attempt=2))
    found, runs = answers_of(model, jobs)
    assert runs == [1, 4, 3, 3], "a job that was started before by itself, then whole jobs up to four rows"
    for job, table in zip(jobs, [*tables, tables[0]], strict=True):
        answer = read_answer(json.loads(found[job.id].celery_meta)["result"])
        assert isinstance(answer, Localization)
        assert answer.latitude == pytest.approx(model.predict(table).latitude, rel=1e-6)


def test_one_bad_job_spoils_no_other_and_one_bad_row_fails_its_job_alone(tmp_path: Path) -> None:
    model = load_localizer(pair(tmp_path, tiny_localizer(position=(90.0, 0.0), sway=0.01)))
    tables = [features(1, seed=seed) for seed in range(6)]
    bad = [job_for(np.zeros((1, 5), np.float32)), job_for(tables[0], target_dim=2)]
    jobs = [job_for(table) for table in tables]
    found, _ = answers_of(model, [bad[0], *jobs, bad[1]])
    for job in bad:
        assert isinstance(from_wire(json.loads(found[job.id].error_json)), InvalidFeatures)
    kinds = [type(answer) for answer in model.predict_together(np.concatenate(tables), [1] * 6)]
    for job, kind in zip(jobs, kinds, strict=True):
        error = found[job.id].error_json
        assert (kind is ModelOutputInvalid) == bool(error)
    assert set(kinds) == {Localization, ModelOutputInvalid}


def test_a_run_that_fails_is_tried_job_by_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_localizer(pair(tmp_path))
    run = model.session.run

    def only_alone(table: Any, on_progress: Any = None) -> Any:
        if len(table) > 1:
            raise InferenceFailed(model=NAME, version="1", reason="out of memory")
        return run(table, on_progress)

    monkeypatch.setattr(model.session, "run", only_alone)
    jobs = [job_for(features(1, seed=seed)) for seed in range(3)]
    found, _ = answers_of(model, jobs)
    assert [found[job.id].state for job in jobs] == ["succeeded"] * 3

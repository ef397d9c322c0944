"""`uqueue learn` as people type it, over a real Redis; the answers come from memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from builders.learning_answerer import answering
from builders.learning_scenarios import CLOCK
from builders.learning_services import CREATE, MAPS, MODIFY, OVER, SCENARIO, UNMAPPED, WAITS, services
from builders.learning_subject import NAMED
from builders.service import TESTS
from builders.waiting import eventually
from uqueue.cli import learn
from uqueue.cli.app import application
from uqueue.embedded import start_redis
from uqueue.learning import conversation
from uqueue.local import child_environment
from uqueue_config.settings import Settings
from uqueue_worker.learning.answering import Services, answer
from uqueue_worker.learning.avro import write_samples
from uqueue_worker.learning.engine.field_records import field_records
from uqueue_worker.learning.engine.store import Transition

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def redis_of_learning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with start_redis(tmp_path_factory.mktemp("redis")) as redis:
        yield Settings(broker_url=redis.url)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def kept(redis_of_learning: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    made = services(tmp_path_factory.mktemp("services"))
    with answering(redis_of_learning, lambda request: answer(request, made)):
        yield made


@pytest.fixture
def run(redis_of_learning: Settings, kept: Services, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `uqueue learn …` in this process; returns what it printed."""
    monkeypatch.setenv("UQUEUE_BROKER_URL", redis_of_learning.broker)

    def typed(*arguments: str, code: int = 0) -> Result:
        outcome = CliRunner().invoke(application(), ["learn", *arguments])
        assert outcome.exit_code == code, outcome.output
        assert "Traceback" not in outcome.output
        return outcome

    return typed


def test_a_run_is_configured_by_a_file_started_once_and_cancelled(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('max_cycles = 3\nstrategy = "high_fidelity"\n')
    (tmp_path / "run.json").write_text('{"max_cycles": 4}')
    config = ("--config", str(tmp_path / "run.toml"), "--key", "nightly")
    run_id = run("run", *config).stdout.strip()
    again = run("run", *config)
    assert again.stdout.strip() == run_id
    assert "had started this run before" in again.stderr
    shown = json.loads(run("status", run_id, "--json").stdout)
    assert shown["run"]["config"]["strategy"] == "high_fidelity"
    assert "high_fidelity" in run("status", run_id).stdout
    assert "nightly" not in run("run", "--config", str(tmp_path / "run.json")).stderr
    assert "cancelling" in run("cancel", run_id).stdout
    conflict = run("run", "--config", str(tmp_path / "run.json"), "--key", "nightly", code=1)
    assert "the idempotency key belongs to it" in conflict.stderr


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("run.toml", "max_cycles = 0\nstrategie = 1\n", "max_cycles"),
        ("run.toml", "max_cycles", "is not TOML"),
        ("run.json", "[1]", "holds no names and values"),
        ("run.json", "[" * 100_000, "is not JSON"),
        ("run.toml", "a = '\x00'", "is not TOML"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(name: str, text: str, complaint: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert complaint in run("run", "--config", str(tmp_path / name), code=2).stderr


def test_a_file_that_is_not_there_is_named(run: Run) -> None:
    assert "cannot be read" in run("run", "--config", "/nowhere/run.toml", code=2).stderr


def test_runs_spots_and_suggestions_are_tables_and_json(run: Run) -> None:
    assert OVER in run("list", "--status", "completed").stdout
    assert [one["run_id"] for one in json.loads(run("list", "--status", "completed", "--json").stdout)] == [OVER]
    assert f"rg_misc_{OVER}_1" in run("spots", OVER).stdout
    assert json.loads(run("spots", OVER, "--cycle", "0", "--json").stdout)["cycle"] == 0
    assert MODIFY in run("suggestions", WAITS, "--state", "proposed").stdout
    assert "There are no suggestions" in run("suggestions", OVER).stderr
    assert "no run none" in run("status", "none", code=1).stderr


def test_a_wrong_choice_says_what_there_is(run: Run) -> None:
    assert "'pending', 'running'" in run("list", "--status", "gone", code=2).stderr


def test_suggestions_are_decided(run: Run) -> None:
    assert "is approved" in run("approve", MODIFY).stderr
    assert json.loads(run("reject", CREATE, "--json").stdout)["run_status"] == "running"
    assert "it does not wait for this suggestion" in run("approve", CREATE, code=1).stderr


def test_features_are_mapped_to_parameters(run: Run) -> None:
    features = ("sensor_readings_map.readings.U30_BMI270.accel_z_g", "sample_metadata.U30_BMI270__tilt_degrees")
    assert f"heuristic_map({features[0]})" in run("suggestions", MAPS).stdout
    assert "map it first" in run("approve", UNMAPPED, code=1).stderr
    wrong = run("map", UNMAPPED, f"{features[0]}=environment.machines", code=2).stderr
    assert "nearest are environment.machinery" in " ".join(wrong.split())
    for pair in ("environment.machinery", "=environment.machinery", f"{features[0]}="):
        assert "expected FEATURE=PARAMETER" in run("map", UNMAPPED, pair, code=2).stderr
    pairs = [f"{features[0]}=environment.machinery", f"{features[1]}=environment.traffic"]
    assert "is proposed; run run-maps is waiting" in run("map", UNMAPPED, *pairs).stderr
    mapped = json.loads(run("map", UNMAPPED, pairs[1], "--json").stdout)["suggestion"]
    asked = mapped["suggested_modifications_for_specific_params"]
    assert [one["param_path"] for one in asked] == ["environment.machinery", "environment.traffic"]
    assert [one["feature_path"] for one in asked] == list(features)
    assert "is approved" in run("approve", UNMAPPED).stderr
    assert "does not wait for this suggestion" in run("map", UNMAPPED, pairs[0], code=1).stderr


def test_runs_are_listed_a_page_at_a_time(run: Run) -> None:
    first = run("list", "--limit", "1", "--json")
    (shown,) = json.loads(first.stdout)
    cursor = first.stderr.split("--cursor ")[1].strip()
    rest = run("list", "--cursor", cursor, "--json")
    assert shown["run_id"] not in rest.stdout
    assert rest.stderr == ""
    assert "There are more: --cursor" in run("list", "--limit", "1").stderr
    assert "cursor: expected the `next_cursor`" in run("list", "--cursor", "evil", code=2).stderr


def test_a_run_is_continued(run: Run, tmp_path: Path) -> None:
    assert "no run nothing" in run("run", "--continue", "nothing", code=1).stderr
    assert "it has no data sets to continue with" in run("run", "--continue", OVER, code=1).stderr
    (tmp_path / "run.toml").write_text('continues = "another"\n')
    (tmp_path / "sizes.toml").write_text("start_samples = 5\n")
    config = ("--config", str(tmp_path / "run.toml"))
    assert "names another run" in run("run", *config, "--continue", OVER, code=2).stderr
    sizes = ("--config", str(tmp_path / "sizes.toml"))
    assert (
        "start_samples: a run that continues another has its set"
        in run("run", *sizes, "--continue", OVER, code=2).stderr
    )
    assert "no other to go on with" in run("run", "--local", "--continue", OVER, code=2).stderr


def test_reports_go_to_a_file_or_into_a_pipe(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert f"{page}: " in run("report", OVER, "-o", str(page)).stderr
    assert page.read_text().startswith("<!doctype html>")
    assert run("report", OVER).stdout == page.read_text()
    run("report", OVER, "-o", str(tmp_path / "report.json"))
    assert json.loads((tmp_path / "report.json").read_text())["run"]["run_id"] == OVER
    assert run("report", OVER, "--format", "csv").stdout.count("\n") > 1
    assert "cannot be written" in run("report", OVER, "-o", "/nowhere/report.html", code=2).stderr
    assert "'html', 'json' or 'csv'" in run("report", OVER, "--format", "exe", code=2).stderr


def test_scenarios(run: Run) -> None:
    assert SCENARIO in run("scenarios", "search", "humid", "--tag", "class_CORONA").stdout
    wanted = json.dumps({"parameters": [{"path": "environment.relative_humidity_percent", "op": "lt", "value": 50}]})
    found = json.loads(run("scenarios", "search", "--filters", wanted, "--json").stdout)["scenarios"]
    assert [one["scenario_definition_id"] for one in found] == ["corona-dry"]
    assert "--cursor" in run("scenarios", "search", "--limit", "1").stderr
    assert "CoronaDischarge" in run("scenarios", "show", SCENARIO).stdout
    assert "insert" in run("scenarios", "history", SCENARIO).stdout
    assert "has version 3 now" in run("scenarios", "restore", SCENARIO, "1").stderr
    assert json.loads(run("scenarios", "show", SCENARIO, "--version", "2", "--json").stdout)["version"] == 2
    assert "is archived" in run("scenarios", "archive", "corona-dry").stderr
    assert "no scenario none" in run("scenarios", "show", "none", code=1).stderr
    assert "is not JSON" in run("scenarios", "search", "--filters", "{", code=2).stderr
    assert "filters" in run("scenarios", "search", "--filters", '{"1=1; --": 1}', code=2).stderr


def test_samples_from_the_field_are_given_to_a_run(run: Run, kept: Services) -> None:
    labelled = {"extracted_class_label": "ARC", "sensor_readings_map": {"readings": {}}}
    told = [{**labelled, "sample_id": name} for name in ("cli-1", "cli-2")]
    path = kept.data_roots[0] / "field.avro"
    write_samples(path, field_records(told, CLOCK).values())
    assert f"{MAPS} took 2 samples. They count from cycle 1 on" in run("feedback", str(path), "--run", MAPS).stderr
    again = json.loads(run("feedback", str(path), "--run", MAPS, "--json").stdout)
    assert again == {"run_id": MAPS, "taken": 0, "known": 2, "cycle": 1}
    assert "it goes after no more samples" in run("feedback", str(path), "--run", OVER, code=1).stderr
    assert "--run and --version" in run("feedback", str(path), "--run", MAPS, "--version", "3", code=2).stderr


def test_feedback_on_a_data_set_that_is_not_there(run: Run) -> None:
    assert "no data set" in run("feedback", "/etc/passwd", code=1).stderr


def ends_soon(kept: Services, run_id: str, status: str) -> threading.Timer:
    """Have a run end while somebody waits for it."""

    def end() -> None:
        run = kept.engine.store.get_run(run_id)
        ended = run.model_copy(update={"status": status, "revision": run.revision + 1})
        assert kept.engine.store.commit(Transition(ended))

    timer = threading.Timer(0.5, end)
    timer.start()
    return timer


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("failed", 1), ("waiting", 0)])
def test_waiting_ends_with_the_run(status: str, code: int, run: Run, kept: Services) -> None:
    run_id = run("run").stdout.strip()
    timer = ends_soon(kept, run_id, status)
    outcome = run("status", run_id, "--wait", "--json", code=code)
    timer.join()
    assert json.loads(outcome.stdout)["run"]["status"] == status
    assert outcome.stderr.splitlines()[0].startswith("pending: cycle 1 of at most 6, created")
    assert len(outcome.stderr.splitlines()) == 2


@pytest.fixture
def environment(redis_of_learning: Settings) -> dict[str, str]:
    return child_environment(redis_of_learning, os.environ)


@pytest.mark.usefixtures("kept")
def test_ctrl_c_leaves_the_run_alone(environment: dict[str, str], run: Run, tmp_path: Path) -> None:
    with (tmp_path / "err").open("wb") as errors:
        argv = [sys.executable, "-m", "uqueue", "learn", "run", "--wait"]
        waiting = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=errors)
        try:
            eventually(lambda: "pending: cycle 1" in (tmp_path / "err").read_text(), "it waits", seconds=30)
            waiting.send_signal(signal.SIGINT)
            assert waiting.wait(20) == 130
        finally:
            waiting.kill()
            waiting.communicate()
    said = (tmp_path / "err").read_text()
    assert "The run goes on. `uqueue learn status run-" in said
    assert "Traceback" not in said
    run_id = said.split("uqueue learn status ")[1].split("`")[0]
    assert json.loads(run("status", run_id, "--json").stdout)["run"]["status"] == "pending"


def test_without_a_worker_it_says_how_to_start_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "NO_WORKER_SECONDS", 0.2)
    nobody = f"{os.environ['UQUEUE_BROKER_URL'].rsplit('/', 1)[0]}/7"
    monkeypatch.setenv("UQUEUE_BROKER_URL", nobody)
    outcome = run("list", code=1)
    assert "celery -A uqueue_worker.learning.tasks worker -Q alm,simulate,train" in outcome.stderr
    assert outcome.stdout == ""


FAKE = """
import pathlib, signal, sys, time
pathlib.Path({seen!r}).write_text(" ".join(sys.argv[1:]))
def bye(*_):
    pathlib.Path({seen!r}).write_text("cleaned up")
    sys.exit(0)
signal.signal(signal.SIGINT, bye)
time.sleep({seconds})
sys.exit({code})
"""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, int, float], Path]:
    """Put a module in the place of the worker's, which notes its arguments."""

    def made(module: str, code: int, seconds: float = 0) -> Path:
        seen = tmp_path / "seen"
        folder = tmp_path / "modules"
        for part in module.split(".")[:-1]:
            folder /= part
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "__init__.py").touch()
        last = folder / f"{module.rpartition('.')[2]}.py"
        last.write_text(FAKE.format(seen=str(seen), code=code, seconds=seconds))
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
        return seen

    return made


@pytest.mark.parametrize(
    ("typed", "module", "arguments", "code"),
    [
        (
            ["run", "--local", "--config", "a.toml", "-o", "b", "--json"],
            "local",
            "--config=a.toml --output=b --json",
            0,
        ),
        (["migrate", "--dry-run"], "repository", "migrate --dry-run", 0),
        (["demo", "--quick", "-o", "there"], "demo", "--quick --output=there", 1),
    ],
)
def test_what_needs_the_worker_is_a_process(
    typed: list[str],
    module: str,
    arguments: str,
    code: int,
    fake: Callable[..., Path],
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = fake("fake_learning.entry", code)
    monkeypatch.setattr(learn, "MODULE_OF", {**learn.MODULE_OF, module: "fake_learning.entry"})
    run(*typed, code=code)
    assert seen.read_text() == arguments


def test_a_run_without_worker_redis_and_database(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real module of the worker, in a process of its own."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    monkeypatch.setenv("UQUEUE_LEARNING_SUBJECT", NAMED)
    (tmp_path / "run.toml").write_text("max_cycles = 1\n")
    argv = ["--config", str(tmp_path / "run.toml"), "--output", str(tmp_path / "there"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", learn.MODULE_OF["local"], *argv], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["run"]["status"], len(found["cycles"])) == ("completed", 1)
    assert "running: cycle 1 of at most 1, training" in done.stderr
    assert "<html" in (tmp_path / "there" / "report.html").read_text()
    (tmp_path / "run.toml").write_text("max_cycles = 0\nstrategie = 1\n")
    wrong = subprocess.run(
        [sys.executable, "-m", learn.MODULE_OF["local"], *argv], capture_output=True, text=True, timeout=120
    )
    assert wrong.returncode == 2
    assert "max_cycles" in wrong.stderr
    assert "strategie" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_migrating_says_which_database_is_missing() -> None:
    argv = [sys.executable, "-m", learn.MODULE_OF["repository"], "migrate"]
    missing = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert missing.returncode == 2
    assert "UQUEUE_LEARNING_DATABASE is not set" in missing.stderr


def test_ctrl_c_lets_a_process_clean_up(environment: dict[str, str], fake: Callable[..., Path], tmp_path: Path) -> None:
    seen = fake("fake_learning.entry", 0, 30.0)
    program = (
        "from uqueue.cli import app, learn; learn.MODULE_OF = {**learn.MODULE_OF, 'demo': 'fake_learning.entry'}; "
        "app.application()(['learn', 'demo'])"
    )
    path = os.pathsep.join(filter(None, [str(tmp_path / "modules"), os.environ.get("PYTHONPATH")]))
    running = subprocess.Popen([sys.executable, "-c", program], env={**environment, "PYTHONPATH": path})
    try:
        eventually(seen.exists, "the process runs", seconds=30)
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 130
    finally:
        running.kill()
        running.wait()
    assert seen.read_text() == "cleaned up"

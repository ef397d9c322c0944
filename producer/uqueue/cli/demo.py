"""`uqueue demo`: the whole story on one screen, with real processes, in a folder of its own.

train and calibrate → serve → ask → retrain while jobs flow → measure the coverage
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape

from uqueue.cli.failures import FAILED, OK
from uqueue.cli.output import complain, interval_cells, interval_columns, say, short, stdout, table
from uqueue.cli.rows import Format, read_rows
from uqueue.cli.signals import raised_once
from uqueue.cli.stage import DemoStopped, heading, last_words, spinner, wait_until
from uqueue.cli.traffic import JOBS_PER_SECOND, Tally, Traffic
from uqueue.cli.up import embedded_redis
from uqueue.client import Client
from uqueue.local import beat_service, child_environment, wait_for_worker, worker_service
from uqueue.supervisor import Service, Supervisor
from uqueue_config.prediction import IntervalPrediction
from uqueue_config.settings import Settings

PROCESSES = 2
SINGLE_JOBS = 5
TRAINING_SECONDS = 300.0
WAIT_SECONDS = 60.0
#: How long jobs still flow after the last process has moved, so that the new model is seen at work.
AFTERWARDS_SECONDS = 2.0


@dataclass(frozen=True)
class Stage:
    """What the steps share."""

    folder: Path
    environment: dict[str, str]
    client: Client
    supervisor: Supervisor

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"


def run(*, keep: bool) -> int:
    """Play the demo; return the exit code: 1 when a job failed or the coverage is outside its band."""
    started = time.monotonic()
    try:
        with raised_once(), _stage(keep) as stage:
            good = _play(stage)
    except DemoStopped as stopped:
        complain(str(stopped))
        return FAILED
    seconds = time.monotonic() - started
    stdout().print(f"\nDone in {seconds:.0f} s; every process was stopped. To go on:")
    stdout().print("  uqueue sample-workspace DIR && uqueue up --workspace DIR")
    return OK if good else FAILED


def _play(stage: Stage) -> bool:
    heading(
        "1  Train and calibrate", "A small network learns two targets' quantiles; held-out rows set its correction."
    )
    _train(stage, 1)
    rows = read_rows(str(stage.workspace / "sample" / "fresh_rows.csv"), Format.CSV)
    heading(
        "2  Serve", f"A Celery worker with {PROCESSES} processes loads the model; beat looks for new ones every second."
    )
    _serve(stage)
    heading("3  Ask", "Rows the training never saw go through the queue; intervals come back.")
    _ask_singly(stage, rows)
    _ask_at_once(stage, rows)
    heading(
        "4  Replace the model under load",
        f"The model is trained again, while {JOBS_PER_SECOND} jobs/s go on. None may fail or wait for it.",
    )
    tally = _replace(stage, rows)
    heading("5  Measure", "How many of the true values lie in the new model's intervals?")
    covered = _measure(stage, rows)
    return covered and not tally.failures


@contextlib.contextmanager
def _stage(keep: bool) -> Iterator[Stage]:
    with contextlib.ExitStack() as stack:
        if keep:
            folder = Path(tempfile.mkdtemp(prefix="uqueue-demo-"))
            say(f"Everything is kept in {folder}")
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="uqueue-demo-")))
        redis = stack.enter_context(embedded_redis(folder / "redis"))
        if redis.warning:
            say(f"warning: {redis.warning}")
        settings = _settings(folder, redis.url)
        environment = {**child_environment(settings, os.environ), "TF_CPP_MIN_LOG_LEVEL": "2"}
        client = stack.enter_context(Client(settings))
        yield Stage(folder, environment, client, stack.enter_context(Supervisor()))


def _settings(folder: Path, url: str) -> Settings:
    own = {
        "UQUEUE_BROKER_URL": url,
        "UQUEUE_WORKSPACE_ROOT": str(folder / "workspace"),
        "UQUEUE_CACHE_DIR": str(folder / "cache"),
        "UQUEUE_CONCURRENCY": str(PROCESSES),
        "UQUEUE_POLL_SECONDS": "1",
        "UQUEUE_SHUTDOWN_SECONDS": "5",
    }
    return Settings.load(own)


def _train(stage: Stage, seed: int) -> None:
    started = time.monotonic()
    training = _start_training(stage, seed)
    with spinner("training …"):
        wait_until(
            stage.supervisor, lambda: training.returncode is not None, TRAINING_SECONDS, "the training", but=training
        )
    _check(training)
    stdout().print(f"Trained and calibrated in {time.monotonic() - started:.0f} s.")


def _start_training(stage: Stage, seed: int) -> Service:
    argv = [sys.executable, "-m", "uqueue_worker.sample", "make", str(stage.workspace), "--seed", str(seed)]
    log_file = stage.folder / f"training-{seed}.log"
    return stage.supervisor.start(Service("training", argv, stage.environment, log_file=log_file))


def _check(training: Service) -> None:
    training.wait_for_output()
    if training.returncode != 0:
        raise DemoStopped(last_words(training))


def _serve(stage: Stage) -> None:
    settings = stage.client.settings
    worker = stage.supervisor.start(worker_service(settings, stage.environment, log_file=stage.folder / "worker.log"))
    stage.supervisor.start(beat_service(stage.environment, log_file=stage.folder / "beat.log"))
    with spinner("starting …"):
        found = wait_for_worker(stage.client, worker, PROCESSES, WAIT_SECONDS)
    if sum(one.version is not None for one in found) < PROCESSES:
        raise DemoStopped(f"only {len(found)} of {PROCESSES} processes serve. {last_words(worker)}")
    for one in found:
        stdout().print(f"process {one.pid} serves {one.model} {short(one.version)} with the {one.engine} engine")


def _ask_singly(stage: Stage, rows: Any) -> None:
    answers = [stage.client.submit([row]).result(timeout=WAIT_SECONDS) for row in rows[:SINGLE_JOBS]]
    lines = [[str(number), *interval_cells(answer, 0)[1:]] for number, answer in enumerate(answers, start=1)]
    version = short(answers[0].model.version)
    stdout().print(f"{SINGLE_JOBS} jobs of one row each, answered by {version}:")
    stdout().print(table(["job", *interval_columns(answers[0])[1:]], lines))
    if not all(answer.converged.all() for answer in answers):
        stdout().print("(not converged: the passes ended at the calibration's limit, not by its stop rule.)")


def _ask_at_once(stage: Stage, rows: Any) -> IntervalPrediction:
    started = time.monotonic()
    answer = stage.client.submit(rows).result(timeout=WAIT_SECONDS)
    seconds = time.monotonic() - started
    passes = answer.passes_used.mean()
    stdout().print(
        f"One job of {len(answer)} rows: {seconds:.2f} s, {passes:.0f} Monte Carlo passes per row on average."
    )
    return answer


def _replace(stage: Stage, rows: Any) -> Tally:
    before = stage.client.model().wanted_version
    with Traffic.jobs(stage.client, rows) as traffic, spinner("training again, jobs flow …"):
        training = _start_training(stage, 2)

        def moved() -> bool:
            status = stage.client.model()
            return training.returncode is not None and status.converged and status.wanted_version != before

        wait_until(
            stage.supervisor,
            lambda: training.returncode is not None,
            TRAINING_SECONDS,
            "the second training",
            but=training,
        )
        _check(training)
        wait_until(stage.supervisor, moved, WAIT_SECONDS, "the reload", but=training)
        time.sleep(AFTERWARDS_SECONDS)
    tally = traffic.tally
    after = stage.client.model()
    stdout().print(
        f"model before {short(before)}, after {short(after.wanted_version)} on {len(after.processes)} processes"
    )
    by_version = ", ".join(f"{count} by {short(version)}" for version, count in tally.answered.items())
    stdout().print(f"{tally.jobs} jobs meanwhile: {by_version}; {len(tally.failures)} failed")
    stdout().print(f"slowest answer {tally.slowest_seconds:.2f} s")
    for failure in tally.failures[:3]:
        complain(failure)
    return tally


def _measure(stage: Stage, rows: Any) -> bool:
    answers = stage.folder / "answers.json"
    answers.write_text(json.dumps(_ask_at_once(stage, rows).to_message()))
    argv = [sys.executable, "-m", "uqueue_worker.sample", "coverage", str(stage.workspace), str(answers)]
    measuring = stage.supervisor.start(Service("coverage", argv, stage.environment))
    wait_until(
        stage.supervisor, lambda: measuring.returncode is not None, WAIT_SECONDS, "the measurement", but=measuring
    )
    measuring.wait_for_output()
    stdout().print(escape(measuring.log_text()), soft_wrap=True)
    return measuring.returncode == 0

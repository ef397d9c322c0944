"""The Celery application of learning: its configuration, beat's entry, and evaluations that take several turns."""

from __future__ import annotations

from concurrent.futures import CancelledError
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from builders.learning_post import MemoryPost
from uqueue_config.errors import SettingsError
from uqueue_config.learning.names import LearningQueue, LearningTask
from uqueue_config.learning.runs import RunConfig
from uqueue_config.learning.settings import TICK_SECONDS, LearningSettings
from uqueue_config.settings import Settings
from uqueue_worker.configuration import celery_configuration
from uqueue_worker.learning import asked_evaluations, tasks
from uqueue_worker.learning.asked import LATER
from uqueue_worker.learning.asked_evaluations import AskedEvaluations
from uqueue_worker.learning.breaker import CircuitBreaker
from uqueue_worker.learning.demo.subject import fire_precursors
from uqueue_worker.learning.errors import RepositoryUnavailable, RunConfigInvalid
from uqueue_worker.learning.repository.breaking import BreakingDatabase
from uqueue_worker.learning.subject import load_subject

SETTINGS = Settings.load({"UQUEUE_BROKER_URL": "rediss://u:p@redis:6379/0?ssl_ca_certs=/ca.pem"})


def test_the_configuration_is_the_services_with_queues_and_limits_of_learning() -> None:
    learning = LearningSettings(train_seconds=5000)
    found, service = tasks.learning_configuration(SETTINGS, learning), celery_configuration(SETTINGS)
    assert found["broker_url"] == service["broker_url"] == SETTINGS.broker
    assert [queue.name for queue in found["task_queues"]] == [queue.value for queue in LearningQueue]
    assert (found["accept_content"], found["task_serializer"]) == (["json"], "json")
    assert found["worker_prefetch_multiplier"] == 1
    assert (found["result_backend"], found["task_ignore_result"], found["beat_schedule"]) == (None, True, {})
    transport = found["broker_transport_options"]
    assert transport["visibility_timeout"] > learning.train_seconds + tasks.GRACE_SECONDS
    assert transport["unacked_key"] != "unacked", "the service's workers restore what is in theirs sooner"
    assert found["task_time_limit"] > found["task_soft_time_limit"] == learning.step_seconds


def test_only_tasks_that_may_come_twice_are_acknowledged_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UQUEUE_LEARNING_DATABASE", "postgresql://x")
    monkeypatch.setenv("UQUEUE_LEARNING_DATA_DIR", "/nowhere")
    known = {name: task for name, task in tasks.app.tasks.items() if not name.startswith("celery.")}
    assert set(known) == {task.value for task in LearningTask}
    late = {LearningTask(name) for name, task in known.items() if task.acks_late}
    assert late == {LearningTask.ADVANCE, LearningTask.PART, LearningTask.TICK}
    again = {LearningTask(name) for name, task in known.items() if task.reject_on_worker_lost}
    assert again == {LearningTask.PART}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, None),
        ({"UQUEUE_LEARNING_TICK_SECONDS": "5"}, 5.0),
        ({"UQUEUE_LEARNING_DATABASE": "postgresql://x"}, TICK_SECONDS),
        ({"UQUEUE_LEARNING_DATABASE_FILE": "/dsn", "UQUEUE_LEARNING_TICK_SECONDS": "2"}, 2.0),
    ],
)
def test_beat_ticks_where_learning_is_configured(given: dict[str, str], expected: float | None) -> None:
    schedule = celery_configuration(SETTINGS, LearningSettings.load(given))["beat_schedule"]
    entry = schedule.pop("learning", None)
    assert schedule == celery_configuration(SETTINGS)["beat_schedule"]
    assert (entry and (entry["schedule"], entry["task"], entry["options"]["queue"])) == (
        expected and (expected, "uqueue.learning.tick", "alm")
    )


@pytest.mark.parametrize("missing", ["DATABASE", "DATA_DIR"])
def test_a_worker_ends_where_settings_are_missing(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"DATABASE": "postgresql://x", "DATA_DIR": str(tmp_path)}.items():
        if name != missing:
            monkeypatch.setenv(f"UQUEUE_LEARNING_{name}", value)
    with pytest.raises(SystemExit) as ended:
        tasks._settings()
    assert ended.value.code == 2
    assert f"UQUEUE_LEARNING_{missing}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "named", ["nowhere:at_all", "json:nothing", "json:loads", "builders.learning_runs:a_generator"]
)
def test_what_is_no_subject_is_refused(named: str) -> None:
    with pytest.raises(SettingsError, match=f"UQUEUE_LEARNING_SUBJECT: {named}"):
        load_subject(named)


def test_a_subject_says_what_a_run_has_and_refuses_others() -> None:
    subject = fire_precursors()
    config = subject.run_config(LearningSettings(max_cycles=3))
    assert (config.model, config.deployment, config.max_cycles) == (subject.model, subject.name, 3)
    subject.check(config)
    with pytest.raises(RunConfigInvalid, match=f"knows '{subject.model}'"):
        subject.check(RunConfig(deployment=subject.name))


class Handle:
    """An evaluation that is done after so many polls."""

    def __init__(self, polls: int) -> None:
        self.polls = polls

    def poll(self) -> str:
        self.polls -= 1
        return "running" if self.polls >= 0 else "done"

    def result(self) -> Any:
        if self.polls >= 0:
            raise CancelledError
        return "feedback"

    def to_message(self) -> dict[str, Any]:
        return {"polls": self.polls}


def test_an_evaluation_that_takes_long_goes_on_in_other_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked_evaluations, "TURN_SECONDS", -1)
    model = SimpleNamespace(submit_feedback=lambda **_: Handle(2), feedback_handle=lambda message: Handle(**message))
    post = MemoryPost()
    here, there = (AskedEvaluations(cast(Any, model), post) for _ in range(2))
    assert here.begin("t", "pool.avro", None) is LATER
    turns = 0
    for process in (there, here, there):
        (task, queue, arguments) = post.messages.pop()
        assert (task, queue, arguments["token"]) == (LearningTask.EVALUATE, "alm", "t")
        found = process.go_on("t", arguments["handle"])
        turns += 1
        if found is not LATER:
            break
    assert found == "feedback"
    assert turns > 1
    assert post.messages == []


def test_a_database_that_does_not_answer_is_left_alone_for_a_while() -> None:
    now = 0.0
    breaker = CircuitBreaker("repository", clock=lambda: now)
    database = BreakingDatabase("postgresql://nobody@127.0.0.1:1/none", breaker=breaker, wait_seconds=0.2)
    for _ in range(5):
        with pytest.raises(RepositoryUnavailable, match="refused"):
            database.read(lambda connection: connection.execute("select 1"))
    assert breaker.state == "open"
    with pytest.raises(RepositoryUnavailable, match="failed too often and is not asked"):
        database.write(lambda connection: connection.execute("select 1"))
    now = 31.0
    with pytest.raises(RepositoryUnavailable, match="refused"):
        database.read(lambda connection: connection.execute("select 1"))
    database.close()

"""What no worker could answer: kept with its reason, listed, shown, replayed and dropped."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from typer.testing import CliRunner, Result

from builders.artifacts import write_workspace
from builders.command import uqueue
from builders.poison_app import HEALED, POISON
from builders.service import RunningService, running_service
from uqueue import Client, Job, JobState
from uqueue.cli.app import application
from uqueue.embedded import start_redis
from uqueue_config.connections import connect
from uqueue_config.errors import JobAbandoned, LetterNotFound, LetterNotReplayable
from uqueue_config.ledger import Ledger, LedgerCommands, Outcome
from uqueue_config.names import Queue
from uqueue_config.settings import Settings

GOOD = np.zeros((1, 8))
DEADLY = np.full((1, 8), POISON)
HOSTILE = b'\x1b]0;owned\x07\x1b[2J{"id": \xff\xfe \xe2\x80\xae'


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, RunningService]]:
    """Two services, with and without the lane, that give a job up at its second attempt."""
    folder = tmp_path_factory.mktemp("poison")
    write_workspace(folder / "workspace")
    options: dict[str, Any] = {"workspace": folder / "workspace", "app": "builders.poison_app", "beat": False}
    with contextlib.ExitStack() as stack:
        found = {}
        for lane in ("on", "off"):
            env = {"UQUEUE_LANE": lane, "UQUEUE_MAX_ATTEMPTS": "2"}
            one = running_service(folder / lane, concurrency=2, env=env, wait=False, **options)
            found[lane] = stack.enter_context(one)
        for service in found.values():
            service.wait_for_worker(service.services["worker"])
        yield found
        for service in found.values():
            service.kill_worker()


def test_a_poison_job_ends_as_a_dead_letter_while_others_flow(services: dict[str, RunningService]) -> None:
    poison = {lane: service.client.submit(DEADLY, seed=7) for lane, service in services.items()}
    others = {lane: service.client.submit_many([GOOD] * 300) for lane, service in services.items()}
    for jobs in others.values():
        for job in jobs:
            job.result(timeout=60)
    numbers = {lane: _look_at_the_letter(service, poison[lane]) for lane, service in services.items()}
    root = services["on"].settings.workspace_root
    assert root is not None
    (root / HEALED).touch()
    for lane, service in services.items():
        uqueue(service.environment, "dead", "replay", str(numbers[lane]))
        assert len(poison[lane].result(timeout=30)) == 1, "it runs again"
        assert poison[lane].status().attempts == 1
        assert service.client.dead_letters.list().total == 0


def _look_at_the_letter(service: RunningService, job: Job) -> int:
    """Return the number of the only dead letter, which is the job's."""
    with pytest.raises(JobAbandoned, match="2 attempts"):
        job.result(timeout=60)
    listed = json.loads(uqueue(service.environment, "dead", "list", "--json").stdout)
    assert [(one["job_id"], one["queue"]) for one in listed["letters"]] == [(job.id, "predictions")]
    assert f"`uqueue dead show {job.id}`" in uqueue(service.environment, "result", job.id, code=1).stderr
    shown = json.loads(uqueue(service.environment, "dead", "show", job.id, "--json").stdout)
    assert "2 attempts" in shown["reason"]
    assert json.loads(json.loads(shown["message"])["body"])[1]["seed"] == 7
    return int(shown["number"])


@pytest.fixture
def letters(tmp_path: Path) -> Iterator[Letters]:
    """A Redis without workers that holds three letters: a job's, garbage, and one that was cut."""
    with start_redis(tmp_path) as redis, Client(Settings(broker_url=redis.url)) as client:
        job = client.submit(GOOD)
        with connect(redis.url) as connection:
            ledger, commands = Ledger(connection), LedgerCommands(timedelta(60), timedelta(60))
            abandoned = Outcome.failure(JobAbandoned(job_id=job.id, attempts=3))
            ledger.run(commands.commit([(job.id, abandoned)]))
            connection.delete(Queue.PREDICTIONS)
            ledger.run(commands.bury("celery", HOSTILE, "headers: [bold]\x1b[31mred"))
            ledger.run(commands.bury("predictions", b'{"a": [1, 2]}' + b" " * 70_000, "too long"))
            yield Letters(client, job, connection, {"UQUEUE_BROKER_URL": redis.url})


@dataclass
class Letters:
    client: Client
    job: Job
    redis: redis.Redis
    environment: dict[str, str]

    def run(self, *arguments: str, code: int = 0, stdin: str | None = None) -> Result:
        outcome = CliRunner().invoke(application(), ["dead", *arguments], env=self.environment, input=stdin)
        assert outcome.exit_code == code, outcome.output
        return outcome

    def numbers(self) -> list[int]:
        return [one.number for one in self.client.dead_letters.list().letters]


def test_letters_are_listed_newest_first_and_nothing_hostile_reaches_the_terminal(letters: Letters) -> None:
    assert letters.numbers() == [3, 2, 1]
    assert [one.number for one in letters.client.dead_letters.list(1, 1).letters] == [2]
    texts = [letters.run("list").stdout, *(letters.run("show", str(number)).stdout for number in (1, 2, 3))]
    for text in texts:
        assert all(one.isprintable() or one == "\n" for one in text)
    assert r"headers: [bold]\x1b[31mred" in texts[0]
    assert r"\x1b]0;owned\x07\x1b[2J{" in texts[2]
    assert '"features": [' in texts[1], "the body is shown as what it is"
    garbage = json.loads(letters.run("show", "2", "--json").stdout)
    assert base64.b64decode(garbage["message_base64"]) == HOSTILE
    assert json.loads(letters.run("list", "--count", "1", "--json").stdout)["total"] == 3


def test_replay_takes_what_can_be_replayed_and_says_why_not(letters: Letters) -> None:
    refused = letters.run("replay", "3", "99", code=1)
    assert "3 cannot be replayed: its message was not kept whole" in refused.stderr
    assert "There is no dead letter 99" in refused.stderr
    both = json.loads(letters.run("replay", "--all", "--json", code=1).stdout)
    assert (both["replayed"], list(both["refused"])) == ([1, 2], ["3"])
    assert letters.job.status().state == JobState.QUEUED
    assert letters.redis.llen(Queue.PREDICTIONS) == 1
    assert letters.redis.lrange("celery", 0, -1) == [HOSTILE]
    assert letters.numbers() == [3]
    assert letters.client.dead_letters.replay_all() == ()


def test_drop_asks_first(letters: Letters) -> None:
    assert "Nothing was dropped" in letters.run("drop", "1", code=1, stdin="n\n").stderr
    assert "--yes" in letters.run("drop", "1", code=2, stdin="").stderr
    assert "There is no dead letter 99" in letters.run("drop", "1", "99", "--yes", code=1).stderr
    assert letters.numbers() == [3, 2, 1]
    letters.run("drop", "1", stdin="y\n")
    assert letters.numbers() == [3, 2]
    assert json.loads(letters.run("drop", "--all", "--yes", "--json").stdout) == {"dropped": 2}
    assert "There are no dead letters" in letters.run("list").stderr
    assert letters.client.dead_letters.drop_all() == 0


def test_wrong_numbers_are_a_sentence(letters: Letters) -> None:
    for arguments, code, sentence in [
        ("show 99", 1, "There is no dead letter 99"),
        ("show count", 1, "There is no dead letter count"),
        ("replay", 2, "Name the numbers of dead letters, or give --all"),
        ("drop 1 --all", 2, "Name the numbers of dead letters, or give --all"),
        ("replay one", 2, "Invalid value for 'NUMBER'"),
    ]:
        outcome = letters.run(*arguments.split(), code=code)
        assert outcome.stdout == ""
        assert sentence in outcome.stderr


def test_wrong_numbers_are_typed_errors(letters: Letters) -> None:
    with pytest.raises(LetterNotFound):
        letters.client.dead_letters.get(99)
    with pytest.raises(LetterNotReplayable):
        letters.client.dead_letters.replay(3)
    assert letters.client.dead_letters.get(letters.job.id).number == 1

"""Requests to the learning worker over a real Redis: answered once, given up cleanly, never lost in silence."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pydantic import BaseModel

from builders.learning_answerer import answering
from builders.waiting import eventually
from uqueue import AsyncClient, Client
from uqueue.learning import conversation as conversing
from uqueue.learning.conversation import Conversation, conversation
from uqueue_config.connections import connect
from uqueue_config.envelope import celery_message, read_for_celery
from uqueue_config.errors import InputError, InternalError, PayloadTooLarge, ServiceUnreachable
from uqueue_config.learning.answers import Done, ReportFile
from uqueue_config.learning.errors import AnswerLate, LearningBusy, NoLearningWorker, RunConflict, RunNotFound
from uqueue_config.learning.names import PRESENCE_KEY, LearningQueue, answer_key, asked_key
from uqueue_config.learning.requests import ArchiveScenario, CancelRun, MakeReport, Request
from uqueue_config.ledger import Ledger
from uqueue_config.settings import Settings
from uqueue_worker.gate import Gate
from uqueue_worker.learning.asked import serve

QUEUE = LearningQueue.ALM.value
ARCHIVE = ArchiveScenario(scenario_id="s")
PAGE = "<p>“weak”</p>\n" * 120_000


@pytest.fixture
def settings(redis_url: str) -> Settings:
    """The queue beside the records, in a database of this file's own."""
    own = f"{redis_url.rsplit('/', 1)[0]}/5"
    with connect(own) as connection:
        connection.flushdb()
    return Settings(broker_url=own)  # type: ignore[arg-type]


@pytest.fixture(params=["one", "two"])
def either(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """The same, and with the records in another database."""
    if request.param == "one":
        return settings
    other = f"{settings.broker.rsplit('/', 1)[0]}/6"
    with connect(other) as connection:
        connection.flushdb()
    return Settings(broker_url=settings.broker, result_url=other)  # type: ignore[arg-type]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversing, "NO_WORKER_SECONDS", 0.3)
    monkeypatch.setattr(conversing, "_LOOK_SECONDS", 0.1)


def answer(request: Request[Any]) -> BaseModel:
    match request:
        case MakeReport():
            return ReportFile(run_id=request.run_id, format=request.format, content=PAGE + request.run_id)
        case CancelRun(run_id="gone"):
            raise RunNotFound(run_id="gone")
        case CancelRun(run_id="over"):
            raise RunConflict(run_id="over", status="completed", reason="it has ended")
        case CancelRun():
            raise ZeroDivisionError("the secret of the house")
    return Done()


def left_over(settings: Settings) -> list[bytes]:
    with connect(settings.broker) as queue, connect(settings.result_store) as records:
        keys = [*queue.scan_iter(), *records.scan_iter()]
    return [key for key in keys if key != PRESENCE_KEY.encode()]


def test_a_report_of_megabytes_comes_back_and_nothing_stays(either: Settings) -> None:
    with answering(either, answer), Client(either) as client:
        found = client.learning.report("run-1", "html")
        assert found.content == PAGE + "run-1"
        assert len(found.content.encode()) > 2_000_000
        client.learning.archive_scenario("s")
        assert left_over(either) == []


def test_errors_come_back_as_themselves(settings: Settings) -> None:
    with answering(settings, answer) as answerer, Client(settings) as client:
        with pytest.raises(RunNotFound, match="no run gone"):
            client.learning.cancel("gone")
        with pytest.raises(RunConflict, match="is completed: it has ended"):
            client.learning.cancel("over")
        with pytest.raises(InternalError, match="reference") as raised:
            client.learning.cancel("other")
        assert "secret" not in str(raised.value)
    failed = next(line for line in answerer.log if line["event"] == "request failed")
    assert (failed["request"], failed["reference"]) == ("cancel_run", raised.value.reference)
    outcomes = [line["outcome"] for line in answerer.log if line["event"] == "request answered"]
    assert outcomes == ["run_not_found", "run_conflict", "internal"]


def test_each_of_many_coroutines_gets_its_own_answer(either: Settings) -> None:
    async def ask() -> list[str]:
        async with AsyncClient(either) as client:
            made = await asyncio.gather(*(client.learning.report(f"run-{number}", "csv") for number in range(20)))
            with pytest.raises(RunNotFound):
                await client.learning.cancel("gone")
            return [one.content.removeprefix(PAGE) for one in made]

    with answering(either, answer, workers=3):
        assert asyncio.run(ask()) == [f"run-{number}" for number in range(20)]
    assert left_over(either) == []


def test_without_a_worker_it_says_how_to_start_one(settings: Settings) -> None:
    begun = time.monotonic()
    with Client(settings) as client, pytest.raises(NoLearningWorker) as raised:
        client.learning.archive_scenario("s")
    assert 2 < time.monotonic() - begun < 10
    assert "celery -A uqueue_worker.learning.tasks worker -Q alm,simulate,train" in str(raised.value)
    assert left_over(settings) == []


@pytest.mark.usefixtures("impatient")
def test_busy_workers_are_waited_for_and_then_told_of(either: Settings) -> None:
    async def ask() -> None:
        async with AsyncClient(either) as client:
            await client.learning.ask(ARCHIVE, timeout=0.8)

    with connect(either.result_store) as connection:
        connection.set(PRESENCE_KEY, "1")
    begun = time.monotonic()
    with pytest.raises(LearningBusy, match="nothing was done"):
        asyncio.run(ask())
    assert time.monotonic() - begun > 0.7
    assert left_over(either) == []


@pytest.mark.usefixtures("impatient")
def test_a_worker_that_starts_late_still_answers(settings: Settings) -> None:
    with connect(settings.result_store) as connection:
        connection.set(PRESENCE_KEY, "1")
    results: list[object] = []

    def ask() -> None:
        with Client(settings) as client:
            results.append(client.learning.ask(ARCHIVE, timeout=20))

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.6)
    with answering(settings, answer):
        asking.join()
    assert results == [Done()]


@pytest.mark.usefixtures("impatient")
def test_what_was_begun_is_not_called_undone(settings: Settings) -> None:
    done = threading.Event()

    def slowly(request: Request[Any]) -> BaseModel:
        done.wait(20)
        return Done()

    with answering(settings, slowly), Client(settings) as client:
        with pytest.raises(AnswerLate, match="may still take effect"):
            client.learning.ask(ARCHIVE, timeout=1.0)
        done.set()


@contextmanager
def withheld(settings: Settings) -> Iterator[bytes]:
    """Yield the message of a request that nobody takes, while its asker waits; given up at the end."""
    failures: list[Exception] = []

    def ask() -> None:
        with Client(settings) as client:
            try:
                client.learning.ask(ARCHIVE, timeout=1.0)
            except Exception as error:
                failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    with connect(settings.broker) as queue:
        eventually(lambda: queue.llen(QUEUE), "the request is in the queue")
        message: Any = queue.lindex(QUEUE, 0)
    yield message
    asking.join()


@pytest.mark.usefixtures("impatient")
def test_a_request_that_was_given_up_is_never_begun(settings: Settings) -> None:
    begun: list[object] = []
    with withheld(settings) as message:
        pass
    _, kwargs = read_for_celery(message)
    with connect(settings.result_store) as records:
        assert not serve(kwargs, lambda request: begun.append(request) or Done(), records)
    assert begun == []


@pytest.mark.usefixtures("impatient")
def test_a_message_that_is_delivered_twice_is_begun_once(settings: Settings) -> None:
    begun: list[object] = []
    with withheld(settings) as message, connect(settings.result_store) as records:
        _, kwargs = read_for_celery(message)
        assert kwargs["request"] == {"kind": "archive_scenario", "scenario_id": "s"}
        found = [serve(kwargs, lambda request: begun.append(request) or Done(), records) for _ in range(2)]
    assert found == [True, False]
    assert len(begun) == 1


def sent(steps: Conversation, reply: Any) -> Any:
    """Return the next step, or at the end the answer."""
    try:
        return steps.send(reply)
    except StopIteration as end:
        return end.value


def test_a_lost_reply_can_be_asked_for_again(either: Settings) -> None:
    steps = conversation(ARCHIVE, 20, 100_000)
    with connect(either.broker) as queue, connect(either.result_store) as records:
        reply: Any = None
        while not isinstance(step := sent(steps, reply), dict):
            connection = records if step.where == "records" else queue
            reply = connection.execute_command(*step.command)  # type: ignore[no-untyped-call]
            if step.command[0] == "LPUSH":
                _, kwargs = read_for_celery(step.command[2])
                token = kwargs["token"]
                assert records.ttl(asked_key(token)) > 20
                serve(kwargs, answer, records)
                assert 0 < records.ttl(answer_key(token)) <= 60
            if step.command[0] == "BLMOVE":  # as when the connection broke under the first reply
                reply = connection.execute_command(*step.command)  # type: ignore[no-untyped-call]
        assert step == {"done": True}
        assert not records.exists(answer_key(token))


def test_what_cannot_be_sent_is_refused_before(settings: Settings) -> None:
    small = settings.model_copy(update={"max_inline_bytes": 2000})
    with Client(small) as client:
        with pytest.raises(PayloadTooLarge, match="Name a data set"):
            client.learning.feedback(samples=[{"sample_id": "x" * 3000}])
        with pytest.raises(InputError, match="either `dataset` or `samples`"):
            client.learning.feedback()
        with pytest.raises(InputError, match="timeout"):
            client.learning.feedback("d", timeout=0)
    assert left_over(settings) == []


def test_a_redis_that_is_away_is_said() -> None:
    with Client(Settings(broker_url="redis://127.0.0.1:1/0")) as client, pytest.raises(ServiceUnreachable):  # type: ignore[arg-type]
        client.learning.runs()


@pytest.mark.parametrize(
    ("queue", "task", "reason"),
    [
        (QUEUE, "uqueue.learning.ask", None),
        (QUEUE, "uqueue.predict", "does not belong in the queue alm"),
        (QUEUE, "uqueue.learning.drop_tables", "unknown task"),
        ("predictions", "uqueue.learning.ask", "does not belong in the queue predictions"),
        ("control", "uqueue.learning.ask", "does not belong in the queue control"),
        ("celery", "uqueue.learning.ask", "does not belong in the queue celery"),
    ],
)
def test_tasks_travel_in_their_own_queues(queue: str, task: str, reason: str | None, settings: Settings) -> None:
    message = celery_message("some-job", task, {"schema": 1}, queue=queue, argsrepr="…").encode()
    with connect(settings.result_store) as records:
        envelope = Gate(settings, Ledger(records)).admit(queue, message)
        letters: Any = [records.hget(f"uqueue:dead:{number}", "reason") for number in range(1, 3)]
    if reason is None:
        assert envelope is not None
        assert envelope["headers"]["ignore_result"] is True  # its id may name somebody's job
        assert envelope["properties"]["delivery_info"]["routing_key"] == queue
    else:
        assert envelope is None
        assert reason in letters[0].decode()

"""Many jobs at a time through one `AsyncClient`, with the ledger in the place of a worker."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from uqueue import AsyncClient
from uqueue.aio import AsyncJob
from uqueue.gathering import Gatherer
from uqueue_config.connections import connect
from uqueue_config.errors import JobExpired, JobNotFinished, JobNotFound, QueueFull
from uqueue_config.ledger import Ledger, LedgerCommands, Outcome
from uqueue_config.names import Queue, job_key, result_key
from uqueue_config.settings import Settings

ROW = [[1.0, 2.0]]


@pytest.fixture
def settings(redis_url: str) -> Settings:
    with connect(redis_url) as connection:
        connection.flushdb()
    return Settings(broker_url=redis_url, queue_limit=500)


@pytest.fixture
def ledger(redis_url: str) -> Ledger:
    return Ledger(connect(redis_url))


@asynccontextmanager
async def opened(settings: Settings, count: int) -> AsyncIterator[tuple[AsyncClient, list[AsyncJob]]]:
    async with AsyncClient(settings) as client:
        yield client, await asyncio.gather(*(client.submit(ROW, f"m{number % 2}") for number in range(count)))


def commit(ledger: Ledger, settings: Settings, *outcomes: tuple[str, Outcome]) -> None:
    ledger.run(LedgerCommands(settings.result_ttl_seconds, settings.record_ttl_seconds).commit(outcomes))


def test_each_of_many_waits_hears_of_its_own_job(settings: Settings, ledger: Ledger) -> None:
    async def wait() -> list[int]:
        async with opened(settings, 300) as (_, jobs):
            assert ledger.connection.llen(Queue.PREDICTIONS.value) == 300
            early, late = jobs[::2], jobs[1::2]
            answers = {job.id: Outcome.success({"number": number}) for number, job in enumerate(jobs)}
            commit(ledger, settings, *((job.id, answers[job.id]) for job in early))
            waits = asyncio.gather(*(job.message(timeout=20) for job in jobs))
            await asyncio.sleep(0.2)
            await asyncio.to_thread(commit, ledger, settings, *((job.id, answers[job.id]) for job in late))
            return [message["number"] for message in await waits]

    assert asyncio.run(wait()) == list(range(300))


def test_those_for_whom_there_is_room_get_in(settings: Settings) -> None:
    async def submit() -> list[object]:
        async with AsyncClient(settings.model_copy(update={"queue_limit": 7})) as client:
            return await asyncio.gather(*(client.submit(ROW) for _ in range(20)), return_exceptions=True)

    answers = asyncio.run(submit())
    assert sum(isinstance(answer, AsyncJob) for answer in answers) == 7
    assert sum(isinstance(answer, QueueFull) for answer in answers) == 13


async def _unknown(client: AsyncClient, job: AsyncJob) -> object:
    return await client.job(str(uuid.uuid4())).result(timeout=5)


async def _not_finished(client: AsyncClient, job: AsyncJob) -> object:
    return await job.result(timeout=0.3)


async def _not_waited_for(client: AsyncClient, job: AsyncJob) -> object:
    return await job.result(timeout=0)


@pytest.mark.parametrize(
    ("ask", "error"),
    [(_unknown, JobNotFound), (_not_finished, JobNotFinished), (_not_waited_for, JobNotFinished)],
)
def test_what_has_no_result_is_said(
    settings: Settings, ask: Callable[[AsyncClient, AsyncJob], Awaitable[object]], error: type[Exception]
) -> None:
    async def wait() -> None:
        async with opened(settings, 1) as (client, [job]):
            with pytest.raises(error):
                await ask(client, job)

    asyncio.run(wait())


def test_a_failure_is_heard_as_one(settings: Settings, ledger: Ledger) -> None:
    async def wait() -> None:
        async with opened(settings, 1) as (_, [job]):
            waiting = asyncio.create_task(job.result(timeout=20))
            await asyncio.sleep(0.1)
            commit(ledger, settings, (job.id, Outcome.failure(JobExpired(job_id=job.id))))
            with pytest.raises(JobExpired):
                await waiting

    asyncio.run(wait())


@pytest.mark.parametrize("noise", [b"", b"{", b"[1]", b'{"status": "SUCCESS", "result": 7}', b"\xff"])
def test_what_others_publish_on_the_channel_is_no_answer(settings: Settings, ledger: Ledger, noise: bytes) -> None:
    async def wait() -> tuple[int, int]:
        async with opened(settings, 1) as (_, [job]):
            waiting = asyncio.create_task(job.message(timeout=20))
            await asyncio.sleep(0.1)
            ledger.connection.publish(result_key(job.id), noise)
            await asyncio.sleep(0.3)
            calls = int(ledger.connection.info("stats")["total_commands_processed"])
            await asyncio.sleep(0.5)
            looked = int(ledger.connection.info("stats")["total_commands_processed"]) - calls
            commit(ledger, settings, (job.id, Outcome.success({"number": 1})))
            return (await waiting)["number"], looked

    number, looked = asyncio.run(wait())
    assert number == 1
    assert looked < 50, "it waits, and does not ask again and again"


def test_waits_survive_the_loss_of_the_connection_that_listens(settings: Settings, ledger: Ledger) -> None:
    async def wait() -> list[int]:
        async with opened(settings, 20) as (_, jobs):
            waits = asyncio.gather(*(job.message(timeout=20) for job in jobs))
            await asyncio.sleep(0.2)
            assert ledger.connection.execute_command("CLIENT", "KILL", "TYPE", "pubsub") == 1
            await asyncio.sleep(0.2)
            answers = ((job.id, Outcome.success({"number": number})) for number, job in enumerate(jobs))
            commit(ledger, settings, *answers)
            return [message["number"] for message in await waits]

    assert asyncio.run(wait()) == list(range(20))


def test_what_was_let_go_is_gone_within_a_minute(settings: Settings, ledger: Ledger) -> None:
    async def wait() -> list[str]:
        async with opened(settings, 3) as (_, jobs):
            commit(ledger, settings, *((job.id, Outcome.success({})) for job in jobs[:2]))
            await asyncio.gather(*(job.message(timeout=20) for job in jobs[:2]))
            for job in (jobs[0], jobs[2]):
                job.let_go()
            return [job.id for job in jobs]

    gone, stays, runs = ((job_key(one), result_key(one)) for one in asyncio.run(wait()))
    assert all(0 < int(ledger.connection.ttl(key)) <= 60 for key in gone)
    assert all(int(ledger.connection.ttl(key)) > 60 for key in stays)
    assert int(ledger.connection.ttl(runs[0])) == -1, "it has not ended"


def test_nothing_stays_behind_after_the_waits(settings: Settings, ledger: Ledger) -> None:
    async def wait() -> int:
        async with opened(settings, 50) as (client, jobs):
            commit(ledger, settings, *((job.id, Outcome.success({})) for job in jobs))
            await asyncio.gather(*(job.message(timeout=20) for job in jobs))
            [one] = await asyncio.gather(client.submit(ROW))
            with pytest.raises(JobNotFinished):
                await one.result(timeout=0.1)
            return len(ledger.connection.pubsub_channels())

    assert asyncio.run(wait()) == 1


def test_what_is_gathered_goes_together_and_answers_apart() -> None:
    sent: list[list[int]] = []

    async def send(items: list[int]) -> list[int | Exception]:
        sent.append(items)
        await asyncio.sleep(0.01)
        if 99 in items:
            raise OSError("all of them")
        return [ValueError(item) if item < 0 else item * 2 for item in items]

    async def ask() -> list[object]:
        gatherer = Gatherer(send, most=4)
        together = asyncio.gather(*(gatherer.ask(item) for item in (1, -2, 3, 4, 5)), return_exceptions=True)
        await asyncio.sleep(0.001)
        gone = asyncio.create_task(gatherer.ask(6))
        await asyncio.sleep(0.001)
        gone.cancel()
        found = await together
        with pytest.raises(OSError, match="all of them"):
            await gatherer.ask(99)
        return [str(one) for one in found]

    assert asyncio.run(ask()) == ["2", "-2", "6", "8", "10"]
    assert sent == [[1, -2, 3, 4], [5, 6], [99]]

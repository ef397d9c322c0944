"""What Redis remembers of webhooks: each is taken by one gateway at a time, and none is lost with it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from uqueue import Client
from uqueue.gateway.webhooks import payload
from uqueue.gateway.webhooks_store import Taken, WebhookStore
from uqueue.submission import keyed_job_id
from uqueue_config.connections import connect, connect_async
from uqueue_config.errors import JobFailed
from uqueue_config.ledger import Ledger, LedgerCommands, Outcome
from uqueue_config.names import WEBHOOKS_KEY, webhook_key
from uqueue_config.settings import Settings

URL = "https://example.org/hook"
LEASE = 30.0
Step = Callable[[WebhookStore], Awaitable[Any]]


class Place:
    """A Redis, a client that submits, and stores as gateways have them."""

    def __init__(self, url: str) -> None:
        self.settings = Settings.load({"UQUEUE_BROKER_URL": url})
        self.client = Client(self.settings)
        self.redis: redis.Redis = connect(url)

    def run(self, step: Step) -> Any:
        async def running() -> Any:
            async with self.store() as store:
                return await step(store)

        return asyncio.run(running())

    @asynccontextmanager
    async def store(self) -> AsyncIterator[WebhookStore]:
        async with connect_async(self.settings.result_store) as connection:
            yield WebhookStore(self.settings, connection)

    def submit(self, url: str = URL) -> str:
        """Submit a job whose end is to be told."""
        key = uuid.uuid4().hex
        assert self.run(lambda store: store.put(keyed_job_id(key), url, "")) == "new"
        return self.client.submit([[1.0, 2.0]], idempotency_key=key).id

    def end(self, job_id: str, outcome: Outcome | None = None) -> None:
        commands = LedgerCommands(self.settings.result_ttl_seconds, self.settings.record_ttl_seconds)
        Ledger(self.redis).run(commands.commit([(job_id, outcome or Outcome.success({}))]))

    def take(self, most: int = 100, lease_seconds: float = LEASE, announced: tuple[str, ...] = ()) -> Taken:
        taken: Taken = self.run(lambda store: store.take(most, lease_seconds, announced))
        return taken

    def make_due(self, job_id: str) -> None:
        self.redis.zadd(WEBHOOKS_KEY, {job_id: 1})

    def due_in(self, job_id: str) -> float:
        score: Any = self.redis.zscore(WEBHOOKS_KEY, job_id)
        return score / 1000 - time.time()


@pytest.fixture
def place(redis_url: str) -> Iterator[Place]:
    place = Place(redis_url)
    place.redis.delete(WEBHOOKS_KEY)
    with place.client, place.redis:
        yield place
        place.redis.delete(WEBHOOKS_KEY)


def test_the_end_of_a_job_is_told_once(place: Place) -> None:
    job_id = place.submit()
    assert place.take(announced=(job_id,)).due == []
    place.end(job_id)
    (due,) = place.take(announced=(job_id,)).due
    assert (due.job_id, due.url, due.tries, due.state, due.error) == (job_id, URL, 1, "succeeded", None)
    assert place.take(announced=(job_id,)).due == []  # it is another gateway's for the time of the lease
    place.run(lambda store: store.note(due, "delivered", status=200, reason=""))
    state = place.run(lambda store: store.state(job_id))
    assert (state.state, state.tries, state.status) == ("delivered", 1, 200)
    assert place.redis.zscore(WEBHOOKS_KEY, job_id) is None
    assert place.redis.ttl(webhook_key(job_id)) > 0
    assert place.take(announced=(job_id,)).due == []


def test_an_end_that_nobody_announced_is_found(place: Place) -> None:
    ended, running = place.submit(), place.submit()
    assert 1 < place.due_in(ended) < 3
    place.end(ended)
    for job_id in (ended, running):
        place.make_due(job_id)
    taken = place.take()
    assert [due.job_id for due in taken.due] == [ended]
    assert taken.open_jobs == [running]
    assert place.due_in(running) > 1


def test_an_open_job_is_looked_at_ever_more_rarely(place: Place) -> None:
    job_id = place.submit()
    pauses = []
    for age in (1, 60, 100_000):
        place.redis.hset(webhook_key(job_id), "created_at", str(int((time.time() - age) * 1000)))
        place.make_due(job_id)
        place.take()
        pauses.append(round(place.due_in(job_id)))
    assert pauses == [2, 30, 300]


def test_what_a_dead_gateway_had_taken_is_taken_again(place: Place) -> None:
    job_id = place.submit()
    place.end(job_id)
    (first,) = place.take(lease_seconds=0.01, announced=(job_id,)).due
    time.sleep(0.05)
    (second,) = place.take().due
    assert (first.tries, second.tries) == (1, 2)
    assert payload(first) == payload(second)
    place.run(lambda store: store.note(first, "failed", status=500, reason="late"))
    assert place.run(lambda store: store.state(job_id)).state == "sending"
    place.run(lambda store: store.note(first, "delivered", status=200, reason=""))  # late, and good news all the same
    assert place.run(lambda store: store.state(job_id)).state == "delivered"


def test_gateways_share_the_work(place: Place) -> None:
    jobs = [place.submit() for _ in range(40)]
    for job_id in jobs:
        place.end(job_id)

    async def both() -> list[Taken]:
        async with place.store() as one, place.store() as other:
            return await asyncio.gather(*(store.take(7, LEASE, jobs) for store in (one, other) for _ in range(4)))

    found = [due.job_id for taken in asyncio.run(both()) for due in taken.due]
    assert len(found) == len(set(found)) == 40


def test_a_retry_waits_and_a_try_not_made_does_not_count(place: Place) -> None:
    job_id = place.submit()
    place.end(job_id)
    (due,) = place.take(announced=(job_id,)).due
    place.run(lambda store: store.note(due, "retry", status=503, reason="it answered 503", delay_seconds=50.0))
    state = place.run(lambda store: store.state(job_id))
    assert (state.state, state.status, state.reason) == ("sending", 503, "it answered 503")
    assert 40 < (state.next_at.timestamp() - time.time()) <= 50
    assert 40 < place.due_in(job_id) <= 50
    place.make_due(job_id)
    (due,) = place.take().due
    place.run(lambda store: store.note(due, "later", status=0, reason="", delay_seconds=0.0))
    (due,) = place.take().due
    assert due.tries == 2


def test_more_than_one_gateway_can_send_wait_for_the_next_turn(place: Place) -> None:
    jobs = [place.submit() for _ in range(3)]
    for job_id in jobs:
        place.end(job_id)
    first = place.take(most=1, announced=tuple(jobs)).due
    assert len(first) == 1
    assert {due.job_id for due in [*first, *place.take().due]} == set(jobs)


def test_jobs_that_end_without_a_result_say_why(place: Place) -> None:
    cancelled, failed = place.submit(), place.submit()
    place.client.job(cancelled).cancel()
    place.end(failed, Outcome.failure(JobFailed(job_id=failed, reason="no luck")))
    found = {due.job_id: due.error for due in place.take(announced=(cancelled, failed)).due}
    assert [getattr(found[one], "code", None) for one in (cancelled, failed)] == ["job_cancelled", "job_failed"]
    assert b'"type":"job.cancelled"' in payload(place_due(place, cancelled))


def place_due(place: Place, job_id: str) -> Any:
    place.make_due(job_id)
    (due,) = place.take().due
    return due


def test_the_same_request_is_kept_once_and_another_is_a_conflict(place: Place) -> None:
    job_id = place.submit()
    assert place.run(lambda store: store.put(job_id, URL, "")) == "same"
    assert place.run(lambda store: store.put(job_id, f"{URL}2", "")) == "conflict"
    without = place.client.submit([[1.0, 2.0]], idempotency_key=uuid.uuid4().hex).id
    assert place.run(lambda store: store.put(without, URL, "")) == "conflict"
    assert place.run(lambda store: store.state(without)) is None


def test_the_webhook_of_a_job_that_was_refused_goes_with_it(place: Place) -> None:
    job_id = str(uuid.uuid4())
    assert place.run(lambda store: store.put(job_id, URL, "")) == "new"
    assert place.run(lambda store: store.put(job_id, f"{URL}2", "")) == "new"
    place.make_due(job_id)
    assert place.take().due == []
    assert place.run(lambda store: store.state(job_id)).state == "waiting"
    place.redis.hset(webhook_key(job_id), "created_at", 1)
    place.make_due(job_id)
    assert place.take() == Taken([], [])
    assert place.run(lambda store: store.state(job_id)) is None
    assert place.redis.zscore(WEBHOOKS_KEY, job_id) is None

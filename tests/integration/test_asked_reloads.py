"""What a gateway may ask of a worker: a look at the artifacts of a model that it serves, and nothing else."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from uqueue import Client
from uqueue_config.connections import connect
from uqueue_config.envelope import read_celery_message
from uqueue_config.ledger import Ledger
from uqueue_config.names import RELOADS_KEY, Queue, job_key
from uqueue_config.settings import Settings
from uqueue_worker.asked_reloads import AskedReloads

TRACKS = ("m", "m@canary")


@pytest.fixture
def store(redis_url: str) -> Iterator[redis.Redis]:
    with connect(redis_url) as store:
        store.delete(RELOADS_KEY, Queue.CONTROL.value)
        yield store
        store.delete(RELOADS_KEY, Queue.CONTROL.value)


@pytest.fixture
def asked(store: redis.Redis, redis_url: str) -> AskedReloads:
    return AskedReloads(Settings.load({"UQUEUE_BROKER_URL": redis_url}), Ledger(store), TRACKS)


def polls(store: redis.Redis) -> list[tuple[str, dict[str, Any]]]:
    messages: Any = store.lrange(Queue.CONTROL.value, 0, -1)
    return [read_celery_message(message) for message in messages]


def test_a_note_becomes_one_poll_and_is_forgotten(store: redis.Redis, asked: AskedReloads) -> None:
    job_id = str(uuid.uuid4())
    store.hset(RELOADS_KEY, mapping={"m@canary": job_id, "another": "of another worker"})
    asked.grant()
    asked.grant()
    assert polls(store) == [("uqueue.artifacts.poll", {"model": "m@canary"})]
    assert json.loads(store.lindex(Queue.CONTROL.value, 0))["headers"]["id"] == job_id  # type: ignore[arg-type]
    assert store.hget(job_key(job_id), "state") == b"queued"
    assert store.hgetall(RELOADS_KEY) == {b"another": b"of another worker"}


def test_a_process_that_dies_between_leaves_one_poll(store: redis.Redis, asked: AskedReloads) -> None:
    job_id = str(uuid.uuid4())
    for _ in range(2):
        store.hset(RELOADS_KEY, "m", job_id)
        asked.grant()
    assert len(polls(store)) == 1


def test_the_next_note_is_not_forgotten_with_the_last(store: redis.Redis, asked: AskedReloads) -> None:
    store.hset(RELOADS_KEY, "m", "the next")
    asked._forget((RELOADS_KEY,), ("m", "the last"))
    assert store.hget(RELOADS_KEY, "m") == b"the next"


@pytest.mark.parametrize("note", ["", "evil", "x" * 100_000, '","task":"evil', "\xff", "0" * 37])
def test_what_is_no_id_is_dropped(note: str, store: redis.Redis, asked: AskedReloads) -> None:
    store.hset(RELOADS_KEY, "m", note)
    asked.grant()
    assert polls(store) == []
    assert not store.exists(RELOADS_KEY)


def test_the_id_of_a_prediction_changes_nothing(store: redis.Redis, asked: AskedReloads, redis_url: str) -> None:
    with Client(Settings.load({"UQUEUE_BROKER_URL": redis_url})) as client:
        job = client.submit([[1.0]], model="m-of-this-test")
    before = store.hgetall(job_key(job.id))
    store.hset(RELOADS_KEY, "m", job.id)
    asked.grant()
    assert polls(store) == []
    assert store.hgetall(job_key(job.id)) == before

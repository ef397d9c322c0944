"""A gateway's sender against a real Redis and a real receiver: outages, floods, one receiver that hangs."""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter

from builders.webhook_receiver import webhook_receiver
from uqueue import AsyncClient
from uqueue.embedded import start_redis
from uqueue.gateway.webhooks import MOST_TO_A_HOST, Webhooks
from uqueue.gateway.webhooks_signing import Secrets, new_secret
from uqueue.submission import keyed_job_id
from uqueue_config.settings import Settings


class Counts:
    """All that a sender needs of the gateway's metrics."""

    def __init__(self) -> None:
        self.webhooks = Counter("uqueue_webhooks", "Tries.", ("outcome",), registry=CollectorRegistry())


def settings_of(url: str) -> Settings:
    values = {"BROKER_URL": url, "WEBHOOK_SECRETS": new_secret(), "WEBHOOK_TIMEOUT_SECONDS": "30"}
    values |= {"WEBHOOK_ALLOW_HTTP": "on", "WEBHOOK_ALLOW_PRIVATE": "on", "WEBHOOK_RETRY_SECONDS": "0.1"}
    return Settings.load({f"UQUEUE_{name}": value for name, value in values.items()})


@asynccontextmanager
async def sending(settings: Settings) -> AsyncIterator[tuple[Webhooks, AsyncClient]]:
    async with AsyncClient(settings) as client:
        webhooks = Webhooks(settings, Secrets(settings), Counts())  # type: ignore[arg-type]
        webhooks.start()
        try:
            yield webhooks, client
        finally:
            await webhooks.close()


async def submit(webhooks: Webhooks, client: AsyncClient, url: str) -> str:
    key = uuid.uuid4().hex
    assert await webhooks.accept(keyed_job_id(key), url, "")
    job = await client.submit([[1.0]], idempotency_key=key)
    webhooks.watch(job.id)
    return job.id


async def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def test_one_receiver_that_hangs_does_not_hold_up_the_others(redis_url: str) -> None:
    async def scenario() -> None:
        with webhook_receiver() as receiver, socket.create_server(("127.0.0.1", 0)) as hangs:
            slow = f"http://127.0.0.1:{hangs.getsockname()[1]}/"
            async with sending(settings_of(redis_url)) as (webhooks, client):
                jobs = [await submit(webhooks, client, slow) for _ in range(100)]
                for job_id in jobs:
                    await client.job(job_id).cancel()
                await eventually(lambda: len(webhooks._sending) == MOST_TO_A_HOST)
                quick = [await submit(webhooks, client, f"{receiver.url}/quick") for _ in range(30)]
                for job_id in quick:
                    await client.job(job_id).cancel()
                await eventually(lambda: len(receiver.received) == len(quick), seconds=25)
                assert len(webhooks._sending) == MOST_TO_A_HOST  # none of the slow ones has ended by then

    asyncio.run(scenario())


def test_it_goes_on_after_an_outage_of_redis(tmp_path: Path) -> None:
    async def scenario() -> None:
        with start_redis(tmp_path / "redis", appendonly=True) as redis, webhook_receiver() as receiver:
            async with sending(settings_of(redis.url)) as (webhooks, client):
                first = await submit(webhooks, client, f"{receiver.url}/first")
                redis.process.terminate()
                redis.process.wait()
                await asyncio.sleep(1.5)
                with start_redis(tmp_path / "redis", appendonly=True, port=redis.port):
                    second = await submit(webhooks, client, f"{receiver.url}/second")
                    for job_id in (first, second):
                        assert (await client.job(job_id).cancel()).state == "cancelled"
                    await eventually(lambda: {one.path for one in receiver.received} == {"/first", "/second"})

    asyncio.run(scenario())

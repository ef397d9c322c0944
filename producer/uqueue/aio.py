"""The client under asyncio: the same calls with await. See `uqueue.client` for what each does and raises."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self, cast

import redis.asyncio

from uqueue.client import BATCH, GRACE_SECONDS, LOOK_SECONDS
from uqueue.status import ModelStatus, ReloadReport, job_status, raw_result, status_from
from uqueue.submission import Expires, Submission, prepare, prepare_many, prepare_poll
from uqueue_config.connections import connect_async, translated
from uqueue_config.errors import JobNotFound, ServiceUnreachable, UnknownModel
from uqueue_config.ledger import Application, AsyncLedger, JobRecord, JobStatus, LedgerCommands
from uqueue_config.messages import PollReport
from uqueue_config.names import (
    DEFAULT_MODEL,
    MODELS_KEY,
    candidate_key,
    comparison_key,
    result_key,
    serving_key,
    wanted_key,
)
from uqueue_config.prediction import IntervalPrediction
from uqueue_config.settings import Settings


class AsyncJob:
    """A submitted job; see `uqueue.Job`."""

    def __init__(self, job_id: str, client: AsyncClient) -> None:
        self.id = job_id
        self._client = client

    def __repr__(self) -> str:
        return f"AsyncJob({self.id!r})"

    async def status(self) -> JobStatus:
        """Return where the job stands. Raises JobNotFound."""
        return job_status(self.id, await self._client._read(self.id, with_result=False))

    async def result(self, timeout: float | None = None) -> IntervalPrediction:
        """Wait for the end of the job, at most `timeout` seconds, and return its intervals; errors as `Job.result`."""
        return IntervalPrediction.from_message(await self._client._await(self.id, timeout))

    async def cancel(self) -> JobStatus:
        """Cancel the job: at once while it is queued, at its next checkpoint while it runs. Raises JobNotFound."""
        return await self._client._cancel(self.id)


class AsyncClient:
    """Submits jobs to a uqueue service. Belongs to the event loop of its first call."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._given_settings = settings
        self._loaded: tuple[Settings, AsyncLedger, LedgerCommands] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        if self._loaded is not None:
            await self._loaded[1].connection.aclose()
            self._loaded = None

    @property
    def settings(self) -> Settings:
        """The settings in use. Raises SettingsError when the environment is not usable."""
        return self._parts()[0]

    async def submit(
        self,
        features: Any,
        model: str = DEFAULT_MODEL,
        *,
        seed: int | None = None,
        idempotency_key: str | None = None,
        expires: Expires = None,
        target_dim: int | None = None,
        version: str | None = None,
        sticky_key: str | None = None,
    ) -> AsyncJob:
        """Enqueue one job and return at once; arguments and errors as `Client.submit`."""
        options = {"seed": seed, "idempotency_key": idempotency_key, "expires": expires, "target_dim": target_dim}
        options |= {"version": version, "sticky_key": sticky_key}
        return (await self._open(prepare(self.settings, features, model, **options)))[0]  # type: ignore[arg-type]

    async def submit_many(
        self,
        list_of_features: Iterable[Any],
        model: str = DEFAULT_MODEL,
        *,
        expires: Expires = None,
        version: str | None = None,
        sticky_key: str | None = None,
    ) -> list[AsyncJob]:
        """Enqueue one job per element, several hundred per round trip; see `Client.submit_many`."""
        return await self._open(
            prepare_many(
                self.settings, list_of_features, model, expires=expires, version=version, sticky_key=sticky_key
            )
        )

    def job(self, id: str) -> AsyncJob:
        """Return a handle for a job submitted earlier. Nothing is looked up yet."""
        return AsyncJob(id, self)

    async def models(self) -> list[ModelStatus]:
        """Return every model known to the service, with who serves which version."""
        return [await self._model_status(name) for name in await self._model_names()]

    async def model(self, name: str = DEFAULT_MODEL) -> ModelStatus:
        """Return one model. Raises UnknownModel."""
        known = await self._model_names()
        if name not in known:
            raise UnknownModel(model=name, served=", ".join(known) or "none yet: no worker has reported")
        return await self._model_status(name)

    async def reload(self, model: str = DEFAULT_MODEL, *, timeout: float = 30.0) -> ReloadReport:
        """Make a worker look at the artifacts now and wait for every process; see `Client.reload`."""
        deadline = time.monotonic() + timeout
        await self.model(model)
        job = (await self._open(prepare_poll(model)))[0]
        poll = PollReport.model_validate(await self._await(job.id, timeout))
        while not (status := await self.model(model)).converged and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        return ReloadReport(poll, status)

    # --- what AsyncJob calls ---

    async def _read(self, job_id: str, *, with_result: bool) -> JobRecord | None:
        _, ledger, commands = self._parts()
        async with self._redis():
            return await ledger.run(commands.read(job_id, with_result=with_result))

    async def _cancel(self, job_id: str) -> JobStatus:
        _, ledger, commands = self._parts()
        async with self._redis():
            if await ledger.run(commands.cancel(job_id)) is None:
                raise JobNotFound(job_id=job_id)
        return await self.job(job_id).status()

    async def _await(self, job_id: str, timeout: float | None) -> Mapping[str, Any]:
        deadline = None if timeout is None else time.monotonic() + timeout
        give_up = deadline
        while True:
            try:
                return await self._await_connected(job_id, timeout, deadline)
            except ServiceUnreachable:
                give_up = give_up or time.monotonic() + GRACE_SECONDS
                if time.monotonic() >= give_up:
                    raise
                await asyncio.sleep(0.2)

    async def _await_connected(self, job_id: str, timeout: float | None, deadline: float | None) -> Mapping[str, Any]:
        async with self._redis() as connection, connection.pubsub(ignore_subscribe_messages=True) as announcements:
            await announcements.subscribe(result_key(job_id))
            while True:
                record = await self._read(job_id, with_result=True)
                left = LOOK_SECONDS if deadline is None else min(LOOK_SECONDS, deadline - time.monotonic())
                if record is None or record.state.terminal or left <= 0:
                    return raw_result(job_id, record, waited_seconds=timeout)
                await _next_announcement(announcements, left)

    async def _open(self, submission: Submission) -> list[AsyncJob]:
        settings, ledger, commands = self._parts()
        applications = submission.applications
        if submission.tables:
            await asyncio.to_thread(submission.store_payloads, settings)
        for first in range(0, len(applications), BATCH):
            async with self._redis():
                opened = await ledger.run(submission.command(commands, settings, first, first + BATCH))
            submission.check(opened, settings, first)
            if not settings.queue_is_with_records:
                await self._push(submission.queue, applications[first : first + BATCH])
        return [AsyncJob(one.job_id, self) for one in applications]

    async def _push(self, queue: str, applications: Sequence[Application]) -> None:
        broker_url = self.settings.broker
        with translated(broker_url):
            async with connect_async(broker_url) as broker:
                await cast(Any, broker.lpush(queue, *(one.message for one in applications)))

    async def _model_names(self) -> list[str]:
        async with self._redis() as connection:
            names = await cast(Any, connection.smembers(MODELS_KEY))
        return sorted(name.decode() for name in names)

    async def _model_status(self, name: str) -> ModelStatus:
        async with self._redis() as connection:
            pipeline = connection.pipeline(transaction=True)
            pipeline.smembers(serving_key(name))
            pipeline.hgetall(wanted_key(name))
            pipeline.hgetall(candidate_key(name))
            pipeline.hgetall(comparison_key(name))
            processes, wanted, candidate, comparison = await pipeline.execute()
            keys = [serving_key(name, process.decode()) for process in sorted(processes)]
            return status_from(name, await connection.mget(keys) if keys else [], wanted, candidate, comparison)

    @asynccontextmanager
    async def _redis(self) -> AsyncIterator[redis.asyncio.Redis]:
        settings, ledger, _ = self._parts()
        with translated(settings.result_store):
            yield ledger.connection

    def _parts(self) -> tuple[Settings, AsyncLedger, LedgerCommands]:
        if self._loaded is None:
            settings = self._given_settings or Settings.load()
            commands = LedgerCommands(settings.result_ttl_seconds, settings.record_ttl_seconds)
            self._loaded = settings, AsyncLedger(connect_async(settings.result_store)), commands
        return self._loaded


async def _next_announcement(announcements: Any, seconds: float) -> None:
    """Wait for one message; the confirmation of the subscription, which reads as None at once, is not one."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if await announcements.get_message(timeout=left) is not None:
            return

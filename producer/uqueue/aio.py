"""The client under asyncio: the same calls with await. See `uqueue.client` for what each does and raises."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, cast

import redis.asyncio
from redis.exceptions import RedisError

from uqueue.client import BATCH, GRACE_SECONDS, LOOK_SECONDS
from uqueue.ears import Ears
from uqueue.gathering import Gatherer
from uqueue.status import ModelStatus, ReloadReport, announced_result, job_status, raw_result, status_from
from uqueue.submission import Expires, Submission, prepare, prepare_many, prepare_poll, together
from uqueue_config.answers import read_answer
from uqueue_config.connections import connect_async, translated
from uqueue_config.errors import JobNotFound, ServiceUnreachable, UnknownModel
from uqueue_config.ledger import Application, AsyncLedger, JobRecord, JobStatus, LedgerCommands, Opened, Verdict
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

if TYPE_CHECKING:
    from uqueue.learning import AsyncLearning

#: How many submissions of one job each travel together, where many wait at a time, and how large these may be.
GATHERED = 128
GATHERED_BYTES = 16 * 1024


class AsyncJob:
    """A submitted job; see `uqueue.Job`."""

    def __init__(self, job_id: str, client: AsyncClient, *, is_new: bool = False) -> None:
        self.id = job_id
        self._client = client
        self._is_new = is_new

    def __repr__(self) -> str:
        return f"AsyncJob({self.id!r})"

    async def status(self) -> JobStatus:
        """Return where the job stands. Raises JobNotFound."""
        return job_status(self.id, await self._client._read(self.id, with_result=False))

    async def result(self, timeout: float | None = None) -> IntervalPrediction:
        """Wait for the end of the job, at most `timeout` seconds, and return its answer; see `Job.result`."""
        return cast(IntervalPrediction, read_answer(await self.message(timeout)))

    async def message(self, timeout: float | None = None) -> Mapping[str, Any]:
        """The same as the JSON object that the worker wrote."""
        return await self._client._await(self.id, timeout, is_new=self._is_new)

    def let_go(self) -> None:
        """Have its record and answer dropped within a minute, once it has ended; nobody waits for that, or for its
        success.
        """
        self._client._let_go(self.id)

    async def cancel(self) -> JobStatus:
        """Cancel the job: at once while it is queued, at its next checkpoint while it runs. Raises JobNotFound."""
        return await self._client._cancel(self.id)


class AsyncClient:
    """Submits jobs to a uqueue service. Belongs to the event loop of its first call."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._given_settings = settings
        self._loaded: tuple[Settings, AsyncLedger, LedgerCommands, Ears] | None = None
        self._openings: Gatherer[Submission, list[Opened]] = Gatherer(self._open_together, GATHERED)
        self._results: Gatherer[str, bytes | None] = Gatherer(self._stored, BATCH)
        self._endings: Gatherer[str, None] = Gatherer(self._read_once, BATCH)
        self._ending: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        if self._ending:
            await asyncio.wait(self._ending)
        for gatherer in (self._openings, self._results, self._endings):
            await gatherer.close()
        if self._loaded is not None:
            await self._loaded[3].close()
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
        idempotency_keys: Iterable[str] | None = None,
        expires: Expires = None,
        version: str | None = None,
        sticky_key: str | None = None,
    ) -> list[AsyncJob]:
        """Enqueue one job per element, several hundred per round trip; see `Client.submit_many`."""
        options = {"idempotency_keys": idempotency_keys, "expires": expires, "version": version}
        options |= {"sticky_key": sticky_key}
        return await self._open(
            prepare_many(self.settings, list_of_features, model, **options)  # type: ignore[arg-type]
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

    @property
    def learning(self) -> AsyncLearning:
        """Active learning: runs, weak spots, scenarios. Asks the learning worker, at the first call."""
        from uqueue.learning import AsyncLearning  # only programs that use it need it

        return AsyncLearning(self)

    # --- what AsyncJob calls ---

    async def _read(self, job_id: str, *, with_result: bool) -> JobRecord | None:
        _, ledger, commands, _ = self._parts()
        async with self._redis():
            return await ledger.run(commands.read(job_id, with_result=with_result))

    async def _cancel(self, job_id: str) -> JobStatus:
        _, ledger, commands, _ = self._parts()
        async with self._redis():
            if await ledger.run(commands.cancel(job_id)) is None:
                raise JobNotFound(job_id=job_id)
        return await self.job(job_id).status()

    def _let_go(self, job_id: str) -> None:
        task = asyncio.get_running_loop().create_task(self._end(job_id))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _end(self, job_id: str) -> None:
        with contextlib.suppress(RedisError):  # then it stays as long as others do
            await self._endings.ask(job_id)

    async def _read_once(self, job_ids: list[str]) -> Sequence[None]:
        _, ledger, commands, _ = self._parts()
        await ledger.run(commands.read_once(job_ids))
        return [None] * len(job_ids)

    async def _await(self, job_id: str, timeout: float | None, *, is_new: bool = False) -> Mapping[str, Any]:
        """Return the stored result of a job; `is_new` where it was opened a moment ago, so that it must be known."""
        deadline = None if timeout is None else time.monotonic() + timeout
        give_up = deadline
        while True:
            try:
                return await self._await_connected(job_id, timeout, deadline, is_new=is_new)
            except ServiceUnreachable:
                give_up = give_up or time.monotonic() + GRACE_SECONDS
                if time.monotonic() >= give_up:
                    raise
                await asyncio.sleep(0.2)

    async def _await_connected(
        self, job_id: str, timeout: float | None, deadline: float | None, *, is_new: bool
    ) -> Mapping[str, Any]:
        ears, channel = self._parts()[3], result_key(job_id)
        async with self._redis(), ears.listening(channel) as ear:
            stored = await self._results.ask(channel)
            result, look = announced_result(stored), stored is not None or not is_new
            while result is None:
                left = LOOK_SECONDS if deadline is None else min(LOOK_SECONDS, deadline - time.monotonic())
                if look or left <= 0:
                    record = await self._read(job_id, with_result=True)
                    if record is None or record.state.terminal or left <= 0:
                        return raw_result(job_id, record, waited_seconds=timeout)
                result, look = announced_result(await ear.next(left)), True
            return result

    async def _stored(self, keys: list[str]) -> Sequence[bytes | None]:
        return cast(Sequence[bytes | None], await self._parts()[1].connection.mget(keys))

    async def _open(self, submission: Submission) -> list[AsyncJob]:
        settings, ledger, commands, _ = self._parts()
        applications = submission.applications
        if submission.tables:
            await asyncio.to_thread(submission.store_payloads, settings)
        jobs = []
        for first in range(0, len(applications), BATCH):
            async with self._redis():
                if len(applications) == 1 and len(applications[0].message) <= GATHERED_BYTES:
                    opened = await self._openings.ask(submission)
                else:
                    opened = await ledger.run(submission.command(commands, settings, first, first + BATCH))
            submission.check(opened, settings, first)
            batch = applications[first : first + BATCH]
            if not settings.queue_is_with_records:
                await self._push(submission.queue, batch)
            for one, answer in zip(batch, opened, strict=True):
                jobs.append(AsyncJob(one.job_id, self, is_new=answer.verdict is Verdict.OPENED))
        return jobs

    async def _open_together(self, submissions: list[Submission]) -> Sequence[list[Opened] | Exception]:
        """Open the jobs of several callers, those that are alike in one step."""
        settings, ledger, commands, _ = self._parts()
        groups: dict[tuple[Any, ...], list[int]] = {}
        for number, one in enumerate(submissions):
            groups.setdefault((one.model, one.queue, one.expires_seconds), []).append(number)
        answers: list[list[Opened] | Exception] = [[]] * len(submissions)
        for numbers in groups.values():
            whole = together([submissions[number] for number in numbers])
            try:
                opened = await ledger.run(whole.command(commands, settings, 0, len(numbers), batch=False))
            except Exception as error:
                for number in numbers:
                    answers[number] = error
            else:
                for number, one_opened in zip(numbers, opened, strict=True):
                    answers[number] = [one_opened]
        return answers

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
        settings, ledger, *_ = self._parts()
        with translated(settings.result_store):
            yield ledger.connection

    def _parts(self) -> tuple[Settings, AsyncLedger, LedgerCommands, Ears]:
        if self._loaded is None:
            settings = self._given_settings or Settings.load()
            commands = LedgerCommands(settings.result_ttl_seconds, settings.record_ttl_seconds)
            ears = Ears(connect_async(settings.result_store, reply_seconds=None))
            self._loaded = settings, AsyncLedger(connect_async(settings.result_store)), commands, ears
        return self._loaded

"""The client: submit jobs, look at them, read their results, see and reload models."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, cast

import redis

from uqueue.announcements import Listeners
from uqueue.dead import DeadLetters
from uqueue.status import ModelStatus, ReloadReport, announced_result, job_status, raw_result, status_from
from uqueue.submission import Expires, Submission, prepare, prepare_many, prepare_poll
from uqueue_config.answers import read_answer
from uqueue_config.connections import connect, translated
from uqueue_config.errors import JobNotFound, ServiceUnreachable, UnknownModel
from uqueue_config.ledger import Application, JobRecord, JobStatus, Ledger, LedgerCommands
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
    from uqueue.learning import Learning

#: Jobs per round trip in `submit_many`.
BATCH = 500
#: A waiting client looks at the record this often even if no announcement came, which a reconnect may have missed.
LOOK_SECONDS = 1.0
#: How long a waiting client without a timeout puts up with an unreachable Redis.
GRACE_SECONDS = 30.0


class Job:
    """A submitted job. Holds no connection of its own; any number of them may exist for one id."""

    def __init__(self, job_id: str, client: Client) -> None:
        self.id = job_id
        self._client = client

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def status(self) -> JobStatus:
        """Return where the job stands. Raises JobNotFound."""
        return job_status(self.id, self._client._read(self.id, with_result=False))

    def result(self, timeout: float | None = None) -> IntervalPrediction:
        """Wait for the end of the job, at most `timeout` seconds (for ever if None), and return its intervals.

        A job of a localization model gives a `Localization`, one of a classifier a `Classification`, which type
        checkers have to be told (isinstance).
        Raises JobNotFinished, JobFailed and its subclasses, JobCancelled, JobExpired, ResultExpired, JobNotFound, the
        worker's InvalidFeatures and ModelError, or ServiceUnreachable.
        """
        return cast(IntervalPrediction, read_answer(self._client._await(self.id, timeout)))

    def cancel(self) -> JobStatus:
        """Cancel the job: at once while it is queued, at its next checkpoint while it runs. Raises JobNotFound."""
        return self._client._cancel(self.id)


class Client:
    """Submits jobs to a uqueue service. Connects at its first call; safe to share between threads."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._given_settings = settings
        self._loaded: tuple[Settings, Ledger, LedgerCommands, Listeners] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        if self._loaded is not None:
            self._loaded[3].close()
            self._loaded[1].connection.close()
            self._loaded = None

    @property
    def settings(self) -> Settings:
        """The settings in use. Raises SettingsError when the environment is not usable."""
        return self._parts()[0]

    def submit(
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
    ) -> Job:
        """Enqueue one job for `features` (rows, columns) and return at once.

        seed             makes the passes repeatable; derived from the job's id unless given
        idempotency_key  the same key and request give the same job; another request raises IdempotencyConflict
        expires          seconds, timedelta or moment after which a job that has not started is dropped
        target_dim       refuse a model that has another number of targets
        version          stable, canary, a version that `models` shows, or a name that the model's source has for one
        sticky_key       jobs with one key are all answered by stable or all by canary; each by itself unless given
        Raises InvalidFeatures, PayloadTooLarge, InputError, QueueFull, IdempotencyConflict, StoreFull,
        ServiceUnreachable.
        """
        options = {"seed": seed, "idempotency_key": idempotency_key, "expires": expires, "target_dim": target_dim}
        options |= {"version": version, "sticky_key": sticky_key}
        return self._open(prepare(self.settings, features, model, **options))[0]  # type: ignore[arg-type]

    def submit_many(
        self,
        list_of_features: Iterable[Any],
        model: str = DEFAULT_MODEL,
        *,
        idempotency_keys: Iterable[str] | None = None,
        expires: Expires = None,
        version: str | None = None,
        sticky_key: str | None = None,
    ) -> list[Job]:
        """Enqueue one job per element, several hundred per round trip.

        All elements are checked before the first is sent. `idempotency_keys` holds one for each of them. Raises as
        `submit` does; QueueFull says how many were accepted before the queue was full.
        """
        options = {"idempotency_keys": idempotency_keys, "expires": expires, "version": version}
        options |= {"sticky_key": sticky_key}
        return self._open(prepare_many(self.settings, list_of_features, model, **options))  # type: ignore[arg-type]

    def job(self, id: str) -> Job:
        """Return a handle for a job submitted earlier, by whomever. Nothing is looked up yet."""
        return Job(id, self)

    @property
    def dead_letters(self) -> DeadLetters:
        """The messages that no worker could answer: list, look at, replay, drop. Nothing is looked up yet."""
        settings, ledger, commands, _ = self._parts()
        return DeadLetters(settings, ledger, commands)

    def models(self) -> list[ModelStatus]:
        """Return every model known to the service, with who serves which version."""
        return [self._model_status(name) for name in self._model_names()]

    def model(self, name: str = DEFAULT_MODEL) -> ModelStatus:
        """Return one model. Raises UnknownModel."""
        known = self._model_names()
        if name not in known:
            raise UnknownModel(model=name, served=", ".join(known) or "none yet: no worker has reported")
        return self._model_status(name)

    def reload(self, model: str = DEFAULT_MODEL, *, timeout: float = 30.0) -> ReloadReport:
        """Make a worker look at the artifacts now, and wait until every process serves the wanted version.

        Raises JobNotFinished when no worker answers in `timeout` seconds. A version that was refused is no exception:
        `report.poll.outcome` and `.reason` say so, and the old version keeps serving.
        """
        deadline = time.monotonic() + timeout
        self.model(model)
        job = self._open(prepare_poll(model))[0]
        poll = PollReport.model_validate(self._await(job.id, timeout))
        while not (status := self.model(model)).converged and time.monotonic() < deadline:
            time.sleep(0.05)
        return ReloadReport(poll, status)

    @property
    def learning(self) -> Learning:
        """Active learning: runs, weak spots, scenarios. Asks the learning worker, at the first call."""
        from uqueue.learning import Learning  # only programs that use it need it

        return Learning(self)

    # --- what Job calls ---

    def _read(self, job_id: str, *, with_result: bool) -> JobRecord | None:
        _, ledger, commands, _ = self._parts()
        with self._redis():
            return ledger.run(commands.read(job_id, with_result=with_result))

    def _cancel(self, job_id: str) -> JobStatus:
        _, ledger, commands, _ = self._parts()
        with self._redis():
            if ledger.run(commands.cancel(job_id)) is None:
                raise JobNotFound(job_id=job_id)
        return self.job(job_id).status()

    def _await(self, job_id: str, timeout: float | None) -> Mapping[str, Any]:
        if timeout is not None and timeout <= 0:  # nothing to listen for
            return raw_result(job_id, self._read(job_id, with_result=True), waited_seconds=timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        give_up = deadline
        while True:
            try:
                return self._await_connected(job_id, timeout, deadline)
            except ServiceUnreachable:
                give_up = give_up or time.monotonic() + GRACE_SECONDS
                if time.monotonic() >= give_up:
                    raise
                time.sleep(0.2)

    def _await_connected(self, job_id: str, timeout: float | None, deadline: float | None) -> Mapping[str, Any]:
        listeners = self._parts()[3]
        with self._redis(), listeners.listening(result_key(job_id)) as announcements:
            while True:
                record = self._read(job_id, with_result=True)
                left = LOOK_SECONDS if deadline is None else min(LOOK_SECONDS, deadline - time.monotonic())
                if record is None or record.state.terminal or left <= 0:
                    return raw_result(job_id, record, waited_seconds=timeout)
                result = announced_result(announcements.next(left))
                if result is not None:
                    return result

    def _open(self, submission: Submission) -> list[Job]:
        settings, ledger, commands, _ = self._parts()
        applications = submission.applications
        submission.store_payloads(settings)
        for first in range(0, len(applications), BATCH):
            with self._redis():
                opened = ledger.run(submission.command(commands, settings, first, first + BATCH))
            submission.check(opened, settings, first)
            if not settings.queue_is_with_records:
                self._push(submission.queue, applications[first : first + BATCH])
        return [Job(one.job_id, self) for one in applications]

    def _push(self, queue: str, applications: Sequence[Application]) -> None:
        """Send messages whose records were written before; after a crash in between the sweeper does it."""
        broker_url = self.settings.broker
        with translated(broker_url), connect(broker_url) as broker:
            broker.lpush(queue, *(one.message for one in applications))

    def _model_names(self) -> list[str]:
        with self._redis() as connection:
            return sorted(name.decode() for name in cast(Any, connection.smembers(MODELS_KEY)))

    def _model_status(self, name: str) -> ModelStatus:
        with self._redis() as connection:
            pipeline = connection.pipeline(transaction=True)
            pipeline.smembers(serving_key(name))
            pipeline.hgetall(wanted_key(name))
            pipeline.hgetall(candidate_key(name))
            pipeline.hgetall(comparison_key(name))
            processes, wanted, candidate, comparison = pipeline.execute()
            keys = [serving_key(name, process.decode()) for process in sorted(processes)]
            return status_from(name, cast(Any, connection.mget(keys)) if keys else [], wanted, candidate, comparison)

    @contextmanager
    def _redis(self) -> Iterator[redis.Redis]:
        settings, ledger, _, _ = self._parts()
        with translated(settings.result_store):
            yield ledger.connection

    def _parts(self) -> tuple[Settings, Ledger, LedgerCommands, Listeners]:
        if self._loaded is None:
            settings = self._given_settings or Settings.load()
            commands = LedgerCommands(settings.result_ttl_seconds, settings.record_ttl_seconds)
            ledger = Ledger(connect(settings.result_store))
            self._loaded = settings, ledger, commands, Listeners(ledger.connection)
        return self._loaded

"""What one worker process has done, counted for Prometheus: in memory, and sent with the heartbeat.

How long jobs waited is known to their records alone. So of each batch one job is remembered, for all of it, and looked
up when the counts are sent: its jobs were claimed together, and one command per job would cost more than the job.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import redis

from uqueue_config.errors import JobCancelled
from uqueue_config.figures.outbox import Outbox, script
from uqueue_config.ledger import ClaimedJob
from uqueue_config.names import JobState, Queue, Task, job_key
from uqueue_worker.lane.batch import Answer, Batch, Work
from uqueue_worker.models.catalog import Wanted

#: How many jobs are looked up each time counts are sent; where there were more batches, chance decides which.
MOST_LOOKED_UP = 64
_PREDICT = Task.PREDICT.value
_QUEUE = Queue.PREDICTIONS.value


class Counts:
    """Collects in this process until `store` is called. Safe to use from several threads."""

    def __init__(self) -> None:
        self._outbox = Outbox()
        self._lock = threading.Lock()
        self._claimed: list[tuple[str, int]] = []
        # By labels, as they come; they are put into buckets when they are sent.
        self._ended: dict[tuple[str, str], list[tuple[float, int]]] = {}
        self._predicted: dict[str, list[tuple[float, int]]] = {}
        self._outcomes: dict[tuple[str, str], int] = {}
        self._chance = random.Random()  # noqa: S311

    def claimed(self, jobs: Sequence[ClaimedJob]) -> None:
        """Remember one of the jobs that were claimed together, for how long all waited."""
        job = jobs[int(self._chance.random() * len(jobs))]
        if job.attempt == 1:  # a later attempt has waited for the end of another process
            self.began(job.id, len(jobs))

    def began(self, job_id: str, jobs: int = 1) -> None:
        """Remember a job that stands for so many."""
        with self._lock:
            if len(self._claimed) < MOST_LOOKED_UP:
                self._claimed.append((job_id, jobs))
                return
            at = int(self._chance.random() * MOST_LOOKED_UP)
            known, weight = self._claimed[at]
            stays = self._chance.random() * (weight + jobs) < weight
            self._claimed[at] = (known if stays else job_id), weight + jobs

    def ended(self, outcome: str, seconds: float, times: int = 1, task: str = _PREDICT) -> None:
        """Count tasks that took so long."""
        with self._lock:
            self._ended.setdefault((task, outcome), []).append((seconds, times))

    def predicted(self, version: str, outcomes: Mapping[str, int], seconds: float) -> None:
        """Count jobs that a model answered together in so many seconds."""
        with self._lock:
            self._predicted.setdefault(version, []).append((seconds, 1))
            for outcome, times in outcomes.items():
                self._outcomes[version, outcome] = self._outcomes.get((version, outcome), 0) + times

    def answered(self, job_id: str, result: Mapping[str, Any], seconds: float) -> None:
        """Count a job that was answered by itself; `result` is its result message."""
        version = result.get("model_version") or result["model"]["version"]
        self.began(job_id)
        self.predicted(str(version), {JobState.SUCCEEDED.value: 1}, seconds)
        self.ended(JobState.SUCCEEDED.value, seconds)

    def failed(self, job_id: str, error: Exception, seconds: float) -> None:
        """Count a job that ended with an error, whichever model was to answer it."""
        outcome = JobState.CANCELLED if isinstance(error, JobCancelled) else JobState.FAILED
        self.began(job_id)
        self.ended(outcome.value, seconds)

    def store(self, connection: redis.Redis) -> None:
        """Add what was counted to the sums in Redis. Raises RedisError; what was counted is then kept."""
        self._sort()
        self._look_up(connection)
        if self._outbox.is_empty:
            return
        parcel = self._outbox.parcel()
        take: Any = connection.register_script(script())
        take(parcel.keys, parcel.args)
        self._outbox.confirm(parcel)

    def _sort(self) -> None:
        with self._lock:
            ended, predicted, outcomes = self._ended, self._predicted, self._outcomes
            self._ended, self._predicted, self._outcomes = {}, {}, {}
        for labels, durations in ended.items():
            self._outbox.add("uqueue_tasks_total", *labels, amount=sum(times for _, times in durations))
            self._outbox.observe_all("uqueue_task_duration_seconds", *labels, values=durations)
        for version, durations in predicted.items():
            self._outbox.observe_all("uqueue_model_inference_seconds", version, values=durations)
        for labels, times in outcomes.items():
            self._outbox.add("uqueue_predictions_total", *labels, amount=times)

    def _look_up(self, connection: redis.Redis) -> None:
        with self._lock:
            claimed, self._claimed = self._claimed, []
        pipeline = connection.pipeline(transaction=False)
        for job_id, _ in claimed:
            pipeline.hmget(job_key(job_id), ["created_at", "started_at"])
        try:
            found = cast(Any, pipeline.execute())
        except redis.RedisError:
            for job_id, jobs in claimed:
                self.began(job_id, jobs)
            raise
        for (_, jobs), (created_ms, started_ms) in zip(claimed, found, strict=True):
            if created_ms and started_ms:
                seconds = max(0, int(started_ms) - int(created_ms)) / 1000
                self._outbox.observe("uqueue_queue_wait_seconds", _QUEUE, value=seconds, times=jobs)


class CountedBatch(Batch):
    """A `Batch` that counts what it answers."""

    counts: Counts
    _alone = 0

    def answers(self, jobs: Sequence[ClaimedJob], wanted: Wanted) -> Iterator[list[Answer]]:
        begun = time.perf_counter()
        self.counts.claimed(jobs)
        for answers in super().answers(jobs, wanted):
            seconds = time.perf_counter() - begun
            for outcome, times in _outcomes(answers).items():
                self.counts.ended(outcome, seconds, times)
            yield answers

    def _answer_together(self, group: Sequence[Work]) -> Iterator[list[Answer]]:
        begun, alone = time.perf_counter(), self._alone
        for answers in super()._answer_together(group):
            if self._alone == alone:  # what was answered job by job has been counted
                self.counts.predicted(_version(group[0]), _outcomes(answers), time.perf_counter() - begun)
            yield answers
            begun, alone = time.perf_counter(), self._alone

    def _answer_alone(self, work: Work) -> Iterator[list[Answer]]:
        self._alone += 1
        begun = time.perf_counter()
        for answers in super()._answer_alone(work):
            self.counts.predicted(_version(work), _outcomes(answers), time.perf_counter() - begun)
            yield answers


def _outcomes(answers: Sequence[Answer]) -> dict[str, int]:
    states = {answer.state for answer in answers}
    return dict.fromkeys(states, len(answers)) if len(states) == 1 else Counter(answer.state for answer in answers)


def _version(work: Work) -> str:
    """Return the registered version of a localization model, the content's 16 characters of all others."""
    model: Any = work.model
    return str(getattr(model, "version", model.identity.version))

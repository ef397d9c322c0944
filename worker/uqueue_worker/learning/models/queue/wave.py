"""The jobs of one evaluation: sent so many at a time, answered in order."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Generic, TypeVar

from uqueue_config.classification import Classification
from uqueue_config.errors import (
    InvalidFeatures,
    JobCancelled,
    JobError,
    JobExpired,
    JobNotFinished,
    JobNotFound,
    ModelError,
    QueueFull,
    ResultExpired,
    ServiceUnreachable,
    StoreFull,
    UnknownModel,
    UqueueError,
    VersionNotServed,
)
from uqueue_worker.learning.errors import (
    FeatureMismatch,
    ModelIntegrity,
    ModelNotFound,
    ModelVersionNotFound,
    QueueTimeout,
)
from uqueue_worker.learning.models.features import Float32Array
from uqueue_worker.learning.models.queue.connection import QueueClient, QueueJob
from uqueue_worker.learning.models.queue.pinned import PinnedModel

CHUNK_ROWS = 128
#: How many jobs of one chunk that other evaluations gave up are passed over.
MOST_LINKS = 20
#: Chunks that go in one round trip, because each takes longer than to make the next chunk.
_SENT_TOGETHER = 8
#: A job that ended this long before an evaluation began, by Redis' clock against this one's, is none of its own.
CLOCK_SECONDS = 5.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.05, 1.0
_LINGER_SECONDS = 60.0
Told = TypeVar("Told")


@dataclass(frozen=True)
class QueueOptions:
    """How an evaluation uses the queue.

    chunk_rows            rows of one job
    max_in_flight         jobs of one evaluation that are sent and not yet answered
    explaining_in_flight  the same of the second wave, for explanations; fewer, so that others' jobs go first
    deadline_seconds      of a whole evaluation
    max_failed_fraction   share of the samples that may be without an answer
    """

    chunk_rows: int = CHUNK_ROWS
    max_in_flight: int = 32
    explaining_in_flight: int = 2
    deadline_seconds: float = 600.0
    max_failed_fraction: float = 0.02

    def __post_init__(self) -> None:
        if min(self.chunk_rows, self.max_in_flight, self.explaining_in_flight) < 1:
            raise ValueError("chunk_rows, max_in_flight, explaining_in_flight: expected at least 1")
        if not self.deadline_seconds > 0 or not 0 <= self.max_failed_fraction <= 1:
            raise ValueError("deadline_seconds: expected more than 0; max_failed_fraction: a share from 0 to 1")


@dataclass(frozen=True)
class Progress:
    """How far an evaluation is; `samples_total` is None where a file does not say, `explaining` in the second wave."""

    samples_done: int
    samples_failed: int
    samples_total: int | None
    jobs_in_flight: int
    explaining: bool = False


@dataclass(frozen=True)
class Deadline:
    """When an evaluation began and when it has to end, in seconds since the epoch: it may go on in another process."""

    began_at: float
    seconds: float

    @property
    def left_seconds(self) -> float:
        return self.began_at + self.seconds - time.time()

    def is_earlier(self, moment: datetime | None) -> bool:
        """Tell whether something ended before the evaluation began."""
        began = datetime.fromtimestamp(self.began_at, UTC)
        return moment is not None and moment < began - timedelta(seconds=CLOCK_SECONDS)

    def passed(self, reason: str) -> QueueTimeout:
        return QueueTimeout(timeout_seconds=f"{self.seconds:g}", reason=reason)


@dataclass
class Asked(Generic[Told]):
    """One job that was sent; `about` is what whoever sent it needs to make use of its answer."""

    about: Told
    columns: Float32Array
    job: QueueJob
    link: int = 0


class Wave(Generic[Told]):
    """Sends chunks of columns to one version and gives the answers in the same order."""

    def __init__(self, client: QueueClient, model: PinnedModel, deadline: Deadline, in_flight: int) -> None:
        self._client = client
        self._model = model
        self._deadline = deadline
        self._most = in_flight
        self._asked: deque[Asked[Told]] = deque()
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._trouble = ""

    @property
    def in_flight(self) -> int:
        return len(self._asked)

    @property
    def is_full(self) -> bool:
        return len(self._asked) >= self._most

    def answers(
        self, chunks: Iterable[tuple[Told, Float32Array]]
    ) -> Generator[tuple[Told, Classification | UqueueError]]:
        """Yield the answer to each chunk, or the error that its job ended with for good.

        Whatever ends this early, the deadline or whoever takes the answers, cancels the jobs that are still open.
        Raises QueueTimeout, and what no chunk can be answered with.
        """
        together = max(1, min(_SENT_TOGETHER, self._most // 4))
        rest = iter(chunks)
        try:
            while some := list(islice(rest, together)):
                while len(self._asked) > self._most - together:
                    yield self.receive()
                self._send(some)
            while self._asked:
                yield self.receive()
        finally:
            self.cancel()

    def receive(self) -> tuple[Told, Classification | UqueueError]:
        """Wait for the answer to the chunk that was sent first. Raises QueueTimeout."""
        while (found := self._received(wait=True)) is None:
            self._pause()
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        return found

    def try_to_send(self, *chunks: tuple[Told, Float32Array]) -> bool:
        """Send chunks, all or none; False where the queue takes nothing now. Raises QueueTimeout."""
        jobs = self._submit([columns for _, columns in chunks], 0)
        if jobs is None:
            return False
        self._asked += [Asked(about, columns, job) for (about, columns), job in zip(chunks, jobs, strict=True)]
        return True

    def try_to_receive(self) -> tuple[Told, Classification | UqueueError] | None:
        """Return the answer to the chunk that was sent first; None where it is not there yet. Raises QueueTimeout."""
        return self._received(wait=False)

    def cancel(self) -> None:
        """Cancel all jobs without an answer, as far as the queue can be reached."""
        while self._asked:
            with contextlib.suppress(UqueueError):
                self._asked.popleft().job.cancel()

    def _send(self, chunks: Sequence[tuple[Told, Float32Array]]) -> None:
        """Send chunks; waits where the queue is full. Raises QueueTimeout."""
        while not self.try_to_send(*chunks):
            self._pause()
        self._pause_seconds = _FIRST_PAUSE_SECONDS

    def _submit(self, tables: Sequence[Float32Array], link: int) -> Sequence[QueueJob] | None:
        left = self._deadline.left_seconds
        if left <= 0:
            raise self._deadline.passed(self._trouble or "not all chunks could be sent")
        try:
            return self._client.submit_many(
                tables,
                self._model.manifest.model,
                idempotency_keys=[self._model.key(columns, link) for columns in tables],
                expires=left + _LINGER_SECONDS,  # nobody will read the answer of a job that begins later
                version=self._model.content,
            )
        except (QueueFull, StoreFull, ServiceUnreachable) as error:
            self._trouble = error.message.rstrip(".")
            return None

    def _pause(self) -> None:
        time.sleep(max(0.0, min(self._pause_seconds, self._deadline.left_seconds)))
        self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)

    def _received(self, *, wait: bool) -> tuple[Told, Classification | UqueueError] | None:
        """Return the answer to the first chunk; None where it is not there, or its job could not be sent again."""
        asked = self._asked[0]
        while True:
            left = max(0.0, self._deadline.left_seconds)
            try:
                answer: Classification | UqueueError = self._checked(_ended(asked.job, left if wait else 0.0), asked)
                break
            except JobNotFinished as error:
                if not wait and left:
                    return None
                reason = f"job {error.job_id} is {error.state}; the open ones were cancelled"
                raise self._deadline.passed(reason) from error
            except ServiceUnreachable as error:
                if wait or not left:
                    raise self._deadline.passed(error.message.rstrip(".")) from error
                return None
            except UqueueError as error:
                if asked.link >= MOST_LINKS or not self._is_old(asked, error):
                    answer = self._for_good(error)
                    break
            jobs = self._submit([asked.columns], asked.link + 1)
            if jobs is None:
                return None
            asked.job, asked.link = jobs[0], asked.link + 1
        self._asked.popleft()
        return asked.about, answer

    def _is_old(self, asked: Asked[Told], error: UqueueError) -> bool:
        """Tell whether the job ended with another evaluation, which shares it, or its answer can no longer be read."""
        if isinstance(error, JobCancelled | JobExpired | ResultExpired | JobNotFound):
            return True
        try:
            return self._deadline.is_earlier(asked.job.status().finished_at)
        except JobNotFound:
            return True

    def _for_good(self, error: UqueueError) -> UqueueError:
        """Return the error of one chunk; raise what is one of all of them."""
        manifest = self._model.manifest
        match error:
            case UnknownModel():
                raise ModelNotFound(model=f"{manifest.model} in the queue: {error.message}") from error
            case VersionNotServed():
                raise ModelVersionNotFound(model=manifest.model, version=f"{manifest.version} in the queue") from error
            case InvalidFeatures():
                raise FeatureMismatch(reason=error.message) from error
            case ModelError():
                raise ModelIntegrity(file=manifest.reference, reason=error.message.rstrip(".")) from error
            case JobError():
                return error
            case _:
                raise error

    def _checked(self, answer: object, asked: Asked[Told]) -> Classification:
        manifest = self._model.manifest
        if not isinstance(answer, Classification):
            reason = "workers serve it as another kind of model (engine)"
            raise ModelIntegrity(file=manifest.reference, reason=reason)
        if answer.model.version != self._model.content or answer.classes != manifest.classes:
            raise ModelIntegrity(file=manifest.reference, reason="another version answered than was asked")
        if len(answer) != len(asked.columns):
            reason = f"it answered {len(answer)} rows, and was asked {len(asked.columns)}"
            raise ModelIntegrity(file=manifest.reference, reason=reason)
        return answer


def _ended(job: QueueJob, wait_seconds: float) -> object:
    """Return the answer to a job. Whoever waits for several in turn finds most of them there, so look before waiting.

    Raises what the job ended with, JobNotFinished and ServiceUnreachable.
    """
    try:
        return job.result(timeout=0)
    except (JobNotFinished, ServiceUnreachable):
        if not wait_seconds:
            raise
        return job.result(timeout=wait_seconds)

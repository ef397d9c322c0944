"""Interval models evaluated by the workers that serve them: each chunk is an ordinary job."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

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
from uqueue_config.names import DEFAULT_MODEL, canary_of
from uqueue_config.prediction import IntervalPrediction
from uqueue_config.settings import Settings
from uqueue_worker.learning.errors import (
    FeatureMismatch,
    ModelIntegrity,
    ModelNotFound,
    ModelVersionNotFound,
)
from uqueue_worker.learning.models.intervals.place import Chunk, PinnedIntervals
from uqueue_worker.learning.models.queue.connection import QueueJob, open_client
from uqueue_worker.learning.models.queue.wave import MOST_LINKS, Deadline

_CONTENT = re.compile(r"[0-9a-f]{16}")
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS, _LINGER_SECONDS = 0.05, 1.0, 60.0
Found = TypeVar("Found")


class SeededClient(Protocol):
    """What an evaluation needs of `uqueue.Client`."""

    def submit(
        self,
        features: Any,
        model: str = ...,
        *,
        seed: int | None = None,
        idempotency_key: str | None = None,
        expires: float | None = None,
        version: str | None = None,
    ) -> QueueJob: ...

    def model(self, name: str = ...) -> Any: ...


@dataclass
class _Asked:
    chunk: Chunk
    job: QueueJob
    link: int


class QueueIntervals:
    """The model `name` of the service that a client, the settings or the environment describe.

    All jobs of an evaluation ask for one version by its content, wherever the service moves meanwhile. They have
    idempotency keys: what was evaluated before is not computed again while its results are kept, so after a change of
    the service's forward mode or units give the interface another seed.
    """

    kind = "queue"

    def __init__(
        self, name: str = DEFAULT_MODEL, *, client: SeededClient | None = None, settings: Settings | None = None
    ) -> None:
        self._name = name
        self._client = client
        self._settings = settings

    @property
    def client(self) -> SeededClient:
        if self._client is None:
            self._client = cast(SeededClient, open_client(self._settings))
        return self._client

    def pin(self, tag: str | None, deadline: Deadline) -> PinnedIntervals:
        """Return the version that None, "stable" or "canary" names now, or that 16 hexadecimal digits are."""
        if tag is not None and _CONTENT.fullmatch(tag):
            return PinnedIntervals(self._name, tag)
        if tag not in (None, "stable", "canary"):
            raise ModelVersionNotFound(model=self._name, version=str(tag)[:200])
        track = canary_of(self._name) if tag == "canary" else self._name
        try:
            wanted = _patiently(lambda: self.client.model(track).wanted_version, deadline)
        except UnknownModel as error:
            raise ModelNotFound(model=f"{track} in the queue: {error.message.rstrip('.')}") from error
        if wanted is None:
            raise ModelNotFound(model=f"{track} in the queue: no version is served yet")
        return PinnedIntervals(self._name, str(wanted))

    def answers(
        self, pinned: PinnedIntervals, chunks: Iterable[Chunk], deadline: Deadline, in_flight: int
    ) -> Generator[IntervalPrediction | UqueueError]:
        """Yield the answers, with at most so many jobs sent ahead; open jobs are cancelled when it ends early.

        Raises QueueTimeout after the deadline.
        """
        asked: deque[_Asked] = deque()
        try:
            for chunk in chunks:
                asked.append(_Asked(chunk, self._submit(pinned, chunk, 0, deadline), 0))
                if len(asked) >= in_flight:
                    answer = self._answer(pinned, asked[0], deadline)
                    asked.popleft()
                    yield answer
            while asked:
                answer = self._answer(pinned, asked[0], deadline)
                asked.popleft()
                yield answer
        finally:
            for one in asked:
                with contextlib.suppress(UqueueError):
                    one.job.cancel()

    def list_versions(self) -> list[str]:
        """Return the versions that processes serve now."""
        try:
            found = self.client.model(self._name)
        except UnknownModel as error:
            raise ModelNotFound(model=f"{self._name} in the queue: {error.message.rstrip('.')}") from error
        return sorted({process.version for process in found.processes if process.version is not None})

    def health(self) -> dict[str, Any]:
        """Return whether processes serve the model: status "ok" with how many, or "failing" with the reason."""
        try:
            found = self.client.model(self._name)
        except UqueueError as error:
            return {"status": "failing", "error_code": error.code, "reason": str(error)}
        serving = [process for process in found.processes if process.state in ("ready", "stale")]
        if not serving:
            return {"status": "failing", "reason": "no worker process serves the model"}
        return {"status": "ok", "model": f"{self._name}@{found.wanted_version}", "processes": len(serving)}

    def _submit(self, pinned: PinnedIntervals, chunk: Chunk, link: int, deadline: Deadline) -> QueueJob:
        def submit() -> QueueJob:
            return self.client.submit(
                chunk.columns,
                pinned.model,
                seed=chunk.seed,
                idempotency_key=key_of(pinned, chunk, link),
                expires=deadline.left_seconds + _LINGER_SECONDS,  # nobody will read the answer of a later job
                version=pinned.version,
            )

        try:
            return _patiently(submit, deadline)
        except InvalidFeatures as error:
            raise FeatureMismatch(reason=error.message.rstrip(".")) from error

    def _answer(self, pinned: PinnedIntervals, asked: _Asked, deadline: Deadline) -> IntervalPrediction | UqueueError:
        while True:
            try:
                answer = asked.job.result(timeout=max(0.0, deadline.left_seconds))
            except JobNotFinished as error:
                reason = f"job {error.job_id} is {error.state}; the open ones were cancelled"
                raise deadline.passed(reason) from error
            except ServiceUnreachable as error:
                raise deadline.passed(error.message.rstrip(".")) from error
            except UqueueError as error:
                if asked.link >= MOST_LINKS or not _is_of_another(asked.job, error, deadline):
                    return _for_good(error, pinned)
                asked.job = self._submit(pinned, asked.chunk, asked.link + 1, deadline)
                asked.link += 1
                continue
            if not isinstance(answer, IntervalPrediction):
                reason = "workers serve it as another kind of model (engine)"
                raise ModelIntegrity(file=pinned.reference, reason=reason)
            return answer


def key_of(pinned: PinnedIntervals, chunk: Chunk, link: int) -> str:
    """Return the idempotency key of a job: SHA-256 over what its answer depends on.

    `link` counts the jobs of this chunk that an earlier evaluation gave up, or whose results have lapsed.
    """
    rows = hashlib.sha256(chunk.columns.tobytes()).hexdigest()
    said = ["intervals", pinned.model, pinned.version, list(chunk.columns.shape), rows, chunk.seed, link]
    return "alm-" + hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _patiently(call: Callable[[], Found], deadline: Deadline) -> Found:
    """Return what a call returns, as soon as the service takes it. Raises QueueTimeout."""
    pause_seconds, trouble = _FIRST_PAUSE_SECONDS, "not all chunks could be sent"
    while deadline.left_seconds > 0:
        try:
            return call()
        except (QueueFull, StoreFull, ServiceUnreachable) as error:
            trouble = error.message.rstrip(".")
        time.sleep(max(0.0, min(pause_seconds, deadline.left_seconds)))
        pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
    raise deadline.passed(trouble)


def _is_of_another(job: QueueJob, error: UqueueError, deadline: Deadline) -> bool:
    """Tell whether a job ended with another evaluation, which shares it, or its answer can no longer be read."""
    if isinstance(error, JobCancelled | JobExpired | ResultExpired | JobNotFound):
        return True
    try:
        return deadline.is_earlier(job.status().finished_at)
    except JobNotFound:
        return True


def _for_good(error: UqueueError, pinned: PinnedIntervals) -> UqueueError:
    """Return the error of one chunk; raise what is one of all of them."""
    match error:
        case UnknownModel():
            raise ModelNotFound(model=f"{pinned.model} in the queue: {error.message.rstrip('.')}") from error
        case VersionNotServed():
            raise ModelVersionNotFound(model=pinned.model, version=f"{pinned.version} in the queue") from error
        case InvalidFeatures():
            raise FeatureMismatch(reason=error.message.rstrip(".")) from error
        case ModelError():
            raise ModelIntegrity(file=pinned.reference, reason=error.message.rstrip(".")) from error
        case JobError():
            return error
        case _:
            raise error

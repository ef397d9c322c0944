"""One evaluation over HTTP: its deadline, its event loop, and one version of the model over all of its requests."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import structlog

from uqueue_config.learning.model_manifest import NAME_PATTERN, ModelManifest
from uqueue_worker.learning.breaker import CircuitBreaker
from uqueue_worker.learning.errors import (
    EndpointContract,
    EndpointTimeout,
    ModelNotFound,
    ModelVersionNotFound,
)
from uqueue_worker.learning.models.features import Float32Array, scaled
from uqueue_worker.learning.models.predictions import Predictions
from uqueue_worker.learning.models.rest.answers import Answer, Question, Unfit
from uqueue_worker.learning.models.rest.auth import Auth
from uqueue_worker.learning.models.rest.batches import asked
from uqueue_worker.learning.models.rest.checks import SeveralVersions, one_version, predictions_of
from uqueue_worker.learning.models.rest.dialects.base import Dialect
from uqueue_worker.learning.models.rest.transport import Transport

Result = TypeVar("Result")
_LOG = structlog.get_logger("uqueue.learning.rest")
_NAME = re.compile(NAME_PATTERN)
_LOOK_SECONDS = 0.05
UNSAID = "the server does not say which version of the model answered"


@dataclass(frozen=True)
class Timing:
    """Clock, sleep and randomness of retries; tests give their own."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    rng: random.Random | None = None


class Evaluation:
    """The requests of one call of the interface, of which all obey one deadline. It raises errors of the tree.

    tag  the version that is asked for: the one given, or else the endpoint's
    """

    def __init__(
        self,
        dialect: Dialect,
        auth: Auth,
        breaker: CircuitBreaker,
        manifest: ModelManifest | None,
        tag: str | None,
        timing: Timing,
        *,
        is_cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._endpoint = dialect.endpoint
        self.tag = self._endpoint.version if tag is None else tag
        if self.tag is not None and not _NAME.fullmatch(self.tag):
            raise ModelVersionNotFound(model=self._endpoint.model, version=self.tag[:200])
        self._dialect = dialect
        self._auth = auth
        self._breaker = breaker
        self._manifest = manifest
        self._timing = timing
        self._is_cancelled = is_cancelled
        self._deadline = timing.clock() + self._endpoint.deadline_seconds

    def predictions(self, matrix: Float32Array, *, only: str | None = None) -> tuple[Predictions, list[str]]:
        """Return the predictions of all rows by one version, and warnings; `only` is the version it has to be."""
        answers = self._answers(matrix, explain=False)
        said = answers[0].version
        is_known = said is not None and (self._endpoint.dialect != "mlflow" or self._endpoint.version is not None)
        warnings = [] if is_known else [UNSAID]
        known = self._known
        try:
            found, told = predictions_of(
                answers,
                known.classes,
                version=self._reference(said),
                declared_method=known.uncertainty.text,
            )
        except Unfit as problem:
            raise self._unfit(str(problem)) from None
        self._check(found.model_version, only)
        return found, [*warnings, *told]

    def explanations(self, matrix: Float32Array, *, only: str | None = None) -> list[Mapping[str, float]]:
        """Return the server's own importances of the features of each row."""
        answers = self._answers(matrix, explain=True)
        self._check(self._reference(answers[0].version), only)
        if any(answer.explanations is None for answer in answers):
            raise self._unfit("no explanations, which were asked for")
        return [one for answer in answers for one in answer.explanations or ()]

    @property
    def _known(self) -> ModelManifest:
        return cast(ModelManifest, self._manifest)

    def _answers(self, matrix: Float32Array, *, explain: bool) -> list[Answer]:
        """Return the answers by one version of the model; where it changes on the way, it begins again once."""
        known = self._known
        rows = scaled(matrix, known) if self._endpoint.preprocessed else matrix

        async def work(transport: Transport) -> list[Answer]:
            version = await self._dialect.asked_version(transport, self.tag)
            whole = Question(rows, columns_of(known), known.classes, version, "", explain)
            found = await asked(whole, self._dialect, transport, self._breaker)
            one_version(found)
            return found

        async def twice(transport: Transport) -> list[Answer]:
            try:
                return await work(transport)
            except SeveralVersions as problem:
                _LOG.warning("version_changed", component="rest", message=str(problem))
            try:
                return await work(transport)
            except SeveralVersions as problem:
                raise self._unfit(f"{problem}, twice") from None

        return self.run(twice)

    def _reference(self, version: str | None) -> str:
        return f"{self._endpoint.model}@{version or 'unknown'}"

    def _check(self, said: str, only: str | None) -> None:
        if only is not None and said != only:
            raise self._unfit(f"{said} answers now, and {only} did before")

    def _unfit(self, reason: str) -> EndpointContract:
        return self._dialect.unfit("", reason)

    def run(self, work: Callable[[Transport], Coroutine[Any, Any, Result]]) -> Result:
        """Do the work within the deadline, in a thread of its own if this one has an event loop already."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self._bounded(work))
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, self._bounded(work)).result()

    async def _bounded(self, work: Callable[[Transport], Coroutine[Any, Any, Result]]) -> Result:
        timing, seconds = self._timing, self._deadline - self._timing.clock()
        try:
            async with (
                asyncio.timeout(max(0.0, seconds)),
                Transport(
                    self._endpoint,
                    self._auth,
                    self._breaker,
                    self._deadline,
                    clock=timing.clock,
                    sleep=timing.sleep,
                    rng=timing.rng,
                ) as transport,
            ):
                return await self._unless_cancelled(work(transport))
        except TimeoutError:
            late = EndpointTimeout(url=self._endpoint.base_url, timeout_seconds=self._endpoint.deadline_seconds)
            self._breaker.count_failure()
            raise late from None
        except EndpointContract as error:
            if error.facts.get("status") != 404:
                raise
            if self.tag is None:
                raise ModelNotFound(model=self._endpoint.model) from error
            raise ModelVersionNotFound(model=self._endpoint.model, version=self.tag) from error

    async def _unless_cancelled(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Look now and then whether somebody cancelled; requests under way are given up then."""
        if self._is_cancelled is None:
            return await work
        task = asyncio.create_task(work)
        try:
            while not (await asyncio.wait({task}, timeout=_LOOK_SECONDS))[0]:
                if self._is_cancelled():
                    raise CancelledError
            return await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def columns_of(manifest: ModelManifest) -> tuple[str, ...]:
    """Return the names of the model's columns: its features, then those that say that one is missing."""
    features = manifest.feature_spec
    indicators = [f"{feature.name}|missing" for feature in features if feature.indicator]
    return (*(feature.name for feature in features), *indicators)

"""One localization request, or a batch of them, on its way: version, features, cache, worker, answer."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Any, cast

import numpy as np

from uqueue.gateway.localization.answers import Found, complete, estimates, new_session, record, shown
from uqueue.gateway.localization.arms import SharedArms
from uqueue.gateway.localization.cache import PredictionCache, cache_key
from uqueue.gateway.localization.features import SMALL, Features, Threads, features_of, zeros_for
from uqueue.gateway.localization.named import localization_model
from uqueue.gateway.localization.refusals import not_loaded, refusal
from uqueue.gateway.localization.requests import Batch, Item
from uqueue.gateway.localization.running import localize, rows_per_job
from uqueue.gateway.localization.versions import STABLE, Choice, ModelVersionManager
from uqueue.gateway.problems import Problem
from uqueue.gateway.state import Gateway
from uqueue_config.connections import connect_async
from uqueue_config.errors import InferenceFailed, JobAbandoned, ModelError, ModelOutputInvalid, UqueueError
from uqueue_config.localization import Declaration, Localization, ModelCard

#: What speaks against a version and not against the request.
_MODEL_FAULTS = (InferenceFailed, ModelOutputInvalid, JobAbandoned, ModelError)


@dataclass
class Work:
    """An item of a request with what became of it; `index` is its place among all items, the refused ones included.

    key      where the cache has its outputs, None where it must not be asked
    members  what follows from the outputs alone, of which `answer` is made
    """

    index: int
    item: Item
    features: Features | None = None
    key: str | None = None
    found: Found | None = None
    members: dict[str, Any] = field(default_factory=dict)
    answer: dict[str, Any] | None = None
    error: UqueueError | None = None
    problem: Problem | None = None


@dataclass
class Outcome:
    """What a batch gives: answers in the order of the items, and the problems of the others by index."""

    works: list[Work]
    total_ms: float
    problems: dict[int, Problem] = field(default_factory=dict)


class Localizer:
    """Answers localization requests. Opens nothing before the first.

    `model` is the name of the model that answers, None where none is configured.
    """

    def __init__(self, gateway: Gateway) -> None:
        settings = gateway.settings
        self.gateway, self.settings, self.client, self.recorder = gateway, settings, gateway.client, gateway.recorder
        self.model = localization_model(settings)
        self.threads = Threads(os.cpu_count() or 1)
        self.records = connect_async(settings.result_store)
        cache_url = settings.localization_cache_url
        self._cached = connect_async(cache_url.get_secret_value()) if cache_url else self.records
        ttl_seconds = settings.localization_cache_seconds.total_seconds()
        self.cache = PredictionCache(self._cached, self.records, ttl_seconds)
        name = self.model or ""
        self.shared = SharedArms(self.records, self.client, name)
        self.versions = ModelVersionManager(
            self.shared,
            self._try_out,
            settings.localization_max_versions,
            random.Random(),  # noqa: S311  shares, no secrets
            name,
        )
        self.in_work = 0

    async def close(self) -> None:
        await self.versions.close()
        self.threads.close()
        await self.records.aclose()
        if self._cached is not self.records:
            await self._cached.aclose()

    @property
    def named(self) -> str:
        """The name of the model. Raises Problem 503 where none is configured."""
        if self.model is None:
            raise not_loaded("No localization model is configured. Set UQUEUE_LOCALIZATION_MODEL.")
        return self.model

    async def answer(self, item: Item, started: float) -> dict[str, Any]:
        """Return the answer to one request that came in at `started` (perf_counter). Raises Problem, UqueueError."""
        outcome = await self.answer_batch(Batch((item,), item.session_id, False), started)
        return cast(dict[str, Any], outcome.works[0].answer)

    async def answer_batch(self, batch: Batch, started: float) -> Outcome:
        """Return the answers to all items, by one version. Raises Problem of the first item that has none, unless the
        batch goes on without it."""
        works = [_work(index, one) for index, one in enumerate(batch.items)]
        try:
            outcome = await self._answered(works, batch, started)
        except Exception as error:
            if refusal(error).status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                self.recorder.failed(len(works))
            raise
        lost = sum(one.status >= HTTPStatus.INTERNAL_SERVER_ERROR for one in outcome.problems.values())
        if lost:
            self.recorder.failed(lost)
        return outcome

    async def _answered(self, works: list[Work], batch: Batch, started: float) -> Outcome:
        _ = self.named
        choice = await self.versions.select_model(batch.session_id)
        good = [work for work in works if work.problem is None]
        await self._prepare(good, choice.card, named=len(works) > 1)
        _stop_at_first(works, batch)
        await self._look_up(good, choice)
        await self._compute(good, choice, batch, started)
        await self._finish([work for work in good if work.problem is None], started)
        done = [work for work in works if work.answer is not None]
        problems = {work.index: work.problem for work in works if work.problem is not None}
        if not done:
            raise problems[min(problems)]
        total_ms = max(cast(dict[str, Any], work.answer)["inference_time_ms"] for work in done)
        return Outcome(done, total_ms, problems)

    async def _prepare(self, works: Sequence[Work], card: ModelCard, *, named: bool) -> None:
        """Make the features of all items, and the keys of those that may come from the cache."""
        settings = self.settings
        limits = settings.localization_min_samples, settings.localization_max_samples
        alone = len(works) == 1

        async def prepare(work: Work) -> None:
            try:
                prepared = partial(_prepared, work.item, card, *limits)
                features, work.key = await self.threads.run(prepared, is_small=alone and _is_small(work.item))
                self.recorder.preprocessing(features.seconds)
                work.features = features
            except UqueueError as error:
                work.problem = refusal(error, work.index if named else None)

        await asyncio.gather(*map(prepare, works))

    async def _look_up(self, works: Sequence[Work], choice: Choice) -> None:
        """Answer from the cache what it has. Equal items are looked up once, and the later ones are hits."""
        keys = [work.key for work in works if work.problem is None and work.key is not None]
        distinct = list(dict.fromkeys(keys))
        kept = await self.cache.get(distinct)
        hits = {key: estimate for key, estimate in zip(distinct, kept, strict=True) if estimate is not None}
        for work in works:
            if work.key in hits:
                work.found = Found(hits[work.key], choice.version, True)
        misses = len(distinct) - len(hits)
        self.recorder.cache(len(keys) - misses, misses)

    async def _compute(self, works: Sequence[Work], choice: Choice, batch: Batch, started: float) -> None:
        """Have a worker answer what is open: equal cacheable items once."""
        firsts: dict[str | int, Work] = {}
        repeated: list[tuple[Work, Work]] = []
        for work in works:
            if work.problem is None and work.found is None:
                first = firsts.setdefault(work.key or work.index, work)
                if first is not work:
                    repeated.append((work, first))
        if firsts:
            await self._compute_each(list(firsts.values()), choice, batch, started)
        for work, first in repeated:
            if first.found is not None:
                work.found = Found(first.found.estimate, first.found.version, True)
            elif first.error is not None:
                work.problem = refusal(first.error, work.index)

    async def _compute_each(self, works: Sequence[Work], choice: Choice, batch: Batch, started: float) -> None:
        """Answer these together. Where that fails because of what the model makes of one of them, and the batch goes on
        without it, each by itself."""
        try:
            await self._run(works, choice, batch, started)
        except UqueueError as error:
            if not batch.continue_on_error:
                raise _named(error, works) from error
            if isinstance(error, ModelOutputInvalid) and len(works) > 1:
                for work in works:
                    await self._compute_each([work], choice, batch, started)
                return
            for work in works:
                work.found, work.error, work.problem = None, error, refusal(error, work.index)

    async def _run(self, works: Sequence[Work], choice: Choice, batch: Batch, started: float) -> None:
        answers = await self._asked(works, choice, started)
        if {answer.model_version for answer in answers} != {choice.version}:
            choice, answers = await self._after_reload(works, choice, answers, batch, started)
        for answer in answers:
            self.recorder.inference(answer.model_version, len(answer), answer.onnx_seconds)
        try:
            found = [Found(estimate, version, False) for estimate, version in estimates(answers)]
            await self._show(works, found)
        except ModelOutputInvalid:
            self.versions.failed(choice.version)
            raise
        self.versions.succeeded(choice.version)
        await self.cache.put({work.key: one.estimate for work, one in zip(works, found, strict=True) if work.key})

    async def _show(self, works: Sequence[Work], found: Sequence[Found]) -> None:
        alone = len(found) == 1
        shows = [self.threads.run(partial(shown, one, self.settings), is_small=alone) for one in found]
        for work, one, members in zip(works, found, await asyncio.gather(*shows), strict=True):
            work.found, work.members = one, members

    async def _after_reload(
        self, works: Sequence[Work], choice: Choice, answers: list[Localization], batch: Batch, started: float
    ) -> tuple[Choice, list[Localization]]:
        """The stable version has changed since it was chosen. What a version answered that reads the same features
        stands, if it is one; otherwise all is asked once more, of exactly one version."""
        versions = {answer.model_version for answer in answers}
        card = await self.versions.card(versions.pop()) if len(versions) == 1 else None
        if card is not None and _same_features(card.declaration, choice.card.declaration):
            for work in works:
                if work.key is not None:
                    work.key = _key(card, cast(Features, work.features))
            return Choice(card, STABLE), answers
        again = await self.versions.select_model(batch.session_id)
        again = Choice(again.card, again.card.content if again.pin == STABLE else again.pin)
        await self._prepare(works, again.card, named=len(batch.items) > 1)
        for work in works:
            if work.problem is not None:
                raise work.problem
        return again, await self._asked(works, again, started)

    async def _asked(self, works: Sequence[Work], choice: Choice, started: float) -> list[Localization]:
        rows = np.concatenate([cast(Features, work.features).row for work in works])
        left = self.settings.localization_result_seconds.total_seconds() - (time.perf_counter() - started)
        most = rows_per_job(self.settings.max_onnx_batch, rows[0].nbytes, self.settings.max_inline_bytes)
        try:
            return await localize(self.client, self.named, choice.pin, rows, most, left)
        except _MODEL_FAULTS:
            self.versions.failed(choice.version)
            raise

    async def _finish(self, works: Sequence[Work], started: float) -> None:
        """Make every answer whole, and tell the listings of it."""
        bare = [work for work in works if not work.members]
        await self._show(bare, [cast(Found, work.found) for work in bare])
        records = []
        for work in works:
            found, moment = cast(Found, work.found), datetime.now(UTC)
            session = work.item.session_id or new_session()
            ms = 1000 * (time.perf_counter() - started)
            work.answer = complete(work.members, found, session, moment, ms)
            frequency = self.settings.localization_frequency_mhz
            records.append(record(work.answer, work.item, cast(Features, work.features), moment, frequency))
        await self.recorder.answered(records)

    async def _try_out(self, version: str, like: ModelCard | None) -> str:
        """Have a worker load a version and answer silence with it; returns the version that answered."""
        declaration = like.declaration if like is not None else Declaration()
        rows = await self.threads.run(partial(zeros_for, declaration))
        seconds = self.settings.gateway_wait_seconds.total_seconds()
        answers = await localize(self.client, self.named, version, rows, 1, seconds)
        estimates(answers)
        return answers[0].model_version


def _named(error: UqueueError, works: Sequence[Work]) -> Exception:
    """Return the error, or the problem that names the item which it is about, where it says so and there are others."""
    row = error.row_below(len(works)) if isinstance(error, ModelOutputInvalid) else None
    return error if row is None or len(works) == 1 else refusal(error, works[row].index)


def _stop_at_first(works: Sequence[Work], batch: Batch) -> None:
    for work in works:
        if work.problem is not None and not batch.continue_on_error:
            raise work.problem


def _prepared(item: Item, card: ModelCard, min_samples: int, max_samples: int) -> tuple[Features, str | None]:
    features = features_of(item, card.declaration, min_samples, max_samples)
    return features, _key(card, features) if item.cache_enabled else None


def _is_small(item: Item) -> bool:
    return item.iq_base64 is not None and len(item.iq_base64) <= SMALL


def _key(card: ModelCard, features: Features) -> str:
    recipe = card.declaration.recipe()
    return cache_key(card, recipe.id, recipe.parameters, features)


def _work(index: int, given: Item | Problem) -> Work:
    if isinstance(given, Problem):
        return Work(index, Item(None, None, None, None, False, None, None), problem=given)
    return Work(index, given)


def _same_features(one: Declaration, other: Declaration) -> bool:
    return one.recipe().id == other.recipe().id and one.recipe().parameters == other.recipe().parameters

"""What all gateways share about the versions of the localization model, in Redis, and one consistent look at it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast

import redis.asyncio
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis.exceptions import WatchError

from uqueue.aio import AsyncClient
from uqueue.gateway.localization.answers import utc_text
from uqueue.gateway.localization.selection import normalised
from uqueue.gateway.localization.shared_metrics import SERVING
from uqueue.status import ModelStatus
from uqueue_config.connections import translated
from uqueue_config.errors import UnknownModel
from uqueue_config.localization import ModelCard, cards_key
from uqueue_config.messages import Acknowledgement

_DROP_OWN = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


def now_text() -> str:
    return utc_text(datetime.now(UTC))


class Arm(BaseModel):
    """A version that was given a weight of its own."""

    model_config = ConfigDict(frozen=True)

    weight: float
    status: Literal["loading", "ready", "error"] = "loading"
    error: str | None = None
    created: str = Field(default_factory=now_text)
    updated: str = Field(default_factory=now_text)


class AbTest(BaseModel):
    """Two versions that share all requests for a while; `traffic_split` is the share of b."""

    model_config = ConfigDict(frozen=True)

    id: str
    a: str
    b: str
    traffic_split: float
    started_at: str
    ends_at: str | None


class Arms(BaseModel):
    """The weights. `stable_weight` is that of whatever version the registry's pointer names; it is what one other
    version leaves of the whole, unless `stable_is_rest` is False because it was given a share of its own.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    stable_weight: float = 1.0
    stable_is_rest: bool = True
    arms: dict[str, Arm] = Field(default_factory=dict)
    previous: str | None = None


@dataclass(frozen=True)
class Look:
    """Everything that a choice depends on, as it was at one moment.

    routed  how many requests went to `a` and `b` of the test
    """

    shared: Arms
    test: AbTest | None
    failures: Mapping[str, int]
    routed: Mapping[str, int]
    cards: Mapping[str, ModelCard]
    status: ModelStatus | None
    failure_limit: int

    @property
    def processes(self) -> tuple[Acknowledgement, ...]:
        """The worker processes that answer jobs."""
        found = self.status.processes if self.status else ()
        return tuple(one for one in found if one.state in SERVING)

    @property
    def stable(self) -> ModelCard | None:
        """The version that the registry's pointer names, None where no worker has loaded it.

        For the moment in which a worker has moved the pointer and not shown the card yet, the one that others serve.
        """
        wanted = self.status.wanted_version if self.status else None
        served = [wanted, *(process.version for process in self.processes)]
        return next((card for content in served if content and (card := self.card_of(content))), None)

    def card_of(self, content: str) -> ModelCard | None:
        """Return the card of a content; of several versions with it, the last registered."""
        found = [card for card in self.cards.values() if card.content == content]
        return max(found, key=lambda card: (len(card.version), card.version), default=None)

    @property
    def weights(self) -> dict[str, float]:
        """The share of each version, whether it is healthy or not; empty where nothing is loaded."""
        if self.test is not None:
            return {self.test.a: 1 - self.test.traffic_split, self.test.b: self.test.traffic_split}
        given = {version: arm.weight for version, arm in self.shared.arms.items()}
        if self.stable is not None:
            given[self.stable.version] = given.get(self.stable.version, 0.0) + self.shared.stable_weight
        return normalised(given) if any(given.values()) else {}

    @property
    def only_stable(self) -> bool:
        """Whether all requests go to the version that the registry's pointer names, whichever that is."""
        return self.test is None and not any(arm.weight for arm in self.shared.arms.values())

    def is_loaded(self, version: str) -> bool:
        """Whether this version has been tried out and is neither failed nor on its way."""
        if self.stable is not None and self.stable.version == version:
            return True
        arm = self.shared.arms.get(version)
        return arm is not None and arm.status == "ready" and version in self.cards

    def is_healthy(self, version: str) -> bool:
        return bool(self.processes) and self.is_loaded(version) and not self.is_excluded(version)

    def is_excluded(self, version: str) -> bool:
        """Whether it failed too often in a row."""
        return self.failures.get(version, 0) >= self.failure_limit

    @property
    def active(self) -> str | None:
        """The version with the largest share of those that did not fail; the stable one of several such."""
        weights = {version: weight for version, weight in self.weights.items() if self.is_loaded(version)}
        stable = self.stable.version if self.stable else None
        return max(weights, key=lambda version: (weights[version], version == stable, version), default=None)


class SharedArms:
    """Reads and changes what gateways share. Everything raises ServiceUnreachable."""

    def __init__(self, connection: redis.asyncio.Redis, client: AsyncClient, model: str) -> None:
        self._redis, self._client, self._model = connection, client, model
        self._drop_own: Any = connection.register_script(_DROP_OWN)

    def key(self, what: str) -> str:
        return f"uqueue:localization:{what}:{self._model}"

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._client.settings.result_store)

    async def look(self) -> Look:
        try:
            status = await self._client.model(self._model)
        except UnknownModel:
            status = None
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.get(self.key("arms"))
        pipeline.get(self.key("test"))
        for hash_key in (self.key("failures"), self.key("routed"), cards_key(self._model)):
            pipeline.hgetall(hash_key)
        with self._translated():
            shared, test, failures, routed, cards = await pipeline.execute()
        return Look(
            shared=_arms(shared),
            test=AbTest.model_validate_json(test) if test else None,
            failures=_numbers(failures),
            routed=_numbers(routed),
            cards={card.version: card for card in _cards(cards)},
            status=status,
            failure_limit=self._client.settings.localization_arm_failures,
        )

    async def change(self, edit: Callable[[Arms], Arms]) -> Arms:
        """Replace the weights by what `edit` makes of them, in one step that no other gateway can come between."""
        key = self.key("arms")
        with self._translated():
            async with self._redis.pipeline(transaction=True) as pipeline:
                while True:
                    try:
                        await pipeline.watch(key)
                        changed = edit(_arms(await cast(Any, pipeline.get(key))))
                        cast(Any, pipeline).multi()
                        pipeline.set(key, changed.model_dump_json())
                        await pipeline.execute()
                        return changed
                    except WatchError:
                        continue

    async def begin_test(self, test: AbTest, seconds: float | None) -> bool:
        """Start a test; False where one runs. It ends by itself after `seconds`, for all gateways at once."""
        value, ttl_ms = test.model_dump_json(), None if seconds is None else max(1, round(1000 * seconds))
        with self._translated():
            if not await self._redis.set(self.key("test"), value, nx=True, px=ttl_ms):
                return False
            await self._redis.delete(self.key("routed"))
            return True

    async def end_test(self) -> None:
        with self._translated():
            await self._redis.delete(self.key("test"))

    async def count_routed(self, arm: Literal["a", "b"]) -> None:
        with self._translated():
            await cast(Any, self._redis.hincrby(self.key("routed"), arm, 1))

    async def count_failure(self, version: str) -> int:
        """Return how often this version failed since it last answered."""
        with self._translated():
            return int(await cast(Any, self._redis.hincrby(self.key("failures"), version, 1)))

    async def forget_failures(self, version: str) -> None:
        with self._translated():
            await cast(Any, self._redis.hdel(self.key("failures"), version))

    async def take(self, what: str, seconds: float) -> str | None:
        """Return a token where nobody has taken this, or the time of who did is over; None elsewhere."""
        token = secrets.token_hex(8)
        with self._translated():
            taken = await self._redis.set(self.key(what), token, nx=True, px=round(1000 * seconds))
        return token if taken else None

    async def give_back(self, what: str, token: str) -> None:
        with self._translated():
            await self._drop_own((self.key(what),), (token,))


def _arms(value: bytes | None) -> Arms:
    return Arms.model_validate_json(value) if value else Arms()


def _numbers(fields: Mapping[bytes, bytes]) -> dict[str, int]:
    return {name.decode(): int(value) for name, value in fields.items()}


def _cards(fields: Mapping[bytes, bytes]) -> list[ModelCard]:
    found = []
    for value in fields.values():
        try:
            found.append(ModelCard.model_validate_json(value))
        except ValidationError:  # of a worker of another release
            continue
    return found

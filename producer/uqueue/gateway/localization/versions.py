"""Which versions of the model share the requests, and which one answers a request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal

from uqueue.gateway import logs
from uqueue.gateway.localization.answers import utc_text
from uqueue.gateway.localization.arms import AbTest, Arm, Arms, Look, SharedArms, now_text
from uqueue.gateway.localization.refusals import invalid_request, not_loaded
from uqueue.gateway.localization.selection import random_choice, sticky_choice
from uqueue.gateway.problems import Problem
from uqueue_config.errors import UqueueError
from uqueue_config.localization import ModelCard

#: A look at what gateways share is used for so long.
FRESH_SECONDS = 0.5
#: A version that failed too often is tried again at most this often, by one of all gateways.
TRIAL_SECONDS = 10.0
#: Workers show the cards of what they have loaded at every heartbeat.
CARD_SECONDS = 5.0
LOOK_SECONDS = 0.05
STABLE = "stable"
#: Tries a version out: its name for the worker and the card of one with the same input; returns the version it is.
Trial = Callable[[str, ModelCard | None], Awaitable[str]]


@dataclass(frozen=True)
class Choice:
    """The version that answers a request. `pin` is what its job asks the worker for."""

    card: ModelCard
    pin: str

    @property
    def version(self) -> str:
        return self.card.version


class ModelVersionManager:
    """Shares requests between versions. All gateways see the same weights; nothing is read before the first call."""

    def __init__(
        self, shared: SharedArms, trial: Trial, max_versions: int, generator: random.Random, salt: str
    ) -> None:
        self._shared, self._trial = shared, trial
        self._max_versions, self._generator, self._salt = max_versions, generator, salt
        self._look: Look | None = None
        self._looked_at = 0.0
        self._looking = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._tried_at: dict[str, float] = {}

    @property
    def models(self) -> dict[str, ModelCard]:
        """The versions that are loaded, as they were last looked at."""
        look = self._look
        return {version: card for version, card in look.cards.items() if look.is_loaded(version)} if look else {}

    @property
    def weights(self) -> dict[str, float]:
        """The share of each version, as it was last looked at."""
        return self._look.weights if self._look else {}

    async def look(self, *, fresh: bool = False) -> Look:
        """Return what gateways share, half a second old at most. Raises ServiceUnreachable."""
        since = time.monotonic() - (0.0 if fresh else FRESH_SECONDS)
        async with self._looking:
            if self._look is None or self._looked_at < since:
                started = time.monotonic()
                self._look = await self._shared.look()
                self._looked_at = started
            return self._look

    async def card(self, version: str) -> ModelCard | None:
        """Return the card of a version that has just answered; its worker shows it a moment later. None where it does
        not."""
        deadline = time.monotonic() + CARD_SECONDS
        while (found := (await self.look(fresh=True)).cards.get(version)) is None and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_SECONDS)
        return found

    async def select_model(self, session_id: str | None = None) -> Choice:
        """Return the version for a request: always the same for a session, by chance and weight without one.

        Raises Problem 503 where no healthy version is there.
        """
        look = await self.look()
        weights = {version: weight for version, weight in look.weights.items() if look.is_healthy(version)}
        self._try_excluded(look)
        if not any(weights.values()):
            raise not_loaded(_why_none(look))
        if session_id is None:
            version = random_choice(weights, self._generator)
        else:
            version = sticky_choice(weights, session_id, self._salt)
        if look.test is not None:
            arm: Literal["a", "b"] = "b" if version == look.test.b else "a"
            self._in_background(lambda: self._shared.count_routed(arm))
        return _choice(look, version)

    async def set_model(self, version: str, weight: float) -> str:
        """Load a version and give it a share of the requests; returns its registered name.

        The stable one keeps the rest of 1 (or of 100, for a weight above 1), unless several others or it itself were
        given shares.
        Raises Problem 409 while a test runs or too many versions are loaded, 503 where it cannot be loaded; it is then
        listed as failed and gets no requests.
        """
        look = await self.look(fresh=True)
        if look.test is not None:
            raise _conflict("An A/B test runs; end it first.")
        if look.stable is not None and look.stable.version == version:
            own = {"stable_weight": weight, "stable_is_rest": False}
            await self._change(lambda arms: arms.model_copy(update=own))
            return version
        loaded = {one for one in look.cards if look.is_loaded(one)} | set(look.shared.arms)
        if version not in loaded and len(loaded) >= self._max_versions:
            raise _conflict(f"At most {self._max_versions} versions may be loaded. Remove one first.")
        await self._change(lambda arms: _with_arm(arms, version, Arm(weight=0.0)) if version not in arms.arms else arms)
        registered = await self._tried(version)
        await self._change(lambda arms: _weighted(arms, version, registered, weight))
        return registered

    async def remove(self, version: str) -> None:
        """Give a version no more requests. Raises Problem 404 for one without a weight, 409 for the active one."""
        look = await self.look(fresh=True)
        if version not in look.shared.arms:
            raise Problem(404, "version_not_found", f"Version {version} has no weight of its own.")
        if look.test is not None and version in (look.test.a, look.test.b):
            raise _conflict("An A/B test with this version runs; end it first.")
        if version == look.active:
            raise _conflict(f"Version {version} is active. Give another version the larger share first.")
        await self._change(lambda arms: _without_arm(arms, version))

    async def start_ab_test(
        self, a: str, b: str, traffic_split: float, duration_seconds: float | None = None
    ) -> AbTest:
        """Send the share `traffic_split` of all requests to b and the rest to a, until ended or the time is over.

        Raises Problem 422 for a split outside 0.01 to 0.99 and for one version against itself, 409 where a version is
        not loaded or a test runs.
        """
        if not 0.01 <= traffic_split <= 0.99 or a == b:
            raise invalid_request("Expected two versions and a traffic_split from 0.01 to 0.99.")
        look = await self.look(fresh=True)
        for version in (a, b):
            if not look.is_loaded(version):
                raise _conflict(f"Version {version} is not loaded. PUT /model/versions/{version} loads it.")
        begun = datetime.now(UTC)
        ends_at = None if duration_seconds is None else utc_text(begun + timedelta(seconds=duration_seconds))
        test = AbTest(
            id=secrets.token_hex(8), a=a, b=b, traffic_split=traffic_split, started_at=utc_text(begun), ends_at=ends_at
        )
        if not await self._shared.begin_test(test, duration_seconds):
            raise _conflict("An A/B test runs; end it first.")
        await self.look(fresh=True)
        return test

    async def end_ab_test(self, winner: str | None = None) -> AbTest:
        """End the test. `winner` then gets all requests; without one the weights from before are back.

        Raises Problem 404 where no test runs, 422 for a winner that did not take part.
        """
        look = await self.look(fresh=True)
        test = look.test
        if test is None:
            raise Problem(404, "test_not_found", "No A/B test runs.")
        if winner not in (None, test.a, test.b):
            raise invalid_request(f"winner: expected {test.a} or {test.b}.")
        if winner is not None:
            await self.promote(winner)  # first, so that no request falls back to the shares from before
        await self._shared.end_test()
        await self._note_previous(look.active)
        return test

    async def activate(self, version: str) -> str:
        """Load a version, where it is not, and send all requests to it; returns its registered name. Raises Problem as
        `set_model` does."""
        look = await self.look(fresh=True)
        if look.test is not None:
            raise _conflict("An A/B test runs; end it first.")
        registered = version if look.is_loaded(version) else await self.set_model(version, 0.0)
        await self.promote(registered)
        return registered

    async def promote(self, version: str) -> None:
        """Send all requests to one loaded version. The stable one is followed then, whichever that will be."""
        look = await self.look(fresh=True)
        stable = look.stable is not None and look.stable.version == version
        weights = {"stable_weight": 1.0 if stable else 0.0, "stable_is_rest": stable}
        kept = {} if stable else {version: look.shared.arms[version].model_copy(update={"weight": 1.0})}
        await self._change(lambda arms: arms.model_copy(update={**weights, "arms": kept}))

    async def follow_stable(self) -> None:
        """Undo a promotion: send all requests to the stable version, whichever that will be."""
        look = await self.look(fresh=True)
        if look.test is None and not look.shared.stable_weight and not look.shared.stable_is_rest:
            await self._change(lambda arms: Arms(previous=arms.previous))

    def failed(self, version: str) -> None:
        """Note that a version could not answer. Costs the caller nothing."""
        self._in_background(lambda: self._count_failure(version))

    def succeeded(self, version: str) -> None:
        """Note that it answered."""
        if self._look is not None and self._look.failures.get(version):
            self._in_background(lambda: self._forget_failures(version))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _tried(self, version: str) -> str:
        """Return the registered name of a version that answered; Problem 503 where it does not, which is noted."""
        look = await self.look()
        try:
            registered = await self._trial(_pin(look, version), look.cards.get(version) or look.stable)
        except UqueueError as error:
            reason = str(error.facts.get("reason") or error.message).rstrip(".")
            await self._change(lambda arms: _noted(arms, version, "error", reason))
            raise not_loaded(f"Version {version} cannot be used: {reason}.") from error
        if await self.card(registered) is None:
            raise not_loaded(f"Version {version} answered, and no worker says what it is.")
        await self._shared.forget_failures(registered)
        await self._change(lambda arms: _noted(arms, version, "ready", None))
        return registered

    def _try_excluded(self, look: Look) -> None:
        """Try out again what failed, now and then, so that it comes back when it can answer."""
        for version in look.weights:
            arm = look.shared.arms.get(version)
            is_out = look.is_excluded(version) or (arm is not None and arm.status != "ready")
            if is_out and look.processes and time.monotonic() - self._tried_at.get(version, -math.inf) > TRIAL_SECONDS:
                self._tried_at[version] = time.monotonic()
                self._in_background(partial(self._try_again, version))

    async def _try_again(self, version: str) -> None:
        if await self._shared.take(f"trial:{version}", TRIAL_SECONDS) is None:
            return
        with contextlib.suppress(Problem):
            await self._tried(version)
            logs.write(logging.INFO, "version_is_back", model_version=version)

    async def _count_failure(self, version: str) -> None:
        count = await self._shared.count_failure(version)
        look = await self.look(fresh=True)
        if look.is_excluded(version) and count == look.failure_limit:
            logs.write(logging.WARNING, "version_excluded", model_version=version, failures=count)

    async def _forget_failures(self, version: str) -> None:
        await self._shared.forget_failures(version)
        await self.look(fresh=True)

    async def _change(self, edit: Callable[[Arms], Arms]) -> None:
        def checked(arms: Arms) -> Arms:
            changed = edit(arms)
            if not changed.stable_weight and not any(arm.weight for arm in changed.arms.values()):
                raise invalid_request("weight: at least one version must have a weight above 0.")
            return changed

        before = (await self.look()).active
        await self._shared.change(checked)
        await self._note_previous(before)

    async def _note_previous(self, before: str | None) -> None:
        """Remember the version that was active before, where another one is now."""
        if (await self.look(fresh=True)).active != before and before is not None:
            await self._shared.change(lambda arms: arms.model_copy(update={"previous": before}))
            await self.look(fresh=True)

    def _in_background(self, work: Callable[[], Awaitable[None]]) -> None:
        async def guarded() -> None:
            try:
                await work()
            except UqueueError as error:
                logs.write(logging.WARNING, "versions_not_noted", reason=str(error))

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _choice(look: Look, version: str) -> Choice:
    return Choice(look.cards[version], STABLE if look.only_stable else _pin(look, version))


def _pin(look: Look, version: str) -> str:
    """Return what a job asks for to be answered by exactly this version.

    By content where the workers serve it anyway: by name they would load it a second time.
    """
    card = look.cards.get(version)
    wanted = look.status.wanted_version if look.status else None
    return card.content if card is not None and card.content == wanted else version


def _with_arm(arms: Arms, version: str, arm: Arm) -> Arms:
    return arms.model_copy(update={"arms": {**arms.arms, version: arm}})


def _without_arm(arms: Arms, version: str) -> Arms:
    return arms.model_copy(update={"arms": {name: arm for name, arm in arms.arms.items() if name != version}})


def _weighted(arms: Arms, asked: str, registered: str, weight: float) -> Arms:
    """Give the version, under the name that it is registered by, its weight; and the stable one what is left."""
    given = arms.arms.get(asked, Arm(weight=0.0)).model_copy(update={"weight": weight, "updated": now_text()})
    others = [arm for name, arm in arms.arms.items() if name not in (asked, registered)]
    changed = _with_arm(_without_arm(arms, asked), registered, given)
    if arms.stable_is_rest and not any(arm.weight for arm in others):
        whole = 1.0 if weight <= 1 else 100.0
        changed = changed.model_copy(update={"stable_weight": max(0.0, whole - weight)})
    return changed


def _noted(arms: Arms, version: str, status: str, error: str | None) -> Arms:
    arm = arms.arms.get(version)
    if arm is None:  # the stable version has no arm
        return arms
    return _with_arm(arms, version, arm.model_copy(update={"status": status, "error": error, "updated": now_text()}))


def _conflict(detail: str) -> Problem:
    return Problem(409, "version_conflict", detail)


def _why_none(look: Look) -> str:
    if look.status is None:
        return "No worker serves the localization model."
    if not look.processes:
        return "No worker process has the localization model loaded."
    if look.stable is None and not look.shared.arms:
        return "No worker has said what the localization model declares."
    return "No version of the localization model is healthy. GET /model/versions says why."

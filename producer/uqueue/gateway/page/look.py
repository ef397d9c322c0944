"""What there is to show, looked up at most once a second however many people look."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.exceptions import RedisError

from uqueue.gateway.page.rates import Change, Figures, Window
from uqueue.gateway.page.samples import Sample
from uqueue.gateway.state import Gateway
from uqueue.status import ModelStatus
from uqueue_config.errors import UqueueError

#: What takes longer to come is shown as not known.
LOOK_SECONDS = 1.0
#: Everybody who asks within this time sees the same.
SHARED_SECONDS = 1.0
RECENT = 50
T = TypeVar("T")


@dataclass(frozen=True)
class View:
    """The state of the service at `moment` (seconds since the epoch). What did not come in time is None.

    depths     messages by queue, dead letters included
    numbers    registered versions of localization models by the version that processes name
    change     what was counted lately; None too while there is only one reading
    figures    all that was ever counted
    recent     the last localizations, newest first, as `Recorder.recent` returns them
    intervals  what this gateway handed out, oldest first, by model
    """

    moment: float
    depths: Mapping[str, int] | None = None
    models: Sequence[ModelStatus] | None = None
    numbers: Mapping[str, str] | None = None
    change: Change | None = None
    figures: Figures | None = None
    recent: Sequence[Mapping[str, Any]] | None = None
    intervals: Mapping[str, Sequence[Sample]] | None = None
    stopping: bool = False

    @property
    def is_reachable(self) -> bool:
        """Whether Redis answered everything."""
        return None not in (self.depths, self.models, self.figures, self.recent)


class Looker:
    """Looks for one gateway. Asks for nothing before somebody looks."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._window = Window()
        self._looking = asyncio.Lock()
        self._last: tuple[float, View] | None = None

    async def look(self) -> View:
        """Return the state of the service; raises nothing, and takes about a second at most."""
        async with self._looking:
            if self._last is None or time.monotonic() - self._last[0] >= SHARED_SECONDS:
                view = await self._look()
                self._last = time.monotonic(), view
            return self._last[1]

    async def _look(self) -> View:
        gateway = self._gateway
        depths, models, figures, recent, numbers = await asyncio.gather(
            _tried(gateway.depths()),
            _tried(gateway.client.models()),
            _tried(self._figures()),
            _tried(gateway.recorder.recent(RECENT)),
            _tried(self._numbers()),
        )
        return View(
            moment=time.time(),
            depths=depths,
            models=models,
            numbers=numbers,
            change=None if figures is None else self._window.add(time.monotonic(), figures),
            figures=figures,
            recent=recent,
            intervals=gateway.handed_out.shown(),
            stopping=gateway.stopping,
        )

    async def _figures(self) -> Figures:
        return Figures.of(await self._gateway.recorder.sums())

    async def _numbers(self) -> dict[str, str]:
        look = (await self._gateway.examiner.look(at_most_seconds_old=SHARED_SECONDS)).look
        return {card.content: card.version for card in look.cards.values()} if look else {}


async def _tried(asked: Awaitable[T]) -> T | None:
    """Return what was asked for, None where it did not come in time."""
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return await asked
    except (RedisError, UqueueError, OSError, TimeoutError):
        return None

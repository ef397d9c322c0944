"""Some of the intervals that this gateway handed out, for the plot. Costs a job less than a microsecond."""

from __future__ import annotations

import base64
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: Of each model, the newest so many are kept.
KEPT = 60
#: Of each model, at most one is taken in this time.
SECONDS = 0.25
#: Of further models none is taken.
MOST_MODELS = 8
_TEXT = 80


@dataclass(frozen=True)
class Sample:
    """The interval of the first row and the first target of one answer; both are None where the row failed.

    moment  when it was handed out, in seconds since the epoch
    """

    moment: float
    version: str
    lower: float | None
    upper: float | None

    @property
    def midpoint(self) -> float | None:
        return None if self.lower is None or self.upper is None else self.lower / 2 + self.upper / 2

    @property
    def is_crossed(self) -> bool:
        """Whether lower is above upper, which some models' corrections do; see docs/concepts.md."""
        return self.lower is not None and self.upper is not None and self.lower > self.upper


class Samples:
    """What was taken, by model."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}
        self._taken: dict[str, deque[Sample]] = {}

    def take(self, message: Mapping[str, Any]) -> None:
        """Take a result message, if it is time for one of its model. Other messages than intervals are left out."""
        try:
            name = message["model"]["name"]
            now = self._clock()
            if now >= self._due.get(name, 0.0) and (name in self._taken or len(self._taken) < MOST_MODELS):
                self._due[name] = now + SECONDS
                sample = _sample(message)
                self._taken.setdefault(name, deque(maxlen=KEPT)).append(sample)
        except (LookupError, TypeError, ValueError, struct.error):
            pass  # a localization, or what a worker of another version wrote: nothing to plot

    def shown(self) -> dict[str, tuple[Sample, ...]]:
        """Return what was taken, oldest first, by model in the order of their names."""
        return {name: tuple(taken) for name, taken in sorted(self._taken.items())}


def _sample(message: Mapping[str, Any]) -> Sample:
    failed = bool(_first(message["failed"], "<?"))
    ends = (None, None) if failed else (_end(message["lower"]), _end(message["upper"]))
    return Sample(time.time(), str(message["model"]["version"])[:_TEXT], *ends)


def _end(array: Any) -> float:
    return float(_first(array, "<d"))


def _first(array: Any, code: str) -> Any:
    """Return the first number of an array as it travels (`uqueue_config.arrays`), without decoding the rest."""
    if isinstance(array, Mapping):
        return struct.unpack_from(code, base64.b64decode(array["data"][:12]))[0]
    while isinstance(array, list):
        array = array[0]
    return array

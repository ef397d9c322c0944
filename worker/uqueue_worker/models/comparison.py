"""How a shadow's answers differ from those that were given: sums per model, kept in Redis."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import redis
import structlog

from uqueue_config.names import comparison_key
from uqueue_config.prediction import IntervalPrediction
from uqueue_worker.models.interval_model import IntervalModel

_log = structlog.get_logger("uqueue.models")
#: Add to the sums, which begin anew when another pair of versions is compared.
_ADD = """#!lua flags=allow-oom
if redis.call('HGET', KEYS[1], 'versions') ~= ARGV[1] then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'versions', ARGV[1])
for at = 2, #ARGV, 2 do redis.call('HINCRBYFLOAT', KEYS[1], ARGV[at], ARGV[at + 1]) end
"""


@dataclass
class Sums:
    """Sums over the rows and targets that both versions answered.

    failed     jobs that the shadow could not answer
    rows       rows compared
    cells      rows x targets compared
    midpoint   sum of the absolute differences of the midpoints
    width      sum of the interval widths given; `shadow_width` of those of the shadow
    outside    cells in which the shadow's midpoint lies outside the interval given
    passes     passes drawn for the answers given; `shadow_passes` by the shadow
    """

    jobs: float = 0
    failed: float = 0
    rows: float = 0
    cells: float = 0
    midpoint: float = 0
    width: float = 0
    shadow_width: float = 0
    outside: float = 0
    passes: float = 0
    shadow_passes: float = 0

    def add(self, jobs: int, given: IntervalPrediction, shadow: IntervalPrediction) -> None:
        both = ~(given.failed | shadow.failed)
        middle = shadow.midpoint[both]
        self.jobs += jobs
        self.rows += int(both.sum())
        self.cells += middle.size
        self.midpoint += float(np.abs(given.midpoint[both] - middle).sum())
        self.width += float(given.width[both].sum())
        self.shadow_width += float(shadow.width[both].sum())
        self.outside += int(((middle < given.lower[both]) | (middle > given.upper[both])).sum())
        self.passes += int(given.passes_used.sum())
        self.shadow_passes += int(shadow.passes_used.sum())


class Comparisons:
    """Collects in this process until `store` is called. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[tuple[str, str], Sums] = {}

    def compare(
        self,
        jobs: int,
        model: IntervalModel,
        given: IntervalPrediction,
        shadow: IntervalModel,
        predict: Callable[[], IntervalPrediction],
    ) -> None:
        """Compare answers that `model` gave with what `predict` gets from the shadow. Whatever the shadow does, the
        answers stand."""
        try:
            other: IntervalPrediction | None = predict()
        except Exception as error:
            _log.warning("shadow_failed", model=model.identity.name, reason=str(error))
            other = None
        key = (model.identity.name, f"{model.identity.version} {shadow.identity.version}")
        with self._lock:
            sums = self._sums.setdefault(key, Sums())
            if other is None or other.lower.shape != given.lower.shape:
                sums.jobs += jobs
                sums.failed += jobs
            else:
                sums.add(jobs, given, other)

    def store(self, connection: redis.Redis) -> None:
        """Add what was collected to the sums in Redis. Raises RedisError; what was collected is then kept."""
        with self._lock:
            taken, self._sums = self._sums, {}
        script: Any = connection.register_script(_ADD)
        while taken:
            (model, versions), sums = next(iter(taken.items()))
            parts: Sequence[Any] = [part for one in fields(sums) for part in (one.name, repr(getattr(sums, one.name)))]
            try:
                script((comparison_key(model),), (versions, *parts))
            except redis.RedisError:
                with self._lock:
                    self._sums = {**taken, **self._sums}
                raise
            del taken[(model, versions)]

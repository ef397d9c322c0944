"""From the samples of one item to the row that a model reads. Pure, and work for a thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from uqueue.gateway.localization.requests import Item
from uqueue_config.localization import Declaration
from uqueue_config.recipes import MIN_SAMPLES, Recipe, check_sample_rate, decode_samples, read_samples
from uqueue_config.recipes.snr import snr_db

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Features:
    """One row for a model, and what listings say of its samples.

    row        float32 (1, values), the recipe's output
    shape      that of the recipe's output, without the batch axis
    receivers  how many were supplied
    """

    row: NDArray[np.float32]
    shape: tuple[int, ...]
    receivers: int
    snr_db: float
    seconds: float


def features_of(item: Item, declaration: Declaration, min_samples: int, max_samples: int) -> Features:
    """Return the features of an item. Raises MalformedSamples and InvalidSamples."""
    start = time.perf_counter()
    check_sample_rate(item.sample_rate_hz, declaration.sample_rate_hz)
    options = {"receivers": declaration.receivers, "min_samples": min_samples, "max_samples": max_samples}
    if item.iq_base64 is None:
        samples = read_samples(item.iq_data, **options)
    else:
        samples = decode_samples(item.iq_base64, item.shape, **options)
    (made,) = _recipe(declaration).features(samples).values()
    seconds = time.perf_counter() - start
    return Features(made.reshape(1, -1), made.shape[1:], len(samples), snr_db(samples), seconds)


def zeros_for(declaration: Declaration) -> NDArray[np.float32]:
    """Return the features of silence (1, values), to try a model out with."""
    silence = np.zeros((1, MIN_SAMPLES), np.complex64)
    (made,) = _recipe(declaration).features(silence).values()
    return made.reshape(1, -1)


@lru_cache(maxsize=16)
def _recipe(declaration: Declaration) -> Recipe:
    return declaration.recipe()


#: What takes no longer than some hundred microseconds: a base64 text of so many characters, 3 x 4096 samples.
SMALL = 3 * 4096 * 8 * 4 // 3


class Threads:
    """Runs work on the processor's cores beside the event loop; what is small at once: a thread that shares the
    interpreter's lock with a busy loop waits up to 5 ms for each of its turns.
    """

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="uqueue-localization")

    async def run(self, work: Callable[[], T], *, is_small: bool = False) -> T:
        if is_small:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

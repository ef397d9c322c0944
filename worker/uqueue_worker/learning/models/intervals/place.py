"""Where answers of interval models come from."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from uqueue_config.errors import UqueueError
from uqueue_config.prediction import IntervalPrediction
from uqueue_worker.learning.models.features import Float32Array
from uqueue_worker.learning.models.queue.wave import Deadline


class Chunk(NamedTuple):
    """Rows that are answered together: float32 (n, columns), and what makes their passes repeatable."""

    columns: Float32Array
    seed: int


@dataclass(frozen=True)
class PinnedIntervals:
    """One version of a model, by content: the 16 hexadecimal digits that `uqueue models` shows."""

    model: str
    version: str

    @property
    def reference(self) -> str:
        return f"{self.model}@{self.version}"


class IntervalPlace(Protocol):
    """`kind` is how evaluations are counted: local or queue."""

    kind: str

    def pin(self, tag: str | None, deadline: Deadline) -> PinnedIntervals:
        """Return the version that a tag names now. Raises ModelNotFound and ModelVersionNotFound."""
        ...

    def answers(
        self, pinned: PinnedIntervals, chunks: Iterable[Chunk], deadline: Deadline, in_flight: int
    ) -> Generator[IntervalPrediction | UqueueError]:
        """Yield the answer to each chunk in order, or the error that it ended with for good.

        Closing it gives up what is open. Raises an ActiveLearningError that no chunk can be answered with.
        """
        ...

    def list_versions(self) -> list[str]: ...

    def health(self) -> dict[str, Any]: ...

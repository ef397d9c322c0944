"""What Redis has of the figures, read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from uqueue_config.figures.definitions import FIGURES


@dataclass(frozen=True)
class Distribution:
    """A histogram with one set of label values: `counts` by upper bound, each without those below; the last is +Inf."""

    labels: tuple[str, ...]
    counts: tuple[float, ...]
    sum: float

    @property
    def count(self) -> float:
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """The mean of what was observed, 0 where nothing was."""
        return self.sum / self.count if self.count else 0.0


class Sums:
    """The fields of `COUNTERS_KEY`. What was never counted is 0."""

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        self._values: dict[str, dict[tuple[str, ...], float]] = {}
        for name, value in fields.items():
            figure, *labels = name.decode().split("\t")
            self._values.setdefault(figure, {})[tuple(labels)] = float(value)

    def value(self, name: str, *labels: str) -> float:
        """Return a counter with these label values."""
        return self._values.get(name, {}).get(labels, 0.0)

    def values(self, name: str) -> Mapping[tuple[str, ...], float]:
        """Return a counter by its label values."""
        return self._values.get(name, {})

    def total(self, name: str) -> float:
        """Return a counter summed over its labels."""
        return sum(self.values(name).values())

    def distributions(self, name: str) -> Iterator[Distribution]:
        """Yield a histogram, once for each set of label values."""
        found: dict[tuple[str, ...], dict[str, float]] = {}
        for labels, value in self.values(name).items():
            found.setdefault(labels[:-1], {})[labels[-1]] = value
        for labels, parts in sorted(found.items()):
            counts = tuple(parts.get(edge, 0.0) for edge in FIGURES[name].edges)
            yield Distribution(labels, counts, parts.get("sum", 0.0))

    def distribution(self, name: str) -> Distribution:
        """Return a histogram that has no labels."""
        return next(self.distributions(name), Distribution((), (0.0,) * len(FIGURES[name].edges), 0.0))

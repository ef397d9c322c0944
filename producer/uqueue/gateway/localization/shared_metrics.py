"""The figures that all processes share, as Prometheus reads them. Names and buckets are in `uqueue_config.figures`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from uqueue.status import ModelStatus
from uqueue_config.figures import FIGURES, Distribution, Figure, Sums
from uqueue_config.names import Queue

#: Worker processes in these states hold a model that is loaded and warmed up.
LOADED = frozenset({"ready", "stale"})
#: In these they answer jobs, one that is unloaded with the first.
SERVING = LOADED | {"unloaded"}
#: Label values that are shown before anything was counted under them, so that the first count is seen to be one.
_EXPECTED: dict[str, list[tuple[str, ...]]] = {
    "inference_requests_total": [("predict",), ("predict/batch",)],
    "uqueue_queue_wait_seconds": [(Queue.PREDICTIONS.value,)],
}


@dataclass(frozen=True)
class Snapshot:
    """What Redis said when it was last asked.

    active           localization requests in work, over all gateways
    memory_bytes     None where the gateway's Redis user may not ask
    depths           messages by queue
    accuracy_meters  of the localization model that should serve, None where its registry does not say
    """

    sums: Sums
    active: int
    memory_bytes: int | None
    depths: Mapping[str, int]
    models: Sequence[ModelStatus]
    accuracy_meters: float | None


class SharedCollector(Collector):
    """Yields the last snapshot; nothing where there is none, so that no figure of the past is shown as if it were."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None

    def collect(self) -> Iterator[Metric]:
        if self.snapshot is None:
            return
        for figure in FIGURES.values():
            yield _histogram(figure, self.snapshot.sums) if figure.bounds else _counter(figure, self.snapshot.sums)
        yield from _gauges(self.snapshot)


def _counter(figure: Figure, sums: Sums) -> Metric:
    family = CounterMetricFamily(figure.name, figure.help, labels=figure.labels)
    found = dict.fromkeys(_expected(figure), 0.0) | dict(sums.values(figure.name))
    for labels, value in sorted(found.items()):
        family.add_metric(labels, value)
    return family


def _histogram(figure: Figure, sums: Sums) -> Metric:
    family = HistogramMetricFamily(figure.name, figure.help, labels=figure.labels)
    nothing = (0.0,) * len(figure.edges)
    found = {labels: Distribution(labels, nothing, 0.0) for labels in _expected(figure)}
    found |= {one.labels: one for one in sums.distributions(figure.name)}
    for labels, one in sorted(found.items()):
        family.add_metric(labels, list(zip(figure.edges, accumulate(one.counts), strict=True)), one.sum)
    return family


def _expected(figure: Figure) -> list[tuple[str, ...]]:
    return _EXPECTED.get(figure.name, [] if figure.labels else [()])


def _gauges(snapshot: Snapshot) -> Iterator[Metric]:
    hits, misses = (snapshot.sums.value(f"cache_{name}_total") for name in ("hits", "misses"))
    looked_up = max(1.0, hits + misses)
    yield GaugeMetricFamily("cache_hit_rate", "Share of lookups that hit.", hits / looked_up)
    yield GaugeMetricFamily("cache_miss_rate", "Share of lookups that missed.", misses / looked_up)
    yield GaugeMetricFamily("inference_active_requests", "Localization requests in work.", snapshot.active)
    states = [process.state for model in snapshot.models for process in model.processes]
    loaded = any(state in LOADED for state in states)
    yield GaugeMetricFamily("model_loaded", "1 if any live worker serves a model, else 0.", loaded)
    if snapshot.memory_bytes is not None:
        yield GaugeMetricFamily("redis_memory_bytes", "Memory that Redis uses.", snapshot.memory_bytes)
    if snapshot.accuracy_meters is not None:
        help = "Accuracy that the registry states for the localization model."
        yield GaugeMetricFamily("model_accuracy_meters", help, snapshot.accuracy_meters)
    depth = GaugeMetricFamily("uqueue_queue_depth", "Messages that wait in a queue.", labels=["queue"])
    for queue, messages in sorted(snapshot.depths.items()):
        depth.add_metric([queue], messages)
    yield depth
    alive = {(process.host, process.pid) for model in snapshot.models for process in model.processes}
    yield GaugeMetricFamily("uqueue_workers_alive", "Worker processes that acknowledge.", len(alive))

"""What is counted. Names, labels and buckets are what dashboards were made for; they never change."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property

#: Sums that are kept for ever (a hash: see `field`).
COUNTERS_KEY = "uqueue:counters"
#: The last localizations as JSON, those of the last parcel first (a list).
RECENT_KEY = "uqueue:localizations"
#: How many requests each gateway works on (a hash: gateway -> number and when it said so, ms by Redis' clock).
GATEWAYS_KEY = "uqueue:gateways"
HOUR_SECONDS = 3600
SERIES_TTL_SECONDS = 31 * 24 * HOUR_SECONDS
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


def series_key(moment: float) -> str:
    """The localizations of the hour that a moment (seconds since the epoch) lies in (a hash of sums)."""
    return f"uqueue:series:{int(moment // HOUR_SECONDS)}"


def token_key(process: str) -> str:
    """The number of the last parcel that a process sent, so that one sent twice counts once."""
    return f"uqueue:parcel:{process}"


def field(name: str, *labels: str) -> str:
    """Return the field of `COUNTERS_KEY` for a figure with the values of its labels.

    Counters have one field. A histogram has one for each bucket that is not empty, named by its upper bound as a last
    label, holding what lies between that bound and the one below; and the field `sum`.
    """
    return "\t".join((name, *labels)) if labels else name


@dataclass(frozen=True)
class Figure:
    """A counter, or where there are bounds a histogram."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @cached_property
    def edges(self) -> tuple[str, ...]:
        """The upper bounds as Prometheus writes them, +Inf included."""
        return *(repr(float(bound)) for bound in self.bounds), "+Inf"

    def bucket(self, value: float) -> str:
        """Return the upper bound of the bucket that a value belongs to."""
        return self.edges[bisect_left(self.bounds, value)]


def _histogram(name: str, text: str, *labels: str, bounds: tuple[float, ...] = _SECONDS) -> Figure:
    return Figure(name, text, labels, bounds)


_LATENCY_MS = (10, 25, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1000, 2000, 5000)
_ONNX_MS = (5, 10, 25, 50, 75, 100, 150, 200, 500, 1000, 2000)
_ALL = (
    _histogram("inference_latency_ms", "Time to answer a localization request, errors included.", bounds=_LATENCY_MS),
    _histogram("preprocessing_latency_ms", "Time from IQ samples to features.", bounds=(1, 5, 10, 25, 50, 100)),
    _histogram("onnx_latency_ms", "Time that a model ran for the rows of a job.", bounds=_ONNX_MS),
    Figure("cache_hits_total", "Localizations answered from the cache."),
    Figure("cache_misses_total", "Localizations looked up in the cache and not found."),
    Figure("inference_requests_total", "Localization requests.", ("endpoint",)),
    Figure("inference_errors_total", "Localization requests answered with an error.", ("error_type",)),
    Figure("model_reloads_total", "Reloads that were completed."),
    Figure("model_inference_count_total", "Rows run through a localization model."),
    _histogram("uqueue_request_duration_seconds", "Time to answer a request, by route.", "endpoint", "status"),
    _histogram("uqueue_queue_wait_seconds", "Time from a job's acceptance to its last start.", "queue"),
    _histogram("uqueue_task_duration_seconds", "Time a worker process took for a job.", "task", "outcome"),
    _histogram("uqueue_model_inference_seconds", "Time that a model ran for jobs taken together.", "model_version"),
    Figure("uqueue_predictions_total", "Jobs for which a model was asked.", ("model_version", "outcome")),
    Figure("uqueue_tasks_total", "Tasks that worker processes ended.", ("task", "outcome")),
)
FIGURES = {one.name: one for one in _ALL}

"""What Prometheus reads: what this process counts, and what all processes of the service have counted together.

One registry per application, so that two of them in a process do not mix.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from uqueue.gateway.localization.recorder import Recorder
from uqueue.gateway.localization.shared_metrics import SharedCollector, Snapshot
from uqueue.gateway.problems import Problem
from uqueue_config.names import Queue

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
#: The endpoints of localizations, by their paths.
_LOCALIZES = {
    f"{prefix}/{endpoint}": endpoint
    for prefix in ("", "/api/v1/inference", "/v1/inference")
    for endpoint in ("predict", "predict/batch")
}


class Metrics:
    """Counters of the gateway's own, gauges that are set when they are asked for, and the shared figures."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.registry = CollectorRegistry()
        self._shared = SharedCollector()
        self.registry.register(self._shared)
        labels = ("method", "route")
        self.requests = Counter(
            "uqueue_gateway_requests", "Requests answered.", (*labels, "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "uqueue_gateway_request_seconds", "Time to answer.", labels, buckets=_BOUNDS, registry=self.registry
        )
        # By what they are labelled with; to find them among all takes longer than to count.
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.active = Gauge("uqueue_gateway_active_requests", "Requests in work.", registry=self.registry)
        self.refused = Counter(
            "uqueue_gateway_refused", "Requests that the gateway itself refused.", ("code",), registry=self.registry
        )
        self.webhooks = Counter("uqueue_webhooks", "Tries to deliver a webhook.", ("outcome",), registry=self.registry)
        self.store_up = Gauge("uqueue_store_up", "1 where Redis answers, else 0.", registry=self.registry)
        self.waiting = Gauge("uqueue_jobs_waiting", "Jobs in the queue predictions.", registry=self.registry)
        self.processes = Gauge(
            "uqueue_model_processes",
            "Worker processes by what they serve.",
            ("model", "version", "state"),
            registry=self.registry,
        )
        self.converged = Gauge(
            "uqueue_model_converged",
            "1 where all processes serve the wanted version, else 0.",
            ("model",),
            registry=self.registry,
        )

    def began(self, path: str) -> None:
        """A request has come in."""
        self.active.inc()
        self._recorder.active += path in _LOCALIZES

    def ended(self, path: str) -> None:
        """It is over, answered or not."""
        self.active.dec()
        self._recorder.active -= path in _LOCALIZES

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        known = self._children.get((method, route, status))
        if known is None:
            known = self.requests.labels(method, route, str(status)), self.seconds.labels(method, route)
            self._children[method, route, status] = known
        count, histogram = known
        count.inc()
        histogram.observe(seconds)
        self._recorder.route(route, status, seconds)

    def refused_request(self, path: str, problem: Problem, seconds: float) -> None:
        """The gateway refused a request before a route saw it."""
        self.refused.labels(problem.code).inc()
        if path in _LOCALIZES:
            self._recorder.request(_LOCALIZES[path], problem.status, seconds, problem.error)

    def show(self, snapshot: Snapshot) -> None:
        """Set what was just read from Redis."""
        self._shared.snapshot, models = snapshot, snapshot.models
        self.store_up.set(1)
        self.waiting.set(snapshot.depths[Queue.PREDICTIONS])
        self.processes.clear()
        self.converged.clear()
        for model in models:
            self.converged.labels(model.name).set(model.converged)
            for process in model.processes:
                self.processes.labels(model.name, process.version or "", process.state).inc()

    def show_nothing(self) -> None:
        """Redis is away: what it said last is not shown as if it were true."""
        self._shared.snapshot = None
        self.store_up.set(0)
        self.waiting.set(float("nan"))
        self.processes.clear()
        self.converged.clear()

    def text(self) -> bytes:
        return generate_latest(self.registry)

"""Figures of active learning for Prometheus, by the names of its specification. Ids are never labels.

prometheus-client is loaded when the first figure is counted; without it nothing is counted, and nothing else changes.
Where the environment names PROMETHEUS_MULTIPROC_DIR, the figures of all processes are shown as one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Self

_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
INTERFACES = ("local", "rest", "queue")
OUTCOMES = ("ok", "failed")
#: How a gauge is made one figure of those of several processes; breakers count only while their process lives.
_Mode = Literal["mostrecent", "livemax"]


@dataclass(frozen=True)
class Figure:
    """One metric: what it is called in Prometheus, what it says and what it is labelled with."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    says: str
    labels: tuple[str, ...] = ()
    mode: _Mode = "mostrecent"


FIGURES = {
    "feedback_seconds": Figure("histogram", "alm_feedback_seconds", "Time of an evaluation.", ("interface", "outcome")),
    "feedback_total": Figure("counter", "alm_feedback_total", "Evaluations.", ("interface", "outcome")),
    "weak_spots": Figure("gauge", "alm_weak_spots", "Weak spots found last.", ("type", "strategy")),
    "scenarios_created": Figure(
        "counter", "alm_scenarios_created_total", "Tries to make a scenario.", ("method", "outcome")
    ),
    "repository_seconds": Figure(
        "histogram", "alm_repository_seconds", "Time of a repository call.", ("op", "outcome")
    ),
    "samples": Figure(
        "counter", "alm_samples_total", "Samples by origin and what became of them.", ("origin", "outcome")
    ),
    "generation_seconds": Figure("histogram", "alm_generation_seconds", "Time to generate samples."),
    "cycle_seconds": Figure("histogram", "alm_cycle_seconds", "Time of a step of a cycle.", ("step",)),
    "cycles": Figure("counter", "alm_cycle_total", "Cycles that ended.", ("outcome",)),
    "model_metric": Figure("gauge", "alm_model_metric", "Metrics of the promoted model.", ("metric", "split")),
    "breaker_state": Figure(
        "gauge", "alm_breaker_state", "0 closed, 1 half-open, 2 open.", ("target",), mode="livemax"
    ),
    "retries": Figure("counter", "alm_retries_total", "Calls that were tried again.", ("target", "reason")),
    "budget_remaining": Figure("gauge", "alm_budget_remaining", "Samples that the latest run may still make."),
}
#: Series that are there, at 0, before anything happens: a rate cannot see the first count of a new series.
_FROM_THE_START: dict[str, tuple[tuple[str, ...], ...]] = {
    "feedback_total": tuple((interface, outcome) for interface in INTERFACES for outcome in OUTCOMES),
    "scenarios_created": tuple(
        (method, outcome)
        for method in ("variation", "template", "rule", "optimise", "explore")
        for outcome in ("stored", "failed")
    ),
    "samples": tuple(
        (origin, outcome) for origin in ("targeted", "exploration") for outcome in ("generated", "rejected")
    ),
    "cycles": tuple((outcome,) for outcome in ("completed", "failed", "skipped")),
}


class _Nothing:
    """Stands in for a figure where prometheus-client is not installed."""

    def labels(self, *_: Any, **__: Any) -> Self:
        return self

    def inc(self, amount: float = 1) -> None:
        """Count nothing."""

    set = observe = inc


class LearningMetrics:
    """The figures as attributes, by the keys of FIGURES: `metrics().samples.labels("targeted", "generated").inc(9)`."""

    def __init__(self) -> None:
        try:
            import prometheus_client
        except ModuleNotFoundError:
            self.registry: Any = None
            self._figures: Mapping[str, Any] = dict.fromkeys(FIGURES, _Nothing())
            return
        self.registry = prometheus_client.CollectorRegistry()
        self._figures = {key: _made(prometheus_client, figure, self.registry) for key, figure in FIGURES.items()}
        for key, series in _FROM_THE_START.items():
            for labels in series:
                self._figures[key].labels(*labels)

    def __getattr__(self, key: str) -> Any:
        try:
            return self.__dict__["_figures"][key]
        except KeyError:
            raise AttributeError(f"there is no figure {key}, only {', '.join(FIGURES)}") from None

    def text(self) -> bytes:
        """Return what Prometheus reads; empty without prometheus-client."""
        if self.registry is None:
            return b""
        from prometheus_client import generate_latest

        return generate_latest(self.shown())

    def shown(self) -> Any:
        """Return the registry to show: this process's, or one that reads those of all processes."""
        if self.registry is None or "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return self.registry
        from prometheus_client import CollectorRegistry
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return registry

    def serve(self, port: int, address: str = "127.0.0.1") -> Any:
        """Answer GET /metrics from a thread; return (server, thread). Raises ModuleNotFoundError naming the extra."""
        if self.registry is None:
            raise ModuleNotFoundError('Metrics need prometheus-client: pip install "uqueue[learning]"')
        from prometheus_client import start_http_server

        return start_http_server(port, addr=address, registry=self.shown())


@cache
def metrics() -> LearningMetrics:
    """Return the figures of this process; they are made when this is first called."""
    return LearningMetrics()


def keep_in(folder: str) -> None:
    """Keep the figures of this process, and of those that are forked from it, in files, so that each can show all.

    To be called before anything is counted. Does nothing where PROMETHEUS_MULTIPROC_DIR names a folder already.
    """
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        return
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    with suppress(ModuleNotFoundError):
        from prometheus_client import values

        # It looked at the environment when it was imported, which a plug-in of Celery may have done already.
        values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]


def process_ended(pid: int) -> None:
    """Forget the breakers of a process that ended; only where PROMETHEUS_MULTIPROC_DIR is used."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(pid)  # type: ignore[no-untyped-call]


@contextmanager
def timed_feedback(interface: str) -> Iterator[None]:
    """Count an evaluation and its time, with the outcome `failed` where it raises; a decorator, too."""
    began, outcome = time.monotonic(), "failed"
    try:
        yield
        outcome = "ok"
    finally:
        count_feedback(interface, outcome, time.monotonic() - began)


def count_feedback(interface: str, outcome: str, seconds: float) -> None:
    """Count an evaluation that ended, `ok` or `failed`."""
    metrics().feedback_total.labels(interface, outcome).inc()
    metrics().feedback_seconds.labels(interface, outcome).observe(seconds)


@contextmanager
def timed_repository(op: str) -> Iterator[None]:
    """Time a call of the repository: `failed` where that does not answer, `refused` for any other error."""
    began, outcome = time.monotonic(), "failed"
    try:
        yield
        outcome = "ok"
    except Exception as error:
        outcome = "failed" if getattr(error, "retryable", False) else "refused"
        raise
    finally:
        metrics().repository_seconds.labels(op, outcome).observe(time.monotonic() - began)


def _made(library: Any, figure: Figure, registry: Any) -> Any:
    given = (figure.name, figure.says, figure.labels)
    if figure.kind == "counter":
        return library.Counter(*given, registry=registry)
    if figure.kind == "histogram":
        return library.Histogram(*given, buckets=_SECONDS, registry=registry)
    return library.Gauge(*given, registry=registry, multiprocess_mode=figure.mode)

"""What the page has to show, made up: ordinary, empty, and hostile."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from uqueue.gateway.page.look import View
from uqueue.gateway.page.rates import Change, Figures
from uqueue.gateway.page.samples import Sample
from uqueue.status import ModelStatus
from uqueue_config.figures import Sums
from uqueue_config.messages import Acknowledgement

NOW = 1_790_000_000.0
DEPTHS = {"predictions": 1234, "control": 1, "dead": 7}


def localization(index: int = 0, **members: Any) -> dict[str, Any]:
    """Return a localization as `Recorder.recent` does."""
    moment = datetime.fromtimestamp(NOW, UTC) - timedelta(seconds=index)
    made = {
        "id": f"id-{index}",
        "session_id": "a",
        "timestamp": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "latitude": 52.0 + index / 100,
        "longitude": 5.0 - index / 100,
        "uncertainty_m": 120.0,
        "confidence": 0.75,
        "source_frequency_mhz": 145.5,
        "snr_avg_db": 11.25,
        "websdr_count": 3,
    }
    return made | members


def process(**members: Any) -> Acknowledgement:
    made = {"host": "secret-host", "pid": 4711, "model": "mccp-uq", "state": "ready", "version": "aaaabbbbccccdddd"}
    return Acknowledgement(**{**made, "engine": "fused", "jobs_done": 1500, "loaded_at": NOW - 7200, **members})


def model(*processes: Acknowledgement, name: str = "mccp-uq", **members: Any) -> ModelStatus:
    made = {"wanted_version": "aaaabbbbccccdddd", "rejected_version": None, "rejected_reason": None, **members}
    return ModelStatus(name=name, processes=processes or (process(model=name),), **made)


def figures(**amounts: float) -> Figures:
    """Return the figures of counters with these fields, whose names have `__` for the tabs between labels."""
    return Figures.of(Sums({name.replace("__", "\t").encode(): str(n).encode() for name, n in amounts.items()}))


def counted() -> Figures:
    """A thousand jobs that succeeded and ten that failed; four localizations, three from the cache."""
    amounts = {
        "uqueue_tasks_total\tuqueue.predict\tsucceeded": 1000,
        "uqueue_tasks_total\tuqueue.predict\tfailed": 10,
        "uqueue_tasks_total\tuqueue.artifacts.poll\tsucceeded": 99,
        "uqueue_queue_wait_seconds\tpredictions\t0.001": 900,
        "uqueue_queue_wait_seconds\tpredictions\t0.25": 110,
        "uqueue_queue_wait_seconds\tpredictions\tsum": 20.2,
        "uqueue_request_duration_seconds\t/v1/jobs\t200\t0.01": 20,
        "uqueue_request_duration_seconds\t/v1/jobs\t202\t0.005": 80,
        "uqueue_request_duration_seconds\t/v1/jobs\t202\tsum": 0.5,
        "uqueue_request_duration_seconds\t/health\t200\t300.0": 5,
        "inference_latency_ms\t+Inf": 4,
        "inference_latency_ms\tsum": 24_000,
        "cache_hits_total": 3,
        "cache_misses_total": 1,
    }
    return figures(**amounts)


def view(**members: Any) -> View:
    """Return an ordinary state; `members` override."""
    samples = tuple(Sample(NOW - 60 + one, "v1" if one < 30 else "v2", one - 5.0, one + 5.0) for one in range(60))
    made = View(
        moment=NOW,
        depths=DEPTHS,
        models=[model()],
        numbers={},
        change=Change(10.0, counted()),
        figures=counted(),
        recent=[localization(index) for index in range(5)],
        intervals={"mccp-uq": samples},
    )
    return replace(made, **members)

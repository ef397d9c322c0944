"""The page's tables, and how numbers and times are written for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from uqueue.gateway.page.map import degrees, metres
from uqueue.gateway.page.markup import Html, element
from uqueue.gateway.page.rates import Figures, Times
from uqueue.gateway.page.samples import Sample
from uqueue.status import ModelStatus
from uqueue_config.messages import Acknowledgement

#: What is not known.
UNKNOWN = "–"


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """Return a table; the first cell of each row is its header."""
    head = element("tr", *(element("th", column, scope="col") for column in columns))
    lines = [
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])) for row in rows
    ]
    return element("table", element("caption", caption), element("thead", head), element("tbody", *lines))


def latency_table(figures: Figures, caption: str) -> Html:
    """Return how long jobs and requests took."""
    rows = (
        ("Jobs in the queue", figures.waited),
        ("Jobs in a worker", figures.computed),
        ("Requests with a job", figures.submitted),
        ("Requests for a localization", figures.located),
    )
    return table(caption, ("what", "number", "median", "95 %", "mean"), (_latency(*row) for row in rows))


def _latency(name: str, times: Times) -> tuple[str, ...]:
    mean = UNKNOWN if times.mean is None else seconds(times.mean)
    return name, f"{times.count:,.0f}", bound(times, 0.5), bound(times, 0.95), mean


def bound(times: Times, share: float) -> str:
    """Return a percentile as the bounds of its bucket tell it."""
    found = times.at_most(share)
    if found is None:
        return UNKNOWN
    return f"> {seconds(times.bounds[-1])}" if math.isinf(found) else f"≤ {seconds(found)}"


def worker_table(models: Sequence[ModelStatus], numbers: Mapping[str, str], now: float) -> Html:
    """Return every worker process with the model that it serves."""
    columns = ("model", "process", "state", "version", "engine", "jobs", "loaded")
    rows = [row for model in models for row in _model_rows(model, numbers, now)]
    return table("Worker processes by model", columns, rows)


def _model_rows(model: ModelStatus, numbers: Mapping[str, str], now: float) -> list[tuple[str, ...]]:
    if not model.processes:
        return [(model.name, "none", UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN)]
    processes = sorted(model.processes, key=lambda one: (one.host, one.pid))
    return [_process(model.name, number, one, numbers, now) for number, one in enumerate(processes, 1)]


def _process(name: str, number: int, one: Acknowledgement, numbers: Mapping[str, str], now: float) -> tuple[str, ...]:
    reason = [element("small", one.reason)] if one.reason else []
    busy = [element("small", f"busy for {age(now - one.busy_since)}")] if one.busy_since else []
    state = element("span", element("span", one.state, class_=f"state {one.state}"), *reason, *busy)
    loaded = f"{age(now - one.loaded_at)} ago" if one.loaded_at else UNKNOWN
    return name, str(number), state, version(one.version, numbers), one.engine or UNKNOWN, f"{one.jobs_done:,}", loaded


def version(name: str | None, numbers: Mapping[str, str]) -> Html:
    """Return a version; that of a registered model by its number first."""
    if name is None:
        return Html(UNKNOWN)
    number = numbers.get(name)
    own = element("code", name)
    return own if number is None or number == name else element("span", number, " (", own, ")")


def model_list(models: Sequence[ModelStatus], numbers: Mapping[str, str]) -> Html:
    """Return which version every model should serve, and which was refused and why."""
    items = []
    for model in models:
        wanted = [" should serve ", version(model.wanted_version, numbers)] if model.wanted_version else []
        done = ", and does." if model.converged else ", and does not everywhere yet."
        said = [*wanted, done] if wanted else [": no version has been loaded yet."]
        refused = [_refused(model, numbers)] if model.rejected_version or model.rejected_reason else []
        items.append(element("li", element("strong", model.name), *said, *refused))
    return element("ul", *items, class_="models")


def _refused(model: ModelStatus, numbers: Mapping[str, str]) -> Html:
    reason = model.rejected_reason or "no reason was given"
    which = version(model.rejected_version, numbers) if model.rejected_version else "a version"
    return element("span", "Refused: ", which, f": {reason}", class_="refused")


def recent_table(recent: Sequence[Mapping[str, Any]]) -> Html:
    """Return the localizations of the map."""
    rows = [
        (
            clock(datetime.fromisoformat(one["timestamp"]).timestamp()),
            degrees(one["latitude"], "NS", 5),
            degrees(one["longitude"], "EW", 5),
            metres(one["uncertainty_m"]),
            f"{one['confidence']:.2f}",
            f"{one['source_frequency_mhz']:g} MHz",
            f"{one['snr_avg_db']:.1f} dB",
        )
        for one in recent
    ]
    columns = ("time (UTC)", "latitude", "longitude", "uncertainty", "confidence", "frequency", "signal to noise")
    return table("Recent localizations, newest first", columns, rows)


def interval_table(model: str, samples: Sequence[Sample]) -> Html:
    """Return the intervals of a plot."""
    rows = [
        (clock(one.moment), *(UNKNOWN if end is None else f"{end:.6g}" for end in _ends(one)), one.version, _note(one))
        for one in reversed(samples)
    ]
    columns = ("time (UTC)", "lower", "midpoint", "upper", "version", "note")
    return table(f"Recent intervals of {model}, newest first", columns, rows)


def _ends(sample: Sample) -> tuple[float | None, ...]:
    return sample.lower, sample.midpoint, sample.upper


def _note(sample: Sample) -> str:
    return "failed" if sample.midpoint is None else "crossed" if sample.is_crossed else ""


def clock(moment: float) -> str:
    """Return the time of day, in UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime("%H:%M:%S")


def age(seconds: float) -> str:
    """Return about how long something is ago."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def seconds(value: float) -> str:
    """Return a duration for people."""
    return f"{1000 * value:.3g} ms" if value < 1 else f"{value:.3g} s"


def rate(value: float) -> str:
    """Return a number per second for people."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

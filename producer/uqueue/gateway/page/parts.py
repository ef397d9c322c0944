"""The parts of the page that change, as HTML by name. The page is made with them, and refreshed from them."""

from __future__ import annotations

from collections.abc import Sequence

from uqueue.gateway.localization.shared_metrics import SERVING
from uqueue.gateway.page import tables
from uqueue.gateway.page.look import View
from uqueue.gateway.page.map import map_figure
from uqueue.gateway.page.markup import Html, element, joined
from uqueue.gateway.page.plot import plot_figure
from uqueue.gateway.page.samples import Sample
from uqueue.gateway.page.tables import UNKNOWN
from uqueue_config.names import DEAD_KEY, Queue

NAMES = ("banner", "updated", "tiles", "latency", "models", "workers", "map", "positions", "plots", "intervals")
_UNKNOWN = Html(f"<p>{UNKNOWN} Redis does not say.</p>")


def parts(view: View) -> dict[str, Html]:
    """Return all parts for a view."""
    clock = tables.clock(view.moment)
    made = {
        "banner": _banner(view),
        "updated": joined(["as of ", element("time", f"{clock} UTC", datetime=f"{clock}Z")]),
        "tiles": joined(_tiles(view)),
        "latency": _latency(view),
        **_models(view),
        **_localizations(view),
        **_intervals(view),
    }
    return {name: made[name] for name in NAMES}


def _banner(view: View) -> Html:
    if not view.is_reachable:
        text = "Redis does not answer. Jobs cannot be taken at the moment, and what depends on it is not known."
        return element("p", element("strong", "Not working: "), text, class_="banner bad")
    if view.stopping:
        return element("p", element("strong", "Ending: "), "this gateway is about to stop.", class_="banner warn")
    if not _serving(view):
        text = "no worker process serves a model, so jobs wait. Look below for reasons, or start a worker."
        return element("p", element("strong", "Waiting: "), text, class_="banner warn")
    return element("p", element("strong", "Running: "), "jobs are taken and answered.", class_="banner good")


def _serving(view: View) -> int:
    """Return how many processes answer jobs."""
    found = {
        (process.host, process.pid)
        for model in view.models or ()
        for process in model.processes
        if process.state in SERVING
    }
    return len(found)


def _tile(name: str, value: str, *notes: str) -> Html:
    shown = [element("dd", note, class_="note") for note in notes if note]
    return element("div", element("dt", name), element("dd", value, class_="value"), *shown, class_="tile")


def _tiles(view: View) -> list[Html]:
    return [_queue(view), _jobs(view), _wait(view), _processes(view), _cache(view)]


def _queue(view: View) -> Html:
    depths = view.depths
    if depths is None:
        return _tile("Jobs waiting", UNKNOWN)
    others = [f"{depths[DEAD_KEY]:,} dead letters", f"{depths[Queue.CONTROL]:,} for control"]
    return _tile("Jobs waiting", f"{depths[Queue.PREDICTIONS]:,}", ", ".join(others))


def _jobs(view: View) -> Html:
    change = view.change
    if change is None:
        return _tile("Jobs per second", UNKNOWN, "" if view.figures is None else "measured while somebody looks")
    failed = f"{tables.rate(change.failed_per_second)} of them fail, " if change.figures.failed else ""
    return _tile("Jobs per second", tables.rate(change.jobs_per_second), f"{failed}{_lately(change.seconds)}")


def _wait(view: View) -> Html:
    if view.change is None or not view.change.figures.waited.count:
        return _tile("Wait in the queue", UNKNOWN, "for 95 % of the jobs")
    waited = view.change.figures.waited
    return _tile(
        "Wait in the queue", tables.bound(waited, 0.95), f"for 95 % of the jobs, {_lately(view.change.seconds)}"
    )


def _processes(view: View) -> Html:
    if view.models is None:
        return _tile("Worker processes", UNKNOWN)
    known = {(process.host, process.pid) for model in view.models for process in model.processes}
    return _tile("Worker processes", f"{len(known)}", f"{_serving(view)} serving")


def _cache(view: View) -> Html:
    name, figures = "Cache hits", view.figures
    if figures is None:
        return _tile(name, UNKNOWN)
    lately = "" if view.change is None else _share(view.change.figures.hits, view.change.figures.misses)
    ever = _share(figures.hits, figures.misses)
    if not ever:
        return _tile(name, UNKNOWN, "no localization was looked up yet")
    of_all = f"of {figures.hits + figures.misses:,.0f} look-ups since counting began"
    if lately and view.change:
        return _tile(name, lately, _lately(view.change.seconds), f"{ever} {of_all}")
    return _tile(name, ever, of_all)


def _share(hits: float, misses: float) -> str:
    return f"{100 * hits / (hits + misses):.0f} %" if hits + misses else ""


def _lately(seconds: float) -> str:
    return f"over the last {tables.age(seconds)}"


def _latency(view: View) -> Html:
    if view.figures is None:
        return _UNKNOWN
    if view.change is None:
        return tables.latency_table(view.figures, "Since counting began")
    return tables.latency_table(view.change.figures, f"Over the last {tables.age(view.change.seconds)}")


def _models(view: View) -> dict[str, Html]:
    if view.models is None:
        return {"models": _UNKNOWN, "workers": Html("")}
    if not view.models:
        text = "No worker has reported yet. Start one, or all of a service with "
        return {"models": element("p", text, element("code", "uqueue up"), ".", class_="empty"), "workers": Html("")}
    numbers = view.numbers or {}
    return {
        "models": tables.model_list(view.models, numbers),
        "workers": tables.worker_table(view.models, numbers, view.moment),
    }


def _localizations(view: View) -> dict[str, Html]:
    if view.recent is None:
        return {"map": _UNKNOWN, "positions": Html("")}
    if not view.recent:
        return {"map": _empty("No localizations yet. Send IQ samples to ", "POST /predict"), "positions": Html("")}
    shapes = (
        "the ellipse" if all(one.get("ellipse") for one in view.recent) else "a circle with the area of the ellipse"
    )
    text = f"The last {len(view.recent)} that any gateway answered, each with {shapes} of its uncertainty."
    hint = element("p", text, " The newest is filled.", class_="hint")
    return {"map": joined([map_figure(view.recent), hint]), "positions": tables.recent_table(view.recent)}


def _intervals(view: View) -> dict[str, Html]:
    if not view.intervals:
        plots = _empty("This gateway has handed out no intervals yet. Send rows to ", "POST /v1/jobs")
        return {"plots": plots, "intervals": Html("")}
    figures = []
    for number, (model, samples) in enumerate(view.intervals.items(), 1):
        heading = element("h3", model)
        figures.append(element("div", heading, plot_figure(model, samples, number), _ends(samples), class_="plot"))
    numbers = [tables.interval_table(model, samples) for model, samples in view.intervals.items()]
    return {"plots": joined(figures), "intervals": joined(numbers)}


def _ends(samples: Sequence[Sample]) -> Html:
    first, last = (tables.clock(one.moment) for one in (samples[0], samples[-1]))
    return element("p", f"{len(samples)} from {first} to {last} UTC", class_="note")


def _empty(text: str, request: str) -> Html:
    return element("p", text, element("code", request), ".", class_="empty")

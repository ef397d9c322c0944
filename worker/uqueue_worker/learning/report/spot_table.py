"""The fourth part: every weak spot, with what was done about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from uqueue_config.learning.spots import LOW_RECALL, MISCLASSIFIED, UNCERTAIN
from uqueue_worker.learning.report.data import ReportData
from uqueue_worker.learning.report.markup import Html, element, folded, table
from uqueue_worker.learning.report.places import named
from uqueue_worker.learning.report.spots import Told

_KINDS = {UNCERTAIN: "uncertain", MISCLASSIFIED: "errors", LOW_RECALL: "low recall"}
_HEAD = (
    "rank", "kind", "class", "sensor", "region", "priority", "uncertainty", "samples", "recall before → after",
    "action", "scenarios", "features that count",
)  # fmt: skip
_MOST_LINKS = 6
_ABOUT = (
    "Recall is that of the pool's samples of the class in the region, before and after the cycle; they are few, and "
    "the region was chosen because the model erred there, so some of the rise is chance. Bars: epistemic uncertainty, "
    "which more data reduce, then aleatoric, which they do not."
)


def spot_table(data: ReportData, told: Sequence[Told], anchors: Mapping[str, str]) -> Html:
    """Return the section of weak spots, one table per cycle; all but the first open on demand."""
    parts: list[Html] = [element("h2", "Weak spots", id="spots"), element("p", _ABOUT, class_="note")]
    for cycle in data.done:
        of_cycle = [one for one in told if one.cycle == cycle.cycle]
        title = f"Cycle {cycle.cycle + 1}: {len(of_cycle)} weak spots, {cycle.samples_generated} samples made"
        made = table(title, _HEAD, [_row(data, one, anchors) for one in of_cycle], class_="spots")
        parts.append(made if cycle is data.done[0] else folded(title, made))
    if not data.done:
        parts.append(element("p", "No cycle has come to its end.", class_="empty"))
    return element("section", *parts, aria_labelledby="spots")


def _row(data: ReportData, told: Told, anchors: Mapping[str, str]) -> list[object]:
    spot = told.spot
    return [
        told.rank,
        _kind(told),
        told.label,
        spot.sensor_id or "–",
        element("span", told.region.removeprefix(f"{told.label}, "), class_="long", title=spot.weakness_id),
        f"{spot.priority:.2f}",
        _bar(told),
        told.samples,
        _recalls(told),
        _action(data, told),
        _links(told, anchors),
        _features(told),
    ]


def _kind(told: Told) -> str:
    """Return what sort of weak spot it is, and where it comes from if feedback on the pool did not name it."""
    origin = told.spot.details.get("origin")
    return f"{_KINDS[told.spot.type]} ({origin})" if isinstance(origin, str) else _KINDS[told.spot.type]


def _bar(told: Told) -> Html | str:
    details = told.spot.details
    epistemic, aleatoric = (details.get(f"{kind}_uncertainty_score") for kind in ("epistemic", "aleatoric"))
    if epistemic is None or aleatoric is None:
        return "–"
    words = f"epistemic {epistemic:.2f}, aleatoric {aleatoric:.2f}"
    return element(
        "svg",
        element("title", words),
        element("rect", class_="sea", x=0.0, y=0.0, width=100.0, height=10.0),
        element("rect", class_="epistemic", x=0.0, y=0.0, width=100.0 * epistemic, height=10.0),
        element("rect", class_="aleatoric", x=100.0 * epistemic, y=0.0, width=100.0 * aleatoric, height=10.0),
        viewBox="0 0 100 10",
        role="img",
        aria_label=words,
        class_="bar",
    )


def _features(told: Told) -> Html | str:
    summary = told.spot.details.get("sample_features_summary") or {}
    listed = list(summary.get("top_n_features") or ())[:3]
    if not listed:
        return "–"
    return element("span", ", ".join(_feature(one) for one in listed), class_="long")


def _feature(one: dict[str, object]) -> str:
    name, _ = named(str(one.get("feature_path")).rpartition(".")[2].rpartition("__")[2])
    importance = one.get("importance_score")
    return f"{name} {importance:+.2f}" if isinstance(importance, int | float) else name


def _action(data: ReportData, told: Told) -> str:
    suggestions = data.suggestions.get(told.cycle, ())
    found = next((one for one in suggestions if told.spot.weakness_id in one.originating_weak_spot_ids), None)
    if told.samples == 0:
        return "left alone in this cycle"
    words = {"modify_existing_scenario": "scenarios varied", "create_new_scenario": "scenarios added"}
    return words[found.kind] + f" ({found.state})" if found is not None else "samples made"


def _recalls(told: Told) -> str:
    if told.recall_before is None or told.recall_after is None:
        return "–"
    return f"{told.recall_before:.2f} → {told.recall_after:.2f} ({told.n_inside})"


def _links(told: Told, anchors: Mapping[str, str]) -> Html | str:
    if not told.scenarios:
        return "–"
    links = [
        element("a", str(number), href=f"#{anchors[name]}", title=name, class_="number")
        for number, name in enumerate(told.scenarios[:_MOST_LINKS], start=1)
    ]
    more = f" and {len(told.scenarios) - _MOST_LINKS} more" if len(told.scenarios) > _MOST_LINKS else ""
    return element("span", *(part for link in links for part in (link, " ")), more)

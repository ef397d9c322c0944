"""The first part of the page: what came of the run, in figures and one sentence."""

from __future__ import annotations

import math

from uqueue_config.learning.runs import Evaluation
from uqueue_worker.learning.report.data import Comparison, ReportData
from uqueue_worker.learning.report.markup import Html, element
from uqueue_worker.learning.report.paired import Difference, gains, needed

_STOPS = {
    "converged": "no gain worth the name in the last cycles",
    "target_reached": "the target was reached",
    "cycles_spent": "all cycles were done",
    "budget_spent": "the samples were used up",
    "no_weak_spots": "no weak spot was left",
    "repeated_failures": "three cycles in a row could not be done",
    "manual": "somebody stopped it",
}


def headline(data: ReportData) -> Html:
    """Return the section with the figures that matter most."""
    before, after = first_and_last(data)
    words = element("ul", *(element("li", sentence) for sentence in sentences(data)), class_="said")
    tiles = [
        _tile(f"{_metric_name(data.metric)} on the frozen test set", _change(before, after), _gain(before, after)),
        _tile("Samples made", str(data.run.samples_spent), _of_them(data)),
        _tile("Models promoted", _promoted(data), "a candidate that loses more than the guard allows is not"),
        _tile(
            "Ended",
            (data.run.stop_reason or data.run.status).replace("_", " "),
            _STOPS.get(data.run.stop_reason or "", ""),
        ),
    ]
    return element(
        "section",
        element("h2", "What came of it", id="headline"),
        words,
        element("dl", *tiles, class_="tiles"),
        aria_labelledby="headline",
    )


def sentences(data: ReportData) -> list[str]:
    """Return the findings as plain sentences; a comparison without gain says so."""
    before, after = first_and_last(data)
    found = []
    if before is not None and after is not None:
        found.append(
            f"{_metric_name(data.metric)} went from {before:.3f} to {after:.3f} on {_test_size(data)} test samples "
            f"that neither training nor the choice of weak spots has seen, with {data.run.samples_spent} samples added."
        )
        found += calibration(data)
        if after <= before:
            found.append("This run did not improve the model.")
    if data.comparison is not None:
        found += comparisons(data.comparison)
    return found or ["The run has not finished a cycle."]


def comparisons(comparison: Comparison) -> list[str]:
    """Return one sentence per baseline: the difference after the whole budget, and the samples it would have taken."""
    budget = comparison.cycles * comparison.samples_per_cycle
    samples = needed(comparison)
    found = []
    for arm in comparison.baselines:
        difference = gains(comparison).get(arm.name)
        if difference is None:
            continue
        wanted = samples[arm.name]
        reach = "never reaches" if wanted is None else f"takes {wanted:.0f} samples to reach"
        found.append(
            f"Against {arm.title}: {verdict(difference)} after {budget} samples each; the targeted mean {reach} what "
            f"{arm.title} has at the end."
        )
    return found


def calibration(data: ReportData) -> list[str]:
    """Return how far confidence and accuracy are apart before and after, if that is known."""
    tests = data.in_service("test")
    before, after = value_of(tests[0], "ece"), value_of(tests[-1], "ece")
    if before is None or after is None:
        return []
    said = "better" if after < before else "worse"
    return [f"Calibration got {said}: the expected calibration error went from {before:.3f} to {after:.3f}."]


def verdict(difference: Difference) -> str:
    """Return a difference in words, with its interval where there are pairs enough for one."""
    if not math.isfinite(difference.low):
        return f"{difference.mean:+.4f} in a single pair of seeds, which proves nothing,"
    interval = f"{difference.mean:+.4f} (95 % interval {difference.low:+.4f} to {difference.high:+.4f}, "
    interval += f"{difference.pairs} pairs of seeds)"
    said = {"gain": "a gain of ", "loss": "a loss: ", "none": "no gain that is told from chance: "}
    return said[difference.verdict] + interval


def first_and_last(data: ReportData) -> tuple[float | None, float | None]:
    """Return the metric on the test set of the first and of the last model in service."""
    found = [value_of(one, data.metric) for one in data.in_service("test")]
    return (found[0], found[-1]) if found else (None, None)


def value_of(evaluation: Evaluation | None, metric: str) -> float | None:
    return None if evaluation is None else evaluation.metrics.get(metric)


def _change(before: float | None, after: float | None) -> str:
    return "–" if before is None or after is None else f"{before:.3f} → {after:.3f}"


def _gain(before: float | None, after: float | None) -> str:
    return "" if before is None or after is None else f"{after - before:+.3f}"


def _of_them(data: ReportData) -> str:
    budget = data.run.config.sample_budget_per_cycle
    return f"{len(data.done)} cycles of at most {budget}"


def _promoted(data: ReportData) -> str:
    return f"{sum(cycle.promoted is True for cycle in data.done)} of {_trained(data)}"


def _trained(data: ReportData) -> int:
    return sum(cycle.candidate is not None for cycle in data.done)


def _test_size(data: ReportData) -> str:
    test = data.run.dataset("test")
    return "the" if test is None else str(test.ref.n)


def _metric_name(metric: str) -> str:
    return {"macro_f1_score": "Macro-F1", "accuracy": "Accuracy"}.get(metric, metric)


def _tile(name: str, value: str, note: str) -> Html:
    parts = [element("dt", name), element("dd", value, class_="value")]
    return element("div", *parts, element("dd", note, class_="note") if note else None, class_="tile")

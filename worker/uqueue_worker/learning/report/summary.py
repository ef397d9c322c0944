"""The report in a terminal."""

from __future__ import annotations

from uqueue_worker.learning.report.data import Comparison, ReportData
from uqueue_worker.learning.report.headline import sentences, value_of
from uqueue_worker.learning.report.paired import mean_curve
from uqueue_worker.learning.report.spots import positions_of, told_spots

_SHOWN_SPOTS = 3


def terminal_summary(data: ReportData) -> str:
    """Return the report as lines of plain text: findings, cycles with their first weak spots, curves."""
    lines = [f"- {sentence}" for sentence in sentences(data)]
    told = told_spots(data, positions_of(data))
    for cycle in data.done:
        test = value_of(cycle.test_after, data.metric)
        metric = "no candidate" if test is None else f"{data.metric} {test:.4f} on the test set"
        verdict = "promoted" if cycle.promoted else f"not promoted: {cycle.promotion_reason}"
        lines.append(f"cycle {cycle.cycle + 1}: {cycle.samples_generated} samples, {metric}, {verdict}")
        spots = [one for one in told if one.cycle == cycle.cycle and one.samples][:_SHOWN_SPOTS]
        lines += [f"  {one.samples:3d} samples for {one.region}" for one in spots]
    lines.append(f"stopped: {data.run.stop_reason or data.run.status}")
    if data.comparison is not None:
        lines += ["", *comparison_lines(data.comparison)]
    return "".join(f"{_printable(line)}\n" for line in lines)


def comparison_lines(comparison: Comparison) -> list[str]:
    """Return the mean curves as a table of text, one line per policy."""
    width = max(len(arm.title) for arm in comparison.arms)
    steps = [cycle * comparison.samples_per_cycle for cycle in range(comparison.cycles + 1)]
    lines = [f"{'samples added':{width}}  " + " ".join(f"{step:>6}" for step in steps)]
    for arm in comparison.arms:
        lines.append(f"{arm.title:{width}}  " + " ".join(f"{value:6.3f}" for value in mean_curve(arm.curves)))
    return lines


def _printable(line: str) -> str:
    """Return a line without control characters, which terminals would obey."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in line)

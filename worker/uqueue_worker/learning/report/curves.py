"""The second part: the metric by cycle against other policies, recall of each class, and calibration."""

from __future__ import annotations

from collections.abc import Sequence

from uqueue_worker.learning.report import charts
from uqueue_worker.learning.report.charts import Axis
from uqueue_worker.learning.report.data import TARGETED, Arm, Comparison, ReportData
from uqueue_worker.learning.report.headline import value_of
from uqueue_worker.learning.report.markup import Html, element, folded, table
from uqueue_worker.learning.report.paired import band, mean_curve

_WIDTH, _HEIGHT = 640.0, 340.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 620.0, 14.0, 296.0
_SMALL_RIGHT, _SMALL_BOTTOM = 408.0, 206.0
_STYLES = {TARGETED: 0, "random_box": 1, "random_deployment": 2}


def curves(data: ReportData) -> Html:
    """Return the section of curves; every picture has its numbers in a table."""
    parts = [element("h2", "How it went, cycle by cycle", id="curves")]
    if data.comparison is not None:
        parts += [_policies(data.comparison), folded("The curves as a table", _policy_table(data.comparison))]
    parts.append(element("div", _own(data), _recalls(data), _calibration(data), class_="pair"))
    parts.append(folded("This run as a table", _own_table(data)))
    return element("section", *parts, aria_labelledby="curves")


def _policies(comparison: Comparison) -> Html:
    bands = [end for arm in comparison.arms for pair in band(arm.curves) for end in pair]
    y = Axis(*charts.around([*bands, *comparison.reference]), _BOTTOM, _TOP)
    x = Axis(0, max(comparison.cycles, 1), _LEFT, _RIGHT)
    parts = [*charts.y_grid(y, _LEFT, _RIGHT), *_steps(x, y, comparison.cycles, comparison.samples_per_cycle)]
    arms = sorted(comparison.arms, key=lambda arm: arm.name == TARGETED)
    for arm in arms:
        points = [(x.at(cycle), y.at(low), y.at(high)) for cycle, (low, high) in enumerate(band(arm.curves))]
        parts.append(charts.area(points, f"band {_style(arm, comparison)}"))
    if comparison.reference:
        level = y.at(sum(comparison.reference) / len(comparison.reference))
        parts.append(charts.line([(_LEFT, level), (_RIGHT, level)], "reference"))
    for arm in arms:
        points2 = [(x.at(cycle), y.at(value)) for cycle, value in enumerate(mean_curve(arm.curves))]
        parts.append(charts.line(points2, f"curve {_style(arm, comparison)}"))
    n_seeds = len(comparison.seeds)
    about = f"Mean of {n_seeds} seeds and, shaded, the lowest to the highest seed. " + " ".join(
        f"{arm.title}: from {mean_curve(arm.curves)[0]:.3f} to {mean_curve(arm.curves)[-1]:.3f}."
        for arm in comparison.arms
    )
    title = f"{comparison.metric} on the test set by samples added"
    picture = charts.drawing(title, about, _WIDTH, _HEIGHT, "policies", *parts)
    many = f"{n_seeds} paired seeds" if n_seeds > 1 else "one seed"
    note = f"Lines are means of {many}, bands go from the lowest seed to the highest."
    return element(
        "figure", element("figcaption", title), _legend(comparison), picture, element("p", note, class_="note")
    )


def _style(arm: Arm, comparison: Comparison) -> str:
    others = [one.name for one in comparison.arms if one.name not in _STYLES]
    return f"arm{_STYLES.get(arm.name, len(_STYLES) + (others.index(arm.name) if arm.name in others else 0))}"


def _legend(comparison: Comparison) -> Html:
    entries = [_entry(f"curve {_style(arm, comparison)}", arm.title) for arm in comparison.arms]
    if comparison.reference:
        entries.append(_entry("reference", "start set and whole pool as training data"))
    return element("ul", *entries, class_="legend")


def _entry(style: str, words: str) -> Html:
    sample = element("svg", charts.line([(0, 6), (34, 6)], style), viewBox="0 0 34 12", aria_hidden="true")
    return element("li", sample, words)


def _steps(x: Axis, y: Axis, cycles: int, samples: int | None = None) -> list[Html]:
    """Return the numbers below the drawing: cycles, or the samples that they added."""
    numbers = [number if samples is None else number * samples for number in range(cycles + 1)]
    parts = [charts.text(shown, x.at(number), y.start + 18, "middle") for number, shown in enumerate(numbers)]
    words = "cycles" if samples is None else "samples added"
    return [*parts, charts.text(words, (x.start + x.end) / 2, y.start + 36, "middle")]


def _own(data: ReportData) -> Html:
    lines = {
        "test set": [value_of(one, data.metric) for one in data.in_service("test")],
        "feedback pool": [value_of(one, data.metric) for one in data.in_service("evaluation")],
    }
    title = f"{data.metric} of the model in service"
    return _lines(title, "own", lines)


def _calibration(data: ReportData) -> Html:
    lines = {
        "test set": [value_of(one, "ece") for one in data.in_service("test")],
        "feedback pool": [value_of(one, "ece") for one in data.in_service("evaluation")],
    }
    return _lines("Expected calibration error: confidence against accuracy, 0 is best", "calibration", lines)


def _recalls(data: ReportData) -> Html:
    evaluations = data.in_service("test")
    names = sorted({name for one in evaluations if one is not None for name in one.recalls})
    lines = {name: [None if one is None else one.recalls.get(name) for one in evaluations] for name in names}
    return _lines("Recall of each class on the test set", "recalls", lines)


def _lines(title: str, number: str, lines: dict[str, list[float | None]]) -> Html:
    values = [value for line in lines.values() for value in line if value is not None]
    cycles = max((len(line) for line in lines.values()), default=1) - 1
    x, y = Axis(0, max(cycles, 1), _LEFT, _SMALL_RIGHT), Axis(*charts.around(values), _SMALL_BOTTOM, _TOP)
    parts = [*charts.y_grid(y, _LEFT, _SMALL_RIGHT), *_steps(x, y, cycles)]
    entries = []
    for index, (name, line) in enumerate(lines.items()):
        points = [(x.at(cycle), y.at(value)) for cycle, value in enumerate(line) if value is not None]
        parts += [charts.line(points, f"curve line{index % 6}")] if points else []
        entries.append(_entry(f"curve line{index % 6}", name))
    about = " ".join(f"{name}: {_ends(line)}." for name, line in lines.items())
    legend = element("ul", *entries, class_="legend")
    picture = charts.drawing(title, about, _SMALL_RIGHT + 12, _SMALL_BOTTOM + 40, number, *parts)
    return element("figure", element("figcaption", title), legend, picture)


def _ends(line: Sequence[float | None]) -> str:
    known = [value for value in line if value is not None]
    return f"from {known[0]:.3f} to {known[-1]:.3f}" if known else "unknown"


def _policy_table(comparison: Comparison) -> Html:
    head = ["policy", *(f"{cycle * comparison.samples_per_cycle}" for cycle in range(comparison.cycles + 1))]
    rows = [[arm.title, *(f"{value:.4f}" for value in mean_curve(arm.curves))] for arm in comparison.arms]
    return table(f"Mean {comparison.metric} by samples added", head, rows)


def _own_table(data: ReportData) -> Html:
    """Return the run's own metrics; the expected calibration error stands here, too."""
    tests, pools = data.in_service("test"), data.in_service("evaluation")
    shown = (data.metric, "accuracy", "ece")
    rows = []
    for number, (test, pool) in enumerate(zip(tests, pools, strict=True)):
        who = next((one.model.version for one in (test, pool) if one is not None), "–")
        values = [value_of(one, name) for one in (test, pool) for name in shown]
        rows.append(["start" if number == 0 else f"cycle {number}", who, *map(_number, values)])
    head = ["after", "version", *(f"{split}: {name}" for split in ("test", "pool") for name in shown)]
    return table("The model in service after each cycle; ece is the expected calibration error", head, rows)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"

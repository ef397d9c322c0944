"""What people and programs see: tables and JSON on stdout, messages on stderr."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from uqueue.status import ModelStatus
from uqueue_config.prediction import IntervalPrediction

#: A longer result is abbreviated to its first and last rows.
SHOWN_ROWS = 20
HEAD_ROWS, TAIL_ROWS = 10, 5
#: Tables that go into a file or a pipe are not broken to the width of a terminal that is not there.
FILE_WIDTH = 240


def stdout() -> Console:
    """Return the console for data."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else FILE_WIDTH, highlight=False)


def stderr() -> Console:
    """Return the console for messages."""
    return Console(file=sys.stderr, width=None if sys.stderr.isatty() else FILE_WIDTH, highlight=False)


def say(message: str) -> None:
    """Print a message for people."""
    stderr().print(escape(message), soft_wrap=True)


def complain(message: str) -> None:
    """Print what went wrong."""
    stderr().print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, default=str, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_json_line(value: Any) -> None:
    """Print a JSON document in a line of its own."""
    sys.stdout.write(json.dumps(value, default=str, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_pairs(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, leaving out what is None."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in pairs:
        if value is not None:
            table.add_row(f"[bold]{escape(name)}[/]", escape(str(value)))
    stdout().print(table)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Return a table of texts; numbers stand right."""
    made = Table()
    lines = [[str(cell) if cell is not None else "–" for cell in row] for row in rows]
    for position, column in enumerate(columns):
        numeric = all(_is_number(line[position]) for line in lines)
        made.add_column(escape(column), justify="right" if lines and numeric else "left", overflow="fold")
    for line in lines:
        made.add_row(*(escape(cell) for cell in line))
    return made


def print_prediction(prediction: IntervalPrediction, *, every_row: bool = False) -> None:
    """Print intervals row by row; long results abbreviated unless `every_row`."""
    rows = len(prediction)
    abbreviated = rows > SHOWN_ROWS and not every_row
    shown = [*range(HEAD_ROWS), *range(rows - TAIL_ROWS, rows)] if abbreviated else list(range(rows))
    lines = [interval_cells(prediction, row) for row in shown]
    if abbreviated:
        lines.insert(HEAD_ROWS, ["…"] * len(lines[0]))
    stdout().print(table(interval_columns(prediction), lines))
    if abbreviated:
        say(f"{rows - len(shown)} of {rows} rows are left out; --all shows them, --json and --csv hold them.")
    say(provenance(prediction))


def interval_columns(prediction: IntervalPrediction) -> list[str]:
    """Return the column names for `interval_cells`."""
    unit = f" ({prediction.unit})" if prediction.unit else ""
    bounds = [f"target {target}\n{side}{unit}" for target in _targets(prediction) for side in ("lower", "upper")]
    return ["row", *bounds, "passes", "flags"]


def interval_cells(prediction: IntervalPrediction, row: int) -> list[str]:
    """Return one row as texts: its number, lower and upper of each target, passes used, and what to know about it."""
    bounds = [
        f"{side[row, target]:.4f}" for target in _targets(prediction) for side in (prediction.lower, prediction.upper)
    ]
    return [str(row), *bounds, str(prediction.passes_used[row]), ", ".join(_flags(prediction, row))]


def provenance(prediction: IntervalPrediction) -> str:
    """Return one sentence: which model answered, how, and what the intervals promise."""
    promise = "" if prediction.nominal_coverage is None else f", {prediction.nominal_coverage:.0%} coverage per target"
    how = f"{prediction.forward_mode}, {prediction.model.engine}, seed {prediction.seed}"
    warnings = "".join(f"\nwarning: {warning}" for warning in prediction.warnings)
    return f"model {prediction.model.name} {short(prediction.model.version)} ({how}){promise}{warnings}"


def print_csv(prediction: IntervalPrediction) -> None:
    """Print all rows as CSV with a header; a failed row has empty bounds."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    bounds = [f"{side}_{target}" for target in _targets(prediction) for side in ("lower", "upper")]
    writer.writerow(["row", *bounds, "passes_used", "converged", "crossed", "failed"])
    sides = np.stack([prediction.lower, prediction.upper], axis=2).reshape(len(prediction), -1).tolist()
    for row, values in enumerate(sides):
        failed = bool(prediction.failed[row])
        flags = (int(prediction.converged[row]), int(prediction.crossed[row]), int(failed))
        writer.writerow([row, *("" if failed else value for value in values), int(prediction.passes_used[row]), *flags])
    sys.stdout.write(text.getvalue())
    sys.stdout.flush()


def models_table(models: Sequence[ModelStatus]) -> Table:
    """Return who serves what: a line per process."""
    columns = ["model", "wanted", "process", "state", "serves", "engine", "mode", "jobs", "reason"]
    lines: list[Sequence[Any]] = []
    for model in models:
        wanted = short(model.wanted_version)
        for one in model.processes:
            serves = short(one.version)
            where = f"{one.host}:{one.pid}"
            lines.append(
                [model.name, wanted, where, one.state, serves, one.engine, one.forward_mode, one.jobs_done, one.reason]
            )
        if not model.processes:
            lines.append([model.name, wanted, "none", *[None] * 6])
    return table(columns, lines)


def model_message(model: ModelStatus) -> dict[str, Any]:
    """Return a model's status as JSON."""
    return {
        "name": model.name,
        "wanted_version": model.wanted_version,
        "rejected_version": model.rejected_version,
        "rejected_reason": model.rejected_reason,
        "converged": model.converged,
        "processes": [process.model_dump() for process in model.processes],
        "shadow": asdict(model.shadow) if model.shadow else None,
    }


def short(version: str | None) -> str:
    """Return the beginning of a version, enough to tell versions apart."""
    return version[:12] if version else "–"


def _targets(prediction: IntervalPrediction) -> range:
    return range(prediction.lower.shape[1])


def _flags(prediction: IntervalPrediction, row: int) -> list[str]:
    flags = {
        "failed": prediction.failed[row],
        "crossed": prediction.crossed[row],
        "not converged": not prediction.converged[row],
    }
    return [flag for flag, holds in flags.items() if holds]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in ("–", "…")
    return True

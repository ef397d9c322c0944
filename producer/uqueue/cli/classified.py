"""What people see of a classification: the class of each row, and how sure the model is of it."""

from __future__ import annotations

import csv
import io
import sys

from uqueue.cli.output import HEAD_ROWS, SHOWN_ROWS, TAIL_ROWS, say, stdout, table
from uqueue_config.classification import PARTS, Classification


def print_classification(found: Classification, *, every_row: bool = False) -> None:
    """Print the class of each row with its probability and the parts of the uncertainty; long results abbreviated
    unless `every_row`."""
    rows = len(found)
    abbreviated = rows > SHOWN_ROWS and not every_row
    shown = [*range(HEAD_ROWS), *range(rows - TAIL_ROWS, rows)] if abbreviated else list(range(rows))
    labels = found.labels
    lines = [[str(row), labels[row], f"{found.probabilities[row].max():.4f}", *_parts(found, row)] for row in shown]
    if abbreviated:
        lines.insert(HEAD_ROWS, ["…"] * len(lines[0]))
    stdout().print(table(["row", "class", "probability", *PARTS], lines))
    if abbreviated:
        say(f"{rows - len(shown)} of {rows} rows are left out; --all shows them, --json and --csv hold them.")
    say(f"model {found.model.name} {found.model_version} ({found.method}, {found.model.engine})")


def print_classification_csv(found: Classification) -> None:
    """Print all rows as CSV with a header: class, probability of every class, parts of the uncertainty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "class", *(f"p_{name}" for name in found.classes), *PARTS])
    for row, label in enumerate(found.labels):
        writer.writerow([row, label, *found.probabilities[row].tolist(), *_numbers(found, row)])
    sys.stdout.write(text.getvalue())
    sys.stdout.flush()


def _numbers(found: Classification, row: int) -> list[float | str]:
    arrays = [getattr(found, name) for name in PARTS]
    return ["" if array is None else float(array[row]) for array in arrays]


def _parts(found: Classification, row: int) -> list[str]:
    return [number if isinstance(number, str) else f"{number:.4f}" for number in _numbers(found, row)]

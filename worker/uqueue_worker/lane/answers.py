"""Many answers from one evaluation, as the result messages that `IntervalPrediction.to_message` would give one by one.

Building each answer from arrays of its own costs more than its prediction, so the arrays become lists once per batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from uqueue_config.settings import Settings
from uqueue_worker.models.interval_model import Float32, IntervalModel, Together
from uqueue_worker.units import in_target_units


def result_messages(
    model: IntervalModel, settings: Settings, whole: Together, tables: Sequence[Float32], seeds: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Yield the message of each table, in order, with its arrays as lists."""
    columns = in_target_units(whole.prediction, settings).to_message("lists")
    special = whole.prediction.failed | whole.far
    common = {**columns, "warnings": list(model.standing_warnings)}
    first = 0
    for table, seed in zip(tables, seeds, strict=True):
        end = first + len(table)
        if len(table) > 1 or special[first]:
            part = model.part(whole, first, end, seed)
            yield in_target_units(part, settings).to_message("lists")
        else:
            yield _one_row(common, first, seed)
        first = end


_ROW_MEMBERS = ("lower", "upper", "midpoint", "width", "passes_used", "converged", "crossed", "failed", "pass_std")


def _one_row(columns: dict[str, Any], row: int, seed: int) -> dict[str, Any]:
    message = dict(columns)
    for name in _ROW_MEMBERS:
        message[name] = [columns[name][row]]
    message["intervals"] = columns["width"][row]
    message["seed"] = seed
    return message

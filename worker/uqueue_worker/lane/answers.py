"""Many answers from one evaluation, as the JSON of what `IntervalPrediction.to_message` gives one by one.

Building each answer from arrays of its own costs more than its prediction. So each array of the whole is written as
JSON once, and its text cut into rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from numpy.typing import NDArray
from pydantic_core import to_json

from uqueue_config.catalog import ModelSpec
from uqueue_worker.models.interval_model import IntervalModel, Together
from uqueue_worker.units import in_target_units

_ONE_ROW = (
    b'{"schema":1,"lower":[[%b]],"upper":[[%b]],"midpoint":[[%b]],"width":[[%b]],"passes_used":[%b],"converged":[%b],'
    b'"crossed":[%b],"failed":[false],"pass_std":[[[%b]]],"intervals":[%b],"q_hat":%b,"seed":%d,%b'
)


def results_json(
    model: IntervalModel, spec: ModelSpec, whole: Together, lengths: Sequence[int], seeds: Sequence[int]
) -> Iterator[bytes]:
    """Yield the result message of each table as JSON, in order; `lengths` are the rows of each."""
    good = in_target_units(whole.prediction, spec)
    widths = _rows(good.width)
    columns = zip(
        *(_rows(good.lower), _rows(good.upper), _rows(good.midpoint), widths, _rows(good.passes_used)),
        *(_rows(good.converged), _rows(good.crossed), _rows(good.pass_std), widths),
        strict=True,
    )
    one_row = list(columns)
    message = good.to_message("lists")
    constant = ("stochastic", "forward_mode", "nominal_coverage", "model", "unit")
    tail = to_json({**{name: message[name] for name in constant}, "warnings": model.standing_warnings})[1:]
    q_hat = to_json(message["q_hat"])
    special = (whole.prediction.failed | whole.far).tolist()
    first = 0
    for length, seed in zip(lengths, seeds, strict=True):
        if length > 1 or special[first]:
            part = model.part(whole, first, first + length, seed)
            yield to_json(in_target_units(part, spec).to_message("lists"))
        else:
            yield _ONE_ROW % (*one_row[first], q_hat, seed, tail)
        first += length


def _rows(array: NDArray[Any]) -> list[bytes]:
    """Return the JSON of each element along the first axis, without its outermost brackets."""
    depth = array.ndim
    text: bytes = to_json(array.tolist())
    return text[depth:-depth].split(b"]" * (depth - 1) + b"," + b"[" * (depth - 1))

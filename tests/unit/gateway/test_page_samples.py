"""Which intervals are kept for the plot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from uqueue.gateway.page.samples import KEPT, MOST_MODELS, Samples
from uqueue_config.arrays import encode_array


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def message(
    lower: float = 1.5, upper: float = 4.5, *, failed: bool = False, encoding: Any = "lists", model: str = "m"
) -> dict[str, Any]:
    rows = np.array([failed, False])
    ends = {"lower": np.array([[lower, -1.0], [9.0, 9.0]]), "upper": np.array([[upper, -2.0], [8.0, 8.0]])}
    arrays = {name: encode_array(array, encoding, blank_rows=rows) for name, array in ends.items()}
    return {**arrays, "failed": encode_array(rows, encoding), "model": {"name": model, "version": "v1"}}


@pytest.mark.parametrize("encoding", ["lists", "base64"])
@pytest.mark.parametrize("failed", [False, True])
def test_the_first_row_and_target_are_taken(encoding: str, failed: bool) -> None:
    samples = Samples(Clock())
    samples.take(message(encoding=encoding, failed=failed))
    [one] = samples.shown()["m"]
    wanted = (None, None, None) if failed else (1.5, 3.0, 4.5)
    assert (one.lower, one.midpoint, one.upper, one.version, one.is_crossed) == (*wanted, "v1", False)


def test_a_crossed_interval_is_told() -> None:
    samples = Samples(Clock())
    samples.take(message(4.0, 3.0))
    assert samples.shown()["m"][0].is_crossed


def test_of_each_model_at_most_four_a_second_and_the_newest() -> None:
    clock = Clock()
    samples = Samples(clock)
    for tick in range(1000):
        clock.now = tick / 100
        for model in ("a", "b"):
            samples.take(message(tick, tick + 1, model=model))
    assert {name: len(taken) for name, taken in samples.shown().items()} == {"a": 40, "b": 40}
    for tick in range(100):
        clock.now = 100.0 + tick
        samples.take(message(tick, tick + 1, model="a"))
    kept = samples.shown()["a"]
    assert (len(kept), kept[-1].lower) == (KEPT, 99)


def test_not_more_models_than_a_page_can_show() -> None:
    samples = Samples(Clock())
    for number in range(50):
        samples.take(message(model=f"m{number}"))
    assert len(samples.shown()) == MOST_MODELS


@pytest.mark.parametrize(
    "odd",
    [
        {"kind": "localization", "latitude": [1.0]},
        {**message(), "lower": []},
        {**message(), "lower": {"dtype": "<f8", "shape": [0], "data": ""}},
        {**message(), "lower": {"dtype": "<f8"}},
        {**message(), "lower": [["wide"]]},
        {**message(), "failed": None, "upper": None},
        {**message(), "model": None},
        {**message(), "model": {"name": [], "version": 1}},
    ],
)
def test_what_is_no_interval_is_left_out(odd: dict[str, Any]) -> None:
    samples = Samples(Clock())
    samples.take(odd)
    assert samples.shown() == {}


class Untouched(dict[str, Any]):
    """A message of which only the model's name may be looked at."""

    def __getitem__(self, name: str) -> Any:
        assert name == "model", f"{name} was read"
        return super().__getitem__(name)


def test_between_two_samples_a_job_costs_next_to_nothing() -> None:
    clock = Clock()
    samples = Samples(clock)
    samples.take(message())
    samples.take(Untouched(message()))
    clock.now = 1.0
    with pytest.raises(AssertionError, match="was read"):
        samples.take(Untouched(message()))

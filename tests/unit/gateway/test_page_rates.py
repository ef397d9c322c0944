"""Rates and times from readings of counters that only grow."""

from __future__ import annotations

import math

import pytest

from builders.page_views import counted, figures
from uqueue.gateway.page.rates import Times, Window

DONE = "uqueue_tasks_total__uqueue.predict__succeeded"


def test_a_rate_needs_two_readings_some_seconds_apart() -> None:
    window = Window()
    assert window.add(100, figures(**{DONE: 50})) is None
    assert window.add(103, figures(**{DONE: 80})) is None
    change = window.add(110, figures(**{DONE: 150}))
    assert change is not None
    assert (change.seconds, change.jobs_per_second, change.failed_per_second) == (10, 10, 0)


def test_the_window_moves_on() -> None:
    window = Window()
    for second in range(300):
        change = window.add(second, figures(**{DONE: 3 * second if second < 200 else 600}))
    assert change is not None
    assert 60 <= change.seconds <= 63
    assert change.jobs_per_second == 0
    assert len(window._readings) < 40


def test_a_reading_from_long_ago_is_forgotten() -> None:
    window = Window()
    window.add(0, figures(**{DONE: 1}))
    assert window.add(601, figures(**{DONE: 1000})) is None
    old = Window()
    old.add(0, figures(**{DONE: 0}))
    change = old.add(300, figures(**{DONE: 300}))
    assert change is not None
    assert (change.seconds, change.jobs_per_second) == (300, 1)


def test_counters_that_were_lost_begin_anew() -> None:
    window = Window()
    window.add(0, figures(**{DONE: 1000}))
    assert window.add(10, figures(**{DONE: 3})) is None
    change = window.add(20, figures(**{DONE: 13}))
    assert change is not None
    assert change.jobs_per_second == 1


def test_times_of_what_was_counted_since() -> None:
    before, now = counted(), counted()
    assert now.since(before).waited.count == 0
    assert now.since(before).waited.at_most(0.95) is None
    assert now.since(before).waited.mean is None
    assert now.is_possible


@pytest.mark.parametrize(
    ("counts", "median", "high"),
    [((10, 0, 0), 1, 1), ((5, 5, 0), 1, 2), ((0, 0, 3), math.inf, math.inf), ((94, 6, 0), 1, 2), ((95, 5, 0), 1, 1)],
)
def test_percentiles_are_bounds_of_buckets(counts: tuple[float, ...], median: float, high: float) -> None:
    times = Times((1, 2), counts, 0)
    assert (times.at_most(0.5), times.at_most(0.95)) == (median, high)

"""Fast jobs are taken by the hundred, slow ones few at a time, so that other processes find some too."""

from __future__ import annotations

from uqueue_worker.lane.pace import BATCH_SECONDS, MOST_JOBS, Pace


def test_jobs_of_microseconds_are_taken_by_the_hundred() -> None:
    pace = Pace()
    pace.note(256, 0.005)
    assert pace.most_jobs == MOST_JOBS
    assert pace.is_fast


def test_slow_jobs_are_taken_few_at_a_time() -> None:
    pace = Pace()
    pace.note(10, 0.2)
    assert pace.most_jobs * 0.02 <= BATCH_SECONDS
    assert not pace.is_fast
    pace.note(1, 60.0)
    assert pace.most_jobs == 1


def test_one_slow_batch_is_forgotten_by_and_by() -> None:
    pace = Pace()
    pace.note(1, 1.0)
    for _ in range(30):
        pace.note(256, 0.005)
    assert pace.is_fast

"""How many jobs to take at a time: as many as are answered in a moment, so that no other process idles meanwhile."""

from __future__ import annotations

MOST_JOBS = 256
#: What is claimed at a time should take no longer than this.
BATCH_SECONDS = 0.1


class Pace:
    """Follows how long jobs take here."""

    def __init__(self) -> None:
        self._seconds_per_job = 0.0

    def note(self, jobs: int, seconds: float) -> None:
        """Take into account a batch that was answered; a slow one counts at once, a fast one by and by."""
        latest = seconds / jobs
        self._seconds_per_job = max(latest, 0.7 * self._seconds_per_job)

    @property
    def most_jobs(self) -> int:
        if self._seconds_per_job * MOST_JOBS <= BATCH_SECONDS:
            return MOST_JOBS
        return max(1, int(BATCH_SECONDS / self._seconds_per_job))

    @property
    def is_fast(self) -> bool:
        """Whether the next batch may be taken before this one is answered."""
        return self.most_jobs == MOST_JOBS

"""A clock that goes on while work is done, and cuts long pauses short: a person's approval takes days."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import datetime

from uqueue_worker.learning.report.work import Span, seconds, united

_LONG_SHARE = 0.1
_LONG_SECONDS = 1.0


class BusyClock:
    """Seconds from the first span on, in which a pause of more than a tenth of the work counts as that tenth.

    end   what the clock says at the end of the last span
    cuts  what it says in the middle of each pause that was cut, and the seconds that this one had
    """

    def __init__(self, spans: Sequence[Span]) -> None:
        self._busy = united(spans)
        long = max(_LONG_SECONDS, _LONG_SHARE * seconds(self._busy))
        self._starts: list[float] = []
        self.cuts: list[tuple[float, float]] = []
        self.end = 0.0
        for place, (begin, end) in enumerate(self._busy):
            pause = (begin - self._busy[place - 1][1]).total_seconds() if place else 0.0
            if pause > long:
                self.cuts.append((self.end + long / 2, pause))
            self._starts.append(self.end + min(pause, long))
            self.end = self._starts[-1] + (end - begin).total_seconds()

    def at(self, moment: datetime) -> float:
        """Return what the clock says at a moment within a span."""
        place = bisect_right(self._busy, moment, key=lambda span: span[0]) - 1
        return self._starts[place] + (moment - self._busy[place][0]).total_seconds()

"""Makes a process live in another hour: with this folder on PYTHONPATH, its wall clock is CLOCK_SHIFT seconds off.

Python imports this file before anything else. Monotonic clocks are left alone, as they are where a wall clock is wrong.
"""

from __future__ import annotations

import datetime
import os
import time
from typing import Any

_SHIFT = float(os.environ.get("CLOCK_SHIFT", "0"))
_datetime = datetime.datetime
_time, _time_ns = time.time, time.time_ns


class _AnyDatetime(type(_datetime)):  # type: ignore[misc]
    def __instancecheck__(cls, one: Any) -> bool:
        return isinstance(one, _datetime)


class _Shifted(_datetime, metaclass=_AnyDatetime):
    @classmethod
    def now(cls, tz: Any = None) -> _datetime:
        return _datetime.now(tz) + datetime.timedelta(seconds=_SHIFT)

    @classmethod
    def utcnow(cls) -> _datetime:
        return _datetime.utcnow() + datetime.timedelta(seconds=_SHIFT)


if _SHIFT:
    time.time = lambda: _time() + _SHIFT
    time.time_ns = lambda: _time_ns() + int(_SHIFT * 1e9)
    datetime.datetime = _Shifted  # type: ignore[misc]

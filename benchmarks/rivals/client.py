"""The client process of a contender: `python -m rivals.client MODULE FUNCTION COUNT`, JSON on stdout.

submit       {"seconds": ..., "keys": [...]}: the first job, which pays for connecting, is in the keys only
round_trip   {"milliseconds": [...], "answers": [...]}: one job at a time, after a tenth more to warm up
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any


def submitted(submit: Callable[[int], list[str]], count: int) -> dict[str, Any]:
    keys = submit(1)
    started = time.perf_counter()
    keys += submit(count - 1)
    return {"seconds": time.perf_counter() - started, "keys": keys}


def round_trips(round_trip: Callable[[], Any], count: int) -> dict[str, Any]:
    """Return each trip's time, and the different answers that came (one, if all is well)."""
    answers = [round_trip() for _ in range(max(5, count // 10))]
    milliseconds = []
    for _ in range(count):
        started = time.perf_counter()
        answers.append(round_trip())
        milliseconds.append((time.perf_counter() - started) * 1e3)
    distinct = {json.dumps([answer["lower"], answer["upper"]]) for answer in answers}
    return {"milliseconds": milliseconds, "answers": [json.loads(one) for one in sorted(distinct)]}


def main() -> None:
    module, function, count = sys.argv[1:]
    call = getattr(importlib.import_module(module), function)
    found = submitted(call, int(count)) if function == "submit" else round_trips(call, int(count))
    json.dump(found, sys.stdout)
    gc.collect()  # Celery's results talk to Redis once more when they are collected


if __name__ == "__main__":
    main()

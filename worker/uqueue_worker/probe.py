"""Whether the worker processes of this host serve and consume: `python -m uqueue_worker.probe`, for health checks.

Exits with 0 and one line on stdout, or with 1 and the reason on stderr. It answers at once, unless jobs wait while
nobody here computes: to tell that from a moment between two batches takes some seconds.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, cast

import redis

from uqueue_config.connections import connect, translated
from uqueue_config.errors import UqueueError
from uqueue_config.messages import LAPSE_SECONDS, Acknowledgement
from uqueue_config.names import MODELS_KEY, Queue, serving_key
from uqueue_config.settings import Settings
from uqueue_worker import pool_processes

REPLY_SECONDS = 3.0
#: Jobs may wait for so long while no process here computes or finishes any; acknowledgements come every 2 s.
PATIENCE_SECONDS = 8.0
LOOK_SECONDS = 0.5


class Unwell(Exception):
    """What a restart of the worker is for. The message says what it is."""


class Probe:
    """Looks at the worker processes of this host, with the connections and rights of a worker."""

    def __init__(self, settings: Settings, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._settings = settings
        self._patience_seconds = patience_seconds

    def look(self) -> str:
        """Return one line about processes that are well. Raises Unwell, or ServiceUnreachable."""
        settings = self._settings
        with (
            translated(settings.result_store),
            connect(settings.result_store, reply_seconds=REPLY_SECONDS, retries=0) as records,
            connect(settings.broker, reply_seconds=REPLY_SECONDS, retries=0) as broker,
        ):
            lapsed, found = _acknowledged(records)
            if not found:
                raise Unwell(f"no worker process of {socket.gethostname()} acknowledges that it serves")
            self._check_pools(found, lapsed)
            waiting = self._await_progress(records, broker, found)
        states = ", ".join(f"{count} {state}" for state, count in Counter(one.state for one in found).items())
        return f"{len(found)} processes serve ({states}), {waiting} jobs wait"

    def _check_pools(self, found: Sequence[Acknowledgement], lapsed: set[int]) -> None:
        """Raise Unwell for a process that should acknowledge and does not, as one that is stopped."""
        alive = {one.pid for one in found}
        loading = self._settings.model_load_seconds.total_seconds()
        for pool in {one.pool_pid for one in found if one.pool_pid is not None}:
            for pid, age_seconds in pool_processes.children(pool):
                if pid not in alive and age_seconds > (LAPSE_SECONDS if pid in lapsed else loading):
                    raise Unwell(f"process {pid} does not acknowledge that it serves")

    def _await_progress(self, records: redis.Redis, broker: redis.Redis, found: Sequence[Acknowledgement]) -> int:
        """Return how many jobs wait, as soon as it is plain that they are worked on. Raises Unwell if they are not."""
        before, give_up = _jobs_done(found), time.monotonic() + self._patience_seconds
        while waiting := cast(int, broker.llen(Queue.PREDICTIONS)):
            if self._is_computing(found) or _jobs_done(found) != before:
                break
            if time.monotonic() > give_up:
                raise Unwell(f"{waiting} jobs wait, and no process of {socket.gethostname()} takes any")
            time.sleep(LOOK_SECONDS)
            found = _acknowledged(records)[1]
        return waiting

    def _is_computing(self, found: Sequence[Acknowledgement]) -> bool:
        """Whether any process computes, and not for longer than anything may take."""
        limit = 2 * self._settings.time_limit_seconds.total_seconds()
        return any(one.busy_since is not None and time.time() - one.busy_since < limit for one in found)


def _acknowledged(records: redis.Redis) -> tuple[set[int], list[Acknowledgement]]:
    """Return the pids of this host whose acknowledgement has lapsed, and what the other processes say."""
    lapsed, found = set(), []
    here = socket.gethostname()
    for key, text in _statements(records):
        host, pid = _host_and_pid(key)
        if host == here and text is None:
            lapsed.add(pid)
        elif host == here and text is not None:
            found.append(Acknowledgement.model_validate_json(text))
    return lapsed, found


def _statements(records: redis.Redis) -> Iterator[tuple[str, bytes | None]]:
    """Yield the name of every process that acknowledged, and its acknowledgement unless that has lapsed."""
    for model in sorted(cast(Any, records.smembers(MODELS_KEY))):
        names = [name.decode() for name in cast(Any, records.smembers(serving_key(model.decode())))]
        texts = cast(Any, records.mget([serving_key(model.decode(), name) for name in names])) if names else []
        yield from zip(names, texts, strict=True)


def _host_and_pid(process: str) -> tuple[str, int]:
    rest, _, pid = process.rpartition(":")
    return rest.rpartition("/")[0], int(pid)


def _jobs_done(found: Sequence[Acknowledgement]) -> int:
    return sum(one.jobs_done for one in found)


def main() -> int:
    """Look once, say what was found, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m uqueue_worker.probe", description=__doc__)
    help = f"how long jobs may wait while nobody takes any (default {PATIENCE_SECONDS:g})"
    parser.add_argument("--patience", type=float, default=PATIENCE_SECONDS, metavar="SECONDS", help=help)
    arguments = parser.parse_args()
    try:
        line = Probe(Settings.load(), arguments.patience).look()
    except (Unwell, UqueueError) as error:
        sys.stderr.write(f"unwell: {error}\n")
        return 1
    sys.stdout.write(f"well: {line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Keeping one process on the wanted versions, and saying so.

The wanted version of each track is a pointer in Redis. A process compares it when it claims a job, when a reload signal
comes, and every heartbeat, so that a lost signal or a late start changes nothing. Each heartbeat renews the
acknowledgements, one for each track.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import redis
import structlog
from redis.exceptions import RedisError

from uqueue_config.localization import cards_key
from uqueue_config.messages import LAPSE_SECONDS, Acknowledgement, PollReport
from uqueue_config.names import MODELS_KEY, RELOAD_CHANNEL, candidate_key, failures_key, serving_key
from uqueue_worker.artifacts.patience import Background
from uqueue_worker.models.catalog import ModelCatalog
from uqueue_worker.models.store import Candidate, ModelStore
from uqueue_worker.pointer import Pointer

HEARTBEAT_SECONDS = 2.0
#: How long a heartbeat waits for a load that goes on beside it; it must not miss so many that others think it gone.
ASIDE_SECONDS = 1.0
#: The card of a version that no process holds any more is kept so long.
CARD_SECONDS = 3600.0
#: A look on a schedule keeps others away for this share of an interval, so that clocks that drift lose no look.
HELD_SHARE = 0.9
#: A source that fails again and again is looked at every so many intervals, and at least this often.
MOST_INTERVALS = 8.0
LONGEST_PAUSE_SECONDS = 60.0
FAILURES_KEPT_SECONDS = 600
#: In a script, because a Redis at its memory limit would refuse the commands: what serves must not look dead then.
_ACKNOWLEDGE = """#!lua flags=allow-oom
redis.call('SADD', KEYS[1], ARGV[1])
redis.call('SADD', KEYS[2], ARGV[2])
redis.call('SET', KEYS[3], ARGV[3], 'EX', ARGV[4])
"""
#: Write cards, for the same reason in a script, and drop those of `KEYS[1]` that nobody renewed since ARGV[1].
_SHOW_CARDS = """#!lua flags=allow-oom
local before = tonumber(ARGV[1])
for at = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1]) end
local cards = redis.call('HGETALL', KEYS[1])
for at = 1, #cards, 2 do
  local known, card = pcall(cjson.decode, cards[at + 1])
  if not known or type(card) ~= 'table' or (tonumber(card.seen_at) or 0) < before then
    redis.call('HDEL', KEYS[1], cards[at])
  end
end
"""
_log = structlog.get_logger("uqueue.serving")


class Heartbeat:
    """A thread that follows the pointers, renews the acknowledgements and does `chores` at every beat."""

    def __init__(
        self,
        connection: redis.Redis,
        models: ModelCatalog,
        *,
        retry_seconds: float,
        busy_since: Callable[[], float | None],
        pool_pid: int | None,
        chores: Callable[[], None],
    ) -> None:
        self._redis = connection
        self._models = models
        self._pointers = {track: Pointer(connection, store) for track, store in models.stores.items()}
        self._retry_seconds = retry_seconds
        self._busy_since = busy_since
        self._pool_pid = pool_pid
        self._renew: Any = connection.register_script(_ACKNOWLEDGE)
        self._show: Any = connection.register_script(_SHOW_CARDS)
        self._aside = Background("uqueue-reload")
        self._chores = chores
        self._last_try: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        # The middle tells it from another that had the same number before, as in a container that was restarted.
        self.process = f"{socket.gethostname()}/{os.urandom(3).hex()}:{os.getpid()}"

    def start(self) -> None:
        """Load the models, acknowledge them, and go on in the background."""
        for track in self._models.stores:
            self._guarded(partial(self._first_look, track))
        self._thread = threading.Thread(target=self._run, name="uqueue-heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop following and withdraw the acknowledgements."""
        self._stopping.set()
        self._guarded(self._withdraw)

    def acknowledge(self) -> None:
        """Tell Redis what this process serves, for a few seconds."""
        for store in self._models.stores.values():
            self._acknowledge(store)
        self._show_cards()

    def _show_cards(self) -> None:
        """Tell gateways which localization models this process holds."""
        now = time.time()
        cards: defaultdict[str, list[str]] = defaultdict(list)
        for card in self._models.cards():
            shown = card.model_copy(update={"seen_at": round(now, 3)})
            cards[card.name] += [shown.version, shown.model_dump_json(exclude_none=True)]
        for name, parts in cards.items():
            self._show((cards_key(name),), (now - CARD_SECONDS, *parts))

    def _acknowledge(self, store: ModelStore) -> None:
        model = store.model
        identity = model.identity if model else None
        statement = Acknowledgement(
            host=socket.gethostname(),
            pid=os.getpid(),
            model=store.track,
            state=store.state.value,
            version=identity.version if identity else None,
            sha256=identity.sha256 if identity else None,
            state_sha256=identity.state_sha256 if identity else None,
            engine=model.engine_name if model else None,
            forward_mode=model.forward_mode if model else None,
            stochastic=model.stochastic if model else None,
            loaded_at=store.loaded_at,
            jobs_done=store.jobs_done,
            busy_since=self._busy_since(),
            pool_pid=self._pool_pid,
            artifacts_missing=store.artifacts_missing,
            reason=store.reason,
        )
        keys = (MODELS_KEY, serving_key(store.track), serving_key(store.track, self.process))
        self._renew(keys, (store.track, self.process, statement.model_dump_json(), LAPSE_SECONDS))

    def _first_look(self, track: str) -> None:
        store, pointer = self._models.stores[track], self._pointers[track]
        if not store.on_demand:
            store.start(pointer.read())
            pointer.move_if_unset()
        self._acknowledge(store)
        self._show_cards()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._guarded(self._follow)
            self._stopping.wait(0.5)

    def _follow(self) -> None:
        """Look now, then at every signal and every heartbeat, until the connection breaks or the process stops."""
        with self._redis.pubsub() as signals:  # type: ignore[no-untyped-call]
            signals.subscribe(RELOAD_CHANNEL)
            while not self._stopping.is_set():
                self._look()
                message: Any = signals.get_message(timeout=HEARTBEAT_SECONDS)
                while message is not None:  # several signals are one reason to look
                    message = signals.get_message(timeout=0)

    def _look(self) -> None:
        for track in self._models.stores:
            self._look_at(track)
        if not self._stopping.is_set():
            self.acknowledge()
            self._guarded(self._chores)

    def _look_at(self, track: str) -> None:
        store = self._models.stores[track]
        if store.on_demand and store.model is None:
            return
        if store.moves_aside:
            self._aside.run(track, partial(self._guarded, partial(self._catch_up, track)), ASIDE_SECONDS)
        else:
            self._catch_up(track)

    def _catch_up(self, track: str) -> None:
        store, pointer = self._models.stores[track], self._pointers[track]
        before, wish = store.version, pointer.read()
        store.follow(wish, wake=False)
        if (
            store.model is None
            and not store.on_demand
            and time.monotonic() - self._last_try.get(track, 0.0) > self._retry_seconds
        ):
            self._last_try[track] = time.monotonic()
            store.start(wish)
        pointer.move_if_unset()
        if store.moves_aside and store.version != before:
            self.acknowledge()

    def _withdraw(self) -> None:
        for track in self._models.stores:
            self._redis.srem(serving_key(track), self.process)
            self._redis.delete(serving_key(track, self.process))

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except RedisError as error:
            _log.warning("redis_unreachable", reason=str(error))
        except Exception:
            _log.exception("heartbeat_failed")


def poll(connection: redis.Redis, store: ModelStore, interval_seconds: float, *, scheduled: bool) -> PollReport:
    """Look at the source; move the pointer to a good new version, remember a refused one for people to see.

    Of several looks on a schedule within an interval one acts. A source that fails is left alone for longer each time.
    """
    pointer = Pointer(connection, store)
    wish = pointer.read()
    wanted = wish.version if wish else None
    fence = pointer.take_turn(HELD_SHARE * interval_seconds, scheduled=scheduled)
    if not fence:
        return PollReport(model=store.track, outcome="elsewhere", version=wanted, previous=wanted)
    was_loaded, previous = store.model is not None, store.version
    if store.on_demand and not was_loaded and wanted is not None and store.names_now() == wanted:
        return PollReport(model=store.track, outcome="unchanged", version=wanted, previous=wanted)
    candidate = store.examine(fence)
    _rest_if_failed(connection, pointer, store, candidate, interval_seconds)
    outcome: Any = candidate.outcome
    if store.model is not None and candidate.outcome in ("moved", "unchanged"):
        outcome = "unchanged"
        if wanted != store.version:
            outcome = "moved" if pointer.move(fence) else "overtaken"
        connection.delete(candidate_key(store.track))
    else:
        _remember_refusal(connection, store, candidate)
    if store.on_demand and not was_loaded:
        store.unload()
    report = PollReport(
        model=store.track,
        outcome=outcome,
        version=candidate.version,
        previous=wanted or previous,
        reason=candidate.reason,
    )
    if outcome != "unchanged":
        _log.info("artifacts_polled", **report.model_dump())
    return report


def _rest_if_failed(
    connection: redis.Redis, pointer: Pointer, store: ModelStore, candidate: Candidate, interval_seconds: float
) -> None:
    key = failures_key(store.track)
    if not candidate.source_failed:
        connection.delete(key)
        return
    failures = cast(int, connection.incr(key))
    connection.expire(key, FAILURES_KEPT_SECONDS)
    pause_seconds = interval_seconds * min(2.0**failures, MOST_INTERVALS)
    pointer.rest(max(HELD_SHARE * interval_seconds, min(LONGEST_PAUSE_SECONDS, pause_seconds)))


def _remember_refusal(connection: redis.Redis, store: ModelStore, candidate: Candidate) -> None:
    fields = {"version": candidate.version or "", "reason": candidate.reason or "", "number": candidate.number or ""}
    pipeline = connection.pipeline(transaction=True)
    pipeline.hset(candidate_key(store.track), mapping=cast(Any, fields))
    pipeline.execute()


def prune(connection: redis.Redis, name: str) -> None:
    """Drop processes that no longer acknowledge from the set of who serves."""
    members = [member.decode() for member in cast(Any, connection.smembers(serving_key(name)))]
    for member in members:
        if not connection.exists(serving_key(name, member)):
            connection.srem(serving_key(name), member)

"""The wanted version of a track: a pointer in Redis, moved by whoever looked at the source last."""

from __future__ import annotations

import time
from typing import Any, cast

import redis

from uqueue_config.names import RELOAD_CHANNEL, fence_key, wanted_key, watching_key
from uqueue_worker.models.store import ModelStore

#: Begin a look at a source. Of looks on a schedule only one acts at a time. Answers its number, 0 where another acts.
_TURN = """#!lua flags=allow-oom
local hold_ms, is_scheduled = ARGV[1], ARGV[2] == '1'
if is_scheduled and not redis.call('SET', KEYS[1], '1', 'NX', 'PX', hold_ms) then return 0 end
return redis.call('INCR', KEYS[2])
"""
#: Point at a version, unless a look that began later did already. Answers 1, or 0 where that is so.
_MOVE = """#!lua flags=allow-oom
local fence, only_if_unset = tonumber(ARGV[1]), ARGV[2] == '1'
local known = redis.call('HMGET', KEYS[1], 'version', 'fence')
if only_if_unset and known[1] then return 0 end
if tonumber(known[2] or 0) > fence then return 0 end
redis.call('HSET', KEYS[1], 'fence', fence, unpack(ARGV, 4))
redis.call('PUBLISH', ARGV[3], KEYS[1])
return 1
"""


class Pointer:
    """The wanted version of one track."""

    def __init__(self, connection: redis.Redis, store: ModelStore) -> None:
        self._redis = connection
        self._store = store
        self._turn: Any = connection.register_script(_TURN)
        self._move: Any = connection.register_script(_MOVE)

    def read(self) -> str | None:
        version = cast(bytes | None, self._redis.hget(wanted_key(self._store.track), "version"))
        return version.decode() if version else None

    def take_turn(self, hold_seconds: float, *, scheduled: bool) -> int:
        """Return the number of the look that begins now; 0 where another watcher acts in this interval."""
        keys = (watching_key(self._store.track), fence_key(self._store.track))
        return int(self._turn(keys, (int(hold_seconds * 1000), int(scheduled))))

    def rest(self, seconds: float) -> None:
        """Have looks on a schedule leave the source alone for so long."""
        self._redis.set(watching_key(self._store.track), "1", px=int(seconds * 1000))

    def move(self, fence: int) -> bool:
        """Point at what this process serves and tell the others to look; False where a later look has ended before."""
        return self._point(fence, only_if_unset=False)

    def move_if_unset(self) -> None:
        """Point at what this process serves where nothing is wanted yet."""
        self._point(0, only_if_unset=True)

    def _point(self, fence: int, *, only_if_unset: bool) -> bool:
        model = self._store.model
        if model is None:
            return False
        fields = {
            "version": model.identity.version,
            "n_features": model.n_features,
            "n_targets": model.n_targets,
            "moved_at": repr(time.time()),
        }
        flat = [part for pair in fields.items() for part in pair]
        return bool(self._move((wanted_key(self._store.track),), (fence, int(only_if_unset), RELOAD_CHANNEL, *flat)))

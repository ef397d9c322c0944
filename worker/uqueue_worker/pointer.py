"""The wanted version of a track: a pointer in Redis, moved by whoever looked at the source last."""

from __future__ import annotations

import time
from typing import Any, cast

import redis

from uqueue_config.ledger import Wish
from uqueue_config.names import RELOAD_CHANNEL, fence_key, wanted_key, watching_key
from uqueue_worker.models.store import ModelStore

#: Begin a look at a source. Of looks on a schedule only one acts at a time. Answers its number, 0 where another acts.
#: Numbers grow, also where Redis has lost the last one: they are milliseconds of its clock.
_TURN = """#!lua flags=allow-oom
local hold_ms, is_scheduled = ARGV[1], ARGV[2] == '1'
if is_scheduled and not redis.call('SET', KEYS[1], '1', 'NX', 'PX', hold_ms) then return 0 end
local clock = redis.call('TIME')
local now_ms = clock[1] * 1000 + math.floor(clock[2] / 1000)
local number = math.max(now_ms, tonumber(redis.call('GET', KEYS[2]) or 0) + 1)
redis.call('SET', KEYS[2], string.format('%.0f', number))
return number
"""
#: Point at a version, unless a look that began later did already. Answers 1, or 0 where that is so.
_MOVE = """#!lua flags=allow-oom
local fence, only_if_unset = tonumber(ARGV[1]), ARGV[2] == '1'
local known = redis.call('HMGET', KEYS[1], 'version', 'fence')
if only_if_unset then
  if known[1] then return 0 end
  local clock = redis.call('TIME')
  fence = clock[1] * 1000 + math.floor(clock[2] / 1000)
end
if tonumber(known[2] or 0) > fence then return 0 end
redis.call('HSET', KEYS[1], 'fence', string.format('%.0f', fence), unpack(ARGV, 4))
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

    def read(self) -> Wish | None:
        found = self._redis.hmget(wanted_key(self._store.track), ["version", "fence"])
        version, number = cast(list[bytes | None], found)
        return Wish(version.decode(), int(number or 0)) if version else None

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
        flat = [part for name, value in fields.items() if value is not None for part in (name, value)]
        return bool(self._move((wanted_key(self._store.track),), (fence, int(only_if_unset), RELOAD_CHANNEL, *flat)))

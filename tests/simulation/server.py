"""A real server whose ledger scripts read the simulation's clock."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from uqueue_config.connections import connect
from uqueue_config.ledger import Command, source
from uqueue_config.names import DEFAULT_MODEL, Queue, serving_key
from uqueue_worker.lane.wire import Plain

QUEUE = Queue.PREDICTIONS.value
Step = Command[Any] | Plain
_CLOCK = "redis.call('TIME')"
_FAKE_CLOCK = "redis.call('HMGET', 'sim:clock', 'seconds', 'microseconds')"
_ANNOUNCEMENTS = "celery-task-meta-"
#: Answers the ids in `running` and `queued`, and state, attempts and time to live of the jobs in ARGV.
_INSPECT = """
local found = { redis.call('ZRANGE', 'uqueue:running', 0, -1), redis.call('ZRANGE', KEYS[1], 0, -1) }
for _, id in ipairs(ARGV) do
  local fields = redis.call('HMGET', 'uqueue:job:' .. id, 'state', 'attempts')
  found[#found + 1] = { fields[1], fields[2], redis.call('TTL', 'uqueue:job:' .. id) }
end
return found
"""


class Violation(AssertionError):
    """Something that must hold did not."""


@dataclass(frozen=True)
class Change:
    """A piece of a script's text, and what to put in its place."""

    script: str
    old: str
    new: str


class Server:
    """Runs steps one by one. `queue_length` is that of the predictions queue after the last of them."""

    def __init__(self, url: str) -> None:
        client = connect(url, retries=0)
        self._client = client
        self._connection: Any = client.connection_pool.get_connection()
        self._listener: Any = client.connection_pool.get_connection()
        self._listener.send_command("PSUBSCRIBE", _ANNOUNCEMENTS + "*")
        self._listener.read_response()
        self._inspect = client.script_load(_INSPECT)
        self._digests: dict[str, bytes] = {}
        self._loaded: dict[str, bytes] = {}
        self.reset()

    def reset(self, changes: Sequence[Change] = ()) -> None:
        """Forget everything; from now on scripts have these changes. The server is the simulation's own."""
        self._client.flushdb()
        self.announcements()
        self._changes = tuple(changes)
        self._digests.clear()
        self._said_ms = -1
        self._unsaid: list[Plain] = []
        self.queue_length = 0

    def close(self) -> None:
        self._connection.disconnect()
        self._listener.disconnect()
        self._client.close()

    def acknowledge(self, process: str, alive: bool) -> None:
        """Set or delete a process's acknowledgement, before the next step."""
        key = serving_key(DEFAULT_MODEL, process)
        self._unsaid.append(("SET", key, "{}") if alive else ("DEL", key))

    def execute(self, step: Step, now_ms: int) -> Any:
        """Run one step at a moment of the simulated clock. Raises Violation for what the server refuses."""
        before, self._unsaid = self._unsaid, []
        if now_ms != self._said_ms:
            self._said_ms = now_ms
            seconds, milliseconds = divmod(now_ms, 1000)
            before.append(("HSET", "sim:clock", "seconds", seconds, "microseconds", milliseconds * 1000))
        words = self._words(step)
        replies = self._talk([*before, words, ("LLEN", QUEUE)])
        reply, self.queue_length = replies[-2:]
        if isinstance(reply, ResponseError):
            raise Violation(f"Redis refused {words[:1]} of {step}: {reply}")
        return reply

    def inspect(self, job_ids: Iterable[str]) -> tuple[set[str], set[str], list[tuple[str | None, int, int]]]:
        """Return the ids in the two sets of open jobs, and (state, attempts, time to live) of the jobs asked for."""
        words = ("EVALSHA", self._inspect, 1, f"uqueue:queued:{QUEUE}", *job_ids)
        [(running, queued, *records)] = self._talk([words])
        rows = [(state.decode() if state else None, int(attempts or 0), ttl) for state, attempts, ttl in records]
        return {one.decode() for one in running}, {one.decode() for one in queued}, rows

    def ask(self, *commands: Plain) -> list[Any]:
        """Return the replies of plain commands that change nothing."""
        return self._talk(list(commands))

    def announcements(self) -> list[tuple[str, bytes]]:
        """Return (job id, Celery record) of every outcome that was announced since the last call, in order."""
        self._client.publish(_ANNOUNCEMENTS, "end")
        heard: list[tuple[str, bytes]] = []
        while True:
            _, _, channel, text = self._listener.read_response()
            job_id = channel.decode().removeprefix(_ANNOUNCEMENTS)
            if not job_id:
                return heard
            heard.append((job_id, text))

    def _talk(self, commands: list[Plain]) -> list[Any]:
        self._connection.send_packed_command(self._connection.pack_commands(commands))
        return [self._read() for _ in commands]

    def _read(self) -> Any:
        try:
            return self._connection.read_response()
        except ResponseError as error:
            return error

    def _words(self, step: Step) -> Plain:
        if isinstance(step, Command):
            return ("EVALSHA", self._digest(step.script), len(step.keys), *step.keys, *step.args)
        return step

    def _digest(self, script: str) -> bytes:
        digest = self._digests.get(script)
        if digest is None:
            text = _changed(_on_fake_clock(source(script)), [one for one in self._changes if one.script == script])
            name = hashlib.sha256(text.encode()).hexdigest()
            if name not in self._loaded:
                self._loaded[name] = self._client.script_load(text)
            digest = self._digests[script] = self._loaded[name]
        return digest


def _on_fake_clock(text: str) -> str:
    if text.count(_CLOCK) != 1:
        raise AssertionError(f"the scripts read the clock in {text.count(_CLOCK)} places, expected one")
    return text.replace(_CLOCK, _FAKE_CLOCK)


def _changed(text: str, changes: Sequence[Change]) -> str:
    for change in changes:
        if text.count(change.old) != 1:
            raise AssertionError(
                f"{change.script}.lua holds {change.old!r} {text.count(change.old)} times, expected once"
            )
        text = text.replace(change.old, change.new)
    return text

"""What must hold when everything has come to rest."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from simulation.book import OPEN, Book
from simulation.requests import Kind, Request
from simulation.server import QUEUE, Violation
from simulation.world import World
from uqueue_config.errors import InternalError, InvalidFeatures, JobAbandoned, JobTimeLimit, from_wire
from uqueue_config.names import DEAD_KEY, job_key, result_key

ANSWERED = frozenset({Kind.GOOD, Kind.SLOW, Kind.FLAKY})


def check(world: World) -> None:
    """Raise Violation unless every job has come to what it must, once, and nothing else is left."""
    book, server = world.book, world.server
    if server.queue_length:
        raise Violation(f"{server.queue_length} messages are left in the queue")
    requests = {**{job_id: book.requests[job_id] for job_id in book.accepted}, **book.foreign}
    ids = [*requests, *book.strays]
    replies = server.ask(*(command for job_id in ids for command in _read(job_id)))
    records = {job_id: _Record(*replies[2 * at], replies[2 * at + 1]) for at, job_id in enumerate(ids)}
    _check_announcements(book, records, server.announcements())
    for job_id, request in requests.items():
        if records[job_id].has_ended or not book.is_beyond_help(job_id):
            _check_outcome(world, request, records[job_id])
    _check_letters(book, records, _letters(world))


class _Record:
    def __init__(self, state: bytes | None, error: bytes | None, attempts: bytes | None, meta: bytes | None) -> None:
        self.state = (state or b"").decode()
        self.error = from_wire(json.loads(error)) if error else None
        self.attempts = int(attempts or 0)
        self.meta = meta

    @property
    def has_ended(self) -> bool:
        return self.state not in ("", *OPEN)

    @property
    def is_abandoned(self) -> bool:
        return isinstance(self.error, JobAbandoned)


def _read(job_id: str) -> list[tuple[str, ...]]:
    return [("HMGET", job_key(job_id), "state", "error", "attempts"), ("GET", result_key(job_id))]


def _check_announcements(book: Book, records: dict[str, _Record], heard: list[tuple[str, bytes]]) -> None:
    """Every job ended once, with what is stored; the commits and the ledger itself claim no more and no fewer."""
    times = Counter(job_id for job_id, _ in heard)
    for job_id, record in records.items():
        if times[job_id] != record.has_ended:
            raise Violation(f"{job_id} is {record.state!r} and ended {times[job_id]} times")
    if times.keys() - records.keys():
        raise Violation(f"outcomes of unknown jobs: {times.keys() - records.keys()}")
    for job_id, meta in heard:
        if records[job_id].meta != meta:
            raise Violation(f"{job_id} ended with {meta!r}, stored is {records[job_id].meta!r}")
    revoked = sum(b'"date_done":null' in meta for _, meta in heard)
    if book.firsts + revoked != len(heard):
        raise Violation(f"{book.firsts} commits were first, {revoked} jobs revoked, {len(heard)} outcomes announced")


def _check_outcome(world: World, request: Request, record: _Record) -> None:
    allowed = {
        "succeeded": _is_answered,
        "failed": _may_fail,
        "cancelled": lambda world, request, record: bool(world.book.cancelled[request.job_id]),
        "expired": lambda world, request, record: request.job_id in world.book.expiring,
    }.get(record.state)
    if allowed is None or not allowed(world, request, record):
        raise Violation(f"{request} is {record.state!r}: {record.error!r} {record.meta!r}")
    if "queued" in world.book.cancelled[request.job_id] and record.state != "cancelled":
        raise Violation(f"{request.job_id} was cancelled while it was queued, and is {record.state}")


def _is_answered(world: World, request: Request, record: _Record) -> bool:
    meta: dict[str, Any] = json.loads(record.meta or b"{}")
    return request.kind in ANSWERED and meta["result"] == {"number": request.number}


def _may_fail(world: World, request: Request, record: _Record) -> bool:
    book = world.book
    tries = book.tries[request.job_id]
    match record.error:
        case InvalidFeatures():
            return request.kind is Kind.WRONG
        case InternalError():
            return request.kind is Kind.FLAKY
        case JobTimeLimit():
            return request.kind is Kind.STUCK or any(one.process.held_up_ms > world.time_limit_ms / 2 for one in tries)
        case JobAbandoned():
            return request.kind in (Kind.POISON, Kind.STUCK) or _was_unlucky(
                book, request.job_id, record.attempts, world.max_attempts
            )
    return False


def _was_unlucky(book: Book, job_id: str, attempts: int, most: int) -> bool:
    """Whether each of its attempts was taken from its process, which died or was taken for dead."""
    tries = book.tries[job_id]
    return attempts == len(tries) == most and all(one.process.is_dead or one.may_be_taken_over for one in tries)


def _letters(world: World) -> list[tuple[str, str, bytes]]:
    """Return (job id, reason, message) of every dead letter."""
    [numbers] = world.server.ask(("LRANGE", DEAD_KEY, 0, -1))
    fields = ("job_id", "reason", "message")
    letters = world.server.ask(*(("HMGET", f"uqueue:dead:{number.decode()}", *fields) for number in numbers))
    return [(job_id.decode(), reason.decode(), message) for job_id, reason, message in letters]


def _check_letters(book: Book, records: dict[str, _Record], letters: list[tuple[str, str, bytes]]) -> None:
    """Dead letters are the jobs that were given up, the garbage, and forgeries that somebody noticed."""
    given_up = Counter(job_id for job_id, _, message in letters if message not in book.garbage | book.forged.keys())
    abandoned = Counter(job_id for job_id, one in records.items() if one.is_abandoned and job_id not in book.strays)
    if given_up != abandoned:
        raise Violation(f"given up are {dict(abandoned)}, as dead letters are kept {dict(given_up)}")
    times = Counter(message for _, _, message in letters)
    for message in book.forged:
        if times[message] != book.buried[message]:
            raise Violation(f"{message!r} was buried {book.buried[message]} times and is kept {times[message]} times")
    for message in book.garbage:
        bearer = next((job_id for job_id in records if f'"{job_id}"'.encode() in message), None)
        is_seen_by_ledger = bearer is None or bearer in book.strays
        least = book.buried[message] or (is_seen_by_ledger and message not in book.lost)
        if not least <= times[message] <= book.buried[message] + is_seen_by_ledger:
            raise Violation(f"garbage {message!r} is kept {times[message]} times")


__all__ = ["QUEUE", "check"]

"""Defects planted on purpose: the simulation must find each of them, or it could not have found it in earnest."""

from __future__ import annotations

from simulation.requests import Kind
from simulation.scenario import EVERYTHING, Focus
from simulation.server import Change
from simulation.town import Defects
from uqueue_worker.lane.exchange import Exchange
from uqueue_worker.lane.wire import Wire


class ForgetsCommits(Exchange):
    """Over a new connection it does not say again what the last one may have lost."""

    def resume(self, wire: Wire) -> None:
        self._uncommitted.clear()
        super().resume(wire)


class ForgetsItsClaim(Exchange):
    """… claims anew, under another token."""

    def resume(self, wire: Wire) -> None:
        self.is_claiming = False
        super().resume(wire)


class RetriesBesideOthers(Exchange):
    """… asks again for jobs that were started before, whatever it has in hand."""

    def resume(self, wire: Wire) -> None:
        self._may_retry = True
        super().resume(wire)


def _changes(script: str, *pairs: tuple[str, str], focus: Focus = EVERYTHING) -> Defects:
    return Defects([Change(script, old, new) for old, new in pairs], focus=focus)


PLANTED: dict[str, Defects] = {
    "a commit that does not ask whether the job has ended": _changes(
        "commit", ("if not is_terminal(fields[1]) and not is_stale then", "if not is_stale then")
    ),
    "a failure that ends a job which another attempt has taken over": _changes(
        "commit",
        ("and fields[3] ~= attempt", "and false"),
        focus=Focus(roles=(2, 0, 0), kinds=[Kind.WRONG, Kind.FLAKY], faults=["stop", "jump"]),
    ),
    "a commit that leaves its jobs in the set of running ones": _changes(
        "commit", ("redis.call('ZREM', RUNNING, unpack(ended))", "")
    ),
    "a claim whose reply is lost and not repeated": _changes("claim", ("repeat_last(last_ids)", "take_from_queue()")),
    "a claim that comes late and takes jobs": _changes(
        "claim",
        (
            "if not last_token or tonumber(token) > tonumber(last_token) then",
            "if not (again and token == last_token) then",
        ),
        focus=Focus(roles=(1, 0, 0), kinds=[Kind.GOOD, Kind.SLOW], faults=["break_one"]),
    ),
    "jobs that were started before, handed out together": _changes(
        "claim",
        ("if attempts > 0 and (jobs > 0 or not may_retry) then return true end", ""),
        ("if attempts > 0 then most = 1 end", ""),
    ),
    "a claim that hands out the message it found": _changes("claim", ("fields[3] or message)", "message)")),
    "a claim of what a living process computes": _changes(
        "claim", ("or is_alive(fields[7], fields[6])) then return false end", "and false) then return false end")
    ),
    "a claim that does not keep the message of a foreign job": _changes(
        "claim",
        ("if not fields[3] then", "if not state then"),
        focus=Focus(roles=(1, 1, 0), faults=["kill", "send_plainly"]),
    ),
    "a beginning without a limit of attempts": _changes(
        "begin",
        ("if attempt > max_attempts then", "if false then"),
        focus=Focus(roles=(0, 2, 0), kinds=[Kind.GOOD, Kind.POISON], faults=["deliver_twice"]),
    ),
    "a beginning that trusts every message": _changes("begin", ("opened_digest ~= digest then", "false then")),
    "a beginning beside a living process": _changes(
        "begin", ("and is_alive(fields[4], holder) then", "and false then")
    ),
    "a beginning that counts its repetitions": _changes(
        "begin",
        ("if state ~= 'running' or holder ~= worker then attempt", "if true then attempt"),
        focus=Focus(roles=(0, 1, 0), kinds=[Kind.GOOD], faults=["break_one"]),
    ),
    "a sweep that takes everybody for dead": _changes("sweep", ("and not is_alive_cached(fields[2], fields[3])", "")),
    "a claim without a limit of attempts": _changes(
        "claim",
        ("if attempts >= max_attempts then", "if false then"),
        focus=Focus(roles=(2, 0, 0), kinds=[Kind.GOOD, Kind.POISON], faults=["kill", "deliver_twice"]),
    ),
    "a sweep that forgets to push": _changes("sweep", ("redis.call('LPUSH', queue, message)", "")),
    "an opening that does not look whether the job is known": _changes("open", ("if known[1] then", "if false then")),
    "an opening that counts no room": _changes(
        "open", ("if verdict == 'opened' and (is_full or room < 1) then", "if false then")
    ),
    "an end that leaves the job in the sets of open ones": _changes("cancel", ("  forget(queue)\nend", "end")),
    "a checkpoint that takes a republished job for cancelled": _changes(
        "progress", ("if not state or is_terminal(state) then", "if state ~= 'running' then")
    ),
    "a lane that forgets commits": Defects(exchange=ForgetsCommits),
    "a lane that forgets its claim": Defects(exchange=ForgetsItsClaim),
    "a lane that retries beside other jobs": Defects(
        exchange=RetriesBesideOthers,
        focus=Focus(roles=(2, 0, 0), kinds=[Kind.GOOD, Kind.SLOW], faults=["break_one", "kill"]),
    ),
    "processes that fail a job because Redis was away": Defects(
        is_patient=False, focus=Focus(kinds=[Kind.SLOW], faults=["cut_off"])
    ),
}

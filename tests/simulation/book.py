"""What happened, kept outside Redis: who was accepted, who was handed what, what each commit claimed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simulation.process import Process
from simulation.requests import Request, digest_of
from simulation.server import Step, Violation
from uqueue_config.ledger import Command
from uqueue_config.names import job_key

if TYPE_CHECKING:
    from simulation.world import World

OPEN = ("queued", "running")


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt of a job. `lapses` is how often its process had been taken for dead before it began; `worker` is the
    process itself, or its lane.
    """

    number: int
    worker: str
    process: Process
    lapses: int
    was_acknowledged: bool

    @property
    def may_be_taken_over(self) -> bool:
        """Whether its process has been taken for dead, rightly or not, since it began."""
        return self.process.lapses > self.lapses or not self.was_acknowledged


class Book:
    """Notes every step that Redis executed, and raises Violation where it must not have been answered so."""

    def __init__(self, world: World, requests: Mapping[str, Request]) -> None:
        self._world = world
        self.requests = requests
        self.accepted: dict[str, int] = {}
        self.foreign: dict[str, Request] = {}
        self.strays: set[str] = set()
        self.tries: dict[str, list[Try]] = defaultdict(list)
        self.computed: list[str] = []
        self.firsts = 0
        self.cancelled: dict[str, set[str]] = defaultdict(set)
        self.expiring: set[str] = set()
        self.garbage: set[bytes] = set()
        self.forged: dict[bytes, str] = {}
        self.lost: set[bytes] = set()
        self.buried: dict[bytes, int] = defaultdict(int)
        self._in_gap: dict[bytes, Process] = {}
        self._answered: dict[str, set[str]] = defaultdict(set)
        self._states: dict[str, str] = {}
        self.surplus = 0

    # --- what processes say they do ---

    def computes(self, worker: str, job_id: str, kwargs: Mapping[str, Any]) -> None:
        """Note a computation: of a job that the ledger opened, it must be its own request."""
        request = self.requests.get(job_id) if job_id in self.accepted else self.foreign.get(job_id)
        if request is None or request.digest != digest_of(kwargs):
            raise Violation(f"{worker} computes {dict(kwargs)} for {job_id}, which asked for {request}")
        self.computed.append(job_id)

    def answered(self, worker: str, job_ids: Iterable[str]) -> None:
        """Note that somebody has answers, whatever becomes of them."""
        self._answered[worker].update(job_ids)

    def ends(self, worker: str, culprit: str) -> None:
        """Note a death by what was computed: a job that was started before must not go with another."""
        for job_id in self._held_by(worker) - {culprit}:
            if len(self.tries[job_id]) > 1:
                raise Violation(f"{culprit} ended {worker}, and attempt {len(self.tries[job_id])} of {job_id} with it")

    def retires(self, worker: str) -> None:
        """Note that somebody ends as planned: nothing is left behind."""
        if held := self._held_by(worker):
            raise Violation(f"{worker} retires and holds {sorted(held)}")

    def _held_by(self, worker: str) -> set[str]:
        """Return the open jobs that somebody has begun, has not answered, and that nobody may have taken over."""
        answered = self._answered[worker]
        held = {
            job_id
            for job_id, tries in self.tries.items()
            if tries and tries[-1].worker == worker and not tries[-1].may_be_taken_over and job_id not in answered
        }
        states = self._world.server.ask(*(("HGET", job_key(job_id), "state") for job_id in held)) if held else []
        return {job_id for job_id, state in zip(held, states, strict=True) if state == b"running"}

    def lost_in_gap(self, process: Process) -> None:
        """Note that what this process has popped is gone, unless Redis has heard of it."""
        for message in [message for message, holder in self._in_gap.items() if holder is process]:
            self.lost.add(message)
            del self._in_gap[message]

    def noted(self, message: bytes) -> None:
        """Note that kombu has noted a message that it has popped, and will restore it in the end."""
        self._in_gap.pop(message, None)

    # --- what Redis executes ---

    def executed(self, process: Process, step: Step, reply: Any) -> None:
        if isinstance(step, Command):
            note = getattr(self, f"_{step.script}", None)
            if note is not None:
                note(process, step.args[2:], reply)
        elif step[0] == "RPOP" and reply is not None:
            self._in_gap[reply] = process

    def _open(self, process: Process, args: Any, reply: Any) -> None:
        opened = [str(args[5 + 5 * at]) for at, verdict in enumerate(reply[::2]) if verdict == b"opened"]
        limit = int(args[2])
        if opened and self._world.server.queue_length > limit:
            raise Violation(f"{self._world.server.queue_length} messages in a queue limited to {limit}")
        for job_id in opened:
            if job_id in self.accepted:
                raise Violation(f"{job_id} was accepted twice")
            self.accepted[job_id] = len(self.accepted)
            if args[1] != "":
                self.expiring.add(job_id)

    def _claim(self, process: Process, args: Any, reply: Any) -> None:
        _, flat, _ = reply
        worker, again, may_retry = args[1], args[3] == 1, args[8] == 1
        for job_id, number, _message in zip(flat[::3], flat[1::3], flat[2::3], strict=True):
            name = job_id.decode()
            is_repeated = again and self._is_repeated(worker, name, number)
            if not is_repeated:
                if number > 1 and (others := self._held_by(worker)):
                    raise Violation(f"{worker} holds {sorted(others)} and is handed attempt {number} of {name}")
                self._begins(process, worker, name, number)
            if number > 1 and (len(flat) > 3 or not (may_retry or is_repeated)):
                raise Violation(f"attempt {number} of {name} was not handed out alone")

    def _begin(self, process: Process, args: Any, reply: Any) -> None:
        state, number, *_ = reply
        job_id, worker = str(args[0]), args[2]
        if state == b"running" and not self._is_repeated(worker, job_id, number):
            self._begins(process, worker, job_id, number)

    def _is_repeated(self, worker: str, job_id: str, number: int) -> bool:
        tries = self.tries[job_id]
        return bool(tries) and tries[-1].number == number and tries[-1].worker == worker

    def _begins(self, process: Process, worker: str, job_id: str, number: int) -> None:
        tries = self.tries[job_id]
        if number != len(tries) + 1 or number > self._world.max_attempts:
            raise Violation(f"attempt {number} of {job_id} follows attempt {len(tries)}")
        if tries and tries[-1].worker != worker and not tries[-1].may_be_taken_over and job_id in self.accepted:
            raise Violation(f"{worker} begins {job_id}, which {tries[-1].worker} computes and is alive")
        if job_id not in self.accepted and job_id not in self.foreign:
            self.strays.add(job_id)
        tries.append(Try(number, worker, process, process.lapses, process.is_acknowledged))
        self._answered[worker].discard(job_id)

    def _commit(self, process: Process, args: Any, reply: Any) -> None:
        self.firsts += reply
        if reply * 6 != len(args):
            return
        for job_id, state, fence in zip(args[::6], args[1::6], args[5::6], strict=True):
            if state == "failed" and fence != "" and int(fence) != len(self.tries[job_id]):
                raise Violation(f"the failure of attempt {fence} ended {job_id}, begun {len(self.tries[job_id])} times")

    def _cancel(self, process: Process, args: Any, reply: Any) -> None:
        if reply:
            self.cancelled[str(args[0])].add(reply.decode())

    def _bury(self, process: Process, args: Any, reply: Any) -> None:
        message = bytes(args[1])
        self.buried[message] += 1

    # --- what Redis holds ---

    def inspect(self) -> bool:
        """Compare Redis with what must hold at every moment. Returns whether every job has ended."""
        ids = [*self.accepted, *self.foreign, *self.strays]
        running, queued, rows = self._world.server.inspect(ids)
        found: dict[str, set[str]] = defaultdict(set)
        for job_id, (state, attempts, ttl) in zip(ids, rows, strict=True):
            if state is None:
                if job_id in self.accepted:
                    raise Violation(f"the record of {job_id} is gone")
                continue
            before = self._states.get(job_id)
            if before not in (None, *OPEN) and state != before:
                raise Violation(f"{job_id} was {before} and is {state}")
            if attempts > self._world.max_attempts or (ttl < 0) != (state in OPEN):
                raise Violation(f"{job_id} is {state} after {attempts} attempts and kept for {ttl} s")
            self._states[job_id] = state
            found[state].add(job_id)
        if running != found["running"] or queued != found["queued"]:
            raise Violation(f"open are {found}, in the sets of open jobs {running=} {queued=}")
        return all(self.is_beyond_help(job_id) for job_id in running | queued)

    def is_beyond_help(self, job_id: str) -> bool:
        """Whether a job is lost, as it may be without a ledger: kombu popped its message and noted it nowhere."""
        return job_id in self.foreign and self.foreign[job_id].message() in self.lost

    @property
    def states(self) -> Mapping[str, str]:
        """State of every job at the last look."""
        return self._states

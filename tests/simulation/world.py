"""Time, processes and connections of one run, and which step is next."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from simulation.book import Book
from simulation.network import Link
from simulation.process import CHORES, Ended, Process, Steps, Thread
from simulation.requests import Kind
from simulation.scenario import Plan
from simulation.server import Server, Step, Violation
from uqueue_config.ledger import Command, LedgerCommands
from uqueue_config.names import process_of
from uqueue_config.settings import Settings
from uqueue_worker.lane.exchange import Exchange
from uqueue_worker.sweeper import TURN_SECONDS

START_MS = 1_800_000_000_000
FOREVER_MS = 10**9
_NOTHING_SWEPT: Any = [[], []]


class World:
    """Everything that one run is made of. Nothing in it but `rng` decides anything."""

    max_attempts = 3
    time_limit_ms = 60_000
    forever_ms = FOREVER_MS

    def __init__(
        self, server: Server, settings: Settings, rng: random.Random, plan: Plan, *, memory: int | None
    ) -> None:
        self.server = server
        self.settings = settings
        self.rng = rng
        self.commands = LedgerCommands(timedelta(hours=1), timedelta(hours=2))
        self.exchange_class = Exchange
        self.most_jobs = plan.most_jobs
        self.queue_limit = plan.queue_limit
        self.is_patient = True
        requests = [request for submissions in plan.submissions for one in submissions for request in one.requests]
        self.book = Book(self, {request.job_id: request for request in requests})
        self.processes: list[Process] = []
        self._living: list[Process] = []
        self._acknowledged: list[Process] = []
        self.busy_links: list[Link] = []
        self.elapsed_ms = 0
        self.clock_offset_ms = 0
        self.steps = 0
        self.taken = 0
        self.log: deque[tuple[int, int, Any]] = deque(maxlen=memory)
        self.is_calm = False
        self.on_death: Callable[[Process], None] = lambda process: None
        self._later: list[tuple[int, Callable[[], None]]] = []
        self._swept_ms = 0
        self._turn: Thread | Link | None = None

    # --- time ---

    @property
    def clock_ms(self) -> int:
        """The time by Redis' clock, which may jump."""
        return START_MS + self.elapsed_ms + self.clock_offset_ms

    def pass_time(self, milliseconds: int) -> None:
        self.elapsed_ms += milliseconds
        if self._later:
            due = [one for one in self._later if one[0] <= self.elapsed_ms]
            self._later = [one for one in self._later if one[0] > self.elapsed_ms]
            for _, action in due:
                action()
        for process in self._acknowledged:
            process.beat()

    def add(self, process: Process) -> None:
        self.processes.append(process)
        self._living.append(process)
        if process.acknowledges:
            self._acknowledged.append(process)
            process.beat()

    def later(self, milliseconds: int, action: Callable[[], None]) -> None:
        self._later.append((self.elapsed_ms + milliseconds, action))

    def look_ms(self) -> int:
        """How long a look at an empty queue waits: a second, or, to save steps, until there is something."""
        return 1000 if not self.is_calm and self.rng.random() < 0.2 else FOREVER_MS

    # --- what actors ask ---

    def draws(self, probability: float) -> bool:
        return self.rng.random() < probability

    def spend(self, process: Process) -> Steps[None]:
        """Compute for a while."""
        yield self.rng.choice((50, 400, 3_000, 9_000))

    def compute(self, worker: str, job_id: str, kwargs: Mapping[str, Any]) -> None:
        """Note a computation by a process or its lane; poison ends the process."""
        self.note("%s computes %s", worker, job_id)
        self.book.computes(worker, job_id, kwargs)
        if kwargs["kind"] == Kind.POISON:
            self.book.ends(worker, job_id)
            raise Ended(f"poison {job_id}")

    def takes_turn_to_sweep(self) -> bool:
        """What the lock among sweepers says. Now and then two sweep at once all the same."""
        if self.clock_ms < self._swept_ms and not (not self.is_calm and self.draws(0.2)):
            return False
        self._swept_ms = self.clock_ms + TURN_SECONDS * 1000
        return True

    def is_known_to_be_dead(self, name: str, to: Process) -> bool:
        """Whether a process of the same host would find that another one has ended."""
        holder = process_of(name)
        if holder.split("/")[0] != to.name.split("/")[0]:
            return False
        return any(process.is_dead for process in self.processes if process.name == holder)

    # --- steps ---

    def execute(self, process: Process, step: Step, *, is_answered: bool = True) -> Any:
        """Let Redis execute one step."""
        before = self.server.queue_length
        reply = self.server.execute(step, self.clock_ms)
        if reply != _NOTHING_SWEPT or before != self.server.queue_length:
            self.note("%s: %s -> %s", process, step, reply)
        if type(step) is tuple and step[0] == "DEL":
            self._withdraw(str(step[1]))
        if isinstance(step, Command) and step.script == "sweep":
            self.book.surplus += self.server.queue_length - before
        if self.server.queue_length > self.queue_limit + self.book.surplus:
            raise Violation(f"{self.server.queue_length} messages where {self.queue_limit} may be submitted")
        self.book.executed(process, step, reply)
        if not is_answered:
            self.book.lost_in_gap(process)
        return reply

    def _withdraw(self, key: str) -> None:
        for process in self.processes:
            if key.endswith(":" + process.name) and process.is_acknowledged:
                process.lapse()

    def choose(self) -> Thread | Link | None:
        """Draw the next step; None if everything waits for time to pass."""
        able: list[Thread | Link] = [link for link in self.busy_links if link.is_deliverable]
        for process in self._living:
            if self.elapsed_ms >= process.stopped_until_ms:
                able += [thread for thread in process.threads if thread.is_ready and not thread.is_done]
        if not able:
            return None
        if self._turn in able and self.rng.random() < 0.3:  # some go on for a while undisturbed
            return self._turn
        self._turn = able[int(self.rng.random() * len(able))]
        return self._turn

    def take(self, chosen: Thread | Link) -> None:
        """Take a step, unless something has come in between since it was chosen."""
        self.steps += 1
        self.taken += 1
        if isinstance(chosen, Link):
            if chosen in self.busy_links and chosen.is_deliverable:
                chosen.deliver()
            return
        if chosen.process.is_dead or chosen.process.is_stopped or not chosen.is_ready:
            return
        try:
            chosen.go_on()
        except Ended as ended:
            self.kill(chosen.process, str(ended), deliver=self.rng.randrange(3))

    def wait(self) -> None:
        """Let time pass until somebody can go on who waits for it, or for two seconds."""
        self.steps += 1
        moment = self._next_event_ms()
        self.pass_time(min(2_000, moment - self.elapsed_ms) if moment is not None else 2_000)

    def _next_event_ms(self) -> int | None:
        moments = [moment for moment, _ in self._later]
        moments += [link.not_before_ms for link in self.busy_links if link.not_before_ms < FOREVER_MS]
        for process in self._living:
            asleep = [thread.wakes_ms for thread in process.threads if thread.is_waiting_for_time]
            moments += [max(process.stopped_until_ms, moment) for moment in (0, *asleep)]
            moments += [link.noticed_ms for link in process.links if link.severed]
        return min((moment for moment in moments if moment > self.elapsed_ms), default=None)

    @property
    def is_busy(self) -> bool:
        """Whether something is still to come that nobody has to cause: a producer's step, a late one, a replacement."""
        if self._later or any(link.severed for link in self.busy_links):
            return True
        return any(
            process.is_stopped
            or any(link.severed for link in process.links)
            or any(thread.is_waiting_for_time for thread in process.threads if thread.name != CHORES)
            for process in self._living
        )

    # --- what goes wrong ---

    def kill(self, process: Process, reason: str, *, deliver: int = 0, late: bool = False) -> None:
        """End a process. Of what it wrote, `deliver` steps are executed; the rest is lost or arrives later."""
        if process.is_dead:  # a step that it wrote arrives late
            return
        self.note("%s ENDS (%s)", process, reason)
        for link in list(process.links):
            self.sever(link, deliver=deliver, late=late)
        process.is_dead = True
        self._living.remove(process)
        if process.unacked is None:
            self.book.lost_in_gap(process)
        self.on_death(process)

    def sever(self, link: Link, *, deliver: int = 0, late: bool = False, noticed_after_ms: int = 0) -> None:
        """Break a connection after Redis has executed some more of what was written."""
        if link.severed:
            return
        for _ in range(min(deliver, len(link.pending))):
            if link.is_deliverable:
                link.deliver()
        self.note("%s: connection breaks, %s pending%s", link.process, len(link.pending), " and late" if late else "")
        delay = self.rng.choice((0, 20, 400, 2_000, 12_000, 40_000)) if late else None
        link.sever(arrives_after_ms=delay, noticed_after_ms=noticed_after_ms)

    def note(self, text: str, *values: Any) -> None:
        self.log.append((self.steps, self.elapsed_ms, (text, values)))

    def story(self) -> str:
        """The last steps, for people."""
        return "\n".join(
            f"{step:5} {elapsed / 1000:9.3f} s  " + text % tuple(_shown(value) for value in values)
            for step, elapsed, (text, values) in self.log
        )


def _shown(value: Any) -> str:
    if isinstance(value, Command):
        return f"{value.script}({', '.join(_short(arg) for arg in value.args[2:])})"
    return _short(value)


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, str | Process) else str(value)
    return text if len(text) <= 160 else f"{text[:40]}…{text[-60:]}"

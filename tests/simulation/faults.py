"""What goes wrong, and when, drawn from the seed."""

from __future__ import annotations

import json
from collections.abc import Callable

from simulation.network import Link
from simulation.process import Process
from simulation.requests import Kind, Request
from simulation.scenario import Plan
from simulation.server import QUEUE
from simulation.world import World
from uqueue_config.names import Task

ALL = 1000
Fault = Callable[[], None]


def _break_all_of(process: Process, *, deliver: int = 0, late: bool = False) -> None:
    for link in list(process.links):
        process.world.sever(link, deliver=deliver, late=late)


def _stop(process: Process, milliseconds: int) -> None:
    world = process.world
    world.note("%s is stopped for %s ms", process, milliseconds)
    process.stopped_until_ms = world.elapsed_ms + milliseconds
    process.next_beat_ms = process.stopped_until_ms + world.rng.randrange(2_000)
    process.held_up_ms += milliseconds


#: What may happen to the process that takes a step: it dies, and what it wrote is lost or not; its connections break,
#: and what it wrote is lost, or executed and only the reply is lost, or executed when others are long in use; it is
#: taken for dead and goes on later.
CRASHES: dict[str, Callable[[World, Process], None]] = {
    "kill": lambda world, process: world.kill(process, "killed"),
    "kill-after": lambda world, process: world.kill(process, "killed", deliver=ALL),
    "lose-before": lambda world, process: _break_all_of(process),
    "lose-after": lambda world, process: _break_all_of(process, deliver=ALL),
    "late": lambda world, process: _break_all_of(process, late=True),
    "stop": lambda world, process: _stop(process, 16_000),
}


class Faults:
    """Breaks something now and then. Each run has its own few kinds, so that some runs see nothing but one of them."""

    def __init__(self, world: World, plan: Plan) -> None:
        self._world = world
        self._rng = world.rng
        self._rate = plan.fault_rate
        self._count = 0
        kinds = [
            *(self.kill, self.retire, self.stop, self.cut_off, self.break_one, self.break_all, self.jump),
            *(self.push_garbage, self.forge, self.deliver_twice, self.send_plainly),
        ]
        drawn: list[Fault] = self._rng.sample(kinds, self._rng.choice((1, 2, 3, 5, len(kinds))))
        self._kinds: list[Fault] = [getattr(self, name) for name in plan.faults] or drawn

    def strike(self) -> None:
        """Break something with the probability of this run."""
        if self._rng.random() < self._rate:
            self._count += 1
            self._rng.choice(self._kinds)()

    def kill(self) -> None:
        if process := self._some_process():
            self._world.kill(process, "killed", deliver=self._rng.randrange(4), late=self._rng.random() < 0.3)

    def retire(self) -> None:
        """A warm shutdown: no more jobs, but those at hand."""
        if process := self._some_process():
            self._world.note("%s is asked to end", process)
            process.is_ending = True

    def stop(self) -> None:
        if process := self._some_process():
            _stop(process, self._rng.choice((500, 6_000, 13_000, 30_000, 90_000)))

    def cut_off(self) -> None:
        if process := self._some_process():
            duration = self._rng.choice((200, 3_000, 12_000, 20_000))
            self._world.note("%s is cut off for %s ms", process, duration)
            process.held_up_ms += duration
            process.cut_until_ms = self._world.elapsed_ms + duration
            for link in list(process.links):
                self._break(link)

    def break_one(self) -> None:
        if links := [link for process in self._world.processes for link in process.links if not link.severed]:
            self._break(self._rng.choice(links))

    def break_all(self) -> None:
        """What the restart of a Redis looks like that has kept everything."""
        for process in self._world.processes:
            for link in list(process.links):
                self._world.sever(link, deliver=self._rng.randrange(3))

    def jump(self) -> None:
        jump = self._rng.choice((-8_000, -1_500, 1_500, 6_000, 15_000))
        self._world.note("Redis' clock jumps by %s ms", jump)
        self._world.clock_offset_ms += jump

    def push_garbage(self) -> None:
        self._count += 1
        known = self._rng.choice(list(self._world.book.accepted) or [f"nobody-{self._count}"])
        message = self._rng.choice(
            (
                f"garbage {self._count}",
                json.dumps({"number": self._count, "id": f"a b {self._count}"}),
                json.dumps({"headers": {"id": f"nobody-{self._count}"}}),
                json.dumps({"headers": {"id": known}, "number": self._count}),
                Request(f"odd-{self._count}", Kind.GOOD, -self._count)
                .message()
                .decode()
                .replace(Task.PREDICT.value, "os.system"),
            )
        ).encode()
        self._world.book.garbage.add(message)
        self._push(message)

    def forge(self) -> None:
        """Somebody else's request under the id of a job."""
        if accepted := list(self._world.book.accepted):
            self._count += 1
            request = Request(self._rng.choice(accepted), Kind.GOOD, 10_000 + self._count)
            self._world.book.forged[request.message()] = request.job_id
            self._push(request.message())

    def deliver_twice(self) -> None:
        """A message that was restored, by kombu or by somebody."""
        if accepted := list(self._world.book.accepted):
            self._push(self._world.book.requests[self._rng.choice(accepted)].message())

    def send_plainly(self) -> None:
        """A job of a program that does not know the ledger."""
        self._count += 1
        request = Request(f"foreign-{self._count}", self._rng.choice((Kind.GOOD, Kind.SLOW)), 20_000 + self._count)
        self._world.book.foreign[request.job_id] = request
        self._push(request.message())

    def _push(self, message: bytes) -> None:
        self._world.book.surplus += 1
        self._world.execute(self._nobody, (self._rng.choice(("LPUSH", "RPUSH")), QUEUE, message))

    @property
    def _nobody(self) -> Process:
        return Process(self._world, "somebody", "producer")

    def _some_process(self) -> Process | None:
        living = [process for process in self._world.processes if not process.is_dead]
        return self._rng.choice(living) if living else None

    def _break(self, link: Link) -> None:
        self._world.sever(
            link,
            deliver=self._rng.randrange(4),
            late=self._rng.random() < 0.3,
            noticed_after_ms=self._rng.choice((0, 0, 11_000)),
        )

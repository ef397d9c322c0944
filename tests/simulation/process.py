"""One process of the simulation: it dies as a whole, is stopped as a whole, and loses its connections as a whole."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from redis.exceptions import ConnectionError

from simulation.network import Link, NotYet
from simulation.server import Step
from uqueue_config.ledger import Command
from uqueue_worker.serving import HEARTBEAT_SECONDS, LAPSE_SECONDS

if TYPE_CHECKING:
    from simulation.world import World

T = TypeVar("T")
#: What a thread waits for: nothing, some milliseconds, a reply, or a condition.
Wait = None | int | Link | Callable[[], bool]
Steps = Generator[Wait, None, T]
RETRIES = 2
#: The thread that goes on for ever, whatever else does.
CHORES = "chores"


class Ended(BaseException):
    """The process has ended, by what it computed or by itself."""


class Thread:
    """A generator that goes on from wait to wait."""

    def __init__(self, process: Process, name: str, steps: Steps[None]) -> None:
        self.process = process
        self.name = name
        self.is_done = False
        self._steps = steps
        self._world = process.world
        self._wait: Link | Callable[[], bool] | None = None
        self.wakes_ms = 0

    @property
    def is_ready(self) -> bool:
        wait = self._wait
        if wait is None:
            return self._world.elapsed_ms >= self.wakes_ms
        return wait.is_readable if type(wait) is Link else wait()  # type: ignore[operator]

    @property
    def is_waiting_for_time(self) -> bool:
        """Whether it goes on by itself."""
        return self._wait is None and not self.is_done

    def go_on(self) -> None:
        try:
            wait = next(self._steps)
        except StopIteration:
            self.is_done = True
            return
        self.wakes_ms = 0
        self._wait = None
        if type(wait) is int:
            self.wakes_ms = self._world.elapsed_ms + wait
        elif wait is not None:
            self._wait = wait  # type: ignore[assignment]


class Process:
    """A producer, an ordinary worker or a process with a lane. `role` starts another of its kind when it has died."""

    def __init__(self, world: World, name: str, role: str) -> None:
        self.world = world
        self.name = name
        self.role = role
        self.threads: list[Thread] = []
        self.links: list[Link] = []
        self.is_dead = False
        self.is_ending = False
        self.stopped_until_ms = 0
        self.cut_until_ms = 0
        # The acknowledgement: whether Redis holds it, until when by Redis' clock, and how often it has lapsed.
        self.is_acknowledged = False
        self.lapses_ms = 0
        self.lapses = 0
        self.next_beat_ms = 0
        # What an ordinary worker has popped and Redis does not hold, and what it will give back in the end.
        self.in_hand: bytes | None = None
        self.unacked: bytes | None = None
        #: The job that an ordinary worker computes, and since when.
        self.computing: tuple[str, int] | None = None
        #: How long it was stopped or cut off, in all: the time limit does not wait for it.
        self.held_up_ms = 0

    def __repr__(self) -> str:
        return self.name

    def start(self, name: str, steps: Steps[None]) -> None:
        self.threads.append(Thread(self, name, steps))

    @property
    def is_stopped(self) -> bool:
        return self.world.elapsed_ms < self.stopped_until_ms

    @property
    def is_cut_off(self) -> bool:
        return self.world.elapsed_ms < self.cut_until_ms

    @property
    def acknowledges(self) -> bool:
        return self.role != "producer"

    def beat(self) -> None:
        """Renew the acknowledgement if it is time, and notice when Redis has let it lapse."""
        world = self.world
        if world.elapsed_ms >= self.next_beat_ms and not (self.is_dead or self.is_stopped or self.is_cut_off):
            self.next_beat_ms = world.elapsed_ms + int(HEARTBEAT_SECONDS * 1000)
            self.lapses_ms = world.clock_ms + LAPSE_SECONDS * 1000
            if not self.is_acknowledged:
                self.is_acknowledged = True
                world.server.acknowledge(self.name, True)
        elif self.is_acknowledged and world.clock_ms >= self.lapses_ms:
            world.server.acknowledge(self.name, False)
            self.lapse()

    def lapse(self) -> None:
        self.is_acknowledged = False
        self.lapses += 1

    def connect(self) -> Link:
        if self.is_cut_off:
            raise ConnectionError("nothing comes through")
        link = Link(self.world, self)
        self.links.append(link)
        return link

    def call(self, command: Command[T], retries: int = RETRIES) -> Steps[T]:
        """Run a ledger command as a client of redis-py does: again after an error, but not for ever."""
        reply = yield from self.ask(command, retries)
        return command.parse(reply)

    def ask(self, step: Step, retries: int = RETRIES) -> Steps[Any]:
        while True:
            try:
                return (yield from self._ask_once(step))
            except ConnectionError:
                if retries == 0:
                    raise
                retries -= 1
                yield 100

    def call_patiently(self, command: Command[T]) -> Steps[T]:
        """The same, until it comes through."""
        while True:
            try:
                return (yield from self.call(command))
            except ConnectionError:
                yield 500

    def call_as_told(self, command: Command[T]) -> Steps[T]:
        """The same, or give up where that is the planted defect."""
        return (yield from self.call_patiently(command) if self.world.is_patient else self.call(command))

    def _ask_once(self, step: Step) -> Steps[Any]:
        with self.connect() as link:
            link.send(step)
            while True:
                try:
                    return link.read()
                except NotYet:
                    yield link

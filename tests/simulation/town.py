"""One run: its processes live until nothing moves any more, and then it is looked at what they have come to."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from redis.exceptions import ConnectionError

from simulation.actors import enforce_time_limit, produce, work
from simulation.book import OPEN
from simulation.faults import CRASHES, Faults
from simulation.lane import SimulatedLane
from simulation.process import CHORES, Ended, Process, Steps
from simulation.requests import Kind
from simulation.scenario import EVERYTHING, Focus, Plan, drawn
from simulation.server import QUEUE, Change, Server, Violation
from simulation.sweeping import do_chores
from simulation.verdict import check
from simulation.world import World
from uqueue_config.names import DEFAULT_MODEL, serving_key
from uqueue_config.settings import Settings
from uqueue_worker.lane.exchange import Exchange

#: So long after the last fault everything must be at rest, however often something was stopped or killed, and so much
#: later for each job that never comes back.
SETTLE_MS = 400_000
SETTLE_STUCK_MS = 150_000
#: Redis is compared with the book every so many steps.
LOOK_EVERY = 25
#: So many steps are told when something is found.
STEPS_TOLD = 60


@dataclass(frozen=True)
class Defects:
    """Defects planted on purpose."""

    changes: Sequence[Change] = ()
    exchange: type[Exchange] = Exchange
    #: Whether processes wait for a Redis that is away, instead of failing the job at hand.
    is_patient: bool = True
    #: Where they show soonest.
    focus: Focus = EVERYTHING


SOUND = Defects()


def run(
    server: Server,
    settings: Settings,
    seed: int,
    plan: Plan | None = None,
    *,
    defects: Defects = SOUND,
    memory: int | None = STEPS_TOLD,
) -> World:
    """Run a plan, or one that the seed draws, to its end. Raises Violation with the last steps and how to repeat it."""
    rng = random.Random(seed)
    plan = plan or drawn(rng, defects.focus)
    server.reset(defects.changes)
    world = World(server, settings, rng, plan, memory=memory)
    world.exchange_class = defects.exchange
    world.is_patient = defects.is_patient
    try:
        Town(world, plan).live()
        check(world)
    except Violation as violation:
        crash = f" --crash {plan.crash}" if plan.crash else ""
        again = f"PYTHONPATH=tests .venv/bin/python -m simulation --seed {seed}{crash}"
        raise Violation(f"{world.story()}\n\n{violation}\nTo repeat it: {again}") from None
    return world


class Town:
    """The processes of a run; a worker that died is replaced by another after some seconds."""

    def __init__(self, world: World, plan: Plan) -> None:
        self._world = world
        self._plan = plan
        self._born = 0
        self._faults = Faults(world, plan)
        world.on_death = self._replace
        for submissions in plan.submissions:
            process = self._add("producer")
            process.start("producer", produce(process, submissions, plan.queue_limit))
        for role in ["lane"] * plan.lanes + ["worker"] * plan.workers + ["both"] * plan.both:
            self._start(role)

    def live(self) -> None:
        """Go on until nothing moves any more, with faults at first."""
        world = self._world
        while world.steps < self._plan.fault_steps:
            self._faults.strike()
            if not self._step():
                world.wait()
        world.is_calm = True
        stuck = sum(request.kind is Kind.STUCK for request in world.book.requests.values())
        patience_ms = SETTLE_MS + SETTLE_STUCK_MS * stuck
        end_ms = world.elapsed_ms + patience_ms
        while True:
            if not self._step():
                if self._is_at_rest():
                    return
                world.wait()
            if world.elapsed_ms > end_ms:
                world.book.inspect()
                still = {job_id: state for job_id, state in world.book.states.items() if state in OPEN}
                raise Violation(f"not at rest {patience_ms / 1000:g} s after the last fault: {still}")

    def _step(self) -> bool:
        """Take one step; False if there is none before some time has passed."""
        world = self._world
        draw = world.rng.random()
        world.pass_time(int(draw * 4) if draw < 0.7 else int((draw - 0.7) * 1000) if draw < 0.98 else 1500)
        chosen = world.choose()
        if chosen is None:
            return False
        if self._plan.crash is not None and self._plan.crash.step == world.taken:
            CRASHES[self._plan.crash.kind](world, chosen.process)
        world.take(chosen)
        if world.steps % LOOK_EVERY == 0:
            world.book.inspect()
        return True

    def _is_at_rest(self) -> bool:
        world = self._world
        if world.server.queue_length or world.is_busy:
            return False
        return world.book.inspect()

    def _add(self, role: str) -> Process:
        self._born += 1
        process = Process(self._world, f"host{self._born % 2}/{role}:{100 + self._born}", role)
        self._world.add(process)
        return process

    def _start(self, role: str) -> None:
        process = self._add(role)
        limits = [enforce_time_limit]
        if role != "worker":
            lane = SimulatedLane(process)
            process.start("lane", until_it_retires(process, lane.run()))
            limits.append(lane.enforce_time_limit)
        if role != "lane":
            process.start("tasks", until_it_retires(process, work(process)) if role == "worker" else work(process))
        process.start(CHORES, do_chores(process, limits))

    def _replace(self, process: Process) -> None:
        world = self._world
        if process.role == "producer":
            return
        world.later(world.rng.randrange(500, 5_000), lambda: self._start(process.role))
        if world.draws(0.5):  # the parent of its pool lives, and has seen it end
            key = serving_key(DEFAULT_MODEL, process.name)
            world.later(world.rng.randrange(1_500), lambda: world.execute(process, ("DEL", key)))
        if process.unacked is not None:
            # At once by Celery's main process, or by kombu after the visibility timeout.
            message = process.unacked
            world.later(world.rng.choice((10, 30_000)), lambda: self._restore(process, message))

    def _restore(self, process: Process, message: bytes) -> None:
        self._world.book.surplus += 1
        self._world.execute(process, ("LPUSH", QUEUE, message))


def until_it_retires(process: Process, steps: Steps[None]) -> Steps[None]:
    """What a process does to its end: it withdraws its acknowledgement, if Redis is there."""
    yield from steps
    with contextlib.suppress(ConnectionError):
        yield from process.ask(("DEL", serving_key(DEFAULT_MODEL, process.name)))
    raise Ended("retired")

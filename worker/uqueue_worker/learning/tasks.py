"""Learning over Celery workers: the app of the queues `alm`, `simulate` and `train`, and its tasks.

Start a worker with `celery -A uqueue_worker.learning.tasks worker -Q alm,simulate,train`. Importing this reads no
environment and opens nothing. Only this module of `uqueue_worker.learning` imports Celery.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import setup_logging, worker_init, worker_process_shutdown, worker_ready, worker_shutting_down
from kombu import Exchange, Queue
from kombu.exceptions import OperationalError

from uqueue_config.connections import connect, translated
from uqueue_config.errors import ServiceUnreachable, UqueueError
from uqueue_config.learning.names import UNACKED_KEY, LearningQueue, LearningTask
from uqueue_config.learning.runs import CycleState
from uqueue_config.learning.settings import LearningSettings
from uqueue_config.settings import Settings, redact
from uqueue_worker.configuration import celery_configuration
from uqueue_worker.learning.asked import Presence, leave_answer, serve
from uqueue_worker.learning.breaker import RedisOpenings
from uqueue_worker.learning.credentials import required
from uqueue_worker.learning.hosting import Host, data_dir
from uqueue_worker.learning.observability.context import configure_logging, log_context, timed_event
from uqueue_worker.learning.observability.metrics import keep_in, metrics, process_ended
from uqueue_worker.learning.subject import crafter_of, load_subject
from uqueue_worker.learning.working import Outcome

#: What every process of the pool needs and is slow to import: once, before they are forked.
_HEAVY = ("sklearn.cluster", "sklearn.ensemble", "onnx", "uqueue")
#: A task that takes too long is told so; this much later its process is ended.
GRACE_SECONDS = 30.0


def learning_configuration(settings: Settings, learning: LearningSettings) -> dict[str, Any]:
    """Return Celery's settings: those of the service, with queues, limits and acknowledgements of learning."""
    longest = max(_limits(learning).values()) + GRACE_SECONDS
    base = celery_configuration(settings)
    transport = {
        **base["broker_transport_options"],
        "visibility_timeout": 2 * longest,
        "unacked_key": UNACKED_KEY,
        "unacked_index_key": f"{UNACKED_KEY}_index",
        "unacked_mutex_key": f"{UNACKED_KEY}_mutex",
    }
    return {
        **base,
        "broker_transport_options": transport,
        # Nobody waits for a task: what it did is in the database.
        "result_backend": None,
        "task_ignore_result": True,
        "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in map(str, LearningQueue)],
        "task_default_queue": LearningQueue.ALM.value,
        "task_routes": {},
        # A task says itself whether it may be delivered again.
        "task_acks_late": False,
        "task_reject_on_worker_lost": False,
        "task_soft_time_limit": learning.step_seconds,
        "task_time_limit": learning.step_seconds + GRACE_SECONDS,
        "worker_max_tasks_per_child": None,
        "beat_schedule": {},
    }


def _limits(learning: LearningSettings) -> dict[str, float]:
    """Return how long a task of each queue may take, in seconds."""
    return {
        LearningQueue.ALM.value: learning.step_seconds,
        LearningQueue.SIMULATE.value: learning.simulate_seconds,
        LearningQueue.TRAIN.value: learning.train_seconds,
    }


def _settings() -> tuple[Settings, LearningSettings]:
    """Return both kinds of settings; print what is wrong or missing and end the process where a worker cannot run."""
    try:
        settings, learning = Settings.load(), LearningSettings.load()
        required("UQUEUE_LEARNING_DATABASE", learning.database, file=learning.database_file)
        data_dir(learning)
    except UqueueError as error:
        print(error, file=sys.stderr)  # noqa: T201 - before there is a log
        raise SystemExit(2) from None
    return settings, learning


app = Celery("uqueue-learning", set_as_current=False, amqp="uqueue_worker.transport:GuardedAMQP")
app.add_defaults(lambda: learning_configuration(*_settings()))


class CeleryPost:
    """Messages through Celery, notes in the Redis with the records."""

    def __init__(self, settings: Settings, learning: LearningSettings) -> None:
        self._settings = settings
        self._limits = _limits(learning)
        self.redis = connect(settings.result_store)

    def send(self, task: LearningTask, queue: str, arguments: Mapping[str, Any]) -> None:
        url, soft = self._settings.broker, self._limits[queue]
        with translated(url):
            try:
                app.send_task(
                    task.value,
                    kwargs=dict(arguments),
                    queue=queue,
                    ignore_result=True,
                    soft_time_limit=soft,
                    time_limit=soft + GRACE_SECONDS,
                )
            except OperationalError as error:
                raise ServiceUnreachable(service="Redis", url=redact(url), reason=str(error)) from error

    def note(self, key: str, text: str, seconds: float, *, only_new: bool = False) -> bool:
        with translated(self._settings.result_store):
            return bool(self.redis.set(key, text, px=max(1, round(1000 * seconds)), nx=only_new))

    def noted(self, key: str) -> str | None:
        with translated(self._settings.result_store):
            found: Any = self.redis.get(key)
            return None if found is None else found.decode()

    def forget(self, key: str) -> None:
        with translated(self._settings.result_store):
            self.redis.delete(key)

    def count(self, key: str, change: int, seconds: float) -> int:
        with translated(self._settings.result_store):
            pipeline = self.redis.pipeline(transaction=True)
            pipeline.incrby(key, change)
            pipeline.expire(key, round(seconds))
            return int(pipeline.execute()[0])


class _Process:
    """What this process has; a forked child gets a fresh one."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.settings, self.learning = _settings()

    @cached_property
    def post(self) -> CeleryPost:
        return CeleryPost(self.settings, self.learning)

    @cached_property
    def host(self) -> Host:
        openings = RedisOpenings(self.post.redis)
        return Host(self.settings, self.learning, self.post, openings=openings, overtime=(SoftTimeLimitExceeded,))


_current: _Process | None = None
_making = threading.Lock()


def _process() -> _Process:
    global _current
    with _making:
        if _current is None or _current.pid != os.getpid():
            _current = _Process()
        return _current


# A part says by its result that it was done, so that a second delivery does nothing; a step is left to the next tick
# where its process died of it. A request is never begun with twice.
_AGAIN = {"acks_late": True, "reject_on_worker_lost": True}
_LATE = {"acks_late": True}


@app.task(name=LearningTask.ADVANCE.value, bind=True, **_LATE)  # type: ignore[untyped-decorator]
def advance(self: Any, run_id: str, attempt: int = 1) -> Outcome:
    """Do or dispatch one step of a run."""
    with log_context(task_id=self.request.id):
        return _process().host.tasks.advance(run_id, attempt)


@app.task(name=LearningTask.PART.value, bind=True, **_AGAIN)  # type: ignore[untyped-decorator]
def part(self: Any, run_id: str, cycle: int, state: CycleState, key: str, token: str = "", attempt: int = 1) -> Outcome:
    """Do one part of a step; returns {ok: false, error} where it failed for good."""
    with log_context(task_id=self.request.id), timed_event("part", "tasks", state=state, part=key) as line:
        outcome = _process().host.tasks.do_part(run_id, cycle, state, key, token, attempt)
        line |= {"run_id": run_id, "cycle": cycle, "outcome": outcome.get("outcome", "failed")}
        return outcome


@app.task(name=LearningTask.TICK.value, bind=True, **_LATE)  # type: ignore[untyped-decorator]
def tick(self: Any) -> Outcome:
    """Advance the runs that stand still. Of the ticks that pile up while no worker runs, one counts."""
    process = _process()
    with log_context(task_id=self.request.id):
        return process.host.tasks.tick(process.learning.tick or 0.0)


@app.task(name=LearningTask.ASK.value, bind=True, throws=(UqueueError,))  # type: ignore[untyped-decorator]
def ask(self: Any, **request: Any) -> Outcome:
    """Answer a request of a client."""
    process = _process()
    with log_context(task_id=self.request.id), translated(process.settings.result_store):
        return {"ok": serve(request, lambda one: process.host.answer(one, request["token"]), process.post.redis)}


@app.task(name=LearningTask.EVALUATE.value, bind=True, throws=(UqueueError,))  # type: ignore[untyped-decorator]
def evaluate(self: Any, token: str, handle: dict[str, Any]) -> None:
    """Go on with an evaluation that a client asked for."""
    process = _process()
    with log_context(task_id=self.request.id), translated(process.settings.result_store):
        leave_answer(token, "evaluate", lambda: process.host.go_on_with(token, handle), process.post.redis)


@setup_logging.connect(weak=False)  # type: ignore[untyped-decorator]
def _log_as_configured(**_: object) -> None:
    configure_logging(_process().settings.log_level)
    # Both repeat for every task what its own line says.
    for chatty in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


@worker_init.connect(weak=False)  # type: ignore[untyped-decorator]
def _prepare(**_: object) -> None:
    """Runs in the parent before it forks: each process then writes its figures where the parent reads them."""
    learning = _process().learning
    if learning.metrics_port is not None:
        folder = tempfile.mkdtemp(prefix="uqueue-learning-metrics-")
        atexit.register(_remove, folder, os.getpid())
        keep_in(folder)
    for module in _HEAVY:
        importlib.import_module(module)
    try:
        crafter_of(learning, load_subject(learning.subject))
    except UqueueError as error:
        print(error, file=sys.stderr)  # noqa: T201 - Celery has told logging nothing yet
        raise SystemExit(2) from None


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # not a fork of it
        shutil.rmtree(folder, ignore_errors=True)


@worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
def _say_that_it_is_there(**_: object) -> None:
    """Runs in the parent."""
    process = _process()
    presence = Presence(connect(process.settings.result_store))
    presence.start()
    worker_shutting_down.connect(lambda **_: presence.stop(), weak=False)
    if process.learning.metrics_port is not None:
        metrics().serve(process.learning.metrics_port, process.learning.metrics_address)


@worker_process_shutdown.connect(weak=False)  # type: ignore[untyped-decorator]
def _forget_its_breakers(pid: int, **_: object) -> None:
    process_ended(pid)

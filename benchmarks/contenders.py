"""Who takes part in `queues.py`, and how each is started."""

from __future__ import annotations

import ast
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

RIVALS = Path(__file__).parent / "rivals"


@dataclass(frozen=True)
class Contender:
    """One queue under test.

    worker         arguments for `python` that start its worker
    module         its module in `rivals`, whose `submit` and `round_trip` are its client
    jobs           how many are drained per round: some seconds' worth
    distributions  what must be installed; the versions of all are reported
    about          what it is; the first paragraph of its module unless given
    result_hash    the Redis hash that holds its results; a key per result if None
    stock          also time the round trips of a program that knows only Celery
    """

    name: str
    worker: str
    module: str
    jobs: int
    distributions: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    about: str = ""
    result_hash: str | None = None
    stock: bool = False

    @property
    def is_uqueue(self) -> bool:
        return "uqueue" in self.distributions

    @property
    def versions(self) -> dict[str, str | None]:
        """The installed version of each distribution, None for one that is missing."""
        return {name: installed_version(name) for name in self.distributions}

    @property
    def has_hiredis(self) -> bool:
        """Whether redis-py may use its quicker parser: if this contender, or uqueue, comes with it.

        Everybody would otherwise run with it as soon as one contender of the environment asks for it.
        """
        return any(_asks_for_hiredis(name) for name in (*self.distributions, "uqueue"))

    @property
    def description(self) -> str:
        path = RIVALS / f"{self.module}.py"
        text = self.about or ast.get_docstring(ast.parse(path.read_text())) or ""
        return " ".join(text.split("\n\n")[0].split())


def installed_version(distribution: str) -> str | None:
    """Return the version of a distribution, None if it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _asks_for_hiredis(distribution: str) -> bool:
    try:
        required = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return False
    here = [one for one in required if "extra ==" not in one or (distribution == "uqueue" and "worker" in one)]
    return any("hiredis" in one for one in here)


def _celery(app: str, more: str = "") -> str:
    quiet = "--without-gossip --without-mingle --loglevel ERROR"
    return f"-m celery -A {app} worker --concurrency 1 {quiet} {more}".rstrip()


def _uqueue(name: str, lane: str, jobs: int, about: str, *, more: str = "", stock: bool = True) -> Contender:
    return Contender(
        name,
        _celery("uqueue_worker.app", more),
        "uqueue_client",
        jobs,
        ("uqueue", "celery", "kombu", "redis"),
        environment={"UQUEUE_LANE": lane},
        about=about,
        stock=stock,
    )


LANE = _uqueue("uqueue-lane", "on", 60_000, "The lane: crash-safe, many jobs at a time.")

CONTENDERS = (
    LANE,
    _uqueue(
        "uqueue-lane-events", "on", 60_000, "The lane with task events, as Flower needs them.", more="-E", stock=False
    ),
    _uqueue("uqueue-tasks", "off", 2_500, "The same messages as ordinary Celery tasks, crash-safe as well."),
    Contender("naive-celery", _celery("rivals.naive_celery"), "naive_celery", 5_000, ("celery", "kombu", "redis")),
    Contender(
        "celery-batches",
        _celery("rivals.celery_batches_app"),
        "celery_batches_app",
        8_000,
        ("celery-batches", "celery"),
    ),
    Contender(
        "huey",
        "-m huey.bin.huey_consumer rivals.huey_app.huey --workers 1 --quiet --no-periodic",
        "huey_app",
        8_000,
        ("huey",),
        result_hash="huey.results.bench",
    ),
    Contender(
        "taskiq",
        "-m taskiq worker rivals.taskiq_app:broker --workers 1 --log-level ERROR",
        "taskiq_app",
        8_000,
        ("taskiq", "taskiq-redis"),
    ),
    Contender(
        "rq",
        "-m rq.cli worker --worker-class rq.SimpleWorker --quiet --config rivals.rq_app bench",
        "rq_app",
        1_500,
        ("rq",),
    ),
    Contender(
        "dramatiq",
        "-m dramatiq rivals.dramatiq_app --processes 1 --threads 1",
        "dramatiq_app",
        8_000,
        ("dramatiq",),
        # Two messages are fetched at a time by default, with a pause of 5 to 10 ms after them.
        environment={"dramatiq_queue_prefetch": "256"},
    ),
    Contender(
        "arq",
        "-m arq rivals.arq_app.WorkerSettings --custom-log-dict rivals.arq_app.QUIET",
        "arq_app",
        6_000,
        ("arq",),
    ),
)

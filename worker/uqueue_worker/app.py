"""The Celery application: `celery -A uqueue_worker.app {worker,beat}`, and `flower` by way of `uqueue_worker.flower`.

Importing it reads no environment and opens nothing; Celery asks for the configuration when it starts to work.
"""

from __future__ import annotations

import sys
from typing import Any

from celery import Celery
from celery.signals import (
    celeryd_after_setup,
    setup_logging,
    task_postrun,
    task_prerun,
    worker_process_init,
    worker_process_shutdown,
    worker_ready,
    worker_shutting_down,
)

from uqueue_config.errors import SettingsError
from uqueue_config.learning.settings import LearningSettings
from uqueue_config.settings import Settings
from uqueue_worker import process
from uqueue_worker.configuration import BACKEND, BACKEND_SCHEME, celery_configuration
from uqueue_worker.logs import bind_trace, configure_logging, unbind_trace
from uqueue_worker.warden import Table, Warden


def _configuration() -> dict[str, Any]:
    try:
        return celery_configuration(Settings.load(), LearningSettings.load())
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - before there is a log
        raise SystemExit(2) from None


app = Celery(
    "uqueue", include=["uqueue_worker.tasks"], set_as_current=False, amqp="uqueue_worker.transport:GuardedAMQP"
)
app.loader.override_backends = {BACKEND_SCHEME: BACKEND}
app.add_defaults(_configuration)


@setup_logging.connect(weak=False)  # type: ignore[untyped-decorator]
def _log_as_configured(**_: object) -> None:
    configure_logging(Settings.load())


@celeryd_after_setup.connect(weak=False)  # type: ignore[untyped-decorator]
def _note_who_reports(sender: str, instance: Any, **_: object) -> None:
    """Runs in the parent before it forks: jobs are reported to Flower where the worker was started with -E."""
    process.flower_hostname = sender if instance.task_events else None
    process.table = Table()


@worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
def _watch_over_processes(sender: Any, **_: object) -> None:
    """Runs in the parent; a pool without processes of its own has nobody to end."""
    pool: Any = getattr(sender.controller.pool, "_pool", None)
    if process.table is not None and hasattr(pool, "_pool"):
        warden = Warden(Settings.load(), process.table, lambda: {child.pid for child in pool._pool})
        warden.start()
        worker_shutting_down.connect(warden.expect_end, weak=False)


@worker_process_init.connect(weak=False)  # type: ignore[untyped-decorator]
def _load_before_taking_work(**_: object) -> None:
    """Runs in each child of the prefork pool (and once in a solo pool), never in the parent."""
    process.current().start()


@task_prerun.connect(weak=False)  # type: ignore[untyped-decorator]
def _log_where_it_comes_from(task: Any, **_: object) -> None:
    bind_trace(task.request)


@task_postrun.connect(weak=False)  # type: ignore[untyped-decorator]
def _log_as_before(**_: object) -> None:
    unbind_trace()


@worker_process_shutdown.connect(weak=False)  # type: ignore[untyped-decorator]
def _say_goodbye(**_: object) -> None:
    process.current().stop()

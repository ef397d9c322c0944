"""From settings to Celery's configuration. docs/design.md says what each choice was tested against."""

from __future__ import annotations

from typing import Any

from kombu import Exchange
from kombu import Queue as KombuQueue

from uqueue_config.catalog import Catalog
from uqueue_config.learning.names import LearningQueue, LearningTask
from uqueue_config.learning.settings import LearningSettings
from uqueue_config.names import CELERY_DEFAULT_QUEUE, Queue, Task
from uqueue_config.settings import Settings

#: How the result backend's URL begins; Celery reads the rest as an ordinary URL.
BACKEND_SCHEME = "ledger"
BACKEND = "uqueue_worker.backend:LedgerBackend"
#: Celery compares beat's clock with the worker's here: a worker whose clock is ahead must not drop every poll, and what
#: piles up while no worker runs must end some time.
POLL_EXPIRES_SECONDS = 86_400.0


def celery_configuration(settings: Settings, learning: LearningSettings | None = None) -> dict[str, Any]:
    """Return Celery's settings: late acknowledgement, JSON only, bounded waits, patient reconnecting.

    With `learning`, beat has learning workers look for runs that stand still where these settings say so.
    """
    hard_limit = settings.time_limit_seconds.total_seconds()
    transport = {
        # A message that is being worked on must not be delivered again meanwhile.
        "visibility_timeout": max(60, 3 * hard_limit),
        "priority_steps": [0],
        "socket_timeout": 10,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
    }
    return {
        "broker_url": settings.broker,
        "result_backend": f"{BACKEND_SCHEME}+{settings.result_store}",
        "broker_transport_options": transport,
        "result_backend_transport_options": transport,
        "result_expires": settings.result_ttl_seconds,
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A Redis that answers with an error, as with a full disk, is waited for like one that does not answer.
        "broker_channel_error_retry": True,
        "task_queues": [KombuQueue(name, Exchange(name), routing_key=name) for name in _consumed(settings)],
        "task_default_queue": Queue.CONTROL.value,
        "task_routes": {
            Task.PREDICT.value: {"queue": Queue.PREDICTIONS.value},
            Task.POLL_ARTIFACTS.value: {"queue": Queue.CONTROL.value},
        },
        "task_acks_late": True,
        # Safe together with the ledger, which counts attempts: a job that kills its worker is given up.
        "task_reject_on_worker_lost": True,
        "task_soft_time_limit": settings.soft_time_limit_seconds.total_seconds(),
        "task_time_limit": hard_limit,
        "worker_prefetch_multiplier": 1,
        "worker_concurrency": settings.concurrency,
        "worker_max_tasks_per_child": settings.max_jobs_per_process,
        # Celery kills children that are not up in 4 s by default, which a model that loads for longer never survives.
        "worker_proc_alive_timeout": settings.model_load_seconds.total_seconds(),
        "worker_lost_wait": 2,
        "worker_soft_shutdown_timeout": settings.shutdown_seconds.total_seconds(),
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # The entries are periodic, so there is nothing to remember on disk between runs.
        "beat_scheduler": "celery.beat:Scheduler",
        "beat_schedule": _polls(settings) | _ticks(learning),
        "beat_max_loop_interval": max(0.05, min(5.0, settings.poll_seconds.total_seconds())),
        "timezone": "UTC",
    }


def _polls(settings: Settings) -> dict[str, Any]:
    """Return beat's entries for the artifacts of each track."""
    return {
        f"poll-{track}": {
            "task": Task.POLL_ARTIFACTS.value,
            "schedule": settings.poll_seconds,
            "kwargs": {"model": track, "scheduled": True},
            "options": {"expires": POLL_EXPIRES_SECONDS, "ignore_result": True},
        }
        for track in Catalog.load(settings).tracks
    }


def _ticks(learning: LearningSettings | None) -> dict[str, Any]:
    """Return beat's entry for learning, where there is any."""
    if learning is None or learning.tick is None:
        return {}
    options = {"queue": LearningQueue.ALM.value, "expires": POLL_EXPIRES_SECONDS, "ignore_result": True}
    return {"learning": {"task": LearningTask.TICK.value, "schedule": learning.tick, "options": options}}


def _consumed(settings: Settings) -> list[str]:
    """Return the queues that Celery itself takes messages from; the lane takes those of the predictions queue."""
    mine = [queue.value for queue in Queue if not settings.lane_is_on or queue is not Queue.PREDICTIONS]
    return [*mine, CELERY_DEFAULT_QUEUE]

"""Names on the wire: queues, tasks, states, Redis keys. They never change meaning; a new meaning gets a new name."""

from __future__ import annotations

from enum import StrEnum

DEFAULT_MODEL = "mccp-uq"

#: A process that waits for reload signals subscribes to this Redis channel.
RELOAD_CHANNEL = "uqueue:reload"


#: Where `send_task` puts messages that name no queue. Workers take those too.
CELERY_DEFAULT_QUEUE = "celery"


class Queue(StrEnum):
    """Celery queues."""

    PREDICTIONS = "predictions"
    CONTROL = "control"


class Task(StrEnum):
    """Celery task names, `uqueue.<noun>.<verb>`; the main one keeps its short name."""

    PREDICT = "uqueue.predict"
    POLL_ARTIFACTS = "uqueue.artifacts.poll"


class JobState(StrEnum):
    """The states of a job that people see."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        return self not in (JobState.QUEUED, JobState.RUNNING)


#: What stock Celery clients read for each state. A queued job has no Celery record, which Celery calls PENDING.
CELERY_STATE = {
    JobState.QUEUED: "PENDING",
    JobState.RUNNING: "STARTED",
    JobState.SUCCEEDED: "SUCCESS",
    JobState.FAILED: "FAILURE",
    JobState.CANCELLED: "REVOKED",
    JobState.EXPIRED: "REVOKED",
}


def job_key(job_id: str) -> str:
    """The ledger's record of a job (a hash)."""
    return f"uqueue:job:{job_id}"


def result_key(job_id: str) -> str:
    """The result as Celery's Redis backend stores it; the channel of the same name announces it."""
    return f"celery-task-meta-{job_id}"


#: The numbers of dead letters, newest first (a list); each letter is a hash of its own.
DEAD_KEY = "dead"

#: Jobs whose end is still to be told to somebody, by when there is something to do (a sorted set of ids).
WEBHOOKS_KEY = "uqueue:webhooks"


def webhook_key(job_id: str) -> str:
    """Where the end of a job is told, and how that went (a hash)."""
    return f"uqueue:webhook:{job_id}"


#: Looks at artifacts that gateways ask for, which may not push to the control queue (a hash: track -> id of the poll).
RELOADS_KEY = "uqueue:reloads"

#: The names of all models that some process serves or served (a set).
MODELS_KEY = "uqueue:models"


def canary_of(model: str) -> str:
    """The track of a model's canary. A track has a wanted version, refusals and acknowledgements of its own."""
    return f"{model}@canary"


def shadow_of(model: str) -> str:
    """The track of a model's shadow."""
    return f"{model}@shadow"


def watching_key(track: str) -> str:
    """Who looks at a track's source: held for most of an interval by the watcher that acts in it."""
    return f"uqueue:watching:{track}"


def fence_key(track: str) -> str:
    """Counts the looks at a track's source, so that one that ends late changes nothing."""
    return f"uqueue:fence:{track}"


def failures_key(track: str) -> str:
    """How often in a row a track's source did not answer."""
    return f"uqueue:failures:{track}"


def comparison_key(model: str) -> str:
    """How the answers of a model's shadow differ from those that were given (a hash of sums)."""
    return f"uqueue:comparison:{model}"


def wanted_key(model: str) -> str:
    """The version every process should serve (a hash: version, n_features, n_targets, moved_at)."""
    return f"uqueue:wanted:{model}"


def candidate_key(model: str) -> str:
    """The last version that was looked at and not taken over (a hash: version, reason)."""
    return f"uqueue:candidate:{model}"


def lane_of(process: str) -> str:
    """The name under which a process's lane begins jobs: its tasks, which run beside it, are not mistaken for it.

    `host/random:pid` becomes `host/random.lane:pid`; both live as long as the process acknowledges.
    """
    rest, _, pid = process.rpartition(":")
    return f"{rest}.lane:{pid}"


def process_of(worker: str) -> str:
    """The process that `lane_of` named, or the process itself."""
    rest, _, pid = worker.rpartition(":")
    return f"{rest.removesuffix('.lane')}:{pid}"


def serving_key(model: str, process: str = "") -> str:
    """Who serves what: a set of `host:pid`, and for each of them its acknowledgement, which lapses unless renewed."""
    return f"uqueue:serving:{model}" + (f":{process}" if process else "")

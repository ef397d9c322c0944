"""uqueue's client: submit prediction jobs, poll them, read calibrated intervals.

import uqueue

client = uqueue.Client()
job = client.submit([[0.98, 514.5, 294.0, 110.25, 7.0, 2, 0.0, 0]])
print(job.result(timeout=10).lower)
"""

from uqueue.aio import AsyncClient, AsyncJob
from uqueue.client import Client, Job
from uqueue.status import ModelStatus, ReloadReport
from uqueue_config.classification import Classification
from uqueue_config.errors import UqueueError
from uqueue_config.ledger import JobStatus
from uqueue_config.localization import Localization
from uqueue_config.names import JobState
from uqueue_config.prediction import IntervalPrediction, ModelIdentity
from uqueue_config.settings import Settings

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "Classification",
    "Client",
    "IntervalPrediction",
    "Job",
    "JobState",
    "JobStatus",
    "Localization",
    "ModelIdentity",
    "ModelStatus",
    "ReloadReport",
    "Settings",
    "UqueueError",
]

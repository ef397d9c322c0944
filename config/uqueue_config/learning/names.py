"""Names on the wire of active learning: its queues, tasks and Redis keys. Like those of the service, they never change
meaning.
"""

from __future__ import annotations

from enum import StrEnum


class LearningQueue(StrEnum):
    """Celery queues of the learning worker: short steps and questions, simulation, training."""

    ALM = "alm"
    SIMULATE = "simulate"
    TRAIN = "train"


class LearningTask(StrEnum):
    """Celery tasks of the learning worker. The gate lets these through in its queues, and no others."""

    ASK = "uqueue.learning.ask"  # keyword arguments: those of `requests.Ask`
    ADVANCE = "uqueue.learning.advance"  # does or dispatches one step of a run: run_id, attempt
    PART = "uqueue.learning.part"  # does one part of a step: run_id, cycle, state, key, token, attempt
    EVALUATE = "uqueue.learning.evaluate"  # goes on with an evaluation that was asked for: token, handle
    TICK = "uqueue.learning.tick"  # looks for runs that stand still; no arguments


#: There while some learning worker runs, which renews it (text: when it did last, seconds since the epoch).
PRESENCE_KEY = "uqueue:learning:worker"
#: After this time without renewal it lapses.
PRESENCE_SECONDS = 15
#: How long an answer waits for whoever asked.
ANSWER_SECONDS = 60


def asked_key(token: str) -> str:
    """There as long as nobody has begun with a request: the worker takes it away first, or its asker, who gives up."""
    return f"uqueue:learning:asked:{token}"


def answer_key(token: str) -> str:
    """The answer to a request: a list of one element, which lapses."""
    return f"uqueue:learning:answer:{token}"


#: Kombu's own keys for messages that are not acknowledged. Those of the service's workers are others: who shares them
#: shares the shorter of both visibility timeouts, and trainings take long.
UNACKED_KEY = "uqueue:learning:unacked"
#: There for a while after somebody looked for runs that stand still.
TICK_KEY = "uqueue:learning:tick"


def sent_key(part: str) -> str:
    """There as long as a message about a part is under way (text: the token of the last one)."""
    return f"uqueue:learning:sent:{part}"


def begun_key(part: str) -> str:
    """How often a part was begun with and not ended: each time it ended its process (a number)."""
    return f"uqueue:learning:begun:{part}"

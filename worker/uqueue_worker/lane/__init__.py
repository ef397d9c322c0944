"""The lane: many waiting jobs at a time, claimed, answered and committed together.

    loop.py      claims batches, has them answered, commits; one thread per worker process
    exchange.py  what lane and Redis say to each other, and what of it is settled
    wire.py      one connection, several steps in one write
    pace.py      how many jobs to take at a time
    batch.py     from claimed messages to outcomes
    answers.py   many answers from one evaluation
    events.py    what Flower is told, one message per batch

An ordinary Celery task costs about a millisecond of bookkeeping where a prediction costs microseconds. The same
messages run as ordinary tasks where the lane is off, with the same results.
"""

from uqueue_worker.lane.loop import Lane

__all__ = ["Lane"]

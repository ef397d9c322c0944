"""Evaluating models through the queue: data sets in chunks, each of them one job of an ordinary classifier.

interface.py  the model interface, blocking or with a handle
pinned.py     which version is asked, and the keys that make jobs idempotent
wave.py       jobs of one evaluation, so many at a time, in order
chunks.py     a data set as tables of 128 rows, without holding more of it
columns.py    the columns of files, kept for the next evaluation
gathered.py   chunks with their answers, put together
totals.py     metrics that are added up
kept.py       the samples to report, as many as may be
merge.py      both of them as feedback
handle.py     an evaluation that goes on between calls of `poll`, in whichever process
evaluator.py  the same for the engine of campaigns
"""

from uqueue_worker.learning.models.queue.evaluator import QueueEvaluator
from uqueue_worker.learning.models.queue.handle import QueueFeedbackHandle
from uqueue_worker.learning.models.queue.interface import QueueBackedModelInterface
from uqueue_worker.learning.models.queue.wave import Progress, QueueOptions

__all__ = ["Progress", "QueueBackedModelInterface", "QueueEvaluator", "QueueFeedbackHandle", "QueueOptions"]

"""Feedback for models that answer with intervals: uqueue's own, evaluated here or through the queue.

regression.py  what is predicted, and in which classes feedback tells it
scores.py      intervals beside true values: errors, uncertainties, metrics
feedback.py    both as feedback
rows.py        samples as columns and true values
place.py       where answers come from: two of them are local.py and queue.py
interface.py   the model interface over such a place
joining.py     answers of chunks as one table of intervals
"""

from uqueue_worker.learning.models.intervals.feedback import regression_feedback
from uqueue_worker.learning.models.intervals.interface import IntervalModelInterface
from uqueue_worker.learning.models.intervals.local import LocalIntervals
from uqueue_worker.learning.models.intervals.queue import QueueIntervals
from uqueue_worker.learning.models.intervals.regression import RegressionSpec, central_width
from uqueue_worker.learning.models.intervals.rows import Rows
from uqueue_worker.learning.models.intervals.scores import Intervals

__all__ = [
    "IntervalModelInterface",
    "Intervals",
    "LocalIntervals",
    "QueueIntervals",
    "RegressionSpec",
    "Rows",
    "central_width",
    "regression_feedback",
]

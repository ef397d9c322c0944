"""Active learning as clients see it: `client.learning.…`. The learning worker does the work; see docs/learning.md."""

from uqueue.learning.awaited import AsyncLearning
from uqueue.learning.blocking import Learning

__all__ = ["AsyncLearning", "Learning"]

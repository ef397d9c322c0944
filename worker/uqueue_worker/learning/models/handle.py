"""A handle on an evaluation that runs in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Generic, Literal, TypeVar

Result = TypeVar("Result")
Status = Literal["running", "done", "failed", "cancelled"]


class FeedbackHandle(Generic[Result]):
    """Starts `work(is_cancelled)` in a thread of its own. The work asks `is_cancelled()` between its batches, and
    raises CancelledError where the answer is yes."""

    def __init__(self, work: Callable[[Callable[[], bool]], Result]) -> None:
        self._future: Future[Result] = Future()
        self._cancelled = threading.Event()
        threading.Thread(target=self._run, args=(work,), name="learning-evaluation", daemon=True).start()

    def poll(self) -> Status:
        """Return how it stands, at once."""
        if not self._future.done():
            return "running"
        error = self._future.exception()
        if error is None:
            return "done"
        return "cancelled" if isinstance(error, CancelledError) else "failed"

    def result(self, timeout_seconds: float | None = None) -> Result:
        """Wait for the result. Raises what the work raised, TimeoutError, and CancelledError after `cancel`."""
        return self._future.result(timeout_seconds)

    def cancel(self) -> bool:
        """Have the work end before its next batch; False where it is over already."""
        self._cancelled.set()
        return not self._future.done()

    def _run(self, work: Callable[[Callable[[], bool]], Result]) -> None:
        try:
            self._future.set_result(work(self._cancelled.is_set))
        except BaseException as error:  # whatever it is belongs to whoever asks for the result
            self._future.set_exception(error)

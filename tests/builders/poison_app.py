"""The worker whose process dies of a row that begins with 666, until a file named `healed` lies in the workspace.

Start it as `celery -A builders.poison_app worker`.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from uqueue_worker.app import app
from uqueue_worker.models import IntervalModel

__all__ = ["app"]

POISON = 666.0
HEALED = "healed"
_summarise = IntervalModel._summarise


def _deadly(self: IntervalModel, table: Any, *args: Any, **kwargs: Any) -> Any:
    if (table[:, 0] == POISON).any() and not Path(os.environ["UQUEUE_WORKSPACE_ROOT"], HEALED).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return _summarise(self, table, *args, **kwargs)


IntervalModel._summarise = _deadly  # type: ignore[method-assign]

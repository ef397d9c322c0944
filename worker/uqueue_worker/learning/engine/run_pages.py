"""Pages of the list of runs: where one ends, as text that a client hands back."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from uqueue_config.errors import InputError
from uqueue_config.learning.runs import RunRecord, RunStatus
from uqueue_worker.learning.engine.store import RunPlace, RunStore

_MAX_CURSOR_CHARACTERS = 500


@dataclass(frozen=True)
class RunPage:
    """Runs, the latest created first; `cursor` leads on, None after the last."""

    runs: tuple[RunRecord, ...]
    cursor: str | None = None


def page_of_runs(
    store: RunStore, statuses: Sequence[RunStatus] = (), limit: int = 50, cursor: str | None = None
) -> RunPage:
    """Return a page of the runs, of these statuses if any are given. Raises InputError for a wrong cursor."""
    found = store.list_runs(statuses, limit + 1, None if cursor is None else _place(cursor))
    runs = tuple(found[:limit])
    return RunPage(runs, _cursor(runs[-1]) if len(found) > limit else None)


def _cursor(run: RunRecord) -> str:
    told = [run.created_at_utc.astimezone(UTC).isoformat(), run.run_id]
    return base64.urlsafe_b64encode(json.dumps(told).encode()).decode().rstrip("=")


def _place(cursor: str) -> RunPlace:
    try:
        if len(cursor) > _MAX_CURSOR_CHARACTERS:
            raise ValueError("no cursor")
        told = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        moment, run_id = told
        created = datetime.fromisoformat(moment).astimezone(UTC)
        if not isinstance(run_id, str) or "\x00" in run_id or datetime.fromisoformat(moment).tzinfo is None:
            raise ValueError("no cursor")
        run_id.encode()
        return created, run_id
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError):
        raise InputError(reason="cursor: expected the `next_cursor` of the page before") from None

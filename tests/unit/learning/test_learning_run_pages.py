"""The list of runs, a page at a time."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from builders.learning_services import services
from uqueue_config.errors import InputError
from uqueue_config.learning.answers import RunList
from uqueue_config.learning.requests import ListRuns
from uqueue_config.learning.runs import RunConfig, RunRecord
from uqueue_worker.learning.answering import answer
from uqueue_worker.learning.engine.memory_store import MemoryRunStore
from uqueue_worker.learning.engine.run_pages import page_of_runs

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


def a_store(count: int) -> MemoryRunStore:
    """Return runs of which two share each time of creation."""
    store, config = MemoryRunStore(), RunConfig()
    for number in range(count):
        created = NOW + timedelta(milliseconds=number // 2)
        status = "completed" if number % 3 else "failed"
        given = {"status": status, "config_hash": "0" * 64, "created_at_utc": created, "updated_at_utc": created}
        store.create_run(RunRecord(run_id=f"run-{number:02}", config=config, **given))  # type: ignore[arg-type]
    return store


@pytest.mark.parametrize("limit", [1, 3, 7, 8, 500])
def test_pages_follow_on_each_other_and_miss_nothing(limit: int) -> None:
    store, found, cursor, pages = a_store(8), [], None, 0
    while True:
        page = page_of_runs(store, (), limit, cursor)
        found += [run.run_id for run in page.runs]
        pages, cursor = pages + 1, page.cursor
        if cursor is None:
            break
        late = page.runs[0].model_copy(update={"run_id": f"late-{pages}", "created_at_utc": NOW + timedelta(days=1)})
        store.create_run(late)  # a run that begins meanwhile moves no page
    assert found == [f"run-{number:02}" for number in reversed(range(8))]
    assert pages == -(-8 // limit)


def test_a_status_is_kept_over_pages() -> None:
    store = a_store(8)
    first = page_of_runs(store, ("failed",), 2)
    rest = page_of_runs(store, ("failed",), 2, first.cursor)
    assert [run.run_id for run in (*first.runs, *rest.runs)] == ["run-06", "run-03", "run-00"]
    assert rest.cursor is None


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "evil",
        "é",
        "",
        "x" * 501,
        encoded([]),
        encoded(["2026-03-02T09:00:00+00:00"]),
        encoded(["2026-03-02T09:00:00", "run-1"]),
        encoded(["yesterday", "run-1"]),
        encoded(["2026-03-02T09:00:00+00:00", 7]),
        encoded(["2026-03-02T09:00:00+00:00", "a\x00b"]),
        encoded(["2026-03-02T09:00:00+00:00", "\ud800"]),
        encoded([[1], "run-1"]),
        encoded({"a": 1, "b": 2}),
        encoded(["0001-01-01T00:00:00+14:00", "run-1"]),
    ],
)
def test_a_wrong_cursor_is_an_error_that_says_what_is_expected(cursor: str) -> None:
    with pytest.raises(InputError, match="cursor: expected the `next_cursor` of the page before"):
        page_of_runs(a_store(1), (), 50, cursor)


def test_the_answer_leads_on(tmp_path: Path) -> None:
    kept = services(tmp_path)
    first = answer(ListRuns(limit=1), kept)
    assert isinstance(first, RunList)
    rest = answer(ListRuns(cursor=first.next_cursor), kept)
    assert isinstance(rest, RunList)
    everything = answer(ListRuns(), kept)
    assert isinstance(everything, RunList)
    assert (*first.runs, *rest.runs) == everything.runs
    assert rest.next_cursor is everything.next_cursor is None

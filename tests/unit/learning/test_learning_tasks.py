"""What tasks of the learning worker do with messages that come twice, late and in any order, and with failures."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from builders.learning_post import MemoryPost
from builders.learning_runs import NOW, a_workshop, campaign, small_config
from uqueue_config.learning.names import LearningTask, begun_key, sent_key
from uqueue_config.learning.runs import RunRecord
from uqueue_worker.learning.engine import Engine, InProcess, MemoryRunStore, NotYet, Part, run_to_end
from uqueue_worker.learning.engine.attempts import MOST_CRASHES
from uqueue_worker.learning.errors import EndpointUnavailable, GenerationFailed, RepositoryUnavailable
from uqueue_worker.learning.post import QueueDispatcher, part_name
from uqueue_worker.learning.working import ATTEMPTS, Tasks

RUN = "run-1"


class Overtime(Exception):
    """Stands for what Celery raises in a task that takes too long."""


class House:
    """An engine, the tasks around it and their post, all in memory; nobody sleeps."""

    def __init__(self, folder: Path, clock: Callable[[], datetime] = lambda: NOW) -> None:
        self.post = MemoryPost()
        self.slept: list[float] = []
        self.store = MemoryRunStore()
        dispatcher = QueueDispatcher(self.post, 60.0)
        self.engine = Engine(self.store, a_workshop(folder), dispatcher, clock=clock)
        self.tasks = Tasks(
            self.engine, dispatcher, self.post, stale_seconds=5, overtime=(Overtime,), sleep=self.slept.append
        )

    def run(self) -> RunRecord:
        return self.store.get_run(RUN)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def first(house: House) -> dict[str, Any]:
    """A run whose first step has been dispatched; the message about one of its parts, taken from the queue."""
    house.engine.create(small_config(), run_id=RUN)
    house.post.messages.clear()
    assert house.tasks.advance(RUN) == {"ok": True, "progress": "parts"}
    task, queue, arguments = house.post.messages[0]
    assert (task, queue, arguments["key"]) == (LearningTask.PART, "simulate", "draw:training")
    assert len(house.post.messages) > 1
    house.post.messages.clear()
    return arguments


def part_of(house: House, message: dict[str, Any]) -> Part:
    found = house.store.get_part(RUN, message["cycle"], message["state"], message["key"])
    assert found is not None
    return found.part


def failing(house: House, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def execute(part: Part) -> bool:
        raise error

    monkeypatch.setattr(house.engine, "execute", execute)


def test_messages_in_any_order_and_twice_make_the_same_campaign(tmp_path: Path) -> None:
    alone = Engine(MemoryRunStore(), a_workshop(tmp_path / "alone"), InProcess(), clock=lambda: NOW)
    expected = campaign(alone, run_to_end(alone, alone.create(small_config(), run_id=RUN).run_id))
    house = House(tmp_path / "queue")
    house.engine.create(small_config(), run_id=RUN)
    house.post.deliver(house.tasks, random.Random(4), times=2)
    assert campaign(house.engine, house.run()) == expected
    assert house.post.notes == {}
    assert set(house.post.counts.values()) == {0}
    assert house.store.dead_letters() == []


def test_a_part_that_is_under_way_is_not_sent_again(house: House, first: dict[str, Any]) -> None:
    assert house.tasks.advance(RUN)["progress"] == "parts"
    assert house.post.messages == []
    del house.post.notes[sent_key(part_name(part_of(house, first)))]
    house.tasks.advance(RUN)
    assert [arguments["key"] for _, _, arguments in house.post.messages] == [first["key"]]


def test_a_part_that_waits_goes_on_by_one_message(
    house: House, first: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house.engine, "execute", lambda part: NotYet(9.0))
    assert house.tasks.do_part(**first)["outcome"] == "going on"
    (_, _, again) = house.post.messages.pop()
    assert again["token"] != first["token"]
    assert (again["key"], again["attempt"]) == (first["key"], 1)
    house.tasks.do_part(**first)
    assert house.post.messages == [], "the other delivery leaves it to the first"
    house.tasks.do_part(**again)
    assert len(house.post.messages) == 1


def test_errors_that_may_pass_are_tried_again_and_then_kept(
    house: House, first: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(house, monkeypatch, EndpointUnavailable(url="http://e", reason="gone"))
    for attempt in range(1, ATTEMPTS):
        assert house.tasks.do_part(**first) == {"ok": False, "outcome": "again"}
        (_, _, first) = house.post.messages.pop()
        assert first["attempt"] == attempt + 1
    assert all(0 < pause <= 4 for pause in house.slept)
    given_up = house.tasks.do_part(**first)
    assert given_up["error"]["code"] == "endpoint_unavailable"
    (letter,) = house.store.dead_letters(RUN)
    assert (letter.key, letter.kind, letter.error["retryable"]) == ("draw:training", "draw", True)
    found = house.store.get_part(RUN, 0, "created", "draw:training")
    assert found is not None
    assert not found.ok


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (GenerationFailed(reason="no"), "generation_failed", "no"),
        (ValueError("a bug\nwith lines"), "unexpected", "ValueError: a bug"),
        (Overtime(), "active_learning", "draw took too long"),
    ],
)
def test_other_errors_are_kept_at_once(
    house: House, first: dict[str, Any], monkeypatch: pytest.MonkeyPatch, error: Exception, code: str, said: str
) -> None:
    failing(house, monkeypatch, error)
    told = house.tasks.do_part(**first)["error"]
    assert told["code"] == code
    assert said in told["message"]
    assert [letter.error["code"] for letter in house.store.dead_letters()] == [code]


def test_a_part_that_ends_its_process_is_given_up_and_the_run_goes_on(house: House, first: dict[str, Any]) -> None:
    house.post.counts[begun_key(part_name(part_of(house, first)))] = MOST_CRASHES
    house.tasks.do_part(**first)
    assert "ended its process 3 times" in house.store.dead_letters()[0].error["message"]
    house.post.notes.clear()
    house.tasks.advance(RUN)
    house.post.deliver(house.tasks)
    assert house.run().status == "completed"
    assert [cycle.state for cycle in house.store.cycles(RUN)] == ["failed", "completed"]


def test_servers_that_are_away_fail_nothing(
    house: House, first: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = house.run()
    failing(house, monkeypatch, RepositoryUnavailable(reason="restarting"))
    assert house.tasks.do_part(**{**first, "attempt": ATTEMPTS}) == {"ok": False, "outcome": "away"}
    house.post.away = True
    assert house.tasks.do_part(**first) == {"ok": False, "outcome": "away"}
    assert house.tasks.advance(RUN) == {"ok": False, "progress": "away"}
    assert house.tasks.tick(1.0) == {"ok": False, "runs": 0}
    monkeypatch.undo()
    assert house.store.dead_letters() == []
    assert house.run() == before


def test_a_step_that_cannot_be_done_ends_the_run_and_can_be_resumed(
    house: House, first: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> str:
        raise ZeroDivisionError("in a strategy")

    monkeypatch.setattr(house.engine, "advance", broken)
    assert house.tasks.advance(RUN)["progress"] == "failed"
    monkeypatch.undo()
    run = house.run()
    assert run.error is not None
    assert (run.status, run.error.step) == ("failed", "created")
    assert "ZeroDivisionError" in run.error.message
    house.post.messages.clear()
    house.post.notes.clear()
    house.engine.resume(RUN)
    house.post.deliver(house.tasks)
    assert house.run().status == "completed"


def test_a_step_that_somebody_is_at_is_looked_at_once_more(house: House, first: dict[str, Any]) -> None:
    with house.store.lock(RUN):
        assert house.tasks.advance(RUN)["progress"] == "busy"
    assert house.post.messages == [(LearningTask.ADVANCE, "alm", {"run_id": RUN})]
    assert house.slept


def test_a_part_that_somebody_is_at_is_left_to_them(house: House, first: dict[str, Any]) -> None:
    with house.store.lock(f"part/{part_name(part_of(house, first))}"):
        assert house.tasks.do_part(**first)["outcome"] == "elsewhere"
    assert house.tasks.do_part(**first)["outcome"] == "done"
    assert house.tasks.do_part(**first)["outcome"] == "done before"


def test_the_last_part_advances_the_run_even_if_who_did_it_died(house: House, first: dict[str, Any]) -> None:
    for part in [one.part for one in house.store.parts(RUN, 0, "created").parts]:
        house.engine.execute(part)
    assert house.post.messages == []
    house.tasks.do_part(**first)
    assert house.post.messages == [(LearningTask.ADVANCE, "alm", {"run_id": RUN})]


def test_nothing_is_begun_for_a_run_that_is_being_cancelled(house: House, first: dict[str, Any]) -> None:
    house.engine.cancel(RUN)
    house.tasks.do_part(**first)
    found = house.store.get_part(RUN, 0, "created", first["key"])
    assert found is not None
    assert found.result is not None
    assert found.result["error"]["code"] == "cancelled"
    house.post.deliver(house.tasks)
    assert house.run().status == "cancelled"


def test_ticks_advance_what_stands_still(tmp_path: Path) -> None:
    still = House(tmp_path)
    still.engine.create(small_config(), run_id=RUN)
    still.post.messages.clear()
    assert still.tasks.tick(10.0) == {"ok": True, "runs": 1}
    assert still.post.messages == [(LearningTask.ADVANCE, "alm", {"run_id": RUN})]
    assert still.tasks.tick(10.0) == {"ok": True, "runs": 0}, "another tick was just there"
    moving = House(tmp_path, clock=lambda: datetime.now(UTC))
    moving.engine.create(small_config(), run_id=RUN)
    assert moving.tasks.tick() == {"ok": True, "runs": 0}


def test_messages_about_nothing_do_nothing(house: House, first: dict[str, Any]) -> None:
    assert house.tasks.advance("run-nobody") == {"ok": False, "progress": "unknown"}
    assert house.tasks.do_part(**{**first, "key": "draw:nothing"}) == {"ok": False, "outcome": "unknown"}
    assert house.post.messages == []

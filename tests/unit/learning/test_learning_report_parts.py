"""When the parts of a run ran and what they cost, on the page, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

from builders.learning_report import told_run
from uqueue_worker.learning.engine.parts import PartKind
from uqueue_worker.learning.engine.store import PartTime
from uqueue_worker.learning.report import ReportData, render_page, report_csv, report_json
from uqueue_worker.learning.report.busy_clock import BusyClock
from uqueue_worker.learning.report.work import most_at_once, united, works_of

START = datetime(2026, 3, 2, 9, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def part(cycle: int, kind: PartKind, begin: float, end: float, *, ok: bool = True, tries: int = 1) -> PartTime:
    samples = 16 if kind == "generate" else 0
    return PartTime(cycle, kind, at(begin), at(end), tries, ok, samples)


def with_parts(*parts: PartTime) -> ReportData:
    return replace(told_run(), parts=parts)


SMALL = (
    part(0, "draw", 0, 4),
    part(0, "start_model", 4, 6),
    part(0, "evaluate", 6, 8),
    part(0, "generate", 8, 10, tries=2),
    part(0, "generate", 9, 11, ok=False, tries=4),
    part(0, "train", 90_011, 90_014),
    part(1, "evaluate", 90_020, 90_022),
    PartTime(1, "train", at(90_023), None, 1),
)


def test_the_page_shows_a_lane_for_each_cycle_and_kind() -> None:
    page = render_page(with_parts(*SMALL))
    body = ElementTree.fromstring(page[page.index("<body>") : page.index("</body>") + 7])
    ids = [one.attrib["id"] for one in body.iter() if "id" in one.attrib]
    assert len(ids) == len(set(ids))
    (picture,) = (one for one in body.iter("svg") if one.attrib.get("aria-labelledby") == "tparts dparts")
    assert picture.attrib["role"] == "img"
    assert len(list(picture.iter("g"))) == 6
    for words in (
        "cycle 1, drawing: 1 part, 4.0 s of work, at most 1 at once",
        "cycle 1, simulating: 2 parts, 4.0 s of work, at most 2 at once",
        "cycle 1, training: 2 parts, 5.0 s of work",
        "cycle 2, training: 1 part, 0.0 s of work",
        "nothing ran for 25.0 h",
        "8 parts in 12 tries took 17 s of work, some of it at the same time; 1 of them failed.",
        "Parts by cycle and kind of work",
    ):
        assert words in page, words


def test_the_same_parts_give_the_same_page_in_whatever_order_they_come() -> None:
    parts = list(SMALL)
    expected = render_page(with_parts(*parts))
    for seed in range(5):
        random.Random(seed).shuffle(parts)
        assert render_page(with_parts(*parts)) == expected


def test_thousands_of_parts_make_no_large_page() -> None:
    drawn = random.Random(7)
    kinds: tuple[PartKind, ...] = ("draw", "evaluate", "craft", "generate", "train")
    parts = []
    for _ in range(20_000):
        cycle, begin = drawn.randrange(40), drawn.uniform(0, 3600)
        parts.append(part(cycle, drawn.choice(kinds), 3600 * cycle + begin, 3600 * cycle + begin + drawn.uniform(0, 9)))
    page = render_page(with_parts(*parts))
    assert len(page) - len(render_page(told_run())) < 250_000
    assert "the last 12 of 40 cycles" in page
    assert "<title>cycle 40, simulating" in page
    assert "<title>cycle 28, simulating" not in page
    assert "60 min" in page


def test_parts_of_which_nobody_noted_the_beginning_are_counted_and_not_drawn() -> None:
    page = render_page(with_parts(PartTime(0, "craft", None, at(3), 0, True)))
    assert "Parts by cycle and kind of work" in page
    assert "Parts of each cycle over time" not in page
    assert "Parts by cycle" not in render_page(told_run())


def test_json_and_csv_say_what_it_cost() -> None:
    data = with_parts(*SMALL)
    told = json.loads(json.dumps(report_json(data), allow_nan=False))
    assert told["cost"] == {
        "samples_made": 20,
        "samples_rejected": 0,
        "parts": 8,
        "parts_failed": 1,
        "parts_open": 1,
        "part_tries": 12,
        "work_seconds": 17.0,
        "elapsed_seconds": 60.0,
    }
    simulating = next(one for one in told["work"] if one["kind"] == "simulating")
    assert simulating == {
        "cycle": 1,
        "kind": "simulating",
        "parts": 2,
        "failed": 1,
        "open": 0,
        "tries": 6,
        "samples": 32,
        "work_seconds": 4.0,
        "busy_seconds": 3.0,
        "most_at_once": 2,
        "first_started_at_utc": "2026-03-02T09:00:08+00:00",
        "last_finished_at_utc": "2026-03-02T09:00:11+00:00",
    }
    rows = list(csv.DictReader(io.StringIO(report_csv(data))))
    names = ("parts", "parts_failed", "part_tries", "work_seconds")
    assert [[row[name] for name in names] for row in rows] == [["6", "1", "10", "15.0"], ["2", "0", "2", "2.0"]]
    assert list(rows[0])[-len(names) :] == list(names)


def test_where_a_weak_spot_comes_from_is_said() -> None:
    data = told_run()
    (spot,) = data.spots[0]
    field = spot.model_copy(update={"details": {**spot.details, "origin": "field"}})
    assert "<td>errors (field)</td>" in render_page(replace(data, spots={**data.spots, 0: [field]}))
    assert "(field)" not in render_page(data)


def test_pauses_are_cut_and_work_is_not() -> None:
    clock = BusyClock([(at(100), at(110)), (at(105), at(120)), (at(121), at(122)), (at(5000), at(5010))])
    assert [clock.at(at(moment)) for moment in (100, 110, 120, 121, 122)] == [0, 10, 20, 21, 22]
    long = 0.1 * 31
    assert clock.at(at(5000)) == 22 + long
    assert clock.end == 32 + long
    assert clock.cuts == [(22 + long / 2, 4878.0)]
    assert BusyClock([]).end == 0.0


def test_what_runs_at_once_is_counted() -> None:
    spans = [(at(0), at(4)), (at(4), at(6)), (at(1), at(2)), (at(1), at(3)), (at(9), at(9))]
    assert most_at_once(spans) == 3
    assert united(spans) == [(at(0), at(6)), (at(9), at(9))]
    assert most_at_once([]) == 0
    (work,) = works_of(with_parts(PartTime(0, "train", at(5), at(4), 1, True)))
    assert work.spans == ((at(5), at(5)),)  # clocks of two machines

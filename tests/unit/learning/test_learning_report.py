from __future__ import annotations

import csv
import io
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy import stats

from builders.learning_report import CORONA, comparison_of, told_run
from uqueue_worker.learning.report import (
    TARGETED,
    Arm,
    Comparison,
    render_index,
    render_page,
    report_csv,
    report_json,
    terminal_summary,
)
from uqueue_worker.learning.report.headline import verdict
from uqueue_worker.learning.report.paired import gains, needed, paired_difference, samples_to_reach
from uqueue_worker.learning.report.places import named, position
from uqueue_worker.learning.report.spots import positions_of, told_spots

EVIL = "<script>alert(1)</script>\"'&]]>=cmd|\x1b[31m"
VOID = {"meta"}


class Outline(HTMLParser):
    """Elements that are open, ids, links, and everything that could ask for something or run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.headings: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.open += [] if tag in VOID else [tag]
        given = dict(attrs)
        self.attributes |= given.keys()
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given["href"] or ""] if "href" in given else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.headings += [data] if self.open[-1:] == ["h2"] else []


def test_the_page_has_its_eight_parts_and_needs_nothing_else() -> None:
    page = render_page(told_run(comparison=comparison_of(0.02)))
    found = Outline(page)
    assert found.open == []
    assert found.headings == [
        "What came of it",
        "How it went, cycle by cycle",
        "Where it was weak",
        "Weak spots",
        "What is taken for what",
        "Scenarios and where they come from",
        "Time and cost",
        "Doing it again",
    ]
    assert not found.tags & {"script", "link", "img", "iframe", "object", "embed", "image", "use", "form"}
    assert not found.attributes & {"src", "srcset", "style", "onload", "onclick", "action"}
    assert all(link.startswith("#") for link in found.links)
    assert "url(" not in page
    assert "@import" not in page
    assert {link[1:] for link in found.links} <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))


def test_the_page_says_what_was_found() -> None:
    page = render_page(told_run(comparison=comparison_of(0.02)))
    for words in (
        "Macro-F1 went from 0.800 to 0.900 on 100 test samples",
        "CORONA, humidity &gt; 8",
        "a gain of +0.0200 (95 % interval",
        "epistemic 0.60, aleatoric 0.20",
        "humidity +0.30",
        "uqueue learn report run-1",
        "exploration of the deployment ranges",
        "CORONA: humidity (%) to the right",
    ):
        assert words in page, words


@pytest.mark.parametrize(("gain", "words"), [(0.0, "no gain that is told from chance"), (-0.02, "a loss")])
def test_where_there_is_no_gain_it_says_so(gain: float, words: str) -> None:
    data = told_run(comparison=comparison_of(gain))
    assert words in render_page(data)
    assert words in terminal_summary(data)
    assert words in " ".join(report_json(data)["findings"])


def test_a_single_pair_proves_nothing() -> None:
    assert "proves nothing" in terminal_summary(told_run(comparison=comparison_of(0.5, seeds=1)))


def test_names_are_text_wherever_they_are_shown() -> None:
    data = told_run(EVIL, EVIL, comparison_of(0.02))
    for page in (render_page(data), render_index([data.run], {EVIL: f"{EVIL}.html"})):
        found = Outline(page)
        assert found.open == []
        assert not found.tags & {"script", "img"}
        assert "<script" not in page
        assert EVIL not in page
    assert "\x1b" not in terminal_summary(data)
    rows = list(csv.reader(io.StringIO(report_csv(told_run("=HYPERLINK(1)")))))
    assert not [cell for row in rows for cell in row if cell.startswith("=")]


def test_a_run_without_a_cycle_has_a_page() -> None:
    data = told_run()
    empty = type(data)(run=data.run, cycles=())
    assert Outline(render_page(empty)).open == []
    assert "has not finished a cycle" in terminal_summary(empty)
    assert report_csv(empty).count("\n") == 1


def test_feedback_and_scenarios_that_are_gone_leave_a_page() -> None:
    data = told_run(comparison=comparison_of(0.02))
    bare = type(data)(run=data.run, cycles=data.cycles, spots=data.spots, comparison=data.comparison)
    assert "There is no feedback on the pool" in render_page(bare)


def test_weak_spots_are_told_in_words_with_recall_inside_the_region() -> None:
    data = told_run()
    first, second = told_spots(data, positions_of(data))
    found = re.fullmatch(r"CORONA, humidity > (\d+) %", first.region)
    assert found
    assert 80 <= int(found[1]) <= 95
    assert first.recall_before == 0.0
    assert first.recall_before < (first.recall_after or 0) <= (second.recall_after or 0)
    assert (first.label, first.samples, first.rank) == (CORONA, 5, 1)
    assert first.scenarios == ("run-1-made-0",)


def test_json_and_csv_hold_the_same_spots() -> None:
    data = told_run(comparison=comparison_of(0.02))
    told = json.loads(json.dumps(report_json(data), allow_nan=False))
    rows = list(csv.DictReader(io.StringIO(report_csv(data))))
    assert [one["region"] for one in told["weak_spots"]] == [row["region"] for row in rows]
    assert told["comparison"]["arms"][TARGETED]["mean"][-1] == pytest.approx(0.875)
    assert json.loads(json.dumps(report_json(told_run(comparison=comparison_of(0.1, seeds=1))), allow_nan=False))


def test_the_interval_is_that_of_student() -> None:
    first, second = [0.93, 0.91, 0.95, 0.90], [0.91, 0.90, 0.92, 0.91]
    gaps = np.subtract(first, second)
    low, high = stats.t.interval(0.95, 3, loc=gaps.mean(), scale=stats.sem(gaps))
    found = paired_difference(first, second)
    assert (found.mean, found.low, found.high) == pytest.approx((gaps.mean(), low, high))
    assert found.verdict == "none"
    assert math.isinf(paired_difference([1.0], [0.0]).high)
    with pytest.raises(ValueError, match="at least one pair"):
        paired_difference([], [])
    with pytest.raises(ValueError, match="argument 2"):
        paired_difference([1.0, 2.0], [1.0])
    assert verdict(paired_difference([0.1, 0.3], [0.2, 0.4])).startswith("a loss: -0.1000")


def test_samples_needed_are_read_off_the_curve() -> None:
    assert samples_to_reach([0.8, 0.9, 0.95], 0.85, 48) == pytest.approx(24)
    assert samples_to_reach([0.8, 0.9, 0.95], 0.7, 48) == 0
    assert samples_to_reach([0.8, 0.9, 0.95], 0.95, 48) == pytest.approx(96)
    assert samples_to_reach([0.8, 0.9, 0.95], 0.96, 48) is None
    arms = (Arm(TARGETED, "t", ((0.8, 0.9, 1.0),)), Arm("r", "r", ((0.8, 0.82, 0.85),)))
    comparison = Comparison("f", (0,), 48, arms)
    assert needed(comparison) == {"r": pytest.approx(24)}
    assert gains(comparison)["r"].mean == pytest.approx(0.15)


def test_parameters_have_names_and_units() -> None:
    assert position({"location": [3.0, 4.0, 0.0], "a": {"b_percent": 5}, "on": True, "word": "x", "l": [1.0]}) == {
        "distance": 5.0,
        "a.b_percent": 5.0,
        "l[0]": 1.0,
    }
    assert named("environment.relative_humidity_percent") == ("humidity", "%")
    assert named("distance") == ("distance", "m")
    assert named("base_emission_rates_g_s.PM2.5") == ("PM2.5 rate", "g/s")
    assert named("emf_strength_v_m") == ("emf strength", "V/m")
    assert named("traffic") == ("traffic", "")

"""The page's parts: what is shown, that it is well formed, and that nothing shown becomes markup."""

from __future__ import annotations

import math

import pytest

from builders.html_page import Element, check_page, read_html
from builders.page_views import NOW, counted, figures, localization, model, process, view
from uqueue.gateway.page.look import View
from uqueue.gateway.page.markup import Html, element
from uqueue.gateway.page.parts import NAMES, parts
from uqueue.gateway.page.plot import Scale
from uqueue.gateway.page.samples import Sample

EVIL = "<script>alert(1)</script>\"'&<img src=x onerror=alert(1)>"


def shown(view: View) -> dict[str, Element]:
    return {name: read_html(html) for name, html in parts(view).items()}


def tiles(view: View) -> dict[str, str]:
    return {one.one("dt").text: one.text for one in shown(view)["tiles"].all("div")}


def cells(table: Element) -> list[list[str]]:
    return [[cell.text for cell in row.children] for row in table.one("tbody").all("tr")]


def test_what_an_ordinary_state_shows() -> None:
    found = tiles(view())
    assert found["Jobs waiting"] == "Jobs waiting 1,234 7 dead letters, 1 for control"
    assert found["Jobs per second"] == "Jobs per second 101 1 of them fail, over the last 10 s"
    assert found["Wait in the queue"].startswith("Wait in the queue ≤ 250 ms for 95 % of the jobs")
    assert found["Worker processes"] == "Worker processes 1 1 serving"
    assert found["Cache hits"] == "Cache hits 75 % over the last 10 s 75 % of 4 look-ups since counting began"
    made = shown(view())
    assert cells(made["latency"]) == [
        ["Jobs in the queue", "1,010", "≤ 1 ms", "≤ 250 ms", "20 ms"],
        ["Jobs in a worker", "0", "–", "–", "–"],
        ["Requests with a job", "100", "≤ 5 ms", "≤ 10 ms", "5 ms"],
        ["Requests for a localization", "4", "> 5 s", "> 5 s", "6 s"],
    ]
    assert cells(made["workers"]) == [["mccp-uq", "1", "ready", "aaaabbbbccccdddd", "fused", "1,500", "2 h ago"]]
    assert made["models"].text == "mccp-uq should serve aaaabbbbccccdddd , and does."
    assert "Running" in made["banner"].text
    assert cells(made["positions"])[0] == [
        *("14:13:20", "52.00000° N", "5.00000° E", "120 m", "0.75", "145.5 MHz", "11.2 dB")
    ]
    assert len(cells(made["positions"])) == 5
    assert cells(made["intervals"])[0] == ["14:13:19", "54", "59", "64", "v2", ""]
    assert len(made["plots"].all("rect")) == 60
    assert len(made["plots"].all("path", class_="version")) == 1


def test_hosts_and_process_numbers_are_left_to_the_command_line() -> None:
    whole = "".join(parts(view()).values())
    assert "secret-host" not in whole
    assert "4711" not in whole


def test_a_registered_model_is_shown_by_its_number() -> None:
    made = shown(view(numbers={"aaaabbbbccccdddd": "12"}))
    assert cells(made["workers"])[0][3] == "12 ( aaaabbbbccccdddd )"


def test_a_refused_version_and_its_reason() -> None:
    loading = process(state="invalid", version=None, reason="the file is cut off", loaded_at=None)
    one = model(loading, rejected_version="eeeeffff00001111", rejected_reason="it has 7 inputs")
    made = shown(view(models=[one]))
    assert "does not everywhere yet" in made["models"].text
    assert "Refused: eeeeffff00001111 : it has 7 inputs" in made["models"].text
    assert cells(made["workers"])[0][2] == "invalid the file is cut off"
    assert "Waiting" in made["banner"].text


@pytest.mark.parametrize(
    "state",
    [
        View(NOW),
        view(depths=None),
        view(
            models=[],
            recent=[],
            intervals={},
            change=None,
            figures=figures(),
            depths={}.fromkeys(view().depths or {}, 0),
        ),
        view(change=None),
        view(stopping=True),
        view(models=[model(name="gone", wanted_version=None), model(process(busy_since=NOW - 90, state="stale"))]),
    ],
    ids=["no Redis", "a part unknown", "nothing yet", "one reading", "stopping", "odd models"],
)
def test_every_state_has_all_parts(state: View) -> None:
    made = shown(state)
    assert tuple(made) == NAMES
    for name in ("banner", "updated", "tiles", "latency", "models", "map", "plots"):
        assert made[name].text, name


def test_the_banner_says_what_matters_most() -> None:
    assert "Redis does not answer" in shown(View(NOW))["banner"].text
    assert "Redis does not answer" in shown(view(recent=None, stopping=True))["banner"].text
    assert "about to stop" in shown(view(stopping=True, models=[]))["banner"].text
    assert "no worker process" in shown(view(models=[]))["banner"].text


def test_without_redis_no_number_is_shown_as_if_it_were_true() -> None:
    state = View(NOW)
    assert [text.split()[-1] for text in tiles(state).values() if "95 %" not in text] == ["–"] * 4
    assert shown(state)["map"].text == "– Redis does not say."


def test_empty_states_say_what_to_do() -> None:
    made = shown(view(models=[], recent=[], intervals={}))
    assert "uqueue up" in made["models"].text
    assert "POST /predict" in made["map"].text
    assert "POST /v1/jobs" in made["plots"].text
    assert made["positions"].text == made["intervals"].text == ""


def test_nothing_shown_becomes_markup() -> None:
    odd = process(model=EVIL, version=EVIL, reason=EVIL, engine=EVIL, host=EVIL)
    state = view(
        models=[model(odd, name=EVIL, wanted_version=EVIL, rejected_version=EVIL, rejected_reason=EVIL)],
        numbers={EVIL: EVIL + "2"},
        intervals={EVIL: (Sample(NOW, EVIL, 1.0, 2.0),)},
        recent=[localization(id=EVIL, session_id=EVIL)],
    )
    whole = "".join(parts(state).values())
    assert "<script" not in whole
    assert "<img" not in whole
    made = shown(state)
    assert made["models"].one("strong").text == EVIL
    assert made["plots"].one("title").text == f"Recent intervals of {EVIL}"


def test_elements_escape_children_and_attributes() -> None:
    made = element(
        "p", "a < b", element("b", "&"), Html("<i></i>"), class_='"><x>', hidden=True, id=None, aria_label="'"
    )
    assert made == '<p class="&quot;&gt;&lt;x&gt;" hidden aria-label="&#x27;">a &lt; b<b>&amp;</b><i></i></p>'


def test_intervals_that_failed_or_crossed() -> None:
    samples = (Sample(NOW, "v", None, None), Sample(NOW, "v", 3.0, 2.0), Sample(NOW, "v", 1.0, 2.0))
    made = shown(view(intervals={"m": samples}))
    assert [row[-1] for row in cells(made["intervals"])] == ["", "crossed", "failed"]
    assert len(made["plots"].all("path", class_="failed")) == 1
    assert len(made["plots"].all("rect", class_="band crossed")) == 1


@pytest.mark.parametrize(
    "ends", [(0.0, 0.0), (5.0, 5.0), (-1e308, 1e308), (1e-300, 2e-300), (1e15, 1e15 + 1), (None, None), (-3.0, 1e9)]
)
def test_a_plot_has_room_for_whatever_a_model_says(ends: tuple[float | None, float | None]) -> None:
    made = shown(view(intervals={"m": (Sample(NOW, "v", *ends),) * 3}))["plots"]
    for rect in made.all("rect"):
        assert all(math.isfinite(float(rect.attributes[name])) for name in ("x", "y", "width", "height"))
        assert 0 <= float(rect.attributes["y"]) <= 330
        assert float(rect.attributes["height"]) >= 1
    scale = Scale.of((Sample(NOW, "v", *ends),))
    assert scale.high > scale.low


def test_two_models_have_two_plots() -> None:
    samples = view().intervals or {}
    made = shown(view(intervals={"a": samples["mccp-uq"], "b": samples["mccp-uq"]}))
    assert [one.text for one in made["plots"].all("h3")] == ["a", "b"]
    assert len(made["intervals"].all("table")) == 2


def test_the_tables_are_ones_for_screen_readers() -> None:
    body = "".join(parts(view(change=None, figures=counted())).values())
    start, end = (
        '<html lang="en"><head><title>x</title></head><header><h1>x</h1></header><main>',
        "</main><footer></footer></html>",
    )
    check_page(read_html(start + body + end))

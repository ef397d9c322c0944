"""The page for people on a real service: what it shows, to whom, and when Redis does not answer."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import httpx
import psutil
import pytest

from builders.gateway import RunningGateway
from builders.html_page import Element, check_page, read_html
from builders.page_town import Town, locate, predict, running_town
from builders.waiting import eventually
from uqueue.gateway.page.parts import NAMES
from uqueue.gateway.page.routes import FILES, POLICY

#: What Firefox sends.
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with running_town(tmp_path_factory.mktemp("page")) as town:
        yield town


@pytest.fixture(scope="module")
def before(town: Town) -> Element:
    """The page when nothing has happened yet. After it, something does."""
    found = page(town.gateway)
    locate(town.gateway, 1, 2, 1)
    predict(town.gateway)
    return found


pytestmark = pytest.mark.usefixtures("before")


def page(gateway: RunningGateway, path: str = "/", seconds: float = 20, **headers: str) -> Element:
    answer = httpx.get(f"{gateway.url}{path}", headers={**BROWSER, **headers}, timeout=seconds)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["vary"] == "Accept"
    assert answer.headers["cache-control"] == "no-store"
    return read_html(answer.text)


def part(root: Element, name: str) -> Element:
    return root.one(data_part=name)


def parts(gateway: RunningGateway, **headers: str) -> httpx.Response:
    return httpx.get(f"{gateway.url}/page/parts", headers=headers, timeout=20)


def test_programs_get_json_and_browsers_the_page(town: Town) -> None:
    for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        answer = httpx.get(f"{town.gateway.url}/", headers=headers)
        assert answer.headers["content-type"] == "application/json"
        assert (answer.json()["service"], answer.json()["status"]) == ("inference", "running")
        assert answer.headers["vary"] == "Accept"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert httpx.get(f"{town.gateway.url}/api/", headers=BROWSER).json()["status"] == "running"
    check_page(page(town.gateway))


def test_before_anything_has_happened(before: Element) -> None:
    check_page(before)
    assert "Running" in part(before, "banner").text
    assert "POST /predict" in part(before, "map").text
    assert "POST /v1/jobs" in part(before, "plots").text
    assert "localization_model should serve 4 (" in part(before, "models").text


def test_what_has_happened_is_shown(town: Town) -> None:
    def counted() -> bool:
        rows = part(page(town.gateway), "latency").one("tbody").all("tr")
        return [row.children[1].text for row in rows] == ["3", "3", "1", "3"]

    eventually(counted, "the worker has told what it did", seconds=20)
    found = page(town.gateway)
    check_page(found)
    assert len(part(found, "map").all("circle", class_="dot")) == 3
    assert len(part(found, "map").all("path", class_="area edge")) == 3
    assert len(part(found, "positions").one("tbody").all("tr")) == 3
    assert "433.5 MHz" in part(found, "positions").text
    assert len(part(found, "plots").all("rect")) == 1
    assert part(found, "plots").one("h3").text == "mccp-uq"
    states = part(found, "workers").one("tbody").all("tr")
    assert [[cell.text for cell in row.children][:3] for row in states] == [
        ["localization_model", "1", "ready"],
        ["mccp-uq", "1", "ready"],
    ]
    assert "33 % of 3 look-ups" in part(found, "tiles").text


def test_rates_come_once_somebody_looks(town: Town) -> None:
    def measured() -> bool:
        text = part(page(town.gateway), "tiles").text
        return "over the last" in text and "Jobs per second –" not in text

    eventually(measured, "two looks are some seconds apart", seconds=20)


def test_the_parts_are_those_of_the_page(town: Town) -> None:
    answer = parts(town.gateway)
    assert answer.headers["content-type"] == "application/json"
    assert tuple(answer.json()) == NAMES
    for name, html in answer.json().items():
        assert (name in ("positions", "intervals", "updated", "workers")) or read_html(html).text == part(
            page(town.gateway), name
        ).text


def test_the_files_are_served_and_may_be_kept(town: Town) -> None:
    found = page(town.gateway)
    named = [one.attributes.get("href") or one.attributes["src"] for one in found.all("link") + found.all("script")]
    for name in named:
        for gateway in (town.gateway, town.keyed):
            answer = httpx.get(f"{gateway.url}/{name}")
            assert answer.status_code == 200
            kind = FILES[name.partition("?")[0].removeprefix("page/")]
            assert answer.headers["content-type"].partition(";")[0] == kind
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "immutable" in answer.headers["cache-control"]
    assert httpx.get(f"{town.gateway.url}/page/routes.py").status_code == 404


def test_without_javascript_it_refreshes_unless_asked_not_to(town: Town) -> None:
    assert page(town.gateway).one("head").one("noscript").one("meta").attributes["http-equiv"] == "refresh"
    still = page(town.gateway, "/?refresh=off")
    assert still.one("head").all("noscript") == []
    assert still.one("header").one("a").attributes["href"] == "?"


def test_where_keys_are_wanted_nothing_is_shown_without_one(town: Town) -> None:
    for headers in ({}, {"X-API-Key": town.submitter}, {"Authorization": "Bearer uq_00000000_no"}):
        found = page(town.keyed, **headers)
        check_page(found)
        assert found.one(id="ask").one("input").attributes["type"] == "password"
        assert "hidden" in found.one(id="data").attributes
        assert [part(found, name).text for name in NAMES] == [""] * len(NAMES)
        assert "mccp-uq" not in found.text
        assert [one.attributes.get("http-equiv") for one in found.all("meta")].count("refresh") == 0
    assert parts(town.keyed).status_code == 401
    assert parts(town.keyed, **{"X-API-Key": town.submitter}).status_code == 403


def test_with_a_key_that_may_read_all_is_shown(town: Town) -> None:
    found = parts(town.keyed, **{"X-API-Key": town.reader})
    assert "localization_model" in found.json()["models"]
    assert "hidden" not in page(town.keyed, **{"X-API-Key": town.reader}).one(id="data").attributes


def test_when_redis_hangs_or_is_gone_the_page_says_so_in_time(town: Town) -> None:
    for one in town.service.services.values():  # they would wait for Redis when they are to end
        one.stop()
    redis = psutil.Process(town.service.redis.pid)
    for event in (signal.SIGSTOP, signal.SIGKILL):
        redis.send_signal(event)
        time.sleep(1.1)  # what was looked at a second ago is not shown any more
        found = page(town.gateway, seconds=4)
        check_page(found)
        assert "Redis does not answer" in part(found, "banner").text
        assert part(found, "map").text == "– Redis does not say."
        assert len(part(found, "plots").all("rect")) == 1  # what the gateway itself knows
    assert [line for line in town.gateway.lines if line["event"] == "unforeseen"] == []

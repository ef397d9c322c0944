"""The page in a real browser: `make test-browser`. It needs Chromium, `make test` does not: hence the file's name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect

from builders.page_town import Town, locate, predict, running_town
from uqueue_config.names import MODELS_KEY, candidate_key

#: Where pictures go, for people to look at and for the docs.
PICTURES = os.environ.get("PICTURES")
EVIL = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with running_town(tmp_path_factory.mktemp("page")) as town:
        yield town


class Window:
    """One window with nothing remembered. Whatever the browser complains of, or asks elsewhere for, is kept."""

    def __init__(self, browser: Browser, own: str, **options: Any) -> None:
        self.context: BrowserContext = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._note)
        self._own = own
        self.page.goto(own)

    def _note(self, request: Request) -> None:
        self.asked.append(request.url.removeprefix(self._own))

    @property
    def looks(self) -> int:
        """How often the page has asked for its parts."""
        return self.asked.count("/page/parts")

    def picture(self, name: str, folder: Path) -> None:
        self.page.screenshot(path=Path(PICTURES or folder) / f"{name}.png", full_page=True)


@pytest.fixture
def window(browser: Browser, town: Town, request: pytest.FixtureRequest) -> Iterator[Window]:
    """A window on the gateway without keys; a test may give options of the browser."""
    made = Window(browser, town.gateway.url, **getattr(request, "param", {}))
    yield made
    assert [url for url in made.asked if not url.startswith("/")] == []
    assert made.complaints == []
    made.context.close()


@pytest.fixture
def keyed(browser: Browser, town: Town) -> Iterator[Window]:
    made = Window(browser, town.keyed.url)
    yield made
    made.context.close()


def part(page: Page, name: str) -> Any:
    return page.locator(f'[data-part="{name}"]')


def accessible(page: Page) -> list[str]:
    """Return what axe-core has to say against a page."""
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]})
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:120] for node in one['nodes']]}"
        for one in found.response["violations"]
    ]


def test_an_empty_page(window: Window, tmp_path: Path) -> None:
    expect(part(window.page, "banner")).to_contain_text("Running")
    expect(part(window.page, "map")).to_contain_text("POST /predict")
    assert accessible(window.page) == []
    window.picture("empty", tmp_path)


def test_it_refreshes_itself(window: Window, town: Town) -> None:
    window.page.get_by_text("Intervals as a table").click()
    window.page.evaluate("window.mark = 1")
    locate(town.gateway, *range(1, 9))
    predict(town.gateway)
    expect(part(window.page, "plots").locator("svg")).to_have_count(1, timeout=10_000)
    expect(part(window.page, "map").locator(".dot")).to_have_count(8, timeout=10_000)
    assert window.page.evaluate("window.mark") == 1
    expect(window.page.get_by_role("table", name="Recent intervals of mccp-uq")).to_be_visible()
    expect(part(window.page, "tiles")).to_contain_text("over the last", timeout=20_000)


def test_keys_of_the_keyboard_pause_it(window: Window) -> None:
    page = window.page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the state of the service")).to_be_focused()
    page.keyboard.press("Tab")
    pause = page.get_by_role("button", name="Pause")
    expect(pause).to_be_focused()
    assert pause.evaluate("one => getComputedStyle(one).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(pause).to_have_attribute("aria-pressed", "true")
    page.wait_for_timeout(500)
    before = window.looks
    page.wait_for_timeout(3000)
    assert window.looks == before
    page.keyboard.press("Space")
    expect(pause).to_have_attribute("aria-pressed", "false")
    page.wait_for_timeout(500)
    assert window.looks == before + 1


@pytest.mark.parametrize("window", [{"reduced_motion": "reduce"}], indirect=True)
def test_less_motion_is_less_often(window: Window) -> None:
    window.page.wait_for_timeout(5000)
    assert window.looks == 0


@pytest.mark.parametrize("window", [{"java_script_enabled": False}], indirect=True)
def test_without_javascript(window: Window, tmp_path: Path) -> None:
    expect(part(window.page, "map").locator("svg")).to_be_visible()
    expect(part(window.page, "workers")).to_contain_text("ready")
    expect(window.page.get_by_role("button")).to_have_count(0)
    window.page.get_by_role("link", name="Stop refreshing").click()
    expect(window.page.get_by_role("link", name="Refresh by itself")).to_be_visible()
    assert window.asked.count("/") == 1
    window.picture("no-javascript", tmp_path)


SIZES = {"light": (1280, "light"), "dark": (1280, "dark"), "narrow": (360, "light"), "narrowest": (320, "dark")}


@pytest.mark.parametrize(
    "window",
    [{"viewport": {"width": width, "height": 900}, "color_scheme": scheme} for width, scheme in SIZES.values()],
    ids=SIZES,
    indirect=True,
)
def test_it_is_for_everybody_at_every_size(
    window: Window, town: Town, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    for index in range(12):
        predict(town.gateway, 440.0 + 10 * index)
        window.page.wait_for_timeout(260)
    window.page.wait_for_timeout(3000)
    assert accessible(window.page) == []
    assert window.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    window.picture(request.node.callspec.id, tmp_path)
    for summary in window.page.locator("summary").all():
        summary.click()
    assert accessible(window.page) == []
    assert window.page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_what_a_source_says_is_text(window: Window, town: Town) -> None:
    with redis.Redis.from_url(town.service.redis.url) as connection:
        connection.sadd(MODELS_KEY, EVIL)
        connection.hset(candidate_key(EVIL), mapping={"version": EVIL, "reason": EVIL})
        shown = f"{EVIL}: no version has been loaded yet.Refused: {EVIL}: {EVIL}"
        expect(part(window.page, "models")).to_contain_text(shown, timeout=10_000)
        connection.srem(MODELS_KEY, EVIL)
        connection.delete(candidate_key(EVIL))
    window.page.wait_for_timeout(200)
    assert window.page.title() == "uqueue"
    assert window.page.locator("img").count() == 0


def test_with_keys_it_asks_for_one(keyed: Window, town: Town, tmp_path: Path) -> None:
    page = keyed.page
    field = page.get_by_label("API key")
    expect(field).to_be_visible()
    expect(part(page, "tiles")).to_be_hidden()
    assert keyed.looks == 0
    assert accessible(page) == []
    keyed.picture("key", tmp_path)
    said = page.locator("#said")
    for key, answer in (("uq_wrong", "not one of this gateway's"), (town.submitter, "lacks the scope read")):
        field.fill(key)
        page.keyboard.press("Enter")
        expect(said).to_contain_text(answer)
        expect(part(page, "tiles")).to_be_hidden()
    field.fill(town.reader)
    page.get_by_role("button", name="Show").click()
    expect(part(page, "workers")).to_contain_text("ready")
    expect(field).to_be_hidden()
    expect(said).to_be_empty()
    assert town.reader not in page.content()
    assert accessible(page) == []
    page.reload()
    expect(part(page, "workers")).to_contain_text("ready")
    page.get_by_role("button", name="Forget the key").click()
    expect(field).to_be_focused()
    expect(part(page, "workers")).to_be_hidden()
    assert page.evaluate("sessionStorage.length") == 0
    assert "mccp-uq" not in page.content()
    assert not any(town.reader in url for url in keyed.asked)


def test_a_gateway_that_is_gone(browser: Browser, town: Town) -> None:
    gone = Window(browser, town.gateway.url)
    gone.page.route("**/page/parts", lambda route: route.abort())
    expect(gone.page.locator("#said")).to_contain_text("The gateway does not answer", timeout=10_000)
    expect(part(gone.page, "map").locator("svg")).to_be_visible()
    gone.page.unroute("**/page/parts")
    expect(gone.page.locator("#said")).to_be_empty(timeout=10_000)
    gone.context.close()

"""A report of active learning in a real browser: `make test-browser`. It needs Chromium, `make test` does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from builders.learning_report import comparison_of, told_run
from uqueue_worker.learning.report import render_index, render_page

PICTURES = os.environ.get("PICTURES")
RULES = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]
EVIL = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"
SIZES = {"light": (1280, "light"), "dark": (1280, "dark"), "narrow": (360, "light"), "narrowest": (320, "dark")}


def opened(browser: Browser, file: Path, text: str, size: str) -> tuple[Page, list[str]]:
    """Return the page, and what it asked for or complained of."""
    file.write_text(text, encoding="utf-8")
    width, scheme = SIZES[size]
    page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
    said: list[str] = []
    page.on("request", lambda request: said.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(file.as_uri())
    return page, said


def complaints(page: Page) -> list[str]:
    found = Axe().run(page, options={"runOnly": RULES}).response["violations"]
    return [f"{one['id']}: {[node['html'][:120] for node in one['nodes']]}" for one in found]


@pytest.mark.parametrize("size", SIZES)
def test_a_report_is_for_everybody_at_every_size(browser: Browser, tmp_path: Path, size: str) -> None:
    text = render_page(told_run(comparison=comparison_of(0.02)))
    page, said = opened(browser, tmp_path / "report.html", text, size)
    for _ in range(2):
        assert complaints(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.screenshot(path=Path(PICTURES or tmp_path) / f"learning-{size}.png", full_page=True)
        for summary in page.locator("summary").all():
            summary.click()
    assert said == [page.url]
    page.context.close()


def test_what_names_hold_is_text(browser: Browser, tmp_path: Path) -> None:
    data = told_run(EVIL, EVIL, comparison_of(0.02))
    for number, text in enumerate((render_page(data), render_index([data.run], {EVIL: f"{EVIL}.html"}))):
        page, said = opened(browser, tmp_path / f"{number}.html", text, "light")
        assert page.locator("img, script").count() == 0
        assert page.title() != "run"
        assert EVIL in page.locator("body").inner_text()
        assert said == [page.url]
        page.context.close()

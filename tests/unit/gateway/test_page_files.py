"""The page's files: what they refer to is there and here, and their colours can be read."""

from __future__ import annotations

import importlib.resources
import re
from string import Template

import pytest

from builders.html_page import Element, check_page, read_html
from builders.page_views import view
from uqueue.gateway.page.parts import NAMES, parts
from uqueue.gateway.page.routes import FILE_PATHS, FILES, wants_page

FOLDER = importlib.resources.files("uqueue.gateway.page")


def text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def page() -> Element:
    others = dict.fromkeys(("page_css", "page_js", "icon_svg", "version", "hidden", "refresh", "still"), "")
    return read_html(Template(text("page.html")).substitute(parts(view()), ask=text("ask.html"), **others))


def test_the_page_is_one_for_everybody() -> None:
    check_page(page())


def test_every_part_has_its_place() -> None:
    places = [one.attributes["data-part"] for one in page().all() if "data-part" in one.attributes]
    assert sorted(places) == sorted(NAMES)


def test_every_file_that_the_page_names_is_served() -> None:
    elements = page().all("link") + page().all("script")
    named = {(one.attributes.get("href") or one.attributes["src"]).partition("?")[0] for one in elements}
    assert {f"/{name}" for name in named} == FILE_PATHS
    assert all(text(name) for name in FILES)


@pytest.mark.parametrize("name", ["page.html", "ask.html", *FILES])
def test_nothing_comes_from_elsewhere(name: str) -> None:
    found = text(name).replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", found)


def test_the_script_runs_nothing_that_it_is_given() -> None:
    script = text("page.js")
    assert not re.search(r"\beval\b|Function\(|document\.write|\bimport\b|insertAdjacent|outerHTML", script)
    assert script.count("innerHTML") == 1
    for id in re.findall(r'byId\("([^"]+)"\)', script):
        assert page().one(id=id)
    for opening, closing in ("()", "[]", "{}"):
        assert script.count(opening) == script.count(closing)


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("TEXT/HTML ; Q=1", True),
        ("application/json, text/html", True),
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=0", False),
        ("text/html;q=much", False),
        ("*/*", False),
        ("application/json", False),
        ("text/*", False),
        ("", False),
        (None, False),
    ],
)
def test_who_gets_the_page(accept: str | None, html: bool) -> None:
    assert wants_page(accept) is html


def colours(css: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z]+): (#[0-9a-f]+)", css))


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) > 4 else "".join(2 * digit for digit in colour[1:])
        parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(scheme: str) -> None:
    light, dark = text("page.css").split("@media (prefers-color-scheme: dark)")
    found = colours(light if scheme == "light" else dark.partition("\n}\n")[0])
    for name in ("text", "muted", "accent", "good", "warn", "bad"):
        for ground in ("ground", "panel", "sea"):
            assert contrast(found[name], found[ground]) >= 4.5, (name, ground)
    assert contrast(found["older"], found["sea"]) >= 3


def test_contrast_is_that_of_the_guidelines() -> None:
    assert contrast("#fff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.01)

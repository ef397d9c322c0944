"""HTML read strictly: what is not closed, is named twice, refers to nothing, or would run or load something, fails."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "input", "br"}
#: Elements that a browser would run, or that load what the page did not ask for itself.
FORBIDDEN = {"style", "iframe", "object", "embed", "base", "img"}
REFERENCES = ("aria-labelledby", "aria-describedby", "for")


@dataclass
class Element:
    name: str
    attributes: dict[str, str]
    parts: list[Element | str] = field(default_factory=list)

    @property
    def children(self) -> list[Element]:
        return [part for part in self.parts if isinstance(part, Element)]

    @property
    def text(self) -> str:
        """All text inside, its parts apart."""
        return " ".join(" ".join(part if isinstance(part, str) else part.text for part in self.parts).split())

    def all(self, name: str | None = None, **attributes: str) -> list[Element]:
        """Return what is inside, at any depth, of this name and with these attributes (`class_`, `data_part`)."""
        wanted = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
        found = [
            child
            for child in self.children
            if name in (None, child.name) and all(child.attributes.get(key) == value for key, value in wanted.items())
        ]
        return found + [one for child in self.children for one in child.all(name, **attributes)]

    def one(self, name: str | None = None, **attributes: str) -> Element:
        [found] = self.all(name, **attributes)
        return found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute twice in <{tag}>: {names}"
        made = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].parts.append(made)
        if tag not in VOID:
            self.open.append(made)

    def handle_endtag(self, tag: str) -> None:
        closed = self.open.pop()
        assert closed.name == tag, f"</{tag}> ends <{closed.name}>"

    def handle_data(self, data: str) -> None:
        self.open[-1].parts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def read_html(text: str) -> Element:
    """Return the root of a document or fragment. AssertionError for what a strict reader would not have."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == [reader.root], f"not closed: {[one.name for one in reader.open]}"
    elements = reader.root.all()
    ids = [one.attributes["id"] for one in elements if "id" in one.attributes]
    assert len(ids) == len(set(ids)), f"an id twice: {sorted(ids)}"
    for one in elements:
        assert one.name not in FORBIDDEN, one
        assert one.name != "script" or ("src" in one.attributes and not one.text), "an inline script"
        for name, value in one.attributes.items():
            assert not name.startswith("on"), f"a handler: {name}"
            assert name != "style", one
            assert name not in ("href", "src", "action") or not re.match(r"[a-z]+:|//", value), f"{name}={value}"
            if name in REFERENCES:
                assert set(value.split()) <= set(ids), f"{name}={value} refers to nothing"
    return reader.root


def check_page(root: Element) -> None:
    """Check what people with screen readers go by: landmarks, headings, tables, pictures, fields."""
    assert root.one("html").attributes["lang"] == "en"
    assert root.one("head").one("title").text
    for landmark in ("header", "main", "footer"):
        root.one(landmark)
    levels = [int(one.name[1]) for one in root.all() if re.fullmatch("h[1-6]", one.name)]
    assert levels.count(1) == 1
    for table in root.all("table"):
        assert table.children[0].name == "caption"
        assert table.children[0].text
        heads = table.all("th")
        assert heads
        assert all(one.text for one in heads)
        assert {one.attributes.get("scope") for one in heads} == {"col", "row"}
        columns = len(table.one("thead").all("th"))
        assert {len(row.children) for row in table.one("tbody").all("tr")} <= {columns}
    for picture in root.all("svg"):
        assert picture.attributes["role"] == "img"
        assert [one.name for one in picture.children[:2]] == ["title", "desc"]
        assert all(one.text for one in picture.children[:2])
    named = {one.attributes.get("for") for one in root.all("label")}
    assert {one.attributes.get("id") for one in root.all("input")} <= named
    assert all(one.text for one in root.all("button"))

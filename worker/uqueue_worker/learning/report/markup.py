"""HTML and SVG elements as text. Whatever is not made here is escaped, so that no name or reason becomes markup."""

from __future__ import annotations

import html
from collections.abc import Iterable


class Html(str):
    """Text that is markup."""

    __slots__ = ()


def element(name: str, *children: object, **attributes: object) -> Html:
    """Return an element. Names of attributes may end in `_` (class_) and have `_` for `-`; `viewBox` stays as it is.

    Children that are None and attributes that are None are left out; other children become text.
    """
    return Html(f"<{name}{_written(attributes)}>{joined(children)}</{name}>")


def joined(parts: Iterable[object]) -> Html:
    """Return parts one after the other; those that are not markup are escaped."""
    shown = (part if isinstance(part, Html) else html.escape(str(part)) for part in parts if part is not None)
    return Html("".join(shown))


def table(caption: str, head: Iterable[object], rows: Iterable[Iterable[object]], class_: str | None = None) -> Html:
    """Return a table that can be scrolled sideways; the first cell of each row is its heading."""
    top = element("thead", element("tr", *(element("th", name, scope="col") for name in head)))
    body = element("tbody", *(_row(row) for row in rows))
    made = element("table", element("caption", caption), top, body, class_=class_)
    return element("div", made, class_="scroll", tabindex="0", role="region", aria_label=caption)


def folded(title: str, *content: object) -> Html:
    """Return content that opens on demand, without a script."""
    return element("details", element("summary", title), *content)


def _row(cells: Iterable[object]) -> Html:
    first, *others = cells
    return element("tr", element("th", first, scope="row"), *(element("td", cell) for cell in others))


def _written(attributes: dict[str, object]) -> str:
    written = []
    for name, value in attributes.items():
        shown = name if name == "viewBox" else name.rstrip("_").replace("_", "-")
        if value is True:
            written.append(f" {shown}")
        elif value is not None:
            text = f"{value:.1f}" if isinstance(value, float) else str(value)
            written.append(f' {shown}="{html.escape(text)}"')
    return "".join(written)

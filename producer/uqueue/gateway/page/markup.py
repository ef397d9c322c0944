"""HTML elements as text. Whatever is not made here is escaped, so that no name or reason becomes markup."""

from __future__ import annotations

import html
from collections.abc import Iterable


class Html(str):
    """Text that is markup."""

    __slots__ = ()


def element(name: str, *children: str, **attributes: object) -> Html:
    """Return an element. Names of attributes may end in `_` (class_) and have `_` for `-`. Those that are None are left
    out, those that are True have no value."""
    return Html(f"<{name}{_written(attributes)}>{joined(children)}</{name}>")


def joined(parts: Iterable[str]) -> Html:
    """Return parts one after the other; those that are not markup are escaped."""
    return Html("".join(part if isinstance(part, Html) else html.escape(part) for part in parts))


def _written(attributes: dict[str, object]) -> str:
    written = []
    for name, value in attributes.items():
        shown = name.rstrip("_").replace("_", "-")
        if value is True:
            written.append(f" {shown}")
        elif value is not None:
            written.append(f' {shown}="{html.escape(str(value))}"')
    return "".join(written)

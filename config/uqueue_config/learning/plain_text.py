"""Text that databases, files and logs all take: no control characters, nothing without a UTF-8 form."""

from __future__ import annotations

from typing import Any

from uqueue_config.learning.values import json_value

_LINES = "\t\n\r"


def plain(text: str) -> str:
    """Return text that holds no control characters (tabs and line breaks included) as it is. Raises ValueError."""
    return _checked(text, "")


def plain_json(value: Any) -> Any:
    """Return a JSON value as it is, whose texts and names are plain, but for tabs and lines. Raises ValueError."""
    json_value(value)
    _walk(value)
    return value


def _walk(value: Any) -> None:
    if isinstance(value, str):
        _checked(value, _LINES)
    elif isinstance(value, dict):
        for name, inner in value.items():
            _checked(name, _LINES)
            _walk(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _walk(inner)


def _checked(text: str, allowed: str) -> str:
    if any((character < " " and character not in allowed) or character == "\x7f" for character in text):
        raise ValueError("expected text without control characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("expected text without lone surrogates") from None
    return text

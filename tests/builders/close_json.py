"""JSON that is the same but for rounding."""

from __future__ import annotations

from typing import Any

import pytest


def assert_close(found: Any, expected: Any, path: str = "") -> None:
    """Compare numbers to 1e-6 and everything else exactly; the assertion names the path that differs."""
    if isinstance(expected, dict):
        assert set(found) == set(expected), path
        for name, value in expected.items():
            assert_close(found[name], value, f"{path}.{name}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), path
        for number, value in enumerate(expected):
            assert_close(found[number], value, f"{path}[{number}]")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-6), path
    else:
        assert found == expected, path

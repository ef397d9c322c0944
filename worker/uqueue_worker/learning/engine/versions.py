"""Which code made a result."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("uqueue", "numpy", "scikit-learn", "fastavro", "onnxruntime", "onnx", "pydantic")


@cache
def code_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on, those that are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

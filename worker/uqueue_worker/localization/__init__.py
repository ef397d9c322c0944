"""Localization models: ONNX files that turn features into positions.

    localizer.py  a loaded model: features in, positions and sigmas in degrees and metres out
    session.py    the ONNX Runtime session of one process
    decoding.py   what a model's numbers mean, in every encoding that can be declared
    geodesy.py    degrees and metres on the WGS-84 ellipsoid
    loader.py     a model straight from a registry, without a worker

Names are looked up when they are used, as in `uqueue_worker.artifacts`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uqueue_worker.localization.loader import OnnxModelLoader
    from uqueue_worker.localization.localizer import Localizer, load_localizer
    from uqueue_worker.localization.session import OnnxOptions

__all__ = ["Localizer", "OnnxModelLoader", "OnnxOptions", "load_localizer"]

_MODULES = {
    "Localizer": "localizer",
    "load_localizer": "localizer",
    "OnnxModelLoader": "loader",
    "OnnxOptions": "session",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)

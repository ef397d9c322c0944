"""Where a model's files come from, and what they say; nothing in them is run.

Names are looked up when they are used: the process that opens a file for the first time needs few of them, and starts
for every file.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uqueue_worker.artifacts.bucket import S3Connection
    from uqueue_worker.artifacts.cache import ArtifactCache
    from uqueue_worker.artifacts.calibration import CalibrationState, read_calibration_state
    from uqueue_worker.artifacts.checks_file import Checks, read_checks
    from uqueue_worker.artifacts.keras_config import ALLOWED_LAYERS, is_dropout
    from uqueue_worker.artifacts.local import LocalFilesystemProvider
    from uqueue_worker.artifacts.mlflow import MLflowProvider
    from uqueue_worker.artifacts.model_file import ModelFile, read_model_file
    from uqueue_worker.artifacts.opening import open_cache, open_provider
    from uqueue_worker.artifacts.pair import ArtifactPair, pair_version
    from uqueue_worker.artifacts.provider import ModelProvider
    from uqueue_worker.artifacts.s3 import S3Provider

__all__ = [
    "ALLOWED_LAYERS",
    "ArtifactCache",
    "ArtifactPair",
    "CalibrationState",
    "Checks",
    "LocalFilesystemProvider",
    "MLflowProvider",
    "ModelFile",
    "ModelProvider",
    "S3Connection",
    "S3Provider",
    "is_dropout",
    "open_cache",
    "open_provider",
    "pair_version",
    "read_calibration_state",
    "read_checks",
    "read_model_file",
]

_MODULES = {
    "S3Connection": "bucket",
    "ArtifactCache": "cache",
    "CalibrationState": "calibration",
    "read_calibration_state": "calibration",
    "Checks": "checks_file",
    "read_checks": "checks_file",
    "ALLOWED_LAYERS": "keras_config",
    "is_dropout": "keras_config",
    "LocalFilesystemProvider": "local",
    "MLflowProvider": "mlflow",
    "ModelFile": "model_file",
    "read_model_file": "model_file",
    "open_cache": "opening",
    "open_provider": "opening",
    "ArtifactPair": "pair",
    "pair_version": "pair",
    "ModelProvider": "provider",
    "S3Provider": "s3",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value

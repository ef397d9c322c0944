"""Where a model's files come from, and what they say; nothing in them is run."""

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

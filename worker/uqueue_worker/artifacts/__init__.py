"""Where a model's two files come from, and what they say; nothing in them is run."""

from uqueue_worker.artifacts.cache import ArtifactCache
from uqueue_worker.artifacts.calibration import CalibrationState, read_calibration_state
from uqueue_worker.artifacts.keras_config import ALLOWED_LAYERS, is_dropout
from uqueue_worker.artifacts.local import LocalFilesystemProvider
from uqueue_worker.artifacts.model_file import ModelFile, read_model_file
from uqueue_worker.artifacts.pair import ArtifactPair, pair_version
from uqueue_worker.artifacts.provider import ModelProvider

__all__ = [
    "ALLOWED_LAYERS",
    "ArtifactCache",
    "ArtifactPair",
    "CalibrationState",
    "LocalFilesystemProvider",
    "ModelFile",
    "ModelProvider",
    "is_dropout",
    "pair_version",
    "read_calibration_state",
    "read_model_file",
]

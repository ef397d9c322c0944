"""From a manifest and a file to a model in memory: one reader for each format, and no other file is opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from uqueue_config.learning.model_manifest import ModelManifest
from uqueue_worker.learning.errors import UnsupportedModelFormat
from uqueue_worker.learning.models.keras_file import load_keras
from uqueue_worker.learning.models.loaded import LoadedModel
from uqueue_worker.learning.models.onnx_file import load_onnx
from uqueue_worker.learning.models.pickled import load_pickled, load_skops
from uqueue_worker.learning.models.place import InProcessPlace, ModelPlace

PICKLES: Final = ("joblib", "pickle")
_READERS: Final[dict[str, Callable[[bytes, ModelManifest], LoadedModel]]] = {
    "onnx": load_onnx,
    "keras": load_keras,
    "h5": load_keras,
    "skops": load_skops,
    "joblib": load_pickled,
    "pickle": load_pickled,
}


def load_model(place: ModelPlace, manifest: ModelManifest, *, allow_pickle: bool) -> LoadedModel:
    """Return the model of a version.

    Raises UnsupportedModelFormat, ModelIntegrity for a file that is not what was saved, and ModelNotFitted. A pickle
    is not even read unless `allow_pickle` is set and it lies below a model root.
    """
    if isinstance(place, InProcessPlace):
        return place.model
    if manifest.format not in _READERS:
        raise UnsupportedModelFormat(file=manifest.file, reason="it exists in the process only that made it")
    if manifest.format in PICKLES and not (allow_pickle and place.may_hold_pickles):
        why = "it is below no model root" if allow_pickle else "allow_pickle is not set"
        reason = f"a pickle runs whatever it says, and {why}; save the model as ONNX"
        raise UnsupportedModelFormat(file=manifest.file, reason=reason)
    return _READERS[manifest.format](place.read(manifest), manifest)

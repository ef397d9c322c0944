"""Classifiers in pickles and in skops files. A pickle is a program: it runs only where three conditions hold."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

from uqueue_config.learning.model_manifest import ModelManifest
from uqueue_worker.learning.errors import ModelIntegrity, UnsupportedModelFormat
from uqueue_worker.learning.models.estimators import estimator_model
from uqueue_worker.learning.models.loaded import LoadedModel


def load_pickled(data: bytes, manifest: ModelManifest) -> LoadedModel:
    """Run a pickle and return the model in it. The caller has made sure of all three: `allow_pickle=True`, the SHA-256
    of the manifest, and a place below the model root."""
    return estimator_model(_loaded(data, manifest.file, _joblib if manifest.format == "joblib" else _pickle), manifest)


def load_skops(data: bytes, manifest: ModelManifest) -> LoadedModel:
    """Return the model of a skops file that holds only types which skops itself trusts.

    Raises UnsupportedModelFormat for others, and where skops is not installed.
    """
    try:
        import skops.io as skops
    except ImportError:
        reason = 'skops is not installed here: pip install "uqueue[learning]"'
        raise UnsupportedModelFormat(file=manifest.file, reason=reason) from None
    untrusted = _loaded(data, manifest.file, lambda content: skops.get_untrusted_types(data=content))
    if untrusted:
        reason = f"it holds types that are not trusted: {', '.join(sorted(untrusted))}"
        raise UnsupportedModelFormat(file=manifest.file, reason=reason[:500])
    return estimator_model(_loaded(data, manifest.file, lambda content: skops.loads(content, trusted=[])), manifest)


def _loaded(data: bytes, file: str, load: Callable[[bytes], Any]) -> Any:
    try:
        return load(data)
    except Exception as error:  # what is in the file decides what is raised
        reason = f"it cannot be read ({type(error).__name__}: {error})"
        raise ModelIntegrity(file=file, reason=reason[:500]) from error


def _pickle(data: bytes) -> Any:
    return pickle.loads(data)  # noqa: S301 - see load_pickled


def _joblib(data: bytes) -> Any:
    import joblib

    return joblib.load(io.BytesIO(data))

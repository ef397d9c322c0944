"""Classifiers as ONNX files, checked and run for the first time by a process of its own, as the queue's worker does."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from uqueue_config.errors import ModelInvalid, UnsafeArtifact
from uqueue_config.learning.model_manifest import ModelManifest
from uqueue_worker.artifacts.ensemble_ports import INPUT, OUTPUT, EnsembleShape, check_ports
from uqueue_worker.artifacts.onnx_probe import probe_ensemble
from uqueue_worker.artifacts.onnx_runtime import open_session, ports_of
from uqueue_worker.learning.errors import ModelIntegrity, UnsupportedModelFormat
from uqueue_worker.learning.models.features import Float32Array
from uqueue_worker.learning.models.loaded import LoadedModel


def load_onnx(data: bytes, manifest: ModelManifest) -> LoadedModel:
    """Return the model: input `features` float32 (n, columns), output `members` float32 (n, M, K).

    Raises UnsupportedModelFormat where ONNX Runtime is not installed or for operators and weights that are not in the
    file, ModelIntegrity for a file that is none, or not the model that its manifest describes.
    """
    _check_installed(manifest.file)
    shape = EnsembleShape(manifest.n_columns, manifest.uncertainty.members, len(manifest.classes))
    try:
        probe_ensemble(data, shape, file=manifest.file)
        session = open_session(data, file=manifest.file)
        check_ports(*ports_of(session), shape, file=manifest.file)
    except UnsafeArtifact as error:
        raise UnsupportedModelFormat(file=manifest.file, reason=f"it names {error.facts['name']}") from error
    except ModelInvalid as error:
        raise ModelIntegrity(file=manifest.file, reason=error.facts["reason"]) from error

    def run(matrix: Float32Array) -> NDArray[Any]:
        found: NDArray[Any] = session.run([OUTPUT], {INPUT: matrix})[0]
        return found

    return LoadedModel(manifest, run)


def _check_installed(file: str) -> None:
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        reason = 'onnxruntime is not installed here: pip install "uqueue[learning]"'
        raise UnsupportedModelFormat(file=file, reason=reason) from None

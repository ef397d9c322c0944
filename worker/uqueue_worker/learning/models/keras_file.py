"""Classifiers as Keras files: everything in them is looked up in the list of harmless layers before Keras sees it."""

from __future__ import annotations

import io
import json
import os
import tempfile
import threading
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_config.errors import ModelInvalid, UnsafeArtifact
from uqueue_config.learning.model_manifest import ModelManifest
from uqueue_worker.learning.errors import ModelIntegrity, UnsupportedModelFormat
from uqueue_worker.learning.models.features import Float32Array
from uqueue_worker.learning.models.loaded import LoadedModel, one_member

_MEMBERS = ("config.json", "metadata.json", "model.weights.h5")
_UNPACKED_BYTES = 2 << 30
_PASS_SEED = 20_260_321


def load_keras(data: bytes, manifest: ModelManifest) -> LoadedModel:
    """Return the model of a `.keras` archive or a legacy `.h5` file: columns in, probabilities (n, K) out.

    With `mc_dropout`, members are passes with dropout; the same rows in the same order give the same members. Raises
    UnsupportedModelFormat for what is not on the list, and ModelIntegrity for a damaged file.
    """
    try:
        layers, checked = (
            _checked_h5(data, manifest.file) if manifest.format == "h5" else _checked_archive(data, manifest)
        )
    except UnsafeArtifact as error:
        raise UnsupportedModelFormat(file=manifest.file, reason=f"it names {error.facts['name']}") from error
    except ModelInvalid as error:
        raise ModelIntegrity(file=manifest.file, reason=str(error.facts.get("reason", error))[:500]) from error
    if manifest.uncertainty.method == "ensemble":
        raise UnsupportedModelFormat(file=manifest.file, reason="a Keras file is one network; save an ensemble as ONNX")
    model = _opened(checked, manifest)
    if manifest.uncertainty.method == "single_model":
        return LoadedModel(manifest, lambda matrix: one_member(model(matrix, training=False).numpy()))
    if "BatchNormalization" in layers:
        reason = "its BatchNormalization would take part in passes with dropout; fold it, or declare single_model"
        raise UnsupportedModelFormat(file=manifest.file, reason=reason)
    return LoadedModel(manifest, _passes(model, manifest.uncertainty.members))


def _passes(model: Any, members: int) -> Any:
    turn = threading.Lock()
    dropouts = [layer for layer in model._flatten_layers() if hasattr(layer, "seed_generator")]

    def run(matrix: Float32Array) -> NDArray[Any]:
        with turn:
            for number, layer in enumerate(dropouts):
                layer.seed_generator.state.assign([_PASS_SEED, number])
            return np.stack([model(matrix, training=True).numpy() for _ in range(members)], axis=1)

    return run


def _checked_h5(data: bytes, file: str) -> tuple[tuple[str, ...], bytes]:
    from uqueue_worker.artifacts.model_file import read_model_file

    return read_model_file(data, file=file).layer_classes, data


def _checked_archive(data: bytes, manifest: ModelManifest) -> tuple[tuple[str, ...], bytes]:
    """Return the layers and an archive with nothing else in it than configuration and weights, both checked."""
    import h5py

    from uqueue_worker.artifacts.h5_structure import StructureCheck
    from uqueue_worker.artifacts.keras_config import check_model_config, parse_model_config

    file = manifest.file
    members = _unpacked(data, file)
    config = parse_model_config(members["config.json"].decode("utf-8", "replace"), file=file)
    config.pop("compile_config", None)  # models are loaded without compiling
    layers = check_model_config(config, file=file)
    weights = members["model.weights.h5"]
    try:
        with h5py.File(io.BytesIO(weights), "r") as root:
            StructureCheck(root, len(weights), file=file).run()
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise ModelInvalid(file=file, reason=f"its weights are damaged ({type(error).__name__})") from error
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in {**members, "config.json": json.dumps(config).encode()}.items():
            archive.writestr(name, content)
    return layers, packed.getvalue()


def _unpacked(data: bytes, file: str) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            listed = archive.infolist()
            if sorted(one.filename for one in listed) != sorted(_MEMBERS):
                raise ModelInvalid(file=file, reason=f"it holds other members than {', '.join(_MEMBERS)}")
            if sum(one.file_size for one in listed) > _UNPACKED_BYTES:
                raise ModelInvalid(file=file, reason=f"it unpacks to more than {_UNPACKED_BYTES} bytes")
            return {one.filename: archive.read(one) for one in listed}
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise ModelInvalid(file=file, reason="it is no .keras archive, or a damaged one") from error


def _opened(data: bytes, manifest: ModelManifest) -> Any:
    keras = _import_keras(manifest.file)
    with tempfile.TemporaryDirectory(prefix="uqueue-") as folder:
        path = Path(folder) / manifest.file
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Keras 3 remarks on the settings of Keras 2 that it translates
                return keras.models.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # Keras raises whatever a layer raises
            reason = f"Keras {keras.__version__} cannot load it: {error}"
            raise ModelIntegrity(file=manifest.file, reason=reason[:500]) from error


def _import_keras(file: str) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read once, when the library loads: no banner on stderr
    try:
        import keras
    except ImportError:
        reason = 'Keras is not installed here: pip install "uqueue[tensorflow]"'
        raise UnsupportedModelFormat(file=file, reason=reason) from None
    return keras

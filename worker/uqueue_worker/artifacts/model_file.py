"""A model file, read without Keras or PyTorch: what it is made of, and whether it may be loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from uqueue_config.errors import ModelInvalid
from uqueue_worker.artifacts.h5_probe import probe_h5
from uqueue_worker.artifacts.h5_structure import check_superblock
from uqueue_worker.artifacts.keras_config import check_model_config, parse_model_config
from uqueue_worker.artifacts.torch_file import TorchFile, is_torch_file, read_torch_file
from uqueue_worker.artifacts.torch_probe import probe_torch

KERAS_NAME: Final = "model.h5"
TORCH_NAME: Final = "model.pt"


@dataclass(frozen=True)
class ModelFile:
    """What a Keras file says about its model.

    config         the parsed `model_config`: `class_name`, and `config` with the layers
    layer_classes  every layer class in it, containers and nested layers included, in file order
    keras_version  the version that wrote the file, where it says so
    backend        the Keras backend that wrote the file, where it says so
    """

    config: dict[str, Any] = field(repr=False)
    layer_classes: tuple[str, ...]
    keras_version: str | None
    backend: str | None


def read_any_model_file(data: bytes, *, file: str | None = None) -> ModelFile | TorchFile:
    """Return what these bytes say about their model, whichever of the two kinds their first bytes show.

    Raises as `read_model_file` does. `file` is what errors call it; by default model.h5 or model.pt.
    """
    if not is_torch_file(data):
        return read_model_file(data, file=file or KERAS_NAME)
    probe_torch(data, file=file or TORCH_NAME)
    return read_torch_file(data, file=file or TORCH_NAME)


def read_model_file(data: bytes, *, file: str = KERAS_NAME) -> ModelFile:
    """Return what these bytes say about their Keras model, after everything in them was found harmless to load.

    Harmless means: loaded without compiling, for `training_config` and the optimizer are not looked at. It takes about
    0.2 s, since HDF5 reads the file in a process of its own. Raises IncompleteArtifact for a truncated file,
    UnsafeArtifact for one that names code, a custom class or another file, ModelInvalid for anything else that is not a
    Keras H5 model. `file` is what the error calls it.
    """
    check_superblock(data, file=file)
    texts = probe_h5(data, file=file)
    if texts["model_config"] is None:
        raise ModelInvalid(file=file, reason="it holds no Keras model")
    config = parse_model_config(texts["model_config"], file=file)
    return ModelFile(config, check_model_config(config, file=file), texts["keras_version"], texts["backend"])

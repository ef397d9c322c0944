"""Which engine evaluates a model: the fused kernel, NumPy, or the library that the file was made with."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from uqueue_config.errors import ModelInvalid
from uqueue_worker.artifacts import ModelFile
from uqueue_worker.artifacts.torch_file import TorchFile
from uqueue_worker.models.engine import Engine, EngineChoice
from uqueue_worker.models.fused.compiled import KernelUnavailable
from uqueue_worker.models.fused.engine import fused_or_numpy, load_fused_engine
from uqueue_worker.models.graph import Graph, read_graph
from uqueue_worker.models.numpy_engine import NumpyEngine
from uqueue_worker.models.tensorflow_engine import load_tensorflow_engine
from uqueue_worker.models.torch_engine import load_torch_engine
from uqueue_worker.models.torch_graph import program_graph
from uqueue_worker.models.unsupported import UnsupportedGraph

_LIBRARIES = {"tensorflow": "TensorFlow", "torch": "PyTorch"}
_ONNX = {"onnx": "localization models", "onnx-classifier": "classifiers"}
_NAMES = _LIBRARIES | {"numpy": "NumPy"}


def choose_engine(
    model: bytes, model_file: ModelFile | TorchFile, engine: EngineChoice = "auto", *, file: str | None = None
) -> Engine:
    """Return the engine of a checked model file.

    "auto" takes the fused kernel where it can, else NumPy, else TensorFlow for a Keras file and PyTorch for a PyTorch
    file. Raises ModelInvalid with the reason where the engine asked for cannot evaluate the model, and where a library
    is needed and not installed. `file` is what errors call the file; by default model.h5 or model.pt.
    """
    if engine not in get_args(EngineChoice):
        raise ValueError(f"engine must be one of {', '.join(get_args(EngineChoice))}, got {engine!r}")
    if engine in _ONNX:
        reason = f"the {engine} engine evaluates {_ONNX[engine]} only"
        raise ModelInvalid(file=file or "the model file", reason=reason)
    if isinstance(model_file, TorchFile):
        name, own, program = file or "model.pt", "torch", model_file.program
        found = _small_engine(lambda: program_graph(program, file=name), engine, own, name)
        return found or load_torch_engine(program, file=name)
    name, own, keras = file or "model.h5", "tensorflow", model_file
    found = _small_engine(lambda: read_graph(keras.config, model, file=name), engine, own, name)
    return found or load_tensorflow_engine(model, keras, file=name)


def _small_engine(graph: Callable[[], Graph], engine: EngineChoice, own: str, file: str) -> Engine | None:
    """Return the engine of the file's graph; None where the library that the file was made with has to evaluate it."""
    if engine == own:
        return None
    if engine in _LIBRARIES:
        reason = f"{_LIBRARIES[engine]} cannot evaluate a {'Keras' if own == 'tensorflow' else 'PyTorch'} file"
        raise ModelInvalid(file=file, reason=f"{reason}; set the engine to auto or {own}")
    make: dict[str, Callable[[Graph], Engine]] = {
        "auto": fused_or_numpy,
        "fused": load_fused_engine,
        "numpy": NumpyEngine,
    }
    try:
        return make[engine](graph())
    except (UnsupportedGraph, KernelUnavailable) as refusal:
        if engine != "auto":
            reason = f"the {_NAMES.get(engine, engine)} engine cannot evaluate it: {refusal}"
            raise ModelInvalid(file=file, reason=reason) from refusal
    return None

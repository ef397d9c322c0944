"""Which engine evaluates a model: the fused kernel, NumPy, or TensorFlow for what only it evaluates."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

from uqueue_config.errors import ModelInvalid
from uqueue_worker.artifacts import ModelFile
from uqueue_worker.models.engine import Engine, EngineChoice
from uqueue_worker.models.fused.compiled import KernelUnavailable
from uqueue_worker.models.fused.engine import fused_or_numpy, load_fused_engine
from uqueue_worker.models.graph import Graph, read_graph
from uqueue_worker.models.numpy_engine import NumpyEngine
from uqueue_worker.models.tensorflow_engine import load_tensorflow_engine
from uqueue_worker.models.unsupported import UnsupportedGraph


def choose_engine(
    model: bytes, model_file: ModelFile, engine: EngineChoice = "auto", *, file: str = "model.h5"
) -> Engine:
    """Return the engine of a checked model file.

    "auto" takes the fused kernel where it can, else NumPy, else TensorFlow. Raises ModelInvalid with the reason where
    the engine asked for cannot evaluate the model, and where TensorFlow is needed and not installed.
    """
    if engine not in get_args(EngineChoice):
        raise ValueError(f"engine must be one of {', '.join(get_args(EngineChoice))}, got {engine!r}")
    if engine != "tensorflow":
        make: dict[str, Callable[[Graph], Engine]] = {
            "auto": fused_or_numpy,
            "fused": load_fused_engine,
            "numpy": NumpyEngine,
        }
        try:
            return make[engine](read_graph(model_file.config, model, file=file))
        except (UnsupportedGraph, KernelUnavailable) as refusal:
            if engine != "auto":
                name = "NumPy" if engine == "numpy" else engine
                raise ModelInvalid(file=file, reason=f"the {name} engine cannot evaluate it: {refusal}") from refusal
    return load_tensorflow_engine(model, model_file, file=file)

"""What evaluates a model, and which one is taken: the fused kernel, NumPy, or TensorFlow for what only it evaluates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from uqueue_config.errors import ModelInvalid
from uqueue_worker.artifacts import ModelFile
from uqueue_worker.models.randomness import UInt64
from uqueue_worker.models.unsupported import UnsupportedGraph
from uqueue_worker.uncertainty import Draw, PassSummary

ForwardMode = Literal["dropout", "deterministic"]
EngineChoice = Literal["auto", "fused", "numpy", "tensorflow"]
Float32 = NDArray[np.float32]


class Engine(Protocol):
    """A loaded network.

    batch_independent  a row has the same bits whatever other rows are evaluated with it
    input_statistics   (mean, spread) of the features as float32 (n_features,), where the model normalizes its input
    """

    @property
    def name(self) -> str: ...
    @property
    def n_features(self) -> int: ...
    @property
    def n_targets(self) -> int: ...
    @property
    def batch_independent(self) -> bool: ...
    @property
    def input_statistics(self) -> tuple[Float32, Float32] | None: ...

    def random_layers(self, forward_mode: ForwardMode) -> int:
        """Return how many dropout layers act in this mode."""

    def passes(self, features: Float32, keys: UInt64, forward_mode: ForwardMode) -> Draw:
        """Return the draw of features float32 (n, n_features), whose rows have the random streams `keys` uint64 (n,).

        A draw takes (rows, start, count) and returns float32 (count, len(rows), 2, n_targets).
        """


@runtime_checkable
class SummarizingEngine(Engine, Protocol):
    """An engine that applies the stop rule itself: what `adaptive_passes` makes of its passes, sooner."""

    def summary(
        self,
        features: Float32,
        keys: UInt64,
        forward_mode: ForwardMode,
        *,
        patience: int,
        delta: float,
        max_passes: int,
        on_progress: Callable[[int], None] | None = None,
    ) -> PassSummary: ...


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
        from uqueue_worker.models.fused.compiled import KernelUnavailable
        from uqueue_worker.models.fused.engine import fused_or_numpy, load_fused_engine
        from uqueue_worker.models.graph import Graph, read_graph
        from uqueue_worker.models.numpy_engine import NumpyEngine

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
    from uqueue_worker.models.tensorflow_engine import load_tensorflow_engine

    return load_tensorflow_engine(model, model_file, file=file)

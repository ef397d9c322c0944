"""What evaluates a model. `choice` says which engine is taken for which model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from uqueue_worker.models.randomness import UInt64
from uqueue_worker.uncertainty import Draw, PassSummary

ForwardMode = Literal["dropout", "deterministic"]
EngineChoice = Literal["auto", "fused", "numpy", "tensorflow", "torch", "onnx", "onnx-classifier"]
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

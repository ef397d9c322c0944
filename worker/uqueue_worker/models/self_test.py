"""The self-test of a freshly loaded network: does it answer, and do its passes differ?"""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from uqueue_config.errors import ModelInvalid
from uqueue_worker.models.engine import Engine, ForwardMode
from uqueue_worker.models.randomness import row_keys

_PROBE_SEED = 20_240_220
_PROBE_ROWS = 32
_PROBE_PASSES = 16


def passes_differ(network: Engine, forward_mode: ForwardMode) -> bool:
    """Evaluate probe rows in both modes, which also warms the engine; tell whether passes differ in `forward_mode`.

    Raises ModelInvalid where the output for the mean input is not finite or has another shape than the heads promise.
    """
    probe = _probe_rows(network)
    passes = {mode: _draw_probe(network, probe, mode) for mode in get_args(ForwardMode)}
    for mode, drawn in passes.items():
        if not np.isfinite(drawn[:, 0]).all():
            raise ModelInvalid(
                file="the model file", reason=f"its output for its mean input is not finite ({mode} mode)"
            )
    served = passes[forward_mode]
    return network.random_layers(forward_mode) > 0 and bool((served != served[0]).any())


def _probe_rows(network: Engine) -> NDArray[np.float32]:
    """Return the mean input and rows around it: at one point every unit that dropout touches may happen to be zero."""
    statistics = network.input_statistics
    mean, spread = statistics if statistics is not None else (np.float32(0), np.float32(1))
    around = np.random.default_rng(_PROBE_SEED).standard_normal((_PROBE_ROWS, network.n_features), np.float32)
    around[0] = 0
    return np.asarray(mean + spread * around, dtype=np.float32)


def _draw_probe(network: Engine, probe: NDArray[np.float32], forward_mode: ForwardMode) -> NDArray[np.float32]:
    draw = network.passes(probe, row_keys(_PROBE_SEED, len(probe)), forward_mode)
    drawn = draw(np.arange(len(probe), dtype=np.intp), 0, _PROBE_PASSES)
    expected = (_PROBE_PASSES, len(probe), 2, network.n_targets)
    if drawn.shape != expected:
        raise ModelInvalid(file="the model file", reason=f"passes have the shape {drawn.shape}, expected {expected}")
    return drawn

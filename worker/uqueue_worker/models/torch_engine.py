"""Evaluates a PyTorch program in PyTorch, with the same dropout masks as the other engines.

The program was read from the file as data (`uqueue_worker.artifacts`); of torch only its operations are used, on the
weights that were read: neither `torch.load` nor `torch.jit` ever sees the file.

Randomness: the dropout layers of the program, in its order, own the words of a pass as in `randomness`, whether they
come from a spec or from TorchScript's own `aten::dropout`. The masks are computed by the very functions that the NumPy
engine uses, and multiplied in; torch's generator is never asked. So a mask depends on seed, row, pass, layer and unit
alone, and the three engines keep and drop the same units.

Bits: a product in torch may round a row differently in a batch of another shape. One job gives the same bytes however
often it runs on one machine, since its batches are the same and one thread computes them; but the last bits of a row
may depend on the other rows of its job, so `batch_independent` is False.

torch is imported when the first such model loads, never in a parent process that forks, and gets one thread.
"""

from __future__ import annotations

import contextlib
import operator
import threading
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_config.errors import ModelInvalid
from uqueue_worker.artifacts.torch_program import Program, Ref, Step
from uqueue_worker.models.engine import ForwardMode
from uqueue_worker.models.heads import count_targets
from uqueue_worker.models.randomness import DropoutLayer, UInt64, counter_steps, kept, lanes, lay_out, row_keys
from uqueue_worker.models.torch_graph import input_statistics
from uqueue_worker.uncertainty import Draw

Float32 = NDArray[np.float32]

_BATCH_VALUES = 1 << 22  # of all steps at once: 16 MB


def load_torch_engine(program: Program, *, file: str = "model.pt") -> TorchEngine:
    """Return the engine, after trying it on two rows.

    Raises ModelInvalid where PyTorch is not installed or cannot evaluate the program, or the outputs are not two
    quantile heads.
    """
    _import_torch(file)
    engine = TorchEngine(program, file)
    try:
        engine.passes(np.zeros((2, engine.n_features), np.float32), row_keys(0, 2), "dropout")(np.arange(2), 0, 2)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ModelInvalid(file=file, reason=f"PyTorch cannot evaluate it: {error!s:.200}") from error
    return engine


class TorchEngine:
    """A program that answers passes. Any number of threads may use one object; they take turns."""

    name = "torch"
    batch_independent = False

    def __init__(self, program: Program, file: str) -> None:
        self.program = program
        self.n_features = program.n_features
        self.n_targets = count_targets(program.output_shapes, file=file)
        self.input_statistics = input_statistics(program)
        self._turn = threading.Lock()
        self._steps = [_prepared(step) for step in program.steps]
        self._row_values = sum(_size(step.shape) for step in program.steps)
        where = [at for at, step in enumerate(program.steps) if step.op == "dropout"]
        sizes = [(_size(program.steps[at].shape), program.steps[at].arguments[1]) for at in where]
        placed, self.words_per_pass = lay_out(sizes)
        self._dropout: dict[int, DropoutLayer] = dict(zip(where, placed, strict=True))
        self._counters = lru_cache(maxsize=16)(counter_steps)

    def random_layers(self, forward_mode: ForwardMode) -> int:
        """Return how many dropout layers act in this mode."""
        return len(self._acting(forward_mode))

    def passes(self, features: Float32, keys: UInt64, forward_mode: ForwardMode) -> Draw:
        """Return the draw of features float32 (n, n_features); row i has the random stream `keys[i]`, uint64 (n,)."""
        acting = self._acting(forward_mode)

        def draw(rows: NDArray[np.intp], start: int, count: int) -> Float32:
            drawn = count if acting else 1
            out = np.empty((drawn, len(rows), 2, self.n_targets), np.float32)
            together = max(1, _BATCH_VALUES // (drawn * self._row_values))
            for begin in range(0, len(rows), together):
                chosen = rows[begin : begin + together]
                out[:, begin : begin + together] = self._evaluate(features[chosen], keys[chosen], acting, start, drawn)
            return out if acting else np.broadcast_to(out, (count, *out.shape[1:]))

        return draw

    def _acting(self, forward_mode: ForwardMode) -> frozenset[int]:
        return frozenset(
            at
            for at, layer in self._dropout.items()
            if layer.acts and (forward_mode == "dropout" or self.program.steps[at].arguments[2])
        )

    def _evaluate(self, features: Float32, keys: UInt64, acting: frozenset[int], start: int, count: int) -> Float32:
        """Return float32 (count, n, 2, targets): passes start .. start + count - 1 of n rows."""
        import torch

        masks = self._masks(keys, acting, start, count)
        with self._turn, torch.inference_mode():
            repeated = torch.empty((len(features), count, self.n_features))
            repeated.copy_(torch.from_numpy(np.ascontiguousarray(features))[:, None])
            values: list[Any] = [repeated.view(-1, self.n_features)]
            for at, (function, arguments) in enumerate(self._steps[1:], start=1):
                if at in masks:
                    layer = self._dropout[at]
                    values.append(values[self.program.steps[at].sources[0]] * masks[at] * layer.scale)
                else:
                    values.append(function(values, arguments))
            outputs = [values[at] for at in self.program.outputs]
            joined = torch.stack(outputs, 1) if len(outputs) == 2 else outputs[0]
            heads: Float32 = joined.reshape(len(features), count, 2, self.n_targets).numpy().swapaxes(0, 1)
        return heads

    def _masks(self, keys: UInt64, acting: frozenset[int], start: int, count: int) -> dict[int, Any]:
        """Return for every acting layer what its values are multiplied by, (n * count, ...), 1 for kept units."""
        import torch

        if not acting:
            return {}
        words = self.words_per_pass
        drawn = lanes(keys, self._counters(start, count, words), words)
        found = {}
        for at in acting:
            whole = kept(drawn, self._dropout[at]).astype(np.float32)
            found[at] = torch.from_numpy(whole.reshape(-1, *self.program.steps[at].shape)).clone()
        return found


def _import_torch(file: str) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ModelInvalid(
            file=file, reason=f"this model needs PyTorch, which is not installed ({error}); install uqueue[torch]"
        ) from error
    torch.set_num_threads(1)
    with contextlib.suppress(RuntimeError):  # it can be set once, before anything ran in parallel
        torch.set_num_interop_threads(1)
    return torch


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


_Run = Callable[[list[Any], tuple[Any, ...]], Any]


def _prepared(step: Step) -> tuple[_Run, tuple[Any, ...]]:
    """Return what evaluates the step, and its arguments with the weights as tensors."""
    return _runner(step), tuple(_tensor(value) for value in step.arguments)


def _tensor(value: Any) -> Any:
    import torch

    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value, np.float32)).clone()  # clone: torch's own, aligned memory
    return tuple(_tensor(item) for item in value) if isinstance(value, tuple) else value


def _runner(step: Step) -> _Run:
    import torch

    if step.op in ("dropout", "features"):  # a layer that does not act
        return lambda values, arguments: values[arguments[0].step]
    if step.op == "reshape":
        shape = step.shape
        return lambda values, arguments: values[arguments[0].step].reshape(-1, *shape)
    if step.op in ("cat", "stack"):
        join = torch.cat if step.op == "cat" else torch.stack
        return lambda values, arguments: join([values[ref.step] for ref in arguments[0]], arguments[1])
    function = _FUNCTIONS.get(step.op) or getattr(torch.ops.aten, step.op)  # a name from the list of operations
    return lambda values, arguments: function(*(_value(values, argument) for argument in arguments))


def _gelu(values: Any, approximate: str) -> Any:
    import torch

    return torch.nn.functional.gelu(values, approximate=approximate)


# What takes a number on either side, or settings by name only, or has no operation of its own.
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "add": operator.add,
    "div": operator.truediv,
    "gelu": _gelu,
    "mul": operator.mul,
    "softsign": lambda values: values / (values.abs() + 1),
    "sub": operator.sub,
}


def _value(values: list[Any], argument: Any) -> Any:
    return values[argument.step] if isinstance(argument, Ref) else argument

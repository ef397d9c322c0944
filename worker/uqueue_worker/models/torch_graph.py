"""A PyTorch program as the same small graph that Keras files become, so that the fused and NumPy engines serve it.

Dropout layers keep their order, hence their random words: the masks are those of the torch engine. What the graph
cannot express raises UnsupportedGraph, and PyTorch evaluates the program.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_worker.artifacts.torch_program import Program, Ref, Step
from uqueue_worker.models import activations
from uqueue_worker.models.activations import Activation
from uqueue_worker.models.graph import (
    Activate,
    Affine,
    Concatenate,
    Dense,
    Dropout,
    Graph,
    Input,
    Node,
    Operation,
    Rescale,
    assemble,
)
from uqueue_worker.models.heads import count_targets
from uqueue_worker.models.randomness import DropoutLayer
from uqueue_worker.models.unsupported import UnsupportedGraph

Float32 = NDArray[np.float32]


def program_graph(program: Program, *, file: str) -> Graph:
    """Return the graph. Raises UnsupportedGraph with the reason, ModelInvalid where the heads are not two quantiles."""
    targets = count_targets(program.output_shapes, file=file)
    lowering = _Lowering(program)
    heads = lowering.heads()
    return assemble(lowering.nodes, heads, program.n_features, targets)


def input_statistics(program: Program) -> tuple[Float32, Float32] | None:
    """Return (mean, spread) of the features, float32 (n_features,), where the program normalizes them first."""
    for shifted in program.steps:
        if shifted.op != "sub" or shifted.arguments[0] != Ref(0):
            continue
        for step in program.steps:
            if step.op == "div" and step.sources and program.steps[step.sources[0]] is shifted:
                mean, spread = shifted.arguments[1], step.arguments[1]
                if isinstance(mean, np.ndarray) and isinstance(spread, np.ndarray):
                    width = program.n_features
                    return _columns(mean, width), _columns(spread, width)
    return None


class _Lowering:
    """Turns steps into nodes, each after what it reads, from the heads backwards."""

    def __init__(self, program: Program) -> None:
        self.steps = program.steps
        self.outputs = program.outputs
        self.readers = Counter(source for step in program.steps for source in step.sources)
        self.readers.update(program.outputs)
        self.nodes: list[Node] = []
        self.position: dict[int, int] = {}

    def heads(self) -> list[int]:
        """Return the positions of the nodes of the heads, after making all nodes that they need."""
        wanted = list(self.outputs)
        if len(wanted) == 1:
            wanted = self._behind_the_shape(wanted[0])
        self._make(wanted)
        return [self.position[step] for step in wanted]

    def _behind_the_shape(self, output: int) -> list[int]:
        """Return the steps of one or two flat values that this output only lays out as (2, targets)."""
        step = self.steps[output]
        if step.op in ("reshape", "unflatten"):
            return self._behind_the_shape(step.sources[0])
        flat = len(self.steps[step.sources[0]].shape) == 1 if step.sources else False
        if step.op == "stack" and flat and len(step.sources) == 2 and step.arguments[1] == 1:
            return list(step.sources)
        return [output]

    def _make(self, wanted: list[int]) -> None:
        needed = set(wanted)
        for at in range(len(self.steps) - 1, -1, -1):
            if at in needed:
                needed.update(self.steps[at].sources)
        for at in sorted(needed):
            self._add(at)

    def _add(self, at: int) -> None:
        step = self.steps[at]
        if len(step.shape) != 1:
            raise UnsupportedGraph(f"values of {len(step.shape)} axes per row")
        sources = tuple(self.position[source] for source in step.sources)
        operation = self._operation(step)
        joined = self._joined(step, operation)
        if joined is not None:
            self.nodes[sources[0]] = replace(self.nodes[sources[0]], operation=joined)
            self.position[at] = sources[0]
            return
        self.position[at] = len(self.nodes)
        self.nodes.append(Node(operation, sources, step.shape[0]))

    def _joined(self, step: Step, operation: Operation) -> Operation | None:
        """Return the one operation that this one and the one before are together; None where they are two.

        Dense and its activation, a shift and a division, a factor and an offset; nobody else may read what is between.
        """
        if len(step.sources) != 1 or self.readers[step.sources[0]] != 1:
            return None
        before = self.nodes[self.position[step.sources[0]]].operation
        if isinstance(before, Dense) and isinstance(operation, Activate) and before.activation is activations.linear:
            return replace(before, activation=operation.activation)
        if step.op == "div" and isinstance(operation, Affine) and isinstance(before, Affine) and _is(before.spread, 1):
            return Affine(before.shift, operation.spread)
        if (
            step.op == "add"
            and isinstance(operation, Rescale)
            and isinstance(before, Rescale)
            and _is(before.offset, 0)
        ):
            return Rescale(before.scale, operation.offset)
        return None

    def _operation(self, step: Step) -> Operation:
        width = step.shape[0]
        if step.op == "features":
            return Input()
        if step.op == "linear":
            _, weight, bias = step.arguments
            return Dense(
                np.ascontiguousarray(weight.T),
                np.zeros(width, np.float32) if bias is None else bias,
                activations.linear,
            )
        if step.op == "dropout":
            _, rate, always_on = step.arguments
            return Dropout(DropoutLayer(width, rate), always_on)
        if step.op == "cat":
            return Concatenate()
        if step.op in _ARITHMETIC:
            return self._arithmetic(step, width)
        return Activate(_activation(step))

    def _arithmetic(self, step: Step, width: int) -> Operation:
        left, right = step.arguments
        if isinstance(left, Ref) == isinstance(right, Ref) or (isinstance(right, Ref) and step.op in ("sub", "div")):
            raise UnsupportedGraph(f"the operation {step.op} of two values")
        source = self.steps[step.sources[0]]
        if source.shape != step.shape:
            raise UnsupportedGraph(f"the operation {step.op} widens its input")
        return _ARITHMETIC[step.op](_columns(right if isinstance(left, Ref) else left, width))


def _columns(value: Any, width: int) -> Float32:
    flat = np.asarray(value, np.float32).reshape(-1)
    return np.ascontiguousarray(np.broadcast_to(flat, (width,)))


def _is(values: Float32, constant: float) -> bool:
    return bool((values == constant).all())


_ARITHMETIC: Mapping[str, Callable[[Float32], Operation]] = {
    "add": lambda value: Rescale(np.ones_like(value), value),
    "div": lambda value: Affine(np.zeros_like(value), value),
    "mul": lambda value: Rescale(value, np.zeros_like(value)),
    "sub": lambda value: Affine(value, np.ones_like(value)),
}


def _activation(step: Step) -> Activation:
    settings = step.arguments[1:]
    if step.op in _PLAIN and not settings:
        return _PLAIN[step.op]
    if step.op == "leaky_relu":
        return activations.leaky_relu(settings[0])
    if step.op == "elu" and settings[1:] == (1, 1):
        return activations.elu(settings[0])
    if step.op == "hardtanh" and settings == (0, 6):
        return activations.relu6
    if step.op == "softplus" and settings[0] == 1 and settings[1] >= 20:  # beyond it, both are x in float32
        return activations.softplus
    raise UnsupportedGraph(f"the operation {step.op}")


_PLAIN: Mapping[str, Activation] = {
    "exp": activations.exponential,
    "relu": activations.relu,
    "relu6": activations.relu6,
    "selu": activations.selu,
    "sigmoid": activations.sigmoid,
    "silu": activations.silu,
    "softsign": activations.softsign,
    "tanh": activations.tanh,
}

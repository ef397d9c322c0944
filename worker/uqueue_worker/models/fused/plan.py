"""A graph as what the fused kernel runs: a program of integers and one flat, aligned, zero-padded buffer of weights.

`program` int64 begins with the HEADER, then holds the steps, STEP items each, then the acting dropout layers, LAYER
items each. The parameter of a step is the bits of a float32.

    code      size            out        at            bias       parameter
    AFFINE    vectors         -          shift         spread     -               (x - shift) / spread
    RESCALE   vectors         -          scale         offset     -               x * scale + offset
    DENSE     input vectors   vectors    kernel        bias       floor: 0 or -inf
    QUADS     input vectors   quads      kernel.T      bias       -               the last layer, up to 16 outputs
    DROP      vectors         -          mask bits     -          1 / (1 - rate)
    16 + i    width           -          -             -          alpha           ACTIVATIONS[i]

Positions count items of 4 bytes, in `weights` or in the kernel's scratch memory; a vector is 16 of them. Steps before
RANDOM_FROM run once per row. Where the step at RANDOM_FROM is a dropout layer that a Dense layer reads, that layer's
sums over all units are taken once per row as well, and each pass subtracts what its dropped units added (SUBTRACT).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uqueue_worker.models import activations
from uqueue_worker.models.activations import Activation
from uqueue_worker.models.engine import ForwardMode
from uqueue_worker.models.graph import Activate, Affine, Dense, Dropout, Graph, Input, Node, Operation, Rescale
from uqueue_worker.models.unsupported import UnsupportedGraph

Float32 = NDArray[np.float32]

LANES = 16
FOUR = 4  # passes that the kernel draws at a time, and values that it looks at together
ALIGNMENT = 64  # bytes: one vector, one cache line
QUADS_UP_TO = 16  # outputs: with more, a layer is faster by whole vectors

AFFINE, RESCALE, DENSE, QUADS, DROP = range(5)
FIRST_ACTIVATION = 16
ACTIVATIONS = ("relu", "relu6", "leaky_relu", "tanh", "sigmoid", "silu", "softsign", "exponential", "elu", "scale_by")

STEP = 6  # code, size, out, at, bias, parameter
LAYER = 4  # first word within the pass, words, threshold, position of the bits
# fmt: off
(
    STEPS, LAYERS, RANDOM_FROM, SUBTRACT, FEATURES, VALUES, PADDED_VALUES, WORDS_PER_PASS, BITS_PER_PASS, WIDE,
    FIXED, BASE, LISTED, UNITS, BITS, HEADS, SUMS, PREVIOUS, MEANS, DEVIATIONS, HISTORY, HEADER,
) = range(22)
# fmt: on
_MOST_WEIGHTS = 1 << 28  # items: a gigabyte; positions in a layer must fit 31 bits


@dataclass(frozen=True, eq=False)
class Plan:
    """A network in one forward mode."""

    program: NDArray[np.int64]
    weights: Float32

    @property
    def values(self) -> int:
        """How many numbers a pass gives: 2 * targets."""
        return int(self.program[VALUES])

    def scratch(self, max_passes: int) -> Float32:
        """Return zeroed memory for one call of the kernel."""
        return aligned(int(self.program[HISTORY] + (max_passes + FOUR) * self.program[PADDED_VALUES]))


def make_plan(graph: Graph, forward_mode: ForwardMode) -> Plan:
    """Return the plan. Raises UnsupportedGraph, with the reason, for what the kernel cannot evaluate."""
    return _Planner(graph, forward_mode).plan()


def aligned(n: int) -> Float32:
    """Return float32 zeros (n,) that begin at a multiple of ALIGNMENT bytes."""
    raw = np.zeros(n + ALIGNMENT // 4, np.float32)
    skip = -raw.ctypes.data % ALIGNMENT // 4
    return raw[skip : skip + n]


def padded(width: int, to: int = LANES) -> int:
    """Return the next multiple."""
    return -(-width // to) * to


class _Planner:
    def __init__(self, graph: Graph, forward_mode: ForwardMode) -> None:
        self.graph = graph
        self.chain = [node for node in _chain(graph) if _acts(node.operation, forward_mode)]
        self.steps: list[tuple[int, int, int, int, int, float]] = []
        self.pieces: list[Float32] = []
        self.size = 0
        self.layers: list[tuple[int, int, int, int]] = []
        self.bits = 0

    def plan(self) -> Plan:
        widths = [self.graph.n_features, *(node.width for node in self.chain)]
        for before, node in zip(widths, self.chain, strict=False):
            self.add(node.operation, before, last=node is self.chain[-1])
        steps = np.zeros((len(self.steps), STEP), np.int64)
        for row, step in zip(steps, self.steps, strict=True):
            row[:-1] = step[:-1]
            row[-1:].view(np.float32)[0 if sys.byteorder == "little" else 1] = step[-1]
        layers = np.array(self.layers, np.int64)
        program = np.concatenate([self.header(padded(max(widths))), steps.reshape(-1), layers.reshape(-1)])
        return Plan(program, self.buffer())

    def header(self, wide: int) -> NDArray[np.int64]:
        random_from = next((at for at, step in enumerate(self.steps) if step[0] == DROP), len(self.steps))
        values = 2 * self.graph.n_targets
        in_quads = padded(values, FOUR)
        header = np.zeros(HEADER, np.int64)
        header[[STEPS, LAYERS, RANDOM_FROM]] = len(self.steps), len(self.layers), random_from
        header[[SUBTRACT, FEATURES, VALUES]] = self.subtracts(random_from), self.graph.n_features, values
        header[[PADDED_VALUES, WORDS_PER_PASS, BITS_PER_PASS]] = in_quads, self.graph.words_per_pass, self.bits
        header[WIDE] = wide
        # x lies at 0: four passes, and four more to write to
        sizes = (8 * wide, wide, wide, wide + LANES, wide + LANES, FOUR * self.bits + 1, *[in_quads] * 3)
        sizes = (*sizes, FOUR * in_quads, FOUR * in_quads)
        header[FIXED:HEADER] = np.cumsum([padded(size) for size in sizes])
        return header

    def subtracts(self, random_from: int) -> bool:
        """Subtract where fewer units are dropped than kept and the sums over all of them exist."""
        following = self.steps[random_from + 1 : random_from + 2]
        return bool(following) and following[0][0] == DENSE and self.steps[random_from][-1] <= 2.0

    def add(self, operation: Operation, width: int, *, last: bool) -> None:
        if isinstance(operation, Affine):
            at, spread = self.put(operation.shift), self.put(operation.spread, padding=1.0)
            self.step(AFFINE, padded(width) // LANES, at=at, bias=spread)
        elif isinstance(operation, Rescale):
            at, offset = self.put(operation.scale), self.put(operation.offset)
            self.step(RESCALE, padded(width) // LANES, at=at, bias=offset)
        elif isinstance(operation, Dropout):
            self.dropout(operation, width)
        elif isinstance(operation, Activate):
            self.activation(operation.activation, width)
        elif isinstance(operation, Dense):
            self.dense(operation, width, last=last)

    def dropout(self, operation: Dropout, width: int) -> None:
        layer = operation.layer
        if layer.units != width:
            raise UnsupportedGraph("a dropout layer that drops all units together")
        self.step(DROP, padded(width) // LANES, at=self.bits, parameter=layer.scale)
        self.layers.append((layer.offset, layer.words, layer.threshold, self.bits))
        self.bits += padded(layer.words, 8) // 8  # eight words of four lanes are one item of 32 bits

    def dense(self, operation: Dense, width: int, *, last: bool) -> None:
        units = len(operation.bias)
        linear, rectified = operation.activation is activations.linear, operation.activation is activations.relu
        fixed = not self.steps or self.steps[-1][0] != DROP or len(self.layers) > 1
        if last and linear and units <= QUADS_UP_TO and fixed:
            self.quads(operation, width)
            return
        kernel = np.zeros((padded(width), padded(units)), np.float32)
        kernel[:width, :units] = operation.kernel
        floor = 0.0 if rectified else -np.inf
        at, bias = self.put(kernel), self.put(operation.bias)
        self.step(DENSE, padded(width) // LANES, out=padded(units) // LANES, at=at, bias=bias, parameter=floor)
        if not rectified:
            self.activation(operation.activation, units)

    def quads(self, operation: Dense, width: int) -> None:
        quads = padded(len(operation.bias), FOUR) // FOUR
        kernel = np.zeros((padded(width), FOUR * quads), np.float32)
        kernel[:width, : len(operation.bias)] = operation.kernel
        at, bias = self.put(kernel.T), self.put(operation.bias)
        self.step(QUADS, padded(width) // LANES, out=quads, at=at, bias=bias)

    def activation(self, activation: Activation, width: int) -> None:
        for name, alpha in _named(activation):
            self.step(FIRST_ACTIVATION + ACTIVATIONS.index(name), width, parameter=alpha)

    def step(self, code: int, size: int, *, out: int = 0, at: int = 0, bias: int = 0, parameter: float = 0.0) -> None:
        self.steps.append((code, size, out, at, bias, parameter))

    def put(self, values: Float32, *, padding: float = 0.0) -> int:
        """Keep the values for the buffer; return where they will begin."""
        piece = np.full(padded(values.size), padding, np.float32)
        piece[: values.size] = values.reshape(-1)
        begin, self.size = self.size, self.size + piece.size
        if self.size > _MOST_WEIGHTS:
            raise UnsupportedGraph("more weights than the fused kernel takes")
        self.pieces.append(piece)
        return begin

    def buffer(self) -> Float32:
        whole = aligned(self.size + LANES)
        whole[: self.size] = np.concatenate([*self.pieces, np.empty(0, np.float32)])
        return whole


def _chain(graph: Graph) -> list[Node]:
    """Return the nodes behind the input. Raises UnsupportedGraph where the graph branches."""
    for index, node in enumerate(graph.nodes):
        expected = () if index == 0 else (index - 1,)
        if node.sources != expected or isinstance(node.operation, Input) != (index == 0):
            raise UnsupportedGraph("its layers are not one chain with both heads reading the last layer")
    return list(graph.nodes[1:])


def _acts(operation: Operation, forward_mode: ForwardMode) -> bool:
    if not isinstance(operation, Dropout):
        return True
    return operation.layer.acts and (forward_mode == "dropout" or operation.always_on)


def _named(activation: Activation) -> list[tuple[str, float]]:
    """Return the kernel's activations, with their parameters, that together do the same."""
    if activation is activations.linear:
        return []
    if activation is activations.selu:
        return [("elu", 1.6732632423543772), ("scale_by", 1.0507009873554805)]
    for name in ("relu", "relu6", "tanh", "sigmoid", "silu", "softsign", "exponential"):
        if activation is getattr(activations, name):
            return [(name, 0.0)]
    # leaky_relu and elu are made with their slope or scale inside: found by what they do to a few values
    probe = np.array([-3.0, -1.0, -0.125, 0.0, 0.5, 2.0], np.float32)
    found = activation(probe.copy())
    slope, scale = -float(found[1]), float(found[1]) / float(np.expm1(np.float32(-1)))
    if np.array_equal(found, activations.leaky_relu(slope)(probe.copy())):
        return [("leaky_relu", slope)]
    if np.allclose(found, activations.elu(scale)(probe.copy()), rtol=1e-6, atol=0):
        return [("elu", scale)]
    raise UnsupportedGraph("an activation that the fused kernel does not have")

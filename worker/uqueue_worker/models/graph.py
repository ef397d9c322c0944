"""A Keras H5 file as a small typed graph: Normalization, Dense, dropout, activations, and how they are joined.

Everything else raises UnsupportedGraph, so that TensorFlow takes over. What no engine can serve raises ModelInvalid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_worker.artifacts import is_dropout
from uqueue_worker.models import activations
from uqueue_worker.models.activations import Activation
from uqueue_worker.models.heads import count_targets
from uqueue_worker.models.randomness import DropoutLayer, lay_out
from uqueue_worker.models.unsupported import UnsupportedGraph
from uqueue_worker.models.weights import Weights, read_weights, take
from uqueue_worker.models.wiring import LayerSpec, Wiring, read_wiring

Float32 = NDArray[np.float32]
NORMALIZATION_EPSILON = 1e-7  # keras.backend.epsilon()


@dataclass(frozen=True, eq=False)
class Input:
    """The features."""


@dataclass(frozen=True, eq=False)
class Affine:
    """(x - shift) / spread: Normalization."""

    shift: Float32
    spread: Float32


@dataclass(frozen=True, eq=False)
class Rescale:
    """x * scale + offset: Rescaling."""

    scale: Float32
    offset: Float32


@dataclass(frozen=True, eq=False)
class Dense:
    """activation(x @ kernel + bias)."""

    kernel: Float32
    bias: Float32
    activation: Activation


@dataclass(frozen=True, eq=False)
class Activate:
    """activation(x)."""

    activation: Activation


@dataclass(frozen=True, eq=False)
class Dropout:
    """x * kept / (1 - rate). `always_on` layers act whatever `training` says; a plain one only in dropout mode."""

    layer: DropoutLayer
    always_on: bool


@dataclass(frozen=True, eq=False)
class Concatenate:
    """The sources side by side."""


Operation = Input | Affine | Rescale | Dense | Activate | Dropout | Concatenate


@dataclass(frozen=True, eq=False)
class Node:
    """An operation and the positions, in the graph's list, of the nodes that it reads."""

    operation: Operation
    sources: tuple[int, ...]
    width: int


@dataclass(frozen=True, eq=False)
class Graph:
    """`nodes` in an order in which each comes after what it reads; the last one holds the heads, (2 * targets) wide."""

    nodes: tuple[Node, ...]
    n_features: int
    n_targets: int
    words_per_pass: int

    @property
    def input_statistics(self) -> tuple[Float32, Float32] | None:
        """(mean, spread) of the features as a Normalization on the input knows them, or None."""
        for node in self.nodes:
            if isinstance(node.operation, Affine) and isinstance(self.nodes[node.sources[0]].operation, Input):
                return node.operation.shift, node.operation.spread
        return None


def read_graph(model_config: Mapping[str, Any], data: bytes, *, file: str = "model.h5") -> Graph:
    """Return the graph of a checked Keras file. Raises UnsupportedGraph or ModelInvalid, each with its reason."""
    return _Reader(read_wiring(model_config, file=file), read_weights(data, file=file), file).read()


def assemble(nodes: list[Node], heads: list[int], n_features: int, n_targets: int) -> Graph:
    """Return the graph of these nodes, whose one or two heads are joined and whose dropout layers get their words."""
    if len(heads) == 2:
        nodes = _join_heads(nodes, heads[0], heads[1])
    elif heads[0] != len(nodes) - 1:
        raise UnsupportedGraph("its output is read again by another layer")
    placed, words = _place_dropout(nodes)
    return Graph(tuple(placed), n_features, n_targets, words)


class _Reader:
    """Turns layers into nodes, each after what it reads."""

    def __init__(self, wiring: Wiring, weights: Weights, file: str) -> None:
        self.wiring = wiring
        self.weights = weights
        self.file = file
        self.nodes: list[Node] = []
        self.position: dict[str, int] = {}

    def read(self) -> Graph:
        outputs = [self.wiring.layers[name] for name in self.wiring.outputs]
        shapes: list[tuple[int, ...]] = []
        heads: list[int] = []
        for spec in outputs:
            position, shape = self.output(spec)
            heads.append(position)
            shapes.append(shape)
        return assemble(self.nodes, heads, self.wiring.n_features, count_targets(shapes, file=self.file))

    def output(self, spec: LayerSpec) -> tuple[int, tuple[int, ...]]:
        """Return the node of an output layer and its shape; a Reshape that only names (2, targets) is no node."""
        if spec.kind != "Reshape":
            position = self.node(spec.name)
            return position, (self.nodes[position].width,)
        position = self.node(spec.sources[0])
        shape = tuple(int(size) for size in spec.config["target_shape"])
        width = self.nodes[position].width
        if -1 in shape:
            known = -int(np.prod(shape))
            shape = tuple(width // known if size == -1 else size for size in shape)
        return position, shape

    def node(self, name: str) -> int:
        """Return the position of a layer's node, after making it and what it reads."""
        if name not in self.position:
            spec = self.wiring.layers[name]
            sources = tuple(self.node(source) for source in spec.sources)
            operation, width = self.operation(spec, [self.nodes[source].width for source in sources])
            self.position[name] = len(self.nodes)
            self.nodes.append(Node(operation, sources, width))
        return self.position[name]

    def operation(self, spec: LayerSpec, widths: list[int]) -> tuple[Operation, int]:
        """Return what the layer computes and how many values it gives per row."""
        _check_dtype(spec)
        if spec.kind == "InputLayer":
            return Input(), self.wiring.n_features
        if spec.kind == "Concatenate":
            if spec.config.get("axis", -1) not in (-1, 1):
                raise UnsupportedGraph("a Concatenate along another axis than the last")
            return Concatenate(), sum(widths)
        if len(widths) != 1:
            raise UnsupportedGraph(f"layer {spec.name} ({spec.kind}) reads {len(widths)} layers")
        width = widths[0]
        if spec.kind == "Dense":
            dense = self.dense(spec, width)
            return dense, len(dense.bias)
        if spec.kind == "Normalization":
            return self.normalization(spec, width), width
        if spec.kind == "Rescaling":
            return Rescale(_row(spec.config["scale"], width), _row(spec.config["offset"], width)), width
        if is_dropout(spec.kind):
            return _dropout(spec, width), width
        if spec.kind in ("Activation", "ReLU", "LeakyReLU", "ELU"):
            return Activate(activations.from_layer(spec.kind, spec.config)), width
        raise UnsupportedGraph(f"layer {spec.name} is a {spec.kind}")

    def dense(self, spec: LayerSpec, width: int) -> Dense:
        units = int(spec.config["units"])
        kernel = take(self.weights, spec.name, "kernel", (width, units), file=self.file)
        bias = np.zeros(units, np.float32)
        if spec.config.get("use_bias", True):
            bias = take(self.weights, spec.name, "bias", (units,), file=self.file)
        if spec.config.get("quantization_config"):
            raise UnsupportedGraph(f"layer {spec.name} is quantized")
        return Dense(kernel, bias, activations.from_setting(spec.config.get("activation")))

    def normalization(self, spec: LayerSpec, width: int) -> Affine:
        if spec.config.get("invert"):
            raise UnsupportedGraph("an inverted Normalization")
        if spec.config.get("mean") is not None:
            mean, variance = _row(spec.config["mean"], width), _row(spec.config["variance"], width)
        else:
            shape = () if spec.config.get("axis") in (None, [], ()) else (width,)
            mean = np.broadcast_to(take(self.weights, spec.name, "mean", shape, file=self.file), (width,))
            variance = np.broadcast_to(take(self.weights, spec.name, "variance", shape, file=self.file), (width,))
        return Affine(mean, np.maximum(np.sqrt(variance), np.float32(NORMALIZATION_EPSILON)))


def _row(value: Any, width: int) -> Float32:
    flat = np.asarray(value, dtype=np.float32).reshape(-1)
    if flat.size not in (1, width):
        raise UnsupportedGraph(f"{flat.size} constants for {width} columns")
    return np.broadcast_to(flat, (width,))


def _check_dtype(spec: LayerSpec) -> None:
    dtype = spec.config.get("dtype", "float32")
    if isinstance(dtype, Mapping):
        dtype = (dtype.get("config") or {}).get("name")
    if dtype not in ("float32", None):
        raise UnsupportedGraph(f"layer {spec.name} computes in {dtype}")


def _dropout(spec: LayerSpec, width: int) -> Dropout:
    noise_shape = spec.config.get("noise_shape")
    units = width if noise_shape is None else noise_shape[-1]
    if spec.kind.startswith("Spatial") or (noise_shape is not None and len(noise_shape) != 2):
        raise UnsupportedGraph(f"layer {spec.name} drops along several axes")
    if units not in (None, 1, width) or (noise_shape is not None and noise_shape[0] is not None):
        raise UnsupportedGraph(f"layer {spec.name} has the noise shape {noise_shape}")
    return Dropout(DropoutLayer(units or width, float(spec.config["rate"])), always_on=spec.kind != "Dropout")


def _place_dropout(nodes: list[Node]) -> tuple[list[Node], int]:
    """Give every dropout layer its words of the pass, in the order of the graph."""
    where = [index for index, node in enumerate(nodes) if isinstance(node.operation, Dropout)]
    plain = [node.operation for node in nodes if isinstance(node.operation, Dropout)]
    placed, words = lay_out([(operation.layer.units, operation.layer.rate) for operation in plain])
    nodes = list(nodes)
    for index, operation, layer in zip(where, plain, placed, strict=True):
        nodes[index] = replace(nodes[index], operation=replace(operation, layer=layer))
    return nodes, words


def _join_heads(nodes: list[Node], lower: int, upper: int) -> list[Node]:
    """Append the node that holds both heads: one wider Dense where both read the same, else a Concatenate."""
    low, high = nodes[lower], nodes[upper]
    if isinstance(low.operation, Dense) and isinstance(high.operation, Dense) and low.sources == high.sources:
        unread = not any(lower in node.sources or upper in node.sources for node in nodes)
        if unread and low.operation.activation is high.operation.activation and lower != upper:
            kernel = np.concatenate([low.operation.kernel, high.operation.kernel], axis=1)
            bias = np.concatenate([low.operation.bias, high.operation.bias])
            both = Node(Dense(kernel, bias, low.operation.activation), low.sources, low.width + high.width)
            return [*_without(nodes, {lower, upper}), _renumbered(both, nodes, {lower, upper})]
    return [*nodes, Node(Concatenate(), (lower, upper), low.width + high.width)]


def _without(nodes: list[Node], gone: set[int]) -> list[Node]:
    return [_renumbered(node, nodes, gone) for index, node in enumerate(nodes) if index not in gone]


def _renumbered(node: Node, nodes: list[Node], gone: set[int]) -> Node:
    kept = [index for index in range(len(nodes)) if index not in gone]
    return replace(node, sources=tuple(kept.index(source) for source in node.sources))

"""Graphs made by hand, without a Keras file: chains of layers with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from uqueue_worker.models import activations
from uqueue_worker.models.graph import Activate, Affine, Dense, Dropout, Graph, Input, Node, Operation, Rescale
from uqueue_worker.models.randomness import DropoutLayer, lay_out


def chain(*layers: Any, features: int = 8, targets: int = 2, seed: int = 0, heads: str = "linear") -> Graph:
    """Return Input -> layers -> Dense(2 * targets, heads).

    A layer is a number of units (Dense, relu), (units, activation), a rate below 1 (Dropout), a rate with "always"
    (dropout that acts in every mode), "normalize", "rescale", or an activation by name.
    """
    rng = np.random.default_rng(seed)
    nodes = [Node(Input(), (), features)]
    for layer in (*layers, (2 * targets, heads)):
        operation, width = _operation(layer, nodes[-1].width, rng)
        nodes.append(Node(operation, (len(nodes) - 1,), width))
    return _placed(nodes, features, targets)


def mqnn(
    hidden: Sequence[int] = (128, 128, 64), *, rate: float = 0.1, activation: str = "relu", everywhere: bool = False
) -> Graph:
    """Return the benchmark network: 8 features, normalized, two heads of two targets.

    The dropout follows the first hidden layer, or every one.
    """
    layers: list[Any] = ["normalize"]
    for index, units in enumerate(hidden):
        layers.append((units, activation))
        if index == 0 or everywhere:
            layers.append(rate)
    return chain(*layers)


def _operation(layer: Any, width: int, rng: np.random.Generator) -> tuple[Operation, int]:
    if layer == "normalize":
        return Affine(_floats(rng.normal(size=width)), _floats(rng.uniform(0.5, 2, width))), width
    if layer == "rescale":
        return Rescale(_floats(rng.uniform(0.5, 2, width)), _floats(rng.normal(size=width))), width
    if isinstance(layer, str):
        return Activate(activations.from_setting(layer)), width
    if isinstance(layer, float):
        return Dropout(DropoutLayer(width, layer), always_on=False), width
    if isinstance(layer, tuple) and layer[1] == "always":
        return Dropout(DropoutLayer(width, layer[0]), always_on=True), width
    units, activation = layer if isinstance(layer, tuple) else (layer, "relu")
    kernel = _floats(rng.normal(scale=width**-0.5, size=(width, units)))
    return Dense(kernel, _floats(rng.normal(scale=0.1, size=units)), activations.from_setting(activation)), units


def _placed(nodes: list[Node], features: int, targets: int) -> Graph:
    dropped = [node.operation.layer for node in nodes if isinstance(node.operation, Dropout)]
    layers, words = lay_out([(layer.units, layer.rate) for layer in dropped])
    following = iter(layers)
    placed = [
        replace(node, operation=replace(node.operation, layer=next(following)))
        if isinstance(node.operation, Dropout)
        else node
        for node in nodes
    ]
    return Graph(tuple(placed), features, targets, words)


def _floats(values: Any) -> Any:
    return np.ascontiguousarray(values, np.float32)

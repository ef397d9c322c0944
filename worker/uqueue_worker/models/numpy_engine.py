"""Evaluates a graph in NumPy: float32, and what lies before the first dropout only once per row.

Which bits hold: BLAS may round a row differently in a product of another shape or at another place in it. So every
product here is (passes of one row, width) @ kernel, stacked over rows: its shape is the tile that the stop rule asks
for, and nothing about the neighbours enters. A row therefore has the same bits alone, in a job, and among other jobs'
rows, on one machine with one NumPy. Another kind of processor may pick another BLAS kernel and differ in the last
bits. Products of up to 2**18 multiplications (16 passes of 128 x 128) are not split over BLAS threads; wider layers may
be, so workers that must agree should run with one OPENBLAS_NUM_THREADS.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from uqueue_worker.models.engine import ForwardMode
from uqueue_worker.models.graph import Activate, Affine, Concatenate, Dense, Dropout, Graph, Input, Node, Rescale
from uqueue_worker.models.randomness import UInt64, counter_steps, kept, lanes
from uqueue_worker.uncertainty import Draw

Float32 = NDArray[np.float32]

_CHUNK_VALUES = 1 << 17  # of the widest layer at once: they stay in the processor's cache
_CHUNK_ROWS = 4096  # of the part before the first dropout


class NumpyEngine:
    """A graph that answers passes. One object serves any number of threads."""

    name = "numpy"
    batch_independent = True

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.n_features = graph.n_features
        self.n_targets = graph.n_targets
        self.input_statistics = graph.input_statistics
        self._widest = max(node.width for node in graph.nodes)
        self._steps = lru_cache(maxsize=16)(counter_steps)

    def random_layers(self, forward_mode: ForwardMode) -> int:
        """Return how many dropout layers act in this mode."""
        return len(self._acting(forward_mode))

    def passes(self, features: Float32, keys: UInt64, forward_mode: ForwardMode) -> Draw:
        """Return the draw of features float32 (n, n_features); row i has the random stream `keys[i]`, uint64 (n,)."""
        acting = self._acting(forward_mode)
        random = _downstream(self.graph, acting)
        fixed = self._prefix(features, random)
        shape = (2, self.n_targets)
        last = len(self.graph.nodes) - 1

        def draw(rows: NDArray[np.intp], start: int, count: int) -> Float32:
            if last not in random:
                heads = fixed[last][rows].reshape(1, len(rows), *shape)
                return np.broadcast_to(heads, (count, len(rows), *shape))
            out = np.empty((count, len(rows), *shape), np.float32)
            step = max(1, _CHUNK_VALUES // (count * self._widest))
            for begin in range(0, len(rows), step):
                chosen = rows[begin : begin + step]
                known = {node: values[chosen][:, None] for node, values in fixed.items()}
                heads = self._tile(known, keys[chosen], random, acting, start, count)
                out[:, begin : begin + step] = heads.reshape(len(chosen), count, *shape).swapaxes(0, 1)
            return out

        return draw

    def _acting(self, forward_mode: ForwardMode) -> frozenset[int]:
        return frozenset(
            index
            for index, node in enumerate(self.graph.nodes)
            if isinstance(node.operation, Dropout)
            and node.operation.layer.acts
            and (forward_mode == "dropout" or node.operation.always_on)
        )

    def _prefix(self, features: Float32, random: frozenset[int]) -> dict[int, Float32]:
        """Return {node: float32 (n, width)} of those nodes before the first dropout that are read after it."""
        nodes = self.graph.nodes
        wanted = {source for index in random for source in nodes[index].sources} - random
        wanted |= {len(nodes) - 1} - random
        values = {index: np.empty((len(features), nodes[index].width), np.float32) for index in wanted}
        for begin in range(0, len(features), _CHUNK_ROWS):
            part = slice(begin, begin + _CHUNK_ROWS)
            # two equal passes per row: a single one is a matrix-vector product, which BLAS sums in another order
            known: dict[int, Float32] = {0: np.repeat(features[part, None], 2, axis=1)}
            with np.errstate(all="ignore"):
                for index, node in enumerate(nodes):
                    if index not in random:
                        known[index] = _evaluate(node, known, known[0])
            for index in wanted:
                values[index][part] = known[index][:, 0]
        return values

    def _tile(
        self,
        known: dict[int, Float32],
        keys: UInt64,
        random: frozenset[int],
        acting: frozenset[int],
        start: int,
        count: int,
    ) -> Float32:
        """Return float32 (rows, count, 2 * targets): passes start .. start + count - 1 of some rows."""
        drawn = max(count, 2)  # see _prefix
        words = self.graph.words_per_pass
        random_lanes = lanes(keys, self._steps(start, drawn, words), words)
        with np.errstate(all="ignore"):
            for index in sorted(random):
                node = self.graph.nodes[index]
                if index in acting and isinstance(node.operation, Dropout):
                    layer = node.operation.layer
                    values = np.multiply(known[node.sources[0]], kept(random_lanes, layer), dtype=np.float32)
                    known[index] = np.multiply(values, np.float32(layer.scale), out=values)
                else:
                    known[index] = _evaluate(node, known, None)
        return known[len(self.graph.nodes) - 1][:, :count]


def _evaluate(node: Node, known: dict[int, Float32], features: Float32 | None) -> Float32:
    """Return the node's values, float32 (rows, passes, width), from those of the nodes that it reads."""
    operation = node.operation
    if isinstance(operation, Input):
        if features is None:
            raise ValueError("the input does not depend on the passes")
        return features
    sources = [known[source] for source in node.sources]
    if isinstance(operation, Dense):
        values = np.matmul(sources[0], operation.kernel)
        values += operation.bias
        return operation.activation(values)
    if isinstance(operation, Activate):
        return operation.activation(sources[0].copy())
    if isinstance(operation, Affine):
        return np.asarray((sources[0] - operation.shift) / operation.spread)
    if isinstance(operation, Rescale):
        return np.asarray(sources[0] * operation.scale + operation.offset)
    if isinstance(operation, Concatenate):
        passes = max(values.shape[1] for values in sources)
        return np.concatenate([np.broadcast_to(v, (len(v), passes, v.shape[2])) for v in sources], axis=2)
    return sources[0]  # a dropout layer that does not act


def _downstream(graph: Graph, acting: frozenset[int]) -> frozenset[int]:
    """Return the positions of the acting dropout layers and of everything that reads them."""
    random: set[int] = set()
    for index, node in enumerate(graph.nodes):
        if index in acting or random.intersection(node.sources):
            random.add(index)
    return frozenset(random)

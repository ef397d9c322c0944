"""The dropout masks of `randomness`, computed inside a TensorFlow graph, and the hook that puts them into Keras layers.

TensorFlow is only touched inside the functions, by a process that has already loaded it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from uqueue_worker.models.randomness import GAMMA, LANES, MIX_LAST_SHIFT, MIX_STEPS, DropoutLayer, lay_out

Shape = tuple[int, ...]


@dataclass(frozen=True)
class HookedLayer:
    """A Keras dropout layer whose `call` is ours. `always_on` layers act whatever `training` says."""

    keras_layer: Any
    always_on: bool

    @property
    def rate(self) -> float:
        return float(self.keras_layer.rate)

    def noise_shape(self, values: Any) -> Shape:
        """Return the shape of one row's mask: 1 along the axes on which all units share their fate."""
        shape = tuple(int(size) for size in values.shape[1:])
        if "Spatial" in type(self.keras_layer).__name__:
            return (*(1 for _ in shape[:-1]), shape[-1])
        wanted = getattr(self.keras_layer, "noise_shape", None)
        if wanted is None:
            return shape
        return tuple(size if asked is None else int(asked) for size, asked in zip(shape, wanted[1:], strict=True))


class MaskSource:
    """Hands every call of every hooked layer its mask while a graph is traced.

    A first run over the model (`recording`) notes how often each layer is called and on which shapes; from then on each
    call owns its words of the pass, layer by layer in the order given.
    """

    def __init__(self, layers: Sequence[HookedLayer]) -> None:
        self.layers = layers
        self.words_per_pass = 0
        self._shapes: list[list[Shape]] = [[] for _ in layers]
        self._placed: list[list[DropoutLayer]] = []
        self._calls = [0] * len(layers)
        self._tensors: tuple[Any, Any] | None = None
        self._acting: frozenset[int] = frozenset()
        self._recording = False
        for index, layer in enumerate(layers):
            layer.keras_layer.call = self._hook(index)

    def acting(self, dropout_mode: bool) -> frozenset[int]:
        """Return the positions of the layers that act; in deterministic mode only those that are always on."""
        return frozenset(
            index
            for index, layer in enumerate(self.layers)
            if (dropout_mode or layer.always_on) and DropoutLayer(1, layer.rate).acts
        )

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note the calls made within, then place their masks."""
        self._recording = True
        try:
            yield
        finally:
            self._recording = False
        sizes = [_size(shape) for shapes in self._shapes for shape in shapes]
        rates = [self.layers[index].rate for index, shapes in enumerate(self._shapes) for _ in shapes]
        placed, self.words_per_pass = lay_out(list(zip(sizes, rates, strict=True)))
        following = iter(placed)
        self._placed = [[next(following) for _ in shapes] for shapes in self._shapes]

    @contextmanager
    def serving(self, keys: Any, passes: Any, acting: frozenset[int]) -> Iterator[None]:
        """Within, the layers in `acting` mask with the streams `keys` uint64 (n,) at the passes uint64 (n,)."""
        self._tensors, self._acting = (keys, passes), acting
        self._calls = [0] * len(self.layers)
        try:
            yield
        finally:
            self._tensors, self._acting = None, frozenset()

    def _hook(self, index: int) -> Any:
        layer = self.layers[index]

        def call(inputs: Any, training: Any = None) -> Any:
            if self._recording:
                self._shapes[index].append(layer.noise_shape(inputs))
            if self._tensors is None or index not in self._acting:
                return inputs
            turn = self._calls[index]
            self._calls[index] += 1
            placed, shape = self._placed[index][turn], self._shapes[index][turn]
            return _masked(inputs, *self._tensors, placed, shape, self.words_per_pass)

        return call


def _size(shape: Shape) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _masked(inputs: Any, keys: Any, passes: Any, layer: DropoutLayer, shape: Shape, words_per_pass: int) -> Any:
    import tensorflow as tf

    first = passes * tf.constant(words_per_pass, tf.uint64) + tf.constant(layer.offset + 1, tf.uint64)
    counters = first[:, None] + tf.cast(tf.range(layer.words), tf.uint64)[None, :]
    words = _mix64(keys[:, None] + counters * tf.constant(GAMMA, tf.uint64))
    lanes = tf.reshape(tf.bitcast(words, tf.uint16), (-1, LANES * layer.words))[:, : layer.units]
    kept = tf.cast(lanes, tf.int32) < layer.threshold
    mask = tf.reshape(tf.cast(kept, inputs.dtype), (-1, *shape))
    return inputs * mask * tf.constant(layer.scale, inputs.dtype)


def _mix64(words: Any) -> Any:
    import tensorflow as tf

    for shift, factor in MIX_STEPS:
        shifted = tf.bitwise.right_shift(words, tf.constant(shift, tf.uint64))
        words = tf.bitwise.bitwise_xor(words, shifted) * tf.constant(factor, tf.uint64)
    return tf.bitwise.bitwise_xor(words, tf.bitwise.right_shift(words, tf.constant(MIX_LAST_SHIFT, tf.uint64)))

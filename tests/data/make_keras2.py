"""Write the Keras 2 files beside this script: what an older training run leaves behind.

    pip install tf_keras==2.18.0        in an environment of its own, TensorFlow 2.18 comes with it
    python tests/data/make_keras2.py

Each .h5 file has a .npz beside it: inputs `x` and what `model.predict(x)` gave with the dropout layers off.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tf_keras as keras

HERE = Path(__file__).parent


@keras.utils.register_keras_serializable("mccp")
class MCDropout(keras.layers.Dropout):
    """Always on, as the usual training code writes it."""

    def call(self, inputs, training=None):
        return super().call(inputs, training=ALWAYS_ON)


ALWAYS_ON = True


def functional() -> keras.Model:
    inputs = keras.Input((4,))
    normalize = keras.layers.Normalization()
    normalize.adapt(np.random.default_rng(1).normal(3, 2, (200, 4)).astype(np.float32))
    x = keras.layers.Dense(16, activation="relu")(normalize(inputs))
    x = keras.layers.Dropout(0.1)(x, training=True)
    x = keras.layers.Dense(12, activation="relu")(x)
    heads = [keras.layers.Dense(2, name=name)(x) for name in ("q0", "q1")]
    return keras.Model(inputs, heads)


def sequential() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Dense(10, activation="tanh", input_shape=(3,)),
            MCDropout(0.2),
            layers.Dense(9),
            layers.LeakyReLU(0.3),
            layers.Dense(2),
        ]
    )


def write(name: str, model: keras.Model, columns: int) -> None:
    global ALWAYS_ON
    x = np.random.default_rng(7).normal(3, 2, (20, columns)).astype(np.float32)
    ALWAYS_ON = False
    calm = keras.models.clone_model(model)
    calm.set_weights(model.get_weights())
    for layer in calm.layers:
        if "Dropout" in type(layer).__name__:
            layer.rate = 0.0
    expected = calm(x, training=False)
    ALWAYS_ON = True
    model.save(HERE / f"{name}.h5")
    np.savez(HERE / f"{name}.npz", x=x, expected=np.asarray([np.asarray(head) for head in _listed(expected)]))


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


if __name__ == "__main__":
    keras.utils.set_random_seed(11)
    write("keras2_functional", functional(), 4)
    write("keras2_sequential", sequential(), 3)
    sys.stdout.write("".join(f"{path.name} {path.stat().st_size} bytes\n" for path in sorted(HERE.glob("keras2_*"))))

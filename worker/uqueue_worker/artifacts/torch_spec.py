"""A PyTorch model as a state_dict and a description of its layers, in one file that `torch.save` writes:

    torch.save({"uqueue_spec": json.dumps(spec), "state_dict": network.state_dict()}, "model.pt")

    spec = {
        "format": "uqueue-mqnn/1",
        "n_features": 8,
        "layers": [
            {"type": "Normalization", "mean": "mean", "variance": "variance"},   # or lists of numbers
            {"type": "Linear", "name": "body.0"},                                # body.0.weight, body.0.bias
            {"type": "ReLU"},
            {"type": "Dropout", "p": 0.1},                                       # "always_on": true for MC layers
            {"type": "Linear", "name": "body.3"},
            {"type": "ReLU"},
        ],
        "heads": ["q0", "q1"],              # Linear layers: lower quantile, upper quantile, a unit per target each
    }

One head ["q"] has the units of the lower quantile first, then those of the upper. Normalization is that of Keras,
(x - mean) / max(sqrt(variance), 1e-7). The other types are those of torch.nn, with its names and defaults for settings.

The spec is JSON text and not a Python dict, since JSON cannot share parts among themselves: what it unfolds to is as
large as it looks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from uqueue_config.errors import ModelInvalid
from uqueue_worker.artifacts.torch_ops import OPERATIONS
from uqueue_worker.artifacts.torch_program import Float32, Program, ProgramBuilder, Row, weight
from uqueue_worker.artifacts.torch_shapes import ROWS

SPEC_KEY: Final = "uqueue_spec"
FORMAT: Final = "uqueue-mqnn/1"
MAX_SPEC_CHARACTERS: Final = 1024 * 1024
MAX_LAYERS: Final = 256
MAX_FEATURES: Final = 1 << 16
LARGEST: Final = 1e38
NORMALIZATION_EPSILON: Final = np.float32(1e-7)
# type -> the operation and the settings it may have
_ACTIVATIONS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "CELU": ("celu", ("alpha",)),
    "ELU": ("elu", ("alpha",)),
    "GELU": ("gelu", ("approximate",)),
    "Hardsigmoid": ("hardsigmoid", ()),
    "Hardswish": ("hardswish", ()),
    "Hardtanh": ("hardtanh", ("min_val", "max_val")),
    "LeakyReLU": ("leaky_relu", ("negative_slope",)),
    "LogSigmoid": ("log_sigmoid", ()),
    "Mish": ("mish", ()),
    "ReLU": ("relu", ()),
    "ReLU6": ("relu6", ()),
    "SELU": ("selu", ()),
    "SiLU": ("silu", ()),
    "Sigmoid": ("sigmoid", ()),
    "Softplus": ("softplus", ("beta", "threshold")),
    "Softsign": ("softsign", ()),
    "Tanh": ("tanh", ()),
}
_SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    **{name: settings for name, (_, settings) in _ACTIVATIONS.items()},
    "BatchNorm1d": ("name", "eps"),
    "Dropout": ("p", "always_on"),
    "LayerNorm": ("name", "eps"),
    "Linear": ("name",),
    "Normalization": ("mean", "variance"),
    "PReLU": ("name",),
}


def read_spec(text: Any, state_dict: Any, *, file: str) -> Program:
    """Return the program. Raises ModelInvalid, with the place and what is expected there, for anything else."""
    spec = _parsed(text, file)
    if not isinstance(state_dict, dict):
        raise ModelInvalid(file=file, reason="beside its spec it holds no state_dict")
    return _SpecReader(spec, state_dict, file).program()


def _parsed(text: Any, file: str) -> dict[str, Any]:
    if not isinstance(text, str) or len(text) > MAX_SPEC_CHARACTERS:
        reason = f"its {SPEC_KEY} is not JSON text (json.dumps) of at most {MAX_SPEC_CHARACTERS} characters"
        raise ModelInvalid(file=file, reason=reason)
    try:
        spec = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelInvalid(file=file, reason=f"its {SPEC_KEY} is not JSON ({error!s:.80})") from error
    if not isinstance(spec, dict) or spec.get("format") != FORMAT:
        raise ModelInvalid(file=file, reason=f"its {SPEC_KEY} has not the format {FORMAT!r}")
    unknown = sorted(set(spec) - {"format", "n_features", "layers", "heads"})
    if unknown:
        raise ModelInvalid(file=file, reason=f"its {SPEC_KEY} has the unknown key {unknown[0]!r:.80}")
    return spec


class _SpecReader:
    def __init__(self, spec: dict[str, Any], state_dict: dict[str, Any], file: str) -> None:
        self.spec = spec
        self.state_dict = state_dict
        self.file = file
        n_features = spec.get("n_features")
        if type(n_features) is not int or not 1 <= n_features <= MAX_FEATURES:
            raise self.invalid(f"n_features is {n_features!r:.40}, expected a number from 1 to {MAX_FEATURES}")
        self.builder = ProgramBuilder(file, n_features)

    def invalid(self, reason: str) -> ModelInvalid:
        return ModelInvalid(file=self.file, reason=f"its {SPEC_KEY}: {reason}")

    def program(self) -> Program:
        layers, heads = self.spec.get("layers"), self.spec.get("heads")
        if not isinstance(layers, list) or len(layers) > MAX_LAYERS:
            raise self.invalid(f"layers is not a list of at most {MAX_LAYERS} layers")
        row = self.builder.features
        for index, layer in enumerate(layers):
            row = self.layer(layer, f"layer {index}", row)
        if not isinstance(heads, list) or not all(type(name) is str for name in heads) or len(heads) not in (1, 2):
            raise self.invalid('heads is not a list of one or two names, as in ["q0", "q1"]')
        outputs = [self.linear(name, row) for name in heads]
        if len(outputs) == 1:
            outputs = [self.split(outputs[0])]
        return self.builder.program(outputs)

    def split(self, head: Row) -> Row:
        (units,) = self.builder.shape(head)
        if units % 2:
            raise self.invalid(f"its one head has {units} units, expected as many lower as upper quantiles")
        return head if units == 2 else self.apply("reshape", head, [ROWS, 2, units // 2])

    def layer(self, layer: Any, where: str, row: Row) -> Row:
        kind = layer.get("type") if isinstance(layer, dict) else None
        if not isinstance(kind, str) or kind not in _SETTINGS:
            raise self.invalid(f"{where} has the type {kind!r:.80}, expected one of {', '.join(_SETTINGS)}")
        settings = {key: value for key, value in layer.items() if key != "type"}
        unknown = sorted(set(settings) - set(_SETTINGS[kind]))
        if unknown:
            raise self.invalid(f"{where} ({kind}) has the unknown setting {unknown[0]!r:.80}")
        if kind in _ACTIVATIONS:
            self.check_plain(settings, f"{where} ({kind})")
            return self.apply(_ACTIVATIONS[kind][0], row, **settings)
        if kind == "Normalization":
            return self.normalization(settings, row, where)
        if kind == "Dropout":
            return self.dropout(settings, row, where)
        name = settings.pop("name", None)
        if not isinstance(name, str):
            raise self.invalid(f'{where} ({kind}) has no "name": what its weights are called in the state_dict')
        self.check_plain(settings, f"{where} ({kind})")
        return self.named(kind, name, row, settings)

    def named(self, kind: str, name: str, row: Row, settings: dict[str, Any]) -> Row:
        if kind == "Linear":
            return self.linear(name, row)
        if kind == "PReLU":
            return self.apply("prelu", row, self.weight(f"{name}.weight"))
        scale, shift = self.optional(f"{name}.weight"), self.optional(f"{name}.bias")
        eps = float(settings.get("eps", 1e-5))
        if kind == "LayerNorm":
            return self.apply("layer_norm", row, list(self.builder.shape(row)), scale, shift, eps)
        mean, variance = self.weight(f"{name}.running_mean"), self.weight(f"{name}.running_var")
        return self.apply("batch_norm", row, scale, shift, mean, variance, False, 0.1, eps)

    def linear(self, name: str, row: Row) -> Row:
        return self.apply("linear", row, self.weight(f"{name}.weight"), self.optional(f"{name}.bias"))

    def normalization(self, settings: dict[str, Any], row: Row, where: str) -> Row:
        width = self.builder.shape(row)
        mean, variance = (self.numbers(settings.get(key), key, width, where) for key in ("mean", "variance"))
        if (variance < 0).any():
            raise self.invalid(f"{where} (Normalization) has a negative variance")
        spread = np.maximum(np.sqrt(variance), NORMALIZATION_EPSILON)
        return self.apply("div", self.apply("sub", row, mean), spread)

    def dropout(self, settings: dict[str, Any], row: Row, where: str) -> Row:
        rate, always_on = settings.get("p", 0.5), settings.get("always_on", False)
        if type(always_on) is not bool:
            raise self.invalid(f"{where} (Dropout) has always_on {always_on!r:.40}, expected true or false")
        return self.apply("dropout", row, rate, always_on)

    def apply(self, op: str, *args: Any, **settings: Any) -> Row:
        row: Row = OPERATIONS[op](self.builder, *args, **settings)
        return row

    def check_plain(self, settings: dict[str, Any], where: str) -> None:
        for key, value in settings.items():
            if not _is_moderate(value) and not (key == "approximate" and value in ("none", "tanh")):
                raise self.invalid(f"{where} has {key} {value!r:.40}, expected a number")

    def numbers(self, value: Any, key: str, shape: tuple[int, ...], where: str) -> Float32:
        """Return a list of numbers, or the weight of this name, as float32 of this shape."""
        if isinstance(value, list) and all(map(_is_moderate, value)):
            found = weight(np.array(value, np.float64), key, file=self.file)
        elif type(value) is str:
            found = self.weight(value)
        else:
            raise self.invalid(f"{where} (Normalization) has no {key}: a list of numbers, or a name in the state_dict")
        if found.size not in (1, *shape):
            raise self.invalid(f"{where} (Normalization) has {found.size} values of {key} for {shape[0]} columns")
        return np.ascontiguousarray(np.broadcast_to(found.reshape(-1), shape))

    def optional(self, name: str) -> Float32 | None:
        return self.weight(name) if name in self.state_dict else None

    def weight(self, name: str) -> Float32:
        value = self.state_dict.get(name)
        if not isinstance(value, np.ndarray) or value.ndim == 0:
            raise self.invalid(f"the state_dict has no weight {name!r:.120}")
        return weight(value, name, file=self.file)


def _is_moderate(value: Any) -> bool:
    """Tell whether this is a number that float32 can hold; JSON may also spell NaN, infinities and endless integers."""
    return type(value) in (int, float) and -LARGEST <= value <= LARGEST

"""What a Keras model configuration may name: built-in layers, their built-in parts, and always-on dropout.

The configuration is JSON, and Keras turns every dict with a "class_name" in it into an object. Each one is looked up in
the lists below before Keras sees the file; what is not in them is refused by its name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, Final

from uqueue_config.errors import ModelInvalid, UnsafeArtifact


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CONTAINERS: Final = frozenset({"Functional", "Model", "Sequential"})
ALLOWED_LAYERS: Final = CONTAINERS | _words(
    """InputLayer Normalization Rescaling Dense Dropout SpatialDropout1D Activation ReLU LeakyReLU ELU PReLU Softmax
    BatchNormalization LayerNormalization Concatenate Add Subtract Multiply Average Maximum Minimum Flatten Reshape
    Permute RepeatVector Conv1D MaxPooling1D AveragePooling1D GlobalAveragePooling1D GlobalMaxPooling1D"""
)
ACTIVATIONS: Final = _words(
    """celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear
    log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus
    sparse_sigmoid sparsemax squareplus swish tanh tanh_shrink threshold"""
)
# By the end of the key that holds them. Keras writes either form of a name: GlorotUniform and glorot_uniform.
PARTS: Final = {
    "_initializer": _words(
        """Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal LecunUniform Ones Orthogonal
        RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros constant glorot_normal glorot_uniform he_normal
        he_uniform identity lecun_normal lecun_uniform normal one ones orthogonal random_normal random_uniform
        truncated_normal uniform variance_scaling zero zeros"""
    ),
    "_regularizer": _words("L1 L1L2 L2 OrthogonalRegularizer l1 l1l2 l2 l1_l2 orthogonal_regularizer"),
    "_constraint": _words("MaxNorm MinMaxNorm NonNeg UnitNorm max_norm min_max_norm non_neg unit_norm"),
}
DATA_CLASSES: Final = frozenset({"__keras_tensor__", "__tuple__", "TensorShape"})
DTYPE_CLASSES: Final = frozenset({"DTypePolicy", "FloatDTypePolicy", "Policy"})
CODE_CLASSES: Final = frozenset({"Lambda", "__lambda__", "TFOpLambda", "SlicingOpLambda", "function"})

MAX_CONFIG_CHARACTERS: Final = 4 * 1024 * 1024
MAX_CONFIG_DEPTH: Final = 64
MAX_CONFIG_VALUES: Final = 500_000
_DROPOUT_KEYS: Final = _words(
    "name trainable dtype rate noise_shape seed autocast batch_input_shape batch_shape input_shape"
)
_OTHER_DROPOUTS: Final = frozenset({"SpatialDropout2D", "SpatialDropout3D"})
Finding = tuple[str, str]


def is_dropout(class_name: str) -> bool:
    """Tell whether this layer class is Bernoulli dropout: `Dropout`, or an always-on subclass such as `pkg>MCDropout`.

    GaussianDropout and AlphaDropout (and what is named after them) draw their noise otherwise and are not.
    """
    name = class_name.rpartition(">")[2]
    return "Dropout" in name and "Gaussian" not in name and "Alpha" not in name and name not in _OTHER_DROPOUTS


def parse_model_config(text: str, *, file: str) -> dict[str, Any]:
    """Return the configuration as a dict. Raises ModelInvalid where it is no JSON object, too large or too deep."""
    if len(text) > MAX_CONFIG_CHARACTERS:
        reason = f"model_config has {len(text)} characters; at most {MAX_CONFIG_CHARACTERS} are read"
        raise ModelInvalid(file=file, reason=reason)
    try:
        config = json.loads(text)
    except RecursionError:
        raise ModelInvalid(file=file, reason="model_config is nested too deeply") from None
    except ValueError as error:
        raise ModelInvalid(file=file, reason="model_config is not JSON") from error
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise ModelInvalid(file=file, reason="model_config does not describe a model")
    return config


def check_model_config(config: dict[str, Any], *, file: str) -> tuple[str, ...]:
    """Return the layer classes in the order they are found, containers and nested layers included.

    Raises UnsafeArtifact for what is not listed: of several such things for the first that can be explained, so for a
    Lambda rather than for the wrapper around it. Raises ModelInvalid where the configuration is too large or too deep,
    or its top is not a model.
    """
    if not isinstance(config.get("class_name"), str):
        raise ModelInvalid(file=file, reason="model_config names no model class")
    walk = _Walk(file)
    walk.value(config, "", 0)
    if walk.refused:
        name, hint = next((found for found in walk.refused if found[1]), walk.refused[0])
        raise UnsafeArtifact(file=file, name=name[:200], hint=hint)
    if config["class_name"] not in CONTAINERS:
        raise ModelInvalid(file=file, reason=f"model_config describes a {config['class_name'][:80]} and not a model")
    return tuple(walk.layers)


class _Walk:
    """Visits every value of a configuration and notes the layers and what is refused."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.layers: list[str] = []
        self.refused: list[Finding] = []
        self.values = 0

    def value(self, value: Any, key: str, depth: int) -> None:
        self.values += 1
        if depth > MAX_CONFIG_DEPTH or self.values > MAX_CONFIG_VALUES:
            raise ModelInvalid(file=self.file, reason="model_config is nested too deeply or has too many values")
        if isinstance(value, dict):
            self.mapping(value, key, depth)
        elif isinstance(value, list):
            for item in value:
                self.value(item, key, depth + 1)
        elif isinstance(value, str):
            self.refused.extend(_refused_text(value, key))

    def mapping(self, value: dict[str, Any], key: str, depth: int) -> None:
        if "class_name" in value:
            self.refused.extend(self.named(value, key))
        for inner_key, inner in value.items():
            if inner_key == "module" and "class_name" not in value:
                self.refused.append((f"the module {inner!r:.80}", ""))
            if inner_key not in _IDENTITY_KEYS:
                self.value(inner, inner_key, depth + 1)

    def named(self, value: dict[str, Any], key: str) -> Iterator[Finding]:
        """Yield what is wrong with this dict, which Keras would turn into an object."""
        name = value["class_name"]
        if not isinstance(name, str):
            yield "a class_name that is not text", ""
            return
        suffix = next((suffix for suffix in PARTS if key.endswith(suffix)), None)
        custom_dropout = is_dropout(name) and name not in ALLOWED_LAYERS
        if suffix is not None:
            allowed = name in PARTS[suffix]
        elif key == "dtype":
            allowed = name in DTYPE_CLASSES
        elif allowed := name in ALLOWED_LAYERS or custom_dropout:
            self.layers.append(name)
        else:
            allowed = name in DATA_CLASSES
        if not allowed:
            yield f"{key} {name}" if suffix or key in ("dtype", "activation") else name, _hint(name)
        elif is_dropout(name):
            yield from _wrong_dropout(name, value.get("config"))
        if not custom_dropout:
            yield from _wrong_origin(value, name)


# Judged by `named` together with the class they belong to.
_IDENTITY_KEYS: Final = frozenset({"module", "registered_name", "class_name"})


def _refused_text(value: str, key: str) -> Iterator[Finding]:
    """Yield what is wrong with a text under `key`: names of functions and parts must be known ones."""
    suffix = next((suffix for suffix in PARTS if key.endswith(suffix)), None)
    if key.endswith("activation") and value not in ACTIVATIONS:
        yield f"the activation {value!r:.80}", ""
    elif suffix is not None and value not in PARTS[suffix]:
        yield f"the {key} {value!r:.80}", ""


def _wrong_dropout(name: str, config: Any) -> Iterator[Finding]:
    rate = config.get("rate") if isinstance(config, dict) else None
    if not isinstance(rate, int | float) or isinstance(rate, bool) or not (math.isfinite(rate) and 0 <= rate < 1):
        yield f"a {name} without a rate in [0, 1)", ""
        return
    for key in sorted(set(config) - _DROPOUT_KEYS):
        yield f"{name} with the setting {key!r:.80}", ""


def _wrong_origin(value: dict[str, Any], name: str) -> Iterator[Finding]:
    module, registered = value.get("module"), value.get("registered_name")
    if module is not None and not (isinstance(module, str) and (module + ".").startswith("keras.")):
        yield f"{name} of the module {module!r:.80}", ". Only classes of keras itself are loaded"
    if registered not in (None, name):
        yield f"{name} registered as {registered!r:.80}", ". Only classes of keras itself are loaded"


def _hint(name: str) -> str:
    if name in CODE_CLASSES or "Lambda" in name:
        return ". It carries Python code, which is never run here; build the model from plain layers"
    if is_dropout(name) or "Dropout" in name:
        return ". Its noise is not that of Monte Carlo dropout"
    return ""

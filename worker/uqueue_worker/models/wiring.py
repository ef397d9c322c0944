"""Which layer reads which, from the `model_config` of a Keras file (Functional and Sequential, Keras 2 and 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from uqueue_config.errors import ModelInvalid
from uqueue_worker.models.unsupported import UnsupportedGraph


@dataclass(frozen=True)
class LayerSpec:
    """One layer: its class without a package prefix is `kind`, its settings, and the layers whose output it reads."""

    name: str
    kind: str
    config: Mapping[str, Any]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Wiring:
    """The layers by name, the one input's name and width, and the names of the layers whose outputs are the heads."""

    layers: Mapping[str, LayerSpec]
    input: str
    n_features: int
    outputs: tuple[str, ...]


def read_wiring(model_config: Mapping[str, Any], *, file: str) -> Wiring:
    """Return the wiring. Raises ModelInvalid for what no engine serves, UnsupportedGraph for what NumPy cannot."""
    try:
        config = model_config["config"]
        if model_config["class_name"] == "Sequential":
            return _sequential(config["layers"] if isinstance(config, Mapping) else config, file)
        return _functional(config, file)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise UnsupportedGraph(f"its configuration is laid out in an unknown way ({error!r})") from error


def _sequential(entries: list[dict[str, Any]], file: str) -> Wiring:
    layers: dict[str, LayerSpec] = {}
    previous: tuple[str, ...] = ()
    for entry in entries:
        name = str(entry["config"]["name"])
        if not previous and entry["class_name"] != "InputLayer":
            layers["(input)"] = LayerSpec("(input)", "InputLayer", entry["config"], ())
            previous = ("(input)",)
        layers[name] = LayerSpec(name, _kind(entry["class_name"]), entry["config"], previous)
        previous = (name,)
    first = next(iter(layers.values()))
    return Wiring(layers, first.name, _width(first, file), previous)


def _functional(config: Mapping[str, Any], file: str) -> Wiring:
    layers = {}
    for entry in config["layers"]:
        name = str(entry["name"])
        sources = _sources(entry, name)
        layers[name] = LayerSpec(name, _kind(entry["class_name"]), entry["config"], sources)
    inputs = _references(config["input_layers"], "inputs", file)
    if len(inputs) != 1:
        raise ModelInvalid(file=file, reason=f"the model takes {len(inputs)} inputs; one table of features is served")
    outputs = _references(config["output_layers"], "outputs", file)
    return Wiring(layers, inputs[0], _width(layers[inputs[0]], file), outputs)


def _kind(class_name: str) -> str:
    return str(class_name).rpartition(">")[2]


def _sources(entry: Mapping[str, Any], name: str) -> tuple[str, ...]:
    nodes = entry["inbound_nodes"]
    if len(nodes) > 1:
        raise UnsupportedGraph(f"layer {name} is used in {len(nodes)} places")
    if not nodes:
        return ()
    node = nodes[0]
    if isinstance(node, Mapping):
        tensors = node["args"][0] if node["args"] else ()
        tensors = tensors if isinstance(tensors, list) else [tensors]
        histories = [tensor["config"]["keras_history"] for tensor in tensors]
    else:
        histories = [link[:3] for link in node]
    return tuple(_first_use(history) for history in histories)


def _first_use(history: list[Any]) -> str:
    name, node_index, tensor_index = history
    if node_index or tensor_index:
        raise UnsupportedGraph(f"a later use or output of layer {name} is read")
    return str(name)


def _references(value: Any, what: str, file: str) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        raise ModelInvalid(file=file, reason=f"the model names its {what} in a dict; their order would be a guess")
    if value and isinstance(value[0], str):
        return (_first_use(value),)
    return tuple(_first_use(reference) for reference in value)


def _width(spec: LayerSpec, file: str) -> int:
    shape = spec.config.get("batch_shape") or spec.config.get("batch_input_shape")
    if not isinstance(shape, list | tuple):
        raise UnsupportedGraph("it does not say how wide its input is")
    if len(shape) != 2 or not isinstance(shape[1], int):
        raise ModelInvalid(
            file=file, reason=f"the model reads inputs of shape {list(shape)}, expected [rows, features]"
        )
    return shape[1]

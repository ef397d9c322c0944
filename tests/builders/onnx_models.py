"""Small ONNX localization models, as files in a workspace and as versions in an MLflow registry."""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

SHAPE = (3, 128, 32)
#: A declaration in full, so that nothing falls back to a default.
DEGREES = {
    "output_encoding": "degrees-latlon-sigma",
    "position_encoding": "degrees",
    "feature_recipe": "envelope-logmel-v1",
    "sample_rate_hz": 192_000,
    "receivers": 3,
}


def tiny_localizer(
    position: tuple[float, float] = (52.0, 5.0),
    sigma: tuple[float, float] | None = (0.0003, 0.0004),
    theta: float | None = None,
    confidence: float | None = None,
    *,
    sway: float = 0.001,
    seed: int = 0,
    shape: Sequence[int | str] = ("batch", *SHAPE),
    names: Mapping[str, str] | None = None,
    flat_confidence: bool = False,
    opset: int = 14,
) -> bytes:
    """Return a model whose raw outputs are these numbers, a little moved by the input: `position + sway * t` and
    `sigma * (1 + t / 10)`, where t in (-1, 1) is a fixed projection of the input; theta and confidence stay.

    The numbers are in whatever unit and order the declaration will say; by default (latitude, longitude) in degrees and
    sigmas in degrees, north then east. `sigma=None` leaves that output out, `names` renames outputs (positions,
    uncertainties, confidence) and the input, `flat_confidence` gives (B,) and not (B, 1).
    """
    from onnx import helper

    called = {name: (names or {}).get(name, name) for name in ("mel_spectrogram", *OUTPUTS)}
    values = int(np.prod(SHAPE)) if not all(isinstance(size, int) for size in shape[1:]) else int(np.prod(shape[1:]))
    weights = _weights(values, seed)
    nodes = [
        helper.make_node("Flatten", [called["mel_spectrogram"]], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "weights"], ["projected"]),
        helper.make_node("Tanh", ["projected"], ["t"]),
        *_moved("positions", called["positions"]),
    ]
    constants = {"weights": weights, "positions_base": [list(position)], "positions_slope": [[sway, sway]]}
    outputs = {called["positions"]: ["batch", 2]}
    if sigma is not None:
        columns = [*sigma, *([] if theta is None else [theta])]
        slope = [*(part / 10 for part in sigma), *([] if theta is None else [0.0])]
        constants |= {"uncertainties_base": [columns], "uncertainties_slope": [slope]}
        nodes += _moved("uncertainties", called["uncertainties"])
        outputs[called["uncertainties"]] = ["batch", len(columns)]
    if confidence is not None:
        constants |= {"confidence_base": [[confidence]], "confidence_slope": [[0.0]]}
        nodes += _moved("confidence", "confidence_column" if flat_confidence else called["confidence"])
        outputs[called["confidence"]] = ["batch", 1]
        if flat_confidence:
            outputs[called["confidence"]] = ["batch"]
            constants["one_axis"] = np.array([-1], np.int64)
            nodes.append(helper.make_node("Reshape", ["confidence_column", "one_axis"], [called["confidence"]]))
    return model_bytes(nodes, constants, {called["mel_spectrogram"]: list(shape)}, outputs, opset=opset)


OUTPUTS = ("positions", "uncertainties", "confidence")


def swayed(table: np.ndarray[Any, np.dtype[np.float32]], seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return t of `tiny_localizer` for features (rows, columns)."""
    return np.tanh(table.astype(np.float64) @ _weights(table.shape[1], seed)[:, 0])


def _weights(values: int, seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(scale=values**-0.5, size=(values, 1)).astype(np.float32)


def model_bytes(
    nodes: list[Any],
    constants: Mapping[str, Any],
    inputs: Mapping[str, list[int | str]],
    outputs: Mapping[str, list[int | str]],
    *,
    opset: int = 14,
    dtype: int = 1,
) -> bytes:
    """Return the file of a graph; `inputs` and `outputs` are shapes by name, `dtype` is that of the inputs."""
    from onnx import helper, numpy_helper

    made = [
        numpy_helper.from_array(value if isinstance(value, np.ndarray) else np.array(value, np.float32), name)
        for name, value in constants.items()
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, 1, shape) for name, shape in outputs.items()],
        made,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return bytes(model.SerializeToString())


def _moved(name: str, output: str) -> list[Any]:
    from onnx import helper

    return [
        helper.make_node("MatMul", ["t", f"{name}_slope"], [f"{name}_moved"]),
        helper.make_node("Add", [f"{name}_moved", f"{name}_base"], [output]),
    ]


def features(rows: int = 1, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return features as a job carries them: float32 (rows, 12288)."""
    return np.random.default_rng(seed).standard_normal((rows, int(np.prod(SHAPE))), np.float32)


def declared(model: bytes, **members: Any) -> dict[str, Any]:
    """Return a declaration in full with the hash of this model; `members` override, None leaves one out."""
    merged = {**DEGREES, "sha256": hashlib.sha256(model).hexdigest(), **members}
    return {name: value for name, value in merged.items() if value is not None}


def write_localizer(
    root: Path, model: bytes | None = None, *, name: str = "localization_model", number: str = "1", **members: Any
) -> Path:
    """Write models/<name>/model.onnx and localization.json, and return that folder; `members` as for `declared`."""
    model = tiny_localizer() if model is None else model
    folder = root / "models" / name
    folder.mkdir(parents=True, exist_ok=True)
    about = {"schema": 1, "declaration": declared(model, **members), "number": number}
    for file, data in (("model.onnx", model), ("localization.json", json.dumps(about).encode())):
        (folder / f".{file}").write_bytes(data)
        (folder / f".{file}").replace(folder / file)
    return folder


def register_localizer(
    url: str,
    model: bytes | None = None,
    *,
    name: str = "localization_model",
    alias: str | None = None,
    stage: str | None = None,
    tags: Mapping[str, Any] | None = None,
    manifest: Mapping[str, Any] | bytes | None = None,
    metrics: Mapping[str, float] | None = None,
    params: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
    as_file: bool = False,
) -> str:
    """Register a version and return its number.

    tags      of the version; those of `declared(model)` unless given. Lists become JSON
    manifest  is put beside the model as manifest.json
    files     more artifacts; `as_file` registers model.onnx itself and not its folder
    """
    from builders.mlflow_server import registry_client

    client = registry_client(url)
    model = tiny_localizer() if model is None else model
    tags = declared(model) if tags is None else tags
    experiment = client.get_experiment_by_name("localization")
    run = client.create_run(experiment.experiment_id if experiment else client.create_experiment("localization"))
    run_id = run.info.run_id
    for key, value in (metrics or {}).items():
        client.log_metric(run_id, key, value)
    for key, value in (params or {}).items():
        client.log_param(run_id, key, value)
    all_files = {"model.onnx": model, **(files or {})}
    if manifest is not None:
        all_files["manifest.json"] = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    with tempfile.TemporaryDirectory() as folder:
        for file, data in all_files.items():
            (Path(folder) / file).write_bytes(data)
        client.log_artifacts(run_id, folder, "model")
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    source = f"runs:/{run_id}/model/model.onnx" if as_file else f"runs:/{run_id}/model"
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in tags.items()}
    number = str(client.create_model_version(name, source, run_id, tags=texts).version)
    if alias is not None:
        client.set_registered_model_alias(name, alias, number)
    if stage is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # stages are deprecated, and still there
            client.transition_model_version_stage(name, number, stage)
    return number

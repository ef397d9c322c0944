"""Small ONNX ensembles, as versions of classifiers in a folder."""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from builders.learning_scenarios import a_generator, a_scenario
from builders.onnx_models import model_bytes
from uqueue_worker.learning.avro.writing import write_samples

NAME = "airguard"
CLASSES = ("NORMAL", "SMOULDERING", "ARCING")
FEATURES = (
    "sensor_readings_map.readings.U20_SPS30.mass_concentration_pm2_5_micrograms_per_m3",
    "sensor_readings_map.readings.U29_TFEMF.ac_field_strength_microteslas",
    "sample_metadata.U21_SHT85__relative_humidity_percent",
    "sample_metadata.U24_FT205__wind_speed_mps",
)
Float64 = np.ndarray[Any, np.dtype[np.float64]]


def weights_of(members: int, features: int, classes: int, seed: int) -> tuple[Float64, Float64]:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(features, members * classes)), generator.normal(size=(1, members * classes))


def tiny_ensemble(
    members: int = 5, features: int = len(FEATURES), classes: int = len(CLASSES), *, seed: int = 0, sway: float = 1.0
) -> bytes:
    """Return an ensemble of linear classifiers: softmax(columns @ weights + bias) of each member."""
    from onnx import helper

    weights, bias = weights_of(members, features, classes, seed)
    nodes = [
        helper.make_node("MatMul", ["features", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
        helper.make_node("Reshape", ["logits", "shape"], ["by_member"]),
        helper.make_node("Softmax", ["by_member"], ["members"], axis=-1),
    ]
    constants = {
        "weights": (sway * weights).astype(np.float32),
        "bias": bias.astype(np.float32),
        "shape": np.array([-1, members, classes], np.int64),
    }
    return model_bytes(nodes, constants, {"features": ["batch", features]}, {"members": ["batch", members, classes]})


def members_of(table: Any, members: int = 5, classes: int = len(CLASSES), seed: int = 0) -> Float64:
    """Return what `tiny_ensemble` answers for columns (rows, features), computed here: (rows, members, classes)."""
    columns = np.asarray(table, np.float32).astype(np.float64)
    weights, bias = weights_of(members, columns.shape[1], classes, seed)
    logits = (columns @ weights + bias).reshape(len(columns), members, classes)
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def manifest_of(model: bytes, version: str, *, name: str = NAME, members: int = 5, **changes: Any) -> dict[str, Any]:
    """Return a manifest as JSON has it; `changes` override, None leaves a member out."""
    made = {
        "model": name,
        "version": version,
        "format": "onnx",
        "file": "model.onnx",
        "sha256": hashlib.sha256(model).hexdigest(),
        "created": datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC).isoformat(),
        "classes": CLASSES,
        "feature_spec": [{"path": path, "impute": 0.5, "mean": 0.1, "std": 2.0, "median": 0.2} for path in FEATURES],
        "uncertainty": {"method": "ensemble" if members > 1 else "single_model", "members": members},
        **changes,
    }
    return {key: value for key, value in made.items() if value is not None}


def write_version(
    root: Path,
    version: str = "1",
    *,
    model: bytes | None = None,
    name: str = NAME,
    seed: int = 0,
    aliases: Sequence[str] = (),
    **changes: Any,
) -> Path:
    """Write <root>/<name>/<version>/ and let the aliases name it; return that folder. `changes` as in `manifest_of`."""
    model = tiny_ensemble(changes.get("members", 5), seed=seed) if model is None else model
    folder = root / name / version
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model)
    (folder / "manifest.json").write_text(json.dumps(manifest_of(model, version, name=name, **changes)))
    for alias in aliases:
        point(root, alias, version, name=name)
    return folder


def point(root: Path, alias: str, version: str, *, name: str = NAME) -> None:
    """Let an alias name a version, from one moment to the next."""
    path = root / name / "aliases.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    (root / name / ".aliases").write_text(json.dumps({**known, alias: version}))
    (root / name / ".aliases").replace(path)


@functools.cache
def _template() -> dict[str, Any]:
    """Return an exported sample with readings of several sensors."""
    with tempfile.TemporaryDirectory() as folder:
        generator = a_generator(Path(folder))
        raw = generator.generate_training_dataset(scenarios=[a_scenario("CoronaDischarge")], samples_per_scenario=1)
        found = generator.export(raw, "list_of_dicts", "template")
    assert isinstance(found, list)
    del found[0]["sensor_readings_map"]["readings"]["U26_Lepton35"]  # an image would be most of a file
    return dict(found[0])


def labelled_samples(count: int, *, seed: int = 0, plain: bool = False) -> Iterator[dict[str, Any]]:
    """Yield samples that an Avro file takes. Unless `plain`, some lack a reading or a label, some have a label that no
    model knows, and two share an id.
    """
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(count, len(FEATURES))).astype(np.float32).astype(float)
    chosen = generator.choice([*CLASSES, "UNHEARD_OF", None] if not plain else [*CLASSES], size=count)
    for number in range(count):
        template = _template()
        readings = dict(template["sensor_readings_map"]["readings"])
        metadata = dict(template["sample_metadata"])
        for path, value in zip(FEATURES, np.abs(values[number]).tolist(), strict=True):
            *_, sensor, name = path.split(".")
            if sensor in readings:
                readings[sensor] = None if not plain and number % 9 == 4 else {**readings[sensor], name: value}
            else:
                metadata[name] = value
        if readings.get("U20_SPS30"):
            readings["U20_SPS30"] = {key: value for key, value in readings["U20_SPS30"].items() if "pm" not in key} | {
                "mass_concentration_pm2_5_micrograms_per_m3": abs(float(values[number, 0])),
                "pm_sensor_type_specific": "SENSIRION_SPS30",
                "pm_status_flags_specific": [],
            }
        yield {
            **template,
            "sample_id": f"sample-{0 if not plain and number == 1 else number:06d}",
            "scenario_id": f"scenario-{number % 11}",
            "sensor_readings_map": {**template["sensor_readings_map"], "readings": readings},
            "ground_truth_labels": {**template["ground_truth_labels"], "event_type": chosen[number]},
            "extracted_class_label": None,
            "sample_metadata": metadata,
        }


def write_dataset(path: Path, count: int, *, seed: int = 0, plain: bool = False) -> Path:
    """Write `labelled_samples` to an Avro file."""
    report = write_samples(path, labelled_samples(count, seed=seed, plain=plain))
    assert report.written == count, list(report.rejected.items())[:3]
    return path

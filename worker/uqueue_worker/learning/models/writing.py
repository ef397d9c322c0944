"""Writing versions: a version appears whole or not at all, and the same key or content is the same version."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from uqueue_config.learning.model_manifest import (
    ALIASES_FILE,
    MANIFEST_FILE,
    ModelManifest,
    TrainingData,
    UncertaintyDeclaration,
)
from uqueue_config.learning.references import ModelRef
from uqueue_worker.learning.errors import ModelNotFound
from uqueue_worker.learning.models.forest_onnx import forest_onnx
from uqueue_worker.learning.models.training import FittedForest
from uqueue_worker.learning.models.versions import ModelFolder, is_name

MODEL_FILE = "model.onnx"
_VERSION_DIGITS = 16


def write_forest(
    root: str | Path,
    model: str,
    fitted: FittedForest,
    *,
    key: str | None = None,
    metrics: Mapping[str, float] | None = None,
    parent_version: str | None = None,
    conformal_q: float | None = None,
    dataset: str | None = None,
    created: datetime | None = None,
) -> ModelManifest:
    """Write `<root>/<model>/<version>/` with model.onnx and manifest.json, and return the manifest.

    The version is named by `key`, the idempotency key of whoever trains, or else by the content. Where that version is
    there already, it is returned as it is and nothing is written. `dataset` is what the training data are called.
    `conformal_q` takes the place of the quantile that training found.
    """
    data = forest_onnx(fitted)
    version = version_name(key) if key is not None else _content_name(data, fitted)
    n_trees = len(fitted.forest.estimators_)
    method = "single_model" if n_trees == 1 else "ensemble"
    told = fitted.training_data
    declared = UncertaintyDeclaration(
        method=method, members=n_trees, conformal_q=fitted.conformal_q if conformal_q is None else conformal_q
    )
    manifest = ModelManifest(
        model=_checked_name(model),
        version=version,
        format="onnx",
        file=MODEL_FILE,
        sha256=hashlib.sha256(data).hexdigest(),
        created=created or datetime.now(UTC),
        classes=fitted.classes,
        feature_spec=fitted.features,
        uncertainty=declared,
        metrics=dict(metrics or {}),
        training_data=(TrainingData(fingerprint=told.fingerprint, n=told.n, name=dataset),),
        training=fitted.training,
        parent_version=parent_version,
    )
    return write_version(root, manifest, data)


def write_version(root: str | Path, manifest: ModelManifest, data: bytes) -> ModelManifest:
    """Write a model file and its manifest as a version, and return the manifest that is there then.

    It is another one where the version was there already. Raises ValueError if the manifest is that of other bytes.
    """
    if hashlib.sha256(data).hexdigest() != manifest.sha256:
        raise ValueError("the manifest names the SHA-256 of another file")
    home = Path(root) / _checked_name(manifest.model)
    home.mkdir(parents=True, exist_ok=True)
    place = home / manifest.version
    if not place.exists():
        _write_folder(place, {manifest.file: data, MANIFEST_FILE: manifest.to_json().encode()})
    return ModelFolder(root, manifest.model).manifest(manifest.version)


def set_alias(root: str | Path, model: str, alias: str, version: str) -> None:
    """Let an alias name a version, all others unchanged; readers see the old or the new one.

    Raises ModelNotFound and ModelVersionNotFound; an alias may not be called as a version is (ValueError).
    """
    folder = ModelFolder(root, model)
    folder.manifest(version)
    if not is_name(alias):
        raise ValueError(f"an alias has letters, digits, '_', '-' and single dots, got {alias[:80]!r}")
    if (folder.path / alias).exists():
        raise ValueError(f"{alias} is the name of a version")
    with (folder.path / ".aliases.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        aliases = {**folder.aliases(), alias: version}
        _write_file(folder.path / ALIASES_FILE, json.dumps(aliases, sort_keys=True, indent=1).encode())


def alias_version(root: str | Path, model: str, alias: str) -> str | None:
    """Return the version that an alias names, None where nobody set it or there is no such model."""
    try:
        return ModelFolder(root, model).aliases().get(alias)
    except ModelNotFound:
        return None


def model_ref(root: str | Path, model: str, tag: str | None = None) -> ModelRef:
    """Return the reference of the version that a tag names now. Raises ModelNotFound and ModelVersionNotFound."""
    folder = ModelFolder(root, model)
    manifest = folder.manifest(folder.resolve(tag))
    return ModelRef(name=manifest.model, version=manifest.version, sha=manifest.sha256)


def version_name(key: str) -> str:
    """Return the name of the version that a key stands for: v and 16 hexadecimal digits."""
    return f"v{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:_VERSION_DIGITS]}"


def _content_name(data: bytes, fitted: FittedForest) -> str:
    described = json.dumps([one.model_dump(mode="json") for one in fitted.features], sort_keys=True)
    return version_name(f"{hashlib.sha256(data).hexdigest()} {described} {fitted.classes}")


def _checked_name(model: str) -> str:
    if not is_name(model):
        raise ModelNotFound(model=model[:200])
    return model


def _write_folder(place: Path, files: Mapping[str, bytes]) -> None:
    temporary = place.with_name(f".{place.name}.{uuid.uuid4().hex}.part")
    temporary.mkdir()
    try:
        for name, content in files.items():
            _write(temporary / name, content)
        temporary.rename(place)
    except OSError:
        if not place.exists():  # otherwise somebody else wrote the same version meanwhile
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_file(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        _write(temporary, content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

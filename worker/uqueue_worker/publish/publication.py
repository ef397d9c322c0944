"""A pair that is good enough to publish, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from uqueue_config.errors import SettingsError, StaleCalibration
from uqueue_config.settings import Settings
from uqueue_config.sources import LATEST, MLflowSource, S3Source
from uqueue_worker.artifacts import ArtifactPair, LocalFilesystemProvider, S3Connection
from uqueue_worker.artifacts.bucket import Bucket
from uqueue_worker.artifacts.manifest import Manifest
from uqueue_worker.artifacts.pair import fingerprint
from uqueue_worker.artifacts.s3_versions import S3Versions
from uqueue_worker.models import load_interval_model
from uqueue_worker.models.checks import check_candidate
from uqueue_worker.models.engine import ForwardMode
from uqueue_worker.publish.evidence import Evidence
from uqueue_worker.publish.to_mlflow import register


@dataclass(frozen=True)
class Publication:
    """What was published: under which version, in which place, and which names point to it now."""

    place: str
    version: str
    names: tuple[str, ...]
    manifest: Manifest

    def message(self) -> dict[str, Any]:
        files = self.manifest.files.model_dump(by_alias=True, exclude_none=True)
        return {
            "place": self.place,
            "version": self.version,
            "content": self.manifest.content,
            "weights": self.manifest.weights,
            "calibration": self.manifest.calibration,
            "names": list(self.names),
            "created_at": self.manifest.created_at,
            "files": files,
        }


def read_valid_pair(
    workspace: Path, name: str, *, forward_mode: ForwardMode = "dropout", evidence: Evidence | None = None
) -> ArtifactPair:
    """Return the pair in a workspace with its checks, after it was loaded, tested and checked as a worker does it.

    The checks are those of the workspace (mccp_checks.json), what the evidence adds, and a fingerprint of what the
    calibration is for. Raises ModelNotAvailable, ModelInvalid, InvalidFeatures for rows that cannot be used, or
    StaleCalibration where the calibration is older than the model.
    """
    pair = LocalFilesystemProvider(workspace, name).load()
    model = load_interval_model(pair, forward_mode=forward_mode)
    if pair.stale:
        raise StaleCalibration(model=name)
    checks = (evidence or Evidence()).checks(model, pair).to_json()
    pair = replace(pair, checks=checks, checks_file=fingerprint(checks, pair.state_file.mtime_ns))
    check_candidate(model, pair)
    return pair


def publish(
    pair: ArtifactPair,
    target: S3Source | MLflowSource,
    settings: Settings,
    *,
    version: str | None = None,
    aliases: Sequence[str] = (),
) -> Publication:
    """Upload a pair, and let the aliases name it; in a bucket "latest" does where no alias is given.

    What is there already is not uploaded again. Raises VersionTaken, SourceError and SettingsError.
    """
    if isinstance(target, MLflowSource):
        if settings.mlflow_tracking_url is None:
            raise SettingsError("Set UQUEUE_MLFLOW_TRACKING_URL to the address of the MLflow server.", problems=[])
        number, manifest = register(pair, target.model, settings.mlflow_tracking_url, aliases)
        names = tuple(f"{target}@{alias}" for alias in aliases)
        return Publication(f"{target}/{number} at {settings.mlflow_tracking_url}", number, names, manifest)
    versions = S3Versions(Bucket(target.bucket, S3Connection.of(settings)), target.prefix, pair.name)
    manifest = versions.upload(pair, version)
    pointers = [f"@{alias}" for alias in aliases] or [LATEST]
    for pointer in pointers:
        versions.point(pointer, manifest)
    names = tuple(str(S3Source(target.bucket, target.prefix, pointer)) for pointer in pointers)
    return Publication(versions.url(manifest.version), manifest.version, names, manifest)

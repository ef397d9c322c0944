"""From settings to where a model comes from."""

from __future__ import annotations

from pathlib import Path

from uqueue_config.classification import ENGINE as CLASSIFIER
from uqueue_config.settings import Settings
from uqueue_config.sources import FolderSource, MLflowSource, parse_source, parse_versions_folder
from uqueue_worker.artifacts.bucket import S3Connection
from uqueue_worker.artifacts.cache import ArtifactCache
from uqueue_worker.artifacts.classifier_folder import ClassifierFolder
from uqueue_worker.artifacts.local import LocalFilesystemProvider
from uqueue_worker.artifacts.localizer_folder import LocalizerFolder
from uqueue_worker.artifacts.localizer_registry import LocalizerRegistry
from uqueue_worker.artifacts.mlflow import MLflowProvider
from uqueue_worker.artifacts.provider import ModelProvider
from uqueue_worker.artifacts.s3 import S3Provider

#: How many versions of a model the cache keeps, where UQUEUE_CACHE_MAX_BYTES allows.
KEPT_VERSIONS = 10


def open_cache(settings: Settings, folder: Path) -> ArtifactCache:
    """Return the cache for these settings' source."""
    source = settings.artifact_source or str(settings.workspace_root or "")
    return ArtifactCache(folder, KEPT_VERSIONS, max_bytes=settings.cache_max_bytes, source=source)


def open_provider(settings: Settings, name: str, cache: ArtifactCache) -> ModelProvider | None:
    """Return the provider that the settings name, None where they name none. Nothing is opened yet.

    With the engine onnx it provides a localization model, with onnx-classifier a classifier, otherwise one with
    intervals.
    """
    if settings.engine == CLASSIFIER:
        place = settings.artifact_source or str(settings.workspace_root or "")
        return ClassifierFolder(parse_versions_folder(place), name) if place else None
    if settings.artifact_source is None:
        root, folder = (
            settings.workspace_root,
            LocalizerFolder if settings.engine == "onnx" else LocalFilesystemProvider,
        )
        return folder(root, name) if root else None
    source, url = parse_source(settings.artifact_source), settings.mlflow_tracking_url or ""
    if settings.engine == "onnx":
        if isinstance(source, MLflowSource):
            return LocalizerRegistry(settings.artifact_source, name, tracking_url=url, cache=cache)
        return LocalizerFolder(source.path, name) if isinstance(source, FolderSource) else None
    if isinstance(source, FolderSource):
        return LocalFilesystemProvider(source.path, name)
    if isinstance(source, MLflowSource):
        return MLflowProvider(settings.artifact_source, name, tracking_url=url, cache=cache)
    return S3Provider(settings.artifact_source, name, cache=cache, connection=S3Connection.of(settings))

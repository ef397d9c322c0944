"""Registered models on an MLflow server: bounded waits, and the one place that translates MLflow's errors."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from uqueue_config.errors import (
    IncompleteArtifact,
    ModelInvalid,
    SourceDenied,
    SourceError,
    SourceUnreachable,
)
from uqueue_config.sources import MLflowSource

#: The tag of a model version that holds the manifest of its files, and the one by which a content is found.
MANIFEST_TAG: Final = "uqueue.manifest"
CONTENT_TAG: Final = "uqueue.content"
#: … and the one by which weights are found that a further version need not upload.
WEIGHTS_TAG: Final = "uqueue.weights"
#: MLflow reads these from the environment only. What is set there already stays.
_VARIABLES: Final = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_DENIED: Final = {"UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"}
_BUSY: Final = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
_CHECK: Final = "UQUEUE_MLFLOW_TRACKING_URL"


class NotRegistered(Exception):
    """The registry has no such model, alias, stage or version; the text is the registry's."""


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered model. `created_ns` is when it was registered, in nanoseconds since the epoch.

    stage   "None" where the registry names none
    run_id  of the run that made it, where it says so
    """

    number: str
    created_ns: int
    tags: dict[str, str] = field(repr=False)
    stage: str = "None"
    run_id: str | None = None


class Registry:
    """Finds and reads the versions of one registered model. Nothing is opened before the first request."""

    def __init__(self, model: str, tracking_url: str) -> None:
        self._model = model
        self._url = tracking_url

    @property
    def url(self) -> str:
        return self._url

    @property
    def address(self) -> str:
        return f"MLflow at {self._url}"

    def find(self, source: MLflowSource) -> RegisteredVersion:
        """Return the version that the source names now. Raises NotRegistered and SourceError."""
        with self.translated():
            if source.kind == "alias":
                return _registered(self.client.get_model_version_by_alias(self._model, source.wanted))
            if source.kind == "version":
                return _registered(self.client.get_model_version(self._model, source.wanted))
            # MLflow's own call for stages is deprecated and warns.
            found = [one for one in self._search("") if str(one.current_stage).lower() == source.wanted.lower()]
        return _newest(found, f"no version of {self._model} is in the stage {source.wanted}")

    def find_content(self, content: str) -> RegisteredVersion:
        """Return the newest version that was published with this content. Raises NotRegistered and SourceError."""
        return self._find_tagged(CONTENT_TAG, content, "content")

    def find_weights(self, weights: str) -> RegisteredVersion:
        """Return the newest version that was published with these weights. Raises NotRegistered and SourceError."""
        return self._find_tagged(WEIGHTS_TAG, weights, "weights")

    def _find_tagged(self, tag: str, value: str, what: str) -> RegisteredVersion:
        with self.translated():
            found = self._search(f" and tags.`{tag}` = '{value}'")
        return _newest(found, f"no version of {self._model} has the {what} {value}")

    def versions(self) -> list[RegisteredVersion]:
        """Return what is registered and ready, newest first. Raises SourceError."""
        with self.translated():
            found = [one for one in self._search("") if one.status == "READY"]
        return [_registered(one) for one in sorted(found, key=lambda one: int(one.version), reverse=True)]

    def base(self, number: str) -> str:
        """Return where the artifacts of a version are. Raises NotRegistered and SourceError."""
        with self.translated():
            return str(self.client.get_model_version_download_uri(self._model, number))

    def names(self, number: str) -> set[str]:
        """Return what the artifacts of a version are called. Raises NotRegistered and SourceError."""
        base = self.base(number)
        if urlsplit(base).scheme in ("", "file"):
            return set()  # `read` says what is wrong with it
        with self.translated():
            return {one.path.rsplit("/", 1)[-1] for one in self.listing(base)}

    def read(self, number: str, file: str, limit_bytes: int) -> bytes:
        """Return a file of a version. Raises IncompleteArtifact where it is not there, ModelInvalid, SourceError."""
        name = f"models:/{self._model}/{number}/{file}"
        with tempfile.TemporaryDirectory(prefix="uqueue-") as folder:
            with self.translated():
                base = self.client.get_model_version_download_uri(self._model, number)
            if urlsplit(base).scheme in ("", "file"):
                raise ModelInvalid(file=name, reason="it lies in a folder of whoever registered it, not on the server")
            try:
                with self.translated():
                    self._check_listing(base, file, name, limit_bytes)
                    path = download(f"{base}/{file}", folder, self._url)
            except NotRegistered as error:  # what MLflow makes of every download that fails
                raise IncompleteArtifact(file=name, reason=f"it could not be downloaded ({error})") from error
            return Path(path).read_bytes()

    @cached_property
    def client(self) -> Any:
        """MLflow's own client."""
        for name, value in _VARIABLES.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            reason = 'mlflow is not installed here: pip install "uqueue[mlflow]"'
            raise SourceError(source=self.address, reason=reason) from error
        return MlflowClient(tracking_uri=self._url, registry_uri=self._url)

    def _search(self, condition: str) -> list[Any]:
        name = self._model.replace("'", "")
        return list(self.client.search_model_versions(f"name='{name}'{condition}"))

    def _check_listing(self, base: str, file: str, name: str, limit_bytes: int) -> None:
        sizes = [one.file_size or 0 for one in self.listing(base) if one.path.rsplit("/", 1)[-1] == file]
        if not sizes:
            raise IncompleteArtifact(file=name, reason="it is not there")
        if max(sizes) > limit_bytes:
            raise ModelInvalid(file=name, reason=f"it has {max(sizes)} bytes; at most {limit_bytes} are read")

    def listing(self, base: str) -> list[Any]:
        """Return MLflow's own description of what is in a folder of artifacts. Raises what MLflow does."""
        import mlflow.artifacts

        return list(mlflow.artifacts.list_artifacts(artifact_uri=base, tracking_uri=self._url))

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what MLflow raises in the block into NotRegistered and SourceError."""
        self.client  # noqa: B018 - says what to install where mlflow is not
        from mlflow.exceptions import MlflowException
        from requests import RequestException

        try:
            yield
        except MlflowException as error:
            raise self._answered(error) from error
        except (RequestException, OSError) as error:
            raise SourceUnreachable(source=self.address, reason=_sentence(error), check=_CHECK) from error

    def _answered(self, error: Any) -> Exception:
        code, status, reason = error.error_code, error.get_http_status_code(), _sentence(error)
        if code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "not found" in reason):
            return NotRegistered(reason)
        if code in _DENIED or "error code 401" in reason or "error code 403" in reason:
            check = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            return SourceDenied(source=self.address, reason=reason, check=check)
        if code == "ENDPOINT_NOT_FOUND" or "not in a valid JSON format" in reason:
            return SourceError(source=self.address, reason=f"{_CHECK} may be that of another service ({reason})")
        if code in _BUSY or status >= 500:
            return SourceUnreachable(source=self.address, reason=reason, check=_CHECK)
        return SourceError(source=self.address, reason=reason)


def download(uri: str, folder: str, url: str) -> str:
    """Return the path of one artifact, downloaded into a folder. Raises what MLflow does."""
    import mlflow.artifacts

    return str(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=url))


def _registered(version: Any) -> RegisteredVersion:
    if version.status != "READY":
        file = f"models:/{version.name}/{version.version}"
        raise IncompleteArtifact(file=file, reason=f"its status is {version.status}")
    created_ns = int(version.creation_timestamp) * 1_000_000
    stage, run_id = str(version.current_stage or "None"), str(version.run_id or "") or None
    return RegisteredVersion(str(version.version), created_ns, dict(version.tags), stage, run_id)


def _newest(found: list[Any], otherwise: str) -> RegisteredVersion:
    if not found:
        raise NotRegistered(otherwise)
    return _registered(max(found, key=lambda version: int(version.version)))


def _sentence(error: object) -> str:
    said = " ".join(str(error).split())
    return said.rpartition("(Caused by ")[2][:200].rstrip(".)")  # of a failed connection only the end tells why

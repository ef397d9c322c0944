"""Where artifacts come from, written as one text.

/path/to/workspace                          a folder with models/ and state/
s3://bucket/prefix                          what was published there last
s3://bucket/prefix?version=@canary          what the alias names
s3://bucket/prefix?version=2026-11-21       exactly this version
models:/name@production                     what the alias names in an MLflow registry
models:/name/Production, models:/name/3     the newest version in a stage; exactly this version

For classifiers, a folder with <model>/<version>/ and <model>/aliases.json:

/path/to/models                             what the alias production names there
/path/to/models?version=@latest             what another alias names
/path/to/models?version=7                   exactly this version
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import parse_qs, urlsplit

LATEST: Final = "latest"
SERVED_ALIAS: Final = "@production"
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_PREFIX: Final = re.compile(r"[A-Za-z0-9!_.*'()+=@-]+(/[A-Za-z0-9!_.*'()+=@-]+)*", re.ASCII)
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_CLASSIFIERS: Final = "classifiers (engine = onnx-classifier) come from a folder of versions"
_FOLDER_VERSION: Final = re.compile(r"@?[A-Za-z0-9][A-Za-z0-9_.-]{0,199}", re.ASCII)
_REGISTERED: Final = re.compile(r"[^/:@?#\s][^/:@?#]{0,199}")


@dataclass(frozen=True)
class FolderSource:
    """A workspace folder."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class S3Source:
    """A prefix in a bucket. `version` is "latest", "@" and an alias, or the name of a version."""

    bucket: str
    prefix: str = ""
    version: str = LATEST

    @property
    def place(self) -> str:
        """The URL without the version."""
        return f"s3://{self.bucket}/{self.prefix}" if self.prefix else f"s3://{self.bucket}"

    def __str__(self) -> str:
        return self.place if self.version == LATEST else f"{self.place}?version={self.version}"


@dataclass(frozen=True)
class MLflowSource:
    """A registered model. `wanted` is an alias, a stage or a version number, as `kind` says; "" where none is named."""

    model: str
    kind: Literal["none", "alias", "stage", "version"] = "none"
    wanted: str = ""

    def __str__(self) -> str:
        separator = {"none": "", "alias": "@", "stage": "/", "version": "/"}[self.kind]
        return f"models:/{self.model}{separator}{self.wanted}"


@dataclass(frozen=True)
class VersionsFolder:
    """A folder with versions of classifiers. `version` is "@" and an alias, or the name of a version's folder."""

    path: Path
    version: str = SERVED_ALIAS

    def __str__(self) -> str:
        return str(self.path) if self.version == SERVED_ALIAS else f"{self.path}?version={self.version}"


ArtifactSource = FolderSource | S3Source | MLflowSource


def parse_source(text: str) -> ArtifactSource:
    """Return what the text names. Raises ValueError saying what was expected."""
    if text.startswith("s3:"):
        return parse_s3(text)
    if text.startswith("models:"):
        return parse_mlflow(text)
    if not text.startswith("/"):
        raise ValueError("expected an absolute path, s3://bucket/prefix or models:/name@alias")
    return FolderSource(Path(text))


def is_label(text: str) -> bool:
    """Whether this may name a version or an alias in a bucket: letters, digits and ._- up to 64; a few are taken."""
    return _LABEL.fullmatch(text) is not None and text not in (LATEST, "aliases")


def parse_s3(text: str) -> S3Source:
    """Return what an s3:// URL names. Raises ValueError."""
    parts = urlsplit(text)
    bucket, prefix = parts.netloc, parts.path.strip("/")
    if parts.scheme != "s3" or not _BUCKET.fullmatch(bucket):
        raise ValueError("expected s3://bucket/prefix with 3 to 63 of a-z 0-9 . - in the bucket's name")
    if (prefix and not _PREFIX.fullmatch(prefix)) or {".", ".."} & set(prefix.split("/")) or parts.fragment:
        raise ValueError("expected s3://bucket/prefix with a prefix of plain words between slashes")
    query = parse_qs(parts.query, keep_blank_values=True)
    version = query.pop("version", [LATEST])
    if query or len(version) != 1 or not (version[0] == LATEST or is_label(version[0].removeprefix("@"))):
        raise ValueError("expected nothing after the prefix but ?version=latest, ?version=@alias or ?version=name")
    return S3Source(bucket, prefix, version[0])


def parse_mlflow(text: str) -> MLflowSource:
    """Return what a models:/ URL names. Raises ValueError."""
    scheme, _, path = text.partition(":/")
    model, at, alias = path.partition("@")
    if not at:
        model, _, version = path.partition("/")
        kind: Literal["version", "stage"] = "version" if version.isascii() and version.isdigit() else "stage"
        source = MLflowSource(model, kind, version) if version else MLflowSource(model)
    else:
        source = MLflowSource(model, "alias", alias)
    if (
        scheme != "models"
        or not _REGISTERED.fullmatch(model)
        or not (source.kind == "none" or _LABEL.fullmatch(source.wanted))
    ):
        raise ValueError("expected models:/name@alias, models:/name/Stage or models:/name/3")
    return source


def parse_versions_folder(text: str) -> VersionsFolder:
    """Return what the source of a classifier names. Raises ValueError."""
    folder, question, query = text.partition("?")
    version = query.removeprefix("version=") if question else SERVED_ALIAS
    named = not question or query.startswith("version=")
    if not folder.startswith("/") or not named or not _FOLDER_VERSION.fullmatch(version):
        raise ValueError(f"{_CLASSIFIERS}: /folder, /folder?version=@alias or /folder?version=name")
    return VersionsFolder(Path(folder), version)

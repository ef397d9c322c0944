"""The last good artifacts of each model on this machine's disk, for when their source does not answer.

    <folder>/<name>/<version>/model.h5 (or model.pt), mccp_state.pkl, checks-<hash>.json where there are any, pair.json
    <folder>/<name>/<version>/model.onnx, localization.json (a classifier's: manifest.json), pair.json
    <folder>/<name>/named-<key>          the content of something that its source does not say the content of
    <folder>/<name>/served-<source>      the version of this source that was last taken over here

A version's folder is written beside its place and renamed into it, so other processes see all of it or nothing. What is
read back is hashed and must have the hashes in pair.json and those of the version asked for. A process leases the
version it serves, which keeps others from removing it. Other checks of the same version are written beside the old
ones, and then pair.json is replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from uqueue_config.errors import ModelInvalid
from uqueue_worker.artifacts.leases import Lease, remove_unless_leased, taking_turns
from uqueue_worker.artifacts.pair import (
    DECLARATION_FILE,
    MANIFEST_FILE,
    MODEL_FILES,
    ONNX_FILE,
    STATE_FILE,
    ArtifactPair,
    fingerprint,
    pair_version,
)

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
_VERSION: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
_UNFINISHED: Final = ".writing-"
_UNFINISHED_SECONDS: Final = 3600
_TRIES: Final = 3
_KNOWN: Final = (*MODEL_FILES, ONNX_FILE)


class ArtifactCache:
    """Keeps the `keep` versions of each model that were used last, together at most `max_bytes` where that is given.

    Safe to share between processes of one user. What a process serves stays, whatever the limits say. The folder is
    made on the first `put`, for this user only (0700). A folder that belongs to another user, or that others may write
    to, could hold anything: `put` then raises ModelInvalid, and `get` finds nothing. `source` says where pairs come
    from, for `last_served`.
    """

    def __init__(self, folder: Path, keep: int = 3, *, max_bytes: int | None = None, source: str = "") -> None:
        self._folder = Path(folder)
        self._keep = max(1, keep)
        self._max_bytes = max_bytes
        self._pointer = f"served-{hashlib.sha256(source.encode()).hexdigest()[:16]}"
        self._leases: dict[str, Lease] = {}

    def place(self, name: str, version: str) -> Path:
        """Return the folder of a version, whether or not it is there."""
        return self._folder / name / version

    def put(self, pair: ArtifactPair, *, serving: bool = True) -> None:
        """Store this pair and drop the ones that were used least recently.

        With `serving` it is what this process answers with from now on, until the next pair of the same name.
        Raises ModelInvalid for a name or a folder that will not do, OSError where nothing can be written.
        """
        models = self._prepare(pair.name)
        for _ in range(_TRIES):  # another process may remove it before it is leased
            there = self.get(pair.name, pair.version)
            with contextlib.suppress(FileNotFoundError):
                if there is None:
                    self._write(models, pair)
                elif there.checks != pair.checks:
                    _rewrite_checks(models, pair)
                else:
                    os.utime(models / pair.version)
            if not serving or self._lease(pair):
                break
        self._prune(models, pair.version)

    def _prepare(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ModelInvalid(file=str(self._folder), reason=f"{name!r:.80} cannot name a model")
        models = self._folder / name
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self._folder, models):
            folder.mkdir(mode=0o700, exist_ok=True)
            if reason := _unsafe(folder):
                raise ModelInvalid(file=str(folder), reason=reason)
        return models

    def _lease(self, pair: ArtifactPair) -> bool:
        models = self._folder / pair.name
        try:
            lease = Lease(models / pair.version)
        except FileNotFoundError:
            return False
        self._leases[pair.name] = lease
        _point(models / self._pointer, pair.version)
        return lease.holds

    def remember(self, name: str, key: str, version: str) -> None:
        """Note that what a source calls `key` has this version. Raises ModelInvalid and OSError as `put` does."""
        _point(self._prepare(name) / _named(key), version)

    def remembered(self, name: str, key: str) -> str:
        """Return the version that was noted for this key, "" where none was."""
        try:
            return _content(self._folder / name / _named(key)).decode("ascii") if _NAME.fullmatch(name) else ""
        except (OSError, ValueError):
            return ""

    def last_served(self, name: str) -> ArtifactPair | None:
        """Return the pair of this cache's source that a process here last took over; None where there is none."""
        if not _NAME.fullmatch(name):
            return None
        try:
            version = _content(self._folder / name / self._pointer).decode("ascii")
        except (OSError, ValueError):
            return None
        return self.get(name, version)

    @contextlib.contextmanager
    def turn(self, name: str, patience_seconds: float) -> Iterator[None]:
        """Let one process of this machine at a time fetch what is missing; nobody waits longer than that."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(ModelInvalid, OSError):  # a cache that cannot be used is no reason to fail
                stack.enter_context(taking_turns(self._prepare(name) / "turn", patience_seconds))
            yield

    def get(self, name: str, version: str) -> ArtifactPair | None:
        """Return the pair with this name and version; None where it is missing, damaged or not safely kept."""
        if not _NAME.fullmatch(name) or not _VERSION.fullmatch(version):
            return None
        models = self._folder / name
        try:
            if any(_unsafe(folder) for folder in (self._folder, models, models / version)):
                return None
            return _read(models / version, name, version)
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def versions(self, name: str) -> list[str]:
        """Return the stored versions of a model, newest first."""
        if not _NAME.fullmatch(name):
            return []
        return [folder.name for folder in _versions(self._folder / name)]

    def _write(self, models: Path, pair: ArtifactPair) -> None:
        unfinished = _unfinished(models)
        try:
            _write_files(unfinished, pair)
            try:
                unfinished.rename(models / pair.version)
            except OSError:
                # Something is there already: another process was faster, or `put` found what is there damaged.
                if self.get(pair.name, pair.version) is None:
                    _replace(models / pair.version, unfinished)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _prune(self, models: Path, newest: str) -> None:
        for folder in _by_age(models):
            if folder.name.startswith(_UNFINISHED) and _abandoned(folder, models):
                shutil.rmtree(folder, ignore_errors=True)
        for folder in _versions(models)[self._keep :]:
            if folder.name != newest:
                remove_unless_leased(folder)
        if self._max_bytes is not None:
            self._shrink(models / newest, self._max_bytes)

    def _shrink(self, newest: Path, max_bytes: int) -> None:
        folders = [folder for model in _by_age(self._folder) for folder in _versions(model)]
        sizes = {folder: _size(folder) for folder in folders}
        total = sum(sizes.values())
        for folder in sorted(folders, key=_age):
            if total <= max_bytes:
                break
            if folder != newest and remove_unless_leased(folder):
                total -= sizes[folder]


def _named(key: str) -> str:
    return f"named-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _point(pointer: Path, version: str) -> None:
    """Let this file hold this version, from one moment to the next."""
    written = _unfinished(pointer.parent)
    try:
        (written / "pointer").write_text(version)
        (written / "pointer").replace(pointer)
    finally:
        shutil.rmtree(written, ignore_errors=True)


def _replace(damaged: Path, finished: Path) -> None:
    """Put `finished` where something damaged is; another process may be doing the same, or removing it."""
    aside = _unfinished(damaged.parent)
    try:
        with contextlib.suppress(FileNotFoundError):
            damaged.rename(aside / "damaged")
        with contextlib.suppress(OSError):
            finished.rename(damaged)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _unfinished(models: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=models))


def _rewrite_checks(models: Path, pair: ArtifactPair) -> None:
    """Let the stored version have these checks. Raises OSError."""
    folder, written = models / pair.version, _unfinished(models)
    try:
        _write_checks(written, pair)
        for path in sorted(written.iterdir()):  # checks-….json, and then pair.json, which names it
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(written, ignore_errors=True)


def _write_files(folder: Path, pair: ArtifactPair) -> None:
    (folder / pair.model_filename).write_bytes(pair.model)
    (folder / pair.state_filename).write_bytes(pair.state)
    _write_checks(folder, pair)


def _write_checks(folder: Path, pair: ArtifactPair) -> None:
    about: dict[str, Any] = {"name": pair.name, "version": pair.version}
    about |= {"model_file": vars(pair.model_file), "state_file": vars(pair.state_file)}
    if pair.model_filename != MODEL_FILES[0]:
        about["model_filename"] = pair.model_filename
    if pair.is_classifier:
        about["is_classifier"] = True
    if pair.checks is not None and pair.checks_file is not None:
        about["checks_file"] = vars(pair.checks_file)
        (folder / _checks_name(pair.checks_file.sha256)).write_bytes(pair.checks)
    (folder / "pair.json").write_text(json.dumps(about))


def _checks_name(sha256: str) -> str:
    return f"checks-{sha256[:16]}.json"


def _read(folder: Path, name: str, version: str) -> ArtifactPair | None:
    about: dict[str, Any] = json.loads(_content(folder / "pair.json"))
    model_filename = _KNOWN[_KNOWN.index(dict(about).get("model_filename", MODEL_FILES[0]))]
    is_classifier = about.pop("is_classifier", False) is True
    state_filename = MANIFEST_FILE if is_classifier else DECLARATION_FILE if model_filename == ONNX_FILE else STATE_FILE
    model, state = _content(folder / model_filename), _content(folder / state_filename)
    model_file = fingerprint(model, int(about["model_file"]["mtime_ns"]))
    state_file = fingerprint(state, int(about["state_file"]["mtime_ns"]))
    recorded = {"name": name, "version": version, "model_file": vars(model_file), "state_file": vars(state_file)}
    checks = checks_file = None
    if "checks_file" in about:
        checks = _content(folder / _checks_name(about["checks_file"]["sha256"]))
        checks_file = fingerprint(checks, int(about["checks_file"]["mtime_ns"]))
        recorded["checks_file"] = vars(checks_file)
    about.pop("model_filename", None)
    if about != recorded or version != pair_version(model_file.sha256, state_file.sha256):
        return None
    files = (model_file, state_file, model_filename, checks, checks_file)
    return ArtifactPair(name, model, state, *files, is_classifier=is_classifier)


def _content(path: Path) -> bytes:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError("not a regular file")
    return path.read_bytes()


def _unsafe(folder: Path) -> str:
    """Return why this folder cannot be trusted, "" where it can."""
    status = folder.stat() if not folder.is_symlink() else folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return "it is not a folder"
    if status.st_uid != os.geteuid():
        return "it belongs to another user"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "other users may write to it"
    return ""


def _by_age(models: Path) -> list[Path]:
    """Return the folders in it, newest first; what vanishes meanwhile is left out."""
    found: list[tuple[int, Path]] = []
    try:
        for entry in os.scandir(models):
            found.append((entry.stat(follow_symlinks=False).st_mtime_ns, Path(entry.path)))
    except OSError:
        return []
    return [path for _, path in sorted(found, reverse=True)]


def _versions(models: Path) -> list[Path]:
    return [folder for folder in _by_age(models) if _VERSION.fullmatch(folder.name)]


def _age(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return folder.stat().st_mtime_ns
    return 0


def _size(folder: Path) -> int:
    with contextlib.suppress(OSError):
        return sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(folder))
    return 0


def _abandoned(folder: Path, models: Path) -> bool:
    """Tell whether the writer of this unfinished folder is long gone, by the clock of the file system."""
    try:
        return models.stat().st_mtime - folder.stat().st_mtime > _UNFINISHED_SECONDS
    except OSError:
        return False

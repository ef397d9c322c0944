"""What `uqueue doctor` finds where models come from: in folders by itself, elsewhere with the worker's code."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uqueue.cli.findings import Finding
from uqueue.cli.output import short
from uqueue_config.catalog import Catalog
from uqueue_config.classification import ENGINE as CLASSIFIER
from uqueue_config.errors import SettingsError
from uqueue_config.settings import Settings
from uqueue_config.sources import LATEST, FolderSource, parse_source, parse_versions_folder

LOOK_SECONDS = 120.0


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield a finding for every track that has a source."""
    try:
        catalog = Catalog.load(settings)
    except SettingsError as error:
        yield Finding("models", "fail", error.message, "Correct the file, or unset UQUEUE_MODELS.")
        return
    several, remote = len(catalog.tracks) > 1, False
    for spec in catalog.models.values():
        for track, source in spec.tracks:
            if spec.engine == CLASSIFIER:
                if source:
                    yield _classifier(f"models of {track}" if several else "models", source, spec.name)
                continue
            folder = FolderSource(settings.workspace_root) if settings.workspace_root else None
            parsed = parse_source(source) if source else folder
            if isinstance(parsed, FolderSource):
                look = _localizer if spec.engine == "onnx" else _workspace
                yield look(f"workspace of {track}" if several else "workspace", parsed.path, spec.name)
            remote = remote or not (parsed is None or isinstance(parsed, FolderSource))
    if remote:
        yield from _remote(several)


def _workspace(check: str, root: Path, model: str) -> Finding:
    folder = root / "models" / model
    found = [file for file in (folder / "model.h5", folder / "model.pt") if file.is_file()]
    if len(found) > 1:
        return Finding(check, "fail", f"{folder} holds model.h5 and model.pt", "Remove the one not to be served.")
    files = [found[0] if found else folder / "model.h5", root / "state" / model / "mccp_state.pkl"]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        advice = "Run training and calibration, or `uqueue sample-workspace DIR`."
        return Finding(check, "fail", f"missing: {', '.join(missing)}", advice)
    if files[0].stat().st_mtime > files[1].stat().st_mtime:
        return Finding(check, "warn", "the calibration is older than the model", "Run the calibration again.")
    return Finding(check, "ok", f"{root} holds a model and its calibration")


def _localizer(check: str, root: Path, model: str) -> Finding:
    folder = root / "models" / model
    missing = [str(file) for file in (folder / "model.onnx", folder / "localization.json") if not file.is_file()]
    if missing:
        advice = "Put an exported model and its declaration there (docs/localization.md)."
        return Finding(check, "fail", f"missing: {', '.join(missing)}", advice)
    return Finding(check, "ok", f"{root} holds a localization model and its declaration")


def _classifier(check: str, source: str, model: str) -> Finding:
    """Look for the version that the source names; workers say more of what is in its files."""
    try:
        place = parse_versions_folder(source)
        home = place.path / model
        name = place.version
        if name.startswith("@") and name != f"@{LATEST}":
            name = str(json.loads((home / "aliases.json").read_text())[name[1:]])
    except (ValueError, TypeError, KeyError, OSError) as error:
        advice = "Put versions and aliases.json there, as training does (docs/learning/models.md)."
        return Finding(check, "fail", f"{source} names no version of {model} ({type(error).__name__}: {error})", advice)
    if name == f"@{LATEST}":
        versions = [path for path in home.glob("*/manifest.json") if (path.parent / "model.onnx").is_file()]
        if versions:
            return Finding(check, "ok", f"{home} holds {len(versions)} versions")
    missing = [
        str(home / name / file) for file in ("model.onnx", "manifest.json") if not (home / name / file).is_file()
    ]
    if missing:
        return Finding(check, "fail", f"missing: {', '.join(missing)}", "Train a version, or move the alias to one.")
    return Finding(check, "ok", f"{home} holds version {name}")


def _remote(several: bool) -> Iterator[Finding]:
    """Ask a process of the worker, which has what it takes to talk to buckets and registries."""
    command = [sys.executable, "-m", "uqueue_worker.source_check"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LOOK_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        yield Finding("source", "fail", f"no answer in {LOOK_SECONDS:g} s", "Check the network, and the worker's log.")
        return
    if done.returncode != 0:
        last = next(iter(done.stderr.strip().splitlines()[-1:]), f"exit code {done.returncode}")
        yield Finding("source", "fail", f"the look at it ended with: {last}", f"Try `{' '.join(command[1:])}`.")
        return
    for one in json.loads(done.stdout):
        yield _said(one, f"source of {one['track']}" if several and "track" in one else "source")


def _said(one: dict[str, Any], check: str) -> Finding:
    if "version" in one:
        return Finding(check, "ok", f"{one['source']} holds {short(one['version'])}, whole")
    if one["code"] == "not_installed":
        return Finding(check, "warn", f"not looked at: {one['message']}", "Workers need it; this command does not.")
    return Finding(check, "fail", one["message"], f"docs/troubleshooting.md says more, under {one['code']}.")

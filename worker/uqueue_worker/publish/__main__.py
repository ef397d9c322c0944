"""`python -m uqueue_worker.publish WORKSPACE --to URL`: what `uqueue publish` runs. Data on stdout, problems on stderr.

Exit codes: 0 published, 1 the store or registry refused, 2 nothing was tried (arguments, settings or the pair are
wrong), 3 it cannot be reached.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, get_args

from uqueue_config.errors import (
    InvalidFeatures,
    ModelError,
    SettingsError,
    SourceError,
    SourceUnreachable,
    UqueueError,
    VersionTaken,
)
from uqueue_config.messages import MODEL_NAME
from uqueue_config.names import DEFAULT_MODEL
from uqueue_config.settings import Settings
from uqueue_config.sources import LATEST, MLflowSource, S3Source, is_label, parse_source
from uqueue_worker.models.engine import ForwardMode
from uqueue_worker.publish.evidence import Evidence
from uqueue_worker.publish.publication import Publication, publish, read_valid_pair


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage text around it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message[:1].upper()}{message[1:]}; see --help.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m uqueue_worker.publish", description="Publish a trained and calibrated pair.")
    parser.add_argument("workspace", type=Path, metavar="WORKSPACE", help="folder with models/ and state/")
    parser.add_argument("--to", type=_target, required=True, metavar="URL", help="s3://bucket/prefix or models:/name")
    parser.add_argument("--alias", type=_label, action="append", default=[], help="name that is to point to it")
    parser.add_argument("--version", type=_label, help="what to call it in a bucket")
    parser.add_argument("--model", type=_model, default=DEFAULT_MODEL, help="the model's name in the workspace")
    parser.add_argument("--golden", type=Path, metavar="CSV", help="rows whose answers each worker must give as well")
    parser.add_argument("--labelled", type=Path, metavar="CSV", help="rows with targets, to test the coverage with")
    parser.add_argument("--calibration-rows", type=_count, metavar="N", help="how many points the calibration used")
    parser.add_argument("--forward-mode", choices=get_args(ForwardMode), help="what the calibration was made for")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _target(text: str) -> S3Source | MLflowSource:
    try:
        source = parse_source(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    if isinstance(source, S3Source) and source.version == LATEST:
        return source
    if isinstance(source, MLflowSource) and source.kind == "none":
        return source
    raise argparse.ArgumentTypeError(f"{text!r}: expected s3://bucket/prefix or models:/name, and see --alias")


def _label(text: str) -> str:
    if not is_label(text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected letters, digits and ._-, at most 64, and not {LATEST!r}")
    return text


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _model(text: str) -> str:
    if not re.fullmatch(MODEL_NAME, text):
        raise argparse.ArgumentTypeError(f"{text!r} cannot name a model")
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Publish, and return the exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.version and isinstance(arguments.to, MLflowSource):
        parser.error("argument --version: MLflow numbers its versions itself")
    try:
        settings = Settings.load()
        evidence = Evidence(arguments.golden, arguments.labelled, arguments.calibration_rows)
        forward_mode = arguments.forward_mode or settings.forward_mode
        pair = read_valid_pair(arguments.workspace, arguments.model, forward_mode=forward_mode, evidence=evidence)
        done = publish(pair, arguments.to, settings, version=arguments.version, aliases=arguments.alias)
    except (ModelError, InvalidFeatures, SettingsError) as error:
        sys.stderr.write(f"{error.message}\n")
        return _code(error)
    sys.stdout.write(f"{json.dumps(done.message(), indent=2)}\n" if arguments.json else _text(done))
    return 0


def _code(error: UqueueError) -> int:
    if isinstance(error, SourceUnreachable):
        return 3
    return 1 if isinstance(error, SourceError | VersionTaken) else 2


def _text(done: Publication) -> str:
    manifest = done.manifest
    versions = f"weights {manifest.weights}, calibration {manifest.calibration}"
    lines = [f"version {done.version}, content {manifest.content}", versions, done.place]
    for name, file in manifest.files.listed.items():
        kept_as = f", VersionId {file.version_id}" if file.version_id else ""
        lines.append(f"{name:14}  {file.size_bytes} bytes, sha256 {file.sha256}{kept_as}")
    lines += [f"{name} names it now" for name in done.names]
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())

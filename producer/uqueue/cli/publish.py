"""The command that puts a trained and calibrated pair where workers look for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from uqueue.cli.service import WORKER_MODULES, require
from uqueue_config.names import DEFAULT_MODEL


def publish(
    workspace: Annotated[Path, typer.Argument(help="Folder with models/ and state/.")],
    to: Annotated[str, typer.Option("--to", metavar="URL", help="s3://bucket/prefix, or models:/name in MLflow.")],
    alias: Annotated[
        list[str] | None, typer.Option(help="Name that is to point to it, and no longer to another; may be repeated.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="What to call it in a bucket; a hash of its content unless set.")
    ] = None,
    golden: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Rows of features; each worker must answer them as now.")
    ] = None,
    labelled: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Rows of features and targets; the intervals must hold enough of them."),
    ] = None,
    calibration_rows: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="How many points the calibration used, for --labelled.")
    ] = None,
    forward_mode: Annotated[
        str | None,
        typer.Option(metavar="MODE", help="dropout or deterministic, as calibrated; UQUEUE_FORWARD_MODE unless set."),
    ] = None,
    model: Annotated[str, typer.Option(help="The model's name in the workspace.")] = DEFAULT_MODEL,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check a model with its calibration, and upload both so that workers see all of it or nothing.

    What the calibration is for is published with them (stop rule, forward mode, preprocessing, weights): a worker that
    would serve it with anything else refuses, and so does one that fails the golden or labelled rows.

    Without --alias, "latest" in the bucket names it from then on.
    """
    require("worker", *WORKER_MODULES)
    require("mlflow", "mlflow") if to.startswith("models:") else require("s3", "boto3")
    arguments = ["--to", to, "--model", model]
    arguments += [part for name in alias or () for part in ("--alias", name)]
    given = {
        "--version": version,
        "--golden": golden,
        "--labelled": labelled,
        "--calibration-rows": calibration_rows,
        "--forward-mode": forward_mode,
    }
    arguments += [f"{option}={value}" for option, value in given.items() if value is not None]
    command = [
        sys.executable,
        "-m",
        "uqueue_worker.publish",
        *arguments,
        *(["--json"] if json else []),
        "--",
        str(workspace),
    ]
    code = subprocess.run(command, check=False).returncode
    if code:
        raise typer.Exit(code)


COMMANDS: dict[str, Callable[..., None]] = {"publish": publish}

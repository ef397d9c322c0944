"""Commands about the sample localization model: train one, and the demo around it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from uqueue.cli.demo_localization import run as run_demo
from uqueue.cli.service import TRAINING_MODULES, require

LOCALIZER_MODULES = (*TRAINING_MODULES, "onnx", "onnxruntime")
#: What a registry on this computer takes; mlflow-skinny alone is a client.
REGISTRY_MODULES = ("mlflow", "alembic", "flask", "gunicorn", "sqlalchemy")
DEMO_MODULES = (*LOCALIZER_MODULES, *REGISTRY_MODULES, "fastapi", "matplotlib", "pyproj", "uvicorn")


def sample_localizer(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write it.")] = Path("sample-localizer"),
    register: Annotated[
        str | None,
        typer.Option(metavar="URL", help='Register it in this MLflow server too; "local" runs one in DIR/mlflow.'),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed trains another model.")] = 0,
    training: Annotated[int | None, typer.Option(min=1, help="Simulated emitters to learn from.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON document.")] = False,
) -> None:
    """Train a small localization model on simulated emitters, calibrate and measure it. About a minute.

    DIR gets the ONNX model with its declaration, a report, and recordings of held-out emitters.
    """
    require("demo,onnx", *LOCALIZER_MODULES)
    if register is not None:
        require("dev" if register == "local" else "mlflow", *(REGISTRY_MODULES if register == "local" else ["mlflow"]))
    arguments = [str(folder), "--seed", str(seed), *(["--json"] if json else [])]
    given = {"--register": register, "--training": training}
    arguments += [f"{option}={value}" for option, value in given.items() if value is not None]
    command = [sys.executable, "-m", "uqueue_worker.sample.localizer", *arguments]
    _leave(subprocess.run(command, check=False).returncode)


def demo_localization(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where map and GeoJSON go.")] = Path(
        "localization-demo"
    ),
    keep: Annotated[bool, typer.Option("--keep", help="Keep the folder with the models and logs.")] = False,
) -> None:
    """Train and register a localization model, serve it over HTTP, replace it, and draw a map. About three minutes."""
    require("dev", *DEMO_MODULES)
    _leave(run_demo(output, keep=keep))


COMMANDS: dict[str, Callable[..., None]] = {
    "sample-localizer": sample_localizer,
    "demo-localization": demo_localization,
}


def _leave(code: int) -> None:
    if code:
        raise typer.Exit(code)

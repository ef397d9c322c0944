"""What the parts of the benchmark have in common: options, a workspace, a file of results."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "docs" / "benchmarks"


def parser(text: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every part understands."""
    options = argparse.ArgumentParser(description=text.splitlines()[0])
    options.add_argument("--folder", type=Path, help="where results go: docs/benchmarks, or a temporary one if quick")
    options.add_argument("--quick", action="store_true", help="a fraction of the jobs, once: shows that it works")
    options.add_argument(
        "--workspace", type=Path, help="a folder with model and state; a sample is trained unless given"
    )
    return options


def measure_part(name: str, options: argparse.Namespace, measure: Callable[[], dict[str, Any]]) -> None:
    """Write what `measure` finds to `NAME.json`, with the date and how busy the machine was before."""
    folder = results_folder(options)
    about: dict[str, Any] = {"date": datetime.now(UTC).isoformat(timespec="minutes"), "quick": options.quick}
    load, started = os.getloadavg()[0], time.monotonic()
    found = measure()
    about |= {"load_before": round(load, 2), "seconds": round(time.monotonic() - started)}
    (folder / f"{name}.json").write_text(json.dumps({**about, **found}, indent=1) + "\n")
    say(f"{folder / name}.json is written")


def results_folder(options: argparse.Namespace) -> Path:
    """Return the folder asked for, made if need be; a quick run never overwrites the results of a real one unasked."""
    folder = options.folder or (Path(tempfile.mkdtemp(prefix="uqueue-bench-")) if options.quick else RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    return Path(folder)


@contextmanager
def workspace(given: Path | None) -> Iterator[Path]:
    """Yield the workspace given, or a new sample."""
    if given is not None:
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        say("training the sample model")
        subprocess.run([sys.executable, "-m", "uqueue_worker.sample", "make", folder], check=True, stdout=sys.stderr)
        yield Path(folder)


def say(step: str) -> None:
    """Tell a waiting person what happens now."""
    print(f"... {step}", file=sys.stderr, flush=True)

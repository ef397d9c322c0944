"""The whole benchmark: measures every part and writes docs/benchmarks. `make bench` calls it.

    python benchmarks/run.py [--quick] [--parts queues,service] [--contenders uqueue-lane,huey] [--folder FOLDER]

A quarter of an hour on two idle cores; --quick takes two minutes and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import report
from part import parser, results_folder, say, workspace

HERE = Path(__file__).parent
MEASURED = report.PARTS[1:]
KNOWN = (*MEASURED, *report.ON_REQUEST)


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--parts", default=",".join(MEASURED), help=f"which, by comma: {', '.join(KNOWN)}")
    options.add_argument("--contenders", help="which contenders of the part `queues`, by comma")
    given = options.parse_args()
    if unknown := set(given.parts.split(",")) - set(KNOWN):
        options.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(KNOWN)}")
    given.folder = results_folder(given)
    failed = measure([part for part in KNOWN if part in given.parts.split(",")], given)
    report.write(given.folder)
    say(f"{given.folder / 'README.md'} is written")
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def measure(parts: list[str], given: argparse.Namespace) -> list[str]:
    """Run each part in a process of its own; return those that failed."""
    failed = []
    with workspace(given.workspace) as folder:
        common = ["--folder", str(given.folder), "--workspace", str(folder), *(["--quick"] if given.quick else [])]
        for part in ("machine", *parts):
            (given.folder / f"{part}.json").unlink(missing_ok=True)  # rather nothing than figures of another day
            more = ["--contenders", given.contenders] if given.contenders and part == "queues" else []
            command = [sys.executable, str(HERE / f"{part}.py"), *common, *more]
            environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "OPENBLAS_NUM_THREADS": "1"}
            if subprocess.run(command, env=environment, check=False).returncode != 0:
                failed.append(part)
    return failed


if __name__ == "__main__":
    sys.exit(main())

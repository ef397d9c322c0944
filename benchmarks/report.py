"""From the results of the parts to a page and its pictures.

python benchmarks/report.py [--folder docs/benchmarks]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pages
from part import RESULTS

PARTS = ("machine", "queues", "service", "engines", "startup", "web")
#: Measured only when asked for: it trains two models first.
ON_REQUEST = ("localization",)


def read(folder: Path) -> dict[str, Any]:
    """Return the results of each part that was measured."""
    paths = {name: folder / f"{name}.json" for name in (*PARTS, *ON_REQUEST)}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def draw(folder: Path, found: dict[str, Any]) -> None:
    """Write the pictures of the parts that were measured."""
    import figures

    if "queues" in found:
        rows = pages.contender_rows(found["queues"])
        if drained := [row for row in rows if "jobs_per_second" in row]:
            figures.throughput(folder / "jobs-per-second.png", drained)
        if trips := pages.trip_rows(rows):
            figures.round_trip(folder / "round-trip.png", trips)
    if "service" in found:
        figures.growth(folder / "growth.png", found["service"])
    if "engines" in found:
        figures.engines(folder / "engines.png", found["engines"])


def write(folder: Path) -> None:
    """Write README.md and the pictures beside the results."""
    found = read(folder)
    draw(folder, found)
    (folder / "README.md").write_text(pages.page(found))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument(
        "--folder", type=Path, default=RESULTS, help="where the results are (default: docs/benchmarks)"
    )
    write(options.parse_args().folder)


if __name__ == "__main__":
    main()

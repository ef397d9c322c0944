"""`uqueue learn demo`: blind spots of a fire-precursor classifier, found and closed through the queue.

python -m uqueue_worker.learning.demo [--quick] [--output DIR]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from uqueue_config.errors import SettingsError
from uqueue_worker.learning.demo.playing import FULL, QUICK, play_demo
from uqueue_worker.learning.demo.stage import DemoStopped


def main() -> int:
    """Play the demo; return the exit code: 1 where something did not work, 2 for a wrong folder."""
    options = argparse.ArgumentParser(prog="uqueue learn demo", description="Active learning through the queue.")
    options.add_argument("--quick", action="store_true", help="fewer seeds, cycles and samples: less than a minute")
    options.add_argument("--output", type=Path, default=Path("learning-report"), help="folder of the report")
    given = options.parse_args()
    try:
        play_demo(QUICK if given.quick else FULL, given.output)
    except DemoStopped as stopped:
        print(f"error: {stopped}", file=sys.stderr)  # noqa: T201 - people read it
        return 1
    except SettingsError as error:
        print(f"error: {error.message}", file=sys.stderr)  # noqa: T201 - people read it
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

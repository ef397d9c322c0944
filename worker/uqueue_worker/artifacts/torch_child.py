"""The process in which a PyTorch file is read for the first time; see `torch_probe`, which starts it.

Nothing in the file is run, but its code is parsed by Python's own parser and its entries are unpacked by zlib.
"""

from __future__ import annotations

import json
import sys
from typing import Final

from uqueue_config.errors import UqueueError
from uqueue_worker.artifacts.child_limits import limit_this_process
from uqueue_worker.artifacts.torch_file import read_torch_file

CPU_SECONDS: Final = 5.0


def main() -> None:
    """Read the file from stdin, its name from the arguments; print what is wrong with it, or an empty object."""
    data = sys.stdin.buffer.read()
    limit_this_process(len(data), cpu_seconds=CPU_SECONDS, memory_times_size=8)
    answer = {}
    try:
        read_torch_file(data, file=sys.argv[1])
    except UqueueError as error:
        answer = {"error": error.to_wire()}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()

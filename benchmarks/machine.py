"""Where the figures were taken: processor, operating system, and the version of everything that takes part.

python benchmarks/machine.py [--folder FOLDER]
"""

from __future__ import annotations

import os
import platform
import tempfile
from pathlib import Path
from typing import Any

import redis

from contenders import CONTENDERS, installed_version
from part import measure_part, parser
from uqueue.embedded import start_redis

ALSO = ("numpy", "numba", "scipy", "h5py", "keras", "tensorflow-cpu", "tensorflow", "pydantic", "hiredis", "matplotlib")


def machine() -> dict[str, Any]:
    names = {name for contender in CONTENDERS for name in contender.distributions} | set(ALSO)
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "redis_server": _server(),
        "versions": {name: version for name in sorted(names) if (version := installed_version(name)) is not None},
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    found = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    return found or platform.processor() or platform.machine()


def _server() -> str:
    with (
        tempfile.TemporaryDirectory() as folder,
        start_redis(Path(folder)) as server,
        redis.Redis.from_url(server.url) as connection,
    ):
        info: dict[str, Any] = connection.info("server")  # type: ignore[assignment]
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info.get('redis_version', 'of unknown version')}"


def main() -> None:
    given = parser(__doc__).parse_args()
    measure_part("machine", given, machine)


if __name__ == "__main__":
    main()

"""The process in which an ONNX file is read and run for the first time; see `onnx_probe`, which starts it.

A model is a program: one that takes all memory, never ends or crashes the runtime is to do so here.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Final

from uqueue_config.errors import ModelInvalid, UqueueError
from uqueue_worker.artifacts.child_limits import limit_this_process

CPU_SECONDS: Final = 20.0
SECONDS_PER_GIGABYTE: Final = 60.0
TRIED_ROWS: Final = (1, 3)


def try_onnx(data: bytes, row: tuple[int, ...], *, file: str) -> None:
    """Check a model, load it and run it for a few rows. Raises ModelInvalid and UnsafeArtifact."""
    import numpy as np

    from uqueue_worker.artifacts.onnx_ports import check_answers, find_ports, probe_rows
    from uqueue_worker.artifacts.onnx_runtime import open_session, ports_of, said
    from uqueue_worker.artifacts.onnx_structure import check_onnx_structure

    check_onnx_structure(data, file=file)
    session = open_session(data, file=file)
    ports = find_ports(*ports_of(session), row, file=file)
    for rows in TRIED_ROWS:
        try:
            values = session.run(ports.outputs, {ports.input: probe_rows(rows, row)})
        except Exception as error:  # its classes have no common one
            raise ModelInvalid(file=file, reason=f"a trial run of {rows} rows failed ({said(error)})") from error
        answers = dict(zip(ports.outputs, values, strict=True))
        if problem := check_answers(ports, answers, rows):
            raise ModelInvalid(file=file, reason=f"in a trial run of {rows} rows, {problem}")
        for name, answer in answers.items():
            if not np.isfinite(answer).all():
                raise ModelInvalid(file=file, reason=f"in a trial run output {name} is not finite")


def main() -> None:
    """Read the file from stdin, its name and the shape of a row from the arguments; print what is wrong, or {}."""
    data = sys.stdin.buffer.read()
    row = tuple(int(size) for size in sys.argv[2].split(","))
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # each of its threads would reserve memory
    cpu_seconds = CPU_SECONDS + len(data) / 1e9 * SECONDS_PER_GIGABYTE
    limit_this_process(len(data), cpu_seconds=cpu_seconds, memory_times_size=8)
    answer: dict[str, Any] = {}
    try:
        try_onnx(data, row, file=sys.argv[1])
    except UqueueError as error:
        answer = {"error": error.to_wire()}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()

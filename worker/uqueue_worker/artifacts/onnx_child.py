"""The process in which an ONNX file is read and run for the first time; see `onnx_probe`, which starts it.

A model is a program: one that takes all memory, never ends or crashes the runtime is to do so here.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from uqueue_config.errors import ModelInvalid, UqueueError
from uqueue_worker.artifacts.child_limits import limit_this_process

if TYPE_CHECKING:
    from uqueue_worker.artifacts.ensemble_ports import EnsembleShape

CPU_SECONDS: Final = 20.0
SECONDS_PER_GIGABYTE: Final = 60.0
TRIED_ROWS: Final = (1, 3)


def try_onnx(data: bytes, row: tuple[int, ...], *, file: str) -> None:
    """Check a localization model, load it and run it for a few rows. Raises ModelInvalid and UnsafeArtifact."""
    import numpy as np

    from uqueue_worker.artifacts.onnx_ports import check_answers, find_ports, probe_rows
    from uqueue_worker.artifacts.onnx_runtime import ports_of

    session = _session(data, file)
    ports = find_ports(*ports_of(session), row, file=file)
    for rows in TRIED_ROWS:
        answers = _run(session, ports.outputs, {ports.input: probe_rows(rows, row)}, rows, file)
        if problem := check_answers(ports, answers, rows):
            raise ModelInvalid(file=file, reason=f"in a trial run of {rows} rows, {problem}")
        for name, answer in answers.items():
            if not np.isfinite(answer).all():
                raise ModelInvalid(file=file, reason=f"in a trial run output {name} is not finite")


def try_ensemble(data: bytes, shape: EnsembleShape, *, file: str) -> None:
    """Check a classifier, load it and run it for a few rows. Raises ModelInvalid and UnsafeArtifact."""
    from uqueue_worker.artifacts.ensemble_ports import INPUT, OUTPUT, check_members, check_ports, probe_table
    from uqueue_worker.artifacts.onnx_runtime import ports_of

    session = _session(data, file)
    check_ports(*ports_of(session), shape, file=file)
    for rows in TRIED_ROWS:
        answer = _run(session, [OUTPUT], {INPUT: probe_table(rows, shape)}, rows, file)[OUTPUT]
        if problem := check_members(answer, shape, rows):
            raise ModelInvalid(file=file, reason=f"in a trial run of {rows} rows, {problem}")


def _session(data: bytes, file: str) -> Any:
    from uqueue_worker.artifacts.onnx_runtime import open_session
    from uqueue_worker.artifacts.onnx_structure import check_onnx_structure

    check_onnx_structure(data, file=file)
    return open_session(data, file=file)


def _run(session: Any, outputs: list[str], feed: dict[str, Any], rows: int, file: str) -> dict[str, Any]:
    from uqueue_worker.artifacts.onnx_runtime import said

    try:
        values = session.run(outputs, feed)
    except Exception as error:  # its classes have no common one
        raise ModelInvalid(file=file, reason=f"a trial run of {rows} rows failed ({said(error)})") from error
    return dict(zip(outputs, values, strict=True))


def main() -> None:
    """Read the file from stdin; its name, its kind and its sizes from the arguments; print what is wrong, or {}."""
    data = sys.stdin.buffer.read()
    file, kind, sizes = sys.argv[1:4]
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # each of its threads would reserve memory
    cpu_seconds = CPU_SECONDS + len(data) / 1e9 * SECONDS_PER_GIGABYTE
    limit_this_process(len(data), cpu_seconds=cpu_seconds, memory_times_size=8)
    answer: dict[str, Any] = {}
    try:
        if kind == "ensemble":
            from uqueue_worker.artifacts.ensemble_ports import EnsembleShape

            try_ensemble(data, EnsembleShape.parse(sizes), file=file)
        else:
            try_onnx(data, tuple(map(int, sizes.split(","))), file=file)
    except UqueueError as error:
        answer = {"error": error.to_wire()}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()

"""Reads and runs an ONNX file in a process of its own before this one does."""

from __future__ import annotations

from uqueue_worker.artifacts.ensemble_ports import EnsembleShape
from uqueue_worker.artifacts.first_reading import read_first

DAMAGE = "a trial run does not end, takes too much memory, or crashes ONNX Runtime"


def probe_onnx(data: bytes, row: tuple[int, ...], *, file: str) -> None:
    """Have the model checked, loaded and run for features (n, *row) by a process with limits.

    Raises what `onnx_child.try_onnx` raises, and ModelInvalid where the process crashed or had to be ended.
    """
    read_first("onnx_child", data, "localizer", ",".join(map(str, row)), file=file, damage=DAMAGE)


def probe_ensemble(data: bytes, shape: EnsembleShape, *, file: str) -> None:
    """Have a classifier checked, loaded and run likewise. Raises as `probe_onnx` does."""
    read_first("onnx_child", data, "ensemble", str(shape), file=file, damage=DAMAGE)

"""Reads a PyTorch file in a process of its own before this one does."""

from __future__ import annotations

from uqueue_worker.artifacts.first_reading import read_first

DAMAGE = "the PyTorch file is damaged (reading it does not end, or takes too much memory)"


def probe_torch(data: bytes, *, file: str) -> None:
    """Have the file read by a process with limits, so that bytes which come through can be read here.

    Raises what `read_torch_file` raises, and ModelInvalid where the process crashed or had to be ended.
    """
    read_first("torch_child", data, file=file, damage=DAMAGE)

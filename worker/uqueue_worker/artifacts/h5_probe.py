"""Reads an H5 file in a process of its own: on some damaged files the HDF5 library loops for ever or crashes."""

from __future__ import annotations

from uqueue_worker.artifacts.first_reading import read_first

DAMAGE = "the HDF5 structure is damaged (reading it does not end, or crashes the reader)"


def probe_h5(data: bytes, *, file: str) -> dict[str, str | None]:
    """Return the texts `model_config`, `keras_version` and `backend` of the root, read by a process made for it.

    That process also reads every attribute and array once, so bytes that came through can be opened here. Raises what
    `h5_child.inspect_h5` raises, and ModelInvalid where the process crashed or had to be ended.
    """
    answer = read_first("h5_child", data, file=file, damage=DAMAGE)
    return {name: answer[name] for name in ("model_config", "keras_version", "backend")}

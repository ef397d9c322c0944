"""The files of a SigMF recording, and the windows of it that a model is asked about."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue.localization import Recording, read_recording
from uqueue_config.errors import InvalidRecording

METADATA, DATA = ".sigmf-meta", ".sigmf-data"
MAX_METADATA_BYTES = 16 * 2**20
MAX_DATA_BYTES = 512 * 2**20


@dataclass(frozen=True, eq=False)
class Window:
    """A part of a recording: samples complex64 (channels, count), from sample `start` on."""

    start: int
    samples: NDArray[np.complex64]
    frequency_hz: float | None

    @property
    def count(self) -> int:
        return self.samples.shape[1]


@dataclass(frozen=True, eq=False)
class Opened:
    """A recording with the files it came from."""

    path: Path
    data_path: Path
    metadata: bytes
    recording: Recording

    @property
    def length(self) -> int:
        return self.recording.samples.shape[1]

    def windows(self, number: int, samples: int) -> list[Window]:
        """Return `number` windows, spread evenly; one lies in the middle. A short recording is one window.

        Raises InvalidRecording where so many windows would overlap.
        """
        size = min(samples, self.length) if number == 1 else samples
        if number * size > self.length:
            raise InvalidRecording(
                reason=f"{number} windows of {samples} samples were asked for, it has {self.length} per channel. "
                f"At most {self.length // samples} fit: see --windows and --window-samples"
            )
        starts = [(2 * index + 1) * self.length // (2 * number) - size // 2 for index in range(number)]
        return [
            Window(start, self.recording.samples[:, start : start + size], self._frequency(start)) for start in starts
        ]

    def _frequency(self, start: int) -> float | None:
        document = json.loads(self.metadata)
        at = start + document["global"].get("core:offset", 0)
        frequency = None
        for capture in document["captures"]:
            if capture["core:sample_start"] <= at:
                frequency = capture.get("core:frequency")
        return frequency


def open_recording(path: Path) -> Opened:
    """Return the recording whose metadata are in this file. Raises InvalidRecording, saying what to do."""
    if path.is_dir():
        raise InvalidRecording(reason=f"{path} is a folder; name the {METADATA} file in it")
    if path.suffix == ".sigmf":
        raise InvalidRecording(reason=f"{path} is an archive; unpack it (tar -xf) and name the {METADATA} file in it")
    if path.suffix != METADATA:
        raise InvalidRecording(reason=f"{path} is no {METADATA} file")
    metadata = _read(path, MAX_METADATA_BYTES)
    data_path = path.parent / _data_name(path, metadata)
    if not data_path.is_file():
        raise InvalidRecording(reason=f"its data are not there: {data_path}")
    return Opened(path, data_path, metadata, read_recording(metadata, _read(data_path, MAX_DATA_BYTES)))


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file, or what a link leads to, in one step; it keeps its mode. Raises OSError."""
    path = path.resolve()
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    descriptor, unfinished = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        os.chmod(unfinished, mode)
        os.replace(unfinished, path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


def _data_name(path: Path, metadata: bytes) -> str:
    """Return the name of the data file: the metadata's own, or the one that they state."""
    try:
        stated: Any = json.loads(metadata)["global"].get("core:dataset")
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):  # read_recording will say what is wrong
        stated = None
    if stated is None:
        return path.stem + DATA
    if not isinstance(stated, str) or stated in ("", ".", "..") or stated != Path(stated).name or "\0" in stated:
        raise InvalidRecording(reason="core:dataset must be the name of a file in the same folder")
    return stated


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InvalidRecording(reason=f"{path}: {error.strerror or type(error).__name__}") from error
    if len(data) > limit:
        raise InvalidRecording(reason=f"{path} is larger than {limit >> 20} MB; cut out the part of interest")
    return data

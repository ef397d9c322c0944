"""What a publisher gives workers to check a pair with: rows in CSV files."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from uqueue_config.errors import InvalidFeatures
from uqueue_worker.artifacts import ArtifactPair, Checks
from uqueue_worker.artifacts.checks_file import MAX_GOLDEN_ROWS, MAX_LABELLED_ROWS
from uqueue_worker.models import IntervalModel
from uqueue_worker.models.checks import record_checks

MAX_FILE_BYTES: Final = 16 * 1024**2
GOLDEN_SEED: Final = 1
LABELLED_SEED: Final = 2


@dataclass(frozen=True)
class Evidence:
    """Files of rows, and how many points the calibration used; what is None is not known.

    golden    rows of features
    labelled  rows of features, each followed by its targets
    """

    golden: Path | None = None
    labelled: Path | None = None
    n_calibration: int | None = None

    def checks(self, model: IntervalModel, pair: ArtifactPair) -> Checks:
        """Return the checks to publish with a pair, from which the model was loaded. Raises InvalidFeatures."""
        golden = labelled = None
        if self.golden is not None:
            what = f"{model.n_features} features"
            golden = read_table(self.golden, model.n_features, MAX_GOLDEN_ROWS, what), GOLDEN_SEED
        if self.labelled is not None:
            what = f"{model.n_features} features and {model.n_targets} targets"
            rows = read_table(self.labelled, model.n_features + model.n_targets, MAX_LABELLED_ROWS, what)
            labelled = rows[:, : model.n_features], rows[:, model.n_features :], LABELLED_SEED
        return record_checks(model, pair, golden=golden, labelled=labelled, n_calibration=self.n_calibration)


def read_table(path: Path, columns: int, most_rows: int, what: str) -> NDArray[np.float64]:
    """Return a CSV file of numbers as float64 (rows, columns). A first line without any number is a header.

    Raises InvalidFeatures with the file and line; `what` says there what a row holds.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise _refused(f"{path} cannot be read ({error.strerror})") from error
    if len(data) > MAX_FILE_BYTES:
        raise _refused(f"{path} is larger than {MAX_FILE_BYTES >> 20} MB")
    lines = _lines(data, path)
    if lines and not any(_is_number(cell) for cell in lines[0][1]):
        lines = lines[1:]
    if not lines:
        raise _refused(f"{path} holds no rows")
    if len(lines) > most_rows:
        raise _refused(f"{path} holds {len(lines)} rows; give at most {most_rows}")
    for number, cells in lines:
        if len(cells) != columns:
            raise _refused(f"{path}, line {number}: expected {columns} columns ({what}), got {len(cells)}")
        for cell in cells:
            if not _is_number(cell):
                raise _refused(f"{path}, line {number}: expected a finite number, got {cell[:40]!r}")
    return np.array([[float(cell) for cell in cells] for _, cells in lines])


def _lines(data: bytes, path: Path) -> list[tuple[int, list[str]]]:
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        return [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise _refused(f"{path} is not CSV ({error})") from None


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell)) and "_" not in cell  # which Python reads as a number
    except ValueError:
        return False


def _refused(reason: str) -> InvalidFeatures:
    return InvalidFeatures(f"{reason}.", reason=reason)

"""An ensemble classifier in ONNX Runtime: columns in, the probabilities of its members out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from uqueue_config.errors import ModelInvalid
from uqueue_worker.artifacts.ensemble_ports import (
    INPUT,
    OUTPUT,
    EnsembleShape,
    check_members,
    check_ports,
    probe_table,
)
from uqueue_worker.artifacts.onnx_runtime import CPU, open_session, ports_of, said

Float32 = NDArray[np.float32]
#: What one run answers is bounded: so many rows, and so many probabilities.
MOST_ROWS: Final = 4096
MOST_CELLS: Final = 4_000_000


class RunFailed(Exception):
    """ONNX Runtime could not evaluate the model."""


class OutputInvalid(Exception):
    """The model answered what are no probabilities of its members."""


class EnsembleSession:
    """One model, loaded for this process; not to be carried over a fork. Any number of threads may run it."""

    def __init__(
        self,
        model: bytes,
        shape: EnsembleShape,
        *,
        file: str,
        providers: tuple[str, ...] = CPU,
        threads: int = 1,
    ) -> None:
        """Load a checked model of this shape, and warm it up. Raises ModelInvalid."""
        self.shape = shape
        self._rows_per_run = max(1, min(MOST_ROWS, MOST_CELLS // (shape.members * shape.classes)))
        self._session: Any = open_session(model, file=file, providers=providers, threads=threads)
        check_ports(*ports_of(self._session), shape, file=file)
        try:
            self._run(probe_table(2, shape))
        except (RunFailed, OutputInvalid) as error:
            raise ModelInvalid(file=file, reason=f"its warm-up failed ({error})") from error

    def run(self, columns: Float32, on_progress: Callable[[int], None] | None = None) -> Iterator[Float32]:
        """Yield the members' probabilities, float32 (rows, members, classes), of one part of the rows after the other.

        `on_progress(rows_done)` is called between the parts, and what it raises ends the run. Raises RunFailed and
        OutputInvalid.
        """
        for first in range(0, len(columns), self._rows_per_run):
            if first and on_progress is not None:
                on_progress(first)
            yield self._run(columns[first : first + self._rows_per_run])

    def _run(self, columns: Float32) -> Float32:
        try:
            (answer,) = self._session.run([OUTPUT], {INPUT: columns})
        except Exception as error:  # its classes have no common one
            raise RunFailed(said(error)) from error
        if problem := check_members(answer, self.shape, len(columns)):
            raise OutputInvalid(problem)
        members: Float32 = answer
        return members

"""A localization model in ONNX Runtime: arrays in, the numbers of its outputs out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from uqueue_config.errors import ModelInvalid
from uqueue_worker.artifacts.onnx_ports import Port, check_answers, find_ports, probe_rows
from uqueue_worker.artifacts.onnx_runtime import CPU, open_session, ports_of, said
from uqueue_worker.localization.decoding import Raw

Float32 = NDArray[np.float32]
MAX_BATCH: Final = 32


@dataclass(frozen=True)
class OnnxOptions:
    """How models run: on which of ONNX Runtime's providers, with how many threads, and at most how many rows at a time.

    There should be no more processes times threads than cores.
    """

    providers: tuple[str, ...] = CPU
    threads: int = 1
    max_batch: int = MAX_BATCH


class RunFailed(Exception):
    """ONNX Runtime could not evaluate the model, or it answered in another shape than it has to; the text says why."""


class OnnxSession:
    """One model, loaded for this process; not to be carried over a fork. Any number of threads may run it."""

    def __init__(self, model: bytes, row: tuple[int, ...], options: OnnxOptions, *, file: str) -> None:
        """Load a checked model of features (n, *row), and warm it up. Raises ModelInvalid."""
        self._options = options
        self._row = row
        self._session: Any = open_session(model, file=file, providers=options.providers, threads=options.threads)
        inputs, self.outputs = ports_of(self._session)
        self.input: Port = inputs[0] if inputs else Port("", "", ())
        self.ports = find_ports(inputs, self.outputs, row, file=file)
        try:
            self.run(probe_rows(2, row))
        except RunFailed as error:
            raise ModelInvalid(file=file, reason=f"its warm-up failed ({error})") from error

    def run(self, features: Float32, on_progress: Callable[[int], None] | None = None) -> tuple[Raw, float]:
        """Return the outputs for features (n, *row) and how many seconds the model took for them.

        More rows than `max_batch` are run one part after the other; `on_progress(rows_done)` is called between them,
        and what it raises ends the run. Raises RunFailed.
        """
        parts, begun = [], time.perf_counter()
        for first in range(0, len(features), self._options.max_batch):
            if first and on_progress is not None:
                on_progress(first)
            parts.append(self._run(features[first : first + self._options.max_batch]))
        return _joined(parts), time.perf_counter() - begun

    def _run(self, features: Float32) -> Raw:
        names = self.ports.outputs
        try:
            values = self._session.run(names, {self.ports.input: features.reshape(-1, *self._row)})
        except Exception as error:  # its classes have no common one
            raise RunFailed(said(error)) from error
        answers = dict(zip(names, values, strict=True))
        if problem := check_answers(self.ports, answers, len(features)):
            raise RunFailed(problem)
        sigma, confidence = self.ports.sigma, self.ports.confidence
        return Raw(
            answers[self.ports.position],
            None if sigma is None else answers[sigma],
            None if confidence is None else answers[confidence].reshape(len(features)),
        )


def threads_for(processes: int) -> int:
    """Return how many threads each of so many processes may use on this machine's cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // max(1, processes))


def _joined(parts: Sequence[Raw]) -> Raw:
    if len(parts) == 1:
        return parts[0]
    return Raw(
        np.concatenate([part.position for part in parts]),
        np.concatenate([part.sigma for part in parts if part.sigma is not None])
        if parts[0].sigma is not None
        else None,
        np.concatenate([part.confidence for part in parts if part.confidence is not None])
        if parts[0].confidence is not None
        else None,
    )

"""A model of MLflow that answers rows of named columns with probabilities, from an ONNX file of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


class Probabilities:
    def __init__(self, path: Path) -> None:
        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def predict(self, data: Any) -> Any:
        """Return float64 (rows, classes) for a DataFrame."""
        if (data["sample_metadata.U21_SHT85__relative_humidity_percent"] < 0).any():
            raise ValueError("humidity below zero")
        (members,) = self._session.run(None, {"features": data.to_numpy(np.float32)})
        return members.mean(axis=1, dtype=np.float64)


def _load_pyfunc(path: str) -> Probabilities:
    return Probabilities(Path(path) / "model.onnx")

"""What comes back: intervals, how they were made, and by which model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uqueue_config.arrays import Encoding, decode_array, encode_array
from uqueue_config.errors import InvalidMessage

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class FileFingerprint:
    """One artifact file as it was read: content hash, bytes, modification time in nanoseconds."""

    sha256: str
    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class ModelIdentity:
    """Which model answered. `version` names the pair of files; `sha256` is that of the model file."""

    name: str
    version: str
    sha256: str
    state_sha256: str
    model_file: FileFingerprint
    state_file: FileFingerprint
    keras_version: str | None
    engine: str

    @property
    def weights_version(self) -> str:
        """16 hex characters that name the weights alone."""
        return self.sha256[:16]

    @property
    def calibration_version(self) -> str:
        """16 hex characters that name the calibration alone; a new calibration of the same weights changes only it."""
        return self.state_sha256[:16]

    def to_message(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "sha256": self.sha256,
            "state_sha256": self.state_sha256,
            "model_file": vars(self.model_file),
            "state_file": vars(self.state_file),
            "keras_version": self.keras_version,
            "engine": self.engine,
        }

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> ModelIdentity:
        files = {name: FileFingerprint(**message[name]) for name in ("model_file", "state_file")}
        return cls(**{**message, **files})


@dataclass(frozen=True, eq=False)
class IntervalPrediction:
    """Prediction intervals for `rows` inputs and `targets` outputs, in model units unless `unit` says otherwise.

    lower, upper      float64 (rows, targets), lower may exceed upper: see `crossed`
    passes_used       int (rows,), Monte Carlo passes until the stop rule held
    converged         bool (rows,), False where `max_mc` ended the passes
    crossed           bool (rows,), lower > upper for some target; the numbers are kept as computed
    failed            bool (rows,), the model's output was not finite; such a row holds NaN here and null in JSON
    pass_std          float32 (rows, 2, targets), standard deviation over the passes of the lower and upper quantile
    q_hat             float64 (targets,), the conformal correction
    nominal_coverage  1 - alpha, per target and not jointly; None when the calibration does not say
    """

    lower: FloatArray
    upper: FloatArray
    passes_used: NDArray[np.int32]
    converged: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    pass_std: NDArray[np.float32]
    q_hat: FloatArray
    seed: int
    stochastic: bool
    forward_mode: str
    nominal_coverage: float | None
    model: ModelIdentity
    unit: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def midpoint(self) -> FloatArray:
        """(rows, targets), halfway between lower and upper."""
        return (self.lower + self.upper) / 2

    @property
    def width(self) -> FloatArray:
        """(rows, targets), upper - lower."""
        return self.upper - self.lower

    @property
    def crossed(self) -> NDArray[np.bool_]:
        """(rows,), True where lower > upper for some target."""
        return np.asarray((self.lower > self.upper).any(axis=1))

    @property
    def intervals(self) -> FloatArray:
        """(targets,), mean width over the rows that did not fail; 0 where all did."""
        good = self.width[~self.failed]
        return good.mean(axis=0) if len(good) else np.zeros(self.lower.shape[1])

    def __len__(self) -> int:
        return len(self.lower)

    def to_message(self, encoding: Encoding = "lists") -> dict[str, Any]:
        """Return the JSON form (schema 1), with arrays in the encoding asked for (see `uqueue_config.arrays`)."""
        arrays: dict[str, NDArray[Any]] = {
            "lower": self.lower,
            "upper": self.upper,
            "midpoint": self.midpoint,
            "width": self.width,
            "passes_used": self.passes_used,
            "converged": self.converged,
            "crossed": self.crossed,
            "failed": self.failed,
            "pass_std": self.pass_std,
        }
        return {
            "schema": 1,
            **{name: encode_array(array, encoding, blank_rows=self.failed) for name, array in arrays.items()},
            "intervals": self.intervals.tolist(),
            "q_hat": self.q_hat.tolist(),
            "seed": self.seed,
            "stochastic": self.stochastic,
            "forward_mode": self.forward_mode,
            "nominal_coverage": self.nominal_coverage,
            "model": self.model.to_message(),
            "unit": self.unit,
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> IntervalPrediction:
        """Read what `to_message` wrote. Raises InvalidMessage when it is of another schema or not complete."""
        if message.get("schema") != 1:
            raise InvalidMessage(reason=f"result schema {message.get('schema')!r}, this version reads 1")
        try:
            failed = decode_array(message["failed"], "|b1")
            prediction = cls(
                lower=decode_array(message["lower"], "<f8", blank_rows=failed),
                upper=decode_array(message["upper"], "<f8", blank_rows=failed),
                passes_used=decode_array(message["passes_used"], "<i4"),
                converged=decode_array(message["converged"], "|b1"),
                failed=failed,
                pass_std=decode_array(message["pass_std"], "<f4", blank_rows=failed),
                q_hat=np.asarray(message["q_hat"], dtype=np.float64),
                seed=int(message["seed"]),
                stochastic=bool(message["stochastic"]),
                forward_mode=str(message["forward_mode"]),
                nominal_coverage=message["nominal_coverage"],
                model=ModelIdentity.from_message(message["model"]),
                unit=message["unit"],
                warnings=tuple(message["warnings"]),
            )
            prediction._check_shapes()
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidMessage(reason=f"the result cannot be read ({error!r})") from error
        return prediction

    def _check_shapes(self) -> None:
        rows, targets = self.lower.shape
        expected = {
            "upper": (rows, targets),
            "passes_used": (rows,),
            "converged": (rows,),
            "failed": (rows,),
            "pass_std": (rows, 2, targets),
            "q_hat": (targets,),
        }
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name}: expected shape {shape}, got {getattr(self, name).shape}")

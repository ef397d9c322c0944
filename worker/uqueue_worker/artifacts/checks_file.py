"""What a candidate must stand up to before it serves: the file checks.json, which anybody may have written."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from uqueue_config.errors import InvalidChecks
from uqueue_worker.artifacts.local import MAX_CHECKS_BYTES

MAX_GOLDEN_ROWS: Final = 1_000
MAX_LABELLED_ROWS: Final = 10_000

Mode = Literal["dropout", "deterministic"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Row = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1)]
_STRICT: Final = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class StopRule(BaseModel):
    """When the passes of a row end, as in `CalibrationState`."""

    model_config = _STRICT

    patience: int = Field(ge=0)
    delta: float = Field(ge=0, allow_inf_nan=False)
    max_mc: int = Field(ge=1)


class Preprocessing(BaseModel):
    """What the model does to its inputs: how many, and the sha256 of the statistics in the order of the features."""

    model_config = _STRICT

    n_features: int = Field(ge=1)
    sha256: Sha256


class CalibrationFingerprint(BaseModel):
    """What a calibration was made for. `n_calibration` is how many points it used, None where nobody says."""

    model_config = _STRICT

    forward_mode: Mode
    stop_rule: StopRule
    preprocessing: Preprocessing
    weights_sha256: Sha256
    n_calibration: int | None = Field(None, ge=1, lt=2**31)


class GoldenRows(BaseModel):
    """Rows and the answers that the publisher's own load of the pair gave.

    lower, upper  (rows, targets)
    pass_std      (rows, targets), the larger of both heads
    """

    model_config = _STRICT

    features: list[Row] = Field(min_length=1, max_length=MAX_GOLDEN_ROWS)
    seed: Seed
    forward_mode: Mode
    lower: list[Row]
    upper: list[Row]
    pass_std: list[Row]
    passes_used: list[Annotated[int, Field(ge=1, lt=2**31)]]

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        _check_width(self.features, "features")
        answers = (self.lower, self.upper, self.pass_std)
        if {len(self.features)} != {len(self.passes_used), *map(len, answers)}:
            raise ValueError("features, lower, upper, pass_std and passes_used must have one length")
        _check_width([row for answer in answers for row in answer], "lower, upper and pass_std")
        return self


class LabelledRows(BaseModel):
    """Rows whose truth is known: features (rows, n_features) and targets (rows, targets)."""

    model_config = _STRICT

    features: list[Row] = Field(min_length=1, max_length=MAX_LABELLED_ROWS)
    targets: list[Row]
    seed: Seed

    @model_validator(mode="after")
    def _rectangular(self) -> Self:
        _check_width(self.features, "features")
        if len(self.features) != len(self.targets):
            raise ValueError("features and targets must have one length")
        _check_width(self.targets, "targets")
        return self


class Checks(BaseModel):
    """The whole file. What is None is not checked; a check that this version does not know is refused."""

    model_config = _STRICT

    schema_number: Literal[1] = Field(1, alias="schema")
    calibration: CalibrationFingerprint | None = None
    golden: GoldenRows | None = None
    labelled: LabelledRows | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.calibration is None and self.golden is None and self.labelled is None:
            raise ValueError("expected at least one of calibration, golden and labelled")
        return self

    def to_json(self) -> bytes:
        return self.model_dump_json(by_alias=True, exclude_none=True).encode() + b"\n"


def read_checks(data: bytes, *, file: str = "checks.json") -> Checks:
    """Return what these bytes ask for. Raises InvalidChecks; `file` is what the error calls them."""
    if len(data) > MAX_CHECKS_BYTES:
        raise InvalidChecks(file=file, reason=f"it has {len(data)} bytes; at most {MAX_CHECKS_BYTES} are read")
    try:
        return Checks.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        member = ".".join(str(part) for part in first["loc"])[:100] or "all of it"
        raise InvalidChecks(file=file, reason=f"{member}: {first['msg'][:200]}") from None


def table(rows: list[Row]) -> NDArray[np.float64]:
    """Return rows of one width as float64 (rows, width)."""
    return np.array(rows, dtype=np.float64)


def _check_width(rows: list[Row], what: str) -> None:
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"all rows of {what} must be of one width")

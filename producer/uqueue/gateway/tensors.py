"""Tensors of the Open Inference Protocol v2: JSON to features, intervals to JSON. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from uqueue_config.errors import InvalidFeatures
from uqueue_config.prediction import IntervalPrediction

INPUT = "features"
#: Outputs with their datatypes, in the order in which they are answered.
OUTPUTS = {
    "lower": "FP64",
    "upper": "FP64",
    "midpoint": "FP64",
    "width": "FP64",
    "passes_used": "INT32",
    "converged": "BOOL",
    "crossed": "BOOL",
    "failed": "BOOL",
    "pass_std": "FP32",
}
_OPEN = ConfigDict(extra="allow")  # parameters and members that other servers know do no harm here


class InputTensor(BaseModel):
    """The table of features: `data` flat in row-major order, or nested."""

    model_config = _OPEN

    name: str = Field(max_length=200)
    shape: list[Annotated[StrictInt, Field(ge=1, le=2**31)]] = Field(min_length=2, max_length=2)
    datatype: Literal["FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32"]
    data: list[Any]


class WantedOutput(BaseModel):
    """An output that is to be answered."""

    model_config = _OPEN

    name: str = Field(max_length=200)


class Parameters(BaseModel):
    """What a job may be given beside its features; see `POST /v1/jobs`."""

    model_config = _OPEN

    seed: StrictInt | None = Field(None, ge=0, le=2**63 - 1)
    sticky_key: str | None = Field(None, min_length=1, max_length=200)


class InferRequest(BaseModel):
    """A prediction to be made and waited for."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "inputs": [
                        {
                            "name": INPUT,
                            "shape": [1, 8],
                            "datatype": "FP32",
                            "data": [0.98, 514.5, 294.0, 110.25, 7.0, 2, 0.0, 0],
                        }
                    ]
                }
            ]
        },
    )

    id: str | None = Field(None, max_length=200)
    parameters: Parameters = Field(default_factory=Parameters)
    inputs: list[InputTensor] = Field(min_length=1, max_length=1)
    outputs: list[WantedOutput] | None = Field(None, max_length=len(OUTPUTS))


class TensorMetadata(BaseModel):
    """A tensor of a model; -1 is any size."""

    name: str
    datatype: str
    shape: list[int]


class OutputTensor(BaseModel):
    """One output, flat in row-major order; null in rows that failed."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float | int | bool | None]


class InferAnswer(BaseModel):
    """The intervals of a job."""

    model_name: str
    model_version: str
    id: str
    outputs: list[OutputTensor]


def features_of(tensor: InputTensor) -> list[list[Any]]:
    """Return the rows of the input. Raises InvalidFeatures where its data does not have its shape."""
    rows, columns = tensor.shape
    data = tensor.data
    if len(data) == rows and all(isinstance(row, list) for row in data):
        if any(len(row) != columns for row in data):
            raise InvalidFeatures(reason=f"expected {columns} numbers in every row, as shape says")
        return data
    if len(data) != math.prod(tensor.shape):
        raise InvalidFeatures(reason=f"shape {tensor.shape} needs {rows * columns} numbers in data, got {len(data)}")
    return [data[at : at + columns] for at in range(0, len(data), columns)]


def outputs_of(prediction: IntervalPrediction, wanted: Iterable[str]) -> list[dict[str, Any]]:
    """Return the named outputs as tensors."""
    return [_tensor(name, getattr(prediction, name), prediction.failed) for name in wanted]


def metadata(features: int | None, targets: int | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the metadata of inputs and outputs of a model with so many features and targets, as far as known."""
    wide, per_target = features or -1, [-1, targets or -1]
    shapes = dict.fromkeys(("lower", "upper", "midpoint", "width"), per_target) | {"pass_std": [-1, 2, targets or -1]}
    outputs = [{"name": name, "datatype": kind, "shape": shapes.get(name, [-1])} for name, kind in OUTPUTS.items()]
    return [{"name": INPUT, "datatype": "FP32", "shape": [-1, wide]}], outputs


def _tensor(name: str, array: NDArray[Any], failed: NDArray[np.bool_]) -> dict[str, Any]:
    data: Any = array.ravel()
    if array.dtype.kind == "f" and failed.any():
        data = array.astype(object)
        data[failed] = None
        data = data.ravel()
    return {"name": name, "datatype": OUTPUTS[name], "shape": list(array.shape), "data": data.tolist()}

"""Tensors of the Open Inference Protocol v2: JSON or bytes to features, intervals to JSON or bytes. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt

from uqueue_config.answers import AnyAnswer
from uqueue_config.classification import Classification
from uqueue_config.errors import InvalidFeatures
from uqueue_config.localization import Localization

INPUT = "features"
#: Little-endian types of the bytes of tensors.
DTYPES = {
    "FP32": "<f4",
    "FP64": "<f8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "BOOL": "?",
}
#: Outputs of an interval model with their datatypes, in the order in which they are answered.
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
#: … and of a localization model: degrees, and metres along axes turned by theta.
LOCALIZATION_OUTPUTS = dict.fromkeys(("latitude", "longitude", "sigma_x", "sigma_y", "theta", "confidence"), "FP64")
#: … and of a classifier: probabilities, parts of their uncertainty within [0, 1], and the names of the columns.
CLASSIFICATION_OUTPUTS = {
    **dict.fromkeys(("probabilities", "total", "epistemic", "aleatoric", "disagreement"), "FP64"),
    "classes": "BYTES",
}
Kind = Literal["intervals", "localization", "classification"]
OUTPUTS_OF_KIND: dict[Kind, dict[str, str]] = {
    "intervals": OUTPUTS,
    "localization": LOCALIZATION_OUTPUTS,
    "classification": CLASSIFICATION_OUTPUTS,
}
_OPEN = ConfigDict(extra="allow")  # parameters and members that other servers know do no harm here


class InputParameters(BaseModel):
    """Where the data of an input is: `binary_data_size` bytes after the JSON, or else in `data`."""

    model_config = _OPEN

    binary_data_size: StrictInt | None = Field(None, ge=0)


class InputTensor(BaseModel):
    """The table of features: `data` flat in row-major order, or nested."""

    model_config = _OPEN

    name: str = Field(max_length=200)
    shape: list[Annotated[StrictInt, Field(ge=1, le=2**31)]] = Field(min_length=2, max_length=2)
    datatype: Literal["FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32"]
    data: list[Any] | None = None
    parameters: InputParameters = Field(default_factory=InputParameters)


class OutputParameters(BaseModel):
    """How an output is to be answered: as bytes after the JSON where `binary_data` says so."""

    model_config = _OPEN

    binary_data: StrictBool | None = None


class WantedOutput(BaseModel):
    """An output that is to be answered."""

    model_config = _OPEN

    name: str = Field(max_length=200)
    parameters: OutputParameters = Field(default_factory=OutputParameters)


class Parameters(BaseModel):
    """What a job may be given beside its features; see `POST /v1/jobs`."""

    model_config = _OPEN

    seed: StrictInt | None = Field(None, ge=0, le=2**63 - 1)
    sticky_key: str | None = Field(None, min_length=1, max_length=200)
    binary_data_output: StrictBool = Field(False, description="Answer outputs as bytes unless they say otherwise.")


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

    def wanted(self, there: Iterable[str]) -> dict[str, bool]:
        """Return the names of the outputs to answer, all unless some are named, and whether each is wanted as bytes."""
        otherwise = self.parameters.binary_data_output
        if self.outputs is None:
            return dict.fromkeys(there, otherwise)
        asked = {one.name: one.parameters.binary_data for one in self.outputs}
        return {name: otherwise if binary is None else binary for name, binary in asked.items()}


class TensorMetadata(BaseModel):
    """A tensor of a model; -1 is any size."""

    name: str
    datatype: str
    shape: list[int]


class OutputTensor(BaseModel):
    """One output, flat in row-major order; null in rows that failed. Without `data` its bytes come after the JSON."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float | int | bool | str | None] | None = None
    parameters: dict[str, int] | None = None


class InferAnswer(BaseModel):
    """The answer to a job: intervals, positions or probabilities of classes."""

    model_name: str
    model_version: str
    id: str
    outputs: list[OutputTensor]


def features_of(tensor: InputTensor, binary: bytes = b"") -> list[list[Any]] | NDArray[Any]:
    """Return the rows of the input, of `binary` where it says so. Raises InvalidFeatures for data of another shape."""
    rows, columns = tensor.shape
    data, size = tensor.data, tensor.parameters.binary_data_size
    if size is not None:
        return _unpacked(tensor, binary, size)
    if binary:
        raise InvalidFeatures(reason=f"{len(binary)} bytes come after the JSON, and the input has no binary_data_size")
    if data is None:
        raise InvalidFeatures(reason="the input has neither data nor binary_data_size")
    if len(data) == rows and all(isinstance(row, list) for row in data):
        if any(len(row) != columns for row in data):
            raise InvalidFeatures(reason=f"expected {columns} numbers in every row, as shape says")
        return data
    if len(data) != math.prod(tensor.shape):
        raise InvalidFeatures(reason=f"shape {tensor.shape} needs {rows * columns} numbers in data, got {len(data)}")
    return [data[at : at + columns] for at in range(0, len(data), columns)]


def _unpacked(tensor: InputTensor, binary: bytes, size: int) -> NDArray[Any]:
    dtype = np.dtype(DTYPES[tensor.datatype])
    expected = math.prod(tensor.shape) * dtype.itemsize
    if not size == len(binary) == expected:
        needed = f"shape {tensor.shape} of {tensor.datatype} needs {expected} bytes"
        raise InvalidFeatures(reason=f"{needed}, binary_data_size is {size}, and {len(binary)} come after the JSON")
    return np.frombuffer(binary, dtype).reshape(tensor.shape)


def outputs_of(prediction: AnyAnswer, wanted: Mapping[str, bool]) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Return the named outputs as tensors, and the bytes of those wanted so: NaN in rows that failed.

    Names of classes are texts in the JSON, also where bytes are wanted.
    """
    shown: list[dict[str, Any]] = []
    tensors: list[bytes] = []
    datatypes = OUTPUTS_OF_KIND[kind_of(prediction)]
    for name, as_bytes in wanted.items():
        array = getattr(prediction, name)
        failed = getattr(prediction, "failed", np.zeros(len(prediction), np.bool_))  # only rows of intervals can
        if array is None:  # a model that states no confidence, or a single one that has no members to differ
            array, failed = np.full(len(prediction), np.nan), np.ones(len(prediction), np.bool_)
        if datatypes[name] == "BYTES":
            shown.append({"name": name, "datatype": "BYTES", "shape": [len(array)], "data": list(array)})
            continue
        one = {"name": name, "datatype": datatypes[name], "shape": list(array.shape)}
        if as_bytes:
            tensors.append(array.astype(DTYPES[datatypes[name]]).tobytes())
            shown.append({**one, "parameters": {"binary_data_size": len(tensors[-1])}})
        else:
            shown.append({**one, "data": _data(array, failed)})
    return shown, tensors


def kind_of(prediction: AnyAnswer) -> Kind:
    """Return what kind of model an answer is of."""
    match prediction:
        case Localization():
            return "localization"
        case Classification():
            return "classification"
        case _:
            return "intervals"


def metadata(
    features: int | None, targets: int | None, kind: Kind
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the metadata of inputs and outputs of a model with so many features and targets, as far as known."""
    datatypes = OUTPUTS_OF_KIND[kind].items()
    wide, per_target = features or -1, [-1, targets or -1]
    shapes = dict.fromkeys(("lower", "upper", "midpoint", "width"), per_target) | {"pass_std": [-1, 2, targets or -1]}
    shapes |= {"probabilities": [-1, -1]}
    outputs = [{"name": name, "datatype": datatype, "shape": shapes.get(name, [-1])} for name, datatype in datatypes]
    return [{"name": INPUT, "datatype": "FP32", "shape": [-1, wide]}], outputs


def _data(array: NDArray[Any], failed: NDArray[np.bool_]) -> Any:
    data: Any = array.ravel()
    if array.dtype.kind == "f" and failed.any():
        data = array.astype(object)
        data[failed] = None
        data = data.ravel()
    return data.tolist()

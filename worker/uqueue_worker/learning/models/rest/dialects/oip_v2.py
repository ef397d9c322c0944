"""oip_v2: the Open Inference Protocol, version 2, as Triton, KServe, MLServer and uqueue's own gateway speak it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from uqueue_worker.learning.metrics import FloatArray
from uqueue_worker.learning.models.rest.answers import (
    PARTS,
    Answer,
    Question,
    Unfit,
    answer_of,
    classes_of,
    members_of,
    numbers,
    text_of,
)
from uqueue_worker.learning.models.rest.dialects.base import Dialect, Requests, chosen, json_rows

_NUMBERS = ("FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
#: An output of uqueue's gateway: the names of the columns.
_CLASSES = "classes"


class OpenInference(Dialect):
    ready_paths = ("/v2/health/live", "/v2/health/ready")

    def path(self, version: str | None) -> str:
        return f"{self._place(version)}/infer"

    def body(self, question: Question) -> dict[str, Any]:
        data = [value for row in json_rows(question) for value in row]
        tensor = {
            "name": self.endpoint.input_name or "features",
            "shape": list(question.rows.shape),
            "datatype": "FP32",
            "data": data,
        }
        wanted = {} if self.endpoint.output_name is None else {"outputs": [{"name": self.endpoint.output_name}]}
        return {"id": question.request_id, "inputs": [tensor], **wanted}

    def read(self, answer: Any, question: Question) -> Answer:
        said = members_of(answer, "the answer")
        if said.get("model_name") != self.endpoint.model or said.get("id", question.request_id) != question.request_id:
            raise Unfit("an answer to another request, or of another model")
        tensors = _by_name(said.get("outputs"))
        version = text_of(said.get("model_version"), "model_version") or question.version
        classes = classes_of(_values(tensors.pop(_CLASSES))) if _CLASSES in tensors else None
        columns = {name: _column(tensors.pop(name), len(question)) for name in PARTS if name in tensors}
        found = answer_of(_values(chosen(tensors, self.endpoint.output_name)), question, version, classes)
        parts = {name: column for name, column in columns.items() if column is not None}
        return Answer(found.classes, version, found.labels, found.shares, parts)

    async def list_versions(self, requests: Requests) -> list[str]:
        return await self._versions(requests, self._place(None))

    async def health(self, requests: Requests) -> dict[str, Any]:
        await super().health(requests)
        place = self._place(self.endpoint.version)
        versions = await self._versions(requests, place)
        await requests.get(f"{place}/ready")
        return {"versions": versions}

    def _place(self, version: str | None) -> str:
        return f"/v2/models/{self.model}{'' if version is None else f'/versions/{version}'}"

    async def _versions(self, requests: Requests, place: str) -> list[str]:
        """Return what the model's metadata names; servers whose models have no versions name none, or null."""
        answer = await requests.get(place)
        versions = (answer.get("versions") or []) if isinstance(answer, Mapping) else None
        if not isinstance(versions, list) or not all(isinstance(one, str) for one in versions):
            raise self.unfit(place, "expected `versions`, a list of names")
        return versions


def _by_name(value: Any) -> dict[str, Mapping[str, Any]]:
    if not isinstance(value, list):
        raise Unfit("outputs: expected a list of tensors")
    tensors = [members_of(one, "outputs") for one in value]
    found = {str(one.get("name")): one for one in tensors}
    if not found or len(found) != len(tensors):
        raise Unfit("outputs: expected tensors of different names")
    return found


def _values(tensor: Mapping[str, Any]) -> Any:
    """Return the data in the tensor's shape, whether it came flat or nested; a single column as a list of its values.

    MLServer answers labels as such a column.
    """
    shape, data, datatype = tensor.get("shape"), tensor.get("data"), tensor.get("datatype")
    if not isinstance(shape, list) or not all(isinstance(one, int) and 0 <= one < 1 << 31 for one in shape):
        raise Unfit("outputs: expected a shape")
    if len(shape) == 2 and shape[1] == 1:
        shape = shape[:1]
    if datatype == "BYTES":
        if not isinstance(data, list) or shape != [len(data)]:
            raise Unfit("outputs: data that do not fit their shape")
        return data
    if datatype not in _NUMBERS:
        raise Unfit(f"outputs: a datatype that holds no probabilities: {str(datatype)[:20]}")
    values = numbers(data, "outputs")
    if values.size != math.prod(shape):
        raise Unfit("outputs: data that do not fit their shape")
    return np.reshape(values, shape).tolist()


def _column(tensor: Mapping[str, Any], n_rows: int) -> FloatArray | None:
    """Return one of the parts of the uncertainty, None where the model has none."""
    data = tensor.get("data")
    if isinstance(data, list) and data and all(one is None for one in data):
        return None
    values = numbers(_values(tensor), "outputs")
    if values.size != n_rows:
        raise Unfit(f"outputs: expected {n_rows} uncertainties")
    return values.reshape(n_rows)

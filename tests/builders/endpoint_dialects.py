"""What strict servers of the five dialects answer: a request with anything beside what is documented is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from uqueue_worker.learning.models.predictions import Predictions

MODEL = "airguard"
PARTS = ("total", "epistemic", "aleatoric", "disagreement")


class Refused(Exception):
    """A request that the server does not take; 400 counts as a fault of the client."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status

    def body(self, dialect: str) -> Any:
        if dialect.startswith("native"):
            return {"error": {"code": "refused", "message": str(self), "retryable": False}}
        if dialect == "mlflow":
            return {"error_code": "BAD_REQUEST", "message": str(self)}
        return {"error": str(self)}


def native(server: Any, asked: Any) -> Any:
    if asked.method == "GET":
        known(asked.path in (f"/v1/models/{MODEL}", "/healthz", "/readyz"), asked.path)
        return {"name": MODEL, "versions": ["6", server.version]} if "models" in asked.path else {"status": "ok"}
    known(asked.path == f"/v1/models/{MODEL}/predict", asked.path)
    body = request_of(asked, {"request_id", "instances", "feature_names", "return", "model_version"})
    _check(body["request_id"] == asked.headers["x-request-id"], "request_id")
    _check(body["feature_names"] == _columns(server), "feature_names")
    _check(body["return"][:2] == ["probabilities", "uncertainty"], "return")
    known(body["model_version"] in (None, server.version, "production"), f"version {body['model_version']}")
    matrix = checked_rows(server, body["instances"])
    said = predicted(server, matrix)
    explained = None
    if body["return"][2:] == ["explanations"]:
        explained = [
            [{"feature": name, "importance": float(value)} for name, value in zip(_columns(server), row, strict=True)]
            for row in matrix
        ]
    return {
        "model_name": MODEL,
        "model_version": server.version,
        "classes": list(said.classes),
        "predictions": said.labels,
        "probabilities": said.probabilities.tolist(),
        "uncertainty": {name: _list(getattr(said, name), len(matrix)) for name in PARTS},
        "explanations": explained,
        "request_id": body["request_id"],
    }


def native_evaluate(server: Any, asked: Any) -> Any:
    if asked.method == "GET":
        return native(server, asked)
    known(asked.path == f"/v1/models/{MODEL}/evaluate", asked.path)
    given = json.loads(asked.body)
    data = "samples" if "samples" in given else "dataset"
    body = request_of(asked, {"request_id", "model_version", "options", data})
    known(body["model_version"] in (None, server.version), f"version {body['model_version']}")
    if data == "dataset":
        _check(set(body["dataset"]) == {"uri", "sha256"} and len(body["dataset"]["sha256"]) == 64, "dataset")
    samples = body["samples"] if data == "samples" else body["dataset"]["uri"]
    feedback = server.local.get_model_performance_feedback(samples, None).to_message()
    return {**feedback, "model_version_evaluated": f"{MODEL}@{server.version}"}


def tfserving(server: Any, asked: Any) -> Any:
    path = re.fullmatch(rf"/v1/models/{MODEL}(?:/(versions|labels)/([^/:]+))?(:predict)?", asked.path)
    known(path is not None, asked.path)
    kind, name, predicts = path.groups() if path else (None, None, None)
    known(name in (None, server.version) or (kind, name) == ("labels", "stable"), f"{kind} {name}")
    _check((asked.method == "POST") == bool(predicts), "method")
    if not predicts:
        old = [] if name else [{"version": "3", "state": "END", "status": {}}]
        return {"model_version_status": [*old, {"version": server.version, "state": "AVAILABLE", "status": {}}]}
    body = request_of(asked, {"instances"}, {"signature_name"})
    return {"predictions": predicted(server, checked_rows(server, body["instances"])).probabilities.tolist()}


def oip_v2(server: Any, asked: Any) -> Any:
    if asked.path in ("/v2/health/live", "/v2/health/ready"):
        return ""  # as Triton has it; others answer an object
    path = re.fullmatch(rf"/v2/models/{MODEL}(?:/versions/([^/]+))?(/infer|/ready)?", asked.path)
    known(path is not None and path[1] in (None, server.version), asked.path)
    assert path is not None
    if path[2] == "/ready":
        return ""
    if asked.method == "GET":
        return {"name": MODEL, "versions": ["6", server.version], "platform": "x", "inputs": [], "outputs": []}
    identifier, rows = tensor_of(server, asked)
    outputs = [members_of(server, rows)]
    return {"model_name": MODEL, "model_version": path[1] or server.version, "id": identifier, "outputs": outputs}


def mlflow(server: Any, asked: Any) -> Any:
    if asked.method == "GET":
        known(asked.path in ("/ping", "/version"), asked.path)
        return "\n" if asked.path == "/ping" else "3.17.2"
    known(asked.path == "/invocations", asked.path)
    body = request_of(asked, set(), {"dataframe_split", "inputs"})
    _check(len(body) == 1, "exactly one of dataframe_split and inputs")
    if "inputs" in body:
        members = server.local.model().members(checked_rows(server, body["inputs"]["features"]))
        return {"predictions": {"members": members.tolist()}}
    frame = body["dataframe_split"]
    _check(set(frame) == {"columns", "data"} and frame["columns"] == _columns(server), "dataframe_split")
    return {"predictions": predicted(server, checked_rows(server, frame["data"])).probabilities.tolist()}


SPEAKERS: dict[str, Callable[[Any, Any], Any]] = {
    "native": native,
    "native-evaluate": native_evaluate,
    "tfserving": tfserving,
    "oip_v2": oip_v2,
    "mlflow": mlflow,
}


def predicted(server: Any, matrix: Any) -> Predictions:
    found: Predictions = server.local.model().predictions(matrix)
    return found


def _columns(server: Any) -> list[str]:
    return [feature.name for feature in server.local.model().manifest.feature_spec]


def checked_rows(server: Any, rows: Any) -> Any:
    _check(isinstance(rows, list) and 1 <= len(rows) <= 256, "1 to 256 rows")
    wide = len(_columns(server))
    _check(all(len(row) == wide and all(isinstance(one, float) for one in row) for row in rows), "rows of numbers")
    matrix = np.array(rows, dtype=np.float64)
    _check(bool((matrix == matrix.astype(np.float32)).all()), "float32 values")
    return matrix.astype(np.float32)


def request_of(asked: Any, needed: set[str], possible: set[str] = frozenset()) -> dict[str, Any]:  # type: ignore[assignment]
    body = json.loads(asked.body)
    _check(isinstance(body, dict) and needed <= set(body) <= needed | possible, f"the body has {sorted(body)}")
    return dict(body)


def tensor_of(server: Any, asked: Any) -> tuple[Any, Any]:
    """Return id and rows of a request of the Open Inference Protocol."""
    body = request_of(asked, {"inputs"}, {"id", "outputs"})
    (tensor,) = body["inputs"]
    _check(set(tensor) == {"name", "shape", "datatype", "data"}, "tensor")
    _check((tensor["name"], tensor["datatype"]) == ("features", "FP32"), "tensor")
    _check(all(isinstance(one, float) for one in tensor["data"]), "data: a flat list of numbers")
    rows = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
    return body.get("id"), checked_rows(server, rows.tolist())


def members_of(server: Any, rows: Any) -> dict[str, Any]:
    """Return the output `members`."""
    return _tensor("members", server.local.model().members(rows))


def _tensor(name: str, values: Any) -> dict[str, Any]:
    flat = values.astype(np.float64).ravel().tolist()
    return {"name": name, "shape": list(values.shape), "datatype": "FP32", "data": flat}


def _list(values: Any, n_rows: int) -> list[float | None]:
    return [None] * n_rows if values is None else values.tolist()


def _check(fine: bool, what: str) -> None:
    if not fine:
        raise Refused(what)


def known(there: bool, what: str) -> None:
    if not there:
        raise Refused(f"there is no {what}", 404)

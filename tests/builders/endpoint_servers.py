"""What servers of others answer where their protocol leaves it open, copied from what they answered themselves.

`make test-servers` asks the servers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from builders.endpoint_dialects import MODEL, Refused, checked_rows, known, members_of, predicted, request_of, tensor_of


def kserve_v1(server: Any, asked: Any) -> Any:
    """KServe 0.21: TensorFlow Serving's requests and answers, and no versions; without one it is not ready yet."""
    place = f"/v1/models/{MODEL}"
    if asked.method == "GET":
        known(asked.path == place, asked.path)
        return {"name": MODEL, "ready": server.version != ""}
    known(asked.path == f"{place}:predict", asked.path)
    rows = checked_rows(server, request_of(asked, {"instances"})["instances"])
    return {"predictions": predicted(server, rows).probabilities.tolist()}


def kserve_v2(server: Any, asked: Any) -> Any:
    """KServe 0.21: null for what there is none of, and a version in the path is not implemented."""
    if asked.path in ("/v2/health/live", "/v2/health/ready"):
        return {asked.path.rsplit("/", 1)[1]: True}
    place = f"/v2/models/{MODEL}"
    if asked.path.startswith(f"{place}/versions/"):
        raise Refused("Model versioning not supported yet.", 501)
    known(asked.path in (place, f"{place}/ready", f"{place}/infer"), asked.path)
    if asked.path.endswith("/ready"):
        return {"name": MODEL, "ready": True}
    if asked.method == "GET":
        return {"name": MODEL, "versions": None, "platform": "", "inputs": [], "outputs": []}
    identifier, rows = tensor_of(server, asked)
    members = members_of(server, rows)
    output = {**members, "parameters": None}
    return {
        "model_name": MODEL,
        "model_version": None,
        "id": identifier,
        "parameters": None,
        "outputs": [output],
    }


def mlserver_labels(server: Any, asked: Any) -> Any:
    """MLServer 1.7 with scikit-learn: unless it is asked for `predict_proba`, one label for each row, in a column."""
    known(asked.path == f"/v2/models/{MODEL}/infer", asked.path)
    identifier, rows = tensor_of(server, asked)
    labels = predicted(server, rows).labels
    output = {
        "name": "predict",
        "shape": [len(labels), 1],
        "datatype": "BYTES",
        "parameters": {"content_type": "np"},
        "data": labels,
    }
    return {"model_name": MODEL, "id": identifier, "parameters": {}, "outputs": [output]}


def named_outputs(server: Any, asked: Any) -> Any:
    """TensorFlow Serving, by its documentation, of a model with several outputs: an object for each row."""
    if asked.method == "GET":
        return {"model_version_status": [{"version": server.version, "state": "AVAILABLE", "status": {}}]}
    known(asked.path == f"/v1/models/{MODEL}/versions/{server.version}:predict", asked.path)
    rows = checked_rows(server, request_of(asked, {"instances"})["instances"])
    shares = predicted(server, rows).probabilities.tolist()
    return {"predictions": [{"scores": [0.0], "probabilities": row} for row in shares]}


SERVERS: dict[str, Callable[[Any, Any], Any]] = {
    "kserve-v1": kserve_v1,
    "kserve-v2": kserve_v2,
    "mlserver-labels": mlserver_labels,
    "named-outputs": named_outputs,
}

"""KServe's model server: `python kserve_app.py PORT WEIGHTS`. It speaks V1 (as TensorFlow Serving) and V2."""

from __future__ import annotations

import sys
from typing import Any

import kserve.protocol.rest.server as rest
import numpy as np
from ensemble import Ensemble
from kserve import InferOutput, InferResponse, Model, ModelServer


class Classifier(Model):
    def __init__(self, name: str, weights: str) -> None:
        super().__init__(name)
        self._ensemble = Ensemble(weights)
        self.ready = True

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """Answer V1 with probabilities, V2 with those of the members."""
        if isinstance(payload, dict):
            rows = np.array(payload["instances"])
            return {"predictions": self._ensemble.watched(rows).mean(axis=1, dtype=np.float64).tolist()}
        members = self._ensemble.watched(payload.inputs[0].as_numpy())
        output = InferOutput("members", list(members.shape), "FP32")
        output.set_data_from_numpy(members, binary_data=False)
        return InferResponse(payload.id, self.name, [output])


class Named(Classifier):
    """Answers V1 with two outputs that have names, as TensorFlow Serving does for a model with several."""

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        found = super().predict(payload, headers)["predictions"]
        return {"predictions": [{"probabilities": row, "scores": [0.0]} for row in found]}


def _here_only(*arguments: Any, **settings: Any) -> Any:
    return _config(*arguments, **{**settings, "host": "127.0.0.1"})


if __name__ == "__main__":
    _config, rest.uvicorn.Config = rest.uvicorn.Config, _here_only  # KServe has no setting for it
    port, weights = sys.argv[1:]
    server = ModelServer(http_port=int(port), enable_grpc=False, workers=1)
    server.start([Classifier("airguard", weights), Named("named", weights)])

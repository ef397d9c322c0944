"""NVIDIA's Triton with a model of this process: `python triton_app.py PORT GRPC_PORT METRICS_PORT WEIGHTS`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ensemble import Ensemble
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def main(port: str, grpc_port: str, metrics_port: str, weights: str) -> None:
    ensemble = Ensemble(weights)
    members, columns, classes = ensemble.weights.shape

    @batch
    def infer(features: Any) -> dict[str, Any]:
        return {"members": ensemble.watched(features)}

    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=int(port),
        grpc_address="127.0.0.1",
        grpc_port=int(grpc_port),
        metrics_address="127.0.0.1",
        metrics_port=int(metrics_port),
    )
    with Triton(config=config, workspace=Path.cwd() / f"workspace-{os.getpid()}") as triton:
        triton.bind(
            model_name="airguard",
            model_version=7,
            infer_func=infer,
            inputs=[Tensor(name="features", dtype=np.float32, shape=(columns,))],
            outputs=[Tensor(name="members", dtype=np.float32, shape=(members, classes))],
            config=ModelConfig(max_batch_size=256),
            strict=True,
        )
        triton.serve()


if __name__ == "__main__":
    main(*sys.argv[1:])

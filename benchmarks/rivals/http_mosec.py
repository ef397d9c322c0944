"""mosec: a web server in Rust and a process with the model, up to 64 requests to a call of it. Nothing is kept."""

from __future__ import annotations

import os
import sys
from typing import Any

import mosec

from rivals import model


class Predict(mosec.Worker):
    def __init__(self) -> None:
        model.loaded()

    def forward(self, requests: list[dict[str, Any]]) -> list[model.Answer]:
        return model.predict_many([(request["features"], request["seed"]) for request in requests])


if __name__ == "__main__":
    sys.argv += ["--port", os.environ["BENCH_PORT"], "--address", "127.0.0.1", "--log-level", "error"]
    server = mosec.Server()
    server.append_worker(Predict, num=1, max_batch_size=64, max_wait_time=1)
    server.run()

"""LitServe: a web process and a process with the model, up to 64 requests to a call of it. Nothing is kept."""

import os
from typing import Any

import litserve

from rivals import model


class Predict(litserve.LitAPI):
    def setup(self, device: str) -> None:
        model.loaded()

    def decode_request(self, request: dict) -> tuple:
        return request["features"], request["seed"]

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, requests: list[tuple[list[list[float]], int]]) -> list[model.Answer]:
        return model.predict_many(requests)

    def unbatch(self, output: list[model.Answer]) -> list[model.Answer]:
        return output

    def encode_response(self, output: dict) -> dict:
        return output


if __name__ == "__main__":
    api = Predict(max_batch_size=64, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(port=int(os.environ["BENCH_PORT"]), log_level="error", generate_client_file=False, num_api_servers=1)

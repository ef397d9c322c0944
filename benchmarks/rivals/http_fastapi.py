"""Plain FastAPI: the model in the web server's own process. Nothing is kept: what is under way dies with it."""

from __future__ import annotations

import os

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from rivals import model

app = FastAPI()


class Request(BaseModel):
    features: list[list[float]]
    seed: int


@app.post("/predict")
async def predict(request: Request) -> model.Answer:
    return model.predict(request.features, request.seed)


if __name__ == "__main__":
    model.loaded()
    uvicorn.run(app, port=int(os.environ["BENCH_PORT"]), log_level="error", access_log=False)

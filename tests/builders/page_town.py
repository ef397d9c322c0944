"""A real service with a page to look at: two models, one worker, a gateway for everybody and one with keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from builders.artifacts import write_workspace
from builders.gateway import RunningGateway, running_gateway
from builders.iq import as_base64, iq
from builders.onnx_models import tiny_localizer, write_localizer
from builders.service import RunningService, running_service
from builders.waiting import eventually
from uqueue.gateway.keys import NewKey, append_key

ROW = [0.98, 514.5, 294.0, 110.25, 7.0, 2, 0.0, 0]


@dataclass
class Town:
    """`reader` and `submitter` are keys for `keyed`, with those scopes."""

    service: RunningService
    gateway: RunningGateway
    keyed: RunningGateway
    reader: str
    submitter: str


@contextmanager
def running_town(folder: Path) -> Iterator[Town]:
    """Run it until its worker serves both models."""
    write_workspace(folder / "workspace")
    localizer = tiny_localizer(confidence=0.75, sway=0.02, sigma=(0.0008, 0.0020), theta=30.0)
    write_localizer(folder / "workspace", localizer, number="4")
    source = f'source = "{folder / "workspace"}"'
    models = f'[models.mccp-uq]\n{source}\n[models.localization_model]\n{source}\nengine = "onnx"\n'
    (folder / "models.toml").write_text(models)
    reader, submitter = NewKey.make("people", ["read"]), NewKey.make("program", ["submit"])
    for key in (reader, submitter):
        append_key(folder / "keys.toml", key.entry)
    env = {"UQUEUE_MODELS": str(folder / "models.toml")}
    with (
        running_service(folder / "service", concurrency=1, env=env) as service,
        running_gateway(service.environment, folder / "one") as gateway,
        running_gateway(service.environment, folder / "two", api_keys_file=str(folder / "keys.toml")) as keyed,
    ):
        eventually(lambda: httpx.get(f"{gateway.url}/ready").status_code == 200, "the gateway is ready", seconds=60)
        yield Town(service, gateway, keyed, reader.secret, submitter.secret)


def locate(gateway: RunningGateway, *seeds: int) -> None:
    """Have noise located, which is somewhere."""
    for seed in seeds:
        answer = httpx.post(f"{gateway.url}/predict", json=as_base64(iq(seed), frequency_mhz=433.5), timeout=30)
        assert answer.status_code == 200, answer.text


def predict(gateway: RunningGateway, density: float = ROW[1]) -> None:
    """Have one row predicted."""
    body = {"features": [[ROW[0], density, *ROW[2:]]]}
    answer = httpx.post(f"{gateway.url}/v1/jobs", json=body, headers={"Prefer": "wait=20"}, timeout=30)
    assert answer.status_code == 200, answer.text

"""The load test of the localization service: real HTTP against a gateway and a worker with the sample model.

    python benchmarks/localization.py [--quick] [--users 100] [--samples 2048] [--receivers 3]

cold        every recording is another one and the cache is off
warm        the same few recordings again and again, so that nearly all answers come from the cache
saturated   both without a pause between a user's requests
crowd       a thousand users at a time, with fewer requests in work allowed than that
reload      a closed loop while the model is replaced and reloaded again and again

Only a 200 with a position and an ellipse counts as answered. Percentiles are nearest-rank.
"""

from __future__ import annotations

import base64
import collections
import json
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import uqueue
from contenders import LANE
from http_load import Load, Plan, request_bytes, run
from part import measure_part, parser, say
from processes import Bench, bench
from startup import wait_until_ready
from uqueue_config.settings import Settings
from web import Contender, web_server

MODEL = "localization_model"
GATEWAY = Contender("uqueue-gateway", "-m uqueue gateway", "/predict", "", ("uqueue",))
IN_WORK = 500


@dataclass(frozen=True)
class Sizes:
    """How much of everything; `think_seconds` is a user's mean pause before each request."""

    users: int = 100
    requests: int = 2000
    samples: int = 2048
    receivers: int = 3
    think_seconds: float = 1.0
    repeated: int = 20
    crowd: int = 1000
    reload_requests: int = 5000
    reloads: int = 10
    training: int = 2000


QUICK = Sizes(users=10, requests=100, think_seconds=0.1, crowd=50, reload_requests=200, reloads=2, training=300)


class LoadTest:
    """Asks one gateway and one worker with the sample model."""

    def __init__(self, here: Bench, url: str, sizes: Sizes) -> None:
        self._here, self._url, self._sizes = here, url, sizes
        self._generator = np.random.default_rng(0)

    def measure(self) -> dict[str, Any]:
        sizes, think = self._sizes, self._sizes.think_seconds
        cold, warm = self._bodies(sizes.requests, sizes.requests), self._bodies(sizes.requests, sizes.repeated)
        self._ask(self._bodies(100, 100), sizes.users, 0.0)
        found = {
            "cold": self._ask(cold, sizes.users, think),
            "cold, saturated": self._ask(cold, sizes.users, 0.0),
            "warm": self._ask(warm, sizes.users, think),
            "warm, saturated": self._ask(warm, sizes.users, 0.0),
            "one user, cold": self._ask(cold[:200], 1, 0.0),
            "one user, warm": self._ask(warm[:200], 1, 0.0),
            "crowd": self._ask(cold, sizes.crowd, 0.0),
        }
        reloading, reloads = self._while_reloading()
        return {"phases": {name: load.summary() for name, load in {**found, "reload": reloading}.items()}, **reloads}

    def _ask(self, requests: list[bytes], users: int, think_seconds: float) -> Load:
        say(f"{len(requests)} requests of {users} users, pause {think_seconds:g} s")
        return run(self._url, Plan(collections.deque(requests), _is_answer, think_seconds), clients=users)

    def _while_reloading(self) -> tuple[Load, dict[str, Any]]:
        ending, answers = threading.Event(), []

        def reload() -> None:
            versions = [self._here.folder / "sample", self._here.folder / "other"]
            while not ending.wait(1.0) and len(answers) < self._sizes.reloads:
                _replace(self._here.folder / "served", versions[(len(answers) + 1) % 2])
                answers.append(_post(self._url.replace("/predict", "/model/reload"), {}))

        thread = threading.Thread(target=reload)
        thread.start()
        requests = self._bodies(self._sizes.reload_requests, self._sizes.requests)
        load = Load()
        while len(answers) < self._sizes.reloads:  # as many requests as the reloads take, and no fewer than asked
            more = self._ask(requests, 20, 0.0)
            load = _together(load, more)
        ending.set()
        thread.join()
        done = [answer for answer in answers if answer.get("success")]
        seconds = [answer["reload_time_ms"] for answer in done]
        return load, {"reloads": {"asked": len(answers), "done": len(done), "slowest_ms": max(seconds, default=None)}}

    def _bodies(self, count: int, distinct: int) -> list[bytes]:
        sizes = self._sizes
        made = []
        for _ in range(distinct):
            shape = (sizes.receivers, sizes.samples)
            samples = self._generator.normal(size=shape) + 1j * self._generator.normal(size=shape)
            body = {
                "iq_base64": base64.b64encode(samples.astype("<c8").tobytes()).decode(),
                "shape": list(shape),
                "cache_enabled": distinct < count,
            }
            made.append(request_bytes(self._url, json.dumps(body).encode()))
        return [made[number % distinct] for number in range(count)]


def _is_answer(answer: bytes) -> bool:
    found = json.loads(answer.partition(b"\r\n\r\n")[2])
    return -90 <= found["position"]["latitude"] <= 90 and found["ellipse"]["semi_major_axis_m"] > 0


def _together(one: Load, other: Load) -> Load:
    statuses = collections.Counter(one.statuses) + collections.Counter(other.statuses)
    milliseconds = one.milliseconds + other.milliseconds
    return Load(one.seconds + other.seconds, dict(statuses), one.invalid + other.invalid, milliseconds)


def _post(url: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return json.loads(error.read())


def _replace(served: Path, version: Path) -> None:
    """Put the files of a version where the worker looks, each under its name only when it is whole."""
    source = version / "models" / MODEL
    target = served / "models" / MODEL
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.iterdir()):
        partial = target / f".{file.name}"
        shutil.copyfile(file, partial)
        partial.rename(target / file.name)


@contextmanager
def _service(sizes: Sizes) -> Iterator[tuple[Bench, str]]:
    environment = {
        **LANE.environment,
        "UQUEUE_GATEWAY_RATE": "1000000",
        "UQUEUE_GATEWAY_BURST": "1000000",
        "UQUEUE_GATEWAY_MAX_REQUESTS": str(IN_WORK),
    }
    with bench(environment, workspace=Path(), hiredis=True) as here:
        for seed, name in enumerate(("sample", "other")):
            say(f"training the {name} model")
            command = [
                sys.executable,
                "-m",
                "uqueue_worker.sample.localizer",
                str(here.folder / name),
                f"--seed={seed}",
            ]
            subprocess.run([*command, f"--training={sizes.training}", "--epochs=10"], check=False, stdout=sys.stderr)
        _replace(here.folder / "served", here.folder / "sample")
        models = here.folder / "models.toml"
        models.write_text(f'[models.{MODEL}]\nsource = "{here.folder / "served"}"\nengine = "onnx"\n')
        here.environment |= {"UQUEUE_MODELS": str(models), "UQUEUE_LOCALIZATION_MODEL": MODEL}
        here.environment.pop("UQUEUE_ENGINE")
        here.environment.pop("UQUEUE_WORKSPACE_ROOT")
        settings = Settings.load({"UQUEUE_BROKER_URL": here.environment["UQUEUE_BROKER_URL"]})
        with here.worker(LANE.worker) as worker, uqueue.Client(settings) as client:
            wait_until_ready(client, worker, 1)
            with web_server(GATEWAY, here) as (url, _):
                time.sleep(1.0)
                yield here, url


def main() -> None:
    options = parser(__doc__)
    for name in ("users", "requests", "samples", "receivers"):
        options.add_argument(f"--{name}", type=int)
    options.add_argument("--think-seconds", type=float)
    given = options.parse_args()
    sizes = QUICK if given.quick else Sizes()
    asked = {name: value for name, value in vars(given).items() if name in asdict(sizes) and value is not None}
    sizes = replace(sizes, **asked)

    def measure() -> dict[str, Any]:
        with _service(sizes) as (here, url):
            found = LoadTest(here, url, sizes).measure()
            model = here.folder / "served" / "models" / MODEL / "model.onnx"
            return {"sizes": asdict(sizes), "in_work": IN_WORK, "model_bytes": model.stat().st_size, **found}

    measure_part("localization", given, measure)


if __name__ == "__main__":
    main()

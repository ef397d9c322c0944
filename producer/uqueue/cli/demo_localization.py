"""`uqueue demo-localization`: from simulated receivers to a map, with real processes, in a folder of its own.

train and register → serve → ask over HTTP → replace the model under load → look at errors, ellipses and the map
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uqueue.cli.asking import post
from uqueue.cli.failures import FAILED, OK
from uqueue.cli.localization_map import draw_map, map_features
from uqueue.cli.output import complain, say, stdout, table
from uqueue.cli.recording import open_recording, write_atomically
from uqueue.cli.signals import raised_once
from uqueue.cli.sites import Site, distance_m, inside
from uqueue.cli.stage import DemoStopped, heading, last_words, spinner, wait_until
from uqueue.cli.traffic import Traffic
from uqueue.cli.up import embedded_redis
from uqueue.client import Client
from uqueue.local import beat_service, child_environment, wait_for_worker, worker_service
from uqueue.supervisor import Service, Supervisor
from uqueue_config.errors import JobFailed
from uqueue_config.settings import Settings

MODEL = "localization_model"
PROCESSES = 2
RECORDINGS = 24
SHOWN = 6
#: The first model sees few emitters, so that there is something to improve.
FIRST = ("--training=600", "--epochs=15", "--calibration=1000", "--held-out=1000", "--semver=1.0.0")
SECOND = ("--training=6000", "--calibration=2000", "--held-out=2000", "--semver=2.0.0", "--seed=1")
TRAINING_SECONDS = 300.0
WAIT_SECONDS = 60.0
ANSWER_SECONDS = 10.0
AFTERWARDS_SECONDS = 2.0


@dataclass
class Stage:
    """What the steps share. `url` is the gateway's, once it runs."""

    folder: Path
    settings: Settings
    environment: dict[str, str]
    client: Client
    supervisor: Supervisor
    registry: str
    url: str = ""
    sites: list[Site] = field(default_factory=list)

    @property
    def sample(self) -> Path:
        return self.folder / "sample"

    def report(self) -> dict[str, Any]:
        """Return what the last training measured."""
        found: dict[str, Any] = json.loads((self.sample / "report.json").read_text())
        return found


def run(output: Path, *, keep: bool) -> int:
    """Play the demo; return the exit code: 1 when a request failed or a coverage is outside its band."""
    started = time.monotonic()
    try:
        with raised_once(), _stage(keep) as stage:
            good = _play(stage, output)
    except DemoStopped as stopped:
        complain(str(stopped))
        return FAILED
    stdout().print(f"\nDone in {time.monotonic() - started:.0f} s; every process was stopped.")
    return OK if good else FAILED


def _play(stage: Stage, output: Path) -> bool:
    heading(
        "1  Train and register",
        "A beacon floats in a square of 2 km, three receivers hear it. A network learns where it is, and how surely.",
    )
    _start_registry(stage)
    first = _train(stage, "1", FIRST)
    heading(
        "2  Serve", f"A worker with {PROCESSES} processes takes the model from the registry; a gateway speaks HTTP."
    )
    _serve(stage)
    heading("3  Ask", "IQ samples of held-out emitters go in, positions and ellipses come out.")
    before = _ask(stage)
    heading(
        "4  Replace the model under load", "A second version learns from ten times as many emitters. None may wait."
    )
    second, failed = _replace(stage)
    after = _ask_all(stage)
    heading("5  Look", "Both versions on the same emitters: smaller errors, smaller ellipses, the same coverage.")
    _show(stage, before, after)
    _show_coverage({"1": first, "2": second})
    _write_map(stage, output, {"1": before, "2": after}, second)
    bands = [one["inside_band"] for report in (first, second) for one in report["coverage"]]
    return all(bands) and not failed


@contextlib.contextmanager
def _stage(keep: bool) -> Iterator[Stage]:
    with contextlib.ExitStack() as stack:
        if keep:
            folder = Path(tempfile.mkdtemp(prefix="uqueue-localization-"))
            say(f"Everything is kept in {folder}")
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="uqueue-localization-")))
        redis = stack.enter_context(embedded_redis(folder / "redis"))
        registry = f"http://127.0.0.1:{_free_port()}"
        settings = _settings(folder, redis.url, registry)
        environment = {**child_environment(settings, os.environ), "TF_CPP_MIN_LOG_LEVEL": "3"}
        client = stack.enter_context(Client(settings))
        yield Stage(folder, settings, environment, client, stack.enter_context(Supervisor()), registry)


def _settings(folder: Path, url: str, registry: str) -> Settings:
    models = folder / "models.toml"
    models.write_text(f'[models.{MODEL}]\nsource = "models:/{MODEL}@production"\nengine = "onnx"\n')
    own = {
        "UQUEUE_BROKER_URL": url,
        "UQUEUE_MODELS": str(models),
        "UQUEUE_MLFLOW_TRACKING_URL": registry,
        "UQUEUE_CACHE_DIR": str(folder / "cache"),
        "UQUEUE_CONCURRENCY": str(PROCESSES),
        "UQUEUE_POLL_SECONDS": "1",
        "UQUEUE_SHUTDOWN_SECONDS": "5",
        "UQUEUE_GATEWAY_PORT": str(_free_port()),
    }
    return Settings.load(own)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start_registry(stage: Stage) -> None:
    port = stage.registry.rpartition(":")[2]
    argv = [sys.executable, "-m", "uqueue_worker.sample.registry_server", str(stage.folder / "mlflow"), "--port", port]
    server = Service("registry", argv, stage.environment, log_file=stage.folder / "mlflow.log")
    stage.supervisor.start(server)
    with spinner("starting MLflow …"):
        _wait(stage, lambda: _answers(f"{stage.registry}/health"), "MLflow", server)
    stdout().print(f"MLflow listens on {stage.registry}.")


def _train(stage: Stage, number: str, arguments: tuple[str, ...]) -> dict[str, Any]:
    training = _start_training(stage, number, arguments)
    with spinner("simulating and training …"):
        wait_until(
            stage.supervisor, lambda: training.returncode is not None, TRAINING_SECONDS, "training", but=training
        )
    return _trained(stage, training)


def _start_training(stage: Stage, number: str, arguments: tuple[str, ...]) -> Service:
    argv = [sys.executable, "-m", "uqueue_worker.sample.localizer", str(stage.sample), "--register", stage.registry]
    argv += [f"--recordings={RECORDINGS}", *arguments]
    log_file = stage.folder / f"training-{number}.log"
    return stage.supervisor.start(Service("training", argv, stage.environment, log_file=log_file))


def _trained(stage: Stage, training: Service) -> dict[str, Any]:
    training.wait_for_output()
    if training.returncode not in (OK, FAILED) or not (stage.sample / "report.json").exists():
        raise DemoStopped(last_words(training))
    stdout().print(training.log_text().strip(), markup=False, soft_wrap=True)
    return stage.report()


def _serve(stage: Stage) -> None:
    worker = worker_service(stage.settings, stage.environment, log_file=stage.folder / "worker.log")
    stage.supervisor.start(worker)
    stage.supervisor.start(beat_service(stage.environment, log_file=stage.folder / "beat.log"))
    argv = [sys.executable, "-m", "uqueue", "gateway"]
    gateway = Service("gateway", argv, stage.environment, log_file=stage.folder / "gateway.log")
    stage.supervisor.start(gateway)
    stage.url = f"http://127.0.0.1:{stage.settings.gateway_port}"
    with spinner("starting …"):
        found = wait_for_worker(stage.client, worker, PROCESSES, WAIT_SECONDS)
        if sum(one.version is not None for one in found) < PROCESSES:
            reasons = ", ".join(sorted({one.reason for one in found if one.reason}))
            raise DemoStopped(f"the model is not served: {reasons} {last_words(worker)}")
        _wait(stage, lambda: _answers(f"{stage.url}/ready"), "the gateway", gateway)
    info = _get(f"{stage.url}/model/info")
    stdout().print(f"{stage.url} serves {info['name']} version {info['version']} on {len(found)} processes")
    stage.sites = _sites(stage)


def _sites(stage: Stage) -> list[Site]:
    folder = stage.sample / "recordings"
    truth = json.loads((folder / "truth.json").read_text())
    return [Site(one, open_recording(folder / f"{one['recording']}.sigmf-meta")) for one in truth]


def _ask(stage: Stage) -> list[dict[str, Any]]:
    pairs, text = _json_body(stage.sites[0]), _base64_body(stage.sites[1])
    for what, body in (("JSON", pairs), ("base64", text), ("the same again", text)):
        started = time.monotonic()
        answer = post(f"{stage.url}/predict", body, timeout=ANSWER_SECONDS)
        where = "from the cache" if answer["_cache_hit"] else "from a worker"
        size = len(json.dumps(body)) / 1e6
        stdout().print(f"{what}: {size:.1f} MB, {1000 * (time.monotonic() - started):.0f} ms, {where}")
    return _ask_all(stage)


def _ask_all(stage: Stage) -> list[dict[str, Any]]:
    body = {"predictions": [_base64_body(site) for site in stage.sites]}
    answer = post(f"{stage.url}/predict/batch", body, timeout=ANSWER_SECONDS)
    answers: list[dict[str, Any]] = answer["predictions"]
    versions = ", ".join(sorted({one["model_version"] for one in answers}))
    hits = sum(one["_cache_hit"] for one in answers)
    stdout().print(
        f"batch of {len(answers)}: {answer['total_time_ms']:.0f} ms, {hits} from the cache, version {versions}"
    )
    return answers


def _json_body(site: Site) -> dict[str, Any]:
    samples = site.samples
    pairs = samples.view("float32").reshape(*samples.shape, 2).tolist()
    return {"iq_data": pairs, **site.about}


def _base64_body(site: Site) -> dict[str, Any]:
    text = base64.b64encode(site.samples.astype("<c8").tobytes()).decode()
    return {"iq_base64": text, "shape": list(site.samples.shape), **site.about}


def _replace(stage: Stage) -> tuple[dict[str, Any], int]:
    before = _get(f"{stage.url}/model/info")["version"]
    with Traffic.requests(f"{stage.url}/predict", [_base64_body(site) for site in stage.sites]) as traffic:
        training = _start_training(stage, "2", SECOND)
        with spinner("simulating and training again, requests flow …"):
            wait_until(
                stage.supervisor, lambda: training.returncode is not None, TRAINING_SECONDS, "training", but=training
            )
            report = _trained(stage, training)
            with contextlib.suppress(JobFailed):  # 409 where the worker's own look at the registry was quicker
                post(f"{stage.url}/model/reload", {}, timeout=WAIT_SECONDS)
            _wait(stage, lambda: bool(_get(f"{stage.url}/model/info")["version"] != before), "the reload", training)
            time.sleep(AFTERWARDS_SECONDS)
    tally = traffic.tally
    shares = ", ".join(f"{count} by version {version}" for version, count in sorted(tally.answered.items()))
    stdout().print(f"{tally.jobs} requests meanwhile: {shares}; {len(tally.failures)} failed")
    stdout().print(f"slowest answer {tally.slowest_seconds:.2f} s")
    for failure in tally.failures[:3]:
        complain(failure)
    return report, len(tally.failures)


def _show(stage: Stage, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    columns = ["emitter", "true position", "version", "estimate", "error (m)", "68 % ellipse (m)", "inside"]
    lines = []
    for site, *answers in list(zip(stage.sites, before, after, strict=True))[:SHOWN]:
        for answer in answers:
            at, ellipse = answer["position"], answer["ellipse"]
            lines.append(
                [
                    site.name,
                    f"{site.latitude:.5f}, {site.longitude:.5f}",
                    answer["model_version"],
                    f"{at['latitude']:.5f}, {at['longitude']:.5f}",
                    f"{distance_m(site, answer):.0f}",
                    f"{ellipse['semi_major_axis_m']:.0f} × {ellipse['semi_minor_axis_m']:.0f}",
                    "yes" if inside(site, answer, 0.68) else "no",
                ]
            )
    stdout().print(table(columns, lines))
    for answers in (before, after):
        held = [
            sum(inside(site, one, level) for site, one in zip(stage.sites, answers, strict=True)) for level in _LEVELS
        ]
        counts = " and ".join(f"{count} in the {level:.0%} ellipse" for count, level in zip(held, _LEVELS, strict=True))
        stdout().print(f"version {answers[0]['model_version']}: of {len(answers)} true positions {counts}")


_LEVELS = (0.68, 0.95)


def _show_coverage(reports: dict[str, dict[str, Any]]) -> None:
    columns = ["version", "trained on", "error 68 % (m)", "ellipse", "true positions inside", "share", "99 % band"]
    lines = []
    for number, report in reports.items():
        for one in report["coverage"]:
            lines.append(
                [
                    number,
                    f"{report['training']} emitters",
                    f"{report['error_m']['p68']:.0f}",
                    f"{one['level']:.0%}",
                    f"{one['inside']} of {one['of']}",
                    f"{one['share']:.1%}",
                    "{} to {}".format(*one["band"]) + ("" if one["inside_band"] else " (outside)"),
                ]
            )
    stdout().print(table(columns, lines))


def _write_map(stage: Stage, output: Path, answers: dict[str, list[dict[str, Any]]], report: dict[str, Any]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    features = map_features(stage.sites, answers, report["scene"])
    write_atomically(output / "map.geojson", (json.dumps(features, indent=1) + "\n").encode())
    draw_map(output / "map.png", features)
    stdout().print(f"{output / 'map.png'} shows both versions; {output / 'map.geojson'} holds the same.")


def _wait(stage: Stage, done: Any, what: str, but: Service) -> None:
    wait_until(stage.supervisor, done, WAIT_SECONDS, what, but=but)


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        _get(url)
        return True
    return False


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 - a server of our own
        text = answer.read()
    return json.loads(text) if text[:1] in (b"{", b"[") else text

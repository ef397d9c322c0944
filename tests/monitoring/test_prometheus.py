"""A real Prometheus with the files of deploy/monitoring, in front of a real gateway and worker."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from builders.gateway import RunningGateway, running_gateway
from builders.iq import as_base64, iq
from builders.onnx_models import tiny_localizer, write_localizer
from builders.service import RunningService, running_service
from builders.waiting import eventually
from uqueue.gateway.keys import NewKey, append_key
from uqueue.supervisor import Service

DEPLOYED = Path(__file__).parents[2] / "deploy/monitoring"
CASES = {"alerts.yml": "alerts_test.yml", "learning-alerts.yml": "learning_alerts_test.yml"}
FIGURES = (
    *("inference_latency_ms_count", "preprocessing_latency_ms_count", "onnx_latency_ms_count"),
    *("inference_requests_total", "cache_hits_total", "model_inference_count_total", "redis_memory_bytes"),
    *("uqueue_queue_wait_seconds_count", "uqueue_task_duration_seconds_count", "uqueue_tasks_total"),
    *("uqueue_model_inference_seconds_count", "uqueue_predictions_total", "uqueue_request_duration_seconds_count"),
)


def promtool(*arguments: str, cwd: Path = DEPLOYED) -> str:
    assert shutil.which("promtool"), "this needs promtool: apt-get install prometheus"
    done = subprocess.run(["promtool", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_accepts_the_alerts() -> None:
    assert "10 rules found" in promtool("check", "rules", "alerts.yml")
    assert "6 rules found" in promtool("check", "rules", "learning-alerts.yml")


@pytest.mark.parametrize(("rules", "cases"), list(CASES.items()))
def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path, rules: str, cases: str) -> None:
    shutil.copy(DEPLOYED / rules, tmp_path)
    shutil.copy(Path(__file__).with_name(cases), tmp_path)
    assert "SUCCESS" in promtool("test", "rules", cases, cwd=tmp_path)


@dataclass
class Watched:
    service: RunningService
    gateway: RunningGateway
    key: str
    prometheus: str

    def api(self, path: str, **params: str) -> Any:
        answer = httpx.get(f"{self.prometheus}/api/v1/{path}", params=params, timeout=20)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def value(self, expression: str) -> float | None:
        """Return the sum of what an expression gives, None where it gives nothing."""
        found = self.api("query", query=expression)["result"]
        return sum(float(one["value"][1]) for one in found) if found else None


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("monitoring")
    write_localizer(folder / "workspace", tiny_localizer(), name="mccp-uq")
    key = NewKey.make("prometheus", ["read", "submit"])
    append_key(folder / "keys.toml", key.entry)
    (folder / "prometheus-key").write_text(key.secret)
    env = {"UQUEUE_ENGINE": "onnx", "UQUEUE_API_KEYS_FILE": str(folder / "keys.toml")}
    with (
        running_service(folder / "service", workspace=folder / "workspace", concurrency=1, env=env) as service,
        running_gateway(service.environment, folder / "gateway") as gateway,
        prometheus(folder, gateway) as url,
    ):
        watched = Watched(service, gateway, key.secret, url)
        eventually(lambda: watched.value("model_loaded") == 1, "Prometheus has scraped the gateway", seconds=60)
        headers = {"Authorization": f"Bearer {key.secret}"}
        for seed in (1, 2, 3, 1):
            sent = httpx.post(f"{gateway.url}/predict", json=as_base64(iq(seed)), headers=headers, timeout=20)
            assert sent.status_code == 200, sent.text
        yield watched


class prometheus:
    """Runs Prometheus with the deployed files, in which only the target, its key and the intervals are others."""

    def __init__(self, folder: Path, gateway: RunningGateway) -> None:
        assert shutil.which("prometheus"), "this needs Prometheus: apt-get install prometheus"
        config = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["scrape_configs"] = config["scrape_configs"][:1]  # no learning worker runs here
        (job,) = config["scrape_configs"]
        job["static_configs"] = [{"targets": [gateway.url.removeprefix("http://")]}]
        job["authorization"]["credentials_file"] = str(folder / "prometheus-key")
        for rules in CASES:
            shutil.copy(DEPLOYED / rules, folder)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        print(promtool("check", "config", "prometheus.yml", cwd=folder))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        arguments = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        argv = ["prometheus", *arguments, f"--web.listen-address={self.address}"]
        self.service = Service("prometheus", argv, dict(os.environ), log_file=folder / "prometheus.log")

    def __enter__(self) -> str:
        self.service.start()
        eventually(self._is_ready, f"Prometheus is ready: {self.service.log_text()[-500:]}")
        return f"http://{self.address}"

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"http://{self.address}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def __exit__(self, *_: object) -> None:
        self.service.stop()


def test_the_gateway_is_scraped_with_its_key(watched: Watched) -> None:
    (target,) = watched.api("targets")["activeTargets"]
    assert (target["labels"]["job"], target["health"], target["lastError"]) == ("uqueue", "up", "")
    eventually(lambda: watched.value("inference_requests_total") == 4, "the requests are counted")
    eventually(lambda: watched.value('uqueue_tasks_total{task="uqueue.predict"}') == 3, "the worker's jobs are counted")
    assert watched.value("cache_hits_total") == 1
    for name in FIGURES:
        found = watched.value(name)
        print(f"{name} = {found}")
        assert found, name


def test_prometheus_answers_every_expression_of_the_dashboard(watched: Watched) -> None:
    dashboard = json.loads((DEPLOYED / "grafana/uqueue.json").read_text())
    shown: dict[str, int] = {}

    def all_shown() -> bool:
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                found = watched.api("query", query=target["expr"].replace("$__rate_interval", "1m"))["result"]
                shown[panel["title"]] = len(found)
        empty = {title for title, series in shown.items() if not series}
        return empty <= {"Model accuracy", "Localization errors", "Gateways"}  # of which nothing is to be told

    eventually(all_shown, "every panel has something to show")
    print(json.dumps(shown, indent=1))


def test_a_worker_that_ends_is_told_of(watched: Watched) -> None:
    rules = {rule["name"]: rule for group in watched.api("rules")["groups"] for rule in group["rules"]}
    assert len(rules) == 16
    assert {rule["health"] for rule in rules.values()} == {"ok"}, rules
    assert rules["NoWorkers"]["state"] == "inactive"
    watched.service.services["worker"].stop()

    def states() -> dict[str, str]:
        return {rule["name"]: rule["state"] for group in watched.api("rules")["groups"] for rule in group["rules"]}

    eventually(lambda: states()["NoWorkers"] == states()["ModelNotLoaded"] == "pending", "the alerts begin", seconds=40)
    print(json.dumps(states(), indent=1))
    assert states()["GatewayDown"] == "inactive"


def test_promtool_reads_the_metrics(watched: Watched) -> None:
    headers = {"Authorization": f"Bearer {watched.key}"}
    text = httpx.get(f"{watched.gateway.url}/metrics", headers=headers).text
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    sys.stdout.write(done.stderr)
    # It finds fault with names in milliseconds, which are those that dashboards expect; with nothing of the queue's.
    assert done.returncode in (0, 3), done.stderr
    assert "error while linting" not in done.stderr
    assert not [line for line in done.stderr.splitlines() if line.startswith("uqueue_")], done.stderr

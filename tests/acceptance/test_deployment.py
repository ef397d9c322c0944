"""Procfile, compose file and Dockerfile say the same, and what they say starts."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders.artifacts import write_workspace
from builders.guarded_redis import load_make_users
from builders.service import running_service
from builders.waiting import eventually
from uqueue_config.learning.settings import LearningSettings
from uqueue_config.settings import Settings

ROOT = Path(__file__).parents[2]
PROCFILE = dict(
    line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines() if not line.startswith("#")
)
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_compose_runs_the_procfile_lines() -> None:
    for name, line in PROCFILE.items():
        assert COMPOSE["services"][name]["command"] == shlex.split(line)


def test_compose_services() -> None:
    services = COMPOSE["services"]
    own = {"redis-users", "redis", "worker", "beat", "flower", "web"}
    learning = {"postgres", "learning-migrate", "learning"}
    assert set(services) == own | learning | {"minio", "minio-bucket", "prometheus", "grafana"}
    assert {name for name in services if "profiles" not in services[name]} == own
    redis = " ".join(services["redis"]["command"])
    assert "--appendonly yes" in redis
    assert "noeviction" in redis
    for name in ("worker", "beat", "flower", "web"):
        assert services[name]["depends_on"] == {"redis": {"condition": "service_healthy"}}
        assert services[name]["build"]["dockerfile"] == "deploy/Dockerfile"
    assert services["worker"]["volumes"][0].endswith(":/workspace:ro")


def test_compose_gives_each_service_its_own_redis_user() -> None:
    services = COMPOSE["services"]
    for name, user in {
        "worker": "worker",
        "beat": "beat",
        "flower": "flower",
        "web": "gateway",
        "learning": "learning",
    }.items():
        variable = f"${{REDIS_{user.upper()}_PASSWORD:?see docs/security.md}}"
        assert services[name]["environment"]["UQUEUE_BROKER_URL"] == f"redis://{user}:{variable}@redis:6379/0"
        assert str(services[name]).count("REDIS_") == 1


def test_compose_makes_the_users_before_redis_starts() -> None:
    make_users, services = load_make_users(), COMPOSE["services"]
    users, redis = services["redis-users"], services["redis"]
    assert list(users["environment"]) == make_users.password_names(make_users.TEMPLATE.read_text())
    for name, value in users["environment"].items():
        assert value == f"${{{name}:?see docs/security.md}}"
    script, target = users["command"][1:]
    assert f"./{make_users.TEMPLATE.parent.relative_to(ROOT)}:{Path(script).parent}:ro" in users["volumes"]
    assert f"redis-users:{Path(target).parent}" in users["volumes"]
    assert f"redis-users:{Path(target).parent}:ro" in redis["volumes"]
    assert redis["command"][-2:] == ["--aclfile", target]
    assert redis["depends_on"] == {"redis-users": {"condition": "service_completed_successfully"}}
    assert "--user health" in redis["healthcheck"]["test"][1]
    assert redis["environment"] == {"REDISCLI_AUTH": users["environment"]["REDIS_HEALTH_PASSWORD"]}


def test_compose_brings_a_store_with_a_bucket_on_request() -> None:
    store, bucket = COMPOSE["services"]["minio"], COMPOSE["services"]["minio-bucket"]
    assert store["profiles"] == bucket["profiles"] == ["s3"]
    assert store["image"] == bucket["image"]
    assert store["healthcheck"]["test"] == ["CMD", "mc", "ready", "local"]
    assert bucket["depends_on"] == {"minio": {"condition": "service_healthy"}}
    assert subprocess.run(["sh", "-nc", *bucket["command"]], check=False).returncode == 0
    assert {name for name in bucket["environment"] if name in bucket["command"][0]} == set(bucket["environment"])
    assert store["environment"]["MINIO_ROOT_PASSWORD"] == "${UQUEUE_S3_SECRET_ACCESS_KEY:-}"
    assert all(port.startswith("127.0.0.1:") for port in store["ports"])


def test_compose_migrates_before_the_learning_worker_starts_which_alone_knows_the_database() -> None:
    services = COMPOSE["services"]
    database, migrate, worker = (services[name] for name in ("postgres", "learning-migrate", "learning"))
    assert [one["profiles"] for one in (database, migrate, worker)] == [["learning"]] * 3
    assert migrate["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert migrate["command"] == ["uqueue", "learn", "migrate"]
    assert migrate["restart"] == "no"
    assert worker["depends_on"] == {
        "redis": {"condition": "service_healthy"},
        "learning-migrate": {"condition": "service_completed_successfully"},
    }
    knows = {name for name, one in services.items() if "LEARNING_DATABASE_PASSWORD" in str(one)}
    assert knows == {"postgres", "learning-migrate", "learning"}
    assert "ports" not in database
    assert worker["volumes"] == [f"learning-data:{worker['environment']['UQUEUE_LEARNING_DATA_DIR']}"]
    assert "learning" in worker["build"]["args"]["EXTRAS"]


def test_compose_passes_the_source_of_models_on_to_the_worker_only() -> None:
    services = COMPOSE["services"]
    passed = {
        *("UQUEUE_S3_ENDPOINT_URL", "UQUEUE_S3_REGION", "UQUEUE_S3_ACCESS_KEY_ID", "UQUEUE_S3_SECRET_ACCESS_KEY"),
        *("UQUEUE_MLFLOW_TRACKING_URL",),
    }
    environment = services["worker"]["environment"]
    assert {name: environment[name] for name in passed} == dict.fromkeys(passed), "unset where nobody sets them"
    default = re.fullmatch(r"\$\{UQUEUE_ARTIFACT_SOURCE:-(.+)\}", environment["UQUEUE_ARTIFACT_SOURCE"])
    assert default is not None
    assert default[1] == environment["UQUEUE_WORKSPACE_ROOT"]
    for name in ("beat", "flower"):
        assert not passed & set(services[name]["environment"])


def test_compose_sets_only_settings_that_exist() -> None:
    known = {f"UQUEUE_{name.upper()}" for name in Settings.model_fields}
    known |= {f"UQUEUE_LEARNING_{name.upper()}" for name in LearningSettings.model_fields}
    for service in COMPOSE["services"].values():
        environment = service.get("environment", {})
        values = {
            name: value for name, value in environment.items() if name.startswith("UQUEUE_") and value is not None
        }
        assert {name for name in environment if name.startswith("UQUEUE_")} <= known
        for name, value in values.items():
            default = re.fullmatch(r"\$\{\w+:-(.+)\}", value)
            values[name] = default[1] if default else "1" if "$" in value else value
        if values:
            values["UQUEUE_BROKER_URL"] = "redis://redis:6379/0"
            Settings.load(values)
            LearningSettings.load(values)


def test_the_image_runs_as_nobody_in_particular_and_copies_what_exists() -> None:
    text = (ROOT / "deploy/Dockerfile").read_text()
    stages = text.split("FROM ")
    assert "USER uqueue" in stages[-1]
    assert stages[-1].index("USER uqueue") < stages[-1].index("CMD")
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, flags=re.MULTILINE):
        *sources, _ = line.split()
        for source in sources:
            assert (ROOT / source).exists()
    command = re.search(r"^CMD (\[.*\])$", text, flags=re.MULTILINE)
    assert command is not None
    assert yaml.safe_load(command.group(1)) == shlex.split(PROCFILE["worker"])


@pytest.mark.parametrize("name", list(PROCFILE))
def test_every_procfile_line_starts_and_stops(name: str, tmp_path: Path) -> None:
    write_workspace(tmp_path / "workspace")
    # Beat makes its schedule after it says that it starts; a signal in that moment makes Celery fail.
    ready = {
        "worker": "ready.",
        "beat": "Sending due task",
        "flower": "Visit me at",
        "web": '"event":"listening"',
        "learning": "ready.",
    }[name]
    learning = {  # which needs no database before its first task
        "UQUEUE_LEARNING_DATABASE": "postgresql://nobody@127.0.0.1:1/none",
        "UQUEUE_LEARNING_DATA_DIR": str(tmp_path),
        "UQUEUE_LEARNING_TICK_SECONDS": "3600",
    }
    with running_service(
        tmp_path / "service",
        workspace=tmp_path / "workspace",
        concurrency=1,
        beat=False,
        env={"UQUEUE_FLOWER_PORT": "0", "UQUEUE_GATEWAY_PORT": "0"},
    ) as service:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        log = tmp_path / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                shlex.split(PROCFILE[name]),
                env={**service.environment, **learning, "PATH": path},
                cwd=tmp_path,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            eventually(lambda: ready in log.read_text() or process.poll() is not None, f"{name} says {ready!r}")
            assert process.poll() is None, log.read_text()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) in (0, -signal.SIGTERM), log.read_text()
        finally:
            process.kill()
            process.wait()

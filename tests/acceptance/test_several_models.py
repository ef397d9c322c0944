"""Several models in one service, with a canary and a shadow, on the lane and as ordinary tasks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from builders.artifacts import mqnn_h5_bytes, write_workspace
from builders.command import uqueue as command
from builders.s3_server import s3_server
from builders.service import RunningService, running_service
from builders.waiting import eventually
from uqueue import IntervalPrediction
from uqueue_config.errors import InvalidMessage, UnknownModel, VersionNotServed

ROW = np.linspace(-1.0, 1.0, 8).reshape(1, 8)
SHARE = 0.2
MODELS = f"""
[models.energy]
source = "FOLDER/stable"
target_unit = "kWh"
canary = {{ source = "FOLDER/canary", share = {SHARE} }}
shadow = {{ source = "FOLDER/shadow" }}

[models.heating]
source = "FOLDER/stable"
load = "on-demand"

[models.cooling]
source = "FOLDER/stable"
load = "on-demand"
"""


def write_models(folder: Path, text: str) -> dict[str, str]:
    path = folder / "models.toml"
    path.write_text(text.replace("FOLDER", str(folder)))
    return {"UQUEUE_MODELS": str(path)}


@pytest.fixture(scope="module", params=["on", "off"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("models")
    for number, place in enumerate(("stable", "canary", "shadow"), 1):
        for name in ("energy", "heating", "cooling"):
            model = mqnn_h5_bytes(seed=number, hidden=(8,))
            write_workspace(folder / place, name=name, model=model, q_hat=float(number), max_mc=4)
    size = len(mqnn_h5_bytes(seed=1, hidden=(8,)))
    env = {"UQUEUE_LANE": request.param, "UQUEUE_MODEL_MEMORY_BYTES": str(4 * size), **write_models(folder, MODELS)}
    with running_service(folder / "service", concurrency=2, env=env) as running:
        yield running


def versions(service: RunningService) -> dict[str, str | None]:
    return {model.name: model.wanted_version for model in service.client.models()}


def test_the_share_of_the_canary_over_many_jobs(service: RunningService) -> None:
    jobs = 10_000 if service.settings.lane == "on" else 1_000
    submitted = service.client.submit_many([ROW] * jobs, "energy")
    answers = [job.result(timeout=60) for job in submitted]
    known = versions(service)
    answered = [answer.model.version for answer in answers]
    assert set(answered) == {known["energy"], known["energy@canary"]}
    canaries = answered.count(str(known["energy@canary"]))
    deviation = (jobs * SHARE * (1 - SHARE)) ** 0.5
    assert abs(canaries - jobs * SHARE) < 4 * deviation
    assert {(answer.model.version == known["energy"], answer.q_hat[0]) for answer in answers} == {(True, 1), (False, 2)}
    assert {answer.unit for answer in answers} == {"kWh"}


def test_a_key_stays_with_its_version(service: RunningService) -> None:
    seen = {}
    for key in (f"robot {number}" for number in range(25)):
        jobs = service.client.submit_many([ROW] * 4, "energy", sticky_key=key)
        [seen[key]] = {job.result(timeout=30).model.version for job in jobs}
    assert len(set(seen.values())) == 2


def test_the_shadow_answers_too_and_only_for_comparison(service: RunningService) -> None:
    before = service.client.model("energy").shadow
    already = before.jobs if before else 0
    jobs = service.client.submit_many([ROW] * 20, "energy", version="stable")
    assert {job.result(timeout=30).q_hat[0] for job in jobs} == {1.0}

    def compared() -> bool:
        found = service.client.model("energy").shadow
        return found is not None and found.jobs >= already + 20

    eventually(compared, "the heartbeat stores the comparison")
    shadow = service.client.model("energy").shadow
    assert shadow is not None
    assert (shadow.shadow_version, shadow.failed) == (versions(service)["energy@shadow"], 0)
    assert shadow.midpoint_distance > 0
    assert shadow.shadow_width == pytest.approx(shadow.width + 4.0, abs=3.0), "q_hat is 3 instead of 1"


def test_models_on_demand_take_turns_in_memory(service: RunningService) -> None:
    def states(name: str) -> set[str]:
        return {process.state for model in service.client.models() if model.name == name for process in model.processes}

    eventually(lambda: states("cooling") == {"unloaded"}, "the first poll has looked at it and dropped it")
    for name in ("heating", "cooling", "heating"):
        answers = [job.result(timeout=30) for job in service.client.submit_many([ROW] * 30, name)]
        assert {answer.model.name for answer in answers} == {name}
    eventually(lambda: "ready" in states("heating"), "it says that it is loaded")
    assert states("energy") == {"ready"}
    eventually(lambda: service.client.model("cooling").converged, "what is not loaded serves nothing else")


def test_versions_by_name(service: RunningService) -> None:
    known = versions(service)
    for version, wanted in (
        ("canary", "energy@canary"),
        ("stable", "energy"),
        (known["energy@shadow"], "energy@shadow"),
    ):
        assert service.client.submit(ROW, "energy", version=version).result(timeout=30).model.version == known[wanted]
    with pytest.raises(VersionNotServed, match="neither at the source nor in the cache"):
        service.client.submit(ROW, "energy", version="0" * 16).result(timeout=30)
    with pytest.raises(VersionNotServed, match="the model has no canary"):
        service.client.submit(ROW, "heating", version="canary").result(timeout=30)
    with pytest.raises(InvalidMessage, match="version"):
        service.client.submit(ROW, "energy", version="no such name")
    with pytest.raises(UnknownModel, match="energy, heating, cooling"):
        service.client.submit(ROW).result(timeout=30)


def test_the_command_line_asks_for_versions(service: RunningService) -> None:
    arguments = ("submit", "-", "--model", "energy", "--model-version", "canary", "--wait", "--json")
    printed = command(service.environment, *arguments, stdin="1,2,3,4,5,6,7,8\n").stdout
    assert str(versions(service)["energy@canary"]) in printed


def test_a_wrong_file_stops_the_worker_with_a_sentence(tmp_path: Path, service: RunningService) -> None:
    environment = {**service.environment, **write_models(tmp_path, "[models.energy]\nsauce = 1")}
    arguments = ["-m", "celery", "-A", "uqueue_worker.app", "worker"]
    outcome = python(environment, arguments)
    assert outcome.returncode == 2
    assert "models.energy.sauce: no such setting" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def python(environment: dict[str, str], arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def asked_for(service: RunningService, version: str) -> IntervalPrediction:
    """Ask again while the source is slow to say what it calls so."""
    while True:
        try:
            return service.client.submit(ROW, "energy", version=version).result(timeout=60)
        except VersionNotServed as error:
            if "ask again" not in error.message:
                raise


def test_a_canary_is_published_promoted_and_rolled_back(tmp_path: Path) -> None:
    """All by moving aliases in a bucket; polls do the rest."""
    place = "s3://models/team/a"
    for number in (1, 2):
        model = mqnn_h5_bytes(seed=number, hidden=(8,))
        write_workspace(tmp_path / f"v{number}", name="energy", model=model, q_hat=float(number), max_mc=4)
    text = f"""
        [models.energy]
        source = "{place}?version=@stable"
        canary = {{ source = "{place}?version=@canary", share = 0.5 }}
    """
    with s3_server(tmp_path) as server:
        server.make_bucket("models")
        env = {"UQUEUE_POLL_SECONDS": "0.5", **server.environment(server.url), **write_models(tmp_path, text)}

        def publish(number: int, alias: str) -> None:
            environment = {**os.environ, **env}
            arguments = ("--to", place, "--alias", alias, "--version", f"v{number}", "--model", "energy")
            command(environment, "publish", str(tmp_path / f"v{number}"), *arguments)

        bucket = server.client()
        alias = {"Bucket": "models", "Key": "team/a/energy/aliases/stable.json"}

        def stable_alias() -> bytes:
            return bucket.get_object(**alias)["Body"].read()

        publish(1, "stable")
        publish(1, "canary")
        earlier = stable_alias()
        with running_service(tmp_path / "service", concurrency=2, env=env) as service:

            def serving() -> tuple[set[float], set[float]]:
                by_version = [
                    service.client.submit_many([ROW] * 8, "energy", version=version) for version in ("stable", "canary")
                ]
                stable, canary = ({job.result(timeout=30).q_hat[0] for job in jobs} for jobs in by_version)
                return stable, canary

            assert serving() == ({1.0}, {1.0})
            publish(2, "canary")
            eventually(lambda: serving() == ({1.0}, {2.0}), "the canary is another version")
            for name, number in (("v1", 1.0), ("@canary", 2.0), ("v2", 2.0)):
                assert asked_for(service, name).q_hat[0] == number, f"the bucket's own name {name}"
            with pytest.raises(VersionNotServed, match="v3"):
                asked_for(service, "v3")
            publish(2, "stable")
            eventually(lambda: serving() == ({2.0}, {2.0}), "it is promoted")
            later, seconds = stable_alias(), []
            for number, named in ((1, earlier), (2, later), (1, earlier), (2, later), (1, earlier)):
                moved_at = time.monotonic()
                bucket.put_object(**alias, Body=named)
                eventually(lambda number=number: serving()[0] == {float(number)}, f"stable is version {number} again")
                seconds.append(time.monotonic() - moved_at)
            shown = ", ".join(f"{one:.2f}" for one in seconds)
            print(f"\nfrom the move of the alias to answers: {shown} s, polls every 0.5 s")

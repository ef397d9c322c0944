"""The command line against a real service: what people type, right and wrong."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from builders import command
from builders.artifacts import mqnn_h5_bytes, write_workspace
from builders.service import RunningService, running_service
from builders.waiting import eventually

Run = Callable[..., subprocess.CompletedProcess[str]]
ROWS = "a,b,c,d,e,f,g,h\n" + "".join(
    ",".join(str(0.1 * (row + column)) for column in range(8)) + "\n" for row in range(3)
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("cli")
    write_workspace(folder / "workspace")
    with running_service(folder, workspace=folder / "workspace", concurrency=2, beat=False) as running:
        yield running


@pytest.fixture(scope="module")
def uqueue(service: RunningService) -> Run:
    """Run the command against the service."""
    return partial(command.uqueue, service.environment)


def test_submit_prints_an_id_that_the_other_commands_take(uqueue: Run) -> None:
    submitted = uqueue("submit", "-", stdin=ROWS)
    job_id = submitted.stdout.strip()
    assert submitted.stdout == f"{job_id}\n"
    result = json.loads(uqueue("result", job_id, "--timeout", "20", "--json").stdout)
    assert np.shape(result["lower"]) == (3, 2)
    lines = list(csv.DictReader(io.StringIO(uqueue("result", job_id, "--csv").stdout)))
    assert [float(line["upper_1"]) for line in lines] == [row[1] for row in result["upper"]]
    status = json.loads(uqueue("status", job_id, "--json").stdout)
    assert (status["state"], status["attempts"], status["error"]) == ("succeeded", 1, None)
    assert "succeeded" in uqueue("status", job_id).stdout


def test_submit_and_wait_prints_a_table(uqueue: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.zeros((30, 8)))
    outcome = uqueue("submit", str(tmp_path / "rows.npy"), "--wait", "--timeout", "20", "--seed", "7")
    assert sum(line.startswith("│") for line in outcome.stdout.splitlines()) == 16
    assert "15 of 30 rows are left out" in outcome.stderr
    assert "seed 7" in outcome.stderr


def test_the_same_key_is_the_same_job_and_another_request_is_refused(uqueue: Run) -> None:
    first = uqueue("submit", "-", "--idempotency-key", "k", "--json", stdin=ROWS)
    assert uqueue("submit", "-", "--idempotency-key", "k", "--json", stdin=ROWS).stdout == first.stdout
    refused = uqueue("submit", "-", "--idempotency-key", "k", "--seed", "1", stdin=ROWS, code=2)
    assert "already belongs to job" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "sentence"),
    [
        (["submit", "-"], "[[1, 2, 3]]", 2, "expects 8 columns, got 3"),
        (["submit", "-"], "1,2,nan,4,5,6,7,8", 2, "features"),
        (["submit", "-"], '{"features": [[1, "x"]]}', 2, "features"),
        (["submit", "-"], "[[]]", 2, "features"),
        (["submit", "-", "--target-dim", "3"], ROWS, 2, "the model has 2 targets"),
        (["submit", "-", "--expires", "-1"], ROWS, 2, "a moment in the future"),
        (["submit", "-", "--model", "../x"], ROWS, 2, "model"),
        (["submit", "-", "--model", "other", "--wait"], ROWS, 1, "No model 'other' is served here"),
        (["submit", "no such file"], None, 2, "cannot be read"),
        (["status", "nobody"], None, 1, "No job nobody is known here"),
        (["result", "nobody", "--timeout", "0"], None, 1, "No job nobody"),
        (["cancel", "nobody"], None, 1, "No job nobody"),
        (["reload", "other"], None, 1, "No model 'other'"),
    ],
)
def test_wrong_input_is_a_sentence(
    uqueue: Run, arguments: list[str], stdin: str | None, code: int, sentence: str
) -> None:
    outcome = uqueue(*arguments, stdin=stdin, code=code)
    assert outcome.stdout == ""
    assert sentence in outcome.stderr


def test_models_and_doctor_show_who_serves_what(uqueue: Run, service: RunningService) -> None:
    version = service.client.model().wanted_version
    models = json.loads(uqueue("models", "--json").stdout)
    assert [(model["name"], model["converged"]) for model in models] == [("mccp-uq", True)]
    assert {process["version"] for process in models[0]["processes"]} == {version}
    assert uqueue("models").stdout.count("ready") == 2
    findings = json.loads(uqueue("doctor", "--json").stdout)
    levels = {finding["check"]: finding["level"] for finding in findings}
    expected = {"settings": "ok", "broker and results": "ok", "queues": "ok", "model mccp-uq": "ok", "workspace": "ok"}
    assert expected.items() <= levels.items()
    assert all(finding["advice"] for finding in findings if finding["level"] != "ok")


def test_reload_takes_a_good_model_and_refuses_a_bad_one(uqueue: Run, service: RunningService) -> None:
    root = service.settings.workspace_root
    assert root is not None
    assert "nothing new" in uqueue("reload").stderr
    write_workspace(root, model=mqnn_h5_bytes(seed=5))
    moved = json.loads(uqueue("reload", "--json").stdout)
    assert (moved["poll"]["outcome"], moved["model"]["converged"]) == ("moved", True)
    (root / "models" / "mccp-uq" / "model.h5").write_bytes(b"not a model")
    os.utime(root / "state" / "mccp-uq" / "mccp_state.pkl")
    refused = uqueue("reload", code=1)
    assert "error: mccp-uq: rejected:" in refused.stderr
    assert "keeps serving" in refused.stderr
    assert "was refused" in uqueue("doctor", code=0).stdout
    write_workspace(root, model=mqnn_h5_bytes(seed=5))
    uqueue("reload")


def test_a_full_pipe_that_closes_is_quiet(uqueue: Run, service: RunningService) -> None:
    job_id = uqueue("submit", "-", stdin="\n".join(["1,2,3,4,5,6,7,8"] * 5000)).stdout.strip()
    service.client.job(job_id).result(timeout=20)
    command = f"{sys.executable} -m uqueue result {job_id} --csv | head -1"
    outcome = subprocess.run(
        command, shell=True, env=service.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert outcome.stdout.startswith("row,lower_0")
    assert outcome.stderr == ""


def test_without_workers_jobs_wait_can_be_cancelled_and_doctor_says_so(tmp_path: Path) -> None:
    with running_service(tmp_path, concurrency=1, beat=False) as stopped:
        stopped.services["worker"].stop()
        run = partial(command.uqueue, stopped.environment)
        job_id = run("submit", "-", stdin=ROWS).stdout.strip()
        started = time.monotonic()
        late = run("result", job_id, "--timeout", "0.5", code=1)
        assert late.stdout == ""
        assert "still queued after 0.5 s" in late.stderr
        assert time.monotonic() - started < 10
        eventually(lambda: not stopped.client.model().processes, "the acknowledgement is withdrawn or lapses")
        sick = run("doctor", code=1)
        assert "no worker process has reported" in sick.stdout
        assert "predictions: 1 waiting" in sick.stdout
        assert json.loads(run("cancel", job_id, "--json").stdout)["state"] == "cancelled"
        run("result", job_id, code=1)

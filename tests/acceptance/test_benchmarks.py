"""`make bench` in small: it runs, and every figure arrives in the results, on the page and in the pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from builders.artifacts import write_workspace

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
DRAINED = {"jobs_per_second", "worker_cpu_us", "redis_cpu_us", "submitted_per_second", "idle_cpu_percent"}
TRIPS = {"p50_ms", "p95_ms", "p99_ms"}
STOCK = {f"stock_{name}" for name in TRIPS}


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import contenders
    import pages
    import queues
    import report

    return SimpleNamespace(contenders=contenders, pages=pages, queues=queues, report=report)


def test_a_quick_run_writes_every_figure(tmp_path: Path) -> None:
    write_workspace(tmp_path / "workspace")
    command = [sys.executable, str(BENCHMARKS / "run.py"), "--quick", "--parts", "queues,service,startup"]
    command += ["--contenders", "uqueue-lane,naive-celery", "--workspace", str(tmp_path / "workspace")]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path / "out")], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr

    contenders = json.loads((tmp_path / "out/queues.json").read_text())["contenders"]
    assert contenders["uqueue-lane"]["rounds"][0].keys() >= DRAINED | TRIPS | STOCK, done.stderr
    assert contenders["naive-celery"]["rounds"][0].keys() >= DRAINED | TRIPS, done.stderr
    assert all(turn[name] > 0 for one in contenders.values() for turn in one["rounds"] for name in TRIPS)

    service = json.loads((tmp_path / "out/service.json").read_text())
    assert [one["rows"] for one in service["rows_per_job"]] == [1, 256]
    assert [one["processes"] for one in service["processes"]] == [2]
    assert all(one["per_second"] > 0 for one in [*service["queued_jobs"], *service["processes"]])

    page = (tmp_path / "out/README.md").read_text()
    for name in ("uqueue-lane", "naive-celery"):
        line = next(line for line in page.splitlines() if line.startswith(f"| {name} |"))
        assert "–" not in line
    assert "uqueue-lane, Celery's AsyncResult" in page
    assert "| fused |" in page
    assert "Bulk submission of 1,000 one-row jobs" in page
    for picture in ("jobs-per-second.png", "round-trip.png", "growth.png"):
        assert (tmp_path / "out" / picture).read_bytes().startswith(b"\x89PNG")
        assert f"({picture})" in page


def test_who_breaks_or_is_missing_is_named_with_the_reason(modules: SimpleNamespace, tmp_path: Path) -> None:
    lane, queues = modules.contenders.LANE, modules.queues
    absent = replace(lane, name="absent", distributions=("no-such-distribution",))
    broken = replace(lane, name="broken", worker="-m no_such_module")
    found = {one.name: queues.describe(one) for one in (absent, broken)}
    found["broken"]["rounds"].append(queues.measure_once(broken, tmp_path, [], quick=True))
    page = modules.pages.page({"queues": {"contenders": found, "rounds": 1, "trips": 1, **ABOUT}})
    assert "- absent: not installed (no-such-distribution)" in page
    assert "- broken: broken in 1 of 1 rounds: its worker ended with code 1" in page
    assert "no_such_module" in page


ABOUT = {"date": "2026-01-01T00:00+00:00", "quick": True, "load_before": 0.0, "seconds": 1}


def test_the_page_is_what_the_results_say(modules: SimpleNamespace) -> None:
    folder = modules.report.RESULTS
    written = (folder / "README.md").read_text()
    assert written == modules.pages.page(modules.report.read(folder)), "run: python benchmarks/report.py"
    assert "A quick run" not in written

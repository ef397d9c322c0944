"""Figures by the names of the specification, and log lines that say what they belong to and no secrets."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from uqueue_worker.learning.errors import EndpointAuth
from uqueue_worker.learning.observability import metrics as module
from uqueue_worker.learning.observability.context import (
    IDS,
    context_headers,
    finish_line,
    log_context,
    log_context_of,
    timed_event,
)
from uqueue_worker.learning.observability.metrics import FIGURES, LearningMetrics, metrics, timed_feedback

#: The list of the specification, section 8.6.
SPECIFIED = """alm_feedback_seconds{interface,outcome} histogram, alm_feedback_total{interface,outcome},
alm_weak_spots{type,strategy} gauge, alm_scenarios_created_total{method,outcome}, alm_repository_seconds{op,outcome},
alm_samples_total{origin,outcome}, alm_generation_seconds, alm_cycle_seconds{step}, alm_cycle_total{outcome},
alm_model_metric{metric,split} gauge, alm_breaker_state{target}, alm_retries_total{target,reason},
alm_budget_remaining"""
#: The ids of section 8.5.
SPECIFIED_IDS = "run_id cycle weakness_id scenario_id scenario_version model_version_tag dataset_id task_id request_id"


@pytest.fixture(autouse=True)
def no_context() -> Iterator[None]:
    structlog.contextvars.clear_contextvars()
    yield
    structlog.contextvars.clear_contextvars()


def test_names_and_labels_are_those_of_the_specification() -> None:
    specified = re.findall(r"(alm_\w+)(?:\{([\w,]+)\})?(?: (\w+))?", SPECIFIED)
    assert len(specified) == 13
    found = {figure.name: figure for figure in FIGURES.values()}
    assert set(found) == {name for name, _, _ in specified}
    for name, labels, kind in specified:
        assert found[name].labels == tuple(one for one in labels.split(",") if one), name
        assert kind in ("", found[name].kind), name


def shown(figures: LearningMetrics) -> dict[str, set[str]]:
    families = text_string_to_metric_families(figures.text().decode())
    return {sample.name: set(sample.labels) - {"le"} for family in families for sample in family.samples}


def test_prometheus_reads_them() -> None:
    figures = LearningMetrics()
    for key, figure in FIGURES.items():
        child = getattr(figures, key)
        child = child.labels(*figure.labels) if figure.labels else child
        getattr(child, {"counter": "inc", "gauge": "set", "histogram": "observe"}[figure.kind])(1)
    found = shown(figures)
    for figure in FIGURES.values():
        name = f"{figure.name}_count" if figure.kind == "histogram" else figure.name
        assert found[name] == set(figure.labels), figure.name
    with pytest.raises(AttributeError, match="there is no figure nothing"):
        figures.nothing  # noqa: B018


def test_what_rates_are_made_of_is_there_from_the_start() -> None:
    text = LearningMetrics().text().decode()
    assert 'alm_feedback_total{interface="rest",outcome="failed"} 0.0' in text
    assert 'alm_cycle_total{outcome="completed"} 0.0' in text


def test_evaluations_are_counted_and_timed() -> None:
    def count(outcome: str) -> float:
        return float(metrics().feedback_total.labels("local", outcome)._value.get())

    before = count("ok"), count("failed")
    with timed_feedback("local"):
        pass
    with pytest.raises(ValueError, match="x"), timed_feedback("local"):
        raise ValueError("x")
    assert (count("ok"), count("failed")) == (before[0] + 1, before[1] + 1)


def test_without_the_library_nothing_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    figures = LearningMetrics()
    figures.samples.labels("targeted", "generated").inc(3)
    figures.budget_remaining.set(1)
    figures.generation_seconds.observe(1)
    assert figures.text() == b""
    with pytest.raises(ModuleNotFoundError, match=r"uqueue\[learning\]"):
        figures.serve(0)


def test_nothing_is_loaded_before_the_first_figure() -> None:
    code = (
        "import sys; from uqueue_worker.learning.observability.metrics import metrics\n"
        "assert 'prometheus_client' not in sys.modules\nmetrics()\nassert 'prometheus_client' in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_they_are_served() -> None:
    server, thread = metrics().serve(0)
    try:
        answer = httpx.get(f"http://127.0.0.1:{server.server_port}/metrics")
        assert "alm_feedback_total" in answer.text
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


COUNTING = """
from uqueue_worker.learning.observability.metrics import metrics
metrics().samples.labels("targeted", "generated").inc(5)
metrics().budget_remaining.set({value})
metrics().breaker_state.labels("repository").set(2)
"""
SHOWING = """
import os
from uqueue_worker.learning.observability.metrics import metrics, process_ended
for pid in {pids}:
    process_ended(pid)
print(metrics().text().decode())
"""


def test_several_processes_are_shown_as_one(tmp_path: Path) -> None:
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    def run(code: str) -> tuple[int, str]:
        process = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        return process.pid, said

    pids = [run(COUNTING.format(value=value))[0] for value in (9, 7)]
    text = run(SHOWING.format(pids=pids))[1]
    assert 'alm_samples_total{origin="targeted",outcome="generated"} 10.0' in text
    assert "alm_budget_remaining 7.0" in text  # the latest
    assert "alm_breaker_state" not in text  # of processes that ended


def test_ids_travel_in_headers() -> None:
    assert SPECIFIED_IDS.split() == list(IDS)
    with log_context(run_id="r1", cycle=2, scenario_id=None):
        headers = context_headers()
    assert headers == {"alm_run_id": "r1", "alm_cycle": "2"}
    assert context_headers() == {}
    with log_context_of({**headers, "lang": "py", "alm_other": "x"}):
        assert structlog.contextvars.get_contextvars() == {"run_id": "r1", "cycle": "2"}
    with pytest.raises(TypeError, match="got features"):
        log_context(features="x")


def line(**facts: Any) -> dict[str, Any]:
    given = {"event": "x", "level": "info", "logger": "uqueue.learning.rest", "timestamp": "t", **facts}
    return dict(finish_line(None, "info", given))


def test_a_line_begins_with_what_every_line_has() -> None:
    assert list(line())[:4] == ["ts", "level", "event", "component"]
    assert line() == {"ts": "t", "level": "info", "event": "x", "component": "rest", "message": "x"}
    assert line(component="engine", message="m")["component"] == "engine"


def test_lines_hold_no_secrets() -> None:
    found = line(
        password="p4ss",
        api_key="k3y",
        dsn="postgresql://app:p4ss@db/x",
        url="postgresql://app:p4ss@db/x",
        message="refused Bearer t0ken and Basic YTpi, password=p4ss",
        nested={"token": "t0ken", "list": ["https://u:p4ss@host/"]},
    )
    assert not re.search(r"p4ss|k3y|t0ken|YTpi", json.dumps(found))
    assert found["url"] == "postgresql://**********@db/x"


def test_values_of_features_are_shown_only_at_debug() -> None:
    assert "features" not in line(features=[1.0])
    assert line(features=[1.0], level="debug")["features"] == [1.0]


def test_events_say_their_duration_and_outcome() -> None:
    with structlog.testing.capture_logs() as lines:
        with timed_event("feedback", "rest", dialect="native") as more:
            more["n_samples"] = 3
        with pytest.raises(EndpointAuth), timed_event("feedback", "rest"):
            raise EndpointAuth(url="u", reason="r")
    good, bad = lines
    assert (good["outcome"], good["component"], good["n_samples"], good["dialect"]) == ("ok", "rest", 3, "native")
    assert good["duration_ms"] >= 0
    assert (bad["outcome"], bad["error_code"], bad["log_level"]) == ("failed", "endpoint_auth", "warning")


LOGGING = """
import logging, structlog
from uqueue_worker.learning.observability.context import configure_logging, log_context
configure_logging("INFO")
with log_context(run_id="r1", cycle=2, task_id="t1"):
    structlog.get_logger("uqueue.learning.engine").info("advanced", outcome="ok", duration_ms=1.5)
    logging.getLogger("httpx").info("HTTP Request")
    logging.getLogger("other").warning("Bearer abc")
    try:
        1 / 0
    except ZeroDivisionError:
        structlog.get_logger("uqueue.learning.engine").exception("broke")
"""


def test_a_process_writes_one_json_object_a_line() -> None:
    done = subprocess.run([sys.executable, "-c", LOGGING], capture_output=True, text=True, check=True, timeout=60)
    first, second, third = [json.loads(one) for one in done.stderr.splitlines()]
    assert first["ts"].endswith("Z")
    assert {name: first[name] for name in ("level", "event", "component", "run_id", "cycle", "task_id")} == {
        "level": "info",
        "event": "advanced",
        "component": "engine",
        "run_id": "r1",
        "cycle": 2,
        "task_id": "t1",
    }
    assert (second["event"], second["run_id"]) == ("Bearer **********", "r1")
    assert "ZeroDivisionError" in third["exception"]
    assert module.__name__.startswith("uqueue_worker.learning")

"""Alerts, scrape job and dashboard: expressions that Prometheus can read, about figures that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from uqueue.gateway.localization.shared_metrics import Snapshot
from uqueue.gateway.metrics import CONTENT_TYPE
from uqueue.gateway.state import Gateway
from uqueue_config.figures import FIGURES, Sums
from uqueue_config.settings import Settings
from uqueue_worker.learning.observability.metrics import FIGURES as LEARNING_FIGURES

FOLDER = Path(__file__).parents[3] / "deploy/monitoring"
ALERTS: dict[str, Any] = yaml.safe_load((FOLDER / "alerts.yml").read_text())
SCRAPE: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "grafana/uqueue.json").read_text())
LEARNING_ALERTS: dict[str, Any] = yaml.safe_load((FOLDER / "learning-alerts.yml").read_text())
RULES = [rule for group in ALERTS["groups"] + LEARNING_ALERTS["groups"] for rule in group["rules"]]
OF_EACH_PROCESS = ("uqueue_gateway_", "uqueue_store_up", "up", "alm_")


def expressions() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")


def selectors(node: Any) -> Iterator[Any]:
    """Yield the selectors of a parsed expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("expr", "lhs", "rhs", "vector_selector", "args"):
        part = getattr(node, name, None)
        for one in part if isinstance(part, list) else [part]:
            if one is not None:
                yield from selectors(one)


def known() -> dict[str, set[str]]:
    """Return the labels of every series that a gateway can show, by name."""
    found: dict[str, set[str]] = {"up": {"job"}}
    for figure in FIGURES.values():
        for suffix, more in (
            (("_bucket", {"le"}), ("_sum", set()), ("_count", set())) if figure.bounds else (("", set()),)
        ):
            found[figure.name + suffix] = {*figure.labels, *more}
    for learning in LEARNING_FIGURES.values():
        ending, more = ("_bucket", {"le"}) if learning.kind == "histogram" else ("", set())
        found[learning.name + ending] = {*learning.labels, *more}
    metrics = Gateway(Settings()).metrics
    metrics.refused.labels("x").inc()
    metrics.show(Snapshot(Sums({}), 0, 1, {"predictions": 0}, [], 1.0))
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_every_expression_is_about_figures_that_there_are() -> None:
    names = known()
    for title, expression in expressions():
        found = list(selectors(promql_parser.parse(expression)))
        assert found, title
        for selector in found:
            assert selector.name in names, f"{title}: {selector.name}"
            labels = {matcher.name for matcher in selector.matchers.matchers}
            assert labels <= names[selector.name], f"{title}: {labels}"


def test_what_all_gateways_show_is_never_added_up() -> None:
    for title, expression in expressions():
        if not any(
            selector.name.startswith(OF_EACH_PROCESS) for selector in selectors(promql_parser.parse(expression))
        ):
            assert "max without (instance)" in expression, title


def test_the_parser_finds_faults() -> None:
    with pytest.raises(ValueError, match=r"."):
        promql_parser.parse("rate(x[5m)")


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
    wanted = {"LocalizationSlow", "LocalizationCacheCold", "ModelNotLoaded", "QueueWaitLong", "NoWorkers"}
    assert wanted <= {rule["alert"] for rule in RULES}
    assert len(LEARNING_ALERTS["groups"][0]["rules"]) == 6


def test_the_scrape_job_reads_the_gateway_of_the_compose_file() -> None:
    job, learning = SCRAPE["scrape_configs"]
    compose = yaml.safe_load((FOLDER.parents[1] / "docker-compose.yml").read_text())
    port = compose["services"]["learning"]["environment"]["UQUEUE_LEARNING_METRICS_PORT"]
    assert learning["static_configs"] == [{"targets": [f"learning:{port}"]}]
    assert (job["metrics_path"], job["static_configs"]) == ("/metrics", [{"targets": ["web:8000"]}])
    assert compose["services"]["web"]["ports"] == ["127.0.0.1:8000:8000"]
    assert job["authorization"]["credentials_file"].startswith("/keys/")
    assert SCRAPE["rule_files"] == ["alerts.yml", "learning-alerts.yml"]
    for volume in compose["services"]["grafana"]["volumes"]:
        assert (FOLDER.parents[1] / volume.split(":")[0]).is_file()
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


def test_the_panels_lie_beside_each_other() -> None:
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & places, panel["title"]
        assert max(x for x, _ in cells) < 24
        places |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_every_figure_of_the_service_is_on_the_dashboard() -> None:
    used = " ".join(expression for title, expression in expressions())
    assert {name for name in FIGURES if name not in used} == set()

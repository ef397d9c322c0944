"""A real worker serves an interval model that was trained with a hole in its data; feedback finds the hole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.close_json import assert_close
from builders.service import RunningService, running_service
from uqueue_worker.artifacts import ArtifactPair, LocalFilesystemProvider
from uqueue_worker.artifacts.pair import fingerprint
from uqueue_worker.learning.models.evaluation import EvaluationOptions
from uqueue_worker.learning.models.intervals import (
    IntervalModelInterface,
    LocalIntervals,
    QueueIntervals,
    RegressionSpec,
    central_width,
)
from uqueue_worker.learning.models.queue import QueueOptions
from uqueue_worker.learning.strategies import make_strategy
from uqueue_worker.models import load_interval_model
from uqueue_worker.sample.buildings import Buildings
from uqueue_worker.sample.state_file import pickled_state
from uqueue_worker.sample.training import train_model
from uqueue_worker.uncertainty import conformal_quantile, cqr_scores

HOLE = (6.0, 8.0)
TIMES = ("evaluated_at_utc", "duration_seconds")


def draw(rows: int, seed: int, *, hole: bool) -> Buildings:
    """Return one feature and two targets; the second has a bump that rows without the hole know nothing of."""
    random = np.random.default_rng(seed)
    x = random.uniform(0, 10, rows)
    x = x[(x < HOLE[0]) | (x > HOLE[1])] if hole else x
    heat = 20 + 2 * x + 12 * np.exp(-((x - 7) ** 2) / 0.4) + random.normal(size=x.shape)
    return Buildings(x[:, None], np.stack([60 - 3 * x, heat], axis=1))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose model was trained and calibrated on rows with the hole."""
    root = tmp_path_factory.mktemp("hole")
    provider = LocalFilesystemProvider(root)
    for path in (provider.get_model_path(), provider.get_state_path()):
        path.parent.mkdir(parents=True)
    train_model(draw(900, 0, hole=True), provider.get_model_path(), seed=0, epochs=15)
    model, uncorrected = provider.get_model_path().read_bytes(), pickled_state([0.0, 0.0], alpha=0.1)
    pair = ArtifactPair("mccp-uq", model, uncorrected, fingerprint(model, 0), fingerprint(uncorrected, 0))
    rows = draw(600, 1, hole=True)
    answer = load_interval_model(pair).predict(rows.features, seed=1)
    q_hat = conformal_quantile(cqr_scores(rows.targets, answer.lower, answer.upper), 0.1)
    provider.get_state_path().write_bytes(pickled_state(q_hat, alpha=0.1))
    return root


@pytest.fixture(scope="module")
def service(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    folder = tmp_path_factory.mktemp("service")
    with running_service(folder, workspace=workspace, concurrency=1, beat=False) as running:
        yield running


@pytest.fixture(scope="module")
def samples() -> list[dict[str, Any]]:
    rows = draw(400, 5, hole=False)
    return [
        {"sample_id": f"s{number:03d}", "scenario_id": f"x={x:.3f}", "x": float(x), "heat": float(heat)}
        for number, ((x,), (_, heat)) in enumerate(zip(rows.features, rows.targets, strict=True))
    ]


def interface(place: Any) -> IntervalModelInterface:
    trained_on = draw(900, 0, hole=True).targets[:, 1]
    spec = RegressionSpec(
        target="heat",
        edges=(25, 30, 35, 40),
        reference_width=central_width(trained_on),
        output="heat",
        outputs=("cold", "heat"),
    )
    options = EvaluationOptions(max_uncertain=None, max_misclassified=None)
    return IntervalModelInterface(place, spec, ["x"], options=options, queue=QueueOptions(max_in_flight=4))


def evaluated(place: Any, samples: Any, tag: str | None = None) -> Any:
    return interface(place).get_model_performance_feedback(evaluation_dataset=samples, model_version_tag=tag)


def told(found: Any) -> dict[str, Any]:
    return {name: value for name, value in found.to_message().items() if name not in TIMES}


def test_the_queue_says_what_is_said_here(service: RunningService, workspace: Path, samples: Any) -> None:
    expected = evaluated(LocalIntervals(workspace), samples)
    found = evaluated(QueueIntervals(client=service.client), samples)
    assert_close(told(found), told(expected))
    assert found.uncertainty_method.startswith("mc_dropout:")  # the seeds are the same, so dropout is no difference
    assert all(one.epistemic_uncertainty_score for one in found.uncertain_samples)
    version = found.model_version_evaluated.removeprefix("mccp-uq@")
    again = evaluated(QueueIntervals(settings=service.settings), samples, version)
    assert told(again) == told(found)
    assert interface(QueueIntervals(client=service.client)).health()["status"] == "ok"


def test_the_weak_region_is_the_hole(workspace: Path, samples: Any) -> None:
    found = evaluated(LocalIntervals(workspace), samples)
    seen = [one for one in samples if not HOLE[0] < one["x"] < HOLE[1]]
    assert evaluated(LocalIntervals(workspace), seen).overall_metrics["coverage"] == pytest.approx(0.9, abs=0.05)
    assert found.per_class_metrics["40 and above"].recall < 0.5
    x = {one["sample_id"]: one["x"] for one in samples}

    def is_in_the_hole(sample_id: str) -> bool:
        return HOLE[0] < x[sample_id] < HOLE[1]

    assert all(is_in_the_hole(one.raw_sample_id) for one in found.misclassified_samples[:20])
    wrong = [spot for spot in make_strategy("real_time").identify_weaknesses(found) if spot.raw_sample_id]
    assert all(is_in_the_hole(spot.raw_sample_id) for spot in wrong[:10])
    for name in ("high_fidelity", "heterogeneous"):  # dropout is as sure in the hole as elsewhere; its class is not met
        assert make_strategy(name).identify_weaknesses(found)[0].details["class_name"] == "40 and above"
    strategy = make_strategy("region", parameters_of=lambda scenario: {"x": float(scenario.removeprefix("x="))})
    best = strategy.identify_weaknesses(found)[0]
    region = best.details["region"]["x"]
    assert HOLE[0] < region["min"] < 7 < region["max"] < HOLE[1]

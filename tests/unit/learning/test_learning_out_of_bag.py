"""The conformal quantile that training finds: what it is, what it does, and how often sets hold the true class."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from builders.learning_models import CLASSES, FEATURES, forest, samples, written
from uqueue_config.learning.model_manifest import ModelManifest
from uqueue_worker.learning.models.features import FeatureSpec, feature_values, model_matrix
from uqueue_worker.learning.models.forest_onnx import forest_onnx
from uqueue_worker.learning.models.local import LocalModelInterface
from uqueue_worker.learning.models.out_of_bag import out_of_bag_scores, quantile
from uqueue_worker.learning.models.training import FittedForest, ForestSettings, train, train_on

SETTINGS = ForestSettings(60)


def drawn(count: int, seed: int) -> tuple[Any, list[str]]:
    """Return features and labels of three classes that overlap."""
    draw = np.random.default_rng(seed)
    true = draw.integers(3, size=count)
    return draw.normal(true[:, None] * [1.0, -0.8, 0.0, 0.5], 1.0), [CLASSES[number] for number in true]


def fitted(count: int, seed: int, **more: Any) -> FittedForest:
    values, labels = drawn(count, seed)
    return train_on(values, labels, FEATURES, CLASSES, seed=seed, settings=SETTINGS, **more)


def test_scores_are_those_of_scikit_learn() -> None:
    values, labels = drawn(300, 1)
    made = fitted(300, 1)
    matrix = model_matrix(values, FeatureSpec(made.features))
    true = np.array([CLASSES.index(one) for one in labels])
    theirs = RandomForestClassifier(**asdict(SETTINGS), random_state=1, oob_score=True).fit(matrix, true)
    expected = 1 - theirs.oob_decision_function_[np.arange(300), true]
    np.testing.assert_allclose(out_of_bag_scores(made.forest, matrix, true), expected, atol=1e-12)
    assert made.conformal_q == pytest.approx(np.sort(expected)[271 - 1], abs=1e-6)  # ceil(301 * 0.9) = 271


def test_the_model_is_the_one_without() -> None:
    values, labels = drawn(120, 2)
    made = fitted(120, 2)
    matrix = model_matrix(values, FeatureSpec(made.features))
    plain = RandomForestClassifier(**asdict(SETTINGS), random_state=2).fit(
        matrix, [CLASSES.index(one) for one in labels]
    )
    parts = {**vars(made), "forest": plain, "conformal_q": None}
    assert forest_onnx(made) == forest_onnx(FittedForest(**parts))


def test_samples_that_all_trees_have_seen_do_not_count() -> None:
    values, labels = drawn(40, 3)
    matrix = values.astype(np.float32)
    true = np.array([CLASSES.index(one) for one in labels])
    single = RandomForestClassifier(1, random_state=0).fit(matrix, true)
    assert len(out_of_bag_scores(single, matrix, true)) == 40 - len(set(single.estimators_samples_[0]))
    gap = RandomForestClassifier(20, random_state=0).fit(matrix[true != 1], true[true != 1])
    scores = out_of_bag_scores(gap, matrix[true != 1], true[true != 1])
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize(
    ("n", "alpha", "expected"),
    [(9, 0.1, 9), (8, 0.1, None), (99, 0.1, 90), (100, 0.1, 91), (3, 0.5, 2), (0, 0.5, None)],
)
def test_the_quantile_has_the_finite_sample_rank(n: int, alpha: float, expected: int | None) -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1, n + 1)) / 128
    found = quantile(scores, alpha)
    assert found == (None if expected is None else pytest.approx(expected / 128, abs=1e-6))
    assert found is None or found >= expected / 128  # type: ignore[operator]


def test_the_quantile_is_rounded_up_and_a_share() -> None:
    assert quantile(np.full(20, 0.1234561), 0.1) == 0.123457
    assert quantile(np.full(20, 1.0), 0.1) == 1.0
    assert quantile(np.zeros(20), 0.1) == 0.0
    for alpha in (0.0, 1.0, -1, float("nan")):
        with pytest.raises(ValueError, match="alpha must lie strictly between 0 and 1"):
            quantile(np.zeros(20), alpha)


@pytest.mark.parametrize(("alpha", "low", "high"), [(0.1, 0.89, 0.93), (0.25, 0.74, 0.80)])
def test_about_the_right_share_of_sets_holds_the_true_class(alpha: float, low: float, high: float) -> None:
    """Ten forests of 300 samples, 1,000 new samples each. Of 10,000 sets, 9,164 held the true class at 0.1 (by forest
    890 to 936 of 1,000) and 7,553 at 0.25 (724 to 793)."""
    held = 0
    for seed in range(10):
        made = fitted(300, seed, conformal_alpha=alpha)
        values, labels = drawn(1000, 1000 + seed)
        shares = made.members(model_matrix(values, FeatureSpec(made.features))).mean(axis=1)
        true = np.array([CLASSES.index(one) for one in labels])
        assert made.conformal_q is not None
        held += int((1 - shares[np.arange(1000), true] <= made.conformal_q).sum())
    assert low < held / 10_000 < high


def test_the_manifest_carries_it_and_feedback_has_ambiguity(tmp_path: Path) -> None:
    manifest = written(tmp_path)
    assert manifest.uncertainty.conformal_q == forest().conformal_q is not None
    assert manifest.training["conformal_alpha"] == 0.1
    folder = tmp_path / "air" / manifest.version
    assert ModelManifest.read((folder / "manifest.json").read_bytes()) == manifest
    feedback = LocalModelInterface(root=tmp_path, name="air").get_model_performance_feedback(
        samples(60, seed=4, overlap=2.5), None
    )
    made, data = forest(), {one["sample_id"]: one for one in samples(60, seed=4, overlap=2.5)}
    spec = FeatureSpec(made.features)
    found = {one.raw_sample_id: one.ambiguity_score for one in feedback.uncertain_samples}
    assert set(found.values()) == {0.0, 0.5}
    for name, score in found.items():
        shares = made.members(model_matrix(feature_values([data[name]], spec), spec)).mean(axis=1)
        assert score == max(0, (1 - shares <= made.conformal_q).sum() - 1) / 2


def test_a_quantile_that_is_given_wins_and_too_few_samples_have_none(tmp_path: Path) -> None:
    assert written(tmp_path, key="given", conformal_q=0.75).uncertainty.conformal_q == 0.75
    few = train(samples(8), FEATURES, CLASSES, seed=0, settings=ForestSettings(5))
    assert few.conformal_q is None
    assert few.training["conformal_alpha"] == 0.1

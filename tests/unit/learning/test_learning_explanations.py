"""SHAP and permutation: against known values, the same every time, and in the local interface."""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesClassifier, GradientBoostingClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from builders.learning_models import CLASSES, FEATURES, forest, samples, written
from uqueue_config.learning.model_manifest import Feature, ModelManifest, Preprocessing, UncertaintyDeclaration
from uqueue_worker.learning.errors import ActiveLearningError
from uqueue_worker.learning.models import explain
from uqueue_worker.learning.models.estimators import estimator_model
from uqueue_worker.learning.models.evaluation import EvaluationOptions, feedback_of, select
from uqueue_worker.learning.models.explain import Importances, explained_by, occlusion, permutation
from uqueue_worker.learning.models.explain import shap as by_shap
from uqueue_worker.learning.models.features import FeatureSpec, feature_values, model_matrix
from uqueue_worker.learning.models.local import LocalModelInterface
from uqueue_worker.learning.models.predictions import Predictions
from uqueue_worker.learning.models.sample_table import read_table
from uqueue_worker.learning.models.shapley import TreeModel, coalitions, is_tree, tree_shap

FITTED = forest(trees=15, count=150)
SPEC = FeatureSpec(FITTED.features)
VALUES = feature_values(samples(25, seed=5, overlap=2.0), SPEC)
MEDIANS = np.array([one.reference for one in FITTED.features])


def predict(matrix: Any) -> Any:
    return FITTED.members(matrix).mean(axis=1)


def predicted(values: Any, spec: FeatureSpec = SPEC, model: Any = predict) -> Any:
    return model(model_matrix(values, spec)).argmax(axis=1)


TRUE = predicted(VALUES)


def wide(n_features: int) -> FeatureSpec:
    return FeatureSpec(tuple(Feature(path=f"sample_metadata.f{number}", median=0.5) for number in range(n_features)))


def line(weights: Any) -> Any:
    """A model whose first probability is linear in its columns."""

    def run(matrix: Any) -> Any:
        first = 0.5 + (np.asarray(matrix, dtype=np.float64) - 0.5) @ weights
        return np.stack([first, 1 - first], axis=1)

    return run


def scores_of(found: Importances) -> Any:
    assert found.warning is None
    assert found.scores is not None
    return found.scores


def game(row: Any, number: int, model: Any = predict) -> list[float]:
    """Return the Shapley values of one row by their definition."""
    n = len(row)

    def worth(members: tuple[int, ...]) -> float:
        there = MEDIANS.copy()
        there[list(members)] = row[list(members)]
        return float(model(model_matrix(there[None], SPEC))[0, number])

    found = [0.0] * n
    for one in range(n):
        others = [other for other in range(n) if other != one]
        for size in range(n):
            share = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
            for team in itertools.combinations(others, size):
                found[one] += share * (worth((*team, one)) - worth(team))
    return found


@pytest.mark.parametrize("n_features", [2, 5, 14])
def test_shap_of_a_linear_model_is_weight_times_distance(n_features: int) -> None:
    draw = np.random.default_rng(0)
    weights, spec = draw.normal(0, 0.02, n_features), wide(n_features)
    values = draw.uniform(size=(6, n_features))
    classes = np.array([0, 1, 0, 1, 0, 1])
    found = scores_of(by_shap(values, spec, classes, line(weights)))
    signs = np.where(classes == 0, 1, -1)[:, None]
    np.testing.assert_allclose(found, signs * weights * (values - 0.5), atol=2e-8)


def test_kernel_shap_is_shapley_s_value_where_the_features_are_few() -> None:
    found = scores_of(by_shap(VALUES[:6], SPEC, TRUE[:6], predict))
    expected = [game(row, number) for row, number in zip(VALUES[:6], TRUE[:6], strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-8)
    gained = predict(model_matrix(VALUES[:6], SPEC))[range(6), TRUE[:6]]
    gained -= predict(model_matrix(MEDIANS[None], SPEC))[0, TRUE[:6]]
    np.testing.assert_allclose(found.sum(axis=1), gained, atol=1e-8)


@pytest.mark.parametrize("kind", [RandomForestClassifier, ExtraTreesClassifier, DecisionTreeClassifier])
def test_tree_shap_is_shapley_s_value(kind: Any) -> None:
    more = {} if kind is DecisionTreeClassifier else {"n_estimators": 9}
    data = samples(90, seed=7)
    labels = [one["extracted_class_label"] for one in data]
    columns = model_matrix(feature_values(data, SPEC), SPEC)
    estimator = kind(random_state=0, max_depth=5, **more).fit(columns, labels)
    assert is_tree(estimator)
    order = [list(CLASSES).index(name) for name in estimator.classes_]  # scikit-learn sorts the names

    def shares(matrix: Any) -> Any:
        whole = np.zeros((len(matrix), 3))
        whole[:, order] = estimator.predict_proba(matrix)
        return whole

    classes = predicted(VALUES, model=shares)
    found = tree_shap(VALUES, SPEC, classes, TreeModel(estimator, order, 3, lambda matrix: matrix))
    expected = [game(row, number, shares) for row, number in zip(VALUES[:5], classes[:5], strict=True)]
    np.testing.assert_allclose(found[:5], expected, atol=1e-6)
    np.testing.assert_allclose(found, scores_of(by_shap(VALUES, SPEC, classes, shares)), atol=1e-6)


def test_sampled_coalitions_come_close_to_shapley_s_value() -> None:
    draw, spec = np.random.default_rng(1), wide(14)
    weights, trios = draw.normal(0, 0.1, 14), draw.permutation(14)[:12].reshape(4, 3)

    def model(matrix: Any) -> Any:
        moved = np.asarray(matrix, dtype=np.float64) - 0.5
        first = 0.5 + moved @ weights + sum(6 * moved[:, trio].prod(axis=1) for trio in trios)
        return np.stack([first, 1 - first], axis=1)

    values = draw.uniform(size=(8, 14))
    moved = values - 0.5
    expected = moved * weights
    for trio in trios:
        expected[:, trio] += 2 * moved[:, trio].prod(axis=1)[:, None]  # three share what they do together
    found = scores_of(by_shap(values, spec, np.zeros(8, dtype=int), model))
    errors = np.abs(found - expected)
    assert 0 < errors.max() < 0.03  # where everything acts in threes, which is hard
    assert errors.mean() < 0.005 < 0.15 < np.abs(expected).max()
    np.testing.assert_allclose(found.sum(axis=1), expected.sum(axis=1), atol=1e-7)


def test_numbers_are_the_same_every_time_in_any_order_and_for_any_company() -> None:
    draw, spec, seen = np.random.default_rng(2), wide(12), []
    values, classes = draw.uniform(size=(9, 12)), np.arange(9) % 2

    def model(matrix: Any) -> Any:
        seen.append(len(matrix))
        first = np.prod(np.asarray(matrix, dtype=np.float64), axis=1)
        return np.stack([first, 1 - first], axis=1)

    np.random.seed(1)
    state = np.random.get_state()[1].tolist()
    found = scores_of(by_shap(values, spec, classes, model))
    assert np.random.get_state()[1].tolist() == state
    assert seen == [1 + 9 * (1 + coalitions(spec))]
    assert coalitions(spec) == 512
    np.testing.assert_array_equal(scores_of(by_shap(values[::-1], spec, classes[::-1], model))[::-1], found)
    np.testing.assert_array_equal(scores_of(by_shap(values[4:5], spec, classes[4:5], model)), found[4:5])


def test_calls_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "_ROWS_PER_CALL", 3_000)
    seen = []

    def model(matrix: Any) -> Any:
        seen.append(len(matrix))
        return np.full((len(matrix), 2), 0.5)

    rows, spec = np.random.default_rng(3).uniform(size=(40, 10)), wide(10)
    for method in ("SHAP", "PERMUTATION", "OCCLUSION"):
        found = explained_by(method, rows, spec, np.zeros(40, dtype=int), model)  # type: ignore[arg-type]
        assert found.method == method
        assert (scores_of(found) == 0).all()
    assert (len(seen), max(seen)) == (8 + 2 + 1, 2_997)


def test_a_missing_feature_adds_what_its_imputation_or_its_indicator_adds() -> None:
    spec = FeatureSpec((Feature(path="sample_metadata.a", median=0.5, impute=0.25, indicator=True), *wide(2).features))
    values = np.array([[np.nan, 0.5, 0.75]])
    found = scores_of(by_shap(values, spec, np.array([0]), line(np.array([0.4, 0.1, 0.2, -0.3]))))
    np.testing.assert_allclose(found, [[0.4 * (0.25 - 0.5) - 0.3, 0, 0.2 * 0.25]], atol=2e-8)
    trees = TreeModel(FITTED.forest, (0, 1, 2), 3, lambda matrix: matrix)
    with pytest.raises(ValueError, match="a feature and its indicator"):
        tree_shap(values, spec, np.array([0]), trees)


def test_permutation_is_the_mean_drop_with_the_values_of_other_rows() -> None:
    draw, spec = np.random.default_rng(4), wide(3)
    weights, values, classes = np.array([0.3, -0.2, 0.0]), draw.uniform(size=(6, 3)), np.zeros(6, dtype=int)
    found = scores_of(permutation(values, spec, classes, line(weights)))
    others = (values.sum(axis=0) - values) / 5
    np.testing.assert_allclose(found, weights * (values - others), atol=2e-8)
    turned = scores_of(permutation(values[::-1], spec, classes, line(weights)))
    np.testing.assert_array_equal(turned[::-1], found)
    many = draw.uniform(size=(40, 3))
    straight, back = (permutation(one, spec, np.zeros(40, dtype=int), line(weights)) for one in (many, many[::-1]))
    np.testing.assert_array_equal(scores_of(back)[::-1], scores_of(straight))
    alone = permutation(values[:1], spec, classes[:1], line(weights))
    assert (alone.method, alone.scores) == ("NONE", None)
    assert alone.warning == "explanations failed: ValueError: a single sample has no other one to take values from"


@pytest.mark.parametrize("method", ["SHAP", "PERMUTATION", "OCCLUSION"])
def test_a_model_that_fails_gives_none_and_a_warning(method: Any) -> None:
    def broken(matrix: Any) -> Any:
        raise RuntimeError("out of order")

    found = explained_by(method, VALUES, SPEC, TRUE, broken)
    assert (found.method, found.scores) == ("NONE", None)
    assert found.warning == "explanations failed: RuntimeError: out of order"
    found = explained_by(method, VALUES, SPEC, TRUE, lambda matrix: np.full((len(matrix), 3), np.nan))
    assert found.method == "NONE"
    nothing = explained_by(method, VALUES[:0], SPEC, TRUE[:0], broken)
    assert (nothing.method, scores_of(nothing).shape) == (method, (0, 4))


def local(folder: Path, method: Any, **more: Any) -> LocalModelInterface:
    return LocalModelInterface(root=folder, name="air", options=EvaluationOptions(explanation=method, **more))


def test_the_local_interface_explains_as_the_options_say(tmp_path: Path) -> None:
    written(tmp_path)
    data = samples(30, seed=3, overlap=2.0)
    found = {
        method: local(tmp_path, method, top_n=2, max_uncertain=10).get_model_performance_feedback(data, None)
        for method in ("OCCLUSION", "SHAP", "PERMUTATION")
    }
    default = LocalModelInterface(root=tmp_path, name="air", options=EvaluationOptions(top_n=2, max_uncertain=10))
    same = default.get_model_performance_feedback(data, None)
    assert same.uncertain_samples == found["OCCLUSION"].uncertain_samples
    for method, feedback in found.items():
        told = [one.sample_features_summary for one in feedback.uncertain_samples]
        assert {(one.method, len(one.top_n_features)) for one in told if one} == {(method, 2)}
        assert feedback.overall_metrics == same.overall_metrics
    fitted = forest()
    spec = FeatureSpec(fitted.features)
    (first, *_) = found["SHAP"].uncertain_samples
    (sample,) = (one for one in data if one["sample_id"] == first.raw_sample_id)
    values = feature_values([sample], spec)
    said = fitted.members(model_matrix(values, spec)).mean(axis=1).argmax(axis=1)
    trees = TreeModel(fitted.forest, fitted.forest.classes_.tolist(), 3, lambda matrix: matrix)
    exact = tree_shap(values, spec, said, trees)[0]
    summary = first.sample_features_summary
    assert summary is not None
    assert summary.target_class_for_explanation == CLASSES[said[0]]
    for one in summary.top_n_features:
        assert one.importance_score == pytest.approx(exact[spec.names.index(one.feature_path)], abs=1e-6)
    (explained,) = local(tmp_path, "SHAP", top_n=2).explain([sample])
    assert explained.top_n_features == summary.top_n_features


def loaded(estimator: Any, members: int = 1, **more: Any) -> LocalModelInterface:
    """Return an interface to an estimator as a joblib file would be loaded, explaining by SHAP."""
    declared = UncertaintyDeclaration(method="ensemble" if members > 1 else "single_model", members=members)
    told = {"model": "air", "version": "1", "format": "joblib", "file": "m.joblib", "sha256": "0" * 64}
    about = {"created": "2026-01-01T00:00:00Z", "classes": CLASSES, "feature_spec": FITTED.features}
    manifest = ModelManifest(**told, **about, uncertainty=declared, **more)  # type: ignore[arg-type]
    return LocalModelInterface.of(estimator_model(estimator, manifest), options=EvaluationOptions(explanation="SHAP"))


def test_forests_of_scikit_learn_are_looked_into_and_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    standard = Preprocessing(scaling="standard")
    mean, std = (np.array([getattr(one, name) for one in FITTED.features]) for name in ("mean", "std"))
    data = samples(90, seed=7)
    labels = [one["extracted_class_label"] for one in data]
    columns = (model_matrix(feature_values(data, SPEC), SPEC) - mean) / std
    estimator = RandomForestClassifier(7, random_state=0).fit(columns.astype(np.float32), labels)
    interface = loaded(estimator, members=7, preprocessing=standard)
    told = interface.explain(data[:10], top_n=4)
    assert {one.method for one in told} == {"SHAP"}
    model = interface.model()
    values = feature_values(data[:10], SPEC)
    classes = model.predictions(model_matrix(values, SPEC)).predicted
    asked = scores_of(by_shap(values, SPEC, classes, model.probabilities))
    for row, one in enumerate(told):
        found = {part.feature_path: part.importance_score for part in one.top_n_features}
        assert [found[name] for name in SPEC.names] == pytest.approx(asked[row].tolist(), abs=1e-6)
    monkeypatch.setattr(type(model), "probabilities", None)
    assert interface.explain(data[:10], top_n=4) == told
    boosted = GradientBoostingClassifier(n_estimators=3).fit(columns, labels)
    assert not is_tree(boosted)


def test_a_linear_model_is_explained_by_shap_where_that_is_asked_for() -> None:
    from sklearn.linear_model import LogisticRegression

    data = samples(90, seed=7)
    columns = model_matrix(feature_values(data, SPEC), SPEC)
    fitted = LogisticRegression(max_iter=3000).fit(columns, [one["extracted_class_label"] for one in data])
    fitted.classes_, fitted.coef_ = np.array(CLASSES), fitted.coef_
    assert {one.method for one in loaded(fitted).explain(data[:3])} == {"SHAP"}
    plain = LocalModelInterface.of(loaded(fitted).model())
    assert {one.method for one in plain.explain(data[:3])} == {"COEFFICIENT"}


def test_what_there_is_not_is_refused_when_the_options_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="expected one of OCCLUSION, SHAP, PERMUTATION, got 'LIME'"):
        EvaluationOptions(explanation="LIME")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(ActiveLearningError, match=r'package shap: pip install "uqueue\[learning-shap\]"'):
        EvaluationOptions(explanation="SHAP")
    found = by_shap(VALUES, SPEC, TRUE, predict)
    assert found.method == "NONE"
    assert 'pip install "uqueue[learning-shap]"' in (found.warning or "")
    EvaluationOptions(explanation="PERMUTATION")


def test_explanations_by_another_method_than_asked_for_are_refused() -> None:
    table = read_table(samples(6), FeatureSpec(FEATURES))
    said = Predictions.from_probabilities(np.full((6, 3), 1 / 3), CLASSES, model_version="m")
    options = EvaluationOptions(explanation="PERMUTATION")
    reported = select(table, said, options)
    rows = reported.explained
    classes = said.predicted[rows]
    by_occlusion = occlusion(table.values[rows], table.spec, classes, lambda one: np.full((len(one), 3), 1 / 3))
    with pytest.raises(ValueError, match="explained by OCCLUSION, and the options ask for PERMUTATION"):
        feedback_of(table, said, reported, by_occlusion, options=options)

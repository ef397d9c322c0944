"""A loaded model: from two files to intervals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from builders.artifacts import mqnn_h5_bytes, write_state_pickle
from uqueue_config.errors import InvalidCalibration, InvalidFeatures, ModelInvalid
from uqueue_config.prediction import FileFingerprint, IntervalPrediction
from uqueue_worker.artifacts import ArtifactPair
from uqueue_worker.artifacts.pair import fingerprint
from uqueue_worker.models import IntervalModel, load_interval_model

FEATURES = np.random.default_rng(3).normal(size=(40, 8))


def pair_of(model: bytes | None = None, *, state_older: bool = False, **state: Any) -> ArtifactPair:
    model = mqnn_h5_bytes() if model is None else model
    pickled = write_state_pickle(**{"q_hat": np.array([0.25, -0.1]), **state})
    return ArtifactPair(
        "mccp-uq", model, pickled, fingerprint(model, 200), fingerprint(pickled, 100 if state_older else 300)
    )


def loaded(model: bytes | None = None, *, mode: Any = "dropout", **state: Any) -> IntervalModel:
    return load_interval_model(pair_of(model, **state), forward_mode=mode)


def same(one: IntervalPrediction, other: IntervalPrediction) -> bool:
    return one.to_message("base64") == other.to_message("base64")


def test_a_prediction_is_the_rule_and_the_correction() -> None:
    model = loaded()
    answer = model.predict(FEATURES, seed=5)
    assert answer.lower.shape == answer.upper.shape == (40, 2)
    assert answer.lower.dtype == np.float64
    assert answer.pass_std.shape == (40, 2, 2)
    assert answer.q_hat.tolist() == [0.25, -0.1]
    assert answer.stochastic
    assert (answer.seed, answer.forward_mode, answer.nominal_coverage) == (5, "dropout", 0.9)
    assert ((answer.passes_used >= 3) & (answer.passes_used <= 50)).all()
    calm = replace(model, calibration=replace(model.calibration, q_hat=np.zeros(2))).predict(FEATURES, seed=5)
    np.testing.assert_array_equal(answer.lower, calm.lower - model.calibration.q_hat)
    np.testing.assert_array_equal(answer.upper, calm.upper + model.calibration.q_hat)


def test_the_identity_names_both_files() -> None:
    pair = pair_of()
    identity = load_interval_model(pair).identity
    assert (identity.name, identity.version, identity.engine) == ("mccp-uq", pair.version, "fused")
    assert identity.sha256 == pair.model_file.sha256
    assert identity.keras_version == "3.15.1"
    assert isinstance(identity.state_file, FileFingerprint)


def test_the_same_job_gives_the_same_bytes() -> None:
    model, again = loaded(), loaded()
    first = model.predict(FEATURES, seed=7)
    assert same(first, model.predict(FEATURES, seed=7))
    assert same(first, again.predict(FEATURES.tolist(), seed=7))
    assert not np.array_equal(first.lower, model.predict(FEATURES, seed=8).lower)


def test_requests_answered_together_are_the_same_bytes_as_alone() -> None:
    model = loaded()
    requests = [(FEATURES[:1], 1), (FEATURES[1:30], 2), (FEATURES[30:], 1)]
    together = model.predict_many(requests)
    assert all(
        same(answer, model.predict(features, seed=seed))
        for answer, (features, seed) in zip(together, requests, strict=True)
    )
    assert model.predict_many([]) == []


def test_a_row_does_not_depend_on_the_rows_after_it() -> None:
    model = loaded()
    np.testing.assert_array_equal(model.predict(FEATURES, seed=1).lower[:9], model.predict(FEATURES[:9], seed=1).lower)


@pytest.mark.parametrize(
    ("patience", "max_mc", "passes", "converged"), [(2, 50, 3, True), (0, 50, 1, True), (5, 4, 4, False)]
)
def test_deterministic_mode_reports_what_the_rule_would(
    patience: int, max_mc: int, passes: int, converged: bool
) -> None:
    model = loaded(mode="deterministic", patience=patience, max_mc=max_mc)
    answer = model.predict(FEATURES, seed=1)
    assert not answer.stochastic
    assert (answer.passes_used == passes).all()
    assert (answer.converged == converged).all()
    assert (answer.pass_std == 0).all()
    assert answer.warnings == ()
    assert np.array_equal(answer.lower, model.predict(FEATURES, seed=2).lower)


def test_always_on_dropout_acts_in_deterministic_mode_as_under_model_predict() -> None:
    model = loaded(mqnn_h5_bytes(dropout_class="pkg>MCDropout"), mode="deterministic")
    assert model.stochastic
    assert model.predict(FEATURES, seed=1).passes_used.max() > 3


def test_dropout_that_does_not_act_is_said() -> None:
    answer = loaded(mqnn_h5_bytes(rate=0.0)).predict(FEATURES, seed=1)
    assert not answer.stochastic
    assert "MC dropout inactive" in answer.warnings[0]


def test_dropout_that_acts_on_few_inputs_only_still_counts_as_random() -> None:
    import io

    import h5py

    buffer = io.BytesIO(mqnn_h5_bytes(hidden=(4, 4)))
    with h5py.File(buffer, "r+") as file:
        file["model_weights/dense/dense/bias"][...] = -1.0  # no unit is on at the mean input
    assert loaded(buffer.getvalue()).stochastic


def test_a_calibration_older_than_the_model_is_said() -> None:
    model = loaded(state_older=True)
    assert model.stale
    assert "stale calibration" in model.predict(FEATURES, seed=1).warnings[0]
    assert not loaded().stale


def test_rows_far_from_the_training_inputs_are_counted() -> None:
    far = FEATURES.copy()
    far[[3, 8], 2] = 1e6
    far[9, 1] = -3e38
    assert loaded().predict(FEATURES, seed=1).warnings == ()
    notes = loaded().predict(far, seed=1).warnings
    assert notes[0].startswith("3 of 40 rows have a feature more than 6 standard deviations")


def test_a_row_whose_output_overflows_fails_alone() -> None:
    wild = FEATURES[:3].copy()
    wild[1] = 3e38
    for mode in ("dropout", "deterministic"):
        answer = loaded(mode=mode).predict(wild, seed=1)
        assert answer.failed.tolist() == [False, True, False]
        assert np.isnan(answer.lower[1]).all()
        assert np.isnan(answer.pass_std[1]).all()
        assert answer.converged[1] == False  # noqa: E712
        assert answer.passes_used.tolist()[1] == 50
        assert "1 of 3 rows failed" in answer.warnings[-1]
        assert "NaN" not in str(answer.to_message())


@pytest.mark.parametrize("q_hat", [0.5, np.array([0.5]), np.array([[0.5, 0.5]])])
def test_one_correction_goes_for_every_target(q_hat: Any) -> None:
    model = loaded(q_hat=q_hat)
    assert model.calibration.q_hat.tolist() == [0.5, 0.5]
    assert not model.calibration.q_hat.flags.writeable


def test_a_correction_of_another_length_is_refused_at_load() -> None:
    with pytest.raises(InvalidCalibration, match="holds 3 values, but the model has 2 targets"):
        loaded(q_hat=np.ones(3))


def test_features_and_targets_that_do_not_fit_are_refused() -> None:
    model = loaded()
    assert (model.n_features, model.n_targets, model.engine_name) == (8, 2, "fused")
    with pytest.raises(InvalidFeatures, match="expected 8 columns, got 7"):
        model.predict(FEATURES[:, :7], seed=1)
    with pytest.raises(InvalidFeatures, match="target_dim is 3, but the model has 2"):
        model.predict(FEATURES, seed=1, target_dim=3)
    model.predict(FEATURES, seed=1, target_dim=2)
    with pytest.raises(ValueError, match="seed"):
        model.predict(FEATURES, seed=-1)


def test_a_prediction_can_be_cancelled() -> None:
    def cancel(rows_done: int) -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        loaded().predict(FEATURES, seed=1, on_progress=cancel)


def test_a_network_that_overflows_at_its_mean_input_is_refused() -> None:
    with pytest.raises(ModelInvalid, match="not finite"):
        loaded(_with_huge_weights())


def _with_huge_weights() -> bytes:
    import io

    import h5py

    buffer = io.BytesIO(mqnn_h5_bytes())
    with h5py.File(buffer, "r+") as file:
        file["model_weights/q0/q0/kernel"][...] = 3e38
        file["model_weights/dense/dense/bias"][...] = 3e38
    return buffer.getvalue()


def test_unknown_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="forward_mode"):
        loaded(mode="random")

"""Features: by path and never by place, so that no sensor can shift a column."""

from __future__ import annotations

import copy
import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.learning_models import CLASSES, FEATURES, sample, samples
from uqueue_config.learning.model_manifest import Feature, ModelManifest, Preprocessing
from uqueue_worker.learning.errors import DatasetFormat, EmptyDataset, FeatureMismatch
from uqueue_worker.learning.models.features import (
    FeatureSpec,
    check_missing,
    feature_matrix,
    feature_values,
    model_matrix,
    scaled,
)
from uqueue_worker.learning.models.sample_table import read_table

SPEC = FeatureSpec(FEATURES)
NUMBER = st.floats(-1e6, 1e6, width=32)


def one(path: str, holder: dict[str, Any], **more: Any) -> float:
    return float(feature_values([holder], FeatureSpec((Feature(path=path, **more),)))[0, 0])


def reading(value: Any) -> dict[str, Any]:
    return {"sensor_readings_map": {"readings": {"S": {"field": value}}}}


def test_values_are_found_by_their_paths() -> None:
    values = feature_values([sample(1, None, (12.5, 0.5, 41.0, 55.0))], SPEC)
    assert values.tolist() == [[12.5, 0.5, 41.0, 55.0]]


@pytest.mark.parametrize(
    ("reducer", "expected"), [("max", 4.0), ("mean", 2.5), ("std", math.sqrt(1.25)), ("p95", 3.85)]
)
def test_a_reducer_makes_one_number_of_a_list(reducer: str, expected: float) -> None:
    assert one(f"sensor_readings_map.S.field|{reducer}", reading([1.0, 2.0, 3.0, 4.0])) == pytest.approx(expected)
    assert one("sensor_readings_map.S.field", reading([[1, 2], [3, 4]]), reducer=reducer) == pytest.approx(expected)
    assert one(f"sensor_readings_map.S.field|{reducer}", reading([[1, None], [2], [3, math.nan, 4]])) == pytest.approx(
        expected
    )


def test_an_index_picks_one_element_and_beyond_the_end_there_is_none() -> None:
    assert one("sensor_readings_map.S.field[1][0]", reading([[1, 2], [3, 4]])) == 3
    assert one("sensor_readings_map.S.field[0].frequency", reading([{"frequency": 50}])) == 50
    assert math.isnan(one("sensor_readings_map.S.field[2]", reading([1, 2])))


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, 1e300, 10**400])
def test_what_the_model_cannot_read_is_missing(value: Any) -> None:
    assert math.isnan(one("sensor_readings_map.S.field", reading(value)))
    assert math.isnan(one("sensor_readings_map.S.field|max", reading([value])))


@pytest.mark.parametrize("holder", [{}, {"sensor_readings_map": None}, {"sensor_readings_map": {"readings": {"S": 1}}}])
def test_a_path_that_does_not_reach_is_missing(holder: dict[str, Any]) -> None:
    assert math.isnan(one("sensor_readings_map.S.field", holder))


@pytest.mark.parametrize(
    ("value", "told"),
    [("12", "is text and no number"), ([1.0], "is a list; name an index"), ({"a": 1}, "is an object and no number")],
)
def test_what_is_no_number_is_a_mismatch_that_says_so(value: Any, told: str) -> None:
    with pytest.raises(FeatureMismatch, match=told):
        one("sensor_readings_map.S.field", reading(value))


def test_raw_samples_are_read_as_exported_ones_are() -> None:
    exported = sample(1, None, (12.5, 0.5, 41.0, 55.0))
    raw = {
        "sensor_readings": exported["sensor_readings_map"]["readings"],
        "sample_metadata": exported["sample_metadata"],
    }
    assert feature_values([raw], SPEC).tolist() == feature_values([exported], SPEC).tolist()


def test_missing_values_are_imputed_and_marked_in_columns_after_all_features() -> None:
    spec = FeatureSpec((Feature(path="a", impute=7.0, indicator=True), Feature(path="b", impute=8.0)), 1.0)
    matrix, report = feature_matrix([{"a": None, "b": 1.0}, {"a": 2.0}], spec)
    assert matrix.dtype == np.float32
    assert matrix.tolist() == [[7.0, 1.0, 1.0], [2.0, 8.0, 0.0]]
    assert report.rates == {"a": 0.5, "b": 0.5}
    assert "2 features are missing somewhere" in report.warnings()[0]


def test_more_missing_values_than_allowed_are_a_mismatch() -> None:
    spec = FeatureSpec((Feature(path="a"),), max_missing_rate=0.5)
    check_missing(np.array([[1.0], [np.nan]]), spec)
    with pytest.raises(FeatureMismatch, match=r"a is missing in 66.7%; at most 50% may lack a feature"):
        check_missing(np.array([[1.0], [np.nan], [np.nan]]), spec)


def test_scaling_is_by_the_manifests_constants_and_leaves_indicators_alone() -> None:
    features = (Feature(path="a", mean=1.0, std=2.0, indicator=True), Feature(path="b", mean=3.0, std=0.0))
    manifest = _manifest(features, Preprocessing(scaling="standard"))
    matrix = np.array([[5.0, 4.0, 1.0]], dtype=np.float32)
    assert scaled(matrix, manifest).tolist() == [[2.0, 1.0, 1.0]]
    assert scaled(matrix, _manifest(features, Preprocessing())).tolist() == matrix.tolist()


def test_a_table_holds_what_evaluation_needs() -> None:
    table = read_table([sample(3, "ARC", (1.0, 2.0, 30.0, 50.0)), sample(4, None, (1.0, None, 30.0, None))], SPEC)
    assert (table.ids, table.scenario_ids, table.seconds) == (
        ("s00003", "s00004"),
        ("scenario-3", "scenario-4"),
        (3.0, 4.0),
    )
    assert table.labels == ("ARC", "anything")
    assert table.sensors == ("U20_SPS30", "U21_SHT85", "U26_Lepton35", "U29_TFEMF")
    assert table.present.tolist() == [[True, True, True, True], [True, False, True, False]]
    assert table.identifier.startswith("list#sha256:")


def test_a_null_event_type_and_an_unknown_one_are_no_labels() -> None:
    unlabelled = [sample(number, None, (1.0, 2.0, 3.0, 4.0)) for number in range(2)]
    unlabelled[0]["ground_truth_labels"]["event_type"] = None
    unlabelled[1]["ground_truth_labels"]["event_type"] = "UNKNOWN_EVENT_TYPE"
    assert read_table(unlabelled, SPEC).labels == (None, None)


def test_another_field_can_be_the_label() -> None:
    made = sample(0, "ARC", (1.0, 2.0, 3.0, 4.0))
    made["ground_truth_labels"] |= {"event_subtype": "series", "scenario_specific_details": {"phase": 2}}
    assert read_table([made], SPEC, label="event_subtype").labels == ("series",)
    assert read_table([made], SPEC, label="phase").labels == ("2",)
    assert read_table([made], SPEC, label="nothing").labels == (None,)


def test_a_data_set_of_nothing_or_of_something_else_is_refused() -> None:
    with pytest.raises(EmptyDataset):
        read_table([], SPEC)
    with pytest.raises(DatasetFormat, match="sample 1: it has no sample_id"):
        read_table([sample(0, None, (1.0, 2.0, 3.0, 4.0)), {"scenario_id": "x"}], SPEC)
    with pytest.raises(DatasetFormat, match="sample 0: it is no object"):
        read_table([["a list"]], SPEC)  # type: ignore[list-item]


def test_the_name_of_a_list_follows_its_content() -> None:
    made = samples(3)
    changed = copy.deepcopy(made)
    changed[2]["sensor_readings_map"]["readings"]["U20_SPS30"]["pm2_5"] += 1
    assert read_table(made, SPEC).identifier == read_table(copy.deepcopy(made), SPEC).identifier
    assert read_table(made, SPEC).identifier != read_table(changed, SPEC).identifier


rows = st.lists(st.tuples(*[st.none() | NUMBER] * 4), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(rows, st.randoms(use_true_random=False))
def test_permuted_and_additional_sensors_and_nulls_never_shift_a_column(
    values: list[Any], order: random.Random
) -> None:
    made = [sample(number, None, row) for number, row in enumerate(values)]
    found = feature_values(made, SPEC)
    for row, held in zip(values, found, strict=True):
        for column, (wanted, value) in enumerate(zip(row, held, strict=True)):
            expected = math.nan if wanted is None else max(21.0, wanted) if column == 2 else wanted
            assert value == expected or (math.isnan(value) and math.isnan(expected))
    for one_sample in made:
        container = one_sample["sensor_readings_map"]
        pairs = [*container["readings"].items(), ("U99_NEW", {"pm2_5": 1e9}), ("U98_NULL", None)]
        order.shuffle(pairs)
        container["readings"] = dict(pairs)
    assert np.array_equal(feature_values(made, SPEC), found, equal_nan=True)


@settings(max_examples=60, deadline=None)
@given(rows)
def test_what_a_model_reads_is_finite_and_each_row_its_own(values: list[Any]) -> None:
    made = [sample(number, None, row) for number, row in enumerate(values)]
    matrix = model_matrix(feature_values(made, SPEC), SPEC)
    assert np.isfinite(matrix).all()
    alone = [model_matrix(feature_values([one_sample], SPEC), SPEC)[0] for one_sample in made]
    assert np.array_equal(matrix, np.stack(alone))


def _manifest(features: tuple[Feature, ...], preprocessing: Preprocessing) -> ModelManifest:
    return ModelManifest(
        model="air",
        version="1",
        format="onnx",
        file="model.onnx",
        sha256="0" * 64,
        created="2026-03-02T09:00:00Z",  # type: ignore[arg-type]
        classes=CLASSES,
        feature_spec=features,
        preprocessing=preprocessing,
    )

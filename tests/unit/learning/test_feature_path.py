"""Feature paths: one canonical form."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uqueue_config.learning.feature_path import FeaturePath, canonical_feature_path, parse_feature_path

NAMES = st.text(st.characters(exclude_characters=".[]|", exclude_categories=("Z", "C")), min_size=1, max_size=8)
SEGMENTS = st.lists(st.tuples(NAMES, st.lists(st.integers(0, 99), max_size=2)), min_size=1, max_size=4)


@pytest.mark.parametrize(
    ("text", "canonical", "sensor"),
    [
        ("sensor_readings_map.U20_SPS30.pm", "sensor_readings_map.readings.U20_SPS30.pm", "U20_SPS30"),
        ("sensor_readings_map.readings.U26.image[3][0]|p95", None, "U26"),
        ("sample_metadata.U21_SHT85__air_temperature_celsius", None, None),
    ],
)
def test_paths_have_one_form(text: str, canonical: str | None, sensor: str | None) -> None:
    path = parse_feature_path(text)
    assert str(path) == (canonical or text)
    assert path.sensor_id == sensor
    assert canonical_feature_path(str(path)) == str(path)


def test_indices_are_numbers() -> None:
    assert parse_feature_path("a.b[2]|max") == FeaturePath(("a", "b", 2), "max")


@pytest.mark.parametrize(
    "text", ["", ".", "a..b", "a.", "a[x]", "a[-1]", "a|sum", "a|", "a|max|mean", "[1]", "a b", "a" * 501]
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_feature_path(text)


@settings(deadline=None)
@given(SEGMENTS, st.sampled_from([None, "max", "mean", "std", "p95"]))
def test_every_path_is_read_back(segments: list[tuple[str, list[int]]], reducer: str | None) -> None:
    path = FeaturePath(("s", *(part for name, indices in segments for part in (name, *indices))), reducer)  # type: ignore[arg-type]
    assert parse_feature_path(str(path)) == path

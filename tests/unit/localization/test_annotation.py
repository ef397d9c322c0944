"""Answers as SigMF annotations."""

from __future__ import annotations

import json
from typing import Any

import pytest

from uqueue.localization import Estimate, annotated, annotation, present, read_recording
from uqueue_config.errors import InvalidRecording

ANSWER = {**present(Estimate(52.0, 5.0, sigma_x=30, sigma_y=40, theta=10)), "model_version": "7"}


def metadata(**members: Any) -> bytes:
    about = {"core:datatype": "ci8", "core:version": "1.2.0", "my:note": "Gruß", **members.pop("about", {})}
    return json.dumps({"global": about, "captures": [], **members}).encode()


def mark(start: int = 0, **given: Any) -> dict[str, Any]:
    return annotation(ANSWER, **{"start": start, "count": 10, "sample_rate_hz": 1000.0, "frequency_hz": 5e6, **given})


def test_an_annotation_says_where_when_and_by_what() -> None:
    made = mark(20)
    assert (made["core:sample_start"], made["core:sample_count"]) == (20, 10)
    assert (made["core:freq_lower_edge"], made["core:freq_upper_edge"]) == (5e6 - 500, 5e6 + 500)
    assert (made["uqueue:latitude"], made["uqueue:longitude"]) == (52.0, 5.0)
    assert (made["uqueue:sigma_x_m"], made["uqueue:sigma_y_m"], made["uqueue:theta_deg"]) == (30, 40, 10)
    assert made["uqueue:model_version"] == "7"
    assert "the 68% ellipse has semi-axes of 60 m and 45 m" in made["core:comment"]


@pytest.mark.parametrize("unknown", ["sample_rate_hz", "frequency_hz"])
def test_without_rate_or_frequency_there_are_no_edges(unknown: str) -> None:
    assert not any(name.startswith("core:freq") for name in mark(**{unknown: None}))


def test_annotations_are_sorted_in_and_counted_from_the_offset() -> None:
    there = [{"core:sample_start": 100, "core:label": "first"}, {"core:sample_start": 130, "core:label": "last"}]
    before = metadata(annotations=there, about={"core:offset": 100})
    document = json.loads(annotated(before, [mark(20)]))
    assert [one["core:label"] for one in document["annotations"]] == ["first", "localization", "last"]
    assert document["annotations"][1]["core:sample_start"] == 120


def test_everything_else_stays_and_the_namespace_is_declared_once() -> None:
    other = {"name": "other", "version": "2.0.0", "optional": False}
    once = annotated(metadata(about={"core:extensions": [other]}), [mark()])
    twice = json.loads(annotated(once, [mark()], dataset="a.sigmf-data"))
    about = twice["global"]
    assert [one["name"] for one in about["core:extensions"]] == ["other", "uqueue"]
    assert about["core:dataset"] == "a.sigmf-data"
    assert about["my:note"] == "Gruß"
    assert "core:dataset" not in json.loads(once)["global"]
    assert len(twice["annotations"]) == 2
    assert read_recording(once, bytes(4)).samples.shape == (1, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"annotations": {}},
        {"annotations": [{"core:sample_start": "0"}]},
        {"annotations": [{}]},
        {"about": {"core:extensions": {}}},
        {"about": {"core:extensions": ["uqueue"]}},
    ],
)
def test_what_is_no_sigmf_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRecording, match="must be a list"):
        annotated(metadata(**wrong), [mark()])

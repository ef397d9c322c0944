"""checks.json is hostile until it was read: every byte string is Checks or a sentence."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uqueue_config.errors import InvalidChecks
from uqueue_worker.artifacts import Checks, read_checks
from uqueue_worker.artifacts.local import MAX_CHECKS_BYTES

GOOD: dict[str, Any] = {
    "schema": 1,
    "calibration": {
        "forward_mode": "dropout",
        "stop_rule": {"patience": 2, "delta": 0.0005, "max_mc": 50},
        "preprocessing": {"n_features": 2, "sha256": "a" * 64},
        "weights_sha256": "b" * 64,
        "n_calibration": 400,
    },
    "golden": {
        "features": [[1.0, 2.0], [3.0, 4]],
        "seed": 5,
        "forward_mode": "dropout",
        "lower": [[0.1], [0.2]],
        "upper": [[1.1], [1.2]],
        "pass_std": [[0.0], [0.01]],
        "passes_used": [3, 4],
    },
    "labelled": {"features": [[1.0, 2.0]], "targets": [[0.5]], "seed": 6},
}


def refused(document: Any) -> str:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(InvalidChecks) as caught:
        read_checks(data, file="there/checks.json")
    assert caught.value.message.startswith("there/checks.json: it cannot be used to check the model: ")
    assert len(caught.value.message) < 600
    return caught.value.message


def test_what_was_written_is_read() -> None:
    checks = read_checks(json.dumps(GOOD).encode())
    assert read_checks(checks.to_json()) == checks
    assert json.loads(checks.to_json()) == GOOD
    for section in ("calibration", "golden", "labelled"):
        assert read_checks(json.dumps({section: GOOD[section]}).encode())


@pytest.mark.parametrize(
    ("section", "member", "value", "words"),
    [
        ("golden", "features", [[1.0, 2.0], [3.0]], "all rows of features must be of one width"),
        ("golden", "features", [[1.0, 2.0]], "must have one length"),
        ("golden", "lower", [[0.1], [0.2, 0.3]], "must be of one width"),
        ("golden", "features", [], "golden.features: "),
        ("golden", "features", [[], []], "golden.features.0: "),
        ("golden", "features", [["1.0", 2.0], [3.0, 4.0]], "golden.features.0.0: "),
        ("golden", "features", [[True, 2.0], [3.0, 4.0]], "golden.features.0.0: "),
        ("golden", "features", [[None, 2.0], [3.0, 4.0]], "golden.features.0.0: "),
        ("golden", "lower", [[float("nan")], [0.2]], "finite number"),
        ("golden", "upper", [[float("inf")], [0.2]], "finite number"),
        ("golden", "features", [[0.0]] * 1001, "at most 1000"),
        ("labelled", "features", [[0.0]] * 10_001, "at most 10000"),
        ("labelled", "targets", [[0.0], [0.0]], "one length"),
        ("golden", "seed", -1, "golden.seed: "),
        ("golden", "seed", 2**63, "golden.seed: "),
        ("golden", "seed", 1.5, "golden.seed: "),
        ("golden", "passes_used", [0, 3], "golden.passes_used.0: "),
        ("golden", "forward_mode", "training", "golden.forward_mode: "),
        ("golden", "surprise", 1, "golden.surprise: "),
        ("calibration", "weights_sha256", "B" * 64, "calibration.weights_sha256: "),
        ("calibration", "n_calibration", 0, "calibration.n_calibration: "),
        ("calibration", "stop_rule", {"patience": 2, "delta": -1.0, "max_mc": 50}, "calibration.stop_rule.delta: "),
        ("calibration", "stop_rule", {"patience": 2, "max_mc": 50}, "calibration.stop_rule.delta: Field required"),
        ("calibration", "preprocessing", [], "calibration.preprocessing: "),
    ],
)
def test_a_wrong_member_is_named(section: str, member: str, value: Any, words: str) -> None:
    document = copy.deepcopy(GOOD)
    document[section][member] = value
    assert words in refused(document)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"", "EOF"),
        (b"\xff\xfe", "all of it"),
        (b"[]", "all of it"),
        (b'{"schema": 1}', "at least one of calibration, golden and labelled"),
        (json.dumps({**GOOD, "schema": 2}).encode(), "schema: "),
        (json.dumps({**GOOD, "robustness": {}}).encode(), "robustness: "),
        (b"[" * 100_000, "all of it"),
        (b'{"golden": ' * 50_000, "all of it"),
        (b'{"labelled": {"features": [[1e999]], "targets": [[1]], "seed": 1}}', "finite"),
        (b'{"labelled": {"features": [[' + b"9" * 5000 + b']], "targets": [[1]], "seed": 1}}', "number out of range"),
        (b" " * (MAX_CHECKS_BYTES + 1), f"at most {MAX_CHECKS_BYTES} are read"),
    ],
)
def test_what_is_no_checks_file(document: bytes, words: str) -> None:
    assert words in refused(document)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["features", "seed", "x"]), inner),
    max_leaves=8,
)


def paths(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(document, dict | list):
        members = document.items() if isinstance(document, dict) else enumerate(document)
        return [at, *(path for key, value in members for path in paths(value, (*at, key)))]
    return [at]


@given(st.sampled_from(paths(GOOD)[1:]), JSON)
def test_any_value_in_any_place_is_read_or_refused(path: tuple[Any, ...], value: Any) -> None:
    document = copy.deepcopy(GOOD)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    outcome(json.dumps(document).encode())


@given(st.data())
def test_any_bytes_are_read_or_refused(data: Any) -> None:
    whole = json.dumps(GOOD).encode()
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, len(whole)))
    outcome(whole[:begin] + data.draw(st.binary(max_size=20)) + whole[end:])


def outcome(data: bytes) -> None:
    try:
        checks = read_checks(data)
    except InvalidChecks:
        return
    assert isinstance(checks, Checks)
    assert read_checks(checks.to_json()) == checks

from __future__ import annotations

import math
import pickle
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.artifacts import write_state_pickle
from uqueue_config.errors import InvalidCalibration, UqueueError
from uqueue_worker.artifacts import read_calibration_state

PROTOCOLS = range(6)
EXTRAS = {
    "scores": np.arange(12, dtype=">f4").reshape(3, 4),
    "mask": np.array([True, False]),
    "history": [1, (2.5, None), {"loss": [0.1], (1, 2): b"key"}],
    "raw": b"\x00\xff",
    "marker": object(),
    "big": 10**40,
}


def numpy_1_names(data: bytes) -> bytes:
    """Rewrite the module names of NumPy 2 to those of NumPy 1; frames are dropped, as their lengths change."""
    import pickletools

    steps = [*pickletools.genops(data)]
    ends = [position for _, _, position in steps[1:]] + [len(data)]
    out = b""
    for (opcode, argument, start), end in zip(steps, ends, strict=True):
        text = data[start:end]
        if opcode.name == "FRAME":
            continue
        if opcode.name == "SHORT_BINUNICODE" and str(argument).startswith("numpy._core"):
            name = argument.replace("_core", "core").encode()
            text = b"\x8c" + bytes([len(name)]) + name
        elif opcode.name == "GLOBAL":
            text = text.replace(b"numpy._core", b"numpy.core")
        out += text
    return out


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("numpy_names", [1, 2])
@pytest.mark.parametrize("as_dict", [False, True], ids=["object", "dict"])
def test_every_protocol_reads_the_same(protocol: int, numpy_names: int, as_dict: bool) -> None:
    data = write_state_pickle(protocol=protocol, as_dict=as_dict, **EXTRAS)
    if numpy_names == 1 and np.__version__ >= "2":
        data = numpy_1_names(data)
    state = read_calibration_state(data)
    assert state.q_hat.tolist() == [0.25, -0.1]
    assert (state.patience, state.delta, state.max_mc) == (2, 5e-4, 50)
    assert (state.alpha, state.mode) == (0.1, "regression")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("q_hat", "expected"),
    [
        pytest.param(0.3, [0.3], id="float"),
        pytest.param(-2, [-2.0], id="negative int"),
        pytest.param(np.float64(0.5), [0.5], id="float64 scalar"),
        pytest.param(np.float32(0.5), [0.5], id="float32 scalar"),
        pytest.param(np.array(0.5), [0.5], id="0-d"),
        pytest.param(np.array([0.5]), [0.5], id="(1,)"),
        pytest.param(np.array([0.5, -1.5, 2]), [0.5, -1.5, 2.0], id="(3,)"),
        pytest.param(np.array([[0.5, 1.5]], dtype="f2"), [0.5, 1.5], id="(1, 2) float16"),
        pytest.param(np.asfortranarray(np.array([[0.5, 1.5]])), [0.5, 1.5], id="fortran"),
        pytest.param(np.array([0.5, 1.5], dtype=">f8"), [0.5, 1.5], id="big-endian"),
        pytest.param(np.array([3, 4], dtype="i2"), [3.0, 4.0], id="int16"),
        pytest.param([0.5, 1], [0.5, 1.0], id="list"),
        pytest.param([[0.5, np.float32(1.5)]], [0.5, 1.5], id="nested list"),
        pytest.param([np.array([0.5, 1.5])], [0.5, 1.5], id="list of an array"),
    ],
)
def test_q_hat_forms(protocol: int, q_hat: Any, expected: list[float]) -> None:
    state = read_calibration_state(write_state_pickle(protocol=protocol, q_hat=q_hat))
    assert state.q_hat.dtype == np.float64
    assert state.q_hat.tolist() == expected
    assert not state.q_hat.flags.writeable


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("patience", 0, 0),
        ("patience", np.int32(7), 7),
        ("patience", np.array(3), 3),
        ("max_mc", 50.0, 50),
        ("max_mc", np.int64(1), 1),
        ("delta", 0, 0.0),
        ("delta", np.float32(0.5), 0.5),
        ("alpha", None, None),
        ("alpha", ..., None),
        ("alpha", np.float64(0.05), 0.05),
        ("mode", ..., None),
        ("mode", None, None),
        ("mode", "cqr", "cqr"),
    ],
)
def test_accepted_fields(field: str, value: Any, expected: Any) -> None:
    read = getattr(read_calibration_state(write_state_pickle(**{field: value})), field)
    assert read == expected
    assert type(read) is type(expected)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("q_hat", ..., "is missing"),
        ("q_hat", None, "must be a number"),
        ("q_hat", "0.3", "must be a number"),
        ("q_hat", True, "must be a number"),
        ("q_hat", [], "one number per target"),
        ("q_hat", [0.1, None], "one number per target"),
        ("q_hat", [[0.1], [0.2]], "one number per target"),
        ("q_hat", [[[0.1]]], "one number per target"),
        ("q_hat", np.zeros((3, 2)), "its shape is (3, 2)"),
        ("q_hat", np.zeros((1, 1, 2)), "its shape is (1, 1, 2)"),
        ("q_hat", np.zeros(0), "its shape is (0,)"),
        ("q_hat", np.array([True]), "must hold numbers"),
        ("q_hat", np.array([0.1, math.nan]), "must be finite"),
        ("q_hat", math.inf, "must be finite"),
        ("q_hat", [0.1, -math.inf], "must be finite"),
        ("q_hat", [10**400], "must be finite"),
        ("patience", ..., "is missing"),
        ("patience", -1, "at least 0"),
        ("patience", 1.5, "whole number"),
        ("patience", True, "type bool"),
        ("patience", np.bool_(True), "must be a number"),
        ("patience", "2", "type str"),
        ("patience", None, "type NoneType"),
        ("patience", 10**400, "must be finite"),
        ("max_mc", 0, "at least 1"),
        ("max_mc", 50.5, "whole number"),
        ("max_mc", 2**31, "whole number"),
        ("max_mc", math.nan, "must be finite"),
        ("max_mc", np.array([50]), "must be a number"),
        ("delta", -1e-9, "at least 0"),
        ("delta", math.inf, "must be finite"),
        ("delta", ..., "is missing"),
        ("alpha", 0, "between 0 and 1"),
        ("alpha", 1.0, "between 0 and 1"),
        ("alpha", "0.1", "type str"),
        ("mode", "classification", "'classification'"),
        ("mode", 3, "type int"),
    ],
)
def test_refused_fields(field: str, value: Any, reason: str) -> None:
    with pytest.raises(InvalidCalibration, match=re.escape(reason)) as caught:
        read_calibration_state(write_state_pickle(**{field: value}), file="state/x.pkl")
    assert caught.value.field == field
    assert str(caught.value).startswith(f"state/x.pkl: {field} ")


def test_unknown_attributes_are_not_walked() -> None:
    doubled: Any = ()
    for _ in range(200):
        doubled = (doubled, doubled)
    nested: Any = []
    for _ in range(150):
        nested = [nested]
    loop: list[Any] = []
    loop.append(loop)
    data = write_state_pickle(doubled=doubled, nested=nested, loop=loop)
    assert read_calibration_state(data).max_mc == 50


def test_slots_and_dict_together() -> None:
    data = write_state_pickle()
    state = pickle.dumps((None, {"q_hat": 1.0, "patience": 1, "delta": 0.1, "max_mc": 3}), 2)[2:-1]
    head = b"\x80\x02cmccp_lib.mccp.mccp\nMCCP\n)\x81"
    assert read_calibration_state(head + state + b"b.").max_mc == 3
    assert data


def test_an_escape_that_no_writer_of_pickles_makes() -> None:
    data = write_state_pickle(marker="marked", protocol=0).replace(b"Vmarked\n", b"S'\\o'\n")
    assert b"S'\\o'" in data
    with pytest.raises(UqueueError, match="invalid escape"):
        read_calibration_state(data)


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_or_read(data: bytes) -> None:
    with pytest.raises(UqueueError):
        read_calibration_state(data)


REAL = [write_state_pickle(protocol=protocol, **EXTRAS) for protocol in PROTOCOLS]


@given(st.sampled_from(REAL), st.data())
def test_mutated_pickles_raise_only_our_errors(data: bytes, draw: st.DataObject) -> None:
    changed = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 6))):
        position = draw.draw(st.integers(0, len(changed) - 1))
        changed[position] = draw.draw(st.integers(0, 255))
    cut = draw.draw(st.integers(0, len(changed)))
    for candidate in (bytes(changed), bytes(changed[:cut])):
        try:
            state = read_calibration_state(candidate)
        except UqueueError:
            continue
        assert np.isfinite(state.q_hat).all()
        assert state.max_mc >= 1


@pytest.mark.parametrize("cut", range(1, 200, 7))
def test_a_half_written_file_is_never_taken(cut: int) -> None:
    data = write_state_pickle()
    with pytest.raises(UqueueError):
        read_calibration_state(data[:-cut])

"""IQ samples from outside: every form gives one array, and what is none is refused with a sentence."""

from __future__ import annotations

import base64
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uqueue_config.errors import InputError, InvalidSamples, MalformedSamples
from uqueue_config.recipes import MAX_SAMPLES, MIN_SAMPLES, check_sample_rate, decode_samples, find_recipe, read_samples

RULES: dict[str, Any] = {"receivers": 3, "min_samples": 2, "max_samples": 4}
PAIRS = [[1.5, -2.0], [0, 3], [1e-3, 4.25]]
SAMPLES = np.array([1.5 - 2j, 3j, 1e-3 + 4.25j], np.complex64)


def text_of(samples: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(samples.astype("<c8").tobytes()).decode()


def test_every_form_gives_the_same_array() -> None:
    three = np.stack([SAMPLES] * 3)
    forms = [
        read_samples([PAIRS] * 3, **RULES),
        read_samples(tuple(tuple(map(tuple, PAIRS)) for _ in range(3)), **RULES),
        read_samples(np.array([PAIRS] * 3), **RULES),
        read_samples(three, **RULES),
        read_samples(three.astype(np.complex128), **RULES),
        read_samples(np.asfortranarray(three), **RULES),
        decode_samples(text_of(three), [3, 3], **RULES),
    ]
    for made in forms:
        assert (made.dtype, made.shape, made.flags.c_contiguous) == (np.complex64, (3, 3), True)
        np.testing.assert_array_equal(made, three)


def test_one_receiver_may_be_given_without_its_axis() -> None:
    forms = [PAIRS, [PAIRS], np.array(PAIRS), np.array([PAIRS]), np.array(PAIRS, np.float32), SAMPLES, SAMPLES[None]]
    for form in forms:
        np.testing.assert_array_equal(read_samples(form, **RULES), SAMPLES[None])
    for shape in ([3], [1, 3]):
        np.testing.assert_array_equal(decode_samples(text_of(SAMPLES), shape, **RULES), SAMPLES[None])


def test_numbers_may_be_of_any_real_type() -> None:
    mixed = [[Fraction(3, 2), np.float32(-2)], [np.int8(0), 3], [1e-3, np.float64(4.25)]]
    np.testing.assert_array_equal(read_samples(mixed, **RULES), SAMPLES[None])


def test_the_answer_is_a_copy() -> None:
    given_samples = np.stack([SAMPLES] * 3)
    made = read_samples(given_samples, **RULES)
    made[:] = 0
    assert given_samples.any()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (None, "got None"),
        ("text", "type str"),
        (b"bytes", "type bytes"),
        ({"a": 1}, "type dict"),
        (7, "type int"),
        ([1.0, 2.0], "sample 0 of receiver 0 is an object of type float"),
        ([[1.0]] * 3, "sample 0 of receiver 0 is 1 values"),
        ([[1.0, 2.0], [1.0, 2.0, 3.0]], "sample 1 of receiver 0 is 3 values"),
        ([PAIRS, PAIRS, PAIRS[:2]], "3 from receiver 0, 2 from receiver 2"),
        ([PAIRS, PAIRS, None], "receiver 2 is None"),
        ([PAIRS, PAIRS, [[0, 1], [0, 1], 5]], "sample 2 of receiver 2 is an object of type int"),
        ([[[[1.0, 2.0]]]], "sample 0 of receiver 0 is 1 values"),
        ([[1.0, None], [1.0, 2.0]], "sample 0 of receiver 0 holds None"),
        ([[1.0, 2.0], [True, 2.0]], "sample 1 of receiver 0 holds True"),
        ([[1.0, "2"], [1.0, 2.0]], "type str"),
        ([[1.0, 2j], [1.0, 2.0]], "type complex"),
        ([[1.0, [2.0]], [1.0, 2.0]], "type list"),
        ([[]], "0 values"),
        (np.zeros((3, 3)), r"shape \(3, 3\)"),
        (np.zeros((1, 3, 3, 2)), "shape"),
        (np.array(3.0), "shape"),
        (np.zeros((3, 2), bool), "bool"),
        (np.full((3, 2), "1"), "<U1"),
        (np.full((3, 2), None), "object"),
        (np.zeros((3, 2), "M8[s]"), "datetime"),
        (np.ma.zeros((3, 2)), "mask"),
    ],
)
def test_what_is_no_array_of_pairs_is_malformed(value: Any, sentence: str) -> None:
    with pytest.raises(MalformedSamples, match=sentence):
        read_samples(value, **RULES)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([], "2 to 4 samples per receiver, got none"),
        (np.zeros((0, 2)), "got none"),
        ([[0, 0]], "2 to 4 samples per receiver, got 1"),
        ([[0, 0]] * 5, "2 to 4 samples per receiver, got 5"),
        (np.zeros((3, 5, 2)), "got 5"),
        ([PAIRS] * 2, "1 or 3 receivers, got 2"),
        (np.zeros((0, 3, 2)), "1 or 3 receivers, got 0"),
        ([PAIRS, PAIRS, [[0, 0], [0, math.nan], [0, 0]]], "sample 1 of receiver 2 holds"),
        ([[0, 0], [-math.inf, 0]], "sample 1 of receiver 0 holds"),
        ([[0, 0], [1e39, 0]], "float32 can hold, sample 1"),
        ([[0, 0], [10**400, 0]], "huge whole number"),
        (np.array([1 + 1j, complex(math.nan, 0)]), "sample 1 of receiver 0"),
    ],
)
def test_a_recording_that_cannot_be_used_is_invalid(value: Any, sentence: str) -> None:
    with pytest.raises(InvalidSamples, match=sentence) as caught:
        read_samples(value, **RULES)
    assert type(caught.value) is InvalidSamples


GOOD = text_of(SAMPLES)


@pytest.mark.parametrize(
    ("text", "shape", "kind", "sentence"),
    [
        (None, [3], MalformedSamples, "got None"),
        (b"AAAA", [3], MalformedSamples, "type bytes"),
        (GOOD, None, MalformedSamples, "list of whole numbers"),
        (GOOD, 3, MalformedSamples, "list of whole numbers"),
        (GOOD, ["3"], MalformedSamples, "list of whole numbers"),
        (GOOD, [3.0], MalformedSamples, "list of whole numbers"),
        (GOOD, [True, 3], MalformedSamples, "list of whole numbers"),
        (GOOD, [10**5000], MalformedSamples, "list of whole numbers"),
        (GOOD, [-1], MalformedSamples, "list of whole numbers"),
        (GOOD, [], MalformedSamples, "got 0 numbers"),
        (GOOD, [1, 1, 3], MalformedSamples, "got 3 numbers"),
        (GOOD, [2, 3], InvalidSamples, "1 or 3 receivers, got 2"),
        (GOOD, [2**40], InvalidSamples, "2 to 4 samples"),
        (GOOD, [0], InvalidSamples, "got none"),
        (GOOD, [2], InvalidSamples, "needs 16 bytes of complex64, got 24"),
        (GOOD[:-4], [3], InvalidSamples, "needs 24 bytes of complex64, got 21"),
        (GOOD[:-1], [3], InvalidSamples, "standard base64"),
        (GOOD + "=", [3], InvalidSamples, "standard base64"),
        ("-_" + GOOD[2:], [3], InvalidSamples, "standard base64"),
        (GOOD[:8] + "\n" + GOOD[8:], [3], InvalidSamples, "standard base64"),
        ("ü" * 32, [3], InvalidSamples, "standard base64"),
        (text_of(SAMPLES * np.float32(math.nan)), [3], InvalidSamples, "sample 0 of receiver 0 holds"),
    ],
)
def test_base64_that_does_not_fit_is_refused(text: Any, shape: Any, kind: type[InputError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence) as caught:
        decode_samples(text, shape, **RULES)
    assert type(caught.value) is kind


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=20,
)


@settings(max_examples=400, deadline=None)
@given(value=_json, shape=_json)
def test_anything_else_is_refused_and_nothing_crashes(value: Any, shape: Any) -> None:
    for read in (lambda: read_samples(value, **RULES), lambda: decode_samples(value, shape, **RULES)):
        try:
            made = read()
        except InvalidSamples:
            continue
        assert made.dtype == np.complex64
        assert np.isfinite(made).all()


def test_the_limits_are_the_specification_s() -> None:
    assert (MIN_SAMPLES, MAX_SAMPLES) == (2048, 262_144)
    with pytest.raises(InvalidSamples, match="expected 2048 to 262144 samples per receiver, got 2047"):
        read_samples(np.zeros((2047, 2)), receivers=3)


@pytest.mark.parametrize("rate", [None, 192_000, 192_000.0, 190_081, 193_919])
def test_rates_within_one_percent_pass(rate: float | None) -> None:
    check_sample_rate(rate, 192_000.0)


@pytest.mark.parametrize("rate", [12_500, 190_079, 193_921, 1e-300, 1e300])
def test_other_rates_are_refused_and_never_resampled(rate: float) -> None:
    with pytest.raises(InvalidSamples, match="the model reads 192000 Hz") as caught:
        check_sample_rate(rate, 192_000.0)
    assert type(caught.value) is InvalidSamples


@pytest.mark.parametrize("rate", [0, -1.0, math.nan, math.inf, True, "192000", [192_000], 10**400])
def test_what_is_no_rate_is_refused(rate: Any) -> None:
    with pytest.raises(MalformedSamples, match="sample_rate_hz to be a finite number above 0"):
        check_sample_rate(rate, 192_000.0)


def test_recipes_are_found_by_id() -> None:
    recipe = find_recipe("envelope-logmel-v1", {"sample_rate_hz": 48_000})
    assert recipe.id == "envelope-logmel-v1"
    assert recipe.parameters == {"sample_rate_hz": 48_000.0, "receivers": 3}
    with pytest.raises(ValueError, match="no feature recipe 'other'; there is envelope-logmel-v1"):
        find_recipe("other")
    with pytest.raises(ValueError, match="has no parameter 'hop'; it has sample_rate_hz, receivers"):
        find_recipe("envelope-logmel-v1", {"hop": 256})

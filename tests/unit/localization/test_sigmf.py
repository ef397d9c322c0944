"""SigMF recordings, good ones in every datatype and hostile ones."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uqueue.localization.sigmf import read_recording
from uqueue_config.errors import InvalidRecording, InvalidSamples
from uqueue_config.recipes import EnvelopeLogmel, read_samples

DATA = np.arange(8, dtype="<f4").tobytes()  # four samples of one channel


def metadata(captures: Any = ({"core:sample_start": 0},), **about: Any) -> bytes:
    whole = {"core:datatype": "cf32_le", "core:version": "1.2.0", "core:sample_rate": 192_000}
    whole |= {f"core:{name}": value for name, value in about.items()}
    return json.dumps({"global": whole, "captures": list(captures), "annotations": []}).encode()


@pytest.mark.parametrize(
    ("name", "stored", "expected"),
    [
        ("cf32_le", np.array([0.5, -2, 3, 4], "<f4"), [0.5 - 2j, 3 + 4j]),
        ("cf32_be", np.array([0.5, -2, 3, 4], ">f4"), [0.5 - 2j, 3 + 4j]),
        ("cf64_le", np.array([0.5, -2, 3, 4], "<f8"), [0.5 - 2j, 3 + 4j]),
        ("cf64_be", np.array([0.5, -2, 3, 4], ">f8"), [0.5 - 2j, 3 + 4j]),
        ("ci8", np.array([64, -128, 127, 0], "i1"), [0.5 - 1j, 127 / 128]),
        ("cu8", np.array([192, 0, 255, 128], "u1"), [0.5 - 1j, 127 / 128]),
        ("ci16_le", np.array([16384, -32768, 1, 0], "<i2"), [0.5 - 1j, 1 / 32768]),
        ("ci16_be", np.array([16384, -32768, 1, 0], ">i2"), [0.5 - 1j, 1 / 32768]),
        ("cu16_le", np.array([49152, 0, 32769, 32768], "<u2"), [0.5 - 1j, 1 / 32768]),
        ("cu16_be", np.array([49152, 0, 32769, 32768], ">u2"), [0.5 - 1j, 1 / 32768]),
        ("ci32_le", np.array([2**30, -(2**31), 256, 0], "<i4"), [0.5 - 1j, 2**-23]),
        ("ci32_be", np.array([2**30, -(2**31), 256, 0], ">i4"), [0.5 - 1j, 2**-23]),
        ("cu32_le", np.array([3 * 2**30, 0, 2**31 + 256, 2**31], "<u4"), [0.5 - 1j, 2**-23]),
        ("cu32_be", np.array([3 * 2**30, 0, 2**31 + 256, 2**31], ">u4"), [0.5 - 1j, 2**-23]),
    ],
)
def test_every_complex_datatype(name: str, stored: Any, expected: list[complex]) -> None:
    made = read_recording(metadata(datatype=name), stored.tobytes())
    assert made.samples.dtype == np.complex64
    np.testing.assert_array_equal(made.samples, [expected])


def test_what_the_metadata_say() -> None:
    captures = [{"core:sample_start": 0}, {"core:sample_start": 2, "core:frequency": 145e6}]
    made = read_recording(metadata(captures, sha512=hashlib.sha512(DATA).hexdigest().upper()), DATA)
    assert (made.sample_rate_hz, made.frequency_hz, made.sha512_checked) == (192_000.0, None, True)
    assert read_recording(metadata(captures), DATA, start=2).frequency_hz == 145e6
    assert read_recording(metadata(captures, offset=2), DATA).frequency_hz == 145e6
    silent = read_recording(metadata((), sample_rate=None), DATA)
    assert (silent.sample_rate_hz, silent.frequency_hz, silent.sha512_checked) == (None, None, False)


def test_channels_are_interleaved() -> None:
    made = read_recording(metadata(num_channels=2), DATA)
    np.testing.assert_array_equal(made.samples, [[0 + 1j, 4 + 5j], [2 + 3j, 6 + 7j]])
    assert made.samples.flags.c_contiguous
    np.testing.assert_array_equal(read_recording(metadata(num_channels=2), DATA, start=1).samples, [[4 + 5j], [6 + 7j]])


def test_a_part_may_be_asked_for() -> None:
    np.testing.assert_array_equal(read_recording(metadata(), DATA, start=1, count=2).samples, [[2 + 3j, 4 + 5j]])
    for start, count in ((4, None), (0, 5), (-1, 2), (2, 0), (2, -1)):
        with pytest.raises(InvalidRecording, match="were asked for, it has 4"):
            read_recording(metadata(), DATA, start=start, count=count)


def test_a_recording_becomes_features() -> None:
    pairs = np.random.default_rng(1).integers(-3000, 3000, (4096, 3, 2)).astype("<i2")
    made = read_recording(metadata(datatype="ci16_le", num_channels=3), pairs.tobytes())
    features = EnvelopeLogmel().features(read_samples(made.samples, receivers=3))["mel_spectrogram"]
    assert features.shape == (1, 3, 128, 32)
    assert np.isfinite(features).all()


@pytest.mark.parametrize(
    ("about", "sentence"),
    [
        ({"datatype": None}, "core:datatype must be one such as cf32_le"),
        ({"datatype": 7}, "core:datatype must be"),
        ({"datatype": "cf32_le\n"}, "core:datatype must be"),
        ({"datatype": "x" * 1000}, r"got 'x{39}\.\.\."),
        ({"datatype": "rf32_le"}, "is real"),
        ({"datatype": "cf32"}, "none of SigMF's floating types"),
        ({"datatype": "cf16_le"}, "none of SigMF's floating types"),
        ({"datatype": "ci8_le"}, "none of SigMF's signed types"),
        ({"datatype": "cu64_le"}, "none of SigMF's unsigned types"),
        ({"num_channels": 0}, "core:num_channels must be a whole number from 1 to 64"),
        ({"num_channels": 10**30}, "got a huge number"),
        ({"num_channels": 1.0}, "core:num_channels"),
        ({"num_channels": True}, "core:num_channels"),
        ({"num_channels": 3}, "no multiple of the 24 bytes"),
        ({"sample_rate": 0}, "core:sample_rate must be above 0"),
        ({"sample_rate": -1.5}, "core:sample_rate must be above 0"),
        ({"sample_rate": "192000"}, "core:sample_rate must be a number"),
        ({"sample_rate": float("nan")}, "core:sample_rate must be a number"),
        ({"sample_rate": float("inf")}, "core:sample_rate must be a number"),
        ({"sample_rate": 10**400}, "core:sample_rate must be a number, got a huge number"),
        ({"sample_rate": []}, "got a list"),
        ({"sha512": "0" * 128}, "sha512 differs"),
        ({"sha512": "0" * 127}, "128 hexadecimal digits"),
        ({"sha512": 5}, "128 hexadecimal digits"),
        ({"trailing_bytes": 8}, "core:trailing_bytes"),
        ({"metadata_only": True}, "core:metadata_only"),
        ({"offset": -1}, "core:offset must be"),
        ({"captures": [None]}, "each of captures must be a JSON object, got None"),
        ({"captures": [5]}, "each of captures must be a JSON object"),
        ({"captures": [{}]}, "core:sample_start must be"),
        ({"captures": [{"core:sample_start": 2}, {"core:sample_start": 1}]}, "sorted"),
        ({"captures": [{"core:sample_start": 0, "core:header_bytes": 4}]}, "core:header_bytes"),
        ({"captures": [{"core:sample_start": 0, "core:frequency": "145"}]}, "core:frequency must be a number"),
    ],
)
def test_metadata_that_cannot_be_used_are_refused(about: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRecording, match=sentence) as caught:
        read_recording(metadata(**about), DATA)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"not json",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b'{"global": []}',
        b'{"global": {}}',
        b"{" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"global": ' * 50_000,
        b'{"global": {"core:datatype": "cf32_le", "core:sample_rate": ' + b"9" * 10_000 + b"}}",
        b'{"global": {"core:datatype": "cf32_le"}}',
        b'{"global": {"core:datatype": "cf32_le"}, "captures": {}}',
        b" " * (16 * 2**20 + 1),
    ],
)
def test_what_is_no_metadata_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidRecording):
        read_recording(text, DATA)


@pytest.mark.parametrize("data", [b"", DATA[:-1], DATA + b"\0"])
def test_data_of_another_length_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidRecording, match=r"no samples|no multiple"):
        read_recording(metadata(), data)


def test_one_changed_bit_is_found() -> None:
    about = metadata(sha512=hashlib.sha512(DATA).hexdigest())
    for place in range(len(DATA)):
        changed = bytearray(DATA)
        changed[place] ^= 1
        with pytest.raises(InvalidRecording, match="sha512 differs"):
            read_recording(about, bytes(changed))


def test_numbers_beyond_float32_do_not_warn_and_are_refused_later() -> None:
    made = read_recording(metadata(datatype="cf64_le"), np.full(2 * 2048, 1e300).tobytes())
    with pytest.raises(InvalidSamples, match="finite"):
        read_samples(made.samples, receivers=3)


_value = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just([]) | st.just({})
_NAMES = ["datatype", "sample_rate", "num_channels", "sha512", "offset", "trailing_bytes", "metadata_only"]


@settings(max_examples=300, deadline=None)
@given(
    about=st.dictionaries(st.sampled_from(_NAMES), _value, max_size=4),
    captures=st.lists(st.dictionaries(st.sampled_from(["core:sample_start", "core:frequency"]), _value), max_size=3),
    data=st.binary(max_size=64),
)
def test_nothing_but_a_refusal_comes_of_anything(about: dict[str, Any], captures: list[Any], data: bytes) -> None:
    try:
        made = read_recording(metadata(captures, **about), data)
    except InvalidRecording:
        return
    assert made.samples.dtype == np.complex64
    assert made.samples.size * 8 == len(data)

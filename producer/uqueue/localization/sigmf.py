"""SigMF recordings: from the bytes of metadata and data to samples. No files are opened here.

The format is SigMF 1.x, https://sigmf.org: a JSON text (`.sigmf-meta`) beside the samples (`.sigmf-data`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from uqueue_config.errors import InvalidRecording

_LARGEST_METADATA_BYTES = 16 * 2**20
_MOST_CHANNELS = 64
_SHOWN = 40
_KINDS = {"f": "floating", "i": "signed", "u": "unsigned"}
_DATATYPE = re.compile(r"(?P<form>[cr])(?P<kind>[fiu])(?P<bits>8|16|32|64)(?P<order>_le|_be)?")


@dataclass(frozen=True, eq=False)
class Recording:
    """What was read.

    samples         complex64 (channels, n); whole-number samples are scaled so that full scale is 1
    sample_rate_hz  None where the metadata do not say
    frequency_hz    of the capture that the first sample belongs to, None where the metadata do not say
    sha512_checked  True when the metadata hold a hash of the data; it then was found right
    """

    samples: NDArray[np.complex64]
    sample_rate_hz: float | None
    frequency_hz: float | None
    sha512_checked: bool


def read_recording(metadata: bytes, data: bytes, *, start: int = 0, count: int | None = None) -> Recording:
    """Return `count` samples per channel from `start` on, or all that follow.

    Raises InvalidRecording: metadata that are no SigMF, real or unknown datatypes, data with headers or trailing bytes,
    a length that is no whole number of samples, another sha512 than stated, samples beyond the end. Only the asked
    samples are converted; the hash is that of all data. Whether values are finite is checked by what reads them.
    """
    document = _parse(metadata)
    about = _object(document.get("global"), "global")
    component, scale, offset = _datatype(about.get("core:datatype"))
    channels = _whole(about, "core:num_channels", 1, 1, _MOST_CHANNELS)
    rate = _positive(about, "core:sample_rate")
    captures = _captures(document.get("captures"))
    _refuse_other_layouts(about, captures)
    checked = _check_hash(about.get("core:sha512"), data)
    frame = 2 * component.itemsize * channels
    if len(data) % frame:
        _refuse(f"the data hold {len(data)} bytes, which is no multiple of the {frame} bytes of one sample. Truncated?")
    first, last = _bounds(start, count, len(data) // frame)
    samples = _convert(data, component, first * channels, last * channels, scale, offset)
    base = _whole(about, "core:offset", 0, 0, 2**63 - 1)
    return Recording(
        samples=np.ascontiguousarray(samples.reshape(-1, channels).T),
        sample_rate_hz=rate,
        frequency_hz=_frequency(captures, base + first),
        sha512_checked=checked,
    )


def _parse(metadata: bytes) -> dict[str, Any]:
    if len(metadata) > _LARGEST_METADATA_BYTES:
        _refuse(f"the metadata are {len(metadata)} bytes, more than the {_LARGEST_METADATA_BYTES} that are read")
    try:
        document = json.loads(metadata)
    except (ValueError, RecursionError):  # wrong syntax, encoding, endless digits; endless nesting
        raise InvalidRecording(reason="the metadata are not JSON") from None
    return _object(document, "the metadata")


def _datatype(name: Any) -> tuple[np.dtype[Any], float, float]:
    """Return the type of I and of Q, and factor and offset that bring them to full scale 1."""
    found = _DATATYPE.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        _refuse(f"core:datatype must be one such as cf32_le, ci16_le or cu8, got {_shown(name)}")
    bits = int(found["bits"])
    wanted_bits = (32, 64) if found["kind"] == "f" else (8, 16, 32)
    if bits not in wanted_bits or (bits > 8) != bool(found["order"]):
        _refuse(f"core:datatype {name} is none of SigMF's {_KINDS[found['kind']]} types")
    if found["form"] == "r":
        _refuse(f"core:datatype {name} is real; complex samples (I and Q) are needed")
    component = np.dtype(f"{'>' if found['order'] == '_be' else '<'}{found['kind']}{bits // 8}")
    if found["kind"] == "f":
        return component, 1.0, 0.0
    half = 2.0 ** (bits - 1)
    return component, 1 / half, half if found["kind"] == "u" else 0.0


def _convert(
    data: bytes, component: np.dtype[Any], first: int, last: int, scale: float, offset: float
) -> NDArray[np.complex64]:
    raw = np.frombuffer(data, component, 2 * (last - first), 2 * component.itemsize * first)
    with np.errstate(over="ignore", invalid="ignore"):
        if component.kind != "f":
            raw = (raw.astype(np.float64) - offset) * scale
        return raw.astype(np.float32).view(np.complex64)


def _captures(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        _refuse(f"captures must be a list, got {_shown(value)}")
    captures = [_object(capture, "each of captures") for capture in value]
    starts = [_whole(capture, "core:sample_start", None, 0, 2**63 - 1) for capture in captures]
    if starts != sorted(starts):
        _refuse("captures must be sorted by core:sample_start")
    for capture in captures:
        _number(capture, "core:frequency")
    return captures


def _refuse_other_layouts(about: Mapping[str, Any], captures: list[dict[str, Any]]) -> None:
    places = [(about, "core:trailing_bytes"), *((capture, "core:header_bytes") for capture in captures)]
    for holder, name in places:
        if _whole(holder, name, 0, 0, 2**63 - 1):
            _refuse(f"the data are not samples only ({name}); store them as a conforming data set")
    if about.get("core:metadata_only") not in (None, False):
        _refuse("it says that there are no data (core:metadata_only)")


def _check_hash(stated: Any, data: bytes) -> bool:
    if stated is None:
        return False
    if not isinstance(stated, str) or not re.fullmatch("[0-9a-fA-F]{128}", stated):
        _refuse(f"core:sha512 must be 128 hexadecimal digits, got {_shown(stated)}")
    if not hmac.compare_digest(hashlib.sha512(data).hexdigest(), stated.lower()):
        _refuse("the data are not those of the metadata: their sha512 differs. Fetch the recording again")
    return True


def _bounds(start: int, count: int | None, there: int) -> tuple[int, int]:
    last = there if count is None else start + count
    if there == 0:
        _refuse("the data hold no samples")
    if start < 0 or not start < last <= there:
        _refuse(f"samples {start} to {last} were asked for, it has {there}")
    return start, last


def _frequency(captures: list[dict[str, Any]], sample: int) -> float | None:
    found = None
    for capture in captures:
        if capture["core:sample_start"] <= sample:
            found = _number(capture, "core:frequency")
    return found


def _whole(holder: Mapping[str, Any], name: str, default: int | None, low: int, high: int) -> int:
    value = holder.get(name, default)
    if type(value) is not int or not low <= value <= high:
        _refuse(f"{name} must be a whole number from {low} to {high}, got {_shown(value)}")
    return value


def _number(holder: Mapping[str, Any], name: str) -> float | None:
    value = holder.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not abs(value) <= 1e15:
        _refuse(f"{name} must be a number, got {_shown(value)}")
    return float(value)


def _positive(holder: Mapping[str, Any], name: str) -> float | None:
    value = _number(holder, name)
    if value is not None and not 0 < value < math.inf:
        _refuse(f"{name} must be above 0, got {value:g}")
    return value


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse(f"{what} must be a JSON object, got {_shown(value)}")
    return value


def _shown(value: Any) -> str:
    if isinstance(value, list | dict):
        return f"a {type(value).__name__}"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "a huge number"
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _refuse(reason: str) -> NoReturn:
    raise InvalidRecording(reason=reason)

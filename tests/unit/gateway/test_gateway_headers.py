"""Request headers: whatever text comes, reading it gives a value or a ValueError."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uqueue.gateway.headers import Preference, Trace, bearer_key, host_name, idempotency_key, request_id

HEADER_TEXT = st.text(st.characters(max_codepoint=255), max_size=80)
HEX = st.text("0123456789abcdef", min_size=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, Preference()),
        ("", Preference()),
        ("respond-async", Preference(True)),
        ("respond-async, wait=10", Preference(True, 10)),
        ("wait=10", Preference(False, 10)),
        ("Wait = 10 , RESPOND-ASYNC", Preference(True, 10)),
        ('wait="7"; x=y', Preference(False, 7)),
        ("wait=1, wait=2", Preference(False, 1)),
        ("wait=-1", Preference()),
        ("wait=1.5", Preference()),
        ("wait=9999999999", Preference()),
        ('other="a, wait=3", respond-async', Preference(True)),
        ("return=minimal, handling=lenient", Preference()),
    ],
)
def test_preferences(text: str | None, expected: Preference) -> None:
    assert Preference.parse(text) == expected


@given(HEADER_TEXT)
def test_any_preference_is_read(text: str) -> None:
    seconds = Preference.parse(text).wait_seconds
    assert seconds is None or 0 <= seconds < 10**9


@given(st.integers(0, 10**9 - 1), st.booleans(), st.lists(st.sampled_from(["a", "b=c", 'd="e, f"']), max_size=3))
def test_preferences_are_found_among_others(seconds: int, respond_async: bool, others: list[str]) -> None:
    parts = [*others, f"wait={seconds}", *(["respond-async"] if respond_async else [])]
    for order in (parts, parts[::-1]):
        assert Preference.parse(", ".join(order)) == Preference(respond_async, seconds)


@given(HEADER_TEXT)
def test_an_idempotency_key_is_printable_or_refused(text: str) -> None:
    inner = text.strip()
    inner = inner[1:-1] if len(inner) >= 2 and inner[0] == inner[-1] == '"' else inner
    if re.fullmatch(r"[ -~]{1,200}", inner):
        assert idempotency_key(text) == inner
    else:
        with pytest.raises(ValueError, match="Idempotency-Key"):
            idempotency_key(text)


def test_an_idempotency_key_is_the_same_with_quotes_and_without() -> None:
    assert idempotency_key('"a-1"') == idempotency_key(" a-1 ") == "a-1"
    assert idempotency_key(None) is None


@given(HEADER_TEXT)
def test_a_request_id_is_plain(text: str) -> None:
    used = request_id(text)
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", used)
    assert used == text or not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", text)


@given(HEADER_TEXT)
def test_any_traceparent_gives_a_valid_one(text: str) -> None:
    trace = Trace.parse(text)
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", trace.traceparent)
    assert int(trace.trace_id, 16)


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_a_trace_goes_on(trace: int, span: int, flags: int) -> None:
    read = Trace.parse(f"00-{trace:032x}-{span:016x}-{flags:02x}")
    assert read.trace_id == f"{trace:032x}"
    assert read.flags == f"{flags % 2:02x}"
    assert read.span_id != f"{span:016x}"


@pytest.mark.parametrize(
    "text",
    [
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
    ],
)
def test_what_is_no_traceparent_begins_a_trace(text: str) -> None:
    assert Trace.parse(text).trace_id != "4bf92f3577b34da6a3ce929d0e0e4736"


def test_a_later_version_of_traceparent_is_read() -> None:
    text = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what.comes"
    assert Trace.parse(text).trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("authorization", "api_key", "expected"),
    [
        ("Bearer abc", None, "abc"),
        ("bearer  abc ", None, "abc"),
        ("Basic abc", None, None),
        ("Basic abc", "def", "def"),
        ("Bearer abc", "def", "abc"),
        ("Bearer ", " ", None),
        (None, None, None),
    ],
)
def test_keys_in_headers(authorization: str | None, api_key: str | None, expected: str | None) -> None:
    assert bearer_key(authorization, api_key) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost:8000", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]:8000", "::1"),
        ("EVIL.example", "evil.example"),
        ("127.0.0.1@evil", "127.0.0.1@evil"),
        ("a:b:c", ""),
        ("", ""),
    ],
)
def test_host_names(host: str, expected: str) -> None:
    assert host_name(host) == expected

"""API keys and rates, without a server."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uqueue.gateway.keys import KeyRing, NewKey, append_key
from uqueue.gateway.limits import MOST_CALLERS, RateLimiter
from uqueue.gateway.state import Gateway, wants_keys
from uqueue_config.errors import SettingsError
from uqueue_config.settings import Settings


def ring_with(path: Path, *keys: NewKey) -> KeyRing:
    for key in keys:
        append_key(path, key.entry)
    ring = KeyRing(path)
    ring.look()
    return ring


def test_a_key_is_found_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    one, other = NewKey.make("one", ["submit", "read"]), NewKey.make("other", ["admin"])
    path = tmp_path / "keys.toml"
    ring = ring_with(path, one, other)
    assert ring.find(one.secret) == one.entry
    assert ring.find(other.secret) == other.entry
    assert one.secret not in path.read_text()
    assert one.secret[12:] not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("change", [lambda key: key[:-1], lambda key: key + "x", str.upper, lambda key: ""])
def test_another_key_is_not_found(change: object, tmp_path: Path) -> None:
    key = NewKey.make("one", ["read"])
    assert ring_with(tmp_path / "keys.toml", key).find(change(key.secret)) is None  # type: ignore[operator]


def test_the_id_of_one_key_with_the_secret_of_another_is_not_found(tmp_path: Path) -> None:
    one, other = NewKey.make("one", ["read"]), NewKey.make("other", ["read"])
    mixed = f"uq_{one.entry.id}_{other.secret.split('_', 2)[2]}"
    assert ring_with(tmp_path / "keys.toml", one, other).find(mixed) is None


@given(st.text(max_size=60))
def test_no_text_is_a_key(text: str) -> None:
    assert KeyRing(Path("/nowhere")).find(text) is None


def test_admin_may_do_everything() -> None:
    admin, reader = NewKey.make("a", ["admin"]).entry, NewKey.make("r", ["read"]).entry
    assert [admin.allows(scope) for scope in ("submit", "read", "admin")] == [True] * 3
    assert [reader.allows(scope) for scope in ("submit", "read", "admin")] == [False, True, False]


def test_a_file_that_changed_is_read_again_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    one, other = NewKey.make("one", ["read"]), NewKey.make("other", ["read"])
    path = tmp_path / "keys.toml"
    ring = ring_with(path, one)
    append_key(path, other.entry)
    ring.look()
    assert ring.find(other.secret)
    whole = path.read_text()
    path.write_text(whole + "[[keys")
    with pytest.raises(SettingsError, match="not TOML"):
        ring.look()
    assert ring.find(one.secret)
    path.write_text(other.entry.to_toml())
    ring.look()
    assert ring.find(one.secret) is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x = 1", "x: Extra inputs"),
        ('[[keys]]\nid = "1"', "keys.0.id"),
        ("keys = 3", "keys: "),
        ("\xff", "not TOML"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingsError, match=complaint):
        KeyRing(path).look()
    with pytest.raises(SettingsError, match=complaint):
        append_key(path, NewKey.make("one", ["read"]).entry)


def test_a_folder_is_no_file_of_keys(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Is a directory"):
        append_key(tmp_path, NewKey.make("one", ["read"]).entry)


def test_a_file_that_is_not_there_is_said() -> None:
    with pytest.raises(SettingsError, match="No such file"):
        KeyRing(Path("/nowhere/keys.toml")).look()


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, False),
        ({"gateway_address": "::1"}, False),
        ({"gateway_address": "localhost"}, False),
        ({"gateway_address": "0.0.0.0"}, True),
        ({"gateway_address": "gateway.example"}, True),
        ({"gateway_address": "0.0.0.0", "gateway_auth": "off"}, False),
        ({"api_keys_file": Path("/keys.toml")}, True),
        ({"gateway_auth": "on"}, True),
    ],
)
def test_keys_are_wanted_unless_only_this_computer_can_call(settings: dict[str, object], wanted: bool) -> None:
    assert wants_keys(Settings(**settings)) is wanted  # type: ignore[arg-type]


def test_a_gateway_for_others_does_not_start_without_keys() -> None:
    with pytest.raises(SettingsError, match="uqueue gateway new-key"):
        Gateway(Settings(gateway_address="0.0.0.0"))


def test_a_caller_gets_its_burst_and_then_its_rate() -> None:
    now = [0.0]
    limiter = RateLimiter(2.0, 3, lambda: now[0])
    assert [limiter.take("a") for _ in range(4)] == [0, 0, 0, 1]
    assert limiter.take("b") == 0
    now[0] = 0.5
    assert [limiter.take("a") for _ in range(2)] == [0, 1]
    now[0] = 100.0
    assert [limiter.take("a") for _ in range(4)] == [0, 0, 0, 1]


def test_a_slow_rate_says_how_long_to_wait() -> None:
    limiter = RateLimiter(0.1, 1, lambda: 0.0)
    assert [limiter.take("a"), limiter.take("a")] == [0, 10]


@given(st.lists(st.floats(0, 2), max_size=100), st.integers(1, 20), st.floats(0.5, 50))
def test_never_more_than_burst_and_rate(pauses: list[float], burst: int, rate: float) -> None:
    now = [0.0]
    limiter = RateLimiter(rate, burst, lambda: now[0])
    granted = 0
    for pause in pauses:
        now[0] += pause
        granted += limiter.take("a") == 0
    assert granted <= burst + rate * now[0] + 1e-6


def test_callers_are_not_remembered_without_end() -> None:
    limiter = RateLimiter(1.0, 1, lambda: 0.0)
    for number in range(MOST_CALLERS + 1):
        limiter.take(str(number))
    assert limiter.take(str(MOST_CALLERS)) == 1
    assert limiter.take("0") == 0

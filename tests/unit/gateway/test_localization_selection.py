"""Which version answers: shares follow the weights, sessions stay, and a changed weight moves only whom it must."""

from __future__ import annotations

import hashlib
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uqueue.gateway.localization.selection import normalised, random_choice, sticky_choice

SESSIONS = [f"van-{number}" for number in range(4000)]
#: Of 4000 draws, a share is this close to its weight but for one case in a hundred thousand million.
NEAR = 7 * math.sqrt(0.25 / len(SESSIONS))
weights = st.dictionaries(st.text("123456789", min_size=1, max_size=3), st.floats(0.01, 100), min_size=1, max_size=5)


def chosen(shares: dict[str, float], salt: str = "localization_model") -> dict[str, str]:
    return {session: sticky_choice(shares, session, salt) for session in SESSIONS}


def test_the_choice_is_the_one_that_is_written_down() -> None:
    def score(version: str, weight: float) -> float:
        digest = hashlib.sha256(b"salt\x00van-7\x00" + version.encode()).digest()
        unit = ((int.from_bytes(digest[:8], "big") >> 12) + 0.5) / 2**52
        return -math.log(unit) / weight

    shares = {"1": 0.2, "2": 0.5, "3": 0.3}
    assert sticky_choice(shares, "van-7", "salt") == min(shares, key=lambda version: score(version, shares[version]))


@pytest.mark.parametrize("shares", [{"1": 0.9, "2": 0.1}, {"1": 1, "2": 2, "3": 1}, {"7": 5}])
def test_shares_follow_weights(shares: dict[str, float]) -> None:
    wanted = normalised(shares)
    sticky = list(chosen(shares).values())
    generator = random.Random(4)
    by_chance = [random_choice(shares, generator) for _ in SESSIONS]
    for version, share in wanted.items():
        assert abs(sticky.count(version) / len(SESSIONS) - share) < NEAR
        assert abs(by_chance.count(version) / len(SESSIONS) - share) < NEAR


def test_a_changed_weight_moves_only_the_sessions_that_it_must() -> None:
    before, after = chosen({"1": 60, "2": 30, "3": 10}), chosen({"1": 60, "2": 30, "3": 30})
    moved = {session for session in SESSIONS if before[session] != after[session]}
    assert all(after[session] == "3" for session in moved)
    assert abs(len(moved) / len(SESSIONS) - (30 / 120 - 10 / 100)) < NEAR


def test_a_version_that_leaves_moves_only_its_own_sessions() -> None:
    before, after = chosen({"1": 1, "2": 1, "3": 1}), chosen({"1": 1, "2": 1})
    assert all(before[session] == after[session] for session in SESSIONS if before[session] != "3")


@given(weights, st.text(max_size=40))
def test_scale_does_not_matter_and_neither_does_order(shares: dict[str, float], session: str) -> None:
    found = sticky_choice(shares, session, "salt")
    percents = {version: 100 * share for version, share in reversed(normalised(shares).items())}
    assert sticky_choice(percents, session, "salt") == found
    assert math.isclose(math.fsum(normalised(shares).values()), 1)


def test_a_weight_of_zero_is_never_chosen() -> None:
    shares = {"1": 0.0, "2": 1.0}
    assert {sticky_choice(shares, session, "") for session in SESSIONS} == {"2"}
    assert {random_choice(shares, random.Random(seed)) for seed in range(50)} == {"2"}


def test_chance_repeats_with_its_generator() -> None:
    shares = {"1": 1.0, "2": 1.0}
    draws = [
        [random_choice(shares, generator) for _ in range(40)] for generator in (random.Random(1), random.Random(1))
    ]
    assert draws[0] == draws[1]
    assert set(draws[0]) == {"1", "2"}


@pytest.mark.parametrize("wrong", [{}, {"1": 0.0}, {"1": -1.0, "2": 2.0}, {"1": math.nan}, {"1": math.inf, "2": 1.0}])
def test_weights_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="weight"):
        normalised(wrong)


def test_huge_weights_do_not_overflow() -> None:
    assert normalised({"1": 1.7e308, "2": 1.7e308}) == {"1": 0.5, "2": 0.5}

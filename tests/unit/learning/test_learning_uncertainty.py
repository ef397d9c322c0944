"""Uncertainty: the formulas the slow way, and what must hold for any members."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from uqueue_worker.learning.uncertainty import ambiguity, entropy, least_confidence, small_margin, uncertainties

SHAPES = st.tuples(st.integers(2, 6), st.integers(1, 5), st.integers(2, 5))
SEEDS = st.integers(0, 2**32 - 1)


def drawn(seed: int, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    members, samples, classes = shape
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), (members, samples))


def slow_entropy(shares: list[float]) -> float:
    return -sum(share * math.log(share) for share in shares if share > 0)


@settings(deadline=None)
@given(SEEDS, SHAPES)
def test_every_quantity_is_its_formula(seed: int, shape: tuple[int, int, int]) -> None:
    members, samples, classes = shape
    shares = drawn(seed, shape)
    found = uncertainties(shares)
    for i in range(samples):
        mean = [sum(float(shares[m, i, k]) for m in range(members)) / members for k in range(classes)]
        total = slow_entropy(mean) / math.log(classes)
        aleatoric = sum(slow_entropy(shares[m, i].tolist()) for m in range(members)) / members / math.log(classes)
        votes = [int(np.argmax(shares[m, i])) for m in range(members)]
        share_of = [votes.count(k) / members for k in range(classes)]
        assert found.total[i] == pytest.approx(total, abs=1e-12)
        assert found.aleatoric is not None
        assert found.epistemic is not None
        assert found.disagreement is not None
        assert found.aleatoric[i] == pytest.approx(aleatoric, abs=1e-12)
        assert found.epistemic[i] == pytest.approx(max(0.0, total - aleatoric), abs=2e-12)
        most = math.log(min(classes, members))
        assert found.disagreement[i] == pytest.approx(slow_entropy(share_of) / most, abs=1e-12)


@settings(deadline=None)
@given(SEEDS, SHAPES)
def test_every_quantity_is_within_0_and_1(seed: int, shape: tuple[int, int, int]) -> None:
    shares = drawn(seed, shape)
    found = uncertainties(shares)
    mean = shares.mean(axis=0)
    for values in (
        found.total,
        found.aleatoric,
        found.epistemic,
        found.disagreement,
        least_confidence(mean),
        small_margin(mean),
    ):
        assert values is not None
        assert values.shape == (shape[1],)
        assert ((values >= 0) & (values <= 1)).all()


@settings(deadline=None)
@given(SEEDS, SHAPES)
def test_members_that_agree_leave_nothing_epistemic(seed: int, shape: tuple[int, int, int]) -> None:
    one = drawn(seed, shape)[:1]
    found = uncertainties(np.repeat(one, shape[0], axis=0))
    assert found.epistemic is not None
    assert found.disagreement is not None
    assert (found.epistemic == 0).all()
    assert (found.disagreement == 0).all()


def test_certain_members_that_contradict_leave_nothing_aleatoric() -> None:
    found = uncertainties(np.eye(3)[:, None, :])
    assert [found.aleatoric, found.epistemic, found.total, found.disagreement] == [[0.0], [1.0], [1.0], [1.0]]


def test_two_members_of_four_classes_disagree_wholly() -> None:
    found = uncertainties(np.eye(4)[:2, None, :])
    assert (found.disagreement, found.total) == ([1.0], [0.5])


@settings(deadline=None)
@given(SEEDS, SHAPES)
def test_the_order_of_members_and_classes_does_not_count(seed: int, shape: tuple[int, int, int]) -> None:
    shares = drawn(seed, shape)
    rng = np.random.default_rng(seed)
    shuffled = shares[rng.permutation(shape[0])][..., rng.permutation(shape[2])]
    for name in ("total", "aleatoric", "epistemic", "disagreement"):
        np.testing.assert_allclose(
            getattr(uncertainties(shuffled), name), getattr(uncertainties(shares), name), atol=1e-9
        )


def test_a_single_model_gives_no_split() -> None:
    found = uncertainties([[[0.5, 0.5]]])
    assert (found.total, found.aleatoric, found.epistemic, found.disagreement) == ([1.0], None, None, None)


def test_the_other_scores() -> None:
    shares = [[0.5, 0.3, 0.2], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(least_confidence(shares), [0.75, 0, 1])
    np.testing.assert_allclose(small_margin(shares), [0.8, 0, 1])
    np.testing.assert_allclose(ambiguity([0, 1, 2, 4], 4), [0, 0, 1 / 3, 1])
    for score in (entropy, least_confidence, small_margin):
        assert score([[1.0]]) == [0.0]
    assert uncertainties([[[1.0]], [[1.0]]]).disagreement == [0.0]


@pytest.mark.parametrize("members", [[[0.5, 0.5]], np.zeros((0, 1, 2)), [[[math.nan, 1]]], [[[0.9, 0.9]]]], ids=str)
def test_what_are_no_members_is_refused(members: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        uncertainties(members)  # type: ignore[arg-type]


@pytest.mark.parametrize("sizes", [[-1], [5], [1.5]])
def test_what_are_no_sizes_is_refused(sizes: list[float]) -> None:
    with pytest.raises(ValueError, match="from 0 to 4"):
        ambiguity(sizes, 4)

"""Losses of grade networks against their definitions, written out by hand or by SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial import distance as scipy_distance

from casa.errors import InputError
from casa.grade.losses import (
    diversity_loss,
    earth_movers,
    grade_loss,
    jensen_shannon,
    mean_squared_error,
)

JENSEN_SHANNON: Any = scipy_distance.jensenshannon  # its stub does not know axis
SURE_A = torch.tensor([[1.0, 0, 0, 0, 0]])
SURE_B = torch.tensor([[0.0, 1, 0, 0, 0]])
SURE_E = torch.tensor([[0.0, 0, 0, 0, 1]])

votes = arrays(np.int64, (4, 5), elements=st.integers(0, 40)).filter(lambda counts: bool((counts.sum(1) > 0).all()))


def shares(counts: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(counts / counts.sum(axis=1, keepdims=True))


@settings(deadline=None)
@given(votes, votes)
def test_jensen_shannon_is_scipys(p: np.ndarray, q: np.ndarray):
    expected = JENSEN_SHANNON(shares(p).numpy(), shares(q).numpy(), axis=1) ** 2
    np.testing.assert_allclose(jensen_shannon(shares(p), shares(q)).numpy(), expected, atol=1e-12)


@settings(deadline=None)
@given(votes, votes)
def test_distances_are_symmetric_and_zero_only_for_equals(p: np.ndarray, q: np.ndarray):
    a, b = shares(p), shares(q)
    for distance in (mean_squared_error, jensen_shannon, earth_movers):
        torch.testing.assert_close(distance(a, b), distance(b, a))
        assert (distance(a, a).abs() < 1e-12).all()
        different = (a - b).abs().amax(dim=1) > 1e-3
        assert (distance(a, b)[different] > 1e-9).all()


def test_disjoint_distributions_are_ln_2_apart():
    torch.testing.assert_close(jensen_shannon(SURE_A, SURE_E), torch.tensor([np.log(2)], dtype=torch.float32))


def test_only_the_earth_mover_knows_that_grades_are_ordered():
    assert earth_movers(SURE_E, SURE_A) == 4 * earth_movers(SURE_B, SURE_A)
    assert mean_squared_error(SURE_E, SURE_A) == mean_squared_error(SURE_B, SURE_A)


def test_loss_is_the_mean_over_parts_of_their_own_distances():
    loss = grade_loss([SURE_A, SURE_B, SURE_E], SURE_A, "mse")
    torch.testing.assert_close(loss, torch.tensor((0 + 2 / 5 + 2 / 5) / 3))


def test_unknown_loss_is_named():
    with pytest.raises(InputError, match="loss mae: expected one of mse, js, emd"):
        grade_loss([SURE_A], SURE_A, "mae")


def test_diversity_is_the_mean_absolute_cosine_of_the_three_pairs():
    g, s, t = torch.tensor([[1.0, 0.0]]), torch.tensor([[-2.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    torch.testing.assert_close(diversity_loss([g, s, t]), torch.tensor(1 / 3))  # |cos| 1, 0, 0
    assert diversity_loss([g]) == 0


@pytest.mark.parametrize("distance", ["mse", "js", "emd"])
def test_gradients_are_finite_where_grades_got_no_vote(distance: str):
    logits = torch.tensor([[200.0, 0.0, 0.0, -200.0, 0.0]], requires_grad=True)
    grade_loss([logits.softmax(-1)], SURE_E, distance).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("distance", ["mse", "js", "emd"])
def test_descending_a_loss_finds_the_votes(distance: str):
    true = torch.tensor([[0.1, 0.3, 0.5, 0.1, 0.0]])
    logits = torch.zeros(1, 5, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.1)
    for _ in range(300):
        optimiser.zero_grad()
        grade_loss([logits.softmax(-1)], true, distance).backward()
        optimiser.step()
    torch.testing.assert_close(logits.softmax(-1), true, atol=0.02, rtol=0)

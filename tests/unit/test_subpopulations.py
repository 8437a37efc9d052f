"""Claims about sub-populations: groups that are there are found, others are not made up, and a seed decides nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from samples import kinematics_of

from casa.kinematics.mixture import fit_mixture
from casa.kinematics.subpopulations import MIN_TRACKS, adjusted_rand, find_subpopulations
from casa.types import KinematicsFlag, KinematicsTable


def swimmers(*groups: tuple[int, float, float, float, float], seed: int = 1) -> KinematicsTable:
    """Motile tracks of groups of (how many, VCL, LIN, ALH, BCF), each spread by about a tenth."""
    rng = np.random.default_rng(seed)
    n, vcl, lin, alh, bcf = (np.repeat([group[k] for group in groups], [g[0] for g in groups]) for k in range(5))
    vcl, alh, bcf = (value * rng.lognormal(0, 0.1, len(n)) for value in (vcl, alh, bcf))
    lin = np.clip(lin + rng.normal(0, 0.04, len(n)), 0.02, 0.98)
    table = kinematics_of((len(n), 0, 0, 0))
    return replace(table, vcl_um_s=vcl, vsl_um_s=vcl * lin, lin=lin, alh_mean_um=alh, bcf_hz=bcf)


THREE = ((150, 90.0, 0.8, 2.5, 15.0), (100, 120.0, 0.35, 7.0, 10.0), (80, 30.0, 0.6, 1.5, 8.0))


@pytest.mark.parametrize("seed", [0, 7])
def test_three_groups_are_found_whatever_the_seed(seed):
    found = find_subpopulations(swimmers(*THREE), seed)
    truth = np.repeat([0, 1, 2], [150, 100, 80])
    assert found.n_groups == 3
    assert adjusted_rand(truth, found.label) > 0.97
    assert found.agreement is not None
    assert found.agreement > 0.95
    assert found.label[0] == 0  # the group with the highest VSL first
    assert np.nanmin(found.certainty) > 1 / 3


@pytest.mark.parametrize("seed", [0, 7])
def test_one_population_stays_one(seed):
    found = find_subpopulations(swimmers((300, 90.0, 0.7, 3.0, 14.0), seed=seed))
    assert found.n_groups == 1
    assert found.agreement is None
    assert set(found.label.tolist()) == {0}


def test_the_same_table_gives_the_same_groups():
    table = swimmers(*THREE)
    one, two = find_subpopulations(table), find_subpopulations(table)
    assert (one.label == two.label).all()
    assert (one.certainty == two.certainty).all()
    assert one.scores == two.scores


def test_immotile_and_short_tracks_are_left_out():
    table = swimmers(*THREE)
    grade, flags = table.motility_grade.copy(), table.flags.copy()
    grade[:10], flags[10:20] = "d", KinematicsFlag.SHORT
    found = find_subpopulations(replace(table, motility_grade=grade, flags=flags))
    assert (found.label[:20] == -1).all()
    assert np.isnan(found.certainty[:20]).all()
    assert found.n_tracks == len(table) - 20


def test_too_few_tracks_are_not_grouped():
    found = find_subpopulations(swimmers((MIN_TRACKS - 1, 90.0, 0.8, 2.5, 15.0)))
    assert found.n_groups == found.n_tracks == 0
    assert found.scores == ()


def test_a_low_frame_rate_leaves_alh_and_bcf_out():
    table = swimmers(*THREE)
    found = find_subpopulations(replace(table, flags=np.full(len(table), KinematicsFlag.LOW_FRAME_RATE)))
    assert found.features == ("VCL", "VSL", "LIN")
    assert found.n_groups == 3


def test_the_adjusted_rand_index_is_that_of_a_second_tool():
    from sklearn.metrics import adjusted_rand_score

    rng = np.random.default_rng(0)
    one = rng.integers(0, 4, 200)
    for two in (one, (one + 1) % 4, rng.integers(0, 3, 200), np.where(rng.random(200) < 0.8, one, 0)):
        assert adjusted_rand(one, two) == pytest.approx(adjusted_rand_score(one, two), abs=1e-12)


def test_mixtures_are_as_likely_as_a_second_tools():
    from sklearn.mixture import GaussianMixture

    rng = np.random.default_rng(2)
    points = np.concatenate([rng.normal(m, s, (120, 3)) for m, s in ((0.0, 1.0), (3.0, 0.5), (-2.0, 0.7))])
    for k in (1, 3):
        own = fit_mixture(points, k, np.random.default_rng(0))
        other = GaussianMixture(k, n_init=3, reg_covar=1e-2, random_state=0, tol=1e-5).fit(points)
        assert own.log_likelihood(points) == pytest.approx(other.score(points) * len(points), rel=2e-3)
        assert own.bic(points) == pytest.approx(other.bic(points), rel=2e-3)
        assert own.chances(points).sum(axis=1) == pytest.approx(np.ones(len(points)))

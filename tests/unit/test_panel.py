"""The simulated expert panel: what it says of good and bad sperm, and how near its statistics are to the paper's."""

from __future__ import annotations

from dataclasses import replace
from multiprocessing import resource_tracker

import numpy as np
import pytest

from casa.simulate.closeup import clip_times_s, render_closeup, sample_closeup, sample_field
from casa.simulate.closeup_anatomy import DEFECT_NAMES, DEFECTS, quality, tail_strands_um, with_defects
from casa.simulate.panel import PAPER_COUNTS, expected_distribution, impressions, sample_raters, vote
from casa.simulate.panel_clips import fresh_panel_mse, panel_raters, render_panel, simulate_panel


@pytest.fixture(scope="module")
def panel():
    return simulate_panel(615, seed=0)


def test_the_statistics_are_the_papers_within_sampling_error(panel):
    found = np.bincount(panel.distribution.argmax(axis=1), minlength=5)
    share = np.array(PAPER_COUNTS) / 615
    assert (np.abs(found - PAPER_COUNTS) < 3 * np.sqrt(615 * share * (1 - share))).all(), found


def test_a_prediction_has_something_to_win(panel):
    votes = panel.distribution
    prior = ((votes - votes.mean(axis=0)) ** 2).mean()
    everybody = ((votes - panel.expected) ** 2).mean()
    assert 0.018 < prior < 0.025
    fresh = fresh_panel_mse(panel.quality, votes, 20).mean()
    assert everybody < fresh < 0.4 * prior


def test_better_sperm_get_better_grades():
    raters = panel_raters()
    worst, middle, best = expected_distribution(np.array([[0.0] * 4, [0.6] * 4, [0.95] * 4]), raters)
    assert worst.argmax() == 4
    assert middle.argmax() in (1, 2)
    assert best.argmax() == 0
    assert np.allclose(best.sum(), 1)


def test_votes_of_many_raters_tend_to_the_expected_distribution():
    quality = np.array([[0.5, 0.7, 0.8, 0.6]])
    raters = sample_raters(20_000, np.random.default_rng(0))
    votes = vote(quality, raters, np.random.default_rng(1))
    assert np.allclose(
        np.bincount(votes[0], minlength=5) / 20_000, expected_distribution(quality, raters)[0], atol=0.01
    )


def test_raters_differ_in_what_they_look_at():
    """Some go by the motility, some by the head: of two sperm, each is the better one to somebody."""
    swims_well, looks_well = np.array([[0.9, 0.4, 0.8, 0.8]]), np.array([[0.5, 0.9, 0.8, 0.8]])
    raters = panel_raters()
    prefers = impressions(swims_well, raters) > impressions(looks_well, raters)
    assert 0.1 < prefers.mean() < 0.9


def test_a_clip_is_the_same_however_many_there_are(panel):
    few = simulate_panel(20, seed=0)
    assert np.array_equal(few.counts, panel.counts[:20])
    assert np.array_equal(few.quality, panel.quality[:20])
    assert not np.array_equal(few.quality, simulate_panel(20, seed=1).quality)


@pytest.fixture(scope="module")
def tracked_resources():
    """Python's own helper process of multiprocessing, started before a test that needs it and stopped after."""
    resource_tracker.ensure_running()
    yield
    resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


def test_clips_drawn_in_other_processes_are_the_same(tracked_resources):
    here = [clip for clip, _ in render_panel(3, seed=5)]
    there = [clip for clip, _ in render_panel(3, seed=5, workers=2)]
    assert np.array_equal(here, there)
    assert here[0].shape == (16, 150, 150)
    assert here[0].dtype == np.uint8
    assert not np.array_equal(here[0], here[1])


@pytest.mark.parametrize("defect", DEFECT_NAMES)
def test_each_defect_is_seen_and_costs_quality(defect):
    field = sample_field(np.random.default_rng(3))
    seed = np.random.SeedSequence(8)
    sperm = sample_closeup(field, seed)
    fine, bad = np.zeros(len(DEFECT_NAMES)), np.zeros(len(DEFECT_NAMES))
    bad[DEFECT_NAMES.index(defect)] = 1.0
    swimmer = replace(sperm.swimmer, focus_um=np.array([[0.0, 0.0, 1.0]]))
    without, with_it = (replace(sperm, severity=s, swimmer=swimmer) for s in (fine, bad))
    if defect in ("size", "tapered", "round", "tail_coiled", "tail_short"):  # sizes are the swimmer's own
        with_it = replace(with_it, swimmer=with_defects(with_it))
    clear, changed = (render_closeup(field, s, seed)[0].astype(float) for s in (without, with_it))
    grain = np.abs(np.diff(clear[:, :20, :20], axis=0)).mean()
    near = np.s_[:, 55:95, 55:95] if defect not in DEFECTS["tail"] else np.s_[:]
    assert np.abs(changed - clear)[near].max() > 3.5 * grain
    part = 1 + list(DEFECTS).index(next(p for p, defects in DEFECTS.items() if defect in defects))
    assert quality(with_it, 1.0)[part] < 0.6 * quality(without, 1.0)[part]


def test_the_head_stays_in_the_middle():
    for k in range(4):
        field, seed = sample_field(np.random.default_rng(k)), np.random.SeedSequence(k)
        sperm = sample_closeup(field, seed)
        _, middle = render_closeup(field, sperm, seed)
        head = sperm.swimmer.head_um_at(clip_times_s())[0] / field.um_per_px
        assert np.median(np.linalg.norm(head - middle, axis=1)) < 3.0
        assert np.linalg.norm(head - middle, axis=1).max() < 22.0


def test_a_double_tail_has_two_strands():
    sperm = sample_closeup(sample_field(np.random.default_rng(0)), np.random.SeedSequence(0))
    severity = np.zeros(len(DEFECT_NAMES))
    assert len(tail_strands_um(replace(sperm, severity=severity), 0.0, 50)) == 1
    severity[DEFECT_NAMES.index("tail_double")] = 1.0
    assert len(tail_strands_um(replace(sperm, severity=severity), 0.0, 50)) == 2

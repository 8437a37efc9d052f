"""Jitter and drift: estimated without being fooled by swimming, and taken out without taking swimming with them."""

from dataclasses import replace

import numpy as np
import pytest

from casa.config import KinematicsConfig
from casa.kinematics import analyse_tracks
from casa.kinematics.drift import DriftPath, common_velocity
from casa.kinematics.jitter import Jitter, find_slips, noise_floor_px2, remove_jitter
from casa.simulate.scene import SceneConfig, simulate
from casa.simulate.swimmers import ORDINARY_MIX, Mode
from casa.types import Calibration, KinematicsFlag, TrackTable

RATE = 50.0
SCALE = Calibration("test", 0.4, 0.4, chamber_depth_um=20.0)

#: speed, lateral amplitude (um), beat (Hz): swimmers of VCL 5 to 110 um/s.
SWIMMERS = [(5, 0.0, 1), (4, 0.4, 4), (12, 0.5, 8), (20, 0.7, 10), (25, 1.2, 9), (40, 1.5, 11), (50, 2.2, 13),
            (80, 1.5, 16), (75, 2.5, 12)]  # fmt: skip


def field(swimmers, sigma_px, seed=0, duration_s=3.0, drift_px_s=(0.0, 0.0), still=0, keep=1.0):
    """(exact, noisy) tables of swimmers in random directions, and of ``still`` cells that do not move."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(duration_s * RATE) + 1) / RATE
    exact, noisy = [], []
    for number, (speed, amplitude, beat) in enumerate([*swimmers, *[(0.0, 0.0, 1.0)] * still], start=1):
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.04, len(t))) / 2
        along = np.stack([np.cos(heading), np.sin(heading)], axis=1)
        across = np.stack([-along[:, 1], along[:, 0]], axis=1)
        path = np.cumsum(speed / RATE * along, axis=0)
        path += amplitude * np.sin(2 * np.pi * beat * t + rng.uniform(0, 6))[:, None] * across
        xy = path / 0.4 + rng.uniform(0, 400, 2) + t[:, None] * np.array(drift_px_s)
        seen = rng.random(len(t)) < keep
        zero = np.zeros(len(t))
        for tables, positions in ((exact, xy), (noisy, xy + rng.normal(0, sigma_px, xy.shape))):
            table = TrackTable(np.arange(len(t)), zero, np.round(t * 1e9), zero + number, *positions.T, zero + 9,
                               zero + 9, *positions.T, zero + 1, zero > 0)  # fmt: skip
            tables.append(table.select(seen))
    return TrackTable.concatenate(exact), TrackTable.concatenate(noisy)


def rows_of(table, **config):
    return analyse_tracks(table, KinematicsConfig(**config), SCALE, (640, 480))


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.5, 0.8])
def test_the_jitter_of_a_field_is_found(sigma):
    _, noisy = field(SWIMMERS * 2, sigma, still=6)
    _, summary = rows_of(noisy, jitter_px=0)
    assert summary.jitter_px == pytest.approx(sigma, rel=0.12, abs=0.025)
    assert not summary.jitter_corrected


def test_beating_alone_is_not_taken_for_jitter():
    """A field without one immotile cell, where differences of positions are all beat."""
    beating = [(40 + k, 1.5 + 0.1 * k, 8 + 0.7 * k) for k in range(12)]
    exact, noisy = field(beating, 0.3)
    second_difference = np.diff(exact.x_measured_px[:100], 2).std() / np.sqrt(6)
    assert second_difference > 0.5  # what a naive estimate would make of it
    assert rows_of(exact)[1].jitter_px < 0.12
    assert rows_of(noisy)[1].jitter_px == pytest.approx(0.3, rel=0.15)


def test_jitter_is_found_through_misses():
    _, noisy = field(SWIMMERS * 3, 0.4, still=9, keep=0.95, duration_s=5)
    assert rows_of(noisy)[1].jitter_px == pytest.approx(0.4, rel=0.15)


def test_the_noise_floor_is_unbiased_for_white_noise():
    noise = np.random.default_rng(1).normal(0, 0.5, (400, 64, 2))
    assert noise_floor_px2(noise).mean() == pytest.approx(0.25, rel=0.04)
    assert noise_floor_px2(noise[:, :32]).mean() == pytest.approx(0.25, rel=0.08)


@pytest.mark.parametrize("sigma", [0.3, 0.5])
@pytest.mark.parametrize("jitter", ["auto", "told"])
def test_vcl_is_recovered_from_5_to_110_um_s(sigma, jitter):
    """Within 5 % from 40 um/s and within 3 um/s below, for nearly each track and without bias."""
    exact, noisy = field(SWIMMERS * 8, sigma, seed=2, still=12)
    true = rows_of(exact, jitter_px=0)[0]
    raw = rows_of(noisy, jitter_px=0)[0]
    found = rows_of(noisy, jitter_px="auto" if jitter == "auto" else sigma)[0]
    assert true.vcl_um_s.max() > 105
    slow = true.vcl_um_s < 40
    assert (raw.vcl_um_s - true.vcl_um_s)[true.vcl_um_s < 10].min() > 4  # what there is to correct
    relative = (found.vcl_um_s / np.maximum(true.vcl_um_s, 1e-9) - 1)[~slow]
    absolute = (found.vcl_um_s - true.vcl_um_s)[slow]
    assert (np.abs(relative) < 0.05).mean() > 0.97
    assert abs(relative.mean()) < 0.015
    assert (np.abs(absolute) < 3).mean() > 0.93
    assert abs(absolute.mean()) < 1
    assert (found.flags & KinematicsFlag.JITTER_CORRECTED).all()
    assert not (raw.flags & KinematicsFlag.JITTER_CORRECTED).any()


def test_vap_alh_bcf_and_mad_are_recovered_too():
    exact, noisy = field(SWIMMERS[4:] * 5, 0.5, seed=4)
    true, found = rows_of(exact, jitter_px=0)[0], rows_of(noisy, jitter_px=0.5)[0]
    for name, within in (
        ("vap_um_s", 0.02),
        ("vsl_um_s", 0.02),
        ("alh_mean_um", 0.15),
        ("bcf_hz", 0.06),
        ("mad_deg", 0.1),
    ):
        ratio = getattr(found, name) / getattr(true, name)
        assert np.median(ratio) == pytest.approx(1, abs=within / 2), name
        assert np.mean(np.abs(ratio - 1) < within) > 0.9, name


def test_still_cells_are_immotile_through_the_noise_whether_speeds_are_corrected_or_not():
    _, noisy = field(SWIMMERS[5:], 0.4, still=20)
    for jitter in ("auto", 0):
        rows, _ = rows_of(noisy, jitter_px=jitter)
        assert rows.motility_grade[-20:].tolist().count("d") >= 19
    assert (rows.vcl_um_s[-20:] > 8).all()  # not corrected: left as measured


def test_jitter_is_taken_out_of_a_run_with_missing_pictures():
    rng = np.random.default_rng(5)
    index = np.flatnonzero(rng.random(400) < 0.9)
    t = index / RATE
    exact = np.stack([100 * t, 4 * np.sin(2 * np.pi * 6 * t)], axis=1)
    quiet = remove_jitter(index, t, exact + rng.normal(0, 0.5, exact.shape), Jitter(0.5))
    assert np.abs(quiet - exact).std() < 0.35
    assert remove_jitter(index, t, exact, Jitter(0.0)) is exact


def test_uneven_times_are_no_jitter():
    """A straight swimmer seen at uneven times has uneven steps; they are its own."""
    rng = np.random.default_rng(6)
    t = np.arange(300) / RATE + rng.uniform(-0.004, 0.004, 300)
    exact = np.stack([250 * t, 100 * t], axis=1)
    quiet = remove_jitter(np.arange(300), t, exact + rng.normal(0, 0.3, exact.shape), Jitter(0.3))
    assert np.abs(quiet - exact).std() < 0.15
    speed = np.hypot(*np.diff(quiet, axis=0).T) / np.diff(t)
    assert speed.std() < 8


def test_a_slip_of_the_detector_is_mended_and_a_change_of_swimming_is_not():
    rng = np.random.default_rng(7)
    index, t = np.arange(250), np.arange(250) / RATE
    exact = np.stack([30 * t, 10 * t], axis=1)
    noisy = exact + rng.normal(0, 0.3, exact.shape)
    noisy[[40, 120, 121, 200]] += [[9.0, 3.0], [0.0, -8.0], [1.0, -8.0], [-7.0, 7.0]]
    assert np.flatnonzero(find_slips(noisy, 0.3)).tolist() == [40, 120, 121, 200]
    assert np.abs(remove_jitter(index, t, noisy, Jitter(0.3)) - exact).max() < 0.6
    begins_to_beat = exact + rng.normal(0, 0.3, exact.shape)
    begins_to_beat[150:, 1] += 12 * np.sin(2 * np.pi * 9 * t[150:])
    assert not find_slips(begins_to_beat, 0.3)[155:].any()


def test_noise_that_falls_with_frequency_is_found_and_taken_out_of_still_cells():
    """A detector that wanders about a head, as well as white jitter."""
    rng = np.random.default_rng(8)
    tables = []
    for number in range(24):
        frequency = np.fft.rfftfreq(400, 1 / RATE)
        shape = np.sqrt(1 + (4.0 / np.maximum(frequency, 1.5)) ** 2)
        noise = np.fft.irfft(np.fft.rfft(rng.normal(0, 0.3, (400, 2)), axis=0) * shape[:, None], 400, axis=0)
        t, zero = np.arange(400) / RATE, np.zeros(400)
        speed = 100.0 if number % 2 else 0.0
        x, y = (noise + 200 + np.stack([speed * t, 6 * (speed > 0) * np.sin(2 * np.pi * 11 * t)], axis=1)).T
        tables.append(TrackTable(np.arange(400), zero, np.round(t * 1e9), zero + number, x, y, zero + 9, zero + 9, x, y,
                                 zero + 1, zero > 0))  # fmt: skip
    rows, _ = rows_of(TrackTable.concatenate(tables))
    still = rows.select(rows.track_id % 2 == 0)
    assert still.motility_grade.tolist().count("d") >= 11
    assert np.median(still.vcl_um_s) < 3
    swimming = rows.select(rows.track_id % 2 == 1)
    wave = np.cos(np.linspace(0, 2 * np.pi, 1000))
    true_vcl = np.hypot(40, 2 * 2.4 * np.sin(np.pi * 11 / RATE) * RATE * wave).mean()
    np.testing.assert_allclose(swimming.vcl_um_s, true_vcl, rtol=0.05)


def test_drift_is_reported_always_and_removed_on_demand():
    swimmers = [(speed, a, f) for speed, a, f in SWIMMERS if speed > 15]
    _, noisy = field(swimmers, 0.3, still=6, drift_px_s=(12.0, -7.0))
    rows, summary = rows_of(noisy)
    assert summary.drift_px_s == pytest.approx((12, -7), abs=0.5)
    assert not summary.drift_corrected
    assert (rows.vsl_um_s[-6:] > 5).all()
    rows, summary = rows_of(noisy, drift=True)
    assert summary.drift_corrected
    assert (rows.vsl_um_s[-6:] < 0.5).all()
    assert rows.motility_grade[-6:].tolist() == ["d"] * 6
    assert (rows.flags & KinematicsFlag.DRIFT_CORRECTED).all()


def test_swimmers_that_share_no_velocity_are_no_drift():
    velocity = 60 * np.stack([np.cos(np.arange(12)), np.sin(np.arange(12))], axis=1)
    assert common_velocity(velocity, 4.0) is None
    assert common_velocity(np.zeros((2, 2)), 4.0) is None


def test_a_drift_that_changes_is_followed():
    path = DriftPath(1.0)
    path.close_epoch(np.array([2.0, 0.0]))
    path.close_epoch(np.array([0.0, 4.0]))
    path.close_epoch(None)
    at = path.displacement(np.array([0.0, 0.5, 1.0, 1.25, 2.5, 3.5]))
    np.testing.assert_allclose(at, [[0, 0], [1, 0], [2, 0], [2, 1], [2, 6], [2, 10]])
    assert path.mean_rate == pytest.approx((1.0, 2.0))


@pytest.mark.parametrize("drift_um_s", [(6.0, -3.0), (0.0, 0.0)])
@pytest.mark.parametrize(
    ("cells", "mix"), [(30, "ordinary"), (80, "ordinary"), (12, "immotile"), (80, "mostly one way")]
)
def test_simulated_drift_is_found_at_every_density_and_mix(cells: int, mix: str, drift_um_s: tuple[float, float]):
    mixes = {
        "ordinary": ORDINARY_MIX,
        "immotile": {Mode.IMMOTILE: 1.0},
        "mostly one way": {Mode.PROGRESSIVE: 0.6, Mode.NON_PROGRESSIVE: 0.15, Mode.IMMOTILE: 0.25},
    }
    config = SceneConfig(
        fps_hz=25.0, n_frames=150, cells_per_frame=cells, mix=mixes[mix], drift_um_s=drift_um_s, dots=0, round_cells=0
    )
    scene = simulate(config, 3)
    if mix == "mostly one way":  # all that progress swim up a stream, say
        heading = scene.swimmers.heading_rad
        progress = scene.swimmers.mode == list(Mode).index(Mode.PROGRESSIVE)
        heading[progress] += 0.4 - heading[progress, :1]
    table = scene.truth()
    noise = np.random.default_rng(0).normal(0, 0.5, (2, len(table)))
    noisy = replace(table, x_measured_px=table.x_measured_px + noise[0], y_measured_px=table.y_measured_px + noise[1])
    _, summary = analyse_tracks(noisy, None, scene.calibration(), (config.width_px, config.height_px))
    assert summary.drift_px_s is not None
    assert np.hypot(*(np.array(summary.drift_px_s) * config.um_per_px - drift_um_s)) < 0.5


@pytest.mark.parametrize("cells", [8, 30])
def test_a_field_of_swimmers_alone_has_no_drift_that_could_be_known(cells: int):
    for seed in range(3):
        config = SceneConfig(
            fps_hz=25.0, n_frames=150, cells_per_frame=cells, mix={Mode.PROGRESSIVE: 1.0}, dots=0, round_cells=0
        )
        scene = simulate(config, seed)
        _, summary = analyse_tracks(scene.truth(), None, scene.calibration())
        assert summary.drift_px_s is None

"""The batched bank against filterpy's IMMEstimator, track by track, wherever that one is right."""

from __future__ import annotations

import numpy as np
import pytest
from filterpy.kalman import IMMEstimator, KalmanFilter

from casa.errors import InputError
from casa.track.imm import (
    UNPACK,
    ImmBank,
    MotionModel,
    X,
    Y,
    pack,
    turn_rate_rad_s,
    turn_transition,
)

MODELS = (
    MotionModel("cv_low", 1, 400.0, 150.0),
    MotionModel("cv_high", 1, 3e5, 150.0),
    MotionModel("beat", 1, 200.0, 150.0, beat_sd_px=4.0),
    MotionModel("ca", 2, 1e6),
    MotionModel("ct", 2, 1e5, turn=True, max_turn_rad_s=12.0),
)
WEIGHTS = (1.0, 2.0, 1.5, 0.5, 1.0)
REDRAW_S = 0.3
NOISE_PX2 = 1.3


def oracle_of(bank: ImmBank, track: int) -> IMMEstimator:
    filters = []
    for k, model in enumerate(bank.models):
        kf = KalmanFilter(dim_x=6, dim_z=2)
        kf.H = np.zeros((2, 6))
        kf.H[0, X] = kf.H[1, Y] = 1.0
        kf.R = np.eye(2) * (NOISE_PX2 + model.beat_sd_px**2)
        kf.x = bank.x[k, :, track].copy()
        kf.P = bank.p[k][UNPACK, track]
        filters.append(kf)
    m = len(filters)
    return IMMEstimator(filters, bank.mu[:, track], np.full((m, m), 1.0 / m))


def oracle_predict(oracle: IMMEstimator, bank: ImmBank, dt_s: float) -> None:
    keep = np.exp(-dt_s / REDRAW_S)
    weights = np.array(WEIGHTS) / np.sum(WEIGHTS)
    oracle.M = keep * np.eye(len(weights)) + (1 - keep) * weights[None]
    oracle._compute_mixing_probabilities()
    for j, (model, kf) in enumerate(zip(bank.models, oracle.filters, strict=True)):
        kf.Q = model.noise(dt_s)
        kf.F = model.transition(dt_s)
        if model.turn:  # the turn comes from the mixed state, which filterpy makes inside predict
            mixed = sum(f.x * w for f, w in zip(oracle.filters, oracle.omega[:, j], strict=True))
            rate = turn_rate_rad_s(np.asarray(mixed)[:, None], model.max_turn_rad_s)
            kf.F = turn_transition(rate, dt_s)[0]
    oracle.predict()


def assert_same(bank: ImmBank, oracle: IMMEstimator, track: int) -> None:
    for k, kf in enumerate(oracle.filters):
        np.testing.assert_allclose(bank.x[k, :, track], kf.x, rtol=1e-7, atol=1e-6)
        np.testing.assert_allclose(bank.p[k][UNPACK, track], kf.P, rtol=1e-6, atol=1e-6 * np.abs(kf.P).max())


def test_every_step_agrees_with_filterpy_for_every_model_and_track():
    rng = np.random.default_rng(3)
    bank = ImmBank(MODELS, WEIGHTS, REDRAW_S)
    start = rng.uniform(0, 500, (2, 4))
    bank.append(start, np.full(4, NOISE_PX2), 120.0)
    oracles = [oracle_of(bank, track) for track in range(4)]
    velocity, z = rng.normal(0, 100, (2, 4)), start
    for step in range(40):
        dt_s = float(rng.choice([0.01, 0.02, 0.0204, 0.08]))
        velocity = velocity + rng.normal(0, 30, (2, 4))
        z = z + velocity * dt_s + rng.normal(0, 1.1, (2, 4))
        bank.predict(dt_s)
        for track, oracle in enumerate(oracles):
            oracle_predict(oracle, bank, dt_s)
            assert_same(bank, oracle, track)
        bank.update(z, np.full(4, NOISE_PX2))
        mean = bank.mean_state()
        for track, oracle in enumerate(oracles):
            oracle.update(z[:, track])
            assert_same(bank, oracle, track)
            np.testing.assert_allclose(bank.mu[:, track], oracle.mu, rtol=1e-6, atol=1e-12, err_msg=f"step {step}")
            np.testing.assert_allclose(mean[:, track], oracle.x, rtol=1e-6, atol=1e-5)


def test_likelihood_is_the_mixture_density_of_the_measurement():
    bank = ImmBank(MODELS, WEIGHTS, REDRAW_S)
    bank.append(np.array([[10.0], [20.0]]), np.array([NOISE_PX2]), 100.0)
    bank.predict(0.02)
    z = np.array([[13.0], [18.0]])
    density = 0.0
    for k, model in enumerate(MODELS):
        s = bank.p[k][UNPACK, 0][np.ix_((X, Y), (X, Y))] + np.eye(2) * (NOISE_PX2 + model.beat_sd_px**2)
        d = z[:, 0] - bank.x[k, (X, Y), 0]
        density += bank.mu[k, 0] * np.exp(-0.5 * d @ np.linalg.solve(s, d)) / (2 * np.pi * np.sqrt(np.linalg.det(s)))
    assert bank.update(z, np.array([NOISE_PX2]))[0] == pytest.approx(np.log(density), abs=1e-9)


def test_a_miss_leaves_prediction_and_modes_as_they_were_and_is_no_perfect_hit():
    rng = np.random.default_rng(5)
    bank = ImmBank(MODELS, WEIGHTS, REDRAW_S)
    bank.append(rng.uniform(0, 500, (2, 3)), np.full(3, NOISE_PX2), 100.0)
    for _ in range(5):
        bank.predict(0.02)
        bank.update(bank.position_moments()[0] + rng.normal(0, 1, (2, 3)), np.full(3, NOISE_PX2))
    bank.predict(0.02)
    x, p, mu = bank.x.copy(), bank.p.copy(), bank.mu.copy()
    likelihood = bank.update(np.zeros((2, 3)), np.array([np.inf, NOISE_PX2, np.inf]))
    missed = [0, 2]
    np.testing.assert_array_equal(bank.x[:, :, missed], x[:, :, missed])
    np.testing.assert_array_equal(bank.p[:, :, missed], p[:, :, missed])
    np.testing.assert_allclose(bank.mu[:, missed], mu[:, missed], rtol=1e-14)
    assert likelihood[0] == likelihood[2] == 0.0
    assert not np.allclose(bank.x[:, :, 1], x[:, :, 1])


def test_coasting_modes_return_to_their_weights_and_a_split_step_changes_them_alike():
    def coast(steps: list[float]) -> np.ndarray:
        bank = ImmBank(MODELS, WEIGHTS, REDRAW_S)
        bank.append(np.zeros((2, 1)), np.array([NOISE_PX2]), 100.0)
        bank.mu[:] = np.array([0.9, 0.05, 0.02, 0.02, 0.01])[:, None]
        for dt_s in steps:
            bank.predict(dt_s)
        return bank.mu[:, 0]

    np.testing.assert_allclose(coast([0.04]), coast([0.01] * 4), rtol=1e-12)
    np.testing.assert_allclose(coast([0.1] * 60), np.array(WEIGHTS) / np.sum(WEIGHTS), rtol=1e-6)


@pytest.mark.parametrize("model", [m for m in MODELS if not m.turn], ids=lambda m: m.name)
def test_noise_and_transition_do_not_depend_on_the_frame_rate(model: MotionModel):
    whole_f, whole_q = model.transition(0.08), model.noise(0.08)
    f, q = np.eye(6), np.zeros((6, 6))
    for _ in range(8):
        step = model.transition(0.01)
        f, q = step @ f, step @ q @ step.T + model.noise(0.01)
    np.testing.assert_allclose(f, whole_f, atol=1e-12)
    moving = [0, 1, 3, 4] if model.order == 1 else range(6)
    np.testing.assert_allclose(q[np.ix_(moving, moving)], whole_q[np.ix_(moving, moving)], rtol=1e-9)


def test_matrices_of_a_step_are_those_of_the_models():
    bank = ImmBank(MODELS, WEIGHTS, REDRAW_S)
    rng = np.random.default_rng(0)
    a = rng.normal(size=(6, 6))
    covariance = a @ a.T
    for dt_s in (0.002, 0.02, 0.7):
        f, congruence, q = bank._step(dt_s)
        for k, model in enumerate(MODELS):
            transition = model.transition(dt_s)
            np.testing.assert_allclose(f[k], transition, rtol=1e-12)
            np.testing.assert_allclose(q[k, :, 0], pack(model.noise(dt_s)), rtol=1e-12)
            expected = transition @ covariance @ transition.T
            np.testing.assert_allclose(congruence[k] @ pack(covariance), pack(expected), rtol=1e-9)


def test_a_turn_goes_round_the_circle():
    rate, speed = 3.0, 90.0
    state = np.array([0.0, speed, 0.0, 0.0, 0.0, speed * rate])
    np.testing.assert_allclose(turn_rate_rad_s(state[:, None], 12.0), rate)
    moved = turn_transition(np.array([rate]), 0.5)[0] @ state
    radius, angle = speed / rate, rate * 0.5
    np.testing.assert_allclose(moved[[X, Y]], [radius * np.sin(angle), radius * (1 - np.cos(angle))], rtol=1e-12)
    np.testing.assert_allclose(np.hypot(moved[1], moved[4]), speed, rtol=1e-12)


def test_an_outlier_far_from_every_model_keeps_the_modes_finite():
    bank = ImmBank(MODELS, WEIGHTS, REDRAW_S)
    bank.append(np.zeros((2, 1)), np.array([NOISE_PX2]), 10.0)
    bank.predict(0.002)
    bank.update(np.full((2, 1), 1e6), np.array([NOISE_PX2]))
    assert np.isfinite(bank.mu).all()
    assert bank.mu.sum() == pytest.approx(1.0)
    assert np.isfinite(bank.x).all()


def test_a_beating_head_is_where_it_was_measured_and_not_on_its_path():
    bank = ImmBank([MotionModel("beat", 1, 100.0, beat_sd_px=5.0)], [1.0], REDRAW_S)
    bank.append(np.zeros((2, 1)), np.array([1.0]), 1.0)
    bank.predict(0.02)
    z = np.array([[6.0], [0.0]])
    bank.update(z, np.array([1.0]))
    head = bank.head(np.array([0]), z, 1.0)
    path = bank.mean_state()[X, 0]
    assert head[0, 0] == pytest.approx(path + 25 / 26 * (6.0 - path))


def test_models_and_weights_must_fit():
    with pytest.raises(InputError, match="one positive mode weight"):
        ImmBank(MODELS, (1.0, 2.0), REDRAW_S)

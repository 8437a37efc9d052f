"""The bank against filterpy's IMMEstimator, track by track, and what its models say of motion."""

from __future__ import annotations

import numpy as np
import pytest
from filterpy.common import Q_continuous_white_noise
from filterpy.kalman import IMMEstimator, KalmanFilter
from scipy.linalg import expm

from casa.errors import InputError
from casa.track.imm import _TURN_PRIOR_PX2_S, ImmBank, set_noise, set_transition, turn_rate_rad_s
from casa.track.motion import N_STATE, NO_TURN, OWN_TURN, STATE_TURN, VX, VY, ModeChain, MotionModel, X, Y, model_table

MODELS = (
    MotionModel("rest", 0, 2.0, 5.0, 150.0),
    MotionModel("cv_low", 1, 400.0, 0.0, 150.0),
    MotionModel("cv_high", 1, 3e5, 0.0, 150.0),
    MotionModel("beat", 1, 200.0, 0.0, 150.0, beat_sd_px=4.0),
    MotionModel("circular", 1, 200.0, 0.0, 150.0, OWN_TURN, 12.0),
    MotionModel("ca", 2, 1e6, 0.0, 150.0),
    MotionModel("ct", 2, 1e5, 0.0, 150.0, STATE_TURN, 12.0),
)
WEIGHTS = (0.5, 1.0, 2.0, 1.5, 0.7, 0.5, 1.0)
REDRAW_S = (2.0, 0.3, 0.2, 0.4, 1.0, 0.15, 0.3)
NOISE_PX2 = 1.3


def transition(model: MotionModel, dt_s: float, turn_rad_s: float = 0.0) -> np.ndarray:
    f = np.empty((N_STATE, N_STATE))
    set_transition(model_table([model])[0], dt_s, turn_rad_s, f)
    return f


def noise(model: MotionModel, dt_s: float) -> np.ndarray:
    q = np.empty((N_STATE, N_STATE))
    set_noise(model_table([model])[0], dt_s, q)
    return q


def bank_of(n: int, rng: np.random.Generator, models=MODELS, weights=WEIGHTS, redraw_s=REDRAW_S) -> ImmBank:
    bank = ImmBank(models, weights, redraw_s)
    bank.append(rng.uniform(0, 500, (n, 2)), NOISE_PX2, 120.0)
    return bank


def oracle_of(bank: ImmBank, track: int) -> IMMEstimator:
    filters = []
    for k, model in enumerate(MODELS):
        kf = KalmanFilter(dim_x=6, dim_z=2)
        kf.H = np.zeros((2, 6))
        kf.H[0, X] = kf.H[1, Y] = 1.0
        kf.R = np.eye(2) * (NOISE_PX2 + model.beat_sd_px**2)
        kf.x, kf.P = bank.x[track, k].copy(), bank.p[track, k].copy()
        filters.append(kf)
    m = len(filters)
    return IMMEstimator(filters, bank.mu[track], np.full((m, m), 1.0 / m))


def oracle_predict(oracle: IMMEstimator, chain: np.ndarray, own_turn_rad_s: float, dt_s: float) -> None:
    oracle.M = chain
    oracle._compute_mixing_probabilities()
    for j, (model, kf) in enumerate(zip(MODELS, oracle.filters, strict=True)):
        turn = own_turn_rad_s
        if model.turn == STATE_TURN:  # the turn comes from the mixed state, which filterpy makes inside predict
            mixed = np.sum([f.x * w for f, w in zip(oracle.filters, oracle.omega[:, j], strict=True)], axis=0)
            turn = turn_rate_rad_s(mixed, model.max_turn_rad_s)
        kf.F, kf.Q = transition(model, dt_s, turn), noise(model, dt_s)
    oracle.predict()


def assert_same(bank: ImmBank, oracle: IMMEstimator, track: int) -> None:
    for k, kf in enumerate(oracle.filters):
        np.testing.assert_allclose(bank.x[track, k], kf.x, rtol=1e-7, atol=1e-6)
        np.testing.assert_allclose(bank.p[track, k], kf.P, rtol=1e-6, atol=1e-6 * np.abs(kf.P).max())


def test_every_step_agrees_with_filterpy_for_every_model_and_track():
    rng = np.random.default_rng(3)
    bank = bank_of(4, rng)
    z = bank.x[:, 0, [X, Y]].copy()
    oracles = [oracle_of(bank, track) for track in range(4)]
    velocity, match = rng.normal(0, 100, (4, 2)), np.array([3, 1, 0, 2])
    # the animal's own turning rate: heading change over path, both forgotten alike, told to the oracle beforehand
    turned, travelled, before = np.zeros(4), np.zeros(4), np.zeros((4, 2))
    for step in range(40):
        dt_s = float(rng.choice([0.01, 0.02, 0.0204, 0.08]))
        velocity = velocity + rng.normal(0, 30, (4, 2))
        z = z + velocity * dt_s + rng.normal(0, 1.1, (4, 2))
        bank.predict(dt_s)
        chain = expm(dt_s * (np.array(WEIGHTS) / np.sum(WEIGHTS) - np.eye(len(MODELS))) / np.array(REDRAW_S)[:, None])
        for track, oracle in enumerate(oracles):
            own = np.clip(turned[track] / (travelled[track] + _TURN_PRIOR_PX2_S), -12.0, 12.0)
            oracle_predict(oracle, chain, own, dt_s)
            assert_same(bank, oracle, track)
        bank.update(match, z[np.argsort(match)], NOISE_PX2)
        xy, path_velocity = bank.heads(np.arange(4), np.full(4, -1), z, NOISE_PX2)
        for track, oracle in enumerate(oracles):
            oracle.update(z[track])
            assert_same(bank, oracle, track)
            np.testing.assert_allclose(bank.mu[track], oracle.mu, rtol=1e-6, atol=1e-12, err_msg=f"step {step}")
            mean = np.asarray(oracle.x)
            np.testing.assert_allclose(xy[track], mean[[X, Y]], rtol=1e-6, atol=1e-5)
            np.testing.assert_allclose(path_velocity[track], mean[[VX, VY]], rtol=1e-6, atol=1e-5)
            now = mean[[VX, VY]]
            keep = np.exp(-dt_s / 1.0)
            turned[track] = keep * turned[track] + before[track, 0] * now[1] - before[track, 1] * now[0]
            travelled[track] = keep * travelled[track] + (now @ now) * dt_s
            before[track] = now


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
@pytest.mark.parametrize("dt_s", [0.002, 0.02, 0.7])
def test_noise_is_continuous_white_noise_as_filterpy_integrates_it(model: MotionModel, dt_s: float):
    q = noise(model, dt_s)
    axis = np.diag([0.0, model.speed_sd_px_s**2 if model.order == 0 else 0.0, model.acceleration_sd_px_s2**2])
    if model.order == 0:
        axis[0, 0] = model.density * dt_s
    else:
        k = model.order + 1
        axis[:k, :k] = Q_continuous_white_noise(k, dt_s, model.density)
    np.testing.assert_allclose(q[:3, :3], axis, rtol=1e-12)
    np.testing.assert_array_equal(q[3:, 3:], q[:3, :3])
    assert not q[:3, 3:].any()
    assert not q[3:, :3].any()


def test_likelihood_is_the_mixture_density_of_the_measurement():
    bank = bank_of(1, np.random.default_rng(0))
    bank.predict(0.02)
    z = bank.x[0, 0, [X, Y]][None] + [[3.0, -2.0]]
    density = 0.0
    for k, model in enumerate(MODELS):
        s = bank.p[0, k][np.ix_((X, Y), (X, Y))] + np.eye(2) * (NOISE_PX2 + model.beat_sd_px**2)
        d = z[0] - bank.x[0, k, [X, Y]]
        density += bank.mu[0, k] * np.exp(-0.5 * d @ np.linalg.solve(s, d)) / (2 * np.pi * np.sqrt(np.linalg.det(s)))
    assert bank.update(np.array([0]), z, NOISE_PX2)[0] == pytest.approx(np.log(density), abs=1e-9)


def test_a_miss_leaves_prediction_and_modes_as_they_were_and_is_no_perfect_hit():
    rng = np.random.default_rng(5)
    bank = bank_of(3, rng)
    for _ in range(5):
        bank.predict(0.02)
        bank.update(np.arange(3), bank.position_moments()[0] + rng.normal(0, 1, (3, 2)), NOISE_PX2)
    bank.predict(0.02)
    x, p, mu = bank.x.copy(), bank.p.copy(), bank.mu.copy()
    likelihood = bank.update(np.array([-1, 0, -1]), np.zeros((1, 2)), NOISE_PX2)
    missed = [0, 2]
    np.testing.assert_array_equal(bank.x[missed], x[missed])
    np.testing.assert_array_equal(bank.p[missed], p[missed])
    np.testing.assert_array_equal(bank.mu[missed], mu[missed])
    assert likelihood[0] == likelihood[2] == 0.0
    assert not np.allclose(bank.x[1], x[1])


def test_the_mode_chain_is_the_exponential_of_its_generator_whatever_the_step():
    chain = ModeChain(WEIGHTS, REDRAW_S)
    generator = (chain.weights[None] - np.eye(len(WEIGHTS))) / np.array(REDRAW_S)[:, None]
    for dt_s in (0.002, 0.02, 0.5):
        np.testing.assert_allclose(chain.transition(dt_s), expm(generator * dt_s), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        np.linalg.matrix_power(chain.transition(0.01), 4), chain.transition(0.04), rtol=1e-9, atol=1e-12
    )
    alike = ModeChain(WEIGHTS, [0.3] * len(WEIGHTS))
    keep = np.exp(-0.02 / 0.3)
    expected = keep * np.eye(len(WEIGHTS)) + (1 - keep) * alike.weights[None]
    np.testing.assert_allclose(alike.transition(0.02), expected, rtol=1e-9, atol=1e-12)


def test_coasting_modes_return_to_their_weights():
    bank = bank_of(1, np.random.default_rng(0), redraw_s=0.3)
    for _ in range(60):
        bank.predict(0.1)
    np.testing.assert_allclose(bank.mu[0], np.array(WEIGHTS) / np.sum(WEIGHTS), rtol=1e-6)


@pytest.mark.parametrize("model", [m for m in MODELS if m.turn == NO_TURN], ids=lambda m: m.name)
def test_noise_and_transition_do_not_depend_on_the_frame_rate(model: MotionModel):
    whole_f, whole_q = transition(model, 0.08), noise(model, 0.08)
    f, q = np.eye(6), np.zeros((6, 6))
    for _ in range(8):
        step = transition(model, 0.01)
        f, q = step @ f, step @ q @ step.T + noise(model, 0.01)
    np.testing.assert_allclose(f, whole_f, atol=1e-12)
    known = [k for k in range(6) if k % 3 <= model.order]
    np.testing.assert_allclose(q[np.ix_(known, known)], whole_q[np.ix_(known, known)], rtol=1e-9)


def test_a_coordinated_turn_goes_round_the_circle():
    rate, speed = 3.0, 90.0
    state = np.array([0.0, speed, 0.0, 0.0, 0.0, speed * rate])
    assert turn_rate_rad_s(state, 12.0) == pytest.approx(rate)
    assert turn_rate_rad_s(state, 2.0) == 2.0
    radius, angle = speed / rate, rate * 0.5
    for name in ("ct", "circular"):
        model = next(m for m in MODELS if m.name == name)
        moved = transition(model, 0.5, rate) @ state
        np.testing.assert_allclose(moved[[X, Y]], [radius * np.sin(angle), radius * (1 - np.cos(angle))], rtol=1e-12)
        np.testing.assert_allclose(moved[[VX, VY]], [speed * np.cos(angle), speed * np.sin(angle)], rtol=1e-12)
        np.testing.assert_allclose(moved[[2, 5]], rate * np.array([-moved[VY], moved[VX]]), rtol=1e-12)


@pytest.mark.parametrize("name", ["ct", "circular"])
def test_a_turn_that_hardly_turns_is_straight(name: str):
    model = next(m for m in MODELS if m.name == name)
    for rate in (0.0, 1e-9, 1e-5, 1e-3):
        state = np.array([0.0, 90.0, 0.0, 0.0, 0.0, 90.0 * rate])
        moved = transition(model, 0.02, rate) @ state
        np.testing.assert_allclose(moved[[X, Y]], [1.8, 0.5 * 90 * rate * 0.02**2], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("rate", [-4.0, 2.5])
def test_the_bank_learns_how_fast_a_circular_swimmer_turns(rate: float):
    rng = np.random.default_rng(1)
    circular = [m for m in MODELS if m.name in ("cv_high", "circular")]
    bank = ImmBank(circular, [1.0, 1.0], 0.7)
    t_s, speed = np.arange(1, 150) * 0.02, 120.0
    bank.append(np.zeros((1, 2)), NOISE_PX2, 120.0)
    for t in t_s:
        bank.predict(0.02)
        z = speed / rate * np.array([[np.sin(rate * t), 1 - np.cos(rate * t)]]) + rng.normal(0, 0.5, (1, 2))
        bank.update(np.array([0]), z, 0.25)
    assert bank._turn[0, 0] / bank._turn[0, 1] == pytest.approx(rate, rel=0.15)
    assert bank.mu[0, 1] > 0.5


def test_an_outlier_far_from_every_model_keeps_the_modes_finite():
    bank = bank_of(1, np.random.default_rng(0))
    bank.predict(0.002)
    bank.update(np.array([0]), np.full((1, 2), 1e6), NOISE_PX2)
    assert np.isfinite(bank.mu).all()
    assert bank.mu.sum() == pytest.approx(1.0)
    assert np.isfinite(bank.x).all()


def test_a_beating_head_is_where_it_was_measured_and_not_on_its_path():
    bank = ImmBank([MotionModel("beat", 1, 100.0, beat_sd_px=5.0)], [1.0], 0.3)
    bank.append(np.zeros((1, 2)), 1.0, 1.0)
    bank.predict(0.02)
    z, match = np.array([[6.0, 0.0]]), np.array([0])
    bank.update(match, z, 1.0)
    head, _ = bank.heads(np.array([0]), match, z, 1.0)
    path = bank.x[0, 0, X]
    assert head[0, 0] == pytest.approx(path + 25 / 26 * (6.0 - path))


def test_tracks_that_are_dropped_leave_the_others_as_they_were():
    rng = np.random.default_rng(0)
    bank = bank_of(100, rng)
    bank.predict(0.02)
    keep = rng.random(100) < 0.6
    x, p, mu = bank.x[keep].copy(), bank.p[keep].copy(), bank.mu[keep].copy()
    bank.keep(keep)
    bank.append(np.zeros((70, 2)), NOISE_PX2, 120.0)
    n = int(keep.sum())
    assert len(bank) == n + 70
    np.testing.assert_array_equal(bank.x[:n], x)
    np.testing.assert_array_equal(bank.p[:n], p)
    np.testing.assert_array_equal(bank.mu[:n], mu)
    fresh = bank_of(1, rng)
    np.testing.assert_array_equal(bank.p[n], fresh.p[0])
    np.testing.assert_array_equal(bank.mu[-1], fresh.mu[0])


def test_models_and_weights_must_fit():
    with pytest.raises(InputError, match="one positive mode weight"):
        ImmBank(MODELS, (1.0, 2.0), 0.3)
    with pytest.raises(InputError, match="one positive mode redraw time"):
        ImmBank(MODELS, WEIGHTS, (1.0, 2.0))

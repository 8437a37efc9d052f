"""Live and from a table the same rows come out, memory stays flat, and the field's figures are what they claim."""

import numpy as np
import pytest

from casa.config import KinematicsConfig
from casa.kinematics import KinematicsAccumulator, KinematicsStage, analyse_tracks
from casa.kinematics.buffers import TrackBuffers
from casa.kinematics.table import frames_of
from casa.types import Calibration, KinematicsTable, Tracks, TrackTable

SCALE = Calibration("test", 0.4, 0.4, width_px=640, height_px=480, chamber_depth_um=20.0, chamber_factor=1.25)


def random_tracks(seed=0, n_tracks=30, n_frames=400, rate=50.0):
    """Tracks that come and go, with misses and jitter, as one table."""
    rng = np.random.default_rng(seed)
    tables = []
    for number in range(1, n_tracks + 1):
        first = int(rng.integers(0, n_frames - 5))
        frame = np.arange(first, min(n_frames, first + int(rng.integers(2, 300))))
        t = frame / rate
        speed, turn = rng.uniform(0, 200), rng.uniform(0, 6)
        xy = np.stack([np.cos(turn) * speed * t, np.sin(turn) * speed * t + 4 * np.sin(60 * t)], axis=1)
        xy += rng.normal(0, 0.4, xy.shape) + 200
        predicted = rng.random(len(frame)) < 0.03
        zero = np.zeros(len(frame))
        seen = np.where(predicted[:, None], np.nan, xy)
        tables.append(TrackTable(frame, zero, np.round(t * 1e9), zero + number, *xy.T, zero + 9, zero + 9, *seen.T,
                                 zero + 1, predicted))  # fmt: skip
    return TrackTable.concatenate(tables)


def told_late(frames, by):
    """The same tracks, the end of each told ``by`` frames later than it came."""
    waiting = []
    for number, tracks in enumerate(frames):
        waiting.append((number + by, tracks.ended_ids))
        due = [ids for at, ids in waiting if at <= number]
        waiting = [(at, ids) for at, ids in waiting if at > number]
        ended = np.concatenate([*due, np.empty(0, np.int64)]).astype(np.int64)
        yield Tracks(tracks.frame, tracks.t_ns, tracks.track_id, tracks.xyxy, tracks.measured_xy_px, tracks.confidence,
                     tracks.predicted, tracks.velocity_px_s, ended)  # fmt: skip


@pytest.mark.parametrize("config", [KinematicsConfig(), KinematicsConfig(jitter_px=0), KinematicsConfig(drift=True)])
@pytest.mark.parametrize("late_frames", [0, 1, 20, 90, 1000])
def test_live_and_from_a_table_the_same_rows_come_out(config, late_frames):
    table = random_tracks()
    wanted, wanted_summary = analyse_tracks(table, config, SCALE, (640, 480))
    stage = KinematicsStage(config, SCALE, (640, 480))
    stage.open()
    parts = [KinematicsTable.empty()]
    for tracks in told_late(frames_of(table), late_frames):
        parts.extend(stage.process(tracks))
    parts.extend(stage.flush())
    rows = KinematicsTable.concatenate(parts)
    rows = rows.select(np.argsort(rows.track_id))
    for name, column in wanted.columns().items():
        np.testing.assert_array_equal(rows.columns()[name], column, err_msg=name)
    summary = stage.summary()
    stage.close()
    assert summary.graded_time_s == pytest.approx(wanted_summary.graded_time_s)
    assert summary.jitter_px == wanted_summary.jitter_px
    assert summary.drift_px_s == wanted_summary.drift_px_s
    assert wanted_summary.jitter_px is not None
    assert wanted_summary.n_tracks == len(wanted)


def test_many_tracks_that_end_together_do_not_hold_up_one_frame():
    table = random_tracks(n_tracks=60, n_frames=200)
    t_ns = np.unique(table.t_ns)
    ended = table.select(table.t_ns < 1.9e9)  # many end here at once
    stayed = table.select(table.track_id == table.track_id[np.argmax(table.t_ns)])
    accumulator = KinematicsAccumulator(KinematicsConfig(), SCALE)
    both = TrackTable.concatenate([ended, stayed.select(stayed.t_ns >= 1.9e9)])
    came = [len(accumulator.add(tracks)) for tracks in frames_of(both)]
    assert t_ns[-1] > 3e9
    assert sum(came) > 20
    assert max(came) <= 1 + 60 // 16


def test_rows_come_within_a_second_or_so_of_a_tracks_end():
    table = random_tracks(n_tracks=40)
    accumulator = KinematicsAccumulator(KinematicsConfig(), SCALE)
    last_seen = {int(track): int(table.t_ns[table.track_id == track].max()) for track in np.unique(table.track_id)}
    came = 0
    for tracks in frames_of(table):
        for track in accumulator.add(tracks).track_id.tolist():
            assert tracks.t_ns - last_seen[track] <= 1.1e9
            came += 1
    assert came > 20
    assert came + len(accumulator.finish()) == 40


def test_the_order_of_a_tables_rows_does_not_matter():
    table = random_tracks(3)
    shuffled = table.select(np.random.default_rng(0).permutation(len(table)))
    first, second = analyse_tracks(table, None, SCALE)[0], analyse_tracks(shuffled, None, SCALE)[0]
    for name, column in first.columns().items():
        np.testing.assert_array_equal(column, second.columns()[name])


def endless(n_frames, n_cells=6, rate=50.0):
    """Cells that never leave: circles of 60 um/s, and one that stands still."""
    t_all = np.arange(n_frames) / rate
    phase = np.arange(n_cells)
    for frame, t in enumerate(t_all.tolist()):
        xy = 200 + 40 * np.stack([np.cos(3.75 * t + phase), np.sin(3.75 * t + phase)], axis=1)
        xy[0] = 100
        zero = np.zeros(n_cells)
        yield Tracks(frame, round(t * 1e9), np.arange(1, n_cells + 1), np.concatenate([xy - 4, xy + 4], axis=1), xy,
                     zero + 1, zero > 0, np.zeros((n_cells, 2)), np.empty(0, np.int64))  # fmt: skip


def test_a_track_without_end_is_measured_in_flat_memory():
    accumulator = KinematicsAccumulator(KinematicsConfig(jitter_px=0), SCALE, (640, 480))
    sizes = []
    for tracks in endless(4000):
        accumulator.add(tracks)
        sizes.append(accumulator._buffers.xy.nbytes)
    assert len(set(sizes[1:])) == 1
    rows = accumulator.finish()
    assert rows.n_frames.tolist() == [4000] * 6
    assert rows.duration_s == pytest.approx(3999 / 50)
    chord = 2 * 40 * np.sin(3.75 / 50 / 2) * 50
    np.testing.assert_allclose(rows.vcl_px_s[1:], chord, rtol=1e-9)
    np.testing.assert_allclose(rows.vap_px_s[1:], 150 * np.sinc(3.75 * 0.05 / np.pi), rtol=1e-3)
    assert rows.motility_grade.tolist() == ["d", *"aaaaa"]
    np.testing.assert_allclose(rows.time_by_grade_s.sum(axis=1), 3999 / 50)


def test_slots_are_used_again_and_samples_do_not_mix():
    buffers = TrackBuffers(capacity=8)
    for frame in range(500):
        ids = np.array([frame, frame + 1])  # each track lives for two frames
        buffers.append(ids, frame, frame * 1000, np.stack([ids, ids], axis=1).astype(float))
        if frame:
            index, _, xy = buffers.samples(buffers.slot_of[frame])
            assert index.tolist() == [frame - 1, frame]
            assert (xy == frame).all()
        buffers.release(frame)
    assert len(buffers.n) == 32


def still_field(n_cells, n_frames=100, predicted_share=0.0, seed=0):
    rng = np.random.default_rng(seed)
    place = rng.uniform([0, 0], [640, 480], (n_cells, 2))
    frame = np.repeat(np.arange(n_frames), n_cells)
    x, y = np.tile(place, (n_frames, 1)).T
    predicted = rng.random(len(frame)) < predicted_share
    zero = np.zeros(len(frame))
    return TrackTable(frame, zero, frame * 20_000_000, np.tile(np.arange(n_cells), n_frames), x, y, zero + 9, zero + 9,
                      np.where(predicted, np.nan, x), np.where(predicted, np.nan, y), zero + 1, predicted)  # fmt: skip


def test_concentration_is_heads_over_the_volume_in_view():
    _, summary = analyse_tracks(still_field(40, predicted_share=0.05), None, SCALE, (640, 480))
    volume_ml = 640 * 0.4e-4 * 480 * 0.4e-4 * 20e-4  # cm^3
    assert summary.heads_per_frame == 40
    assert summary.concentration_m_per_ml == pytest.approx(40 / volume_ml / 1e6 * 1.25)


def test_heads_out_of_the_picture_do_not_count():
    table = still_field(10)
    shift = np.where(table.track_id < 4, 1000.0, 0.0)
    columns = table.columns() | {"cx_px": table.cx_px + shift, "x_measured_px": table.x_measured_px + shift}
    _, summary = analyse_tracks(TrackTable(**columns), None, SCALE, (640, 480))
    assert summary.heads_per_frame == 6


def test_pictures_without_a_track_count_as_empty():
    table = still_field(10)
    table = table.select((table.frame < 20) | (table.frame >= 70))
    _, summary = analyse_tracks(table, None, SCALE, (640, 480))
    assert summary.heads_per_frame == pytest.approx(5)
    _, summary = analyse_tracks(table, None, SCALE, (640, 480), n_frames=200)
    assert summary.heads_per_frame == pytest.approx(2.5)


def test_motility_weighs_tracks_by_their_time_in_view():
    """One immotile cell seen for 4 s against four swimmers of one second each: half and half."""
    tables = []
    for number in range(5):
        frame = np.arange(201) if number == 0 else np.arange(51) + 50 * (number - 1)
        t = frame / 50
        x = 100 + (0 if number == 0 else 100) * t
        zero = np.zeros(len(t))
        tables.append(TrackTable(frame, zero, np.round(t * 1e9), zero + number, x, zero + 9, zero + 9, zero + 9, x,
                                 zero + 9, zero + 1, zero > 0))  # fmt: skip
    _, summary = analyse_tracks(TrackTable.concatenate(tables), KinematicsConfig(jitter_px=0), SCALE)
    assert summary.motility_percent == pytest.approx({"a": 50, "b": 0, "c": 0, "d": 50, "pr": 50, "total": 50})
    assert summary.graded_time_s == pytest.approx(8)


def test_an_empty_field_is_empty_and_not_unknown():
    accumulator = KinematicsAccumulator(KinematicsConfig(), SCALE, (640, 480))
    nothing = np.empty(0)
    for frame in range(60):
        rows = accumulator.add(Tracks(frame, frame * 20_000_000, nothing, nothing.reshape(0, 4), nothing.reshape(0, 2),
                                      nothing, nothing, nothing.reshape(0, 2), nothing))  # fmt: skip
        assert len(rows) == 0
    assert len(accumulator.finish()) == 0
    summary = accumulator.summary()
    assert summary.heads_per_frame == 0
    assert summary.concentration_m_per_ml == 0
    assert summary.motility_percent["pr"] is None
    assert summary.jitter_px is None
    assert summary.drift_px_s is None


def test_no_frame_at_all_is_unknown():
    accumulator = KinematicsAccumulator(KinematicsConfig(), SCALE, (640, 480))
    assert len(accumulator.finish()) == 0
    assert accumulator.summary().concentration_m_per_ml is None
    empty = random_tracks().select(slice(0, 0))
    rows, summary = analyse_tracks(empty, None, SCALE, (640, 480))
    assert len(rows) == 0
    assert summary.heads_per_frame is None


def test_a_stage_that_is_opened_again_begins_anew():
    stage = KinematicsStage(KinematicsConfig(), SCALE, (640, 480))
    for _ in range(2):
        stage.open()
        for tracks in frames_of(still_field(5)):
            list(stage.process(tracks))
        assert sum(len(rows) for rows in stage.flush()) == 5
        stage.close()
    assert stage.summary().n_tracks == 5

"""Kinematics of tracks that nobody here simulated, against the definitions written out a second time.

The second computation shares no code, no arrays and no way of going about it with casa.kinematics: plain loops
over samples, the running mean as an explicit sum over trapezia.
"""

import csv
import gzip
import itertools
import math

import numpy as np
import pytest

from casa.config import KinematicsConfig
from casa.kinematics import analyse_tracks
from casa.types import Calibration, TrackTable

FPS = 60.0
SCALE = 0.5
WINDOW_S = 0.1


def _read(path, inside_only):
    """{track: [(frame, x, y)]} from a truth table."""
    tracks = {}
    with gzip.open(path, "rt") as stream:
        for row in csv.DictReader(stream):
            x, y = float(row["cx_px"]), float(row["cy_px"])
            if inside_only and not (0 <= x < 500 and 0 <= y < 500):
                continue
            tracks.setdefault(int(row["track_id"]), []).append((int(row["frame"]), x, y))
    return {track: sorted(samples) for track, samples in tracks.items()}


def _table(tracks):
    rows = [(frame, track, x, y) for track, samples in tracks.items() for frame, x, y in samples]
    frame, track, x, y = (np.array(column) for column in zip(*rows, strict=True))
    zero, one = np.zeros(len(rows)), np.ones(len(rows))
    return TrackTable(frame, zero, np.round(frame * 1e9 / FPS), track, x, y, one, one, x, y, one, zero > 0)


def _position(samples, t):
    """Where the polyline through (t, x, y) samples is at a time."""
    for (t0, x0, y0), (t1, x1, y1) in itertools.pairwise(samples):
        if t0 - 1e-9 <= t <= t1 + 1e-9:
            part = (t - t0) / (t1 - t0)
            return x0 + part * (x1 - x0), y0 + part * (y1 - y0)
    raise AssertionError(t)


def _mean_position(samples, middle, window):
    """Mean of the polyline over the window about a time: the sum over its trapezia, over the window."""
    begin, end = middle - window / 2, middle + window / 2
    knots = [begin] + [t for t, _, _ in samples if begin < t < end] + [end]
    sum_x = sum_y = 0.0
    points = [_position(samples, t) for t in knots]
    for (ta, tb), (a, b) in zip(itertools.pairwise(knots), itertools.pairwise(points), strict=True):
        sum_x += (tb - ta) * (a[0] + b[0]) / 2
        sum_y += (tb - ta) * (a[1] + b[1]) / 2
    return sum_x / window, sum_y / window


def _second_computation(track):
    """VCL, VSL, VAP in um/s and seconds by grade of [(frame, x, y)] without missing frames."""
    samples = [(frame / FPS, x * SCALE, y * SCALE) for frame, x, y in track]
    duration = samples[-1][0] - samples[0][0]
    path = 0.0
    for a, b in itertools.pairwise(samples):
        path += math.dist(a[1:], b[1:])
    vcl = path / duration
    vsl = math.dist(samples[0][1:], samples[-1][1:]) / duration

    average = []
    for i, (t, _, _) in enumerate(samples):
        if t - WINDOW_S / 2 >= samples[0][0] - 1e-9 and t + WINDOW_S / 2 <= samples[-1][0] + 1e-9:
            near = samples[max(0, i - 5) : i + 6]
            window = min(WINDOW_S, 2 * (t - near[0][0]), 2 * (near[-1][0] - t))
            average.append((t, *_mean_position(near, t, window)))
    vap = math.nan
    if len(average) > 1:
        along = sum(math.dist(a[1:], b[1:]) for a, b in itertools.pairwise(average))
        vap = along / (average[-1][0] - average[0][0])

    frames_a_second = round(FPS)
    seconds = dict.fromkeys("abcd", 0.0)
    begin = 0
    while begin + frames_a_second < len(samples):
        seconds[_grade(samples, begin, begin + frames_a_second)] += 1.0
        begin += frames_a_second
    left = samples[-1][0] - samples[begin][0]
    if left > 0:
        begin = max(0, len(samples) - 1 - frames_a_second)
        if samples[-1][0] - samples[begin][0] >= 0.5:
            seconds[_grade(samples, begin, len(samples) - 1)] += left
    return vcl, vsl, vap, seconds


def _grade(samples, begin, end):
    took = samples[end][0] - samples[begin][0]
    distance = math.dist(samples[begin][1:], samples[end][1:]) / took
    if distance >= 25:
        return "a"
    if distance >= 5:
        return "b"
    moved = sum(math.dist(a[1:], b[1:]) for a, b in zip(samples[begin:end], samples[begin + 1 : end + 1], strict=True))
    return "d" if moved / took < 3 else "c"


@pytest.mark.parametrize("clip", ["60fps", "60fps_mode_change"])
@pytest.mark.parametrize("inside_only", [False, True])
def test_speeds_and_grades_agree_with_a_second_computation(shared_data, clip, inside_only):
    tracks = _read(shared_data / "njit_simulated" / f"{clip}_truth.csv.gz", inside_only)
    rows, _ = analyse_tracks(
        _table(tracks), KinematicsConfig(jitter_px=0), Calibration("njit", SCALE, SCALE), (500, 500)
    )
    assert rows.track_id.tolist() == sorted(tracks)
    checked = 0
    for row, track in enumerate(rows.track_id.tolist()):
        frames = [frame for frame, _, _ in tracks[track]]
        if len(frames) < 2 or frames[-1] - frames[0] != len(frames) - 1:
            continue  # left the field and came back: how gaps count is tested on its own
        vcl, vsl, vap, seconds = _second_computation(tracks[track])
        assert rows.n_frames[row] == len(frames)
        assert rows.vcl_um_s[row] == pytest.approx(vcl, rel=0.01, abs=1e-9)
        assert rows.vsl_um_s[row] == pytest.approx(vsl, rel=0.01, abs=1e-9)
        assert rows.vap_um_s[row] == pytest.approx(vap, rel=0.01, abs=1e-9, nan_ok=True)
        wanted = max("abcd", key=lambda grade: seconds[grade]) if sum(seconds.values()) else ""
        assert rows.motility_grade[row] == wanted, (track, seconds, rows.time_by_grade_s[row])
        np.testing.assert_allclose(rows.time_by_grade_s[row], list(seconds.values()), atol=1e-6)
        checked += 1
    assert checked >= (30 if inside_only else 55)


def test_modes_of_the_simulation_come_out_as_what_they_are(shared_data):
    path = shared_data / "njit_simulated" / "60fps_truth.csv.gz"
    with gzip.open(path, "rt") as stream:
        mode = {int(row["track_id"]): row["mode"] for row in csv.DictReader(stream)}
    rows, _ = analyse_tracks(_table(_read(path, False)), KinematicsConfig(), Calibration("njit", SCALE, SCALE))
    by_mode = {
        name: rows.select(np.array([mode[track] == name for track in rows.track_id.tolist()]))
        for name in ("linear_mean", "circular", "hyperactive", "immotile")
    }
    assert set(by_mode["immotile"].motility_grade.tolist()) == {"d"}
    assert set(by_mode["circular"].motility_grade.tolist()) == {"a"}  # swims in a circle: progressive by WHO
    straight = by_mode["linear_mean"].select(by_mode["linear_mean"].duration_s > 2)
    assert np.median(straight.vsl_um_s) == pytest.approx(25, rel=0.02)
    assert (by_mode["circular"].lin < 0.1).all()
    assert (by_mode["hyperactive"].mad_deg > 80).all()

"""Clips from frames and tracks: how many, of which frames, where they are centred, and what is flagged."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from casa.cells import CLIP_FRAMES, CLIP_SIZE_PX, Clip, ClipFlag
from casa.clips import ClipStage
from casa.config import ClipsConfig
from casa.types import Calibration, Frame, Tracks

WIDTH, HEIGHT = 400, 320


def picture(heads: list[tuple[float, float]], seed: int = 0, noise: float = 3.0) -> NDArray[np.uint8]:
    """Bright heads with a dark rim, the middle of each where it is said to be, px from the top-left corner."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    image = np.full((HEIGHT, WIDTH), 90.0)
    for cx, cy in heads:
        u, v = (x - cx) / 5.0, (y - cy) / 3.5
        r2 = u * u + v * v
        image += 110 * np.exp(-(r2**2)) - 40 * np.exp(-((np.sqrt(r2) - 2.0) ** 2) / 0.3)
    return np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8)


def tracks_of(
    index: int,
    t_ns: int,
    heads: dict[int, tuple[float, float]],
    missed: tuple[int, ...] = (),
    ended: tuple[int, ...] = (),
) -> Tracks:
    xy = np.array(list(heads.values())).reshape(-1, 2)
    ids = np.array(list(heads), np.int64)
    predicted = np.isin(ids, missed)
    boxes = np.concatenate([xy - 10, xy + 10], axis=1).astype(np.float32)
    return Tracks(
        index, t_ns, ids, boxes, np.where(predicted[:, None], np.nan, xy), np.ones(len(ids), np.float32), predicted,
        np.zeros((len(ids), 2)), np.asarray(ended, np.int64),
    )  # fmt: skip


def play(
    n: int, fps_hz: float = 50.0, config: ClipsConfig | None = None, jitter: float = 0.0, x0: float = 150.0
) -> Iterator[tuple[Frame, Tracks]]:
    """One head that swims to the right at 20 px/s; times are jittered by a share of the interval."""
    rng = np.random.default_rng(1)
    for index in range(n):
        t_s = (index + jitter * rng.uniform(-0.5, 0.5)) / fps_hz
        head = (x0 + 20 * t_s, 160.0)
        yield Frame(index, round(t_s * 1e9), picture([head], index)), tracks_of(index, round(t_s * 1e9), {1: head})


@pytest.fixture
def stage() -> Iterator[ClipStage]:
    stage = ClipStage()
    stage.open()
    yield stage
    stage.close()


def run(stage: ClipStage, items: Iterator[tuple[Frame, Tracks]]) -> list[Clip]:
    clips = [clip for frame, tracks in items for item in (frame, tracks) for clip in stage.process(item)]
    return clips + list(stage.flush())


def test_a_track_gives_a_clip_each_16_15_s_and_the_head_is_at_its_middle(stage: ClipStage):
    clips = run(stage, play(160))
    assert [clip.clip_id for clip in clips] == [1, 2, 3][: len(clips)]
    assert len(clips) == 2
    for clip in clips:
        assert clip.images.shape == (CLIP_FRAMES, CLIP_SIZE_PX, CLIP_SIZE_PX)
        assert not clip.flags.any()
        assert np.allclose(clip.centre_xy_px[:, 0], 150 + 20 * clip.t_ns / 1e9, atol=0.15)
        assert np.allclose(clip.centre_xy_px[:, 1], 160, atol=0.15)
        bright = clip.images.astype(float) > 150
        y, x = np.nonzero(bright.any(0))
        assert abs(x.mean() + 0.5 - CLIP_SIZE_PX / 2) < 0.3
        assert abs(y.mean() + 0.5 - CLIP_SIZE_PX / 2) < 0.3


@pytest.mark.parametrize("fps_hz", [15.0, 24.5, 30.0, 49.0, 60.0, 163.0])
def test_pictures_are_a_fifteenth_of_a_second_apart_at_any_rate(stage: ClipStage, fps_hz: float):
    clip = run(stage, play(round(1.2 * fps_hz), fps_hz, jitter=0.2))[0]
    ticks = clip.t_ns[0] + np.arange(CLIP_FRAMES) * 1e9 / 15
    assert (np.abs(clip.t_ns - ticks) <= 0.62e9 / fps_hz).all()
    assert not (clip.flags & ClipFlag.REPEATED).any()


def test_a_source_of_12_frames_a_second_repeats_one_picture_in_five(stage: ClipStage):
    clip = run(stage, play(15, 12.0))[0]
    repeated = clip.flags & ClipFlag.REPEATED != 0
    assert repeated.sum() == 3
    assert len(np.unique(clip.frames[~repeated])) == 13


def test_tracks_may_come_before_or_after_their_frames(stage: ClipStage):
    items = list(play(60))
    together = run(stage, iter(items))
    frames_first = [c for part in zip(*items, strict=True) for item in part for c in stage.process(item)]
    assert together[0].images.tolist() == frames_first[0].images.tolist()


def test_a_border_is_filled_with_the_background_and_flagged(stage: ClipStage):
    clip = run(stage, play(60, x0=30.0))[0]
    assert (clip.flags & ClipFlag.BORDER).all()
    assert np.abs(clip.images[:, 75, 20].astype(int) - 90).max() < 6
    assert np.allclose(clip.centre_xy_px[:, 0], 30 + 20 * clip.t_ns / 1e9, atol=0.15)


def test_a_short_track_is_filled_up_with_its_last_picture(stage: ClipStage):
    (clip,) = run(stage, play(30))
    assert len(clip) == CLIP_FRAMES
    assert (clip.flags & ClipFlag.REPEATED != 0).tolist() == [False] * 8 + [True] * 8
    assert len(set(clip.frames.tolist())) == 8
    assert run(ClipStage(), play(15)) == []


def test_a_missed_head_is_found_by_its_template(stage: ClipStage):
    items = []
    for frame, tracks in play(60):
        (x, y), gap = tracks.measured_xy_px[0], 20 <= frame.index < 28
        at = {1: (x + 3, y)} if gap else {1: (x, y)}  # the filter is 3 px off
        items.append((frame, tracks_of(frame.index, frame.t_ns, at, missed=(1,) if gap else ())))
    clip = run(stage, iter(items))[0]
    predicted = clip.flags & ClipFlag.PREDICTED != 0
    assert predicted.sum() in (2, 3)
    assert not (clip.flags & ClipFlag.LOST).any()
    assert np.abs(clip.centre_xy_px[:, 0] - 150 - 20 * clip.t_ns / 1e9).max() < 0.2


def test_a_head_that_vanishes_is_lost_where_the_track_says(stage: ClipStage):
    items = []
    for frame, tracks in play(60):
        gone = 30 <= frame.index < 40
        image = picture([], frame.index) if gone else frame.image
        items.append((Frame(frame.index, frame.t_ns, image), tracks))
    clip = run(stage, iter(items))[0]
    lost = clip.flags & ClipFlag.LOST != 0
    assert (lost == ((clip.frames >= 30) & (clip.frames < 40))).all()
    assert (clip.score[lost] < 0.5).all()
    assert (clip.score[~lost] > 0.8).all()


def test_heads_that_meet_are_flagged_and_kept_apart(stage: ClipStage):
    items, n = [], 100
    for index in range(n):
        t_ns, along = index * 20_000_000, 1.2 * (index - 30)
        heads = {1: (200 + along, 155.0), 2: (200 - along, 165.0)}
        items.append((Frame(index, t_ns, picture(list(heads.values()), index)), tracks_of(index, t_ns, heads)))
    clips = run(stage, iter(items))
    for clip in clips:
        truth = 200 + (1 if clip.track_id == 1 else -1) * 1.2 * (clip.frames - 30)
        distance = np.hypot(2 * 1.2 * (clip.frames - 30), 10)
        assert ((clip.flags & ClipFlag.CROSSING != 0) == (distance < 20)).all()
        assert np.abs(clip.centre_xy_px[:, 0] - truth).max() < 2.0


def test_sixteen_bit_frames_are_brought_to_eight(stage: ClipStage):
    twelve = ClipStage(white_level=4095)
    eight_bits = run(stage, play(60))[0]
    deep = [(Frame(f.index, f.t_ns, f.image.astype(np.uint16) * 16), t) for f, t in play(60)]
    twelve_bits = run(twelve, iter(deep))[0]
    assert np.abs(eight_bits.images.astype(int) - twelve_bits.images).max() <= 2  # 16 / 4095 is not 1 / 255


def test_colour_frames_are_taken_by_their_luma(stage: ClipStage):
    gray = run(stage, play(60))[0]
    coloured = [(Frame(f.index, f.t_ns, cv2.cvtColor(f.image, cv2.COLOR_GRAY2RGB)), t) for f, t in play(60)]
    assert (run(ClipStage(), iter(coloured))[0].images == gray.images).all()


def test_the_scale_is_the_calibrations():
    stage = ClipStage(calibration=Calibration("x", 0.5, 0.5), frame_size_px=(WIDTH, HEIGHT))
    assert run(stage, play(60))[0].um_per_px == 0.5
    assert run(ClipStage(), play(60))[0].um_per_px is None


def test_clips_may_overlap_or_leave_gaps():
    overlapping = run(ClipStage(ClipsConfig(every_s=0.2)), play(100))
    assert np.allclose(np.diff([clip.t_ns[0] / 1e9 for clip in overlapping]), 0.2, atol=0.02)
    apart = run(ClipStage(ClipsConfig(every_s=1.6)), play(190))
    assert np.allclose(np.diff([clip.t_ns[0] / 1e9 for clip in apart]), 1.6, atol=0.02)


def test_a_track_that_was_away_begins_a_new_clip(stage: ClipStage):
    items = []
    for frame, tracks in play(120):
        away = 30 <= frame.index < 60
        items.append((frame, tracks_of(frame.index, frame.t_ns, {}) if away else tracks))
    first, second = run(stage, iter(items))
    assert first.frames.max() < 30
    assert second.frames.min() >= 60


def test_ended_tracks_give_their_clip_at_once_and_are_forgotten(stage: ClipStage):
    items = list(play(40))
    for frame, tracks in items[:-1]:
        assert not list(stage.process(frame)) + list(stage.process(tracks))
    frame, _ = items[-1]
    (clip,) = [*stage.process(frame), *stage.process(tracks_of(frame.index, frame.t_ns, {}, ended=(1,)))]
    assert clip.track_id == 1
    assert list(stage.flush()) == []


def test_a_source_that_stood_still_gives_no_clip_of_one_picture(stage: ClipStage):
    items = [
        (Frame(f.index, f.t_ns + 30_000_000_000 * (f.index >= 25), f.image), t) for f, t in play(100)
    ]  # the head is where it was, 30 s later
    items = [(f, tracks_of(f.index, f.t_ns, {1: tuple(t.measured_xy_px[0])})) for f, t in items]
    clips = run(stage, iter(items))
    assert len(clips) == 2
    for clip in clips:
        assert clip.t_ns[-1] - clip.t_ns[0] < 1.1e9
    assert clips[0].frames.max() < 25 <= clips[1].frames.min()
    assert not clips[1].flags.any()


def test_simulated_heads_are_within_some_tenths_of_a_pixel_of_the_middle():
    from casa.simulate.scene import simulate

    scene, rng, stage = simulate("sparse", 5, n_frames=70), np.random.default_rng(0), ClipStage()
    truth, clips = scene.truth(), []
    middle = {}
    for frame in scene.frames():
        assert isinstance(frame, Frame)
        now = truth.select(truth.frame == frame.index)
        xy = np.stack([now.x_measured_px, now.y_measured_px], axis=1)
        middle |= {(int(k), frame.index): place for k, place in zip(now.track_id, xy, strict=True)}
        boxes = zip(now.track_id.tolist(), (xy + rng.normal(0, 1.2, xy.shape)).tolist(), strict=True)
        tracks = tracks_of(frame.index, frame.t_ns, {k: tuple(place) for k, place in boxes})
        clips += [*stage.process(frame), *stage.process(tracks)]
    clips += stage.flush()
    errors = [
        np.hypot(*(place - middle[clip.track_id, k]))
        for clip in clips
        for k, place in zip(clip.frames.tolist(), clip.centre_xy_px, strict=True)
        if (clip.track_id, k) in middle
    ]
    assert len(errors) > 80
    assert np.mean(errors) < 0.7  # of the boxes themselves: 1.5

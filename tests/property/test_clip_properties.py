"""What holds of clips whatever the picture: matches move with it, times are met by the nearest frames."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from casa.cells import CLIP_FRAMES, ClipFlag
from casa.clips.assemble import ClipAssembler
from casa.clips.match import correlate, crowded, cut_shifted, cut_template, cut_window, find_template
from casa.config import ClipsConfig
from casa.types import Frame, Tracks

seeds = st.integers(0, 2**16)
TICK_NS = 1e9 / 15


def smooth_picture(seed: int, height: int = 90, width: int = 110) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (height, width)).astype(np.float32)
    blurred = cv2.GaussianBlur(noise, (0, 0), 3)
    image = (128 + 40 * blurred / blurred.std()).clip(0, 255).astype(np.uint8)
    image.setflags(write=False)
    return image


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(-4, 4), st.integers(-4, 4))
def test_a_template_is_found_where_the_picture_was_moved_to(seed: int, dx: int, dy: int):
    image = smooth_picture(seed)
    template = cut_template(image, 40, 30, 21)
    moved = np.roll(image, (dy, dx), (0, 1))
    moved.setflags(write=False)
    x, y, score, inside = find_template(moved, template, 40, 30, 5)
    x0, y0, *_ = find_template(image, template, 40, 30, 5)
    assert inside
    assert score > 0.999
    assert abs(x - x0 - dx) < 1e-3
    assert abs(y - y0 - dy) < 1e-3


@settings(max_examples=40, deadline=None)
@given(seeds, st.floats(-2, 2), st.floats(-2, 2), st.floats(0.4, 0.8), st.floats(5, 45))
def test_fractions_of_a_pixel_are_found_whatever_the_brightness(
    seed: int, dx: float, dy: float, gain: float, offset: float
):
    image = smooth_picture(seed)
    template = cut_template(image, 40, 30, 21)
    warp = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    moved = cv2.warpAffine(image.astype(np.float32), warp, image.shape[::-1], flags=cv2.INTER_CUBIC)
    moved = (moved * gain + offset).clip(0, 255).astype(np.uint8)
    moved.setflags(write=False)
    x, y, score, _ = find_template(moved, template, 40, 30, 5)
    assert score > 0.9
    assert np.hypot(x - dx, y - dy) < 0.2


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(-12, 100), st.integers(-12, 80), st.integers(9, 24), st.integers(2, 6))
def test_correlations_are_opencvs(seed: int, left: int, top: int, size: int, reach: int):
    image = smooth_picture(seed)
    template = cut_template(smooth_picture(seed + 1), 20, 20, size)
    found = correlate(image, template, left, top, reach)
    pad = 40
    padded = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_REPLICATE).astype(np.float32)
    x, y, side = left - reach + pad, top - reach + pad, size + 2 * reach
    theirs = cv2.matchTemplate(padded[y : y + side, x : x + side], template, cv2.TM_CCOEFF_NORMED)
    assert np.abs(found - theirs).max() < 2e-3


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(1, 8), st.integers(1, 8), st.floats(0, 0.999), st.floats(0, 0.999))
def test_pictures_are_cut_untouched_at_whole_pixels_and_smoothly_between(
    seed: int, left: int, top: int, fx: float, fy: float
):
    window = smooth_picture(seed)[:60, :60].copy()
    out = np.empty((48, 48), np.uint8)
    cut_shifted(window, float(left), float(top), out)
    assert (out == window[top : top + 48, left : left + 48]).all()
    cut_shifted(window, left + fx, top + fy, out)
    warp = np.array([[1, 0, -left - fx], [0, 1, -top - fy]], np.float64)
    theirs = cv2.warpAffine(window.astype(np.float32), warp, (48, 48), flags=cv2.INTER_CUBIC)
    assert np.abs(out - theirs).max() < 4


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(-80, 130), st.integers(-80, 110))
def test_windows_hold_the_picture_where_it_is_and_its_gray_where_it_is_not(seed: int, left: int, top: int):
    image = smooth_picture(seed)
    window = np.empty((60, 60), np.uint8)
    cut_window(image, left, top, 1.0, window)
    padded = np.full((90 + 240, 110 + 240), -1, np.int64)
    padded[120:210, 120:230] = image
    expected = padded[top + 120 : top + 180, left + 120 : left + 180]
    inside = expected >= 0
    assert (window[inside] == expected[inside]).all()
    filled = np.unique(window[~inside])
    assert len(filled) <= 1
    if len(filled) and inside.any():
        assert expected[inside].min() <= filled[0] <= expected[inside].max()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 12), seeds)
def test_crossing_is_mutual_and_of_pairs_that_are_near(n: int, seed: int):
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, 100, (n, 2))
    boxes = np.concatenate([xy - 10, xy + 10], axis=1).astype(np.float32)
    distance = np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1)) + 1e3 * np.eye(n)
    assert (crowded(boxes, 1.0) == (distance < 20).any(axis=1)).all()


@settings(max_examples=40, deadline=None)
@given(st.floats(5, 240), st.floats(0, 0.9), st.floats(0, 0.4), seeds)
def test_every_tick_is_met_by_the_frame_nearest_to_it(fps_hz: float, jitter: float, lost: float, seed: int):
    rng = np.random.default_rng(seed)
    n = int(2.5 * fps_hz) + 2
    t_ns = np.round((np.arange(n) + jitter * rng.uniform(-0.5, 0.5, n)) / fps_hz * 1e9).astype(np.int64) + 10**18
    t_ns = t_ns[(rng.uniform(size=n) >= lost) | (np.arange(n) == 0)]
    image = smooth_picture(seed, 60, 60)
    assembler = ClipAssembler(ClipsConfig(max_missed_s=100.0, min_frames=16))
    clips = []
    for k, t in enumerate(t_ns.tolist()):
        tracks = Tracks(
            k, t, np.array([1]), np.array([[20, 20, 40, 40]], np.float32), np.array([[30.0, 30.0]]),
            np.ones(1, np.float32), np.zeros(1, np.bool_), np.zeros((1, 2)), np.empty(0, np.int64),
        )  # fmt: skip
        clips += assembler.update(Frame(k, t, image), tracks)
    assert clips or t_ns[-1] - t_ns[0] < 17 * TICK_NS + 2 * np.diff(t_ns).max(initial=0)
    for clip in clips:
        assert len(clip) == CLIP_FRAMES
        assert (t_ns[clip.frames] == clip.t_ns).all()
        grid = _grid(clip.t_ns, clips[0].t_ns)
        away = np.abs(np.subtract.outer(grid, t_ns.astype(np.float64)))
        assert (np.abs(clip.t_ns - grid) <= away.min(axis=1) + 1000).all()
        late = np.abs(clip.t_ns - grid) - TICK_NS / 2
        repeated = clip.flags & ClipFlag.REPEATED != 0
        sure = np.abs(late) > 1000  # ns, by which ticks are rounded
        assert (repeated == (late > 0))[sure].all()


def _grid(t_ns: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The clip's ticks: a track's ticks go on from its first picture, clip after clip."""
    start = float(first[0])
    clip = round((float(t_ns[0]) - start) / TICK_NS / CLIP_FRAMES)
    return start + (clip * CLIP_FRAMES + np.arange(CLIP_FRAMES)) * TICK_NS

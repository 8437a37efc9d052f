"""Finding interlaced video by measurement, and taking its fields apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from casa.sources.interlace import measure_combing, separate_fields


def scene(time: float, rng: np.random.Generator, noise: float = 0.0, vertical: float = 0.0) -> np.ndarray:
    """(h, w) uint8: round bright heads that move by a few px a unit of time over a gray background."""
    y, x = np.mgrid[0:120, 0:160].astype(float)
    image = np.full(y.shape, 90.0)
    for number in range(8):
        cx = 20 + 15 * number + (2.0 + 0.3 * number) * time
        cy = 15 + 12 * number + (vertical + 0.4 * number - 1.4) * time
        image += 110 * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 3.0**2))
    return (
        np.clip(image + rng.normal(0, noise, image.shape), 0, 255).astype(np.uint8) if noise else image.astype(np.uint8)
    )


def video(interlaced: bool, bottom_first: bool = False, noise: float = 0.0, vertical: float = 0.0) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    frames = []
    for number in range(14):
        frame = scene(number, rng, noise, vertical)
        if interlaced:
            late = scene(number + 0.5, rng, noise, vertical)
            lines = slice(0, None, 2) if bottom_first else slice(1, None, 2)
            frame[lines] = late[lines]
        frames.append(frame)
    return frames


@pytest.mark.parametrize("noise", [0.0, 3.0, 8.0])
@pytest.mark.parametrize("bottom_first", [False, True])
def test_combing_and_its_order_are_found(noise, bottom_first):
    combing = measure_combing(video(True, bottom_first, noise))
    assert combing.combed
    assert combing.bottom_first is bottom_first


@pytest.mark.parametrize("noise", [0.0, 3.0, 8.0, 25.0])
@pytest.mark.parametrize("vertical", [0.0, 1.0, -2.5])
def test_motion_and_noise_are_not_taken_for_combing(noise, vertical):
    assert not measure_combing(video(False, noise=noise, vertical=vertical)).combed


def test_a_still_picture_decides_nothing():
    still = [scene(0, np.random.default_rng(0))] * 12
    assert not measure_combing(still).decided
    assert not measure_combing(still[:1]).decided


def test_repeated_frames_do_not_hide_combing():
    frames = video(True)
    assert measure_combing([frame for frame in frames for _ in range(2)]).combed


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.one_of(
            st.tuples(st.integers(2, 9), st.integers(1, 5)),
            st.tuples(st.integers(2, 9), st.integers(1, 5), st.just(3)),
        ),
    ),
    st.booleans(),
)
def test_a_field_keeps_its_lines_and_takes_the_others_between(image, bottom_first):
    first, second = separate_fields(image, bottom_first)
    top, bottom = (second, first) if bottom_first else (first, second)
    for field, own in ((top, 0), (bottom, 1)):
        assert field.dtype == image.dtype
        assert field.shape == image.shape
        assert np.array_equal(field[own::2], image[own::2])
        wide = image.astype(np.int64)
        for line in range(1 - own, len(image), 2):
            around = [wide[k] for k in (line - 1, line + 1) if 0 <= k < len(image)]
            expected = (around[0] + around[-1] + 1) // 2 if len(around) == 2 else around[0]
            assert np.array_equal(field[line], expected)


def test_what_is_still_is_at_the_same_height_in_both_fields():
    """A field shown without its half-line offset would put everything half a line off."""
    image = scene(0, np.random.default_rng(0))
    y = np.arange(len(image))[:, None]
    heights = [((field - 90.0) * y).sum() / (field - 90.0).sum() for field in separate_fields(image, False)]
    assert heights[0] == pytest.approx(heights[1], abs=0.05)

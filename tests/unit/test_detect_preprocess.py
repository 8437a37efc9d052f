import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from casa.detect.preprocess import prepare, to_gray
from casa.errors import InputError


def test_a_picture_that_fits_is_not_touched():
    image = np.random.default_rng(0).integers(0, 255, (480, 640), np.uint8)
    gray, geometry = prepare(image, 16)
    assert np.shares_memory(gray, image)
    assert (geometry.scale, geometry.width_px, geometry.height_px) == (1.0, 640, 480)


def test_small_pictures_are_filled_up_and_not_enlarged():
    image = np.random.default_rng(0).integers(0, 255, (33, 47), np.uint8)
    gray, _ = prepare(image, 16)
    assert gray.shape == (48, 48)
    np.testing.assert_array_equal(gray[:33, :47], image)
    np.testing.assert_array_equal(gray[33:, :47], np.repeat(image[-1:], 15, axis=0))


@given(
    st.integers(20, 900), st.integers(20, 900), st.floats(0.2, 3.0), st.sampled_from([8, 16, 32]), st.integers(0, 1000)
)
def test_boxes_come_back_from_the_network_where_they_were(
    width: int, height: int, scale: float, multiple: int, seed: int
):
    gray, geometry = prepare(np.zeros((height, width), np.uint8), multiple, scale)
    assert gray.shape[0] % multiple == 0
    assert gray.shape[1] % multiple == 0
    corners = np.random.default_rng(seed).uniform(0, 1, (5, 2, 2)) * [width, height]
    xyxy = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)
    np.testing.assert_allclose(geometry.to_picture(geometry.to_network(xyxy)), xyxy, atol=1e-3)


def test_a_spot_lies_where_the_geometry_says():
    image = np.zeros((100, 120), np.uint8)
    image[40:44, 60:64] = 255
    for scale in (0.5, 1.0, 2.0):
        gray, geometry = prepare(image, 16, scale)
        rows, columns = np.nonzero(gray > 128)
        box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
        np.testing.assert_allclose(geometry.to_picture(box), [[60, 40, 64, 44]], atol=1.0)


def test_boxes_are_cut_at_the_border():
    _, geometry = prepare(np.zeros((50, 60), np.uint8), 16)
    assert geometry.to_picture(np.array([[-5, -6, 100, 99]], np.float32)).tolist() == [[0, 0, 60, 50]]


def test_sixteen_bits_are_scaled_by_the_white_level_that_is_stated():
    image = np.array([[0, 2048, 4095, 65535]], np.uint16)
    assert to_gray(image, 4095).tolist() == [[0, 128, 255, 255]]
    assert to_gray(image, 65535).tolist() == [[0, 8, 16, 255]]


def test_colour_becomes_luma():
    image = np.zeros((2, 3, 3), np.uint8)
    image[..., 1] = 100
    assert (to_gray(image, 255) == 59).all()


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4), np.uint8), np.zeros(4, np.uint8)],
    ids=["float", "four channels", "no rows", "one axis"],
)
def test_other_pictures_are_refused_in_one_line(image: np.ndarray):
    with pytest.raises(InputError, match="the detector takes pictures") as caught:
        prepare(image, 16)
    assert "\n" not in str(caught.value)

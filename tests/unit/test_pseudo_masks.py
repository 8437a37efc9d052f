"""Pseudo-masks: right on rendered heads, and an abstention with its reason wherever there is no one head."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from casa.morphology.pseudo_masks import (
    HeadMask,
    HeadProblem,
    HpmOptions,
    find_head,
    oriented_crop,
    pseudo_mask,
    pseudo_masks,
)
from casa.simulate.heads import RenderedHeads, render_heads


def overlap(mask: np.ndarray, truth: np.ndarray) -> float:
    return float((mask & truth).sum() / (mask | truth).sum())


def turned_by(found: float, truth: float) -> float:
    return abs((found - truth + 180) % 360 - 180)


def judged(heads: RenderedHeads) -> tuple[np.ndarray, np.ndarray]:
    """IoU with truth and error of direction (degrees) of each crop; 0 and 180 where HPM abstained."""
    found = pseudo_masks(heads.images)
    rows = [
        (overlap(m.head, heads.head[k]), turned_by(m.direction_deg, heads.direction_deg[k]))
        if isinstance(m, HeadMask)
        else (0.0, 180.0)
        for k, m in enumerate(found)
    ]
    return np.array(rows).T


def test_rendered_stained_heads():
    iou, error = judged(render_heads(80, "hushem", seed=900))
    assert iou.mean() >= 0.9
    assert (iou > 0.75).mean() > 0.97
    assert (error <= 15).mean() >= 0.95


@pytest.mark.parametrize(("preset", "least"), [("scian", 0.82), ("mhsma", 0.85), ("phase", 0.88)])
def test_rendered_heads_of_other_looks(preset: str, least: float):
    iou, error = judged(render_heads(40, preset, seed=901))
    assert iou.mean() >= least
    assert (error <= 20).mean() >= 0.9


def ellipse(side: int = 64, angle: float = 30.0, centre=None, fore: int = 60, back: int = 200) -> np.ndarray:
    image = np.full((side, side), back, np.uint8)
    centre = centre or (side // 2, side // 2)
    cv2.ellipse(image, centre, (side // 4, side // 7), angle, 0, 360, fore, -1)
    noise = np.random.default_rng(0).normal(0, 1.5, image.shape)
    return np.clip(cv2.GaussianBlur(image, (0, 0), 1.0) + noise, 0, 255).astype(np.uint8)


def test_a_head_that_all_agree_on():
    found = find_head(ellipse())
    assert isinstance(found, HeadMask)
    truth = np.zeros((64, 64), np.uint8)
    cv2.ellipse(truth, (32, 32), (16, 9), 30, 0, 360, 1, -1)
    assert overlap(found.head, truth > 0) > 0.93
    assert min(turned_by(found.direction_deg, 30), turned_by(found.direction_deg, 210)) < 4
    assert found.centre_xy_px == pytest.approx((32, 32), abs=0.5)
    assert not found.bright
    bright = find_head(255 - ellipse())
    assert isinstance(bright, HeadMask)
    assert bright.bright
    assert overlap(bright.head, found.head) > 0.95


def test_depth_and_colour_make_no_difference():
    gray = ellipse()
    found = find_head(gray)
    assert isinstance(found, HeadMask)
    for same in (gray.astype(np.uint16) * 200, np.repeat(gray[..., None], 3, axis=2)):
        again = find_head(same)
        assert isinstance(again, HeadMask)
        assert overlap(again.head, found.head) > 0.97


def test_the_midpiece_is_behind_and_is_not_the_head():
    image = np.full((131, 131), 210, np.uint8)
    cv2.line(image, (65, 65), (65, 130), 110, 7)
    cv2.ellipse(image, (65, 65), (18, 28), 0, 0, 360, 70, -1)
    found = find_head(cv2.GaussianBlur(image, (0, 0), 1.2))
    assert isinstance(found, HeadMask)
    assert turned_by(found.direction_deg, -90) < 5
    assert not found.head[110:].any()
    assert found.whole[115, 65]


def test_rings_lie_about_the_head_within_the_coarse_mask():
    image = render_heads(1, "hushem", seed=3).images[0]
    found = find_head(image, HpmOptions(layers=4))
    assert isinstance(found, HeadMask)
    assert set(np.unique(found.layers)) <= {0, 1, 2, 3, 4}
    np.testing.assert_array_equal(found.layers == 1, found.head)
    sizes = [(found.layers == layer).sum() for layer in (1, 2, 3, 4)]
    assert sizes[0] > sizes[1] > 0  # what the lens blurs is not sure
    outside = cv2.distanceTransform((~found.head).astype(np.uint8), cv2.DIST_L2, 5)
    assert all(outside[found.layers == layer].max(initial=0) <= 1.5 * (layer - 1) for layer in (2, 3, 4))
    assert (found.nucleus <= found.head).all()
    assert not (found.acrosome & found.nucleus).any()
    one = find_head(image, HpmOptions(layers=1))
    assert isinstance(one, HeadMask)
    assert one.layers.max() == 1


def test_turned_to_the_right():
    heads = render_heads(12, "hushem", seed=31, class_shares=(1, 1, 0, 0))
    for image, truth in zip(heads.images, heads.head, strict=True):
        mask = pseudo_mask(image)
        assert mask is not None
        crop = oriented_crop(image, mask, 64)
        assert crop.shape == (64, 64, 3)
        assert crop.dtype == np.uint8
        ys, xs = np.nonzero(mask.aligned(truth, linear=False))
        assert np.ptp(xs) > 1.2 * np.ptp(ys)
        again = find_head(mask.aligned(image))
        assert isinstance(again, HeadMask)
        assert turned_by(again.direction_deg, 0) < 12


def two_heads() -> np.ndarray:
    image = np.full((100, 100), 200, np.uint8)
    for x in (30, 70):
        cv2.ellipse(image, (x, 50), (10, 17), 0, 0, 360, 60, -1)
    return cv2.GaussianBlur(image, (0, 0), 1.0)


def noise_alone() -> np.ndarray:
    return np.clip(np.random.default_rng(1).normal(128, 6, (64, 64)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.full((64, 64), 130, np.uint8), HeadProblem.ONE_VALUE),
        (np.zeros((64, 64, 3), np.uint16), HeadProblem.ONE_VALUE),
        (noise_alone(), HeadProblem.NO_HEAD),
        (two_heads(), HeadProblem.TWO_HEADS),
        (ellipse(centre=(5, 32), angle=0), HeadProblem.CUT_OFF),
        (np.zeros((10, 64), np.uint8), HeadProblem.WRONG_SIZE),
        (np.zeros((2000, 64), np.uint8), HeadProblem.WRONG_SIZE),
        (np.zeros((64, 64, 2), np.uint8), HeadProblem.WRONG_SIZE),
        (np.zeros(64, np.uint8), HeadProblem.WRONG_SIZE),
        (np.zeros((0, 0), np.uint8), HeadProblem.WRONG_SIZE),
        (np.full((64, 64), np.nan, np.float32), HeadProblem.ONE_VALUE),
    ],
)
def test_no_one_head(image: np.ndarray, reason: HeadProblem):
    assert find_head(image) is reason
    assert pseudo_mask(image) is None


def test_a_batch_goes_on_past_what_it_cannot_use():
    found = pseudo_masks([ellipse(), np.zeros((3, 3), np.uint8), ellipse(angle=80)])
    assert [isinstance(mask, HeadMask) for mask in found] == [True, False, True]


@pytest.mark.parametrize("side", [24, 35, 48, 64, 131, 150, 200, 400])
def test_any_size(side: int):
    found = find_head(ellipse(side))
    assert isinstance(found, HeadMask)
    assert found.head.shape == (side, side)
    truth = np.zeros((side, side), np.uint8)
    cv2.ellipse(truth, (side // 2, side // 2), (side // 4, side // 7), 30, 0, 360, 1, -1)
    assert overlap(found.head, truth > 0) > (0.85 if side > 40 else 0.75)


def test_a_head_in_relief_that_no_threshold_encloses():
    ys, xs = np.mgrid[:64, :64].astype(np.float32)
    reach = np.hypot((xs - 32) / 16, (ys - 32) / 10)
    rim = np.exp(-(((reach - 0.9) / 0.14) ** 2))
    lit = np.clip((ys - 32) / 10, -1, 1)  # dark below, bright above
    image = 130 - 40 * rim * (0.15 + 0.85 * (lit > 0) * lit) + 25 * np.exp(-((reach / 0.5) ** 2))
    image = np.clip(image + np.random.default_rng(0).normal(0, 1, image.shape), 0, 255).astype(np.uint8)
    found = find_head(image)
    assert isinstance(found, HeadMask)
    assert overlap(found.head, reach < 1) > 0.8


def test_abstentions_on_real_unstained_crops_are_few(shared_data):
    crops = np.load(shared_data / "mhsma" / "x_64_valid.npy")
    found = pseudo_masks(crops)
    assert sum(isinstance(mask, HeadMask) for mask in found) >= 0.95 * len(crops)

"""The audit of a set of head crops finds what was put into it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from casa.morphology.audit import audit, audit_folder, duplicate_pairs
from casa.morphology.datasets import HeadImages, rendered_heads, write_heads
from casa.morphology.quality import outliers, picture_quality


@pytest.fixture(scope="module")
def heads() -> HeadImages:
    return rendered_heads(60, "scian", seed=12)[0]


def with_images(heads: HeadImages, images: np.ndarray, **others) -> HeadImages:
    return replace(heads, images=images, **others)


def test_a_clean_set_has_no_duplicates(heads: HeadImages):
    result = audit(heads)
    assert result["crops"] == 60
    assert sum(result["classes"].values()) == 60
    assert result["duplicates"] == {"exact": 0, "near": 0, "across_splits": 0, "other_label": 0, "pairs": []}
    json.dumps(result)


def test_duplicates_are_found_turned_mirrored_and_recompressed(heads: HeadImages):
    images = heads.images.copy()
    images[1] = images[0]
    images[3] = np.rot90(images[2], 1)
    images[5] = images[4][:, ::-1]
    images[7] = cv2.imdecode(cv2.imencode(".jpg", images[6], [cv2.IMWRITE_JPEG_QUALITY, 80])[1], cv2.IMREAD_GRAYSCALE)
    images[9] = np.clip(images[8].astype(int) * 0.9 + 12, 0, 255).astype(np.uint8)
    found = duplicate_pairs(images)
    assert [(a, b) for a, b, _ in found] == [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)]
    assert [exact for _, _, exact in found] == [True, False, False, False, False]


def test_duplicates_that_a_test_suffers_from(heads: HeadImages):
    images, labels = heads.images.copy(), heads.labels.copy()
    images[30], images[31] = images[0], images[1]
    labels[31] = (labels[1] + 1) % 5
    labels[30] = labels[0]
    splits = ("train",) * 30 + ("test",) * 30
    groups = tuple(f"man {k % 20}" for k in range(60))
    result = audit(with_images(heads, images, labels=labels, splits=splits, groups=groups))
    assert result["duplicates"]["across_splits"] == 2
    assert result["duplicates"]["other_label"] == 1
    assert result["groups_across_splits"] == 20
    assert any("scores may flatter" in line for line in result["findings"])
    assert set(result["splits"]) == {"train", "test"}


def test_agreement_of_experts():
    experts = np.array([[0, 0, 0], [1, 1, 0], [0, 1, 2], [2, 2, 2], [1, 1, -1]])
    images = np.random.default_rng(0).integers(0, 255, (5, 30, 30), np.uint8)
    result = audit(HeadImages(images, np.zeros(5), ("a", "b", "c"), tuple("12345"), experts=experts))["experts"]
    assert result["agreement"] == {"none": 1, "partial": 1, "total": 2, "not_all_voted": 1}
    assert result["with_majority"] == pytest.approx([1.0, 1.0, 0.5])
    assert 0 < result["kappa"]["fleiss"] < 1
    assert result["kappa_by_class"]["c"] > result["kappa_by_class"]["a"]


def test_poor_pictures_are_named(heads: HeadImages):
    images = heads.images.copy()
    images[3] = cv2.GaussianBlur(images[3], (0, 0), 5)
    images[7] = 128
    images[9] = np.clip(images[9].astype(int) * 2, 0, 255)
    quality = audit(with_images(heads, images))["quality"]
    assert heads.ids[3] in quality["out_of_focus"]["ids"]
    assert quality["one_value"]["ids"] == [heads.ids[7]]
    assert heads.ids[9] in quality["clipped"]["ids"]
    assert quality["out_of_focus"]["crops"] < 8


def test_edges_widen_with_blur_and_not_with_contrast():
    step = np.full((64, 64), 60, np.uint8)
    step[:, 32:] = 200
    blurred = [cv2.GaussianBlur(step, (0, 0), sigma) for sigma in (1.0, 2.0, 4.0)]
    widths = picture_quality([*blurred, blurred[0] // 3]).edge_px
    assert (np.diff(widths[:3]) > 1).all()
    assert widths[3] == pytest.approx(widths[0], rel=0.05)
    deep = picture_quality([blurred[0].astype(np.uint16) * 257])
    assert deep.edge_px[0] == pytest.approx(widths[0], rel=0.02)
    assert not outliers(np.ones(4), True, True).any()


def test_imbalance_and_sizes_of_a_folder(tmp_path: Path, heads: HeadImages):
    kept = np.concatenate([np.flatnonzero(heads.labels == 0)[:9], np.flatnonzero(heads.labels == 1)[:2]])
    write_heads(tmp_path / "set", replace(heads, experts=None)[kept])
    result = audit_folder(tmp_path / "set", "scian")
    assert result["classes"] == {"normal": 9, "tapered": 2, "pyriform": 0, "amorphous": 0, "small": 0}
    assert result["imbalance"] is None
    assert any("no crop of class pyriform, amorphous, small" in line for line in result["findings"])
    assert result["sizes"] == {"35x35 gray 8 bit": 11}
    result = audit_folder(tmp_path / "set")
    assert result["imbalance"] == 4.5
    assert result["majority_share"] == pytest.approx(9 / 11)


def test_the_real_mhsma(shared_data: Path):
    result = audit_folder(shared_data / "mhsma")
    assert result["crops"] == 1540
    assert result["sizes"] == {"64x64 gray 8 bit": 1540}
    assert result["majority_share"] == pytest.approx(0.73, abs=0.01)

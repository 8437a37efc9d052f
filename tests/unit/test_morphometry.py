"""Measures of heads on shapes whose measures are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from casa.errors import InputError
from casa.morphology.morphometry import MorphometryTable, measure_heads
from casa.morphology.pseudo_masks import HeadMask, HeadProblem, pseudo_masks
from casa.simulate.heads import render_heads


def ellipse_mask(
    length: float, width: float, angle_deg: float = 0.0, acrosome: float = 0.0, side: int = 131
) -> HeadMask:
    ys, xs = np.mgrid[:side, :side] - side / 2 + 0.31
    a = np.radians(angle_deg)
    u, v = xs * np.cos(a) + ys * np.sin(a), ys * np.cos(a) - xs * np.sin(a)
    head = (2 * u / length) ** 2 + (2 * v / width) ** 2 <= 1
    cut = np.quantile(u[head], 1 - acrosome) if acrosome else np.inf
    nucleus = head & (u <= cut)
    layers = head.astype(np.uint8)
    return HeadMask(head, nucleus, head, layers, angle_deg, 1.0, (side / 2 - 0.31, side / 2 - 0.31), False)


@pytest.mark.parametrize("angle", [0.0, 17.0, 45.0, 90.0, -120.0])
@pytest.mark.parametrize(("length", "width"), [(48.0, 32.0), (60.0, 22.0), (30.0, 29.0)])
def test_an_ellipse(length: float, width: float, angle: float):
    table = measure_heads([ellipse_mask(length, width, angle)], um_per_px=0.085)
    assert table.length_px[0] == pytest.approx(length, rel=0.01)
    assert table.width_px[0] == pytest.approx(width, rel=0.01)
    assert table.area_px2[0] == pytest.approx(np.pi * length * width / 4, rel=0.01)
    h = ((length - width) / (length + width)) ** 2  # Ramanujan's perimeter
    around = np.pi * (length + width) / 2 * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h)))
    assert table.perimeter_px[0] == pytest.approx(around, rel=0.03)
    assert table.ellipticity[0] == pytest.approx(length / width, rel=0.015)
    assert table.elongation[0] == pytest.approx((length - width) / (length + width), abs=0.006)
    assert table.regularity[0] == pytest.approx(1.0, abs=0.01)
    assert table.length_um[0] == pytest.approx(table.length_px[0] * 0.085)
    assert table.area_um2[0] == pytest.approx(table.area_px2[0] * 0.085**2)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.65])
def test_the_acrosomes_share(share: float):
    table = measure_heads([ellipse_mask(50, 32, 25.0, acrosome=share)])
    assert table.acrosome_share[0] == pytest.approx(share, abs=0.02)
    assert table.acrosome_normal[0] == (0.4 <= share <= 0.7)


@pytest.mark.parametrize("seen", [{"relief": True}, {"bright": True}])
def test_of_a_head_without_stain_the_acrosomes_share_is_not_known(seen):
    table = measure_heads([replace(ellipse_mask(50, 32, acrosome=0.5), **seen)])
    assert np.isnan(table.acrosome_share[0])
    assert not table.acrosome_normal[0]


def test_strict_limits_of_length_over_width():
    table = measure_heads([ellipse_mask(40 * ratio, 40) for ratio in (1.4, 1.55, 1.95, 2.1)])
    assert table.ellipticity_normal.tolist() == [False, True, True, False]


def test_without_calibration_and_without_a_head():
    table = measure_heads([ellipse_mask(50, 30), None, HeadProblem.NO_HEAD])
    assert np.isnan(table.length_um).all()
    assert np.isnan(table.length_px).tolist() == [False, True, True]
    assert table.ellipticity_normal.tolist() == [True, False, False]
    assert np.isnan(table.acrosome_share[0])  # nothing tells nucleus and acrosome apart
    assert len(measure_heads([])) == 0
    assert isinstance(measure_heads([]), MorphometryTable)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_makes_no_sense(scale: float):
    with pytest.raises(InputError, match="positive number of um"):
        measure_heads([], um_per_px=scale)


def test_rendered_heads_are_as_long_and_wide_as_drawn():
    heads = render_heads(40, "hushem", seed=77, class_shares=(1, 0, 0, 0))
    found = measure_heads(pseudo_masks(heads.images), heads.um_per_px)
    truth = measure_heads([HeadMask(h, h, h, h.astype(np.uint8), 0.0, 1.0, (65, 65), False) for h in heads.head], 0.085)
    for name in ("length_um", "width_um"):
        error = getattr(found, name) - getattr(truth, name)
        assert abs(np.nanmedian(error)) < 0.25
        assert np.nanpercentile(np.abs(error), 90) < 0.45

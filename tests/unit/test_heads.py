"""Rendered heads: the truth that comes with them is that of the picture."""

from __future__ import annotations

import numpy as np
import pytest

from casa.errors import InputError
from casa.morphology.datasets import rendered_heads
from casa.simulate.head_shapes import AMORPHOUS, NORMAL, PYRIFORM, SMALL, TAPERED, draw_shape
from casa.simulate.heads import HEAD_PRESETS, render_heads


@pytest.mark.parametrize("preset", sorted(HEAD_PRESETS))
def test_a_head_follows_from_seed_and_number(preset: str):
    whole, part = render_heads(6, preset, seed=4), render_heads(2, preset, seed=4, first=3)
    np.testing.assert_array_equal(whole.images[3:5], part.images)
    np.testing.assert_array_equal(whole.head[3:5], part.head)
    assert not np.array_equal(render_heads(1, preset, seed=5).images, whole.images[:1])
    side = HEAD_PRESETS[preset].size_px
    assert whole.images.shape == ((6, side, side, 3) if preset == "hushem" else (6, side, side))
    assert whole.images.dtype == np.uint8


@pytest.mark.parametrize("preset", sorted(HEAD_PRESETS))
def test_masks_fit_one_another_and_the_picture(preset: str):
    heads = render_heads(40, preset, seed=1)
    assert (heads.nucleus ^ heads.acrosome == heads.head).all()  # they are the whole of it, and do not overlap
    area_um2 = heads.head.sum(axis=(1, 2)) * heads.um_per_px**2
    assert (area_um2 > 2).all()
    assert (area_um2 < 20).all()
    np.testing.assert_allclose(heads.acrosome.sum((1, 2)) / heads.head.sum((1, 2)), heads.acrosome_share, atol=0.1)
    gray = heads.images.mean(axis=3) if heads.images.ndim == 4 else heads.images.astype(float)
    inside = np.array([np.median(image[mask]) for image, mask in zip(gray, heads.head, strict=True)])
    outside = np.array([np.median(image[~mask]) for image, mask in zip(gray, heads.head, strict=True)])
    assert (np.abs(inside - outside) > 4).mean() > 0.8


def test_the_direction_is_from_the_nucleus_to_the_acrosome():
    heads = render_heads(60, "hushem", seed=2, class_shares=(1, 1, 1, 0))
    for k in np.flatnonzero((heads.acrosome_share > 0.3) & (heads.acrosome_share < 0.7)):
        ys, xs = np.nonzero(heads.acrosome[k])
        nucleus_ys, nucleus_xs = np.nonzero(heads.nucleus[k])
        angle = np.degrees(np.arctan2(ys.mean() - nucleus_ys.mean(), xs.mean() - nucleus_xs.mean()))
        assert abs((angle - heads.direction_deg[k] + 180) % 360 - 180) < 15


def test_classes_have_the_shape_their_names_say():
    rng = np.random.default_rng(0)
    length, ratio = {}, {}
    for class_id in (NORMAL, TAPERED, PYRIFORM, AMORPHOUS, SMALL):
        spans = np.array([np.ptp(draw_shape(rng, class_id).outline_um, axis=0) for _ in range(200)])
        length[class_id], ratio[class_id] = spans[:, 0], spans[:, 0] / spans[:, 1]
    assert np.mean((ratio[NORMAL] > 1.45) & (ratio[NORMAL] < 2.0)) > 0.95
    assert np.mean(length[NORMAL]) == pytest.approx(4.3, abs=0.15)
    assert np.mean(ratio[TAPERED]) > 2.2
    assert np.mean(length[SMALL]) < 2.9
    back = [shape.outline_um for shape in (draw_shape(rng, PYRIFORM) for _ in range(50))]
    width_behind = [np.ptp(o[np.abs(o[:, 0] + 0.3 * np.ptp(o[:, 0])) < 0.3, 1]) for o in back]
    width_ahead = [np.ptp(o[np.abs(o[:, 0] - 0.25 * np.ptp(o[:, 0])) < 0.3, 1]) for o in back]
    assert np.median(np.array(width_behind) / width_ahead) < 0.75


def test_normal_acrosomes_cover_what_the_manual_says():
    rng = np.random.default_rng(1)
    normal = np.array([draw_shape(rng, NORMAL).acrosome_share for _ in range(100)])
    assert ((normal >= 0.4) & (normal <= 0.7)).all()
    abnormal = np.array([draw_shape(rng, NORMAL, (True, False, False)).acrosome_share for _ in range(100)])
    assert ((abnormal < 0.4) | (abnormal > 0.7)).all()


def test_experts_disagree_more_on_unclear_heads():
    heads = render_heads(400, "scian", seed=3)
    wrong = (heads.experts != heads.labels[:, None]).mean(axis=1)
    clear = heads.severity > np.median(heads.severity)
    assert wrong[~clear].mean() > 1.5 * wrong[clear].mean() > 0
    assert 0.1 < wrong.mean() < 0.35


def test_parts_as_in_mhsma():
    heads, truth = rendered_heads(300, "mhsma", seed=6, label="acrosome")
    assert heads.class_names == ("normal", "abnormal")
    np.testing.assert_array_equal(heads.labels, (truth.acrosome_share < 0.4) | (truth.acrosome_share > 0.7))
    assert truth.parts.mean(axis=0) == pytest.approx([0.27, 0.30, 0.16, 0.04], abs=0.08)
    assert rendered_heads(3, "scian")[0].experts is not None


def test_what_cannot_be_rendered():
    with pytest.raises(InputError, match=r"no heads called 'mouse'; known ones are hushem"):
        render_heads(1, "mouse")
    with pytest.raises(InputError, match="ask for at least 1"):
        render_heads(0)
    with pytest.raises(InputError, match="class shares must be 4 numbers"):
        render_heads(1, class_shares=(1, 1))
    with pytest.raises(InputError, match="labelled by class"):
        rendered_heads(1, label="neck")

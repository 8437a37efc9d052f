"""Head crops out of clips: the sharpest pictures, and a reason where there are none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from head_clips import SCALE_UM_PER_PX, clip_of

from casa.cells import Clip, ClipFlag
from casa.errors import InputError
from casa.morphology.from_clips import ClipCrops, CropOptions, NoCrop, crops_of_clip
from casa.morphology.pseudo_masks import find_head


@pytest.mark.parametrize("um_per_px", [SCALE_UM_PER_PX, None])
def test_the_sharpest_pictures_facing_right(um_per_px: float | None):
    clip, _ = clip_of((3.0, 0, 2.5, 0.5, 3.0, 0.8), um_per_px=um_per_px)
    crops = crops_of_clip(clip, CropOptions(crops=3))
    assert isinstance(crops, ClipCrops)
    assert set(crops.index) == {1, 3, 5}
    assert (np.diff(crops.edge_share) >= 0).all()
    assert crops.images.shape == (3, 64, 64)
    again = find_head(crops.images[0])
    assert again is not None
    assert abs(again.direction_deg) < 20
    assert (crops.um_per_px is None) == (um_per_px is None)
    if um_per_px is not None:
        assert crops.um_per_px == pytest.approx(8.0 / 64)


def test_pictures_of_something_else_are_left_out():
    clip, _ = clip_of((0, 0.5, 0.5), (ClipFlag.CROSSING, 0, ClipFlag.PREDICTED))
    crops = crops_of_clip(clip)
    assert isinstance(crops, ClipCrops)
    assert set(crops.index) == {1, 2}
    assert crops_of_clip(replace(clip, flags=np.full(3, ClipFlag.BORDER))) is NoCrop.FLAGGED


def test_too_poor_to_be_classed():
    clip, _ = clip_of((4.5, 5.0))
    assert crops_of_clip(clip) in (NoCrop.OUT_OF_FOCUS, NoCrop.NO_HEAD)
    clip, _ = clip_of((0.0, 0.5))
    assert crops_of_clip(clip, CropOptions(least_length_px=60.0)) is NoCrop.TOO_SMALL
    assert crops_of_clip(clip, CropOptions(most_edge_share=0.001)) is NoCrop.OUT_OF_FOCUS
    empty = replace(clip, images=np.full((2, 150, 150), 90, np.uint8))
    assert crops_of_clip(empty) is NoCrop.NO_HEAD


def test_a_clip_without_pictures():
    clip, _ = clip_of((0.0,))
    nothing = Clip(
        3, 7, np.empty(0), np.empty(0), np.empty((0, 150, 150)), np.empty((0, 2)), np.empty(0), np.empty(0), None
    )
    with pytest.raises(InputError, match="clip 3: no pictures"):
        crops_of_clip(nothing)
    assert clip.track_id == 7

"""Training pictures: they follow from their seed, and their boxes are of what can be seen in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from casa.detect.preprocess import to_gray
from casa.errors import InputError
from casa.simulate.clutter import Canvas, add_clutter
from casa.simulate.population import CLUSTER, SMALL, SPERM, sample_population
from casa.simulate.routes import ROUTE_UM_PER_PX, Routes, read_routes
from casa.simulate.species import SPECIES, outline_half_px, unbent
from casa.simulate.training import (
    KINDS,
    _one_field,
    boxes_in_view,
    draw_scene,
    other_species_images,
    population_of,
    random_scene,
    random_training_image,
    training_images,
)
from casa.sources.interlace import separate_fields
from casa.types import TrackTable


def rows(places: list[tuple[int, int, float, float, float]]) -> TrackTable:
    """A tracks table from (frame, track, cx, cy, side)."""
    frame, track, x, y, side = (np.array(column) for column in zip(*places, strict=True))
    n = len(frame)
    return TrackTable(
        frame, np.zeros(n, np.int64), frame * 20_000_000, track, x, y, side, side, x, y, np.ones(n), np.zeros(n, bool)
    )


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_pictures_follow_from_their_generator_and_box_what_is_in_them(kind):
    picture = random_training_image(np.random.default_rng(4), 320, 240, kind)
    again = random_training_image(np.random.default_rng(4), 320, 240, kind)
    assert_array_equal(picture.image, again.image)
    assert_array_equal(picture.xyxy, again.xyxy)
    assert picture.image.shape == (240, 320, 3)
    assert picture.image.dtype == (np.uint8 if picture.white_level == 255 else np.uint16)
    boxes = picture.xyxy
    assert len(boxes) == len(picture.class_id)
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes >= 0).all()
    assert (boxes <= [320, 240, 320, 240]).all()


def test_pictures_of_one_seed_do_not_depend_on_how_many_are_asked_for():
    few, more = list(training_images(3, 2, 160, 120)), list(training_images(3, 3, 160, 120))
    assert_array_equal(few[1].image, more[1].image)
    assert more[1].image.tobytes() != more[2].image.tobytes()


def test_among_many_pictures_there_is_all_that_was_asked_for():
    """Every class, deep and 8-bit cameras, other species, both fields, coloured and gray."""
    scenes = [random_scene(np.random.default_rng(k), "phase_wild", 160, 120) for k in range(80)]
    assert {scene.species for scene in scenes} == set(SPECIES)
    assert {scene.full_scale for scene in scenes} == {255, 1023, 4095, 65535}
    assert {bool(scene.field_interval_s) for scene in scenes} == {True, False}
    pictures = list(training_images(0, 40, 320, 240))
    assert set(np.concatenate([picture.class_id for picture in pictures])) == {SPERM, CLUSTER, SMALL}
    assert {picture.image.dtype for picture in pictures} == {np.dtype(np.uint8), np.dtype(np.uint16)}


def quiet_scene(kind: str, **changes: object):
    """A scene without anything that hides heads: sharp, clean, 8 bit, progressive."""
    scene = random_scene(np.random.default_rng(0), kind, 320, 240)
    look = replace(scene.look, read_noise=0.3, chroma_noise=0.0, jpeg_quality=0, uneven=0.0, tail=(0.0, 0.0, 0.0))
    clean = replace(
        scene, look=look, cells=14.0, defocus_um=0.1, through_focus=0.0, dots=0, round_cells=0, bright_grains=0,
        clutter=0.0, clusters=0, pinhead_share=0.0, touching_share=0.0, field_interval_s=0.0, relief=0.0,
        full_scale=255,
    )  # fmt: skip
    return replace(clean, **changes)


@pytest.mark.parametrize("kind", ["phase", "brightfield"])
@pytest.mark.parametrize("species", ["human", "bull", "mouse"])
def test_boxes_hold_heads_and_nothing_else_stands_out(kind, species):
    scale = SPECIES[species].head_um[0] / 14
    picture = draw_scene(np.random.default_rng(1), quiet_scene(kind, species=species, um_per_px=scale), None)
    gray = to_gray(picture.image, picture.white_level).astype(float)
    away = np.full(gray.shape, True)
    # A head of which the border cuts off most has no box.
    away[:16], away[-16:], away[:, :16], away[:, -16:] = False, False, False, False
    strength = []
    for left, top, right, bottom in picture.xyxy:
        inside = gray[int(top) : int(bottom) + 1, int(left) : int(right) + 1]
        strength.append(np.abs(inside - np.median(gray)).max())
        away[max(int(top) - 9, 0) : int(bottom) + 10, max(int(left) - 9, 0) : int(right) + 10] = False
    assert len(picture.xyxy) >= 5
    assert min(strength) > 25
    assert np.abs(gray[away] - np.median(gray)).max() < min(strength)


def test_the_heads_of_a_cluster_share_one_box_and_pinheads_are_small():
    scene = quiet_scene("phase", clusters=2, pinhead_share=0.5, cells=60.0)
    rng = np.random.default_rng(3)
    area = (320 * scene.um_per_px + 100, 240 * scene.um_per_px + 100)
    cells = population_of(rng, scene, area, 200, None)
    boxes, classes = boxes_in_view(rng, replace(scene, width_px=2000, height_px=2000), cells, 0.0)
    side = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)) * scene.um_per_px - 2 * scene.look.box_margin_um
    assert (classes == CLUSTER).sum() <= 2
    assert (cells.cluster >= 0).sum() >= 8
    assert np.median(side[classes == SMALL]) < 0.6 * np.median(side[classes == SPERM])
    members = cells.place_um[cells.cluster == 0]
    apart = np.linalg.norm(members[:, None] - members[None], axis=-1) + 99 * np.eye(len(members))
    assert apart.min(1).max() < 5.0, "a head of a cluster touches none of it"


def test_clutter_changes_the_picture_and_brings_no_boxes():
    image = np.full((200, 200, 3), 100, np.float32)
    for seed in range(6):
        add_clutter(np.random.default_rng(seed), Canvas(image, 0.35, 80.0), 1.0)
    assert np.abs(image - 100).max() > 30
    clean = np.full((200, 200, 3), 100, np.float32)
    add_clutter(np.random.default_rng(0), Canvas(clean, 0.35, 80.0), 0.0)
    assert (clean == 100).all()
    scene = quiet_scene("brightfield", cells=0.0, clutter=1.0, dots=150, round_cells=6, bright_grains=6)
    picture = draw_scene(np.random.default_rng(2), scene, None)
    assert len(picture.xyxy) == 0
    assert np.ptp(picture.image.astype(int)) > 60


@pytest.mark.parametrize("name", sorted(SPECIES))
def test_outlines_reach_as_far_as_the_heads_that_are_drawn(name):
    """The reach of the outline against the pixels that the drawing's own test puts inside the head."""
    shape = np.array([SPECIES[name].shape])
    half, direction = np.array([[20.0, 20.0 * SPECIES[name].head_um[1] / SPECIES[name].head_um[0]]]), 0.7
    y, x = np.mgrid[-60:61, -60:61].astype(float)
    u = (x * np.cos(direction) + y * np.sin(direction)) / half[0, 0]
    v = (y * np.cos(direction) - x * np.sin(direction)) / half[0, 1]
    inside = np.hypot(u, unbent(u[None], v[None], shape[..., None, None])[0]) < 1
    seen = [-x[inside].min(), -y[inside].min(), x[inside].max(), y[inside].max()]
    assert_allclose(outline_half_px(half, shape, np.array([direction]))[0], seen, atol=1.5)


def test_heads_lie_where_they_lay_in_a_real_recording():
    places = [(f, t, 100.0 + 200 * t + 4 * f, 60.0 + 300 * t, 20.0) for t in range(2) for f in range(30)]
    routes = Routes([rows(places)])
    drawn = routes.sample(np.random.default_rng(0), (640 * ROUTE_UM_PER_PX, 480 * ROUTE_UM_PER_PX))
    assert len(drawn.xy_um) >= 2
    assert_allclose(np.hypot(*drawn.velocity_um_s.T), 4 * ROUTE_UM_PER_PX * 49, rtol=1e-6)
    assert_allclose(drawn.size, 1.0)
    pair = np.abs(drawn.xy_um[1] - drawn.xy_um[0]) / ROUTE_UM_PER_PX
    around = np.array([640, 480]) if drawn.velocity_um_s[0, 1] == 0 else np.array([480, 640])
    apart = np.array([200, 300]) if drawn.velocity_um_s[0, 1] == 0 else np.array([300, 200])
    assert_allclose(np.minimum(pair, around - pair), np.minimum(apart, around - apart), atol=1e-6)
    cells = sample_population(
        np.random.default_rng(1), (300.0, 300.0), 7, "human", 0.5,
        pinhead_share=0.0, touching_share=0.0, clusters=0, route=drawn,
    )  # fmt: skip
    assert_allclose(cells.place_um, drawn.xy_um)
    assert_allclose(cells.swimmers.speed_um_s, np.hypot(*drawn.velocity_um_s.T))


def test_routes_that_are_none_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="no label tables"):
        read_routes(tmp_path)
    with pytest.raises(InputError, match="at least one"):
        Routes([])
    with pytest.raises(InputError, match="without a place or size"):
        Routes([rows([(0, 1, 5.0, 5.0, 0.0)])])


def test_real_label_tables_drive_pictures(shared_data: Path):
    routes = read_routes(shared_data / "visem_tracking_labels")
    assert len(routes) == 12
    first, second = (next(training_images(5, 1, 320, 240, routes=routes)) for _ in range(2))
    assert_array_equal(first.image, second.image)
    counts = [len(routes.sample(np.random.default_rng(k), (256.0, 192.0)).xy_um) for k in range(60)]
    assert min(counts) <= 5
    assert 40 <= max(counts) <= 120


def test_every_other_species_is_drawn_in_turn():
    pictures = list(other_species_images(0, len(SPECIES) - 1, 320, 240))
    assert len(pictures) == len(SPECIES) - 1
    assert len({picture.image.tobytes() for picture in pictures}) == len(pictures)


@pytest.mark.parametrize("height", [8, 9])
def test_one_field_of_a_picture_is_what_a_reader_that_separates_fields_gives(height):
    image = np.random.default_rng(0).integers(0, 256, (height, 5, 3)).astype(np.uint8)
    for row, field in enumerate(separate_fields(image, bottom_first=False)):
        assert_allclose(_one_field(image.astype(np.float32), row), field, atol=0.51)

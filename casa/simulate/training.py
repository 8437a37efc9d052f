"""Pictures for training a detector: every one of another microscope, sample, species, density and camera.

Wide on purpose: what a detector has seen varied in training does not surprise it in a clinic. Boxes are of the classes
of VISEM-Tracking: sperm, clusters of heads that touch, and small heads (pinheads). What has no box is there to be left:
debris, cells, crystals, bubbles, fibres, dust, scratches, tails without heads. Heads lie at random, or where they lay
in real recordings (`casa.simulate.routes`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.simulate.clutter import Canvas, add_clutter
from casa.simulate.debris import Debris, sample_debris
from casa.simulate.look import BRIGHTFIELD, PHASE_CONTRAST, Look
from casa.simulate.population import CLUSTER, SMALL, SPERM, Population, sample_population
from casa.simulate.render import Heads, Renderer, compressed
from casa.simulate.routes import Routes
from casa.simulate.species import SPECIES, outline_half_px
from casa.simulate.training_looks import plain_look, random_look

FloatArray = NDArray[np.float64]

#: Revision of these pictures: another number, other pictures of the same seed.
RECIPE = 3
#: Shares of kinds of picture: near the real phase contrast, anywhere around it, brightfield likewise, and plain dark
#: blobs on an even ground as simple simulators draw them.
KINDS = {"phase": 0.28, "phase_wild": 0.20, "brightfield": 0.26, "brightfield_wild": 0.18, "plain": 0.08}
_TAIL_POINTS = 200
_MARGIN_UM = 50.0
#: Of a box, how much has to be in the picture; and how faint a head out of focus may be (of one in focus).
_LEAST_IN_VIEW = 0.35
_LEAST_CONTRAST = 0.07


class TrainingPicture(NamedTuple):
    """image (h, w, 3) RGB, uint8 or uint16; xyxy (n, 4) float64, px; class_id (n,) int64; the image's white level."""

    image: NDArray[Any]
    xyxy: FloatArray
    class_id: NDArray[np.int64]
    white_level: int = 255


@dataclass(frozen=True, slots=True)
class TrainingScene:
    """All that is drawn for one picture; lengths um unless named otherwise. See `random_scene`."""

    kind: str
    width_px: int
    height_px: int
    um_per_px: float
    look: Look
    species: str
    cells: float
    defocus_um: float
    through_focus: float
    dots: int
    dot_radius_um: float
    dots_inverted: float
    round_cells: int
    bright_grains: int
    clutter: float
    clusters: int
    pinhead_share: float
    touching_share: float
    field_interval_s: float
    separated: bool
    relief: float
    full_scale: int


def random_training_image(
    rng: np.random.Generator,
    width_px: int = 640,
    height_px: int = 480,
    kind: str | None = None,
    routes: Routes | None = None,
) -> TrainingPicture:
    """One picture and the boxes in it; ``kind`` is one of KINDS, or drawn by their shares."""
    kind = kind or str(rng.choice(list(KINDS), p=list(KINDS.values())))
    return draw_scene(rng, random_scene(rng, kind, width_px, height_px), routes)


def training_images(
    seed: int, count: int, width_px: int = 640, height_px: int = 480, routes: Routes | None = None
) -> Iterator[TrainingPicture]:
    """``count`` pictures, the same for the same seed (and routes); picture k does not depend on ``count``."""
    for child in np.random.SeedSequence(seed).spawn(count):
        yield random_training_image(np.random.default_rng(child), width_px, height_px, routes=routes)


def other_species_images(seed: int, count: int, width_px: int = 640, height_px: int = 480) -> Iterator[TrainingPicture]:
    """As `training_images`, each of a species other than man, in turn; to score on."""
    others = [name for name in SPECIES if name != "human"]
    for k, child in enumerate(np.random.SeedSequence([seed, 0x5EC1E5]).spawn(count)):
        rng = np.random.default_rng(child)
        scene = random_scene(rng, "phase_wild" if rng.uniform() < 0.5 else "brightfield_wild", width_px, height_px)
        scene = replace(scene, species=others[k % len(others)], um_per_px=_scale_for(rng, others[k % len(others)]))
        yield draw_scene(rng, scene, None)


def _scale_for(rng: np.random.Generator, species: str) -> float:
    """From 20x to 60x, um a px, as far as a head is still of a size that a detector is meant for."""
    return SPECIES[species].head_um[0] / float(np.exp(rng.uniform(np.log(9), np.log(34))))


def random_scene(rng: np.random.Generator, kind: str, width_px: int, height_px: int) -> TrainingScene:
    """A scene of a kind, with everything about it drawn at random."""
    u, plain = rng.uniform, kind == "plain"
    wild = kind.endswith("wild")
    look = plain_look(rng) if plain else random_look(rng, PHASE_CONTRAST if kind[0] == "p" else BRIGHTFIELD, wild)
    um_per_px, species = float(u(0.3, 0.6) if plain else u(0.3, 0.46)), "human"
    if wild:
        um_per_px = float(np.exp(u(np.log(0.2), np.log(0.65))))
        if rng.uniform() < 0.4:
            others = [name for name in SPECIES if name != "human"]
            shares = np.array([SPECIES[name].share for name in others])
            species = str(rng.choice(others, p=shares / shares.sum()))
            um_per_px = _scale_for(rng, species)
    interlaced = rng.uniform() < (0.5 if kind.startswith("brightfield") else 0.1)
    clean = plain or rng.uniform() < 0.08
    return TrainingScene(
        kind=kind,
        width_px=width_px,
        height_px=height_px,
        um_per_px=um_per_px,
        look=look,
        species=species,
        cells=float(rng.choice([u(0, 5), u(5, 40), u(40, 80)], p=[0.14, 0.68, 0.18])),
        defocus_um=float(u(0.2, 1.6)),
        through_focus=0.0 if plain else float(max(0.0, u(-0.5, 1.0))),
        dots=int(u(0, 12)) if plain else int(np.exp(u(np.log(10), np.log(400)))),
        dot_radius_um=float(u(0.15, 0.3) if plain else u(0.35, 1.0)),
        dots_inverted=0.0 if plain else float(max(0.0, u(-0.5, 0.7))),
        round_cells=0 if clean else int(rng.integers(0, 8)),
        bright_grains=0 if clean else int(rng.integers(0, 12)),
        clutter=0.0 if clean else float(u(0, 1)),
        clusters=int(rng.choice(5, p=[0.72, 0.14, 0.08, 0.04, 0.02])),
        pinhead_share=float(rng.choice([0.0, u(0.0, 0.2)], p=[0.55, 0.45])),
        touching_share=float(max(0.0, u(-0.15, 0.25))),
        field_interval_s=float(1 / u(50, 60)) if interlaced else 0.0,
        separated=bool(rng.uniform() < 0.4),
        relief=float(u(0.5, 1.5)) if wild and rng.uniform() < 0.12 else 0.0,
        full_scale=int(rng.choice([255, 1023, 4095, 65535], p=[0.7, 0.05, 0.13, 0.12])),
    )


def draw_scene(rng: np.random.Generator, scene: TrainingScene, routes: Routes | None) -> TrainingPicture:
    """The picture of a scene and its boxes."""
    c = scene
    area = (c.width_px * c.um_per_px + 2 * _MARGIN_UM, c.height_px * c.um_per_px + 2 * _MARGIN_UM)
    route = routes.sample(rng, area) if routes is not None and rng.uniform() < 0.6 else None
    view_share = (c.width_px * c.height_px * c.um_per_px**2) / (area[0] * area[1])
    cells = population_of(rng, c, area, round(c.cells / view_share), route)
    dirt = [
        sample_debris(rng, area, n, round_cells, bright, c.dot_radius_um, 0.2, c.defocus_um)
        for n, round_cells, bright in (
            (round(c.dots * (1 - c.dots_inverted) / view_share), round(c.round_cells / view_share), 0),
            (round(c.dots * c.dots_inverted / view_share), 0, round(c.bright_grains / view_share)),
        )
    ]
    renderer = Renderer(
        c.look, c.width_px, c.height_px, c.um_per_px, 1, np.random.SeedSequence(int(rng.integers(1 << 60)))
    )
    image = _optics(renderer, c, cells, dirt, 0.0)
    bottom_first = bool(rng.uniform() < 0.3)
    if c.field_interval_s:
        later = _optics(renderer, c, cells, dirt, c.field_interval_s)
        image[bottom_first ^ 1 :: 2] = later[bottom_first ^ 1 :: 2]
    contrast = float(np.abs(c.look.body if c.look.background[0] > 100 else c.look.core).max()) * 0.6
    add_clutter(rng, Canvas(image, c.um_per_px, contrast), c.clutter)
    if c.relief:
        image = _relief(rng, image, c)
    if c.field_interval_s and c.separated:
        # One field as a picture of full height, as a reader that separates fields gives it.
        image = _one_field(image, int(bottom_first))
    seconds = 0.0 if c.separated else c.field_interval_s / 2
    boxes, classes = boxes_in_view(rng, c, cells, seconds)
    picture, white = _camera(rng, renderer, image, c)
    return TrainingPicture(picture, boxes, classes, white)


def population_of(
    rng: np.random.Generator, scene: TrainingScene, area_um: tuple[float, float], count: int, route: Any
) -> Population:
    """The cells of a scene."""
    return sample_population(
        rng,
        area_um,
        count,
        scene.species,
        scene.defocus_um,
        pinhead_share=scene.pinhead_share,
        touching_share=scene.touching_share,
        clusters=scene.clusters,
        route=route,
    )


def _optics(renderer: Renderer, c: TrainingScene, cells: Population, dirt: list[Debris], t_s: float) -> NDArray[Any]:
    """(h, w, 3) float32 picture of sperm and small debris at one time."""
    swimmers = cells.swimmers
    centre = _to_px(cells.head_um_at(t_s), c)
    tails = centre[:, None] + swimmers.tails_um(t_s, _TAIL_POINTS) / c.um_per_px
    # Cells that have lost their heads show their tails alone.
    drawn_at = np.where(cells.headless[:, None], -1e5, centre)
    defocus = swimmers.defocus_um(t_s)
    heads = Heads(
        centre_px=drawn_at,
        half_axes_px=swimmers.head_um / (2 * c.um_per_px),
        direction_rad=swimmers.orientation_at(t_s),
        tails_px=tails,
        defocus_um=defocus,
        flash=swimmers.flash(t_s),
        vigour=swimmers.vigour,
        variety=swimmers.variety,
        shape=cells.shape,
        tone=_tone(defocus * c.through_focus, dark=c.look.background[0] < 100),
    )
    layers = []
    for sign, debris in zip((1.0, -0.7), dirt, strict=True):
        places = _to_px(debris.positions_um(t_s), c)
        layers.append(renderer.draw_debris(debris, places, np.ones(len(places), bool)) * np.float32(sign))
    return renderer.draw(heads, layers)


def _tone(defocus_um: FloatArray, dark: bool) -> FloatArray:
    """(n, 3) factors on body, ring and core of heads at a height over the focal plane.

    A refractile body in brightfield is dark with a bright rim on one side of the focus and bright with a dark rim on
    the other (Becke's line); in phase contrast its shine fades, and its rim goes, on one side.
    """
    side = np.tanh(defocus_um / 1.4)
    above, below = np.maximum(side, 0), np.maximum(-side, 0)
    if dark:
        return np.stack([1 - above, 1 - 0.8 * above + 0.5 * below, 1 - 0.8 * above], axis=1)
    return np.stack([1 - 0.95 * above + 0.15 * below, 1 - 2.0 * above + 0.8 * below, 1 + 4 * above], axis=1)


def boxes_in_view(
    rng: np.random.Generator, c: TrainingScene, cells: Population, t_s: float
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Boxes (n, 4) xyxy px and classes (n,) of what of the cells is in the picture and can be seen.

    Single heads have boxes of their own; the heads of a cluster share one.
    """
    swimmers = cells.swimmers
    centre = _to_px(cells.head_um_at(t_s), c)
    half = swimmers.head_um / (2 * c.um_per_px)
    reach = outline_half_px(half, cells.shape, swimmers.orientation_at(t_s))
    margin = c.look.box_margin_um / c.um_per_px
    boxes = np.concatenate([centre - reach[:, :2], centre + reach[:, 2:]], axis=1)
    blur_px = 1.1 * 0.4 / c.um_per_px * np.abs(swimmers.defocus_um(t_s))
    seen = 1 / (1 + blur_px**2 / half.prod(1)) > _LEAST_CONTRAST
    single = (cells.cluster < 0) & ~cells.headless & seen
    classes = [np.where(cells.small, SMALL, SPERM)[single]]
    parts = [boxes[single]]
    for number in np.unique(cells.cluster[cells.cluster >= 0]):
        rows = boxes[cells.cluster == number]
        parts.append(np.concatenate([rows[:, :2].min(0), rows[:, 2:].max(0)])[None])
        classes.append(np.array([CLUSTER]))
    whole = np.concatenate(parts) + np.array([-margin, -margin, margin, margin])
    # As hands draw them: no two people, and no two boxes, are quite alike.
    size = np.tile(whole[:, 2:] - whole[:, :2], 2)
    whole = whole + rng.normal(0, 0.03, whole.shape) * size
    clipped = np.clip(whole, 0, [c.width_px, c.height_px] * 2)
    area = np.prod(whole[:, 2:] - whole[:, :2], axis=1)
    side = clipped[:, 2:] - clipped[:, :2]
    keep = (side.prod(1) > _LEAST_IN_VIEW * area) & (side.min(1) > 2)
    return clipped[keep], np.concatenate(classes)[keep].astype(np.int64)


def _to_px(um: FloatArray, c: TrainingScene) -> FloatArray:
    return (um - _MARGIN_UM) / c.um_per_px


def _relief(rng: np.random.Generator, image: NDArray[Any], c: TrainingScene) -> NDArray[Any]:
    """Differential interference or modulation contrast: what is there casts a shadow to one side."""
    turn = rng.uniform(0, 2 * np.pi)
    shift = 0.35 / c.um_per_px
    dx, dy = shift * np.cos(turn), shift * np.sin(turn)
    ground = cv2.GaussianBlur(image, (0, 0), 25)
    matrix = np.array([[1, 0, dx], [0, 1, dy]])
    size = (image.shape[1], image.shape[0])
    deviation = image - ground
    moved = cv2.warpAffine(deviation, matrix, size, borderMode=cv2.BORDER_REFLECT)
    back = cv2.warpAffine(deviation, 2 * np.eye(2, 3) - matrix, size, borderMode=cv2.BORDER_REFLECT)
    ground += (120 - ground.mean()) * np.float32(rng.uniform(0, 1))
    return np.asarray(ground + np.float32(c.relief) * (moved - back) + np.float32(rng.uniform(0, 0.4)) * deviation)


def _one_field(image: NDArray[Any], first_row: int) -> NDArray[Any]:
    """The lines of one field, and between them the means of their neighbours; the outermost repeat the nearest."""
    height = image.shape[0]
    own = image[first_row::2]
    at = np.clip((np.arange(height) - first_row) / 2, 0, len(own) - 1)
    return (own[np.floor(at).astype(int)] + own[np.ceil(at).astype(int)]) / 2


def _camera(
    rng: np.random.Generator, renderer: Renderer, image: NDArray[Any], c: TrainingScene
) -> tuple[NDArray[Any], int]:
    """The picture as a camera of 8 to 16 bits gives it, and its white level.

    Deep cameras are not compressed, often gray, and seldom use all of their range.
    """
    picture = renderer.develop(image, 0)
    if rng.uniform() < 0.12:
        picture = np.repeat(picture.mean(-1, keepdims=True), 3, axis=2)
    if c.full_scale == 255:
        out = np.clip(picture + 0.5, 0, 255).astype(np.uint8)
        return (compressed(out, c.look.jpeg_quality) if c.look.jpeg_quality else out), 255
    brightest = float(np.percentile(picture, 99.9))
    exposure = float(rng.uniform(0.15, 1.0)) * 255 / max(brightest, 1.0)
    raw = np.clip(picture * (exposure * c.full_scale / 255), 0, c.full_scale)
    # The white level that was set: that of the sensor, or about what the picture holds.
    held = max(float(raw.max()), 0.05 * c.full_scale)
    white = c.full_scale if rng.uniform() < 0.5 else min(c.full_scale, held * rng.uniform(1.0, 1.4))
    return raw.astype(np.uint16), int(white)

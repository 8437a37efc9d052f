"""Clips of single sperm in phase contrast, followed as `casa.clips` follows them: the head in the middle.

The sperm in question is drawn here, with its defects; what crosses the picture (other sperm, debris), the light and the
lines' optics are those of `casa.simulate.render`. A clip follows from its seed alone. Knows the simulator's modules.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.cells import CLIP_FRAMES, CLIP_RATE_HZ, CLIP_SIZE_PX
from casa.simulate.closeup_anatomy import VCL_INTERVAL_S, Sperm, sample_sperm, tail_strands_um
from casa.simulate.debris import sample_debris
from casa.simulate.look import PHASE_CONTRAST, Look
from casa.simulate.render import _PAD, Heads, Renderer, _splat
from casa.simulate.species import unbent
from casa.simulate.swimmers import MODES, ORDINARY_MIX, Swimmers, sample_swimmers

FloatArray = NDArray[np.float64]
# cv2 gives arrays of any type, so the checker is told no more than that.
Image = NDArray[Any]

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_TAIL_POINTS = 130
_REACH = 45  # px about a head in which it and its glow are drawn
#: Heads at this magnification have a shape: less glare in the middle, more of a body.
CLOSEUP = replace(
    PHASE_CONTRAST, body=(50.0,) * 3, core=(88.0,) * 3, core_size=(0.5, 0.5), core_offset=-0.12, jpeg_quality=0
)


@dataclass(frozen=True, slots=True)
class Field:
    """The sample and the microscope that a clip is taken with.

    health : of the patient's sperm, unit normal. um_per_px : scale. look : of the optics. others, dots : sperm and
    particles that a picture has besides, on average. defocus_um : of the plane that the sperm are followed in.
    """

    health: float
    um_per_px: float
    look: Look
    others: float
    dots: float
    defocus_um: float


def clip_times_s() -> FloatArray:
    """(16,) times of a clip's frames, s."""
    return np.arange(CLIP_FRAMES) / CLIP_RATE_HZ


def sample_field(rng: np.random.Generator) -> Field:
    """Draw a sample: scale 0.28 to 0.40 um/px, its light, its debris and its sperm's health."""
    u, spread = rng.uniform, lambda sd: float(np.exp(rng.normal(0, sd)))
    level = u(45, 85)
    contrast = spread(0.12)

    def toned(colour: tuple[float, float, float], by: float) -> tuple[float, float, float]:
        r, g, b = (float(c * by * contrast) for c in colour)
        return r, g, b

    look = replace(
        CLOSEUP,
        background=(level,) * 3,
        uneven=float(u(0.02, 0.2)),
        body=toned(CLOSEUP.body, spread(0.15)),
        core=toned(CLOSEUP.core, spread(0.15)),
        ring=toned(CLOSEUP.ring, spread(0.15)),
        halo=toned(CLOSEUP.halo, spread(0.15)),
        tail=toned(CLOSEUP.tail, 2.0 * spread(0.15)),
        read_noise=float(u(1.0, 2.6)),
        shot_noise=float(u(0.01, 0.05)),
        noise_sigma=float(u(0.5, 1.0)),
        sharpen=float(u(0.3, 0.9)),
    )
    return Field(
        health=float(rng.normal()),
        um_per_px=float(np.exp(u(np.log(0.28), np.log(0.40)))),
        look=look,
        others=float(rng.gamma(2.0, 0.175)),
        dots=25 + float(rng.gamma(3.0, 8.4)),  # enough to see how fast they go by
        defocus_um=float(rng.normal(0, 0.35)),
    )


def sample_closeup(field: Field, seed: np.random.SeedSequence) -> Sperm:
    """The sperm that a clip of this seed follows."""
    rng = np.random.default_rng(seed.spawn(1)[0])
    times = clip_times_s()
    sperm = sample_sperm(rng, field.health, float(times[-1]) + 0.1)
    focus = sperm.swimmer.focus_um + np.array([[field.defocus_um, 0, 0]])
    return replace(sperm, swimmer=replace(sperm.swimmer, focus_um=focus))


def render_closeup(field: Field, sperm: Sperm, seed: np.random.SeedSequence) -> tuple[NDArray[np.uint8], FloatArray]:
    """The clip of a sperm, (16, 150, 150) uint8 gray, and where each picture's middle is, (16, 2) px of the sample."""
    paths_seed, debris_seed, camera_seed, jitter_seed = np.random.SeedSequence([*seed.generate_state(4), 1]).spawn(4)
    times, scale, size = clip_times_s(), field.um_per_px, CLIP_SIZE_PX
    middle_px = sperm.swimmer.head_um_at(times)[0] / scale + _tracking_error(np.random.default_rng(jitter_seed))
    low = middle_px.min(0) * scale - (size / 2 * scale + 45)
    area = middle_px.max(0) * scale + (size / 2 * scale + 45) - low
    pictures = float(np.prod(area)) / (size * scale) ** 2
    others = _others(np.random.default_rng(paths_seed), field, tuple(area), pictures, float(times[-1]))
    rng = np.random.default_rng(debris_seed)
    debris = sample_debris(
        rng, (float(area[0]), float(area[1])), dots=rng.poisson(field.dots * pictures),
        round_cells=rng.poisson(0.06 * pictures), bright=rng.poisson(0.15 * pictures), dot_radius_um=0.55,
        drifting_share=0.15, defocus_um=0.6,
    )  # fmt: skip
    renderer = Renderer(field.look, size, size, scale, 1, camera_seed)
    camera = np.random.default_rng(camera_seed.spawn(1)[0])
    heads = _head_pictures(field.look, sperm, times, renderer.zoom, scale, sperm.swimmer.head_um_at(times)[0] / scale
                           - middle_px + size / 2)  # fmt: skip
    clip = np.empty((len(times), size, size), np.uint8)
    everything = np.ones(len(debris), bool)
    for k, t in enumerate(times):
        origin = (low / scale - middle_px[k]) + size / 2
        layer = renderer.draw_debris(debris, debris.positions_um(t) / scale + origin, everything)
        image = renderer.draw(_heads_of(others, t, scale, origin), [layer]) @ _LUMA
        image += _tail_layer(renderer, sperm, t, sperm.swimmer.head_um_at(times[k : k + 1])[0, 0] / scale
                             - middle_px[k] + size / 2)  # fmt: skip
        clip[k] = _exposed(image + heads[k], field.look, renderer, camera)
    return clip, middle_px


def _tracking_error(rng: np.random.Generator) -> FloatArray:
    """(16, 2) px by which the middle of the picture misses the head: a slowly changing error, now and then a slip."""
    error = np.empty((CLIP_FRAMES, 2))
    error[0] = rng.normal(0, 0.6, 2)
    for k in range(1, CLIP_FRAMES):
        error[k] = 0.7 * error[k - 1] + rng.normal(0, 0.45, 2)
    if rng.uniform() < 0.05:
        error[int(rng.integers(2, CLIP_FRAMES)) :] += rng.normal(0, 4.0, 2)
    return np.clip(error, -15.0, 15.0)


def _others(
    rng: np.random.Generator, field: Field, area: tuple[float, float], pictures: float, duration_s: float
) -> Swimmers:
    count = int(rng.poisson(field.others * pictures))
    shares = np.array(list(ORDINARY_MIX.values()))
    modes = [list(ORDINARY_MIX)[k] for k in rng.choice(len(MODES), count, p=shares / shares.sum())]
    seeds = np.random.SeedSequence(int(rng.integers(1 << 60))).spawn(count)
    return sample_swimmers(seeds, modes, area, duration_s + 0.1, VCL_INTERVAL_S, 0.7)


def _heads_of(swimmers: Swimmers, t_s: float, scale: float, origin_px: FloatArray) -> Heads:
    centre = swimmers.head_um_at(np.array([t_s]))[:, 0] / scale + origin_px
    return Heads(
        centre_px=centre,
        half_axes_px=swimmers.head_um / (2 * scale),
        direction_rad=swimmers.orientation_at(t_s),
        tails_px=centre[:, None] + swimmers.tails_um(t_s, _TAIL_POINTS) / scale,
        defocus_um=swimmers.defocus_um(t_s),
        flash=swimmers.flash(t_s),
        vigour=swimmers.vigour,
        variety=swimmers.variety,
    )


def _head_pictures(
    look: Look, sperm: Sperm, times: FloatArray, zoom: float, scale: float, centre_px: FloatArray
) -> Image:
    """(16, 150, 150) what the sperm's head (and a droplet on its neck) adds to the field, in 8-bit units."""
    s = sperm.swimmer
    body, ring, core, halo = (float(np.dot(colour, _LUMA)) for colour in (look.body, look.ring, look.core, look.halo))
    a, b = (float(x) / (2 * scale) for x in s.head_um[0])
    direction = np.array([s.orientation_at(t)[0] for t in times], np.float32)[:, None, None]
    flash = np.array([s.flash(t)[0] for t in times], np.float32)[:, None, None]
    blur = np.abs([s.defocus_um(t)[0] for t in times]).astype(np.float32)[:, None, None] * np.float32(1.1 * zoom)
    grid = np.arange(-_REACH, _REACH + 1, dtype=np.float32)
    corner = np.floor(centre_px).astype(np.int64)
    aside = (centre_px - corner).astype(np.float32)
    x, y = grid[None, None, :] - aside[:, 0, None, None], grid[None, :, None] - aside[:, 1, None, None]
    forward = (x * np.cos(direction) + y * np.sin(direction)) / np.float32(a)
    # A flat head that rolls is narrower from the side; it does not lie still either.
    across = (y * np.cos(direction) - x * np.sin(direction)) / (np.float32(b) * (1 - 0.18 * flash))
    shape = np.array([[0.1 + 0.55 * sperm.of("pyriform")[0], 0.0, 0.0]], np.float32)[..., None, None]
    across = unbent(forward, across, shape)
    r = np.hypot(forward, across)
    amorphous, chance = sperm.of("amorphous")
    if amorphous > 0.02:
        angle = np.arctan2(across, forward)
        lumps = sum(
            (0.22, 0.16, 0.1)[n] * (0.6 + chance[n]) * np.cos((n + 2) * angle + 2 * np.pi * chance[3 - n])
            for n in range(3)
        )
        r = r / (1 + np.float32(amorphous) * lumps)
    middle = np.float32(np.sqrt(a * b))
    spread = np.sqrt(1 + (blur / middle) ** 2)
    fade = 1 / spread**2
    soft = np.float32(look.edge * max(zoom, 0.5)) * spread
    filled = 1 / (1 + np.exp(np.clip((r - 1) * middle / soft, -20, 20)))
    rim = np.exp(-(((r - look.ring_radius - 0.12) * middle / (look.ring_width * zoom * spread)) ** 2))
    su, sv = (2 * np.float32(size) * spread for size in look.core_size)
    glare = np.exp(-0.5 * (((forward - np.float32(look.core_offset)) / su) ** 2 + (across / sv) ** 2)) * filled
    vacuoles, chance = sperm.of("vacuoles")
    hole = np.zeros_like(r)
    for n in range(1 + int(3 * chance[3])):
        at = 2 * np.pi * (chance[0] + 0.37 * n)
        place = 0.1 + 0.3 * np.cos(at), 0.42 * np.sin(at)
        wide = 0.16 + 0.16 * chance[1]
        hole += np.exp(-0.5 * (((forward - place[0]) / wide) ** 2 + ((across - place[1]) / (1.4 * wide)) ** 2))
    solid = filled * (1 - np.float32(0.95 * vacuoles) * np.minimum(hole, 1))
    shine = np.float32(s.vigour[0] ** 0.4) * (0.8 + 0.25 * flash)
    distance = np.maximum((r - 1) * middle, 0)
    glow = np.exp(-distance / (look.halo_sigma * 0.8 * zoom * spread)) * np.float32(0.5)
    head = (body * solid + core * glare * (solid / np.maximum(filled, 1e-3))) * shine * fade
    head += (0.8 * ring * rim * fade + halo * glow) * (0.8 + 0.2 * shine)
    head += _droplets(look, sperm, a, b, forward * a, across * b, fade, zoom, scale)
    out = np.zeros((len(times), CLIP_SIZE_PX, CLIP_SIZE_PX), np.float32)
    for picture, patch, (left, top) in zip(out, head, (corner - _REACH).tolist(), strict=True):
        picture[top : top + len(grid), left : left + len(grid)] = patch
    return out


def _droplets(
    look: Look, sperm: Sperm, a: float, b: float, along: Image, across: Image, fade: Image, zoom: float, scale: float
) -> Image:
    """Cytoplasm left on the neck: a gray ball, up to more than a third of the head's size."""
    severity, chance = sperm.of("droplet")
    if severity < 0.1:
        return np.zeros_like(along)
    radius = (0.35 + 1.15 * severity) / scale
    side = (1 if chance[0] < 0.5 else -1) * (0.2 + 0.5 * chance[1]) * radius
    r = np.hypot(along + a + (0.5 + 0.5 * chance[2]) * radius, across - side)
    ball = 1 / (1 + np.exp(np.clip((r - radius) / (0.8 * zoom), -20, 20)))
    rim = np.exp(-(((r - radius - 0.8 * zoom) / (1.0 * zoom)) ** 2))
    tone = float(np.dot(look.body, _LUMA)), float(np.dot(look.ring, _LUMA))
    return fade * (1.5 * tone[0] * ball + 0.6 * tone[1] * rim)


def _tail_layer(renderer: Renderer, sperm: Sperm, t_s: float, centre_px: FloatArray) -> Image:
    """(150, 150) what the neck, the midpiece and the tail add: lines, dark with bright fringes."""
    look, zoom, scale = renderer.look, renderer.zoom, renderer.um_per_px
    shape = (CLIP_SIZE_PX + 2 * _PAD, CLIP_SIZE_PX + 2 * _PAD)
    thick, chance = sperm.of("neck_thick")
    lines = np.zeros(shape, np.float32)
    for strand in tail_strands_um(sperm, t_s, _TAIL_POINTS):
        points = strand / scale + centre_px
        steps = np.diff(points, axis=0, append=2 * points[-1:] - points[-2:-1])
        spacing = np.linalg.norm(steps, axis=-1)
        arc_um = np.cumsum(spacing) * scale
        normal = np.stack([-steps[:, 1], steps[:, 0]], axis=-1) / np.maximum(spacing, 1e-6)[:, None]
        # The midpiece is 4 to 5 um long and twice as wide as the tail behind it.
        midpiece = 1 / (1 + np.exp(np.clip((arc_um - 4.5) / 0.5, -20, 20)))
        lump = np.exp(-(((arc_um - 1.2 - 2 * chance[1]) / 1.4) ** 2)) * thick
        half_um = 0.16 + 0.2 * midpiece + 0.9 * lump
        profile = (0.55 + 0.45 * np.exp(-arc_um / 10) + 0.5 * midpiece + 2.2 * lump) * np.exp(-arc_um / 45)
        across = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])[:, None] * (half_um / scale)
        spots = points[None] + across[..., None] * normal
        weights = np.broadcast_to(profile * spacing / (5 * 0.75), across.shape)
        lines += _splat(shape, spots.reshape(-1, 2) + _PAD, weights.ravel() * (0.8 + 0.4 * sperm.swimmer.variety[0, 3]))
    defocus = abs(float(sperm.swimmer.defocus_um(t_s)[0]))
    sigma = float(np.hypot(look.tail_blur * max(zoom, 0.6), 0.8 * defocus * zoom))
    narrow, wide = (cv2.GaussianBlur(lines, (0, 0), sd) for sd in (sigma, 2.6 * sigma + 0.5))
    peak = 2.5 * look.tail_blur
    lines = cv2.addWeighted(narrow, peak, wide, -peak * look.tail_fringe, 0)[_PAD:-_PAD, _PAD:-_PAD]
    return np.asarray(lines * np.float32(np.dot(look.tail, _LUMA)), np.float32)


def _exposed(image: Image, look: Look, renderer: Renderer, rng: np.random.Generator) -> NDArray[np.uint8]:
    """What a gray camera makes of (150, 150) float32: edges enhanced, grain added, 8 bits."""
    soft = cv2.GaussianBlur(image, (0, 0), 1.2 * max(renderer.zoom, 0.6))
    image = np.clip(cv2.addWeighted(image, 1 + look.sharpen, soft, -look.sharpen, 0), 4, 255)
    grain = rng.standard_normal(image.shape, np.float32)
    if look.noise_sigma > 0.4:
        grain = cv2.GaussianBlur(grain, (0, 0), look.noise_sigma)
        grain *= np.float32(2 * np.sqrt(np.pi) * look.noise_sigma)  # as strong as before the blur
    image = image + grain * np.sqrt(np.float32(look.read_noise**2) + np.float32(look.shot_noise) * image)
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)

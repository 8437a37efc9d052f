"""Pictures for training a detector: every one of another microscope, sample, density and camera.

Wide on purpose: what a detector has seen varied in training does not surprise it in a clinic. Only sperm heads have
boxes; debris has none, so that a detector learns to leave it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.simulate.look import BRIGHTFIELD, PHASE_CONTRAST, Look
from casa.simulate.scene import Scene, SceneConfig
from casa.simulate.swimmers import Mode
from casa.types import Frame

#: Shares of kinds of picture: near the real phase contrast, anywhere around it, brightfield likewise, and plain dark
#: blobs on an even ground as simple simulators draw them.
KINDS = {"phase": 0.30, "phase_wild": 0.22, "brightfield": 0.22, "brightfield_wild": 0.16, "plain": 0.10}


def random_training_image(
    rng: np.random.Generator, width_px: int = 640, height_px: int = 480, kind: str | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """One picture (h, w, 3) RGB uint8 and the boxes (n, 4) xyxy in px of the sperm heads in it (class 0).

    ``kind`` is one of KINDS, or drawn by their shares.
    """
    kind = kind or str(rng.choice(list(KINDS), p=list(KINDS.values())))
    scene = Scene(random_scene(rng, kind, width_px, height_px), int(rng.integers(1 << 40)))
    frame = scene.frame(0)
    assert isinstance(frame, Frame)
    truth = scene.truth()
    centre = np.stack([truth.cx_px, truth.cy_px], axis=1)
    half = np.stack([truth.w_px, truth.h_px], axis=1) / 2
    image, boxes = frame.image, np.concatenate([centre - half, centre + half], axis=1)
    if rng.uniform() < 0.12:
        image = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    return np.asarray(image, np.uint8), boxes


def training_images(
    seed: int, count: int, width_px: int = 640, height_px: int = 480
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float64]]]:
    """``count`` pictures and boxes, the same for the same seed; picture k does not depend on ``count``."""
    for child in np.random.SeedSequence(seed).spawn(count):
        yield random_training_image(np.random.default_rng(child), width_px, height_px)


def random_scene(rng: np.random.Generator, kind: str, width_px: int, height_px: int) -> SceneConfig:
    """A one-frame scene of a kind, with everything about it drawn at random."""
    u = rng.uniform
    phase = kind.startswith("phase")
    wild = kind.endswith("wild")
    look = _random_look(rng, PHASE_CONTRAST if phase else BRIGHTFIELD, wild)
    um_per_px = float(np.exp(u(np.log(0.25), np.log(0.75)))) if wild else float(u(0.34, 0.46))
    if kind == "plain":
        look, um_per_px = _plain_look(rng), float(u(0.3, 0.6))
    crowd = float(rng.choice([u(0, 5), u(5, 40), u(40, 80)], p=[0.12, 0.68, 0.20]))
    interlaced = bool(rng.uniform() < (0.6 if kind.startswith("brightfield") else 0.08))
    return SceneConfig(
        name=kind,
        width_px=width_px,
        height_px=height_px,
        fps_hz=float(u(25, 30)) if interlaced else 50.0,
        n_frames=1,
        um_per_px=um_per_px,
        cells_per_frame=crowd,
        mix={mode: float(share) for mode, share in zip(Mode, rng.dirichlet(np.ones(len(Mode))), strict=True)},
        look=look,
        defocus_um=float(u(0.2, 1.6)),
        dots=0 if kind == "plain" else int(np.exp(u(np.log(10), np.log(350)))),
        dot_radius_um=float(u(0.35, 1.0)),
        round_cells=0 if kind == "plain" else int(rng.integers(0, 8)),
        bright_grains=0 if kind == "plain" else int(rng.integers(0, 10)),
        interlaced=interlaced,
    )


def _random_look(rng: np.random.Generator, look: Look, wild: bool) -> Look:
    """Vary a look: moderately around the real ones, or widely."""
    u, spread = rng.uniform, 0.55 if wild else 0.22

    def scaled(colour: tuple[float, ...], cast: float = 0.06) -> tuple[float, float, float]:
        gain = np.exp(rng.normal(0, spread)) * np.exp(rng.normal(0, cast, 3))
        return tuple(float(value) for value in np.array(colour) * gain)  # type: ignore[return-value]

    dark = look.background[0] < 100
    if wild:
        level = u(15, 110) if dark else u(110, 225)
        cast = 1 + rng.normal(0, 0.07, 3)
    else:
        level = u(40, 75) if dark else u(130, 200)
        cast = np.array(look.background) / np.mean(look.background) * (1 + rng.normal(0, 0.02, 3))
    core = scaled(look.core)
    if not dark and rng.uniform() < 0.5:
        core = tuple(float(c) for c in np.full(3, u(-40, 40)))  # type: ignore[assignment]
    return replace(
        look,
        background=tuple(float(c) for c in level * cast),
        uneven=float(u(0, 0.35 if wild else 0.12)),
        body=scaled(look.body),
        ring=scaled(look.ring),
        core=core,
        cap=scaled(look.cap, 0.2),
        halo=scaled(look.halo, 0.12),
        core_offset=look.core_offset + float(rng.normal(0, 0.15)),
        core_size=(look.core_size[0] * float(u(0.75, 1.35)), look.core_size[1] * float(u(0.75, 1.35))),
        ring_radius=look.ring_radius * float(u(0.9, 1.15)),
        ring_width=look.ring_width * float(u(0.7, 1.5)),
        halo_sigma=look.halo_sigma * float(u(0.6, 1.6)),
        edge=look.edge * float(u(0.7, 1.8)),
        tail=scaled(look.tail),
        tail_fade=look.tail_fade * float(u(0.6, 2.5)),
        tail_fringe=float(u(0.2, 0.8)),
        tail_blur=look.tail_blur * float(u(0.8, 1.6)),
        dot=scaled(look.dot),
        dot_ring=float(u(0.0, 0.6)),
        round_cell=scaled(look.round_cell),
        flash=float(u(0.1, 0.6)),
        chroma_shift=float(u(0, 1.0)),
        sharpen=float(u(0, 1.6)),
        read_noise=float(u(0.3, 6.0 if wild else 2.5)),
        shot_noise=float(u(0, 0.12 if wild else 0.05)),
        noise_sigma=float(u(0.0, 1.4)),
        chroma_noise=float(u(0, 4.0)),
        jpeg_quality=int(u(35, 97)),
        saturation=float(rng.choice([0.0, 0.5, 1.0, 1.3], p=[0.15, 0.15, 0.6, 0.1])),
        gamma=float(u(0.75, 1.3)) if wild else 1.0,
    )


def _plain_look(rng: np.random.Generator) -> Look:
    """Dark blobs with a bright rim and faint tails on an even light ground, nearly free of noise."""
    u = rng.uniform
    level = float(u(150, 235))
    ring = float(u(10, 60))
    depth = -float(u(0.5, 1.0)) * level
    return replace(
        BRIGHTFIELD,
        background=(level,) * 3,
        uneven=float(u(0, 0.03)),
        body=(depth,) * 3,
        core=(0.0,) * 3,
        cap=(0.0,) * 3,
        ring=(ring,) * 3,
        ring_radius=float(u(1.3, 1.9)),
        ring_width=float(u(1.2, 2.6)),
        halo=(float(u(0, 10)),) * 3,
        tail=(-float(u(3, 25)),) * 3,
        flash=0.0,
        edge=float(u(0.4, 0.9)),
        chroma_shift=0.0,
        read_noise=float(u(0, 1.0)),
        shot_noise=0.0,
        chroma_noise=0.0,
        jpeg_quality=int(u(60, 98)),
        saturation=0.0,
    )

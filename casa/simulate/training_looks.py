"""Looks for training: every one of another microscope and camera, around the two real ones or far from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from casa.simulate.look import BRIGHTFIELD, Look


def random_look(rng: np.random.Generator, look: Look, wild: bool) -> Look:
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
    # Small debris from hardly visible to as dark as heads; its ring from none to as bright as the head's.
    dot = scaled(tuple(np.array(look.dot) * float(u(0.6, 1.6))))
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
        dot=dot,
        dot_ring=float(u(0.0, 0.7)),
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


def plain_look(rng: np.random.Generator) -> Look:
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

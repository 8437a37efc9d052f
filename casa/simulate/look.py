"""How things look under a kind of microscope: plain numbers, in 8-bit intensity above or below the background.

A head is drawn in its own frame (u forward, v across, in units of its half axes) as the sum of a filled body, a
ring at its rim, a bright or dark core, a cap over the acrosome, and a wide halo. Phase contrast and brightfield
differ by these numbers alone. Knows nothing else of casa.
"""

from __future__ import annotations

from dataclasses import dataclass

Rgb = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Look:
    """Intensities (8-bit), sizes (px of a camera at 0.4 um/px, scaled with the scale in use) and camera faults.

    background : of the empty field. uneven : largest deviation of the illumination, as a fraction.
    body, ring, core, cap, halo : of the head; core_offset and core_size in half axes, ring_radius in half axes,
    ring_width and halo_sigma in px. edge : softness of the head's rim, px.
    core_spread : factor on the core's size by colour: lenses do not focus all colours alike.
    tail, tail_fringe : amplitude of the tail and of the opposite fringe beside it. tail_blur : sd of its profile, px.
    tail_fade : part of the tail's length along which it grows fainter by 1/e.
    dot, dot_ring : of small debris and its ring. round_cell : of large debris.
    flash : share of the core's brightness that comes and goes with the rolling head.
    chroma_shift : px by which red and blue are displaced from green.
    sharpen : the camera's edge enhancement, as a factor on what a blur of 1.2 px removes.
    read_noise, shot_noise : sd is sqrt(read_noise^2 + shot_noise * intensity); noise_sigma : its grain, px.
    chroma_noise : sd of large soft colour blotches, as compressors leave them.
    jpeg_quality : of the camera's compression, 0 for none. saturation : 0 for a gray camera. gamma : of the camera.
    box_margin_um : how far annotators put their boxes outside the head.
    """

    background: Rgb
    uneven: float
    body: Rgb
    ring: Rgb
    core: Rgb
    cap: Rgb
    halo: Rgb
    core_offset: float
    core_size: tuple[float, float]
    core_spread: Rgb
    ring_radius: float
    ring_width: float
    halo_sigma: float
    edge: float
    tail: Rgb
    tail_fade: float
    tail_fringe: float
    tail_blur: float
    dot: Rgb
    dot_ring: float
    round_cell: Rgb
    flash: float
    chroma_shift: float
    sharpen: float
    read_noise: float
    shot_noise: float
    noise_sigma: float
    chroma_noise: float
    jpeg_quality: int
    saturation: float = 1.0
    gamma: float = 1.0
    box_margin_um: float = 2.6


#: After VISEM: bright cores in a dark reddish rim and a bluish halo, dark tails, on dark gray.
PHASE_CONTRAST = Look(
    background=(53.0, 58.0, 62.0),
    uneven=0.05,
    body=(10.0, 0.0, 4.0),
    ring=(-28.0, -52.0, -44.0),
    core=(215.0, 212.0, 200.0),
    cap=(-24.0, -44.0, -38.0),
    halo=(50.0, 66.0, 70.0),
    core_offset=-0.1,
    core_size=(0.32, 0.44),
    core_spread=(1.18, 0.92, 1.06),
    ring_radius=1.08,
    ring_width=1.1,
    halo_sigma=4.6,
    edge=0.8,
    tail=(-19.0, -25.0, -24.0),
    tail_fade=0.9,
    tail_fringe=0.45,
    tail_blur=1.0,
    dot=(-33.0, -40.0, -42.0),
    dot_ring=0.10,
    round_cell=(-30.0, -32.0, -34.0),
    flash=0.55,
    chroma_shift=0.7,
    sharpen=0.9,
    read_noise=1.3,
    shot_noise=0.02,
    noise_sigma=0.9,
    chroma_noise=1.6,
    jpeg_quality=82,
)

#: After interlaced video of unstained cells in brightfield: dark heads with a bright rim, faint tails, on light gray.
BRIGHTFIELD = Look(
    background=(152.0, 155.0, 151.0),
    uneven=0.03,
    body=(-118.0, -118.0, -116.0),
    ring=(28.0, 29.0, 25.0),
    core=(10.0, 12.0, 8.0),
    cap=(34.0, 36.0, 32.0),
    halo=(20.0, 20.0, 18.0),
    core_offset=0.1,
    core_size=(0.45, 0.35),
    core_spread=(1.0, 1.0, 1.0),
    ring_radius=1.5,
    ring_width=2.0,
    halo_sigma=5.0,
    edge=1.0,
    tail=(-34.0, -34.0, -33.0),
    tail_fade=0.28,
    tail_fringe=0.6,
    tail_blur=1.1,
    dot=(-80.0, -79.0, -76.0),
    dot_ring=0.14,
    round_cell=(-26.0, -26.0, -26.0),
    flash=0.3,
    chroma_shift=0.25,
    sharpen=0.5,
    read_noise=1.9,
    shot_noise=0.015,
    noise_sigma=0.8,
    chroma_noise=1.8,
    jpeg_quality=75,
    box_margin_um=0.8,
)

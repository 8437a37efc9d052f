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
    tail, tail_fringe : amplitude of the tail and of the opposite fringe beside it. tail_blur : sd of its profile, px.
    dot, dot_ring : of small debris and its ring. round_cell : of large debris.
    flash : share of the core's brightness that comes and goes with the rolling head.
    chroma_shift : px by which red and blue are displaced from green.
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
    ring_radius: float
    ring_width: float
    halo_sigma: float
    edge: float
    tail: Rgb
    tail_fringe: float
    tail_blur: float
    dot: Rgb
    dot_ring: float
    round_cell: Rgb
    flash: float
    chroma_shift: float
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
    body=(-22.0, -26.0, -22.0),
    ring=(-46.0, -62.0, -58.0),
    core=(245.0, 230.0, 235.0),
    cap=(-30.0, -40.0, -34.0),
    halo=(50.0, 66.0, 68.0),
    core_offset=-0.15,
    core_size=(0.40, 0.42),
    ring_radius=1.05,
    ring_width=1.5,
    halo_sigma=4.6,
    edge=0.7,
    tail=(-27.0, -31.0, -32.0),
    tail_fringe=0.55,
    tail_blur=0.85,
    dot=(-34.0, -37.0, -39.0),
    dot_ring=0.25,
    round_cell=(-30.0, -32.0, -34.0),
    flash=0.45,
    chroma_shift=0.45,
    read_noise=1.0,
    shot_noise=0.02,
    noise_sigma=0.9,
    chroma_noise=1.6,
    jpeg_quality=82,
)

#: After interlaced video of unstained cells in brightfield: dark heads with a bright rim, faint tails, on light gray.
BRIGHTFIELD = Look(
    background=(152.0, 155.0, 152.0),
    uneven=0.03,
    body=(-75.0, -75.0, -75.0),
    ring=(26.0, 26.0, 26.0),
    core=(14.0, 16.0, 14.0),
    cap=(16.0, 18.0, 16.0),
    halo=(5.0, 5.0, 5.0),
    core_offset=0.1,
    core_size=(0.45, 0.35),
    ring_radius=1.42,
    ring_width=1.5,
    halo_sigma=4.5,
    edge=0.8,
    tail=(-20.0, -20.0, -20.0),
    tail_fringe=0.6,
    tail_blur=1.1,
    dot=(-62.0, -60.0, -58.0),
    dot_ring=0.3,
    round_cell=(-26.0, -26.0, -26.0),
    flash=0.3,
    chroma_shift=0.25,
    read_noise=1.6,
    shot_noise=0.015,
    noise_sigma=1.0,
    chroma_noise=2.6,
    jpeg_quality=75,
    box_margin_um=0.9,
)

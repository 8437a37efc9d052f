"""A simulated recording: what is in view when, the pictures of it, and the truth about it.

The field of view is a window on a larger area whose opposite edges meet, so that cells enter and leave while the
concentration stays what it is. Everything follows from the preset (or SceneConfig) and the seed; pictures can be
drawn in any order. Knows the simulator's own modules and `casa.types`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from casa.errors import InputError
from casa.simulate.debris import sample_debris
from casa.simulate.look import BRIGHTFIELD, PHASE_CONTRAST, Look
from casa.simulate.render import Heads, Renderer
from casa.simulate.swimmers import MODES, ORDINARY_MIX, Mode, sample_swimmers
from casa.types import Calibration, Frame, FrameStatus, KinematicsTable, MissingFrame, TrackTable

FloatArray = NDArray[np.float64]

_TAIL_POINTS = 170
#: A cell out of view for longer than this comes back as a new track.
_FORGET_S = 0.5


@dataclass(frozen=True, slots=True)
class SceneConfig:
    """What to simulate.

    cells_per_frame is the mean number of heads in view, at which ``mix`` (shares of the modes) is drawn.
    defocus_um : standard deviation of the cells' height over the focal plane. dots (of median radius
    dot_radius_um), round_cells, bright_grains : particles per frame, ``drifting_share`` of which move.
    drift_um_s : flow of the whole field. interlaced : the two fields of a frame are half a frame interval apart
    (upper rows first). time_jitter_s : standard deviation of the frames' times about the nominal ones.
    missing_share : frames that were captured but have no picture.
    """

    name: str = "custom"
    width_px: int = 640
    height_px: int = 480
    fps_hz: float = 50.0
    n_frames: int = 500
    um_per_px: float = 0.4
    chamber_depth_um: float = 20.0
    cells_per_frame: float = 30.0
    mix: Mapping[Mode, float] = field(default_factory=lambda: dict(ORDINARY_MIX))
    look: Look = PHASE_CONTRAST
    defocus_um: float = 0.6
    dots: int = 500
    dot_radius_um: float = 0.4
    round_cells: int = 1
    bright_grains: int = 2
    drifting_share: float = 0.15
    drift_um_s: tuple[float, float] = (0.0, 0.0)
    interlaced: bool = False
    time_jitter_s: float = 0.0
    missing_share: float = 0.0

    def __post_init__(self) -> None:
        positive = ("width_px", "height_px", "fps_hz", "n_frames", "um_per_px", "chamber_depth_um")
        for name in positive:
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InputError(f"simulated scene: {name} must be positive, got {getattr(self, name)}")
        if self.cells_per_frame < 0 or not self.mix or min(self.mix.values()) < 0 or sum(self.mix.values()) <= 0:
            raise InputError(
                "simulated scene: cells_per_frame and the shares of mix must not be negative, nor all zero"
            )
        if not 0 <= self.missing_share < 1:
            raise InputError(f"simulated scene: missing_share must be in [0, 1), got {self.missing_share}")


_DEFAULT = SceneConfig(name="default")

_SLUGGISH_MIX = {
    Mode.PROGRESSIVE: 0.2,
    Mode.SLOW: 0.15,
    Mode.CIRCULAR: 0.03,
    Mode.HYPERACTIVE: 0.01,
    Mode.NON_PROGRESSIVE: 0.2,
    Mode.IMMOTILE: 0.41,
}
_BRIGHTFIELD = replace(
    _DEFAULT,
    name="brightfield",
    width_px=698,
    height_px=528,
    fps_hz=30.0,
    n_frames=300,
    um_per_px=0.32,
    mix=_SLUGGISH_MIX,
    look=BRIGHTFIELD,
    defocus_um=1.1,
    dots=100,
    dot_radius_um=0.75,
    round_cells=3,
    bright_grains=1,
    interlaced=True,
    cells_per_frame=24.0,
)
_FAST_MIX = {Mode.PROGRESSIVE: 0.7, Mode.CIRCULAR: 0.15, Mode.HYPERACTIVE: 0.1, Mode.IMMOTILE: 0.05}

#: Scenes by name, as ``simulator:NAME`` and ``casa simulate --preset NAME`` take them.
PRESETS: Mapping[str, SceneConfig] = {
    scene.name: scene
    for scene in (
        _DEFAULT,
        _BRIGHTFIELD,
        replace(_DEFAULT, name="dense", cells_per_frame=60.0),
        replace(_DEFAULT, name="sparse", cells_per_frame=8.0, dots=60),
        replace(_DEFAULT, name="fast", fps_hz=60.0, mix=_FAST_MIX),
        replace(_DEFAULT, name="drift", drift_um_s=(6.0, -3.0)),
        replace(_DEFAULT, name="faulty", time_jitter_s=0.002, missing_share=0.03),
        replace(_DEFAULT, name="empty", cells_per_frame=0.0),
        replace(_DEFAULT, name="magnified", um_per_px=0.2, cells_per_frame=10.0, dots=40),  # heads have a shape
    )
}


class Scene:
    """A simulated recording, made by `simulate`; ``frame(i)`` may be asked for in any order."""

    def __init__(self, config: SceneConfig, seed: int) -> None:
        self.config = config
        self.seed = seed
        root = np.random.SeedSequence([seed, 0xCA5A])
        times_seed, mix_seed, debris_seed, camera_seed, swimmers_seed = root.spawn(5)
        self.t_ns, self.missing = _frame_times(config, np.random.default_rng(times_seed))
        view = np.array([config.width_px, config.height_px]) * config.um_per_px
        # Wide enough that a head that jumps to the other edge has its whole tail out of view.
        self._margin_um = 50.0
        self._area_um = view + 2 * self._margin_um
        count = round(config.cells_per_frame * float(np.prod(self._area_um / view)))
        modes = _modes(config.mix, count, np.random.default_rng(mix_seed))
        duration = float(self.t_ns[-1]) / 1e9 + 2.0 / config.fps_hz
        self.swimmers = sample_swimmers(
            swimmers_seed.spawn(count), modes, tuple(self._area_um), duration, self._interval_s, config.defocus_um
        )
        scale = float(np.prod(self._area_um / view))
        self.debris = sample_debris(
            np.random.default_rng(debris_seed),
            tuple(self._area_um),
            dots=round(config.dots * scale),
            round_cells=round(config.round_cells * scale),
            bright=round(config.bright_grains * scale),
            dot_radius_um=config.dot_radius_um,
            drifting_share=config.drifting_share,
            defocus_um=config.defocus_um,
        )
        self._renderer = Renderer(
            config.look, config.width_px, config.height_px, config.um_per_px, config.n_frames, camera_seed
        )

        self._still_debris: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return self.config.n_frames

    @property
    def _interval_s(self) -> float:
        """Nominal time between pictures: fields of an interlaced source count as pictures of their own."""
        return 1.0 / (self.config.fps_hz * (2 if self.config.interlaced else 1))

    def calibration(self) -> Calibration:
        """The scale and the chamber of the simulated microscope, which are exact."""
        c = self.config
        return Calibration(
            name=f"simulated {c.name}", um_per_px_x=c.um_per_px, um_per_px_y=c.um_per_px, width_px=c.width_px,
            height_px=c.height_px, uncertainty_percent=0.0, chamber_depth_um=c.chamber_depth_um, verified=True,
            note=f"exact, of the simulated scene {c.name}, seed {self.seed}",
        )  # fmt: skip

    def frame(self, index: int) -> Frame | MissingFrame:
        """The picture of one frame (RGB uint8), or why there is none."""
        t_ns = int(self.t_ns[index])
        if self.missing[index]:
            return MissingFrame(index, t_ns, "the simulated camera lost this frame", FrameStatus.DROPPED)
        image = self._draw(t_ns / 1e9)
        if self.config.interlaced:
            image = image.copy()
            image[1::2] = self._draw(t_ns / 1e9 + self._interval_s)[1::2]
        return Frame(index, t_ns, self._renderer.expose(image, index))

    def frames(self) -> Iterator[Frame | MissingFrame]:
        """All frames in order."""
        for index in range(len(self)):
            yield self.frame(index)

    def positions_px(self, t_s: FloatArray) -> FloatArray:
        """(n, m, 2) head centres of all swimmers in frame coordinates, wrapped into the simulated area."""
        return self._to_view(self.swimmers.head_um_at(t_s), t_s)[0]

    def truth(self, separate_fields: bool = False) -> TrackTable:
        """Boxes and track ids of all heads whose centre is in view, sorted by track and time.

        Boxes surround head and halo the way VISEM-Tracking's annotators drew them, and are cut at the frame's
        border (``x_measured_px`` stays the head's true centre). Missing frames have no rows. Of an interlaced
        frame the truth is that of the moment between its fields, at the time of the first; with
        ``separate_fields`` each field has its own rows at its own time.
        """
        from casa.simulate.truth import truth_table

        return truth_table(self, separate_fields)

    def kinematics_truth(self) -> KinematicsTable:
        """Exact kinematics of each track of `truth`, from the model's path; see `casa.simulate.truth`."""
        from casa.simulate.truth import kinematics_table

        return kinematics_table(self)

    def track_modes(self) -> dict[int, Mode]:
        """How the swimmer behind each track id of `truth` swims."""
        from casa.simulate.truth import visits

        return {visit.track_id: MODES[int(self.swimmers.mode[visit.swimmer])] for visit in visits(self)}

    def concentration_truth(self) -> float:
        """M/mL: mean number of heads in view over the volume in view, over all frames that have a picture."""
        c = self.config
        t_s = self.t_ns[~self.missing] / 1e9
        heads = self.in_view(self.positions_px(t_s)).sum() / max(len(t_s), 1)
        volume_ml = c.width_px * c.height_px * c.um_per_px**2 * c.chamber_depth_um * 1e-12
        return float(heads / volume_ml / 1e6)

    def in_view(self, xy_px: FloatArray) -> NDArray[np.bool_]:
        """Whether head centres (…, 2) lie within the frame."""
        inside = (xy_px >= 0) & (xy_px < np.array([self.config.width_px, self.config.height_px]))
        return np.asarray(inside.all(-1))

    def _to_view(self, um: FloatArray, t_s: FloatArray | float) -> tuple[FloatArray, NDArray[np.int64]]:
        """Positions (n, m, 2) in um -> frame px, and how many times each has gone round the area (n, m, 2)."""
        flow = np.multiply.outer(np.asarray(t_s, float), np.array(self.config.drift_um_s))
        um = um + flow
        lap = np.floor(um / self._area_um).astype(np.int64)
        return (um - lap * self._area_um - self._margin_um) / self.config.um_per_px, lap

    def _draw(self, t_s: float) -> NDArray[np.float32]:
        at = np.array([t_s])
        scale = self.config.um_per_px
        swimmers = self.swimmers
        centre = self._to_view(swimmers.head_um_at(at), at)[0][:, 0]
        heads = Heads(
            centre_px=centre,
            half_axes_px=swimmers.head_um / (2 * scale),
            direction_rad=swimmers.orientation_at(t_s),
            tails_px=centre[:, None] + swimmers.tails_um(t_s, _TAIL_POINTS) / scale,
            defocus_um=swimmers.defocus_um(t_s),
            flash=swimmers.flash(t_s),
            vigour=swimmers.vigour,
            variety=swimmers.variety,
        )
        particles = self._to_view(self.debris.positions_um(t_s)[:, None], at)[0][:, 0]
        draw = self._renderer.draw_debris
        if any(self.config.drift_um_s):
            return self._renderer.draw(heads, [draw(self.debris, particles, np.ones(len(particles), bool))])
        if self._still_debris is None:
            self._still_debris = draw(self.debris, particles, ~self.debris.moving)
        return self._renderer.draw(heads, [self._still_debris, draw(self.debris, particles, self.debris.moving)])


def simulate(preset: str | SceneConfig = "default", seed: int = 0, n_frames: int | None = None) -> Scene:
    """A scene by preset name or configuration; the same arguments always give the same pictures and truth.

    Raises
    ------
    InputError : there is no preset of that name.
    """
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise InputError(f"simulator preset {preset!r}: there is none; choose one of {', '.join(PRESETS)}")
        config = PRESETS[preset]
    else:
        config = preset
    if n_frames is not None:
        config = replace(config, n_frames=n_frames)
    return Scene(config, seed)


def _frame_times(config: SceneConfig, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Times (ns, increasing) and which frames are missing; the first frame is always there.

    Drawn frame by frame, so that a longer recording begins as a shorter one of the same seed does.
    """
    draws = rng.uniform(size=(config.n_frames, 3))
    nominal = np.arange(config.n_frames) / config.fps_hz
    # Triangular: as good as normal for a camera's clock, and bounded.
    offset = (draws[:, 0] + draws[:, 1] - 1) * np.sqrt(6) * config.time_jitter_s
    # At least a fifth of an interval apart, as no camera exposes two frames at once.
    times = np.maximum.accumulate(nominal + offset - 0.2 * nominal) + 0.2 * nominal
    missing = draws[:, 2] < config.missing_share
    missing[0] = False
    return np.round((times - times[0]) * 1e9).astype(np.int64), missing


def _modes(mix: Mapping[Mode, float], count: int, rng: np.random.Generator) -> list[Mode]:
    shares = np.array([mix.get(mode, 0.0) for mode in MODES], float)
    return [MODES[k] for k in rng.choice(len(MODES), size=count, p=shares / shares.sum())]

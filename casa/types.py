"""The data that flows between stages: frozen, columnar, validated when made.

Coordinates are pixels of the source frame, origin at its top-left corner, x right, y down. Boxes are
``xyxy`` (left, top, right, bottom) inside casa and centre/size in CSV tables. Times are nanoseconds from
the source's own clock. This module knows no other module of casa.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import date, timedelta
from enum import StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


class FrameStatus(StrEnum):
    """How a captured frame ended; every captured frame ends as exactly one of them."""

    PROCESSED = "processed"
    SKIPPED = "skipped"  # on purpose: every n-th frame is analysed
    DROPPED = "dropped"  # an edge was full
    FAILED = "failed"  # a stage, or the decoder, raised


def _check_column(owner: object, name: str, dtype: Any, shape: tuple[int | None, ...]) -> None:
    """Convert column ``name`` to ``dtype`` (C order, read-only) and check its shape; None stands for any length.

    What is right already, which inside a session is everything, costs less than a microsecond.
    """
    given = getattr(owner, name)
    array = np.asarray(given, dtype, order="C")
    if array.shape != shape and not (
        array.ndim == len(shape)
        and all(want is None or want == got for want, got in zip(shape, array.shape, strict=True))
    ):
        wanted = tuple("n" if size is None else size for size in shape)
        raise ValueError(f"{type(owner).__name__}.{name}: expected shape {wanted}, got {array.shape}")
    if array.flags.writeable:
        array = array.view()
        array.setflags(write=False)
    if array is not given:
        object.__setattr__(owner, name, array)


def boxes_to_centre_size(xyxy: NDArray[Any]) -> NDArray[Any]:
    """(n, 4) left/top/right/bottom -> (n, 4) centre x, centre y, width, height."""
    low, high = xyxy[:, :2], xyxy[:, 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=1)


def centre_size_to_boxes(cxcywh: NDArray[Any]) -> NDArray[Any]:
    """(n, 4) centre x, centre y, width, height -> (n, 4) left/top/right/bottom."""
    centre, half = cxcywh[:, :2], cxcywh[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture from a source.

    Parameters
    ----------
    index : the container's (or camera's) frame number, from 0; the same for both fields of one frame.
    t_ns : time of the picture on the source's clock, in ns.
    image : (h, w) gray or (h, w, 3) RGB, uint8 or uint16: what is analysed. Nobody may write to it.
    field : 0 for a progressive frame or a frame's first field, 1 for the second field.
    make_colour : gives (h, w, 3) RGB of the same picture, where the source has colours and ``image`` leaves them out.
    captured_mono_ns : when a live picture reached this machine, on its monotonic clock, in ns; None of files.
    """

    index: int
    t_ns: int
    image: NDArray[Any]
    field: int = 0
    make_colour: Callable[[], NDArray[Any]] | None = None
    captured_mono_ns: int | None = None

    def __post_init__(self) -> None:
        shape = self.image.shape
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] != 3):
            raise ValueError(f"Frame.image: expected (h, w) or (h, w, 3), got {shape}")

    def colour(self) -> NDArray[Any]:
        """The picture to look at: in colour where the source has it (made at each call, not for every frame)."""
        return self.image if self.make_colour is None else self.make_colour()


@dataclass(frozen=True, slots=True)
class MissingFrame:
    """A frame that was captured but has no picture: a source yields it in place of a Frame.

    ``reason`` is one line, for the recording. ``status`` is FAILED (could not be decoded) or DROPPED.
    """

    index: int
    t_ns: int
    reason: str
    status: FrameStatus = FrameStatus.FAILED
    field: int = 0


#: What a live source can have to say between its frames.
SOURCE_EVENTS = (
    "stalled",  # no frame for longer than there should be
    "resumed",  # frames come again after a stall
    "disconnected",  # the device or the stream is gone
    "reconnected",
    "size_changed",  # pictures are of another size or depth than the session's
    "size_restored",
    "overflow",  # the driver's own buffer was full; the frames lost are counted
    "clock_changed",  # the device's times are no good any more: the host's are used
)


@dataclass(frozen=True, slots=True)
class SourceEvent:
    """Something that befell a live source; it comes between frames, in its place in time.

    ``kind`` is one of SOURCE_EVENTS, ``t_ns`` a time on the source's clock (about that of the last frame, or later),
    ``detail`` one line, ``next_index`` the number that the next frame will have.
    """

    kind: str
    t_ns: int
    detail: str
    next_index: int

    def __post_init__(self) -> None:
        if self.kind not in SOURCE_EVENTS:
            raise ValueError(f"SourceEvent.kind: expected one of {', '.join(SOURCE_EVENTS)}, got {self.kind!r}")


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What the detector found in one frame.

    Parameters
    ----------
    frame, field, t_ns : of the Frame they were found in.
    xyxy : (n, 4) float32, px.
    confidence : (n,) float32 in [0, 1].
    class_id : (n,) int64; 0 sperm, 1 cluster, 2 small or pinhead.
    """

    frame: int
    t_ns: int
    xyxy: Float32Array
    confidence: Float32Array
    class_id: IntArray
    field: int = 0

    def __post_init__(self) -> None:
        n = len(np.asarray(self.confidence))
        _check_column(self, "xyxy", np.float32, (n, 4))
        _check_column(self, "confidence", np.float32, (n,))
        _check_column(self, "class_id", np.int64, (n,))

    def __len__(self) -> int:
        return len(self.confidence)

    def __getitem__(self, rows: Any) -> Detections:
        """Rows chosen by a mask, slice or index array."""
        return Detections(
            self.frame, self.t_ns, self.xyxy[rows], self.confidence[rows], self.class_id[rows], self.field
        )

    @classmethod
    def empty(cls, frame: int, t_ns: int, field: int = 0) -> Detections:
        """No detections: the detector ran and found nothing."""
        return cls(frame, t_ns, np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64), field)


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """The tracks put out online for one frame, one row a confirmed track.

    Parameters
    ----------
    frame, field, t_ns : of the frame.
    track_id : (n,) int64, from 1, never reused within a session.
    xyxy : (n, 4) float32, px: the box to show and to score. The filter's where the track was missed.
    measured_xy_px : (n, 2) float64, px: the centre that was measured, NaN where the track was missed.
        Kinematics use this and nothing smoothed.
    confidence : (n,) float32 of the matched detection, 0 where the track was missed.
    predicted : (n,) bool, True where no detection was matched and the box is predicted.
    velocity_px_s : (n, 2) float64, the filter's velocity estimate.
    ended_ids : (m,) int64, ids of tracks that will never be put out again.
    """

    frame: int
    t_ns: int
    track_id: IntArray
    xyxy: Float32Array
    measured_xy_px: FloatArray
    confidence: Float32Array
    predicted: BoolArray
    velocity_px_s: FloatArray
    ended_ids: IntArray
    field: int = 0

    def __post_init__(self) -> None:
        n = len(np.asarray(self.track_id))
        _check_column(self, "track_id", np.int64, (n,))
        _check_column(self, "xyxy", np.float32, (n, 4))
        _check_column(self, "measured_xy_px", np.float64, (n, 2))
        _check_column(self, "confidence", np.float32, (n,))
        _check_column(self, "predicted", np.bool_, (n,))
        _check_column(self, "velocity_px_s", np.float64, (n, 2))
        _check_column(self, "ended_ids", np.int64, (None,))

    def __len__(self) -> int:
        return len(self.track_id)


class _Table:
    """Shared behaviour of the one-row-a-thing tables below: length, row selection, concatenation."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))  # type: ignore[arg-type]

    def columns(self) -> dict[str, NDArray[Any]]:
        """The columns by name, in order."""
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]

    def select(self, rows: Any) -> Self:
        """Rows chosen by a mask, slice or index array."""
        return type(self)(**{name: column[rows] for name, column in self.columns().items()})

    @classmethod
    def concatenate(cls, tables: list[Self]) -> Self:
        """The rows of all tables in order; at least one table is needed."""
        names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
        return cls(**{name: np.concatenate([getattr(table, name) for table in tables]) for name in names})


@dataclass(frozen=True, slots=True, eq=False)
class DetectionTable(_Table):
    """Detections of many frames, sorted by time; one row a detection.

    frame, field, t_ns (n,) int64; cx_px, cy_px, w_px, h_px (n,) float64; confidence (n,) float64;
    class_id (n,) int64.
    """

    frame: IntArray
    field: IntArray
    t_ns: IntArray
    cx_px: FloatArray
    cy_px: FloatArray
    w_px: FloatArray
    h_px: FloatArray
    confidence: FloatArray
    class_id: IntArray

    def __post_init__(self) -> None:
        n = len(np.asarray(self.frame))
        for name in ("frame", "field", "t_ns", "class_id"):
            _check_column(self, name, np.int64, (n,))
        for name in ("cx_px", "cy_px", "w_px", "h_px", "confidence"):
            _check_column(self, name, np.float64, (n,))


@dataclass(frozen=True, slots=True, eq=False)
class TrackTable(_Table):
    """Tracks of many frames, one row a track in a frame.

    frame, field, t_ns, track_id (n,) int64; cx_px, cy_px, w_px, h_px (n,) float64: the box put out;
    x_measured_px, y_measured_px (n,) float64: the measured centre, NaN where predicted; confidence (n,)
    float64; predicted (n,) bool.
    """

    frame: IntArray
    field: IntArray
    t_ns: IntArray
    track_id: IntArray
    cx_px: FloatArray
    cy_px: FloatArray
    w_px: FloatArray
    h_px: FloatArray
    x_measured_px: FloatArray
    y_measured_px: FloatArray
    confidence: FloatArray
    predicted: BoolArray

    def __post_init__(self) -> None:
        n = len(np.asarray(self.frame))
        for name in ("frame", "field", "t_ns", "track_id"):
            _check_column(self, name, np.int64, (n,))
        for name in ("cx_px", "cy_px", "w_px", "h_px", "x_measured_px", "y_measured_px", "confidence"):
            _check_column(self, name, np.float64, (n,))
        _check_column(self, "predicted", np.bool_, (n,))


#: Motility grades of WHO 2021, 2.4.6.1, in order; "" where a track is too short or uncalibrated to grade.
MOTILITY_GRADES = ("a", "b", "c", "d")


class KinematicsFlag:
    """Bits of ``KinematicsTable.flags``: why a row's figures are to be read with care."""

    SHORT = 1  # seen for less than the grading window (1 s); graded on what there is, or not at all
    LOW_FRAME_RATE = 2  # below 50 images/s: ALH and BCF are not trustworthy
    GAPS = 4  # bridged misses inside the track
    UNCALIBRATED = 8  # no scale: um columns are NaN
    BCF_NEAR_NYQUIST = 16  # BCF above a quarter of the frame rate
    JITTER_CORRECTED = 32
    DRIFT_CORRECTED = 64
    TOO_FEW_POINTS = 128  # fewer points than the averaging window needs: VAP, ALH, BCF are NaN


@dataclass(frozen=True, slots=True, eq=False)
class KinematicsTable(_Table):
    """Kinematics, one row a track (WHO 2021, 4.5.1.4).

    Speeds are in px/s always and in um/s where calibrated (else NaN); LIN, STR, WOB fractions; ALH full
    width; BCF in Hz; MAD in degrees. ``time_by_grade_s`` (n, 4) is the time the track spent in grades a, b,
    c, d by 1 s windows, and ``motility_grade`` the grade it spent most of it in ("" where none).
    """

    track_id: IntArray
    n_frames: IntArray
    t_start_ns: IntArray
    duration_s: FloatArray
    vcl_um_s: FloatArray
    vsl_um_s: FloatArray
    vap_um_s: FloatArray
    vcl_px_s: FloatArray
    vsl_px_s: FloatArray
    vap_px_s: FloatArray
    lin: FloatArray
    str: FloatArray
    wob: FloatArray
    alh_mean_um: FloatArray
    alh_max_um: FloatArray
    alh_mean_px: FloatArray
    alh_max_px: FloatArray
    bcf_hz: FloatArray
    mad_deg: FloatArray
    motility_grade: NDArray[np.str_]
    time_by_grade_s: FloatArray
    flags: IntArray

    def __post_init__(self) -> None:
        n = len(np.asarray(self.track_id))
        for f in fields(self):
            if f.name in ("track_id", "n_frames", "t_start_ns", "flags"):
                _check_column(self, f.name, np.int64, (n,))
            elif f.name == "motility_grade":
                _check_column(self, f.name, np.dtype("U1"), (n,))
            elif f.name == "time_by_grade_s":
                _check_column(self, f.name, np.float64, (n, 4))
            else:
                _check_column(self, f.name, np.float64, (n,))

    @classmethod
    def empty(cls) -> KinematicsTable:
        """No rows."""
        columns: dict[str, Any] = {f.name: np.empty(0) for f in fields(cls)}
        columns |= {"motility_grade": np.empty(0, "U1"), "time_by_grade_s": np.empty((0, 4))}
        return cls(**columns)


#: How long a calibration holds where it does not say.
VALID_DAYS = 180


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns pixels into micrometres and counts into a concentration.

    ``width_px``/``height_px`` are the frame size the scale was measured at; a source of another size does
    not fit, nor does one of another ``binning``. ``uncertainty_percent`` is of the scale, about 95 %.
    ``chamber_factor`` multiplies the concentration (Segre-Silberberg correction; 1 = none); on ``beads_counted_on`` it
    was measured with certified beads ("": it was not). ``microscope``, ``objective``, ``camera``: what it is of.
    ``measured_on`` (YYYY-MM-DD) and ``valid_days``: how long it may be used, and ``used_by`` by whom ("" by all).
    """

    name: str
    um_per_px_x: float
    um_per_px_y: float
    width_px: int | None = None
    height_px: int | None = None
    uncertainty_percent: float | None = None
    chamber_depth_um: float | None = None
    chamber_factor: float = 1.0
    verified: bool = False
    note: str = ""
    microscope: str = ""
    objective: str = ""
    camera: str = ""
    binning: int | None = None
    measured_on: str = ""
    valid_days: int | None = None
    used_by: str = ""
    beads_counted_on: str = ""

    def __post_init__(self) -> None:
        for name in ("um_per_px_x", "um_per_px_y", "chamber_factor"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"Calibration.{name}: expected a positive number, got {value}")

    @property
    def valid_until(self) -> date | None:
        """The last day it may be used; None where it does not say when it was measured."""
        if not self.measured_on:
            return None
        return date.fromisoformat(self.measured_on) + timedelta(days=self.valid_days or VALID_DAYS)

    def scale_uncertainty(self, value_um: float) -> float | None:
        """What the scale's uncertainty (about 95 %) makes of a length or speed in um; None where it is not known."""
        return None if self.uncertainty_percent is None else abs(value_um) * self.uncertainty_percent / 100


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """What is known of a source before its first frame.

    ``fps_hz`` is nominal (speeds never use it); ``timestamps`` says where ``Frame.t_ns`` comes from: "pts"
    (container), "device", "host" (this machine's clock, read when the picture came), "assumed" (a frame rate the user
    gave or the container states), "simulated". ``bit_depth`` and ``white_level`` are of a live camera's pictures;
    None: white is the largest number that the picture's type holds.
    """

    uri: str
    width_px: int
    height_px: int
    fps_hz: float
    n_frames: int | None
    timestamps: str
    interlaced: bool = False
    bit_depth: int | None = None
    white_level: int | None = None


def is_simulated(source: SourceInfo) -> bool:
    """Whether casa's simulator drew the frames itself; a video that ``casa simulate`` wrote is a video like others."""
    return source.timestamps == "simulated" or source.uri.partition(":")[0] == "simulator"


@dataclass(frozen=True, slots=True)
class FrameAccount:
    """captured = processed + skipped + dropped + failed."""

    captured: int = 0
    processed: int = 0
    skipped: int = 0
    dropped: int = 0
    failed: int = 0

    @property
    def balanced(self) -> bool:
        """Whether every captured frame has ended as exactly one thing."""
        return self.captured == self.processed + self.skipped + self.dropped + self.failed


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one field, as the report and ``--json`` give them; None where it cannot be known.

    ``motility_percent`` has keys a, b, c, d, pr (a + b), total (a + b + c); percentages weigh tracks by their
    time in view. ``heads_per_frame`` is the mean number of heads in a frame.
    """

    n_tracks: int
    heads_per_frame: float | None
    concentration_m_per_ml: float | None
    motility_percent: dict[str, float | None]
    graded_time_s: float
    drift_px_s: tuple[float, float] | None
    jitter_px: float | None
    jitter_corrected: bool = False
    drift_corrected: bool = False
    flags: tuple[str, ...] = field(default_factory=tuple)

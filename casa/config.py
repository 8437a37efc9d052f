"""The configuration of a session: pydantic models, read from YAML, with one clear line for each mistake.

This module knows no other part of casa but its errors and where shipped files lie.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from casa.errors import InputError
from casa.resources import find_resource

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of the configuration; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


AnySection = TypeVar("AnySection", bound=Section)


class SourceConfig(Section):
    """How frames are read."""

    fps_hz: Positive | None = Field(
        default=None, description="frame rate to assume instead of the file's own timestamps"
    )
    interlaced: Literal["auto", "no", "separate"] = Field(
        default="auto", description="separate: each field becomes a picture of its own, at twice the frame rate"
    )
    every_nth: Annotated[int, Field(ge=1)] = Field(default=1, description="analyse every n-th frame, skip the rest")
    max_frames: Annotated[int, Field(ge=1)] | None = None
    loop: Annotated[int, Field(ge=1)] = Field(default=1, description="play the source this many times, time running on")


class MicroscopeConfig(Section):
    """The simulated microscope: its stage, its focus, and the faults of its camera."""

    slide: Literal["sample", "micrometer", "empty", "beads", "dark"] = Field(
        default="sample", description="what lies on the stage at the beginning; dark: the lamp is off"
    )
    um_per_px: Positive | None = Field(default=None, description="true scale; null: of the preset")
    vignetting: Fraction = Field(default=0.0, description="light that the field's corners lack")
    hot_pixels: Annotated[int, Field(ge=0)] = 0
    stage_um_to_px: tuple[tuple[float, float], tuple[float, float]] | None = Field(
        default=None, description="how the picture shifts (px) for a stage move (um); null: as the scale says, upright"
    )
    backlash_um: tuple[NonNegative, NonNegative] = (0.0, 0.0)
    stage_noise_um: NonNegative = Field(default=0.0, description="sd of where the stage stops, per axis")
    stage_speed_um_s: Positive = 2000.0
    stage_drift_um_s: tuple[float, float] = (0.0, 0.0)
    focus_um: float = Field(default=0.0, description="position of the focus drive where the sample is in focus")
    start_focus_um: float = Field(default=0.0, description="position of the focus drive at the beginning")
    reference_exposure_ms: Positive = Field(default=2.0, description="at which pictures are as bright as the preset")
    time_jitter_ms: NonNegative = Field(default=0.0, description="sd of a frame's time about the nominal one")
    drop_share: Fraction = Field(default=0.0, description="share of frames that the camera loses and counts")
    buffers: Annotated[int, Field(ge=1)] = Field(
        default=10, description="frames the camera's driver keeps for a slow host"
    )
    ring_frames: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="frames drawn once and shown to and fro; 0: each is drawn anew; null: by the rate of pixels",
    )


class MicroManagerConfig(Section):
    """Micro-Manager's core; labels are those of its configuration file, null where it says itself."""

    adapters: str | None = Field(default=None, description="folder of device adapters; null: where they are found")
    camera: str | None = None
    xy_stage: str | None = None
    focus: str | None = None
    buffer_mb: Annotated[int, Field(ge=1)] = Field(default=256, description="size of the core's circular buffer")
    properties: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="device label -> property -> value, set before the first frame"
    )


class CameraConfig(Section):
    """A live source: what to ask the device for, and what to do when it fails. null: as the device has it."""

    size: tuple[Annotated[int, Field(ge=8)], Annotated[int, Field(ge=8)]] | None = Field(
        default=None, description="width and height, px"
    )
    roi: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], int, int] | None = Field(
        default=None, description="part of the sensor that is read: left, top, width, height, px (Micro-Manager)"
    )
    binning: Annotated[int, Field(ge=1)] | None = None
    fps_hz: Positive | None = None
    exposure_ms: Positive | None = None
    gain: float | None = None
    bit_depth: Literal[8, 10, 12, 14, 16] | None = None
    pixel_format: Annotated[str, Field(min_length=4, max_length=4)] | None = Field(
        default=None, description="four letters, as MJPG, YUY2 or Y16 with a space (OpenCV)"
    )
    timestamps: Literal["auto", "device", "host"] = Field(
        default="auto", description="whose times; auto: the device's where they can be relied on"
    )
    ring: Annotated[int, Field(ge=1)] = Field(default=16, description="frames that wait for a slow consumer")
    ring_policy: Literal["oldest", "newest"] = Field(default="oldest", description="which is dropped when it is full")
    stall_timeout_s: Positive = Field(default=1.0, description="no frame for so long (and 5 intervals) is a stall")
    restart_after_s: Positive = Field(default=5.0, description="a stall this long is taken for a disconnection")
    reconnect: bool = Field(default=True, description="false: a disconnection ends the session")
    reconnect_interval_s: Positive = 1.0
    reconnect_timeout_s: Positive = Field(default=60.0, description="gone for longer, the session ends")
    size_change: Literal["stop", "wait"] = Field(
        default="stop", description="pictures of another size end the session, or are failed until the size is back"
    )
    microscope: MicroscopeConfig = MicroscopeConfig()
    micromanager: MicroManagerConfig = MicroManagerConfig()


class DetectConfig(Section):
    """The detector."""

    weights: str = Field(default="sperm", description="name in models/manifest.toml, or a path to .pt, .onnx or .xml")
    backend: Literal["auto", "torch", "onnx", "openvino", "tensorrt"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    half: bool | None = Field(default=None, description="half precision; null: on CUDA yes, elsewhere no")
    int8: bool | None = Field(
        default=None, description="8-bit weights; null: in OpenVINO on x86-64 where the manifest has them"
    )
    confidence: Fraction = Field(default=0.1, description="detections below it are dropped before the tracker")
    iou_nms: Fraction = 0.5
    max_detections: Annotated[int, Field(ge=1)] = 1000
    threads: Annotated[int, Field(ge=0)] = Field(default=0, description="CPU threads of the network; 0: all cores")
    scale: Positive = Field(
        default=1.0, description="pictures are resized by this before the network (heads of 8-40 px)"
    )
    white_level: Annotated[int, Field(ge=1, le=65535)] = Field(
        default=65535, description="gray level of a 16-bit picture that is white: 4095 for a 12-bit camera"
    )


class TrackConfig(Section):
    """ByteTrack association over an IMM bank; the defaults are the result of the ablation in docs/tracker.md.

    Lengths are px, times seconds: nothing is counted in frames but the hits that confirm a track.
    """

    models: tuple[Literal["rest", "cv_low", "cv_high", "beat", "circular", "ca", "ct"], ...] = Field(
        default=("cv_low", "cv_high", "beat", "ca", "rest"),
        min_length=1,
        description="motion models of the bank: resting, constant velocity at two noise levels, a beating head, "
        "a circular swimmer, constant acceleration, coordinated turn",
    )
    mode_weights: tuple[Positive, ...] | None = Field(
        default=None, description="how likely each model is when the mode changes; null: 0.3 for rest, 1 for others"
    )
    mode_redraw_s: Positive = Field(default=0.7, description="mean time between two changes of mode")
    mode_redraws_s: tuple[Positive, ...] | None = Field(
        default=None, description="the same for each model by itself; null: mode_redraw_s for all"
    )
    rest_density_px2_s: Positive = Field(default=0.5, description="position noise of rest")
    rest_speed_sd_px_s: Positive = Field(default=2.0, description="speed (sd per axis) a track takes from rest")
    cv_low_density_px2_s3: Positive = Field(default=440.0, description="acceleration noise of cv_low")
    cv_high_density_px2_s3: Positive = Field(default=3.5e5, description="acceleration noise of cv_high")
    beat_density_px2_s3: Positive = Field(default=205.0, description="acceleration noise of the path in beat")
    beat_sd_px: Positive = Field(default=4.8, description="how far a beating head is from its path (sd per axis)")
    ca_density_px2_s5: Positive = Field(default=1e6, description="jerk noise of ca")
    ct_density_px2_s5: Positive = Field(default=1e5, description="jerk noise of ct")
    circular_density_px2_s3: Positive = Field(default=200.0, description="acceleration noise of circular")
    circular_beat_sd_px: NonNegative = Field(default=0.0, description="beat about the circle (sd per axis) of circular")
    max_turn_rad_s: Positive = Field(default=12.0, description="fastest turn of ct and circular")
    acceleration_sd_px_s2: Positive = Field(
        default=77.0, description="prior acceleration (sd per axis) a track takes into ca and ct"
    )
    measurement_sd_px: Positive = Field(default=1.2, description="localisation noise of the detector (sd per axis)")
    initial_speed_sd_px_s: Positive = Field(default=180.0, description="prior speed of a new track (sd per axis)")
    size_noise: Positive = Field(default=0.08, description="noise of a measured width or height, as a fraction")
    size_drift_per_sqrt_s: Positive = Field(default=0.12, description="how much a true size wanders, as a fraction")
    gate_d2: Positive = Field(
        default=36.0, description="largest squared Mahalanobis distance (2 degrees of freedom) of a match"
    )
    max_reach_px: Positive = Field(default=60.0, description="no match is further than this from the prediction")
    cost_tail: Positive = Field(
        default=8.0, description="degrees of freedom of the cost of distance: the fewer, the more a jump is forgiven"
    )
    spread_weight: NonNegative = Field(
        default=1.0, description="weight in the cost of log det S: a vague track does not take a sure one's detection"
    )
    size_weight: NonNegative = Field(default=0.7, description="weight in the cost of the squared size mismatch")
    iou_weight: NonNegative = Field(default=0.0, description="weight in the cost of 1 - IoU with the predicted box")
    heading_weight: NonNegative = Field(
        default=0.0, description="weight in the cost of 1 - cos of the angle to the way foreseen since last seen"
    )
    miss_weight: NonNegative = Field(
        default=10.0, description="weight in the cost of the recent share of misses: the track seen more often wins"
    )
    miss_rate_s: Positive = Field(default=0.2, description="time over which that share is taken")
    new_track_miss_rate: Fraction = Field(default=0.36, description="that share for a new track")
    confidence_weight: NonNegative = Field(default=6.0, description="weight in the cost of -ln confidence")
    cost_limit: Positive = Field(default=29.0, description="a pair that costs more is never matched")
    high_confidence: Fraction = Field(default=0.3, description="detections of the first association stage")
    low_confidence: Fraction = Field(default=0.1, description="detections below it are not looked at")
    new_track_confidence: Fraction = Field(default=0.5, description="detections that can start a track")
    classes: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(0,), description="classes that are tracked: 0 sperm, 1 cluster, 2 small or pinhead"
    )
    confirm_hits: Annotated[int, Field(ge=1)] = Field(default=2, description="detections before a track is confirmed")
    confirm_confidence: NonNegative = Field(
        default=1.7, description="sum of their confidences before a track is confirmed"
    )
    confirm_age_s: NonNegative = Field(default=0.0, description="age before a track is confirmed")
    tentative_miss_s: NonNegative = Field(default=0.03, description="an unconfirmed track missed for longer ends")
    max_miss_s: Positive = Field(default=1.4, description="a confirmed track missed for longer ends")
    miss_per_age: Positive = Field(
        default=7.5, description="and one missed for longer than this multiple of the time it was seen, the same"
    )
    max_predicted_s: NonNegative = Field(
        default=0.29, description="a confirmed track is put out through misses this long at most"
    )
    max_outside_s: NonNegative = Field(
        default=0.1, description="a track predicted outside the field and missed for longer ends"
    )
    predicted_per_age: Positive = Field(
        default=5.0, description="and through misses no longer than this multiple of the time it was seen"
    )
    max_predicted_sd_of_size: Positive = Field(
        default=0.25, description="and only while the sd of its predicted centre is below this fraction of its size"
    )


class OfflineConfig(Section):
    """The offline pass over finished tracks; see docs/tracker.md. A gain is a log-likelihood ratio, in nats."""

    densities_px2_s3: tuple[Positive, ...] = Field(
        default=(20.0, 500.0, 1e4, 1e5, 1e6), min_length=1, description="acceleration noises of the smoother's models"
    )
    memory_s: Positive = Field(default=0.2, description="time over which measurements speak for a model")
    cut_miss_s: Positive = Field(default=0.2, description="a track is cut where it was missed for longer")
    max_gap_s: Positive = Field(default=1.5, description="pieces further apart in time are not joined")
    reach_px: Positive = Field(default=30.0, description="pieces further apart than this are not joined,")
    reach_px_s: Positive = Field(default=300.0, description="and this much for each second between them")
    join_limit: float = Field(default=3.0, description="pieces are joined down to a gain of minus this")
    same_track_gain: NonNegative = Field(default=8.0, description="gain where the online tracker had joined them")
    miss_weight_per_s: NonNegative = Field(default=2.0, description="loss for a second without a measurement")
    edge_of_size: NonNegative = Field(
        default=1.0, description="a piece that ends or starts this near to the field's edge, in head sizes, has left"
    )
    edge_loss_same_track: NonNegative = Field(
        default=6.0, description="loss at the edge where the online tracker had joined; else nothing is joined there"
    )
    speed_sd_px_s: Positive = Field(default=100.0, description="speed of a head that is new (sd per axis)")
    max_sd_of_size: Positive = Field(
        default=0.4, description="misses are filled while the sd of the centre is below this fraction of the size"
    )


class KinematicsConfig(Section):
    """Windows in ms, so that results do not depend on the frame rate."""

    average_window_ms: Positive = Field(
        default=100.0, description="length of the running mean that makes the average path"
    )
    grade_window_s: Positive = 1.0
    min_duration_s: Positive = Field(default=0.5, description="tracks seen for less are measured but not graded")
    jitter_px: NonNegative | Literal["auto"] = Field(
        default="auto", description="localisation jitter (sd per axis) to correct for; auto: as estimated; 0: none"
    )
    drift: bool = Field(default=False, description="remove the drift of the whole field")
    immotile_vap_um_s: Positive = Field(
        default=3.0, description="below it, and without beat, a sperm is immotile (grade d)"
    )
    immotile_vcl_um_s: Positive = Field(
        default=8.0, description="a head whose VCL without jitter is below it does not beat"
    )


class ClipsConfig(Section):
    """Clips that follow single sperm; lengths are fractions of a head's box, so that no camera's pixels matter."""

    every_s: Positive = Field(
        default=16 / 15, description="a track gives a clip this often; a clip is 16/15 s long, so less means overlap"
    )
    min_frames: Annotated[int, Field(ge=1, le=16)] = Field(
        default=6, description="a track that ends with fewer pictures, and without a clip, gives none"
    )
    max_missed_s: NonNegative = Field(
        default=0.3, description="a track that is not seen for longer begins a new clip when it is seen again"
    )
    template_of_size: Positive = Field(default=1.1, description="side of the template: the head and a bit of neck")
    search_of_size: Positive = Field(
        default=0.25, description="how far from the track's box the head is looked for; twice that where it was missed"
    )
    min_score: Fraction = Field(default=0.5, description="a template that correlates less has not found its head")
    refresh_every_s: Positive = Field(default=0.25, description="the template is taken anew this often, if it holds")
    refresh_within_of_size: Positive = Field(
        default=0.03, description="it holds while the first template says the same place to within this"
    )
    centre_memory_s: Positive = Field(
        default=2.0, description="time over which boxes say where in the template the head's middle is"
    )
    crossing_of_size: NonNegative = Field(
        default=1.0, description="a head whose middle is nearer to another's than this is flagged as crossing"
    )


class GradeConfig(Section):
    """Expert grades of clips by a network; live by processes of their own, which take clips from a queue."""

    enabled: bool = Field(default=False, description="cut clips and grade them (--grade)")
    weights: str = Field(default="grade", description="name in models/manifest.toml, or a path to .onnx or .pt")
    backend: Literal["auto", "openvino", "torch"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[int, Field(ge=0)] = Field(
        default=0, description="CPU threads of the network; 0: all cores, and live one for each grader"
    )
    batch: Annotated[int, Field(ge=1, le=256)] = Field(default=8, description="clips graded at once")
    attention: bool = Field(
        default=True, description="maps of where the network looked: of kept clips; live of those asked for"
    )
    graders: Annotated[int, Field(ge=1, le=32)] = Field(default=1, description="processes of a live session")
    cpu_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.15, description="live: so much of this machine's CPU at most, all graders together; they rest"
    )
    queue_clips: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=256, description="live: clips that wait for a grader (360 kB each); past it some are left out, counted"
    )
    attempts: Annotated[int, Field(ge=1)] = Field(
        default=3, description="live: a clip whose grader died goes to another one, and is failed after so many"
    )
    finish_s: NonNegative = Field(
        default=10.0, description="live: at the end so long for clips of tracks that have no grade yet"
    )


class MorphologyConfig(Section):
    """Forms of heads by a network; live by processes of their own, which take clips from a queue."""

    enabled: bool = Field(default=False, description="cut clips and examine their heads (--morphology)")
    weights: str = Field(default="morphology", description="name in models/manifest.toml, or a path to .pt")
    look: Literal["phase contrast", "unstained", "stained", "Diff-Quik"] | None = Field(
        default=None,
        description="how the sperm are seen (unstained: in bright field): weights that have not learnt from such "
        "pictures, and weights where this is not said, have their results marked",
    )
    threads: Annotated[int, Field(ge=0)] = Field(
        default=0, description="CPU threads of the network; 0: all cores, and live one for each process"
    )
    batch: Annotated[int, Field(ge=1, le=256)] = Field(default=8, description="clips examined at once")
    crops: Annotated[int, Field(ge=1, le=16)] = Field(default=4, description="sharpest pictures of a clip that count")
    heat_maps: bool = Field(default=True, description="what in a head decided: of crops kept; live of those asked for")
    graders: Annotated[int, Field(ge=1, le=32)] = Field(default=1, description="processes of a live session")
    cpu_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="live: so much of this machine's CPU at most, all of them together; they rest"
    )
    queue_clips: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=256, description="live: clips that wait (360 kB each); past it some are left out, counted"
    )
    attempts: Annotated[int, Field(ge=1)] = Field(
        default=3, description="live: a clip whose grader died goes to another one, and is failed after so many"
    )
    finish_s: NonNegative = Field(
        default=10.0, description="live: at the end so long for clips of tracks whose head was not examined yet"
    )


class RecordConfig(Section):
    """What the recording keeps and how often it is made safe."""

    detections: bool = True
    sync_interval_s: Positive = 0.5
    thumbnail_every_s: Positive = Field(
        default=10.0, description="one picture of the field is kept this often, for the report"
    )
    clips: Literal["none", "last", "all"] = Field(
        default="last",
        description="of the clips that were graded: none, the last of each track, or all (130 kB each); of the heads "
        "that were examined: none, those that are the sharpest of their track so far, or all (4 kB each)",
    )


class EdgeConfig(Section):
    """What happens between two stages when the second is slower."""

    policy: Literal["block", "latest"] = "block"
    depth: Annotated[int, Field(ge=1)] = 8


class GraphConfig(Section):
    """The runner and the edges between its stages, by the name of the stage they lead to."""

    runner: Literal["serial", "threaded"] = "threaded"
    edges: dict[str, EdgeConfig] = Field(default_factory=dict)


class BusConfig(Section):
    """Bounds of the bus of a live session."""

    record_queue_mib: Annotated[int, Field(ge=1)] = Field(
        default=64, description="what waits for a recorder, without pictures; past it a counted gap"
    )
    picture_queue_mib: Annotated[int, Field(ge=1)] = Field(
        default=128, description="pictures that wait for a recorder of video; past it a counted gap"
    )
    view_fps_hz: Positive = Field(default=60.0, description="viewers are given at most so many pictures a second")
    trail_s: Positive = Field(default=1.5, description="viewers are shown where each track was for so long")


class LiveConfig(Section):
    """A live session and what it starts."""

    video: Literal["none", "lossless", "mjpeg"] = Field(
        default="none", description="keep the pictures beside the recording, as FFV1 or as Motion JPEG"
    )
    segment_s: Positive | None = Field(
        default=None, description="begin a new recording (RUN.0002.h5, …) this often; null: one for all"
    )
    restarts: Annotated[int, Field(ge=0)] = Field(
        default=50, description="how often in a row a process that died is started again before it is given up"
    )


class Config(Section):
    """A whole session."""

    source: SourceConfig = SourceConfig()
    camera: CameraConfig = CameraConfig()
    detect: DetectConfig = DetectConfig()
    track: TrackConfig = TrackConfig()
    offline: OfflineConfig = OfflineConfig()
    kinematics: KinematicsConfig = KinematicsConfig()
    clips: ClipsConfig = ClipsConfig()
    grade: GradeConfig = GradeConfig()
    morphology: MorphologyConfig = MorphologyConfig()
    record: RecordConfig = RecordConfig()
    graph: GraphConfig = GraphConfig()
    bus: BusConfig = BusConfig()
    live: LiveConfig = LiveConfig()


def load_config(name: str | Path, overrides: dict[str, Any] | None = None) -> Config:
    """A configuration by path or shipped name, with dotted overrides (``{"source.fps_hz": 49}``) on top.

    Raises
    ------
    InputError : no such file, not YAML, or a key or value that does not fit; the message names the key.
    """
    path = find_resource("configs", name, ".yaml")
    data = _read_yaml(path, overrides, "sections (source, detect, track, …)")
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        given = (overrides or {}).get(where) is not None
        origin = f"--{where.rsplit('.', 1)[-1].removesuffix('_hz').replace('_', '-')}" if given else f"{path}: {where}"
        what = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{origin}: {what[:1].lower()}{what[1:]} (got {first['input']!r})") from error


def load_section(path: Path, kind: type[AnySection], overrides: dict[str, Any] | None = None) -> AnySection:
    """A section of its own, such as a training's, from YAML, with dotted overrides on top.

    Raises
    ------
    InputError : not readable, or a key or value that does not fit; the message names the key.
    """
    data = _read_yaml(path, overrides, "keys and values")
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _read_yaml(path: Path, overrides: dict[str, Any] | None, expected: str) -> dict[str, Any]:
    """A file's mapping, with overrides by dotted key on top; those that are None are left out."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected {expected}, got {type(data).__name__}")
    for dotted, value in (overrides or {}).items():
        if value is None:
            continue
        *sections, key = dotted.split(".")
        target = data
        for section in sections:
            target[section] = dict(target.get(section) or {})
            target = target[section]
        target[key] = value
    return data

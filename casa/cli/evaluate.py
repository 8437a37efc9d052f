"""``casa evaluate``: detections, tracks and simulated fields against truth. Holds the typer app ``app``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from casa.cli.options import Json

if TYPE_CHECKING:
    from casa.config import Config

app = typer.Typer(
    help="Score detections, tracks and kinematics against truth.", no_args_is_help=True, rich_markup_mode=None
)

Frames = Annotated[
    str | None, typer.Option("--frames", help="Frames to judge, first:stop as in Python (140:200 is 140 to 199).")
]
ConfigName = Annotated[str, typer.Option("--config", help="Configuration (name or YAML file) for a video.")]
Weights = Annotated[str | None, typer.Option(help="Detector weights for a video: a name, or a file.")]
Backend = Annotated[str | None, typer.Option(help="Backend for a video: auto, openvino, onnx or torch.")]


@app.command()
def detector(
    found: Annotated[Path, typer.Argument(help="Detections (CSV), a recording (.h5), or a video to run them on.")],
    truth: Annotated[Path, typer.Option(help="True boxes or head centres (CSV).")],
    frames: Frames = None,
    class_id: Annotated[
        list[int] | None, typer.Option("--class", help="Class to score; repeat for several. By default all.")
    ] = None,
    match_px: Annotated[
        float | None,
        typer.Option(help="Match centres within this many px instead of boxes by IoU; 5 where truth has no boxes."),
    ] = None,
    confidence: Annotated[float | None, typer.Option(help="Also score at this confidence.")] = None,
    ignore: Annotated[
        Path | None, typer.Option(help="Mask (.npz, frames x height x width) of what not to judge.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT of the frame: truth outside it is left out. A video has its own.")
    ] = None,
    config: ConfigName = "replay",
    weights: Weights = None,
    backend: Backend = None,
    min_confidence: Annotated[
        float, typer.Option(help="The detector's own threshold on a video; AP needs the unsure ones too.")
    ] = 0.001,
    as_json: Json = False,
) -> None:
    """Average precision, precision and recall of detections, per class."""
    from casa.cli.found import detections_of
    from casa.cli.output import print_json
    from casa.cli.values import frame_range, size_px
    from casa.config import load_config
    from casa.errors import InputError
    from casa.evaluate.boxes import first_fields, frames_between
    from casa.evaluate.detection import detection_scores
    from casa.evaluate.truth import centre_in_mask, read_ignore_mask, read_truth

    first, stop = frame_range(frames)
    mask = read_ignore_mask(ignore) if ignore else None
    read_truth(truth)  # a mistake in it is told before the detector has worked
    settings = load_config(
        config, {"detect.weights": weights, "detect.backend": backend, "detect.confidence": min_confidence}
    )
    found_table, frame_size_px = detections_of(found, settings, stop)
    true = read_truth(truth, size_px(size, "--size") or frame_size_px)
    found_table = first_fields(found_table, true.table)
    true_table, found_table = frames_between(true.table, first, stop), frames_between(found_table, first, stop)
    if len(true_table) == 0:
        raise InputError(f"{truth}: has no true object in the frames to judge; give other --frames")
    if match_px is None and not true.has_boxes:
        match_px = 5.0
    scores = detection_scores(
        true_table,
        found_table,
        class_ids=class_id or None,
        confidence=confidence,
        match_px=match_px,
        ignored=(centre_in_mask(true_table, mask), centre_in_mask(found_table, mask)) if mask is not None else None,
    )
    result = {"found": str(found), "truth": str(truth), "match_px": match_px, **scores}
    if as_json:
        print_json(result)
        return
    names = ["ap"] if match_px is not None else ["ap50", "ap50_95", "ap75"]
    names += ["precision", "recall", "f1", "confidence", "jitter_px", "truth_boxes", "found_boxes"]
    rows = {f"class {key}": values for key, values in scores["per_class"].items()}
    print_scores(
        f"{found.name}: {scores['frames']} pictures", {**rows, "all": scores} if len(rows) > 1 else rows, names
    )


@app.command()
def tracker(
    found: Annotated[
        Path | None, typer.Argument(help="Tracks (CSV or MOT text), a recording (.h5), or a video to run the chain on.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="True tracks (CSV or MOT text).")] = None,
    frames: Frames = None,
    challenge: Annotated[
        Path | None, typer.Option(help="Run casa's tracker on a folder of VIDEO_fpsRATE.det.csv.gz tables instead.")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Only this frame rate of the challenge.")] = None,
    videos: Annotated[str | None, typer.Option(help="Only these videos of the challenge: 12,13.")] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Also the tracks of the offline pass, in a table of their own.")
    ] = False,
    config: ConfigName = "replay",
    weights: Weights = None,
    backend: Backend = None,
    as_json: Json = False,
) -> None:
    """HOTA, MOTA, IDF1 and identity switches of tracks (TrackEval), or of casa's tracker on a whole challenge."""
    from casa.cli.found import tracks_of
    from casa.cli.output import print_json
    from casa.cli.values import frame_range
    from casa.config import load_config
    from casa.errors import InputError
    from casa.evaluate.boxes import first_fields, frames_between
    from casa.evaluate.tracking import tracking_scores
    from casa.tables import read_tracks

    settings = load_config(config, {"detect.weights": weights, "detect.backend": backend})
    if challenge is not None:
        if found is not None or truth is not None or frames is not None:
            raise InputError("--challenge has its own tables: give no tracks, --truth or --frames with it")
        _challenge(challenge, fps, videos, settings, offline, as_json)
        return
    if found is None or truth is None:
        raise InputError("give TRACKS and --truth TRUE_TRACKS, or --challenge FOLDER")
    first, stop = frame_range(frames)
    # Times play no part in these scores, so a table without t_s needs no frame rate.
    true_table = frames_between(read_tracks(truth, 1.0), first, stop)
    if len(true_table) == 0:
        raise InputError(f"{truth}: has no true track in the frames to judge; give other --frames")
    scores = {}
    for refined in (False, True) if offline else (False,):
        found_table = first_fields(tracks_of(found, settings, stop, refined), true_table)
        name = "offline" if refined else "online"
        scores[name] = tracking_scores(true_table, frames_between(found_table, first, stop))
    if as_json:
        result = scores["online"] | ({"offline": scores["offline"]} if offline else {})
        print_json({"found": str(found), "truth": str(truth), **result})
    else:
        print_scores(f"{found.name}: {scores['online']['frames']} pictures", scores, TRACKING_COLUMNS)


TRACKING_COLUMNS = ("hota", "deta", "assa", "mota", "idf1", "idsw", "ids_per_gt", "recall", "precision")


@app.command()
def field(
    preset: Annotated[str, typer.Option(help="Simulated scene: default, dense, sparse, fast, drift, …")] = "default",
    seed: Annotated[int, typer.Option(help="Another seed, another field.")] = 0,
    duration: Annotated[float, typer.Option(help="Seconds to simulate.")] = 10.0,
    drift: Annotated[bool | None, typer.Option("--drift/--no-drift", help="Remove the drift of the field.")] = None,
    jitter_px: Annotated[
        float | None, typer.Option(help="Localisation jitter to correct for; by default estimated.")
    ] = None,
    config: ConfigName = "replay",
    weights: Weights = None,
    backend: Backend = None,
    as_json: Json = False,
) -> None:
    """The whole chain on a simulated field, from pixels to grades, against the exact truth."""
    from casa.bench.field import bench_field
    from casa.cli.output import print_json
    from casa.config import load_config
    from casa.progress import progress

    settings = load_config(
        config,
        {
            "detect.weights": weights,
            "detect.backend": backend,
            "kinematics.drift": drift,
            "kinematics.jitter_px": jitter_px,
        },
    )
    with progress("rendering and analysing") as bar:
        result = bench_field(preset, seed, duration, settings, on_frame=bar.advance)
    if as_json:
        print_json(result)
    else:
        _print_field(result)


def _print_field(result: dict[str, Any]) -> None:
    title = f"{result['preset']}, seed {result['seed']}, {result['frames']} frames"
    columns = ("n", "mean_percent", "bias_percent", "median_percent", "p90_percent", "bias_um_s", "median_um_s",
               "p90_um_s")  # fmt: skip
    print_scores(f"{title}: errors from pixels", result["chain"]["errors"], columns)
    print_scores("the same from the true tracks", result["from_true_tracks"]["errors"], columns)
    for name in ("detection", "tracking"):
        print(f"{name}: " + ", ".join(f"{key} {_cell(value)}" for key, value in result[name].items()))
    tracks = result["chain"]["tracks"]
    print("tracks: " + ", ".join(f"{key} {_cell(value)}" for key, value in tracks.items()))
    localisation = result["chain"]["localisation"]
    print("localisation: " + ", ".join(f"{key} {_cell(value)}" for key, value in localisation.items()))
    print(f"jitter as estimated: {_cell(result['jitter_px_estimated'])} px")
    concentration = result["concentration"]
    print(
        f"concentration: found {_cell(concentration['found_m_per_ml'])}, true {_cell(concentration['true_m_per_ml'])} "
        f"M/mL, error {_cell(concentration['error_percent'])} %"
    )
    grades = result["chain"]["grades"]
    print(f"grades: {_cell(grades['right_percent'])} % of the graded time right")
    print_scores("seconds by true (row) and found grade", grades["confusion_s"], tuple("abcd"))


def _challenge(
    folder: Path, fps: float | None, videos: str | None, settings: Config, offline: bool, as_json: bool
) -> None:
    from casa.bench.tracker import casa_trackers
    from casa.cli.output import print_json
    from casa.evaluate.challenge import challenge_cases, challenge_scores
    from casa.progress import progress

    cases = challenge_cases(folder, fps, [v.strip() for v in videos.split(",")] if videos else ())
    scores = {}
    with progress("tracking", len(cases) * (1 + offline)) as bar:
        for name, track in casa_trackers(settings, offline).items():
            scores[name] = challenge_scores(
                cases, track, lambda case, name=name: bar.advance(1, f"{name}: {case.video} at {case.fps_hz:g} fps")
            )
    by_fps = {name: {f"{rate:g}": videos for rate, videos in of.items()} for name, of in scores.items()}
    if as_json:
        result = {"by_fps": by_fps["casa"]} | ({"offline_by_fps": by_fps["casa offline"]} if offline else {})
        print_json({"challenge": str(folder), **result})
        return
    for name, of in by_fps.items():
        for rate, by_video in of.items():
            print_scores(f"{folder.name} at {rate} frames/s, {name}", by_video, TRACKING_COLUMNS)


def print_scores(title: str, rows: dict[str, dict[str, Any]], names: Sequence[str]) -> None:
    """A table for people: one line a row, one column a score."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("")
    for name in names:
        table.add_column(name, justify="right")
    for row, scores in rows.items():
        table.add_row(row, *(_cell(scores.get(name)) for name in names), end_section=False)
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no edge to cut figures off at
        console = Console(width=240)
    console.print(table)


def _cell(value: Any) -> str:
    if value is None or value != value:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"

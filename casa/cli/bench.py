"""``casa bench``: casa beside other programs, and over long runs. Holds the typer app ``app``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from casa.types import DetectionTable, TrackTable

app = typer.Typer(
    help="Measure speed, tracking and memory, beside other programs.", no_args_is_help=True, rich_markup_mode=None
)

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
ConfigName = Annotated[str, typer.Option("--config", help="Configuration (name or YAML file).")]
Weights = Annotated[str | None, typer.Option(help="Detector weights: a name, or a file.")]
Backend = Annotated[str | None, typer.Option(help="casa's backend: auto, openvino, onnx or torch.")]


@app.command()
def replay(
    clip: Annotated[Path, typer.Argument(help="Video or folder of images.")],
    peer: Annotated[str | None, typer.Option(help="Program to run beside casa: ultralytics.")] = None,
    repeats: Annotated[int, typer.Option(help="Runs of each program, in turn.")] = 3,
    loop: Annotated[int | None, typer.Option(help="Play the clip so many times over in each run.")] = None,
    config: ConfigName = "replay",
    weights: Weights = None,
    backend: Backend = None,
    as_json: AsJson = False,
) -> None:
    """Frame rate of casa replay, recording on, beside another program with the same weights on the same clip."""
    from casa.bench.replay import bench_replay
    from casa.cli.output import print_json
    from casa.config import load_config
    from casa.progress import progress

    settings = load_config(
        config, {"source.loop": loop, "detect.weights": weights, "detect.backend": backend}
    )  # fmt: skip
    with progress("measuring", repeats * (2 if peer else 1)) as bar:
        result = bench_replay(
            clip, settings, peer=peer, repeats=repeats,
            on_run=lambda program, repeat: bar.advance(1, f"{program}, run {repeat + 1}"),
        )  # fmt: skip
    if as_json:
        print_json(result)
        return
    for program in ("casa", peer):
        if program:
            of_program = result[program]
            print(
                f"{program}: {of_program['fps_median']:.1f} frames/s ({of_program['fps_min']:.1f} to "
                f"{of_program['fps_max']:.1f} in {repeats} runs of {of_program['frames']} frames), "
                f"{of_program['cpu_ms_per_frame']:.1f} ms CPU a frame"
            )
    if peer:
        print(f"ratio: {result['ratio']:.2f} (slowest by fastest: {result['ratio_min']:.2f})")
    for name, ms in result["casa"]["parts_cpu_ms_per_frame"].items():
        print(f"  {name}: {ms:.2f} ms CPU a frame")
    print(f"all but the network: {result['other_than_network_cpu_ms_per_frame']:.2f} ms CPU a frame")


@app.command()
def tracker(
    folder: Annotated[Path, typer.Argument(help="Folder of VIDEO_fpsRATE.det.csv.gz and .gt.csv.gz tables.")],
    fps: Annotated[float | None, typer.Option(help="Only this frame rate.")] = None,
    videos: Annotated[str | None, typer.Option(help="Only these videos: 12,13.")] = None,
    config: ConfigName = "replay",
    as_json: AsJson = False,
) -> None:
    """Casa's tracker beside other programs' trackers on the same tables of detections."""
    import time

    from casa.bench.peers import peer_trackers
    from casa.cli.evaluate import TRACKING_COLUMNS, print_scores
    from casa.cli.output import print_json
    from casa.config import load_config
    from casa.evaluate.challenge import challenge_cases, challenge_scores
    from casa.progress import progress

    settings = load_config(config)
    cases = challenge_cases(folder, fps, [v.strip() for v in videos.split(",")] if videos else ())

    from casa.track import track_table

    def casa_tracker(table: DetectionTable) -> TrackTable:
        return track_table(table, settings.track)

    trackers = {"casa": casa_tracker, **peer_trackers()}
    results: dict[str, dict[str, Any]] = {}
    with progress("tracking", len(trackers) * len(cases)) as bar:
        for name, track in trackers.items():
            spent_s = 0.0

            def timed(table: DetectionTable, track: Any = track) -> TrackTable:
                nonlocal spent_s
                start_s = time.process_time()
                tracks = track(table)
                spent_s += time.process_time() - start_s
                return tracks

            scores = challenge_scores(cases, timed, lambda case, name=name: bar.advance(1, f"{name}: {case.video}"))
            frames = sum(by_video["mean"]["frames"] for by_video in scores.values())
            for rate, by_video in scores.items():
                by_video["mean"]["cpu_ms_per_frame"] = spent_s * 1e3 / frames
                results.setdefault(f"{rate:g}", {})[name] = by_video
    if as_json:
        print_json({"challenge": str(folder), "by_fps": results})
        return
    for rate, by_tracker in results.items():
        rows = {name: by_video["mean"] for name, by_video in by_tracker.items()}
        print_scores(f"{folder.name} at {rate} frames/s", rows, (*TRACKING_COLUMNS, "cpu_ms_per_frame"))


@app.command()
def memory(
    clip: Annotated[Path, typer.Argument(help="Video or folder of images, played over and over.")],
    frames: Annotated[int, typer.Option(help="Frames in all.")] = 100_000,
    config: ConfigName = "replay",
    weights: Weights = None,
    backend: Backend = None,
    as_json: AsJson = False,
) -> None:
    """Resident memory over a long replay with recording on: flat, or growing by how much."""
    from casa.bench.memory import bench_memory
    from casa.cli.output import print_json
    from casa.config import load_config
    from casa.progress import progress

    settings = load_config(config, {"detect.weights": weights, "detect.backend": backend})
    with progress(f"replaying {clip.name}", frames) as bar:
        result = bench_memory(clip, settings, frames, on_frame=bar.advance)
    if as_json:
        print_json(result)
        return
    rate = f" at {result['fps']:.0f} frames/s" if result["fps"] else ""
    print(f"{result['frames']} frames{rate}; recording {result['recording_mb']:.0f} MB")
    print(
        f"memory: {result['start_mb']:.0f} MB after the first quarter, {result['end_mb']:.0f} MB at the end, "
        f"peak {result['peak_mb']:.0f} MB"
    )
    verdict = {True: "flat", False: "GROWING", None: "too short a run to tell (10,000 frames and more)"}[result["flat"]]
    print(
        f"slope: {result['slope_mb_per_10000_frames']:+.2f} MB in 10,000 frames "
        f"({result['slope_low']:+.2f} to {result['slope_high']:+.2f}): {verdict}"
    )

"""``casa bench``: casa beside other programs, and over long runs. Holds the typer app ``app``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from casa.cli.options import Force, Json

app = typer.Typer(
    help="Measure speed, detection, tracking and memory, beside other programs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ConfigName = Annotated[str, typer.Option("--config", help="Configuration (name or YAML file).")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Also write the result here, as JSON.")]
Weights = Annotated[str | None, typer.Option(help="Detector weights: a name, or a file.")]
Backend = Annotated[str | None, typer.Option(help="casa's backend: auto, openvino, onnx or torch.")]


@app.command()
def replay(
    clip: Annotated[
        Path | None, typer.Argument(help="Video or folder of images; by default the shared clip beside the checkout.")
    ] = None,
    peer: Annotated[str, typer.Option(help="Program to run beside casa: ultralytics, or none.")] = "ultralytics",
    repeats: Annotated[int, typer.Option(help="Runs of each program, in turn.")] = 3,
    loop: Annotated[int | None, typer.Option(help="Play the clip so many times over in each run.")] = None,
    config: ConfigName = "replay",
    weights: Weights = None,
    backend: Backend = None,
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Frame rate of casa replay, recording on, beside another program with the same weights on the same clip."""
    from casa.bench.defaults import CLIP, shared_data
    from casa.bench.replay import bench_replay
    from casa.config import load_config
    from casa.progress import progress

    _check_output(output, force)
    settings = load_config(config, {"source.loop": loop, "detect.weights": weights, "detect.backend": backend})
    beside = None if peer == "none" else peer
    with progress("measuring", repeats * (2 if beside else 1)) as bar:
        result = bench_replay(
            clip or shared_data(CLIP), settings, peer=beside, repeats=repeats,
            on_run=lambda program, repeat: bar.advance(1, f"{program}, run {repeat + 1}"),
        )  # fmt: skip
    if _put_out(result, output, as_json):
        return
    for program in ("casa", beside):
        if program:
            print(f"{program}: {_rate_words(result[program])}")
    if beside:
        print(f"ratio: {result['ratio']:.2f} (slowest by fastest: {result['ratio_min']:.2f})")
    for name, ms in result["casa"]["parts_cpu_ms_per_frame"].items():
        print(f"  {name}: {ms:.2f} ms CPU a frame")
    print(f"all but the network: {result['other_than_network_cpu_ms_per_frame']:.2f} ms CPU a frame")


@app.command()
def detector(
    clip: Annotated[
        Path | None, typer.Argument(help="Video or folder of images; by default the shared clip beside the checkout.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="True boxes (CSV), for AP50 of class 0.")] = None,
    frames: Annotated[str | None, typer.Option(help="Frames to judge, first:stop as in Python.")] = None,
    backends: Annotated[str, typer.Option("--backends", help="casa's backends to run.")] = "openvino,onnx,torch",
    peer: Annotated[str, typer.Option(help="Program to run beside casa: ultralytics, or none.")] = "ultralytics",
    repeats: Annotated[int, typer.Option(help="Runs of each program, in turn.")] = 3,
    config: ConfigName = "replay",
    weights: Weights = None,
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Casa's detector in each backend beside ultralytics' prediction: frames a second, CPU a frame, AP50."""
    from casa.bench.defaults import CLIP, CLIP_TEST_FRAMES, CLIP_TRUTH, shared_data
    from casa.bench.detector import PEER, bench_detector
    from casa.cli.values import frame_range
    from casa.config import load_config
    from casa.errors import InputError
    from casa.progress import progress

    _check_output(output, force)
    if peer not in (PEER, "none"):
        raise InputError(f"--peer {peer}: expected {PEER} or none")
    judged = frame_range(frames)
    if clip is None:
        clip, truth = shared_data(CLIP), truth or shared_data(CLIP_TRUTH)
        judged = judged if frames else CLIP_TEST_FRAMES
    names = tuple(name.strip() for name in backends.split(","))
    settings = load_config(config, {"detect.weights": weights})
    with progress("measuring", repeats * (len(names) + (peer == PEER))) as bar:
        result = bench_detector(
            clip, settings, truth=truth, frames=judged, backends=names, peer=peer == PEER, repeats=repeats,
            on_run=lambda program, repeat: bar.advance(1, f"{program}, run {repeat + 1}"),
        )  # fmt: skip
    if _put_out(result, output, as_json):
        return
    for name, of in result["programs"].items():
        if "error" in of:
            print(f"{name}: cannot run here ({of['error']})")
            continue
        ap50 = f", AP50 {of['ap50']:.3f}" if "ap50" in of else ""
        ratio = f", {of['ratio']:.2f} times {PEER}'s rate, 1/{of['cpu_ratio']:.1f} of its CPU" if "ratio" in of else ""
        print(f"{name}: {_rate_words(of)}{ap50}{ratio if name != PEER else ''}")


@app.command()
def tracker(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder of VIDEO_fpsRATE.det.csv.gz and .gt.csv.gz tables; by default the shared one."),
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Only this frame rate.")] = None,
    videos: Annotated[str | None, typer.Option(help="Only these videos: 12,13.")] = None,
    peers: Annotated[bool, typer.Option("--peers/--no-peers", help="Other programs' trackers too.")] = True,
    norfair: Annotated[
        str | None, typer.Option(metavar="PYTHON", help="Also norfair, in this interpreter of an environment with it.")
    ] = None,
    config: ConfigName = "replay",
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Casa's tracker, online and offline, beside other programs' trackers on the same tables of detections."""
    from casa.bench.defaults import CHALLENGE, shared_data
    from casa.bench.peers import Norfair, peer_trackers
    from casa.bench.tracker import bench_tracker, casa_trackers
    from casa.cli.evaluate import TRACKING_COLUMNS, print_scores
    from casa.config import load_config
    from casa.evaluate.challenge import challenge_cases
    from casa.progress import progress

    _check_output(output, force)
    folder = folder or shared_data(CHALLENGE)
    cases = challenge_cases(folder, fps, [v.strip() for v in videos.split(",")] if videos else ())
    trackers = casa_trackers(load_config(config))
    trackers |= peer_trackers() if peers else {}
    trackers |= {"norfair": Norfair(norfair)} if norfair else {}
    with progress("tracking", len(trackers) * len(cases)) as bar:
        results = bench_tracker(cases, trackers, lambda name, case: bar.advance(1, f"{name}: {case.video}"))
    if _put_out({"challenge": str(folder), "by_fps": results}, output, as_json):
        return
    for rate, by_tracker in results.items():
        rows = {name: by_video["mean"] for name, by_video in by_tracker.items()}
        print_scores(
            f"{folder.name} at {rate} frames/s (cpu_ratio: casa's by the tracker's)",
            rows,
            (*TRACKING_COLUMNS, "cpu_ms_per_frame", "cpu_ratio"),
        )


def _rate_words(of: dict[str, Any]) -> str:
    return (
        f"{of['fps_median']:.1f} frames/s ({of['fps_min']:.1f} to {of['fps_max']:.1f} in {len(of['runs'])} runs of "
        f"{of['frames']} frames), {of['cpu_ms_per_frame']:.1f} ms CPU a frame"
    )


def _check_output(output: Path | None, force: bool) -> None:
    """Told before the long part."""
    from casa.cli.output import refuse_existing

    if output is not None:
        refuse_existing(output, force)


def _put_out(result: dict[str, Any], output: Path | None, as_json: bool) -> bool:
    """Write and print the result with the machine it was made on; gives whether it was printed."""
    from casa.bench.machine import machine
    from casa.cli.output import json_text, print_json
    from casa.errors import CasaError

    result = {"machine": machine(), **result}
    if output is not None:
        try:
            output.write_text(json_text(result) + "\n", encoding="utf-8")
        except OSError as error:
            raise CasaError(f"{output}: cannot be written ({error.strerror or error})") from error
    if as_json:
        print_json(result)
    return as_json


@app.command()
def memory(
    clip: Annotated[Path, typer.Argument(help="Video or folder of images, played over and over.")],
    frames: Annotated[int, typer.Option(help="Frames in all.")] = 100_000,
    config: ConfigName = "replay",
    weights: Weights = None,
    backend: Backend = None,
    as_json: Json = False,
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


@app.command()
def grade(
    network: Annotated[str, typer.Option(help="Grading network: rostfine, timesformer, vivit, r3d, ...")] = "rostfine",
    sizes: Annotated[str, typer.Option(help="Its sizes: T, S, B.")] = "T",
    devices: Annotated[str, typer.Option(help="cpu, cuda or both; CUDA only where there is a device.")] = "cpu,cuda",
    threads: Annotated[int, typer.Option(min=0, help="Threads of the CPU; 0: all.")] = 0,
    repeats: Annotated[int, typer.Option(help="Measurements of each program, in turn.")] = 5,
    output: Output = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Clips a second of a grading network: OpenVINO and PyTorch on the CPU, bfloat16 on CUDA where there is one."""
    from casa.bench.grade import bench_grade
    from casa.progress import progress

    _check_output(output, force)
    names = tuple(name.strip() for name in sizes.split(","))
    places = tuple(name.strip() for name in devices.split(","))
    with progress("measuring", 2 * len(names)) as bar:
        result = bench_grade(network, names, devices=places, threads=threads, repeats=repeats,
                             on_run=lambda what: bar.advance(1, what))  # fmt: skip
    if _put_out(result, output, as_json):
        return
    for of in result["networks"]:
        print(
            f"{of['network']} {of['size']}: {of['frames']} frames of {of['size_px']} px, "
            f"{of['parameters'] / 1e6:.2f} million parameters, {of['gflop_per_clip']:.2f} GFLOP a clip"
        )
        for program, cpu in of.get("cpu", {}).items():
            print(
                f"  CPU, {program}: {cpu['clips_s_median']:.1f} clips/s ({cpu['clips_s_min']:.1f} to "
                f"{cpu['clips_s_max']:.1f} in {cpu['runs']} runs), {cpu['cpu_ms_per_clip']:.1f} ms CPU a clip"
            )
        if cuda := of["cuda"]:
            print(
                f"  {result['cuda_device']}, bfloat16: {cuda['one_clip_ms']:.2f} ms for one clip; best batch "
                f"{cuda['best_batch']}: {cuda['clips_s'][str(cuda['best_batch'])]:.1f} clips/s, {cuda['tflop_s']:.0f} "
                f"TFLOP/s, {100 * cuda['share_of_matrix_rate']:.0f} % of its matrix rate "
                f"({result['cuda_matrix_tflop_s']:.0f})"
            )
    if result["cuda_device"] is None and "cuda" in places:
        print("CUDA: no device here, not measured")

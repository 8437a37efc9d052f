"""Speed against accuracy of trained detectors: measures every one of a folder, writes a JSON and a plot (SVG).

Each folder NAME in FOLDER holds one network as ``casa train detector`` writes it (NAME/*.onnx), and may hold
``pareto.json`` with {"scale": 0.75} for one that wants its pictures resized. 8-bit weights are made beside those of
float32 where they are missing (needs nncf), calibrated on the clip's first frames and simulated pictures.

Time is CPU time of one inference thread in OpenVINO, 640x480, the tenth percentile of ``--repeats`` runs: what else
runs on the machine disturbs it least. Wall time of two streams, and ONNX Runtime, stand beside it.

    python tools/pareto_detector.py FOLDER --data ../shared/data -o pareto.json --plot docs/images/detector_pareto.svg
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

SETS = {
    "heldout_ap50": ("visem13_clip/clip.mp4", "visem13_clip/tracks.csv.gz", ["--frames", "120:140"], "ap50"),
    "clip_ap50": ("visem13_clip/clip.mp4", "visem13_clip/tracks.csv.gz", ["--frames", "140:200"], "ap50"),
    "miamia1_ap50": ("miamia_svds/S_0001.mp4", "miamia_svds/S_0001_boxes.csv", [], "ap50"),
    "miamia2_ap50": ("miamia_svds/S_0002.mp4", "miamia_svds/S_0002_boxes.csv", [], "ap50"),
    "miamia4_ap50": ("miamia_svds/S_0004.mp4", "miamia_svds/S_0004_boxes.csv", [], "ap50"),
    "njit_f1": ("njit_simulated/60fps.mp4", "njit_simulated/60fps_truth.csv.gz", [], "f1"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the shared recordings")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON to write; rows that are there are kept")
    parser.add_argument("--plot", type=Path, help="SVG to write")
    parser.add_argument("--sets", default=",".join(SETS), help="which sets to score on, by name")
    parser.add_argument("--only", help="names of networks, with commas")
    parser.add_argument("--repeats", type=int, default=100)
    arguments = parser.parse_args()
    rows: dict[str, dict[str, Any]] = {}
    if arguments.output.exists():
        rows = json.loads(arguments.output.read_text(encoding="utf-8"))
    for folder in sorted(path for path in arguments.folder.iterdir() if path.is_dir()):
        plain = next((path for path in sorted(folder.glob("*.onnx")) if not path.stem.endswith("-int8")), None)
        if plain is None or (arguments.only and folder.name not in arguments.only.split(",")):
            continue
        note = folder / "pareto.json"
        scale = json.loads(note.read_text(encoding="utf-8"))["scale"] if note.exists() else 1.0
        eight = plain.with_name(f"{plain.stem}-int8.onnx")
        if not eight.exists():
            quantise_beside(plain, eight, arguments.data, scale)
        for precision, path in (("float32", plain), ("int8", eight)):
            row = rows.setdefault(f"{folder.name} {precision}", {"scale": scale, "bytes": path.stat().st_size})
            if "cpu_ms" not in row:
                row |= timings(path, scale, arguments.repeats)
            for name in arguments.sets.split(","):
                if name and name not in row:
                    row[name] = score(path, scale, arguments.data, *SETS[name])
            print(f"{folder.name} {precision}: {json.dumps(row)}", flush=True)
            arguments.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if arguments.plot:
        arguments.plot.write_text(plot(rows), encoding="utf-8")


def quantise_beside(plain: Path, target: Path, data: Path, scale: float) -> None:
    """8-bit weights from 30 frames of the clip (of those trained on) and 30 simulated pictures."""
    import cv2

    from casa.detect.dataset import clip_images
    from casa.detect.preprocess import to_gray
    from casa.detect.quantise import quantise
    from casa.simulate.training import training_images

    pictures: list[Any] = [item.image for item in clip_images(data / "visem13_clip", 0, 119)[::4]]
    pictures += [to_gray(item[0], 255) for item in training_images(77, 30)]
    if scale != 1:
        pictures = [np.asarray(cv2.resize(p, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)) for p in pictures]
    quantise(plain, target, pictures)


def timings(path: Path, scale: float, repeats: int) -> dict[str, float]:
    """Ms a picture: CPU time of one thread, wall time of two streams, CPU time in ONNX Runtime on one thread."""
    from casa.detect.backend_onnx import OnnxBackend
    from casa.detect.backend_openvino import OpenVinoBackend

    picture = np.random.default_rng(0).integers(0, 255, (round(480 * scale), round(640 * scale)), np.uint8)
    results = {}
    backend: Any
    for name, backend in (("cpu_ms", OpenVinoBackend(path, 1)), ("onnxruntime_cpu_ms", OnnxBackend(path, 1))):
        taken = []
        for _ in range(repeats):
            begin = time.process_time()
            backend.finish(backend.start(picture))
            taken.append(time.process_time() - begin)
        backend.close()
        results[name] = round(1e3 * float(np.percentile(taken, 10)), 3)
    backend = OpenVinoBackend(path, 2)
    backend.finish(backend.start(picture))
    waiting, begin = deque(), time.perf_counter()
    for _ in range(2 * repeats):
        waiting.append(backend.start(picture))
        if len(waiting) == backend.depth:
            backend.finish(waiting.popleft())
    while waiting:
        backend.finish(waiting.popleft())
    results["two_streams_wall_ms"] = round(1e3 * (time.perf_counter() - begin) / (2 * repeats), 3)
    backend.close()
    return results


def score(path: Path, scale: float, data: Path, video: str, truth: str, options: list[str], figure: str) -> float:
    """One figure of ``casa evaluate detector``."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "scale.yaml"
        config.write_text(json.dumps({"detect": {"scale": scale}}), encoding="utf-8")
        words = ["evaluate", "detector", str(data / video), "--truth", str(data / truth), *options, "--class", "0"]
        words += ["--config", str(config), "--weights", str(path), "--min-confidence", "0.01", "--json"]
        done = subprocess.run([sys.executable, "-m", "casa", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{path}, {video}: {done.stderr.strip().splitlines()[-1]}")
    return round(float(json.loads(done.stdout)[figure]), 4)


def plot(rows: dict[str, dict[str, Any]]) -> str:
    """AP50 over CPU time as SVG: the clip's frames and the mean over the brightfield clips, float32 and 8 bits."""
    width, height, left, bottom = 860, 420, 60, 50
    panels = (("clip_ap50", "clip, frames 140-199"), ("miamia", "MIaMIA-SVDS, mean of 3"))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        f'font-size="11"><rect width="{width}" height="{height}" fill="white"/>'
    ]
    for k, (key, title) in enumerate(panels):
        points = []
        for name, row in rows.items():
            brightfield = [row.get(f"miamia{i}_ap50") for i in (1, 2, 4)]
            value = row.get(key) if key != "miamia" else None if None in brightfield else float(np.mean(brightfield))  # type: ignore[arg-type]
            if value is not None:
                points.append((row["cpu_ms"], value, *name.rsplit(" ", 1)))
        if not points:
            continue
        x0, x1, y0, y1 = left + k * 430, 410 + k * 430, height - bottom, 40
        high_x = 1.1 * max(p[0] for p in points)
        low_y, high_y = min(p[1] for p in points) - 0.02, max(p[1] for p in points) + 0.02

        def at(x: float, y: float, x0=x0, x1=x1, y0=y0, y1=y1, hx=high_x, ly=low_y, hy=high_y) -> tuple[float, float]:
            return x0 + (x1 - x0) * x / hx, y0 + (y1 - y0) * (y - ly) / (hy - ly)

        parts.append(f'<text x="{(x0 + x1) / 2}" y="24" text-anchor="middle" font-size="13">{title}</text>')
        parts.append(f'<path d="M{x0} {y1}V{y0}H{x1}" fill="none" stroke="black"/>')
        parts.append(f'<text x="{(x0 + x1) / 2}" y="{height - 12}" text-anchor="middle">CPU ms a picture</text>')
        parts.append(f'<text x="{x0 - 45}" y="{y1 - 8}">AP50</text>')
        for tick in range(0, int(high_x) + 1, 2):
            x, _ = at(tick, low_y)
            parts.append(f'<path d="M{x:.1f} {y0}v4" stroke="black"/><text x="{x:.1f}" y="{y0 + 16}" '
                         f'text-anchor="middle">{tick}</text>')  # fmt: skip
        for tick in np.linspace(low_y, high_y, 5):
            _, y = at(0, tick)
            parts.append(f'<path d="M{x0} {y:.1f}h-4" stroke="black"/><text x="{x0 - 7}" y="{y + 4:.1f}" '
                         f'text-anchor="end">{tick:.2f}</text>')  # fmt: skip
        points.sort()
        best, front = -1.0, []
        for point in points:
            if point[1] > best:
                best = point[1]
                front.append(at(point[0], point[1]))
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in front)
        parts.append(f'<polyline points="{line}" fill="none" stroke="#888" stroke-dasharray="4 3"/>')
        for cpu, value, name, precision in points:
            x, y = at(cpu, value)
            colour = "#c0392b" if precision == "int8" else "#2c5aa0"
            side = "end" if x > x1 - 80 else "start"
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
                         f'<text x="{x:.1f}" y="{y - 7:.1f}" text-anchor="{side}" '
                         f'fill="{colour}">{name}</text>')  # fmt: skip
    legend = '<tspan fill="#2c5aa0">float32</tspan> <tspan fill="#c0392b">8 bits</tspan>'
    parts.append(f'<text x="{width - 20}" y="{height - 12}" text-anchor="end">{legend}</text></svg>')
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    main()

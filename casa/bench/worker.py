"""One measured run, in a process of its own: reads its task as JSON from standard input, prints the result as JSON."""

from __future__ import annotations

import json
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

#: Frames of the pass that warms caches and compiled code before the measured one.
WARM_UP_FRAMES = 20


def run_casa(task: dict[str, Any]) -> dict[str, Any]:
    """``casa.engine.replay`` into a recording: a short pass to warm up, then the measured one."""
    from casa.bench.threads import ThreadClock
    from casa.config import Config
    from casa.sources import open_source

    config = Config.model_validate(task["config"])
    warm = config.model_copy(update={"source": config.source.model_copy(update={"max_frames": WARM_UP_FRAMES})})
    output = Path(task["folder"]) / "casa.h5"
    with open_source(task["clip"], warm.source) as source:
        from casa.engine import replay

        replay(source, output, warm, force=True)
    clock = ThreadClock()
    with open_source(task["clip"], config.source) as source:
        clock.start()
        start_s, cpu_start_s = time.perf_counter(), time.process_time()
        result = replay(source, output, config, force=True)
        wall_s, cpu_s = time.perf_counter() - start_s, time.process_time() - cpu_start_s
    threads_s = clock.stop()
    frames = max(result.account.captured, 1)
    if result.fps_processed is None:
        raise RuntimeError(f"{task['clip']}: fewer than two frames, so there is no rate to measure")
    return {
        "program": "casa",
        "frames": frames,
        "fps": result.fps_processed,
        "cpu_ms_per_frame": cpu_s * 1e3 / frames,
        "parts_cpu_ms_per_frame": result.cpu_ms_per_frame
        | {"decoder threads": threads_s["decoder"] * 1e3 / frames, "network": threads_s["native"] * 1e3 / frames},
        "detail": {
            "fps_with_opening_and_closing": frames / wall_s,
            "latency_ms": result.latency_ms,
            "python_threads_cpu_ms_per_frame": threads_s["python"] * 1e3 / frames,
            "tracks": result.summary.n_tracks,
        },
    }


def _peer_model(task: dict[str, Any], config: Any) -> Any:
    """Ultralytics' ``YOLO`` with the weights that casa runs."""
    from casa.detect.network import write_ultralytics_checkpoint
    from casa.weights import resolve_weights

    checkpoint = Path(task["folder"]) / "peer.pt"
    if not checkpoint.is_file():
        write_ultralytics_checkpoint(resolve_weights(config.detect.weights, ("state",)).path, checkpoint)
    from ultralytics import YOLO

    return YOLO(str(checkpoint), task="detect")


def detect_casa(task: dict[str, Any]) -> dict[str, Any]:
    """Casa's detector over the clip, in the backend of the task's configuration; a short pass to warm up first."""
    from casa.config import Config
    from casa.detect import DetectStage
    from casa.evaluate.boxes import table_from_detections
    from casa.sources import open_source
    from casa.tables import write_detections
    from casa.types import Detections, Frame

    config = Config.model_validate(task["config"])
    stage = DetectStage(config.detect)
    stage.open()
    try:
        for limit in (WARM_UP_FRAMES, None):
            found: list[Detections] = []
            with open_source(task["clip"], config.source) as source:
                start_s, cpu_start_s, frames = time.perf_counter(), time.process_time(), 0
                for item in source:
                    if frames == limit:
                        break
                    frames += 1
                    if isinstance(item, Frame):
                        found.extend(stage.process(item))
                found.extend(stage.flush())
                wall_s, cpu_s = time.perf_counter() - start_s, time.process_time() - cpu_start_s
        model = stage.model
    finally:
        stage.close()
    write_detections(Path(task["detections"]), table_from_detections(found))
    return {
        "program": f"casa {config.detect.backend}",
        "frames": frames,
        "fps": frames / wall_s,
        "cpu_ms_per_frame": cpu_s * 1e3 / frames,
        "parts_cpu_ms_per_frame": {},
        "detail": {"backend": model.backend, "device": model.device, "precision": model.precision},
    }


def detect_ultralytics(task: dict[str, Any]) -> dict[str, Any]:
    """``model.predict()`` over the clip, streaming, the same weights and thresholds; one pass to warm up first."""
    import numpy as np

    from casa.config import Config
    from casa.evaluate.boxes import table_from_detections
    from casa.tables import write_detections
    from casa.types import Detections

    config = Config.model_validate(task["config"])
    model = _peer_model(task, config)
    settings: dict[str, Any] = {
        "stream": True, "verbose": False, "conf": config.detect.confidence, "iou": config.detect.iou_nms,
        "max_det": config.detect.max_detections,
    }  # fmt: skip
    for seen, _ in enumerate(model.predict(source=task["clip"], **settings), start=1):
        if seen == WARM_UP_FRAMES:
            break
    found: list[Detections] = []
    start_s, cpu_start_s = time.perf_counter(), time.process_time()
    for number, result in enumerate(model.predict(source=task["clip"], **settings)):
        boxes = result.boxes
        found.append(
            Detections(
                number,
                number,
                boxes.xyxy.cpu().numpy(),
                boxes.conf.cpu().numpy(),
                boxes.cls.cpu().numpy().astype(np.int64),
            )
        )
        if len(found) == config.source.max_frames:
            break
    wall_s, cpu_s = time.perf_counter() - start_s, time.process_time() - cpu_start_s
    write_detections(Path(task["detections"]), table_from_detections(found))
    return {
        "program": "ultralytics",
        "frames": len(found),
        "fps": len(found) / wall_s,
        "cpu_ms_per_frame": cpu_s * 1e3 / len(found),
        "parts_cpu_ms_per_frame": {},
        "detail": {"boxes_per_frame": sum(map(len, found)) / len(found)},
    }


def run_ultralytics(task: dict[str, Any]) -> dict[str, Any]:
    """``model.track()`` with ByteTrack over the clip, streaming, the same weights; one pass to warm up first."""
    from casa.config import Config

    config = Config.model_validate(task["config"])
    model = _peer_model(task, config)
    settings: dict[str, Any] = {"tracker": "bytetrack.yaml", "stream": True, "persist": True, "verbose": False}
    for seen, _ in enumerate(model.track(source=task["clip"], **settings), start=1):
        if seen == WARM_UP_FRAMES:
            break
    times_s: list[float] = []
    boxes = 0
    cpu_start_s = 0.0
    for _ in range(config.source.loop):
        for result in model.track(source=task["clip"], **settings):
            if not times_s:
                cpu_start_s = time.process_time()
            times_s.append(time.perf_counter())
            boxes += len(result.boxes or ())
            if len(times_s) == config.source.max_frames:
                break
        if len(times_s) == config.source.max_frames:
            break
    cpu_s = time.process_time() - cpu_start_s
    intervals = len(times_s) - 1
    if intervals < 1:
        raise RuntimeError(f"{task['clip']}: fewer than two frames, so there is no rate to measure")
    return {
        "program": "ultralytics",
        "frames": len(times_s),
        "fps": intervals / (times_s[-1] - times_s[0]),
        "cpu_ms_per_frame": cpu_s * 1e3 / intervals,
        "parts_cpu_ms_per_frame": {},
        "detail": {"boxes_per_frame": boxes / len(times_s)},
    }


PROGRAMS = {
    "casa": run_casa,
    "ultralytics": run_ultralytics,
    "detect casa": detect_casa,
    "detect ultralytics": detect_ultralytics,
}


def main() -> int:
    """Run the task on standard input."""
    task = json.load(sys.stdin)
    with redirect_stdout(sys.stderr):
        result = PROGRAMS[task["program"]](task)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

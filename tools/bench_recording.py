"""What recording costs: processor time, bytes and memory, for 40 tracks a frame and a picture every 500 frames.

``python tools/bench_recording.py [--frames 20000]`` prints one JSON object. "write" is the time in the recorder while
the session runs, "pack" what the end of the session takes, both as processor time of one core.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from casa.record import Recorder
from casa.types import Detections, FrameAccount, FrameStatus, Tracks

N_TRACKS = 40
STEP_NS = 20_000_000


def messages(n_frames: int) -> list[tuple[Detections, Tracks]]:
    """Heads that drift and jitter, as many as there are tracks."""
    rng = np.random.default_rng(0)
    position = rng.uniform(20, 460, (N_TRACKS, 2))
    velocity = rng.normal(0, 1, (N_TRACKS, 2))
    size = rng.uniform(8, 14, (N_TRACKS, 2))
    nothing = np.empty(0, np.int64)
    found = []
    for frame in range(n_frames):
        centre = position + velocity * frame + rng.normal(0, 0.5, (N_TRACKS, 2))
        boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1).astype(np.float32)
        confidence = rng.uniform(0.3, 1, N_TRACKS).astype(np.float32)
        d = Detections(frame, frame * STEP_NS, boxes, confidence, np.zeros(N_TRACKS, np.int64))
        measured = (boxes[:, :2].astype(np.float64) + boxes[:, 2:]) / 2
        missed = np.zeros(N_TRACKS, bool)
        ids = np.arange(1, N_TRACKS + 1)
        found.append((d, Tracks(frame, d.t_ns, ids, boxes, measured, confidence, missed, velocity * 50, nothing)))
    return found


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=20_000)
    n_frames = parser.parse_args().frames
    batch = messages(500)
    picture = np.random.default_rng(0).normal(110, 6, (480, 640, 1)).repeat(3, 2).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.h5"
        recorder = Recorder(path)
        recorder.open({})
        write_s, memory_mb = 0.0, []
        for start in range(0, n_frames, len(batch)):
            ready = [
                (Detections(f, f * STEP_NS, d.xyxy, d.confidence, d.class_id),
                 Tracks(f, f * STEP_NS, t.track_id, t.xyxy, t.measured_xy_px, t.confidence, t.predicted,
                        t.velocity_px_s, t.ended_ids))
                for f, (d, t) in enumerate(batch[: n_frames - start], start=start)
            ]  # fmt: skip
            before = time.process_time()
            recorder.picture(start, start * STEP_NS, picture)
            for d, t in ready:
                recorder.detections(d)
                recorder.tracks(t)
                recorder.frame(d.frame, 0, d.t_ns, FrameStatus.PROCESSED)
            write_s += time.process_time() - before
            memory_mb.append(peak_mb())
        before = time.process_time()
        recorder.finish("complete", FrameAccount(n_frames, n_frames))
        pack_s = time.process_time() - before
        result = {
            "frames": n_frames,
            "write_ms_per_frame": round(write_s / n_frames * 1e3, 4),
            "pack_ms_per_frame": round(pack_s / n_frames * 1e3, 4),
            "bytes_per_frame": round(path.stat().st_size / n_frames),
            "peak_memory_mb": {
                "after a tenth": round(memory_mb[len(memory_mb) // 10]),
                "before the end": round(memory_mb[-1]),
                "after packing": round(peak_mb()),
            },
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

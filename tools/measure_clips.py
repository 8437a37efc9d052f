"""What clips cost and how well they are centred: one JSON object on standard output.

``speed``: 100 heads that swim, beat and turn, VGA at 49 frames/s, boxes that scatter; CPU ms of the clip stage a frame
(its thread's own time), and the matching alone beside OpenCV's `matchTemplate` on the same windows.

``accuracy``: simulated scenes, the true tracks with scattered boxes: px between the middle of each picture and the
head's true middle, of clips and of the boxes themselves, by what befell them and by the time since a track began; and
how often a clip is on another head than its track. With parts taken away, each in turn.

``video``: a real video with human boxes; scatter about the brightest spot of the head, about each track's median, of
the clips, of the detector's boxes and of the human ones. (Boxes that were interpolated by people do not beat as heads
do, so distances to them say more about them.)

    python tools/measure_clips.py speed
    python tools/measure_clips.py accuracy --preset default --seed 21 --frames 500
    python tools/measure_clips.py video CLIP.mp4 --truth tracks.csv.gz
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from casa.cells import Clip, ClipFlag
from casa.clips import ClipStage, follow, match
from casa.clips.assemble import ClipAssembler
from casa.config import ClipsConfig, load_config
from casa.simulate.scene import simulate
from casa.types import Frame, Tracks

FPS_HZ, HEADS, BOX_SD_PX = 49.0, 100, 1.2
Points = dict[tuple[int, int], np.ndarray]


def tracks_at(frame: int, t_ns: int, ids: np.ndarray, xy: np.ndarray, size: np.ndarray, missed: np.ndarray) -> Tracks:
    boxes = np.concatenate([xy - size / 2, xy + size / 2], axis=1).astype(np.float32)
    measured = np.where(missed[:, None], np.nan, xy)
    return Tracks(
        frame, t_ns, ids, boxes, measured, np.ones(len(ids), np.float32), missed, np.zeros((len(ids), 2)),
        np.empty(0, np.int64),
    )  # fmt: skip


def swimming(n_frames: int) -> Iterator[tuple[Frame, Tracks]]:
    rng = np.random.default_rng(0)
    start, velocity = rng.uniform([30, 30], [610, 450], (HEADS, 2)), rng.normal(0, 25, (HEADS, 2))
    turn, noise = rng.uniform(0, 6, HEADS), rng.normal(0, 3, (520, 680)).astype(np.float32)
    for k in range(n_frames):
        t = k / FPS_HZ
        xy = np.clip(start + velocity * t, 5, [635, 475])
        top, left = rng.integers(0, 40, 2)
        image = 90 + noise[top : top + 480, left : left + 640]
        for (x, y), angle in zip(xy, turn + t, strict=True):
            rows, columns = slice(max(int(y) - 15, 0), int(y) + 16), slice(max(int(x) - 15, 0), int(x) + 16)
            dy, dx = np.mgrid[rows, columns][:, : 480 - rows.start, : 640 - columns.start]
            dx, dy = dx + 0.5 - x, dy + 0.5 - y
            u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
            r2 = (u / 5) ** 2 + (v / 3.5) ** 2
            image[rows, columns] += 110 * np.exp(-(r2**2)) - 40 * np.exp(-((np.sqrt(r2) - 2) ** 2) / 0.3)
        seen = xy + rng.normal(0, BOX_SD_PX, xy.shape)
        tracks = tracks_at(
            k, round(t * 1e9), np.arange(1, HEADS + 1), seen, np.full((HEADS, 2), 22.0), np.zeros(HEADS, bool)
        )
        yield Frame(k, round(t * 1e9), image.clip(0, 255).astype(np.uint8)), tracks


def speed(n_frames: int, repeats: int) -> dict[str, Any]:
    cv2.setNumThreads(1)
    items = list(swimming(n_frames))
    runs = []
    for _ in range(repeats):
        stage, cpu, clips = ClipStage(), [], 0
        stage.open()
        for frame, tracks in items:
            before = time.thread_time()
            clips += len([*stage.process(frame), *stage.process(tracks)])
            cpu.append(1e3 * (time.thread_time() - before))
        runs.append({"mean": np.mean(cpu), "p99": np.percentile(cpu, 99), "max": np.max(cpu), "clips": clips})
    image = items[0][0].image
    image.setflags(write=False)
    template = match.cut_template(image, 200, 200, 24)
    region = image[194:230, 194:230].astype(np.float32)
    ours = _us(lambda: match.find_template(image, template, 200, 200, 6))
    theirs = _us(lambda: cv2.matchTemplate(region, template, cv2.TM_CCOEFF_NORMED))
    best = min(runs, key=lambda run: run["mean"])
    return {
        "cpu_ms_a_frame": {k: round(float(v), 2) for k, v in best.items()},
        "means_of_all_runs": [round(float(run["mean"]), 2) for run in runs],
        "match_us": round(ours, 1),
        "opencv_match_us": round(theirs, 1),
    }


def _us(call: Callable[[], object], n: int = 2000) -> float:
    times = []
    for _ in range(7):
        before = time.thread_time()
        for _ in range(n):
            call()
        times.append((time.thread_time() - before) / n)
    return 1e6 * min(times)


class Simulated:
    """A scene's pictures (gray), kept, and its true tracks."""

    def __init__(self, preset: str, seed: int, n_frames: int) -> None:
        scene = simulate(preset, seed, n_frames)
        luma = np.array([0.299, 0.587, 0.114], np.float32)
        frames = [frame for frame in scene.frames() if isinstance(frame, Frame)]
        self.frames = [Frame(f.index, f.t_ns, (f.image.astype(np.float32) @ luma).astype(np.uint8)) for f in frames]
        self.truth = scene.truth()
        t = self.truth
        middles = np.stack([t.x_measured_px, t.y_measured_px], axis=1)
        self.middle: Points = {(int(i), int(k)): xy for i, k, xy in zip(t.track_id, t.frame, middles, strict=True)}
        self.in_frame: dict[int, list[int]] = defaultdict(list)
        for track_id, frame in self.middle:
            self.in_frame[frame].append(track_id)

    def clips(self, box_sd_px: float, noise: float = 0.0, missed: float = 0.0) -> tuple[list[Clip], Points]:
        """Clips of the true tracks with scattered boxes, and these boxes by track and frame."""
        assembler, rng = ClipAssembler(ClipsConfig()), np.random.default_rng(0)
        clips: list[Clip] = []
        boxes: Points = {}
        for frame in self.frames:
            ids = np.array(self.in_frame[frame.index], np.int64)
            now = self.truth.select(self.truth.frame == frame.index)
            size = np.stack([now.w_px, now.h_px], axis=1)[np.argsort(now.track_id)]
            ids.sort()
            xy = np.array([self.middle[int(i), frame.index] for i in ids]).reshape(-1, 2)
            xy = xy + rng.normal(0, box_sd_px, xy.shape)
            boxes |= {(int(i), frame.index): place for i, place in zip(ids, xy, strict=True)}
            image = frame.image
            if noise:
                image = (image + rng.normal(0, noise, image.shape)).clip(0, 255).astype(np.uint8)
            gone = rng.random(len(ids)) < missed
            clips += assembler.update(
                Frame(frame.index, frame.t_ns, image), tracks_at(frame.index, frame.t_ns, ids, xy, size, gone)
            )
        return clips + assembler.finish(), boxes

    def score(self, clips: list[Clip], boxes: Points) -> dict[str, Any]:
        """Distances to the true middles, px, by what befell the pictures."""
        began: dict[int, int] = {}
        rows = []
        for clip in clips:
            for k, (frame, t_ns) in enumerate(zip(clip.frames.tolist(), clip.t_ns.tolist(), strict=True)):
                key = clip.track_id, frame
                if key not in self.middle or clip.flags[k] & ClipFlag.REPEATED:
                    continue
                others = [self.middle[i, frame] for i in self.in_frame[frame] if i != clip.track_id]
                error = np.hypot(*(clip.centre_xy_px[k] - self.middle[key]))
                nearest = min((np.hypot(*(clip.centre_xy_px[k] - xy)) for xy in others), default=np.inf)
                age_s = (t_ns - began.setdefault(clip.track_id, t_ns)) / 1e9
                box = np.hypot(*(boxes[key] - self.middle[key]))
                rows.append((error, box, clip.flags[k], age_s, error > 5 and nearest < error))
        error, box, flags, age_s, wrong = np.array(rows).T
        flags = flags.astype(int)
        clear = flags & (ClipFlag.LOST | ClipFlag.CROSSING | ClipFlag.PREDICTED) == 0
        ages = ((0, 1), (1, 2), (2, 4), (4, 7), (7, 11))
        return {
            "pictures": len(rows),
            "clear_px": _summary(error[clear]),
            "all_px": _summary(error),
            "boxes_px": _summary(box),
            "crossing_px": _summary(error[flags & ClipFlag.CROSSING > 0]),
            "predicted_px": _summary(error[flags & ClipFlag.PREDICTED > 0]),
            "clear_by_age_px": {f"{a}-{b} s": _summary(error[clear & (age_s >= a) & (age_s < b)]) for a, b in ages},
            "lost_percent": round(100 * float(np.mean(flags & ClipFlag.LOST > 0)), 2),
            "crossing_percent": round(100 * float(np.mean(flags & ClipFlag.CROSSING > 0)), 2),
            "wrong_head_percent": round(100 * float(wrong.mean()), 2),
        }


def _summary(px: np.ndarray) -> list[float] | None:
    """Mean and 95 % of the errors; None of too few."""
    return [round(float(np.mean(px)), 2), round(float(np.percentile(px, 95)), 2)] if len(px) > 10 else None


def accuracy(preset: str, seed: int, n_frames: int) -> dict[str, Any]:
    scene = Simulated(preset, seed, n_frames)
    result = {"as it is": scene.score(*scene.clips(BOX_SD_PX))}
    result["exact boxes"] = scene.score(*scene.clips(0.0))
    result["boxes scatter twice as much"] = scene.score(*scene.clips(2 * BOX_SD_PX))
    result["picture noise of 8 levels more"] = scene.score(*scene.clips(BOX_SD_PX, noise=8.0))
    result["15 % of the boxes missed"] = scene.score(*scene.clips(BOX_SD_PX, missed=0.15))
    learn, refresh = follow.HeadTemplate.learn, follow.HeadTemplate.refresh
    try:
        follow.HeadTemplate.refresh = _refresh_blindly  # type: ignore[method-assign]
        result["refreshed without the anchor"] = scene.score(*scene.clips(BOX_SD_PX))
        follow.HeadTemplate.learn = lambda *_: None  # type: ignore[method-assign,assignment]
        result["refreshed without the anchor, boxes teach nothing"] = scene.score(*scene.clips(BOX_SD_PX))
        follow.HeadTemplate.refresh = refresh  # type: ignore[method-assign]
        result["boxes teach nothing"] = scene.score(*scene.clips(BOX_SD_PX))
    finally:
        follow.HeadTemplate.learn, follow.HeadTemplate.refresh = learn, refresh  # type: ignore[method-assign]
    return result


def _refresh_blindly(self: Any, image: np.ndarray, sighting: follow.Sighting, t_s: float) -> None:
    """What most trackers by template do: the newest picture is the next template."""
    left, top = (round(place - self._half) for place in sighting.template_xy)
    self._template = match.cut_template(image, left, top, self.side)
    moved = (sighting.template_xy[0] - left - self._half, sighting.template_xy[1] - top - self._half)
    self.offset = (self.offset[0] + moved[0], self.offset[1] + moved[1])


def video(path: str, truth: Path) -> dict[str, Any]:
    from casa.detect import DetectStage
    from casa.sources import open_source
    from casa.tables import read_tracks
    from casa.track import TrackStage

    settings = load_config("replay")
    people = read_tracks(truth, 49.0)
    with open_source(path, settings.source) as source:
        size = source.info.width_px, source.info.height_px
        frames = [frame for frame in source if isinstance(frame, Frame)]
    detect, track, stage = DetectStage(settings.detect), TrackStage(settings.track, size), ClipStage(settings.clips)
    boxes: Points = {}
    clips: list[Clip] = []

    def follow_on(found: Any) -> None:
        for detections in found:
            for tracks in track.process(detections):
                measured = zip(tracks.track_id.tolist(), tracks.measured_xy_px, strict=True)
                boxes.update({(track_id, tracks.frame): xy for track_id, xy in measured})
                clips.extend(stage.process(tracks))

    for one in (detect, track, stage):
        one.open()
    try:
        for frame in frames:
            clips.extend(stage.process(frame))
            follow_on(detect.process(frame))
        follow_on(detect.flush())
        clips.extend(stage.flush())
    finally:
        for one in (detect, track, stage):
            one.close()
    images = {frame.index: frame.image for frame in frames}
    by_track: dict[int, list[np.ndarray]] = defaultdict(list)
    for clip in clips:
        for k, frame in enumerate(clip.frames.tolist()):
            box = boxes.get((clip.track_id, frame))
            if clip.flags[k] & ~ClipFlag.BORDER or box is None or np.isnan(box[0]):
                continue
            here = people.frame == frame
            drawn = np.stack([people.cx_px, people.cy_px], axis=1)[here]
            nearest = drawn[np.hypot(*(drawn - clip.centre_xy_px[k]).T).argmin()]
            spot = bright_spot(images[frame], clip.centre_xy_px[k])
            if spot is not None and np.hypot(*(nearest - clip.centre_xy_px[k])) < 10:
                by_track[clip.track_id].append(np.stack([clip.centre_xy_px[k], box, nearest]) - spot)
    tracks = [np.array(rows) for rows in by_track.values() if len(rows) > 7]
    scatter = np.concatenate([np.linalg.norm(rows - np.median(rows, axis=0), axis=2) for rows in tracks])
    names = ("clips_px", "detector_boxes_px", "human_boxes_px")
    return {"pictures": len(scatter)} | {name: _summary(scatter[:, k]) for k, name in enumerate(names)}


def bright_spot(image: np.ndarray, xy: np.ndarray) -> np.ndarray | None:
    """The centroid of what is brightest within 8 px of a place; None near the border."""
    x, y = (int(value) for value in xy)
    if not (14 < x < image.shape[1] - 14 and 14 < y < image.shape[0] - 14):
        return None
    smooth = cv2.GaussianBlur(image[y - 14 : y + 15, x - 14 : x + 15].astype(np.float32), (0, 0), 1.0)
    row, column = np.unravel_index(smooth[6:23, 6:23].argmax(), (17, 17))
    peak = smooth[row + 2 : row + 11, column + 2 : column + 11]
    weight = np.clip(peak - (peak.max() + np.median(smooth)) / 2, 0, None)
    dy, dx = np.mgrid[-4:5, -4:5]
    at = np.array([x - 8 + column + 0.5, y - 8 + row + 0.5])
    return at + np.array([(weight * dx).sum(), (weight * dy).sum()]) / weight.sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    one = what.add_parser("speed")
    one.add_argument("--frames", type=int, default=245)
    one.add_argument("--repeats", type=int, default=5)
    one = what.add_parser("accuracy")
    one.add_argument("--preset", default="default")
    one.add_argument("--seed", type=int, default=21)
    one.add_argument("--frames", type=int, default=500)
    one = what.add_parser("video")
    one.add_argument("video")
    one.add_argument("--truth", type=Path, required=True)
    a = parser.parse_args()
    if a.what == "speed":
        result = speed(a.frames, a.repeats)
    elif a.what == "accuracy":
        result = accuracy(a.preset, a.seed, a.frames)
    else:
        result = video(a.video, a.truth)
    json.dump(result, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()

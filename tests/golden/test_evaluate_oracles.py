"""casa's scores against the programs that define them: pycocotools, and TrackEval run over files."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest

from casa.evaluate.boxes import frames_between
from casa.evaluate.detection import COCO_IOU, detection_scores
from casa.evaluate.tracking import tracking_scores
from casa.tables import read_tracks, write_mot
from casa.types import DetectionTable, TrackTable


def detection_table(rows: list[tuple]) -> DetectionTable:
    """Rows of frame, cx, cy, w, h, confidence, class."""
    columns = np.array(rows, dtype=float).reshape(-1, 7).T
    frame = columns[0].astype(np.int64)
    return DetectionTable(
        frame, np.zeros_like(frame), frame * 20_000_000, *columns[1:6], columns[6].astype(np.int64)
    )  # fmt: skip


def random_scene(seed: int, integer_boxes: bool) -> tuple[DetectionTable, DetectionTable]:
    """Crowded truth in 60 frames (some of them empty) with jittered, doubled, missed and false detections."""
    random = np.random.default_rng(seed)
    truth, found = [], []
    for frame in range(60):
        if frame % 7 == 3:
            if frame % 2:
                found.append((frame, 50, 50, 20, 20, 0.7, 0))
            continue
        n = int(random.integers(1, 25))
        boxes = np.column_stack([random.uniform(20, 300, (n, 2)), random.uniform(8, 30, (n, 2))])
        if integer_boxes:
            # Even whole numbers: overlaps of exactly .5 and .75, and several boxes overlapping equally.
            boxes = np.round(boxes / 4) * 4
        for box in boxes:
            class_id = int(random.random() < 0.2) * 2
            truth.append((frame, *box, 1.0, class_id))
            for _ in range(random.choice([0, 1, 1, 1, 2])):
                jitter = random.normal(0, 2.5, 4)
                jitter = np.round(jitter / 2) * 2 if integer_boxes else jitter
                guess = np.maximum(box + jitter, 2)
                # Two decimals, so that many confidences are equal.
                found.append((frame, *guess, np.round(random.random(), 2), class_id))
        for _ in range(int(random.integers(0, 4))):
            found.append((frame, *random.uniform(20, 300, 2), 12, 12, np.round(random.random() * 0.8, 2), 0))
    return detection_table(truth), detection_table(found)


def pycocotools_ap(truth: DetectionTable, found: DetectionTable, class_id: int, max_detections: int) -> np.ndarray:
    """AP by IoU threshold, as pycocotools' own files-and-classes way gives it."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def annotations(table: DetectionTable) -> list[dict]:
        left, top = table.cx_px - table.w_px / 2, table.cy_px - table.h_px / 2
        return [
            {
                "id": i + 1, "image_id": int(table.frame[i]), "category_id": int(table.class_id[i]), "iscrowd": 0,
                "bbox": [float(left[i]), float(top[i]), float(table.w_px[i]), float(table.h_px[i])],
                "area": float(table.w_px[i] * table.h_px[i]), "score": float(table.confidence[i]),
            }
            for i in range(len(table))
        ]  # fmt: skip

    frames = sorted({*truth.frame.tolist(), *found.frame.tolist()})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": frame} for frame in frames],
            "categories": [{"id": 0}, {"id": 1}, {"id": 2}],
            "annotations": annotations(truth),
        }
        coco.createIndex()
        results = COCO()
        results.dataset = coco.dataset | {"annotations": annotations(found)}
        results.createIndex()
        evaluation = COCOeval(coco, results, "bbox")
        evaluation.params.catIds = [class_id]
        evaluation.params.maxDets = [max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][:, :, 0, 0, 0].mean(axis=1)


@pytest.mark.parametrize(("seed", "integer_boxes"), [(1, False), (2, True), (3, True), (4, False)])
@pytest.mark.parametrize("max_detections", [5, 100])
def test_average_precision_is_that_of_pycocotools(seed, integer_boxes, max_detections):
    truth, found = random_scene(seed, integer_boxes)
    scores = detection_scores(truth, found, max_detections=max_detections)
    assert set(scores["per_class"]) == {0, 2}
    for class_id, ours in scores["per_class"].items():
        oracle = pycocotools_ap(truth, found, class_id, max_detections)
        assert 0.01 < oracle.mean() < 0.99
        assert ours["ap50"] == pytest.approx(oracle[0], abs=1e-6)
        assert ours["ap75"] == pytest.approx(oracle[5], abs=1e-6)
        assert ours["ap50_95"] == pytest.approx(oracle.mean(), abs=1e-6)
    assert scores["ap50"] == pytest.approx(np.mean([c["ap50"] for c in scores["per_class"].values()]))
    np.testing.assert_array_equal(COCO_IOU, np.linspace(0.5, 0.95, int(np.round((0.95 - 0.5) / 0.05)) + 1))


def test_average_precision_on_real_boxes_is_that_of_pycocotools(shared_data):
    tracks = frames_between(read_tracks(shared_data / "visem13_clip" / "tracks.csv.gz", 49.0), 140, 160)
    random = np.random.default_rng(5)

    def table(keep: np.ndarray, jitter: float) -> DetectionTable:
        boxes = np.stack([tracks.cx_px, tracks.cy_px, tracks.w_px, tracks.h_px], axis=1)[keep]
        boxes = boxes + random.normal(0, jitter, boxes.shape) if jitter else boxes
        n = len(boxes)
        zeros = np.zeros(n, np.int64)
        return DetectionTable(
            tracks.frame[keep], zeros, tracks.t_ns[keep], *boxes.T, np.round(random.random(n), 2), zeros
        )  # fmt: skip

    truth, found = table(np.ones(len(tracks), bool), 0.0), table(random.random(len(tracks)) < 0.9, 1.5)
    oracle = pycocotools_ap(truth, found, 0, 1000)
    ours = detection_scores(truth, found)
    assert ours["ap50"] == pytest.approx(oracle[0], abs=1e-6)
    assert ours["ap50_95"] == pytest.approx(oracle.mean(), abs=1e-6)


def random_tracks(seed: int) -> tuple[TrackTable, TrackTable]:
    """Wandering true tracks in 40 frames, and found ones with swaps, cuts, misses, false alarms and empty frames."""
    random = np.random.default_rng(seed)
    rows_true, rows_found = [], []
    for track in range(1, 13):
        start, stop = sorted(random.choice(40, 2, replace=False).tolist())
        xy = random.uniform(20, 120, 2) + np.cumsum(random.normal(0, 2, (40, 2)), axis=0)
        name = track
        for frame in range(start, stop + 1):
            rows_true.append((frame, track, *xy[frame], 16, 14))
            if random.random() < 0.08:
                name = int(random.integers(1, 30))
            if random.random() < 0.85 and frame not in (7, 8):
                rows_found.append((frame, name, *(xy[frame] + random.normal(0, 1.5, 2)), 16, 14))
    for _ in range(30):
        rows_found.append((int(random.integers(0, 40)), int(random.integers(40, 44)), *random.uniform(0, 140, 2), 9, 9))
    return track_table(rows_true), track_table(rows_found)


def track_table(rows: list[tuple]) -> TrackTable:
    """Rows of frame, track id, cx, cy, w, h; of two boxes with one id in a frame the first is kept.

    Places and sizes are whole numbers or quarters, so that nothing is lost in MOTChallenge text.
    """
    data = np.round(np.array(rows, dtype=float) * 4) / 4
    _, first = np.unique(data[:, :2], axis=0, return_index=True)
    data = data[np.sort(first)]
    frame, zeros = data[:, 0].astype(np.int64), np.zeros(len(data), np.int64)
    return TrackTable(
        frame=frame, field=zeros, t_ns=frame * 20_000_000, track_id=data[:, 1].astype(np.int64), cx_px=data[:, 2],
        cy_px=data[:, 3], w_px=data[:, 4], h_px=data[:, 5], x_measured_px=data[:, 2], y_measured_px=data[:, 3],
        confidence=np.ones(len(data)), predicted=zeros.astype(bool),
    )  # fmt: skip


def trackeval_over_files(folder: Path, sequences: dict[str, tuple[TrackTable, TrackTable]], n_frames: int) -> dict:
    """TrackEval's published way: MOTChallenge folders, its own reader and evaluator."""
    import trackeval

    truth_dir, found_dir = folder / "gt" / "casa-test", folder / "trackers" / "casa-test" / "ours" / "data"
    found_dir.mkdir(parents=True)
    for name, (truth, found) in sequences.items():
        (truth_dir / name / "gt").mkdir(parents=True)
        (truth_dir / name / "seqinfo.ini").write_text(f"[Sequence]\nname={name}\nseqLength={n_frames}\n")
        write_mot(truth_dir / name / "gt" / "gt.txt", truth)
        # The reader wants a class in column 8 (1, pedestrian); write_mot's -1 is right for results only.
        text = (truth_dir / name / "gt" / "gt.txt").read_text().replace(",-1,-1,-1", ",1,1.0")
        (truth_dir / name / "gt" / "gt.txt").write_text(text)
        write_mot(found_dir / f"{name}.txt", found)
        text = (found_dir / f"{name}.txt").read_text().replace(",-1,-1,-1", ",1,-1,-1")
        (found_dir / f"{name}.txt").write_text(text)
    quiet = {"PRINT_RESULTS": False, "PRINT_CONFIG": False, "TIME_PROGRESS": False, "OUTPUT_SUMMARY": False,
             "OUTPUT_DETAILED": False, "PLOT_CURVES": False, "PRINT_ONLY_COMBINED": True, "DISPLAY_LESS_PROGRESS": True,
             "BREAK_ON_ERROR": True, "LOG_ON_ERROR": None, "OUTPUT_EMPTY_CLASSES": False}  # fmt: skip
    dataset = trackeval.datasets.MotChallenge2DBox(
        {
            "GT_FOLDER": str(folder / "gt"), "TRACKERS_FOLDER": str(folder / "trackers"), "BENCHMARK": "casa",
            "SPLIT_TO_EVAL": "test", "DO_PREPROC": False, "PRINT_CONFIG": False,
            "SEQ_INFO": dict.fromkeys(sequences, n_frames),
        }
    )  # fmt: skip
    metrics = [trackeval.metrics.HOTA(), trackeval.metrics.CLEAR({"PRINT_CONFIG": False}),
               trackeval.metrics.Identity({"PRINT_CONFIG": False})]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        results, _ = trackeval.Evaluator(quiet).evaluate([dataset], metrics)
    return results["MotChallenge2DBox"]["ours"]


def test_tracking_scores_are_those_of_trackeval_over_files(tmp_path):
    sequences = {f"seq{seed}": random_tracks(seed) for seed in (1, 2, 3)}
    oracle = trackeval_over_files(tmp_path, sequences, 40)
    for name, (truth, found) in sequences.items():
        ours, theirs = tracking_scores(truth, found), oracle[name]["pedestrian"]
        assert 0.1 < ours["hota"] < 0.95
        assert ours["idsw"] > 0
        for key, metric, field in [
            ("hota", "HOTA", "HOTA"), ("deta", "HOTA", "DetA"), ("assa", "HOTA", "AssA"), ("loca", "HOTA", "LocA"),
            ("mota", "CLEAR", "MOTA"), ("motp", "CLEAR", "MOTP"), ("idsw", "CLEAR", "IDSW"), ("frag", "CLEAR", "Frag"),
            ("fp", "CLEAR", "CLR_FP"), ("fn", "CLEAR", "CLR_FN"), ("idf1", "Identity", "IDF1"),
            ("idp", "Identity", "IDP"), ("idr", "Identity", "IDR"), ("gt_ids", "Count", "GT_IDs"),
            ("found_ids", "Count", "IDs"), ("found_boxes", "Count", "Dets"),
        ]:  # fmt: skip
            assert ours[key] == pytest.approx(float(np.mean(theirs[metric][field])), abs=1e-9), (name, key)

"""Scores of perfect, empty, shifted and ignored results; truth tables; the command line on small tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from casa.cli.evaluate import app
from casa.errors import InputError
from casa.evaluate.boxes import box_iou, first_fields, frames_between, rows_by_picture, table_from_detections
from casa.evaluate.challenge import challenge_cases, challenge_scores
from casa.evaluate.detection import detection_scores
from casa.evaluate.tracking import combine_scores, tracking_scores
from casa.evaluate.truth import centre_in_mask, read_ignore_mask, read_truth
from casa.tables import write_detections, write_tracks
from casa.types import Detections, DetectionTable, TrackTable


def detections(frames: int = 6, shift_px: float = 0.0, class_id: int = 0) -> DetectionTable:
    """Three 20 px boxes in every frame, 60 px apart, moved right by ``shift_px``; confidences .9, .8, .7."""
    frame = np.repeat(np.arange(frames), 3)
    place = np.tile(np.arange(3) * 60.0 + 40, frames)
    n = len(frame)
    return DetectionTable(
        frame, np.zeros(n), frame * 20_000_000, place + shift_px, place, np.full(n, 20.0), np.full(n, 20.0),
        np.tile([0.9, 0.8, 0.7], frames), np.full(n, class_id),
    )  # fmt: skip


def tracks(frames: int = 12, swap_at: int | None = None) -> TrackTable:
    """Two tracks side by side; their ids change places at frame ``swap_at``."""
    frame = np.repeat(np.arange(frames), 2)
    track = np.tile([1, 2], frames)
    x = np.where(track == 1, 40.0, 90.0) + frame
    name = np.where(frame >= swap_at, 3 - track, track) if swap_at is not None else track
    n = len(frame)
    return TrackTable(
        frame, np.zeros(n), frame * 20_000_000, name, x, np.full(n, 30.0), np.full(n, 16.0), np.full(n, 16.0), x,
        np.full(n, 30.0), np.ones(n), np.zeros(n, bool),
    )  # fmt: skip


def test_iou_of_known_boxes():
    boxes = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [3, 3, 3, 3]])
    np.testing.assert_allclose(box_iou(boxes[:1], boxes), [[1.0, 1 / 3, 0.0, 0.0]])
    assert box_iou(boxes[3:], boxes[3:]) == 0.0  # two boxes of no area overlap nowhere


def test_perfect_detections_score_one_and_nothing_found_scores_nought():
    truth = detections()
    perfect = detection_scores(truth, truth, confidence=0.75)
    assert perfect["ap50"] == perfect["ap50_95"] == perfect["f1"] == pytest.approx(1.0)
    assert (perfect["tp"], perfect["fp"], perfect["fn"], perfect["frames"]) == (18, 0, 0, 6)
    assert perfect["confidence"] == pytest.approx(0.7)
    assert perfect["at_confidence"]["recall"] == pytest.approx(2 / 3)
    nothing = detection_scores(truth, truth.select(slice(0, 0)))
    assert (nothing["ap50"], nothing["recall"], nothing["fn"]) == (0.0, 0.0, 18)
    assert np.isnan(nothing["precision"])


def test_without_truth_there_is_no_average_precision():
    scores = detection_scores(detections().select(slice(0, 0)), detections())
    assert np.isnan(scores["ap50"])
    assert scores["found_boxes"] == 18


@pytest.mark.parametrize(
    ("shift_px", "ap50", "ap50_95"), [(4.0, 1.0, 0.4), (6.5, 1.0, 0.1), (7.0, 0.0, 0.0), (-2.0, 1.0, 0.7)]
)
def test_shifted_boxes_count_up_to_the_thresholds_their_overlap_reaches(shift_px, ap50, ap50_95):
    # IoU of a 20 px box shifted by s is (20 - s) / (20 + s): .667, .509, .481, .818.
    scores = detection_scores(detections(), detections(shift_px=shift_px))
    assert scores["ap50"] == pytest.approx(ap50)
    assert scores["ap50_95"] == pytest.approx(ap50_95)
    if ap50:
        assert scores["offset_x_px"] == pytest.approx(shift_px)
        assert scores["jitter_px"] == pytest.approx(0.0, abs=1e-9)


def test_a_false_alarm_costs_precision_by_its_confidence():
    truth = detections(frames=1)
    extra = truth.select([0]).columns() | {"cx_px": np.array([300.0]), "confidence": np.array([0.95])}
    found = DetectionTable.concatenate([DetectionTable(**extra), truth])
    assert detection_scores(truth, found)["ap50"] == pytest.approx(0.75)  # precision 1/2, 2/3, 3/4; envelope 3/4
    late = DetectionTable(**(extra | {"confidence": np.array([0.1])}))
    assert detection_scores(truth, DetectionTable.concatenate([truth, late]))["ap50"] == pytest.approx(1.0)


def test_a_second_box_on_the_same_head_is_a_false_alarm():
    truth = detections(frames=1)
    scores = detection_scores(truth, DetectionTable.concatenate([truth, truth]))
    assert (scores["tp"], scores["fp"]) == (3, 3)


def test_classes_are_scored_apart_and_averaged_over_those_with_truth():
    truth = DetectionTable.concatenate([detections(), detections(class_id=2)])
    found = DetectionTable.concatenate([detections(), detections(shift_px=300, class_id=1)])
    scores = detection_scores(truth, found)
    assert scores["per_class"][0]["ap50"] == pytest.approx(1.0)
    assert scores["per_class"][2]["ap50"] == 0.0
    assert np.isnan(scores["per_class"][1]["ap50"])
    assert scores["ap50"] == pytest.approx(0.5)
    assert (scores["truth_boxes"], scores["found_boxes"]) == (36, 36)
    assert detection_scores(truth, found, class_ids=[0])["ap50"] == pytest.approx(1.0)


def test_centres_match_within_the_distance_and_each_truth_once():
    truth, found = detections(), detections(shift_px=4.9)
    assert detection_scores(truth, found, match_px=5)["f1"] == pytest.approx(1.0)
    assert detection_scores(truth, detections(shift_px=5.1), match_px=5)["f1"] == 0.0
    twice = detection_scores(truth, DetectionTable.concatenate([found, found]), match_px=5)
    assert (twice["tp"], twice["fp"]) == (18, 18)


def test_ignored_truth_need_not_be_found_and_its_neighbourhood_is_not_judged():
    truth, found = detections(), detections()
    hidden = truth.cx_px < 50
    false_alarm = DetectionTable(**(found.select(hidden).columns() | {"cy_px": np.full(6, 300.0)}))
    both = DetectionTable.concatenate([found, false_alarm])
    in_region = np.concatenate([np.zeros(18, bool), np.ones(6, bool)])
    scores = detection_scores(truth, both, ignored=(hidden, in_region))
    assert (scores["tp"], scores["fp"], scores["fn"], scores["truth_boxes"]) == (12, 0, 0, 12)
    assert detection_scores(truth, found.select(~hidden), ignored=(hidden, np.zeros(12, bool)))["recall"] == 1.0


def test_pictures_are_frames_and_fields():
    table = detections(frames=2)
    fields = DetectionTable(**(table.columns() | {"field": np.tile([0, 1], 3)}))
    keys, (rows,) = rows_by_picture(fields)
    assert keys.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert sorted(np.concatenate(rows).tolist()) == list(range(6))
    assert detection_scores(table, fields)["recall"] == pytest.approx(0.5)


def test_detections_of_frames_become_one_table():
    found = [
        Detections(3, 60, np.array([[10, 20, 30, 50]]), np.array([0.5]), np.array([2]), field=1),
        Detections.empty(4, 80),
    ]
    table = table_from_detections(found)
    assert (table.frame.tolist(), table.field.tolist(), table.t_ns.tolist()) == ([3], [1], [60])
    assert (table.cx_px[0], table.cy_px[0], table.w_px[0], table.h_px[0]) == (20, 35, 20, 30)
    assert len(table_from_detections([])) == 0


def test_perfect_swapped_and_missing_tracks():
    truth = tracks()
    perfect = tracking_scores(truth, truth)
    assert (perfect["hota"], perfect["mota"], perfect["idf1"], perfect["idsw"]) == (1.0, 1.0, 1.0, 0)
    swapped = tracking_scores(truth, tracks(swap_at=6))
    assert (swapped["idsw"], swapped["ids_per_gt"], swapped["deta"]) == (2, 1.0, 1.0)
    assert swapped["idf1"] == pytest.approx(0.5)
    nothing = tracking_scores(truth, truth.select(slice(0, 0)))
    assert (nothing["hota"], nothing["idf1"], nothing["fn"]) == (0.0, 0.0, 24)
    assert np.isnan(tracking_scores(truth.select(slice(0, 0)), truth)["ids_per_gt"])


def test_scores_of_videos_are_averaged_and_their_counts_summed():
    one, two = tracking_scores(tracks(), tracks()), tracking_scores(tracks(), tracks(swap_at=6))
    combined = combine_scores({"a": one, "b": two})
    assert combined["idf1"] == pytest.approx(0.75)
    assert combined["idsw"] == 2


def test_a_track_twice_in_a_picture_is_refused():
    with pytest.raises(InputError, match="track 1 is twice in frame 0"):
        tracking_scores(tracks(), TrackTable.concatenate([tracks(), tracks()]))


def test_frames_between_is_half_open():
    assert frames_between(tracks(), 3, 5).frame.tolist() == [3, 3, 4, 4]
    assert len(frames_between(tracks())) == 24


def test_truth_is_read_with_boxes_with_corners_and_as_centres(tmp_path):
    (tmp_path / "b.csv").write_text("frame,track_id,class_id,cx_px,cy_px,w_px,h_px\n0,1,0,10,20,4,6\n1,1,2,11,20,4,6\n")
    boxes = read_truth(tmp_path / "b.csv")
    assert boxes.has_boxes
    assert boxes.table.class_id.tolist() == [0, 2]
    (tmp_path / "c.csv").write_text("frame,label,x1_px,y1_px,x2_px,y2_px\n0,S,8,17,12,23\n0,Impurity,50,50,60,60\n")
    corners = read_truth(tmp_path / "c.csv")
    assert (corners.table.cx_px.tolist(), corners.table.h_px.tolist()) == ([10.0], [6.0])
    (tmp_path / "p.csv").write_text(
        "frame,track_id,cx_px,cy_px,mode\n0,1,10,20,slow\n0,2,-3,20,slow\n0,3,10,500,slow\n"
    )
    points = read_truth(tmp_path / "p.csv", (500, 500))
    assert not points.has_boxes
    assert points.table.cx_px.tolist() == [10.0]
    (tmp_path / "n.csv").write_text("frame,cx_px\n0,1\n")
    with pytest.raises(InputError, match=r"n\.csv: expected columns cx_px"):
        read_truth(tmp_path / "n.csv")
    (tmp_path / "e.csv").write_text("frame,cx_px,cy_px\n0,,1\n")
    with pytest.raises(InputError, match="empty"):
        read_truth(tmp_path / "e.csv")


def test_masks_are_read_plain_and_packed(tmp_path):
    mask = np.zeros((2, 100, 180), bool)
    mask[1, 30:50, 30:50] = True
    np.savez(tmp_path / "plain.npz", mask=mask)
    np.savez(tmp_path / "packed.npz", mask=np.packbits(mask, axis=-1), shape=mask.shape)
    for name in ("plain.npz", "packed.npz"):
        read = read_ignore_mask(tmp_path / name)
        np.testing.assert_array_equal(read, mask)
    inside = centre_in_mask(detections(frames=3), mask)
    assert np.flatnonzero(inside).tolist() == [3]  # the first of frame 1; frame 2 lies past the mask's end
    np.savez(tmp_path / "other.npz", nothing=mask)
    for name in ("other.npz", "missing.npz"):
        with pytest.raises(InputError, match=name):
            read_ignore_mask(tmp_path / name)


@pytest.fixture
def challenge(tmp_path) -> Path:
    for name, fps in (("7", 49), ("12", 49), ("7", 24.5)):
        write_tracks(tmp_path / f"{name}_fps{fps:g}.gt.csv.gz", tracks())
        table = tracks()
        write_detections(
            tmp_path / f"{name}_fps{fps:g}.det.csv.gz",
            DetectionTable(table.frame, table.field, table.t_ns, table.cx_px, table.cy_px, table.w_px, table.h_px,
                           table.confidence, np.zeros(len(table))),
        )  # fmt: skip
    return tmp_path


def perfect_tracker(table: DetectionTable) -> TrackTable:
    """Knows that the left one is track 1."""
    track_id = np.where(table.cx_px - table.frame < 60, 1, 2)
    return TrackTable(
        table.frame, table.field, table.t_ns, track_id, table.cx_px, table.cy_px, table.w_px, table.h_px, table.cx_px,
        table.cy_px, table.confidence, np.zeros(len(table), bool),
    )  # fmt: skip


def test_a_challenge_is_scored_video_by_video_and_put_together(challenge):
    scores = challenge_scores(challenge_cases(challenge), perfect_tracker)
    assert {rate: list(videos) for rate, videos in scores.items()} == {49.0: ["7", "12", "mean"], 24.5: ["7", "mean"]}
    assert scores[49.0]["mean"]["hota"] == pytest.approx(1.0)
    assert scores[49.0]["mean"]["gt_ids"] == 4
    assert len(challenge_cases(challenge, 49.0, ["12"])) == 1


def test_a_challenge_that_is_not_there_is_told(challenge):
    for arguments, message in [
        ((challenge / "no",), "no such folder"), ((challenge, 10.0), "at 10 fps is not there"),
        ((challenge, None, ["99"]), "99 is not there"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=message):
            challenge_cases(*arguments)
    (challenge / "7_fps49.gt.csv.gz").unlink()
    with pytest.raises(InputError, match=r"7_fps49\.gt\.csv\.gz: missing"):
        challenge_cases(challenge)


def run(*arguments: object) -> dict:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert isinstance(result.exception, InputError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_evaluate_detector_on_tables(tmp_path):
    write_detections(tmp_path / "t.csv.gz", detections())
    write_detections(tmp_path / "f.csv", detections(frames=3))
    scores = run("detector", tmp_path / "f.csv", "--truth", tmp_path / "t.csv.gz", "--json")
    assert scores["ap50"] == pytest.approx(51 / 101)  # recall .5: 51 of the 101 points
    part = run("detector", tmp_path / "f.csv", "--truth", tmp_path / "t.csv.gz", "--frames", ":3", "--json")
    assert part["ap50"] == pytest.approx(1.0)
    assert part["frames"] == 3
    table = CliRunner().invoke(app, ["detector", str(tmp_path / "f.csv"), "--truth", str(tmp_path / "t.csv.gz")])
    assert table.exit_code == 0
    assert "ap50" in table.stdout


def test_evaluate_detector_matches_by_distance_where_truth_is_points(tmp_path):
    truth = detections()
    lines = [f"{frame},{x},{y}" for frame, x, y in zip(truth.frame, truth.cx_px, truth.cy_px, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["frame,cx_px,cy_px", *lines, "0,-20,10"]))
    write_detections(tmp_path / "f.csv", detections(shift_px=3))
    scores = run("detector", tmp_path / "f.csv", "--truth", tmp_path / "t.csv", "--size", "200x200", "--json")
    assert (scores["match_px"], scores["f1"]) == (5.0, 1.0)
    assert "ap50" not in scores


def test_evaluate_tracker_on_tables(tmp_path):
    write_tracks(tmp_path / "t.csv", tracks())
    write_tracks(tmp_path / "f.csv", tracks(swap_at=6))
    scores = run("tracker", tmp_path / "f.csv", "--truth", tmp_path / "t.csv", "--json")
    assert scores["idsw"] == 2
    assert run("tracker", tmp_path / "f.csv", "--truth", tmp_path / "t.csv", "--frames", "6:", "--json")["idf1"] == 1.0


def test_evaluate_runs_casas_tracker_on_a_challenge(challenge):
    result = run("tracker", "--challenge", challenge, "--fps", "49", "--videos", "7,12", "--json")
    assert set(result["by_fps"]["49"]) == {"7", "12", "mean"}
    assert result["by_fps"]["49"]["mean"]["idsw"] == 0
    assert result["by_fps"]["49"]["mean"]["idf1"] > 0.8


def test_wrong_calls_of_evaluate_are_one_line(tmp_path):
    write_detections(tmp_path / "d.csv", detections())
    write_tracks(tmp_path / "t.csv", tracks())
    (tmp_path / "empty.csv").write_text("")
    d, t = tmp_path / "d.csv", tmp_path / "t.csv"
    assert "no such file" in refused("detector", tmp_path / "no.csv", "--truth", d)
    assert "no such file" in refused("detector", d, "--truth", tmp_path / "no.csv")
    assert "empty" in refused("detector", tmp_path / "empty.csv", "--truth", d)
    assert "first:stop" in refused("detector", d, "--truth", d, "--frames", "3")
    assert "above the first" in refused("detector", d, "--truth", d, "--frames", "9:3")
    assert "no true object" in refused("detector", d, "--truth", d, "--frames", "100:")
    assert "WIDTHxHEIGHT" in refused("detector", d, "--truth", d, "--size", "big")
    assert "no such file" in refused("tracker", tmp_path / "no.csv", "--truth", t)
    assert "no true track" in refused("tracker", t, "--truth", t, "--frames", "100:")
    assert "--challenge" in refused("tracker")
    assert "own tables" in refused("tracker", t, "--challenge", tmp_path)
    assert "no such folder" in refused("tracker", "--challenge", tmp_path / "no")


def test_truth_of_whole_frames_is_judged_on_first_fields():
    fields = DetectionTable([0, 0, 1], [0, 1, 0], [0, 1, 2], [5, 6, 7], [5, 5, 5], [4] * 3, [4] * 3, [0.9] * 3, [0] * 3)
    whole = fields.select(fields.field == 0)
    assert first_fields(fields, whole).field.tolist() == [0, 0]
    assert len(first_fields(fields, fields)) == 3

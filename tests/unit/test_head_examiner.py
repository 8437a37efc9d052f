"""Claims about heads in clips, examined: a class from the best crops, or a reason; and what a network does not know."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
import recordings
import torch
from head_clips import SCALE_UM_PER_PX, clip_of

from casa.bus.address import Endpoint
from casa.bus.cell_messages import GradeFailed, MorphologyMessage, Work
from casa.bus.convert import clip_message, exam_of, morphology_message
from casa.bus.desk import GraderDesk
from casa.bus.messages import Done
from casa.bus.server import BusServer
from casa.cells import NO_NUMBERS, ClipFlag, HeadExam
from casa.cli.replay import morphology_line
from casa.config import BusConfig, load_config
from casa.engine.examining import LiveMorphology, MorphologyStage, Sharpest, morphology_record
from casa.engine.grader import MorphologyWorker, run_grader
from casa.errors import CasaError, InputError
from casa.morphology.domain import UNKNOWN, outside
from casa.morphology.examiner import HeadExaminer
from casa.morphology.model import MorphologyClassifier
from casa.resources import resource_dir
from casa.types import Calibration, SourceInfo
from casa.weights import read_manifest

KNOWS = {"um_per_px": [0.1, 0.2], "looks": ["unstained"], "photographs": True}
SHARP, _ = clip_of((2.5, 0, 0.5, 2.0, 0.8, 3.0))


@pytest.fixture(scope="module")
def examiner() -> HeadExaminer:
    return HeadExaminer("morphology", threads=1, crops=3)


def test_a_clip_is_the_mean_of_its_sharpest_crops(examiner: HeadExaminer):
    exam = examiner.examine([SHARP], in_domain=True)[0]
    row = exam.row
    assert (row.track_id[0], row.frame[0], row.n_crops[0], row.reason[0], row.in_domain[0]) == (7, 5, 3, "", True)
    assert row.class_names == ("normal", "tapered", "pyriform", "amorphous", "small")
    assert row.distribution.sum() == pytest.approx(1)
    assert row.decided()["class"].tolist() == ["normal"]  # as it was drawn
    assert 3.5 < row.length_um[0] < 7
    assert row.ellipticity[0] == pytest.approx(row.length_um[0] / row.width_um[0], rel=0.1)
    assert exam.crop.shape == (64, 64)
    heat = examiner.heat(SHARP.clip_id)
    assert heat.shape == (64, 64)
    assert heat[16:48, 16:48].max() > 100  # what decided is at the head


def test_in_a_batch_each_clip_has_its_own(examiner: HeadExaminer):
    blurred = replace(clip_of((4.5, 5.0))[0], clip_id=2, track_id=8)
    flagged = replace(SHARP, clip_id=3, flags=np.full(len(SHARP), ClipFlag.CROSSING))
    alone = examiner.examine([SHARP])[0]
    first, second, third, fourth = examiner.examine([SHARP, blurred, flagged, replace(SHARP, clip_id=4)])
    assert np.allclose(first.row.distribution, alone.row.distribution, atol=1e-5)
    assert np.allclose(fourth.row.distribution, alone.row.distribution, atol=1e-5)
    for exam in (second, third):
        assert exam.row.n_crops[0] == 0
        assert exam.crop is None
        assert np.isnan(exam.row.distribution).all()
        assert np.isnan(exam.row.length_um).all()
        assert examiner.heat(int(exam.row.clip_id[0])) is None
    assert second.row.reason[0] in ("out of focus", "no head found")
    assert third.row.reason[0] == "no picture shows the head alone"


def without_numbers(examiner: HeadExaminer, views: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the network fail for some of the views of a batch."""
    classify = examiner._classifier.classify_views

    def some(given: np.ndarray) -> np.ndarray:
        chances = classify(given)
        chances[list(views)] = np.nan
        return chances

    monkeypatch.setattr(examiner._classifier, "classify_views", some)


def test_of_a_clip_without_numbers_there_is_no_class_and_of_the_others_there_is(examiner: HeadExaminer, monkeypatch):
    alone = examiner.examine([SHARP])[0]
    without_numbers(examiner, (1,), monkeypatch)
    clips = [SHARP, replace(SHARP, clip_id=2)]
    failed, good = examiner.examine(clips)
    assert (failed.row.n_crops[0], failed.row.reason[0], failed.crop) == (0, NO_NUMBERS, None)
    assert np.isnan(failed.row.distribution).all()
    assert np.isnan(failed.row.length_um).all()
    assert examiner.heat(1) is None
    assert (good.row.n_crops[0], good.row.reason[0]) == (3, "")
    assert np.allclose(good.row.distribution, alone.row.distribution, atol=1e-5)
    worker = MorphologyWorker(examiner)
    answers = worker.answers([Work(clip=clip_message(clip), attention=True) for clip in clips])
    assert [type(answer) for answer in answers] == [GradeFailed, MorphologyMessage]
    without_numbers(examiner, (0, 1, 2, 3, 4, 5), monkeypatch)
    with pytest.raises(CasaError, match=NO_NUMBERS):  # a network that fails again and again is given up
        worker.answers([Work(clip=clip_message(clip), attention=True) for clip in clips])


def test_a_network_without_numbers_is_a_counted_failure_of_each_clip_and_no_end_of_the_session(tmp_path):
    content = torch.load(resource_dir("models") / "morphology.pt", weights_only=True)
    for state in content["classifiers"]:
        for name in [name for name in state if name.endswith("bias")]:
            state[name] = torch.full_like(state[name], float("nan"))
    torch.save(content, tmp_path / "broken.pt")
    config = load_config("replay", {"morphology.enabled": True, "morphology.weights": str(tmp_path / "broken.pt")})
    stage = MorphologyStage(config, None, SourceInfo("x.mp4", 640, 480, 50.0, 100, "pts"))
    stage.open()
    flagged = replace(SHARP, clip_id=2, track_id=8, flags=np.full(len(SHARP), ClipFlag.CROSSING))
    exams = [*stage.process(SHARP), *stage.process(flagged), *stage.flush()]
    assert [exam.row.reason[0] for exam in exams] == ["no picture shows the head alone"]  # a failure has no row
    counts = stage.counts()
    stage.close()
    assert counts == {
        "taken": 2, "graded": 1, "failed": 1, "tracks": 1, "abstained": {"no picture shows the head alone": 1},
    }  # fmt: skip
    assert morphology_line(counts) == (
        "1 of 2 clips examined, of 1 tracks (1 failed); in 0 a head to be classed, in 1 none "
        "(1 no picture shows the head alone)"
    )
    assert f"{NO_NUMBERS}: choose other --morphology-weights than {tmp_path}/broken.pt" in str(stage.failure)


def test_two_heads_are_said_to_be_two(examiner: HeadExaminer):
    picture = np.full((150, 150), 200, np.uint8)
    for x in (55, 95):
        cv2.ellipse(picture, (x, 75), (10, 17), 0, 0, 360, 60, -1)
    picture = cv2.GaussianBlur(picture, (0, 0), 1.0)
    clip = replace(SHARP, images=np.stack([picture] * len(SHARP)), um_per_px=0.08)
    assert examiner.examine([clip])[0].row.reason[0] == "two heads"


def test_uncalibrated_there_are_classes_and_no_lengths(examiner: HeadExaminer):
    row = examiner.examine([replace(SHARP, um_per_px=None)])[0].row
    assert row.n_crops[0] == 3
    assert np.isnan([row.length_um[0], row.width_um[0], row.area_um2[0]]).all()
    assert np.isfinite(row.ellipticity[0])


def test_no_clips_are_no_rows(examiner: HeadExaminer):
    assert examiner.examine([]) == []


def test_over_the_bus_it_comes_out_the_same(examiner: HeadExaminer):
    worker = MorphologyWorker(examiner)
    works = [Work(clip=clip_message(SHARP), attention=True), Work(clip=clip_message(replace(SHARP, clip_id=2)))]
    answers = worker.answers(works)
    assert all(isinstance(answer, MorphologyMessage) for answer in answers)
    assert (answers[0].heat_map is None, answers[1].heat_map is None) == (False, True)
    assert answers[0].normal == {"class": answers[0].classes["normal"]}
    exam = exam_of(answers[0], examiner.info.class_names)
    direct = examiner.examine([SHARP])[0]
    for name, column in direct.row.columns().items():
        assert np.array_equal(column, getattr(exam.row, name), equal_nan=column.dtype.kind == "f"), name
    assert np.array_equal(exam.crop, direct.crop)
    with pytest.raises(ValueError, match="the session has"):
        exam_of(answers[0], ("normal", "abnormal"))


def test_what_was_not_seen_goes_over_the_bus_with_its_reason():
    for exam in (recordings.head_exam(4, 2, "two heads"), recordings.head_exam(5, 2)):
        back = exam_of(morphology_message(exam, "m"), recordings.CLASSES)
        for name, column in exam.row.columns().items():
            assert np.array_equal(column, getattr(back.row, name), equal_nan=column.dtype.kind == "f"), name


@pytest.mark.parametrize(
    ("um_per_px", "look", "simulated", "why"),
    [
        (0.15, "unstained", False, ()),
        (0.06, "unstained", False, ()),  # finer pictures are reduced
        (0.5, "unstained", False, ("0.5 µm/px",)),
        (None, "unstained", False, ("scale is not known",)),
        (0.15, "phase contrast", False, ("phase contrast, and",)),
        (0.15, None, False, ("not said",)),
        (0.15, None, True, ("simulated field",)),
        (0.03, "stained", False, ("0.03 µm/px", "stained, and")),
    ],
)
def test_pictures_that_a_network_does_not_know_are_named(um_per_px, look, simulated, why):
    found = outside(KNOWS, um_per_px, look, simulated)
    assert len(found) == len(why)
    assert all(words in reason for words, reason in zip(why, found, strict=True))


def test_a_network_of_rendered_heads_knows_no_photograph():
    assert "no photograph" in outside(KNOWS | {"photographs": False}, 0.15, "unstained")[0]
    assert outside({}, 0.15, "unstained") == (UNKNOWN,)


@pytest.mark.parametrize(
    "name", [n for n, entry in read_manifest(resource_dir("models")).items() if entry.task == "morphology"]
)
def test_the_manifest_says_what_the_weights_tell_apart(name: str):
    classifier = MorphologyClassifier(name, threads=1)
    knows = classifier.entry.knows
    assert tuple(knows["classes"]) == classifier.class_names
    assert knows["abstain_below"] == classifier.info.abstain_below
    assert 0 < knows["um_per_px"][0] <= knows["um_per_px"][1] < 1
    card = (resource_dir("models") / classifier.entry.card).read_text(encoding="utf-8")
    assert all(look.lower() in card.lower() for look in knows["looks"])


def test_a_session_says_what_its_network_does_not_know(tmp_path):
    source = SourceInfo("x.mp4", 640, 480, 50.0, 100, "pts")
    record = morphology_record("morphology", "phase contrast", Calibration("c", 0.5, 0.5), source)
    assert record["class_names"][0] == "normal"
    assert [words.split(",")[0] for words in record["outside"]] == [
        "0.5 µm/px", "the network has seen rendered heads alone"
    ]  # fmt: skip
    near = Calibration("c", SCALE_UM_PER_PX, SCALE_UM_PER_PX)
    assert len(morphology_record("morphology", None, near, replace(source, timestamps="simulated"))["outside"]) == 1
    mhsma = morphology_record("morphology-mhsma", "unstained", Calibration("c", 0.12, 0.12), source)
    assert mhsma["outside"] == []
    (tmp_path / "own.pt").write_bytes((resource_dir("models") / "morphology.pt").read_bytes())
    own = morphology_record(str(tmp_path / "own.pt"), None, near, source)  # no manifest: the file itself is asked
    assert own["class_names"] == record["class_names"]
    assert own["outside"] == [UNKNOWN]
    with pytest.raises(InputError, match="no such morphology network"):
        morphology_record("nothing", None, None, source)


def test_the_sharpest_of_a_track_is_kept():
    def exam(track: int, edge: float, reason: str = "") -> HeadExam:
        made = recordings.head_exam(1, track, reason)
        return replace(made, row=replace(made.row, edge_share=np.array([edge])))

    steps = [(1, 0.3), (1, 0.4), (1, 0.35), (2, 0.5), (1, 0.2), (2, 0.5)]  # what is duller than one before stays out
    last, everything, none = Sharpest("last"), Sharpest("all"), Sharpest("none")
    assert [last.keeps(exam(*step)) for step in steps] == [True, False, False, True, True, False]
    assert all(everything.keeps(exam(*step)) for step in steps)
    assert not any(none.keeps(exam(*step)) for step in steps)
    assert not everything.keeps(exam(1, 0.1, "two heads"))


def test_live_clips_go_to_a_grader_and_come_back_as_a_track_s_head(examiner: HeadExaminer, tmp_path):
    source = SourceInfo("camera:0", 640, 480, 50.0, None, "device")
    config = load_config("live", {"morphology.enabled": True})
    published: list[MorphologyMessage] = []
    desk = GraderDesk({}, lambda level, kind, text: None)
    scale = Calibration("c", SCALE_UM_PER_PX, SCALE_UM_PER_PX)
    heads = LiveMorphology(
        config, scale, source, desk, publish=lambda message, also: published.append(message), wake=lambda: server.wake()
    )
    blurred = replace(clip_of((4.5, 5.0))[0], clip_id=3, track_id=9)
    endpoint = Endpoint.parse(f"ipc://{tmp_path}/bus")
    with BusServer(endpoint, BusConfig(), "s", lambda request: Done(), desk=desk) as server:
        grader = threading.Thread(
            target=run_grader,
            args=(endpoint, [MorphologyWorker(examiner)]),
            kwargs={"stop": lambda: len(published) >= 3},
        )
        list(heads.process(SHARP))
        grader.start()
        until(lambda: published)
        for clip in (blurred, replace(SHARP, clip_id=2, images=SHARP.images[::-1])):
            list(heads.process(clip))
        until(lambda: len(published) >= 3)
        grader.join(20)
        assert not grader.is_alive()
        metrics = heads.metrics()
    assert (metrics.taken, metrics.graded, metrics.tracks, metrics.failed) == (3, 3, 2, 0)
    assert sum(metrics.abstained.values()) == 1
    assert not any(message.in_domain for message in published)  # which the engine says: it has seen no photograph
    by_clip = {message.clip_id: message for message in published}
    assert by_clip[1].crop is not None
    assert by_clip[2].crop is None  # it is no sharper
    assert by_clip[3].reason
    told = heads.newest(7)
    assert told is not None
    assert told.n_crops == 6
    assert told.crop is not None
    assert sum(told.classes.values()) == pytest.approx(1)
    assert heads.newest(9).reason == by_clip[3].reason
    assert heads.newest(1) is None


def until(claim, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not claim():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)

"""Claims about `casa replay` as a user meets it: from a video to a recording, a report and figures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from running import casa, encode, start_casa

from casa.record import Recording


def test_a_video_becomes_a_recording_and_a_report(simulated_video: Path, tmp_path: Path):
    done = casa("replay", simulated_video, "-o", "run.h5", "--calibration", "simulator", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    frames = result["frames"]
    assert frames["captured"] == frames["processed"] == 100
    assert result["tracks"] > 5
    assert result["motility_percent"]["pr"] is not None
    assert result["concentration_m_per_ml"] > 0
    assert result["tracking"]["frames"] == 100
    assert result["tracking"]["bad_boxes"] == result["tracking"]["restarts"] == 0
    assert "Left out or corrected in tracking" in (tmp_path / "run.html").read_text()
    assert (tmp_path / "run.html").stat().st_size > 10_000
    assert not list(tmp_path.glob("*.partial")) + list(tmp_path.glob("*.journal"))
    with Recording(tmp_path / "run.h5") as recording:
        assert recording.status == "complete"
        assert recording.account.balanced
        assert len(recording.frames()["frame"]) == 100
        assert len(recording.kinematics()) == result["tracks"]
        assert recording.tracking == result["tracking"]
        assert recording.session["model"]["sha256"]
        assert recording.session["source"]["sha256"]
        assert len(recording.pictures()) >= 1


def test_without_a_calibration_results_are_in_pixels_and_say_so(simulated_video: Path, tmp_path: Path):
    done = casa("replay", simulated_video, "--no-report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "no calibration" in done.stdout
    with Recording(tmp_path / "field.h5") as recording:
        kinematics = recording.kinematics()
    assert np.isnan(kinematics.vcl_um_s).all()
    assert np.isfinite(kinematics.vcl_px_s).any()


def test_both_runners_write_the_same_tables(simulated_video: Path, tmp_path: Path):
    tables = []
    for name, flags in (("serial.h5", ["--serial"]), ("threaded.h5", [])):
        done = casa("replay", simulated_video, "-o", name, "--no-report", *flags, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        with Recording(tmp_path / name) as recording:
            tables.append([recording.detections(), recording.tracks(), recording.kinematics()])
    for serial, threaded in zip(*tables, strict=True):
        assert len(serial) > 0
        for name, column in serial.columns().items():
            np.testing.assert_array_equal(column, getattr(threaded, name), err_msg=name)


def test_every_nth_frame_is_skipped_and_counted(simulated_video: Path, tmp_path: Path):
    done = casa("replay", simulated_video, "--every-nth", "2", "--no-report", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    frames = json.loads(done.stdout)["frames"]
    assert (frames["captured"], frames["processed"], frames["skipped"]) == (100, 50, 50)


def test_an_empty_field_gives_a_report_that_says_so(tmp_path: Path):
    video = encode(tmp_path / "empty.mp4", [np.full((240, 320, 3), 60, np.uint8)] * 60)
    done = casa("replay", video, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["tracks"] == 0
    assert result["frames"]["processed"] == 60
    assert result["heads_per_frame"] == 0


def one_line(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """The command ended with ``code`` and one line on standard error that has all ``words``."""
    assert done.returncode == code, (done.stdout, done.stderr)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]
    assert done.stdout == ""


def test_a_missing_file(tmp_path: Path):
    one_line(casa("replay", "absent.mp4", cwd=tmp_path), 2, "absent.mp4", "no such file")


def test_an_empty_file(tmp_path: Path):
    (tmp_path / "empty.mp4").touch()
    one_line(casa("replay", "empty.mp4", cwd=tmp_path), 2, "empty.mp4", "empty")


def test_a_file_that_is_no_video(tmp_path: Path):
    (tmp_path / "letter.mp4").write_text("Dear laboratory, " * 500)
    one_line(casa("replay", "letter.mp4", cwd=tmp_path), 2, "letter.mp4")


def test_a_truncated_video_is_analysed_as_far_as_it_goes_and_the_rest_is_failed(simulated_video, tmp_path: Path):
    data = simulated_video.read_bytes()
    (tmp_path / "torn.mp4").write_bytes(data[: len(data) // 2])
    done = casa("replay", "torn.mp4", "--no-report", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    frames = json.loads(done.stdout)["frames"]
    assert frames["captured"] == 100
    assert 20 < frames["processed"] < 80
    assert frames["processed"] + frames["failed"] == 100
    with Recording(tmp_path / "torn.h5") as recording:
        rows = recording.frames()
    reasons = [r for r, s in zip(rows["reason"], rows["status"], strict=True) if s == "failed"]
    assert reasons
    assert all(reasons)


@pytest.mark.parametrize("fps", ["0", "-5", "nan"])
def test_an_impossible_frame_rate(simulated_video, tmp_path: Path, fps):
    one_line(casa("replay", simulated_video, "--fps", fps, cwd=tmp_path), 2, "--fps")


def test_a_folder_of_images_without_a_frame_rate(tmp_path: Path):
    import cv2

    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "0.png"), np.zeros((64, 64), np.uint8))
    one_line(casa("replay", "images", cwd=tmp_path), 2, "--fps")


def test_a_calibration_that_does_not_fit(simulated_video, tmp_path: Path):
    (tmp_path / "other.toml").write_text(
        'name = "other"\num_per_px_x = 0.4\num_per_px_y = 0.4\nwidth_px = 1920\nheight_px = 1200\n'
    )
    done = casa("replay", simulated_video, "--calibration", "other.toml", cwd=tmp_path)
    one_line(done, 2, "1920", "640")
    assert not list(tmp_path.glob("*.h5*"))


def test_weights_whose_sum_is_wrong(simulated_video, tmp_path: Path):
    from casa.resources import resource_dir

    folder = tmp_path / "models"
    folder.mkdir()
    for path in resource_dir("models").iterdir():
        data = path.read_bytes()
        spoilt = path.suffix in (".onnx", ".pt")
        (folder / path.name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]) if spoilt else data)
    code = (
        "import sys, pathlib, casa.resources as r; p = pathlib.Path(sys.argv.pop(1)); old = r.resource_dir;"
        "r.resource_dir = lambda kind: p if kind == 'models' else old(kind);"
        "import casa.weights as w; w.resource_dir = r.resource_dir;"
        "from casa.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), "replay", str(simulated_video)],
        capture_output=True, text=True, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    one_line(done, 2, "sha256")


def test_an_output_that_exists_is_kept_without_force(simulated_video, tmp_path: Path):
    (tmp_path / "run.h5").write_text("mine")
    done = casa("replay", simulated_video, "-o", "run.h5", cwd=tmp_path)
    one_line(done, 2, "run.h5", "--force")
    assert (tmp_path / "run.h5").read_text() == "mine"
    done = casa("replay", simulated_video, "-o", "run.h5", "--force", "--no-report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_an_output_folder_that_does_not_exist(simulated_video, tmp_path: Path):
    one_line(casa("replay", simulated_video, "-o", "no/run.h5", cwd=tmp_path), 2, "does not exist")


def wait_for_frames(path: Path, n_bytes: int, process: subprocess.Popen[str], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not (path.is_file() and path.stat().st_size > n_bytes):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ctrl_c_closes_the_recording_and_says_interrupted(simulated_video, tmp_path: Path):
    process = start_casa("replay", simulated_video, "-o", "run.h5", "--loop", "1000", "--json", cwd=tmp_path)
    try:
        wait_for_frames(tmp_path / "run.h5.journal", 50_000, process)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    result = json.loads(out)
    assert result["status"] == "interrupted"
    with Recording(tmp_path / "run.h5") as recording:
        assert recording.status == "interrupted"
        assert recording.account.balanced
        assert recording.account.captured == result["frames"]["captured"] < 100_000
    assert "interrupted" in (tmp_path / "run.html").read_text().lower()


def test_after_sigkill_recover_gives_back_all_but_the_last_second(simulated_video, tmp_path: Path):
    process = start_casa("replay", simulated_video, "-o", "run.h5", "--loop", "1000", "--no-report", cwd=tmp_path)
    try:
        wait_for_frames(tmp_path / "run.h5.journal", 100_000, process)
        time.sleep(1.0)
        with Recording(tmp_path / "run.h5.partial") as running:
            assert running.status == "recording"
            seen = len(running.frames()["frame"])
        time.sleep(1.0)  # what was readable a second ago is safe
        process.kill()
        process.wait()
    finally:
        process.kill()
        process.communicate()
    again = casa("replay", simulated_video, "-o", "run.h5", cwd=tmp_path)
    one_line(again, 2, "casa recover")
    done = casa("recover", "run.h5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with Recording(tmp_path / "run.h5") as recording:
        assert len(recording.frames()["frame"]) >= seen > 0
        assert recording.status != "complete"
        assert recording.account.balanced
    report = casa("report", "run.h5", "-o", "run.html", cwd=tmp_path)
    assert report.returncode == 0, report.stderr


def test_a_full_disk_is_one_line_and_what_was_written_can_be_recovered(simulated_video, tmp_path: Path):
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000));"
        "from casa.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "replay", str(simulated_video), "-o", "run.h5", "--loop", "1000"],
        capture_output=True, text=True, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    one_line(done, 1, "run.h5")
    recovered = casa("recover", "run.h5", cwd=tmp_path)
    assert recovered.returncode == 0, recovered.stderr
    with Recording(tmp_path / "run.h5") as recording:
        assert len(recording.frames()["frame"]) > 100

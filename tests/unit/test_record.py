"""Claims about recordings: complete or recoverable, never silently replaced, plain about what is wrong with them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
import pytest
import recordings
from recordings import SESSION, STEP_NS, SUMMARY, leave_unfinished, write_recording

from casa.config import RecordConfig
from casa.errors import CasaError, InputError
from casa.record import Recorder, Recording, recover
from casa.types import FrameAccount, FrameStatus

ROOT = Path(__file__).resolve().parents[2]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_complete_recording_stands_alone_and_holds_everything(tmp_path: Path):
    path = write_recording(tmp_path / "run.h5", n_frames=60)
    assert names(tmp_path) == {"run.h5"}
    with Recording(path) as recording:
        assert recording.status == "complete"
        assert recording.session == SESSION
        assert recording.account == FrameAccount(60, 60)
        assert recording.summary() == SUMMARY
        assert recording.latency == {"p50": 1.5, "p99": None}
        assert recording.recovered is None
        assert recording.calibration is not None
        assert recording.calibration.chamber_depth_um == 20.0
        assert recording.source.fps_hz == 50.0
        assert len(recording.detections()) == len(recording.tracks()) == 600
        assert recording.kinematics().track_id.tolist() == [9, 19, 29, 39, 49, 59]
        assert [(frame, t) for frame, t, _ in recording.pictures()] == [(0, 0), (50, 50 * STEP_NS)]
        assert np.array_equal(recording.pictures()[1][2], recordings.picture(50))
        assert len(recording.pictures(at_most=1)) == 1
        assert recording.n_pictures == 2


def test_rows_come_sorted_by_time_however_they_were_written(tmp_path: Path):
    recorder = Recorder(tmp_path / "run.h5")
    recorder.open(SESSION)
    for frame in (2, 0, 1):
        recorder.tracks(recordings.tracks(frame, 3))
        recorder.frame(frame, 0, frame * STEP_NS, FrameStatus.PROCESSED)
    recorder.finish("complete", FrameAccount(3, 3))
    with Recording(tmp_path / "run.h5") as recording:
        assert recording.frames()["frame"].tolist() == [0, 1, 2]
        tracks = recording.tracks()
        assert tracks.frame.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert tracks.track_id.tolist() == [1, 2, 3] * 3
        assert set(recording.tracks(slice(1, 2)).frame) == {1}
        assert set(recording.tracks(slice(1, None)).frame) == {1, 2}
        assert len(recording.tracks(slice(7, None))) == 0


def test_a_frame_in_which_nothing_was_found_is_not_one_that_failed(tmp_path: Path):
    recorder = Recorder(tmp_path / "run.h5")
    recorder.open(SESSION)
    recorder.detections(recordings.detections(0, 0))
    recorder.frame(0, 0, 0, FrameStatus.PROCESSED)
    recorder.frame(1, 0, STEP_NS, FrameStatus.FAILED, "the detector failed: µ" + "é" * 200)
    recorder.abort()
    with Recording(tmp_path / "run.h5") as recording:
        frames = recording.frames()
        assert len(recording.detections()) == 0
        assert recording.account == FrameAccount(captured=2, processed=1, failed=1)
        assert recording.summary() is None
    assert frames["status"].tolist() == ["processed", "failed"]
    assert frames["reason"][0] == ""
    assert re.fullmatch("the detector failed: µé+…", frames["reason"][1])


def test_detections_are_left_out_where_the_configuration_says_so(tmp_path: Path):
    recorder = Recorder(tmp_path / "run.h5", RecordConfig(detections=False))
    recorder.open(SESSION)
    recordings.record_frame(recorder, 1)
    recorder.finish("complete", FrameAccount(1, 1))
    with Recording(tmp_path / "run.h5") as recording:
        assert len(recording.detections()) == 0
        assert len(recording.tracks()) == 40


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError, "failed"), (KeyboardInterrupt, "interrupted"), (None, "interrupted")]
)
def test_however_a_session_breaks_off_the_recording_is_closed_valid_and_says_so(tmp_path: Path, error, status):
    def run() -> None:
        with Recorder(tmp_path / "run.h5") as recorder:
            recorder.open(SESSION)
            recordings.record_frame(recorder, 0)
            if error:
                raise error

    if error:
        with pytest.raises(error):
            run()
    else:
        run()
    assert names(tmp_path) == {"run.h5"}
    with Recording(tmp_path / "run.h5") as recording:
        assert recording.status == status
        assert recording.account == FrameAccount(1, 1)


def test_a_recording_that_exists_is_refused_and_with_force_stays_until_the_new_one_is_complete(tmp_path: Path):
    path = write_recording(tmp_path / "run.h5", n_frames=3)
    with pytest.raises(InputError, match="--force"):
        Recorder(path)
    recorder = Recorder(path, force=True)
    recorder.open(SESSION)
    with Recording(path) as old:
        assert old.account.captured == 3
    recorder.finish("complete", FrameAccount())
    with Recording(path) as new:
        assert new.account.captured == 0


def test_an_unfinished_recording_is_refused_and_the_way_out_is_named(tmp_path: Path):
    leave_unfinished(tmp_path / "run.h5")
    with pytest.raises(InputError, match=r"casa recover .*run\.h5"):
        Recorder(tmp_path / "run.h5")
    with pytest.raises(InputError, match=r"casa recover .*run\.h5"):
        Recording(tmp_path / "run.h5")
    with pytest.raises(InputError, match="casa recover"):
        Recording(tmp_path / "run.h5.journal")
    recorder = Recorder(tmp_path / "run.h5", force=True)
    recorder.open(SESSION)
    recorder.finish("complete", FrameAccount())
    assert names(tmp_path) == {"run.h5"}


def test_a_recording_under_way_is_neither_replaced_nor_recovered(tmp_path: Path):
    with Recorder(tmp_path / "run.h5") as recorder:
        recorder.open(SESSION)
        with pytest.raises(InputError, match="another process"):
            Recorder(tmp_path / "run.h5", force=True)
        with pytest.raises(InputError, match="still being written"):
            recover(tmp_path / "run.h5")


def test_a_folder_that_is_missing(tmp_path: Path):
    with pytest.raises(InputError, match="does not exist"):
        Recorder(tmp_path / "no" / "run.h5")


def test_writing_to_a_recorder_that_is_not_open(tmp_path: Path):
    recorder = Recorder(tmp_path / "run.h5")
    assert not recorder.is_open
    with pytest.raises(CasaError, match="not open"):
        recorder.frame(0, 0, 0, FrameStatus.PROCESSED)
    assert names(tmp_path) == set()


def spoil(path: Path, name: str) -> Path:
    """A file that is no good recording."""
    if name == "missing":
        pass
    elif name == "empty":
        path.touch()
    elif name == "folder":
        path.mkdir()
    elif name == "text":
        path.write_text("Dear laboratory, " * 500)
    elif name == "other HDF5":
        h5py.File(path, "w").close()
    elif name == "truncated":
        data = write_recording(path).read_bytes()
        path.write_bytes(data[: len(data) // 2])
    elif name == "newer":
        with h5py.File(write_recording(path), "r+") as file:
            file.attrs["format_version"] = 99
    elif name == "without a column":
        with h5py.File(write_recording(path), "r+") as file:
            del file["tracks/left_px"]
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "no such file"), ("empty", "empty"), ("folder", "folder"), ("text", "no HDF5"),
        ("other HDF5", "no recording"), ("truncated", "damaged"), ("newer", "update casa"),
        ("without a column", "damaged"),
    ],
)  # fmt: skip
def test_what_is_no_recording_is_named_in_one_line(tmp_path: Path, name: str, message: str):
    with pytest.raises(InputError, match=message) as caught:
        Recording(spoil(tmp_path / "run.h5", name))
    assert "run.h5" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_flipped_byte_in_a_table_is_an_error_and_never_a_wrong_number(tmp_path: Path):
    path = write_recording(tmp_path / "run.h5")
    with h5py.File(path) as file:
        chunk = file["tracks/x_measured_px"].id.get_chunk_info(0)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset + chunk.size // 2] ^= 1
    path.write_bytes(data)
    with Recording(path) as recording, pytest.raises(InputError, match="damaged"):
        recording.tracks()


def test_recover_counts_what_a_damaged_journal_lost(tmp_path: Path):
    journal = leave_unfinished(tmp_path / "run.h5", n_frames=20)
    data = bytearray(journal.read_bytes())
    data[len(data) // 2] ^= 1
    journal.write_bytes(data[:-3])
    found = recover(tmp_path / "run.h5")
    assert found.damage.lost_records == 1
    assert found.damage.corrupt_bytes > 0
    assert found.damage.torn_bytes > 0
    assert not found.finished
    with Recording(tmp_path / "run.h5") as recording:
        assert recording.status == "interrupted"
        assert recording.recovered is not None
        assert recording.recovered | asdict(found.damage) == recording.recovered
        assert recording.account.balanced
        last = recording.frames()
    assert last["status"][-1] == "failed"
    assert "broke off" in last["reason"][-1]


def test_recover_computes_again_what_the_session_never_came_to(tmp_path: Path):
    leave_unfinished(tmp_path / "run.h5")
    found = recover(tmp_path / "run.h5", analyse=lambda r: (recordings.kinematics([1, 2, 3]), SUMMARY))
    assert found.analysis == "recomputed"
    with Recording(tmp_path / "run.h5") as recording:
        assert recording.summary() == SUMMARY
        assert recording.kinematics().track_id.tolist() == [1, 2, 3]
        assert recording.recovered is not None
        assert recording.recovered["analysis"] == "recomputed"


def test_a_recording_is_worth_more_than_its_analysis(tmp_path: Path):
    leave_unfinished(tmp_path / "run.h5")

    def analyse(recording: Recording):
        raise ValueError("no scale")

    assert recover(tmp_path / "run.h5", analyse=analyse).analysis == "not computed: no scale"
    with Recording(tmp_path / "run.h5") as recording:
        assert recording.account.processed == 20


def test_recover_refuses_what_it_cannot_do(tmp_path: Path):
    with pytest.raises(InputError, match="no recording"):
        recover(tmp_path / "run.h5")
    path = write_recording(tmp_path / "run.h5", n_frames=2)
    with pytest.raises(InputError, match="complete"):
        recover(path)
    other = leave_unfinished(tmp_path / "other.h5")
    other.rename(tmp_path / "run.h5.journal")
    with pytest.raises(InputError, match="--force"):
        recover(path)
    assert (tmp_path / "run.h5.journal").exists()
    assert recover(path, force=True).account.processed == 20
    with pytest.raises(InputError, match="without its journal"):
        recover(tmp_path / "other.h5")
    (tmp_path / "text.h5.journal").write_text("Dear laboratory")
    with pytest.raises(InputError, match="no journal"):
        recover(tmp_path / "text.h5")


def test_a_stop_between_the_rename_and_the_removal_is_tidied_up(tmp_path: Path, monkeypatch):
    path = tmp_path / "run.h5"
    recorder = Recorder(path)
    recorder.open(SESSION)
    recordings.record_frame(recorder, 0)
    with monkeypatch.context() as patch:
        patch.setattr("casa.record.writer.sync_folder", lambda folder: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            recorder.finish("complete", FrameAccount(1, 1), SUMMARY, None)
    assert names(tmp_path) == {"run.h5", "run.h5.partial", "run.h5.journal"}
    before = path.read_bytes()
    assert recover(path).already_complete
    assert names(tmp_path) == {"run.h5"}
    assert path.read_bytes() == before


FULL_DISK = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import recordings
from casa.errors import CasaError
from casa.record import Recorder
if sys.argv[3] != "0":
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
with Recorder(Path(sys.argv[1])) as recorder:
    try:
        recorder.open(recordings.SESSION)
        for frame in range(100_000):
            recordings.record_frame(recorder, frame)
            print(frame, flush=True)
    except CasaError as error:
        print(error)
        assert not recorder.is_open
"""


def fill(path: Path, limit_bytes: int = 0) -> tuple[int, str]:
    """Record until the disk is full: how many frames went in, and the error."""
    support = str(ROOT / "tests" / "support")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path), support, str(limit_bytes)],
        capture_output=True, text=True, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    *frames, error = done.stdout.splitlines()
    return len(frames), error


def check_full(path: Path, roomy: Path, n_frames: int, error: str) -> None:
    assert n_frames > 50
    assert "full" in error
    assert "casa recover" in error
    assert names(path.parent) == {"run.h5.journal"}
    shutil.copy(path.with_name("run.h5.journal"), roomy)
    found = recover(roomy / path.name)
    assert found.account.processed >= n_frames
    with Recording(roomy / path.name) as recording:
        assert recording.account.balanced
        assert recording.status == "interrupted"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A folder to fill, and one with room."""
    for name in ("small", "roomy"):
        (tmp_path / name).mkdir()
    return tmp_path / "small", tmp_path / "roomy"


@pytest.mark.parametrize("limit_bytes", [600_000, 1_500_000, 2_500_000])
def test_a_file_that_may_not_grow_is_one_line_and_loses_nothing(folders: tuple[Path, Path], limit_bytes: int):
    small, roomy = folders
    check_full(small / "run.h5", roomy, *fill(small / "run.h5", limit_bytes))


def test_a_full_disk_is_one_line_and_loses_nothing(folders: tuple[Path, Path]):
    small, roomy = folders
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs more rights than this test has")
    try:
        check_full(small / "run.h5", roomy, *fill(small / "run.h5"))
        (small / "ballast").write_bytes(bytes(shutil.disk_usage(small).free))
        with pytest.raises(CasaError, match=r"full.*journal is kept"):
            recover(small / "run.h5")
        assert names(small) == {"run.h5.journal", "ballast"}
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_disk_too_full_to_begin_with_is_one_line(tmp_path: Path):
    n_frames, error = fill(tmp_path / "run.h5", 50)
    assert n_frames == 0
    assert "full" in error
    assert names(tmp_path) == set()


def test_the_code_in_the_format_description_runs(tmp_path: Path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "recording.md").read_text(encoding="utf-8"), re.S)
    assert len(blocks) >= 3
    leave_unfinished(tmp_path / "run.h5")
    (tmp_path / "run.h5.journal").unlink()
    (tmp_path / "run.h5.partial").rename(tmp_path / "kept")
    write_recording(tmp_path / "run.h5")
    (tmp_path / "kept").rename(tmp_path / "run.h5.partial")
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, "docs/recording.md", "exec"), {})


def test_the_format_description_names_every_column_and_attribute(tmp_path: Path):
    text = (ROOT / "docs" / "recording.md").read_text(encoding="utf-8")
    leave_unfinished(tmp_path / "run.h5")
    recover(tmp_path / "run.h5")
    with h5py.File(tmp_path / "run.h5") as file:
        for group in ("frames", "detections", "tracks", "kinematics", "pictures"):
            assert f"`/{group}`" in text
            for column in file[group]:
                assert f"`{column}`" in text or f"`/{group}/{column}`" in text, f"{group}/{column}"
        for attribute in file.attrs:
            assert f"`{attribute}`" in text, attribute

"""Claims about recordings and other processes: readable while written, and nothing recorded is lost by a kill."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import recordings

from casa.errors import InputError
from casa.record import Recorder, Recording, recover


class Writer:
    """A process that writes ``path`` and tells how far it has come."""

    def __init__(self, pid: int, path: Path) -> None:
        self.pid = pid
        self.path = path
        self._log = path.with_name(path.name + ".log")

    def told(self) -> list[str]:
        """The whole lines it has written by now."""
        text = self._log.read_text() if self._log.exists() else ""
        return text[: text.rfind("\n") + 1].split()

    def wait_for(self, line: str) -> None:
        deadline = time.monotonic() + 30
        while line not in self.told():
            assert time.monotonic() < deadline, f"the writer never said {line!r}"
            time.sleep(0.002)

    def kill(self) -> None:
        """End it as the system would, and wait until it is gone."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
            while True:
                os.kill(self.pid, 0)
                time.sleep(0.001)


@pytest.fixture(scope="module")
def nursery() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, recordings.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def start(nursery: subprocess.Popen[str]) -> Iterator[Callable[..., Writer]]:
    """Starts writers; those that still live at the end of the test are killed."""
    writers = []

    def start_one(path: Path, n_frames: int, pause_s: float, *more: str) -> Writer:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        nursery.stdin.write("\t".join([str(path), str(n_frames), str(pause_s), *more]) + "\n")
        nursery.stdin.flush()
        writers.append(Writer(int(nursery.stdout.readline()), path))
        return writers[-1]

    yield start_one
    for writer in writers:
        writer.kill()


def check_recovered(path: Path, n_told: int) -> None:
    """All the frames that the writer told of are back, whole and right, and the account balances."""
    found = recover(path)
    assert not path.with_name(path.name + ".journal").exists()
    assert not path.with_name(path.name + ".partial").exists()
    with Recording(path) as recording:
        frames, tracks = recording.frames(), recording.tracks()
        account = recording.account
        assert recording.status == found.status == "interrupted"
        assert recording.recovered is not None
    n = account.processed
    assert n >= n_told
    assert account.balanced
    assert account.captured == len(frames["frame"])
    assert np.array_equal(frames["frame"][frames["status"] == "processed"], np.arange(n))
    assert np.array_equal(np.unique(tracks.frame)[:n], np.arange(n))
    last = tracks.select(tracks.frame == n - 1)
    if n:
        expected = recordings.tracks(n - 1)
        assert np.array_equal(last.track_id, expected.track_id)
        assert np.array_equal(last.x_measured_px, expected.measured_xy_px[:, 0], equal_nan=True)


@pytest.mark.parametrize("seed", [1, 2])
def test_sigkill_at_any_moment_loses_nothing_that_was_recorded(start, tmp_path: Path, seed: int):
    moments = sorted(random.Random(seed).uniform(0, 1.5) for _ in range(5))
    writers = [start(tmp_path / f"run{number}.h5", 100_000, 0.002) for number in range(len(moments))]
    for writer in writers:
        writer.wait_for("0")
    started = time.monotonic()
    for writer, moment_s in zip(writers, moments, strict=True):
        time.sleep(max(0.0, started + moment_s - time.monotonic()))
        writer.kill()
    for writer in writers:
        check_recovered(writer.path, int(writer.told()[-1]) + 1)


@pytest.mark.parametrize("after_s", [0.0, 0.002, 0.005, 0.01])
def test_sigkill_while_the_files_are_made_leaves_nothing_or_something_to_recover(start, tmp_path: Path, after_s):
    path = tmp_path / "run.h5"
    writer = start(path, 100_000, 0.001)
    writer.wait_for("starting")
    time.sleep(after_s)
    writer.kill()
    journal = path.with_name(path.name + ".journal")
    if not journal.exists():
        assert not path.exists()
    elif journal.stat().st_size < 100:  # killed before it said what session it is of
        with pytest.raises(InputError, match="nothing that could be recovered"):
            recover(path)
        assert "open" not in writer.told()
    else:
        check_recovered(path, sum(line.isdigit() for line in writer.told()))


@pytest.mark.parametrize("after_s", [0.0, 0.05, 0.2])
def test_sigkill_while_the_recording_is_completed_leaves_a_complete_one(start, tmp_path: Path, after_s: float):
    path = tmp_path / "run.h5"
    writer = start(path, 1000, 0, "finish")
    writer.wait_for("finishing")
    time.sleep(after_s)
    writer.kill()
    if path.with_name(path.name + ".journal").exists():
        found = recover(path)
        assert found.account.processed == 1000
        assert found.status in ("complete", "interrupted")
        assert found.finished == (found.status == "complete")
    with Recording(path) as recording:
        assert recording.account.processed == len(recording.frames()["frame"]) == 1000
        assert len(recording.tracks()) == 1000 * 40


def test_a_reader_in_another_process_sees_whole_frames_while_they_are_written(start, tmp_path: Path):
    path = tmp_path / "run.h5"
    start(path, 100_000, 0.001).wait_for("open")
    seen = []
    with Recording(tmp_path / "run.h5.partial") as recording:
        assert recording.status == "recording"
        assert recording.session == recordings.SESSION
        assert recording.summary() is None
        deadline = time.monotonic() + 20
        while len(seen) < 3 and time.monotonic() < deadline:
            account, tracks = recording.account, recording.tracks()
            if account.captured and account.captured not in seen:
                seen.append(account.captured)
                numbers, counts = np.unique(tracks.frame, return_counts=True)
                assert numbers[-1] >= account.captured - 1
                assert np.array_equal(numbers, np.arange(len(numbers)))
                assert (counts == 40).all()
                assert (tracks.w_px > 0).all()
                newest, expected = tracks.select(tracks.frame == numbers[-1]), recordings.tracks(int(numbers[-1]))
                assert np.array_equal(newest.x_measured_px, expected.measured_xy_px[:, 0], equal_nan=True)
            time.sleep(0.05)
    assert len(seen) == 3, "the reader saw no growth"
    with pytest.raises(InputError, match="casa recover"):
        Recording(path)
    with pytest.raises(InputError, match="being written"):
        recover(path)
    with pytest.raises(InputError, match="being written"):
        Recorder(path, force=True)


def test_a_partial_whose_writer_was_killed_can_still_be_read(start, tmp_path: Path):
    writer = start(tmp_path / "run.h5", 100_000, 0.001)
    writer.wait_for("open")
    with Recording(tmp_path / "run.h5.partial") as recording:
        while recording.account.captured == 0:
            time.sleep(0.05)
    writer.kill()
    with Recording(tmp_path / "run.h5.partial") as recording:
        assert recording.status == "recording"
        assert recording.account.captured > 0

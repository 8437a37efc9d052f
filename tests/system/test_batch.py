"""Claims about `casa batch` and `casa compare` as a user meets them, with processes of this machine."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batches import children_of, marks_in, rows_in, tables_in, write_archive
from running import casa, start_casa

from casa.record import Recording


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """Three short simulated recordings, one of them in a folder below."""
    return write_archive(tmp_path_factory.mktemp("archive"), 3, 40)


@pytest.fixture(scope="module")
def finished(archive: Path, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """The archive's results and what the batch said."""
    output = tmp_path_factory.mktemp("batch") / "out"
    done = casa("batch", archive, "-o", output, "--calibration", "simulator", "--json", cwd=archive)
    assert done.returncode == 0, done.stderr
    return output, json.loads(done.stdout)


def one_line(done: Any, code: int, *words: str) -> str:
    assert done.returncode == code, (done.stdout, done.stderr)
    lines = [line for line in done.stderr.splitlines() if line.strip() and "warning" not in line]
    assert len(lines) == 1, done.stderr
    assert all(word in lines[0] for word in words), lines[0]
    return lines[0]


def test_a_folder_becomes_recordings_and_one_data_set(archive: Path, finished):
    output, said = finished
    assert (said["recordings"], said["analysed"], said["failed"], said["frames"]) == (3, 3, [], 120)
    recordings, kinematics = rows_in(output, "recordings"), rows_in(output, "kinematics")
    assert sorted(row["recording"] for row in recordings) == ["field0", "field1", "field2"]
    for row in recordings:
        with Recording(output / "recordings" / f"{row['recording']}.h5") as recording:
            assert recording.status == "complete"
            assert recording.session["source"]["uri"] == row["path"]
            assert (row["frames_processed"], row["frames_failed"]) == (40, 0)
            measured = recording.kinematics().vcl_um_s
        own = [track["vcl_um_s"] for track in kinematics if track["recording"] == row["recording"]]
        assert row["n_tracks"] == len(own) > 5
        np.testing.assert_array_equal(np.array(own, float), measured)
    assert not list(output.rglob("*.tmp"))
    assert not (output / "failed.csv").exists()


def test_the_examples_of_the_documentation_read_the_data_set(finished, tmp_path: Path, monkeypatch):
    pytest.importorskip("duckdb", reason="duckdb is not installed")
    text = (Path(__file__).resolve().parents[2] / "docs" / "batch.md").read_text(encoding="utf-8")
    blocks = {block.split()[1]: block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)}
    assert sorted(blocks) == ["duckdb", "pandas"]
    (tmp_path / "results").symlink_to(finished[0])
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(blocks["duckdb"], found)
    tracks = {row["recording"]: row["n_tracks"] for row in rows_in(finished[0], "recordings")}
    assert {name: n for name, _, n, _ in found["fast"]} == tracks
    pytest.importorskip("pandas", reason="pandas is not installed")
    exec(blocks["pandas"], found)
    assert len(found["kinematics"]) == sum(tracks.values())


def test_what_is_finished_is_not_done_again_and_what_lost_its_results_is(archive: Path, finished, tmp_path: Path):
    output = shutil.copytree(finished[0], tmp_path / "out")
    before, marks = tables_in(output), marks_in(output)
    (output / "dataset" / "tracks" / "field1.parquet").unlink()
    (output / "dataset" / "tracks" / "orphan.parquet").write_bytes(b"what a crash left")
    done = casa("batch", archive, "-o", output, "--calibration", "simulator", "--workers", "1", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["analysed"], said["finished_before"]) == (1, 2)
    assert "missing" in done.stderr
    assert tables_in(output) == before  # by another number of threads, too
    changed = [name for name, data in marks_in(output).items() if data != marks[name]]
    assert changed == ["field1.json"]


def test_other_settings_are_not_mixed_in(archive: Path, finished, tmp_path: Path):
    output = finished[0]
    before = tables_in(output)
    done = casa("batch", archive, "-o", output, "--max-frames", "20", cwd=tmp_path)
    one_line(done, 2, "other settings", "and 2 more", "--force")
    assert tables_in(output) == before


def test_what_fails_stops_nothing_and_is_listed(archive: Path, tmp_path: Path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    shutil.copy(archive / "field0.mp4", folder)
    (folder / "letter.mp4").write_text("Dear laboratory, " * 500)
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,fps,sample\nmixed/letter.mp4,,A\nmixed/field0.mp4,25,B\n")
    done = casa("batch", "m.csv", "-o", "out", "--json", cwd=tmp_path)
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert [(f["recording"], f["attempts"]) for f in said["failed"]] == [("letter", 1)]  # again cannot help
    assert "letter" in done.stderr
    assert said["analysed"] == 1
    assert "letter" in (tmp_path / "out" / "failed.csv").read_text()
    (row,) = rows_in(tmp_path / "out", "recordings")
    assert (row["recording"], row["fps_hz"], row["sample"]) == ("field0", 25.0, "B")


def test_what_is_wrong_with_the_call_is_one_line(archive: Path, tmp_path: Path):
    one_line(casa("batch", "gone", "-o", "out", cwd=tmp_path), 2, "gone", "no such file")
    one_line(casa("batch", archive, archive, "-o", "out", cwd=tmp_path), 2, "given twice", "--skip-duplicates")
    (tmp_path / "file").touch()
    one_line(casa("batch", archive, "-o", "file", cwd=tmp_path), 2, "is a file")


def test_remote_recordings_are_fetched_and_results_go_to_remote_places(archive: Path, finished, tmp_path: Path):
    handler = functools.partial(_Quiet, directory=str(archive))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}/field0.mp4"
        output = f"local://{tmp_path}/out"
        done = casa("batch", address, "-o", output, "--calibration", "simulator", "--json", cwd=tmp_path)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert done.returncode == 0, done.stderr
    with Recording(tmp_path / "out" / "recordings" / "field0.h5") as recording:
        assert recording.session["source"]["uri"] == address
    ours = tables_in(tmp_path / "out")["kinematics/field0.parquet"]
    assert ours == tables_in(finished[0])["kinematics/field0.parquet"]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def test_workers_and_the_batch_itself_may_be_killed(archive: Path, finished, tmp_path: Path):
    arguments = ("batch", archive, "-o", "out", "--calibration", "simulator", "--workers", "1", "--json")
    process = start_casa(*arguments, cwd=tmp_path)
    output = tmp_path / "out"
    try:
        killed = 0
        while len(marks_in(output)) < 2:  # a worker is killed once, with its first recording under way
            assert process.poll() is None, process.communicate()
            if not killed and (workers := children_of(process.pid)) and (output / "_casa").is_dir():
                time.sleep(1.0)
                killed = workers[0]
                os.kill(killed, signal.SIGKILL)
            time.sleep(0.02)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in children_of(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        process.kill()
        process.communicate()
    assert killed
    marks = marks_in(output)
    done = casa(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["finished_before"] == len(marks) >= 2
    assert {name: marks_in(output)[name] for name in marks} == marks
    assert tables_in(output) == tables_in(finished[0])


def test_two_runs_are_compared_figure_by_figure(archive: Path, finished, tmp_path: Path):
    again = casa("compare", finished[0], finished[0], cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "no figure changed" in again.stdout
    done = casa("batch", archive, "-o", "short", "--calibration", "simulator", "--max-frames", "20", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = casa("compare", finished[0], "short", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["pairs"] == 3
    assert list(found["settings"]) == ["config.source.max_frames"]
    assert found["figures"]["graded_time_s"]["difference"] < 0
    alone = casa("compare", finished[0] / "recordings" / "field0.h5", "short", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    assert "1 recordings in both, 2 only in short" in alone.stdout
    one_line(casa("compare", finished[0], "nothing", cwd=tmp_path), 2, "nothing", "no such")

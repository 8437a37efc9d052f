"""Claims about `casa batch` and `casa compare` as a user meets them, with processes of this machine.

The commands run in this process, so that one worker, which takes seconds to start, does the work of all tests; the one
about kills runs them as processes of their own.
"""

from __future__ import annotations

import functools
import http.server
import itertools
import json
import os
import re
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batches import children_of, marks_in, rows_in, tables_in, write_archive
from running import start_casa

from casa.batch.local import LocalPool
from casa.interchange.dictionary import describe
from casa.record import Recording


class Kept(LocalPool):
    """A pool of one worker, which is there from the first and outlives the commands it is given to."""

    def __init__(self) -> None:
        super().__init__(1)
        self._spawn()

    def close(self) -> None:
        pass

    def end(self) -> None:
        super().close()


@pytest.fixture(scope="module")
def pool():
    pool = Kept()
    yield pool
    pool.end()


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """Three short simulated recordings, one of them in a folder below."""
    return write_archive(tmp_path_factory.mktemp("archive"), 3, 30)


class Casa:
    """The command line, in this process; ``code``, ``out`` and ``err`` are of the last call."""

    def __init__(self, pool: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("casa.cli.batch._pool", lambda *_: pool)
        self._set = monkeypatch.setattr

    def __call__(self, capsys: Any, *arguments: Any) -> Casa:
        from casa.cli.main import main

        self._set(sys, "argv", ["casa", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        self.code = ended.value.code
        self.out, self.err = capsys.readouterr() if capsys is not None else ("", "")
        return self

    def one_line(self, code: int, *words: str) -> None:
        lines = [line for line in self.err.splitlines() if line.strip()]
        assert (self.code, len(lines), self.out) == (code, 1, ""), (self.code, self.err, self.out)
        assert all(word in lines[0] for word in words), lines[0]


@pytest.fixture
def casa(pool, monkeypatch, tmp_path) -> Casa:
    monkeypatch.chdir(tmp_path)
    return Casa(pool, monkeypatch)


@pytest.fixture(scope="module")
def finished(archive: Path, pool, tmp_path_factory) -> Path:
    """The archive's results."""
    output = tmp_path_factory.mktemp("batch") / "out"
    with pytest.MonkeyPatch.context() as monkeypatch:
        done = Casa(pool, monkeypatch)(None, "batch", archive, "-o", output, "--calibration", "simulator")
    assert done.code == 0
    return output


def test_a_folder_becomes_recordings_and_one_data_set(archive: Path, finished: Path):
    recordings, kinematics = rows_in(finished, "recordings"), rows_in(finished, "kinematics")
    assert sorted(row["recording"] for row in recordings) == ["field0", "field1", "field2"]
    for row in recordings:
        with Recording(finished / "recordings" / f"{row['recording']}.h5") as recording:
            assert recording.status == "complete"
            assert recording.session["source"]["uri"] == row["path"]
            assert (row["frames_processed"], row["frames_failed"]) == (30, 0)
            measured = recording.kinematics().vcl_um_s
        own = [track["vcl_um_s"] for track in kinematics if track["recording"] == row["recording"]]
        assert row["n_tracks"] == len(own) > 5
        np.testing.assert_array_equal(np.array(own, float), measured)
    assert not list(finished.rglob("*.tmp"))
    assert not (finished / "failed.csv").exists()


def test_the_examples_of_the_documentation_read_the_data_set(finished: Path, tmp_path: Path, monkeypatch):
    pytest.importorskip("duckdb", reason="duckdb is not installed")
    text = (Path(__file__).resolve().parents[2] / "docs" / "batch.md").read_text(encoding="utf-8")
    blocks = {block.split()[1]: block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)}
    assert sorted(blocks) == ["duckdb", "pandas"]
    (tmp_path / "results").symlink_to(finished)
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(blocks["duckdb"], found)
    tracks = {row["recording"]: row["n_tracks"] for row in rows_in(finished, "recordings")}
    assert {name: n for name, _, n, _ in found["fast"]} == tracks
    pytest.importorskip("pandas", reason="pandas is not installed")
    exec(blocks["pandas"], found)
    assert len(found["kinematics"]) == sum(tracks.values())


def test_what_is_finished_is_not_done_again_and_what_lost_its_results_is(
    archive, finished, casa, capsys, tmp_path: Path
):
    output = shutil.copytree(finished, tmp_path / "out")
    before, marks = tables_in(output), marks_in(output)
    (output / "dataset" / "tracks" / "field1.parquet").unlink()
    (output / "dataset" / "tracks" / "orphan.parquet").write_bytes(b"what a crash left")
    again = ("batch", archive, "-o", output, "--calibration", "simulator", "--report", "--json")
    casa(capsys, *again)
    assert casa.code == 0, casa.err
    said = json.loads(casa.out)
    assert (said["analysed"], said["finished_before"]) == (1, 2)
    assert "missing" in casa.err
    assert "2 finished recordings have no report (field2" in casa.err
    assert tables_in(output) == before
    assert [name for name, data in marks_in(output).items() if data != marks[name]] == ["field1.json"]
    for name in ("field1", "field2"):  # as casa report makes one, or makes one anew with corrections
        (output / "recordings" / f"{name}.html").write_text("another report")
    casa(capsys, *again)
    assert json.loads(casa.out)["analysed"] == 0
    assert "1 finished recordings have no report (field0" in casa.err
    assert (output / "recordings" / "field1.html").read_text() == "another report"


def test_other_settings_are_not_mixed_in(archive: Path, finished: Path, casa, capsys):
    before = tables_in(finished)
    casa(capsys, "batch", archive, "-o", finished, "--max-frames", "20")
    casa.one_line(2, "other settings", "and 2 more", "--force")
    assert tables_in(finished) == before


def _manifest(path: Path, *lines: str) -> Path:
    path.write_text("\n".join((*lines, "")))
    return path


def test_what_has_moved_is_not_analysed_again_and_what_has_changed_is_told(archive, casa, capsys, tmp_path: Path):
    import av
    import cv2

    old, new, output = tmp_path / "old", tmp_path / "new", tmp_path / "out"
    (old / "pictures").mkdir(parents=True)
    shutil.copy(archive / "field0.mp4", old)
    with av.open(archive / "field1.mp4") as video:
        for frame in itertools.islice(video.decode(video=0), 12):
            cv2.imwrite(str(old / "pictures" / f"{frame.pts:06d}.png"), frame.to_ndarray(format="gray"))
    manifest = _manifest(old / "m.csv", "path,fps,sample", "field0.mp4,,A", "pictures,50,A")
    casa(capsys, "batch", manifest, "-o", output, "--json")
    assert casa.code == 0, casa.err
    tables, marks = tables_in(output), marks_in(output)
    assert all(row["sha256"] for row in rows_in(output, "recordings"))

    shutil.copytree(old, new)
    casa(capsys, "batch", new / "m.csv", "-o", output).one_line(2, "new/field0.mp4: is a copy of", "--skip-duplicates")
    casa(capsys, "batch", new / "m.csv", "-o", output, "--skip-duplicates", "--json")
    assert [json.loads(casa.out)[name] for name in ("recordings", "of_earlier_batches")] == [0, 2]
    assert (marks_in(output), casa.err.count("left out")) == (marks, 2)
    shutil.rmtree(old)
    shutil.copytree(archive, old)  # other recordings by the same names, as cameras give them
    shutil.copy(old / "field1.mp4", old / "field0.mp4")
    for told in (1, 0):  # the second time they lie where they did
        casa(capsys, "batch", new / "m.csv", "-o", output, "--json")
        said = json.loads(casa.out)
        assert (casa.code, said["finished_before"], said["analysed"], said["of_earlier_batches"]) == (0, 2, 0, 0)
        lines = casa.err.splitlines()
        assert ["have moved" in line and "and 1 more" in line for line in lines] == [True] * told, casa.err
    assert tables_in(output) == tables
    places = {json.loads(mark)["uri"] for mark in marks_in(output).values()}
    assert places == {str(new / "field0.mp4"), str(new / "pictures")}

    picture = min((new / "pictures").iterdir())
    picture.write_bytes(picture.read_bytes() + b"and more")
    casa(capsys, "batch", new / "m.csv", "-o", output).one_line(2, "pictures has changed", "--force")

    header = "path,fps,sample,recording"
    named = _manifest(new / "m.csv", header, "field0.mp4,,A,field0", "pictures,50,A,p")
    casa(capsys, "batch", named, "-o", output).one_line(2, "pictures is called p in the manifest now", "--force")
    _manifest(named, header, "field0.mp4,,A,q", "pictures,50,A,field0")
    casa(capsys, "batch", named, "-o", output, "--force", "--max-frames", "3", "--json")
    assert (casa.code, sorted(marks_in(output))) == (0, ["field0.json", "q.json"]), casa.err
    assert {Path(row["path"]).name: row["recording"] for row in rows_in(output, "recordings")} == {
        "field0.mp4": "q", "pictures": "field0"
    }  # fmt: skip


def test_what_fails_stops_nothing_and_is_listed(archive: Path, casa, capsys, tmp_path: Path):
    (tmp_path / "mixed").mkdir()
    shutil.copy(archive / "field0.mp4", tmp_path / "mixed")
    (tmp_path / "mixed" / "letter.mp4").write_text("Dear laboratory, " * 500)
    (tmp_path / "m.csv").write_text("path,fps,sample\nmixed/letter.mp4,,A\nmixed/field0.mp4,25,B\n")
    casa(capsys, "batch", "m.csv", "-o", "out", "--json")
    assert casa.code == 1
    said = json.loads(casa.out)
    assert [(f["recording"], f["attempts"]) for f in said["failed"]] == [("letter", 1)]  # again cannot help
    assert said["analysed"] == 1
    assert "letter" in casa.err
    assert "letter" in (tmp_path / "out" / "failed.csv").read_text()
    (row,) = rows_in(tmp_path / "out", "recordings")
    assert (row["recording"], row["fps_hz"], row["sample"]) == ("field0", 25.0, "B")


def test_heads_are_examined_into_a_table_of_their_own(casa, capsys, tmp_path: Path):
    source, more = "simulator:magnified:3", ("--morphology", "--max-frames", "45", "--json")
    casa(capsys, "batch", source, "-o", "out", *more)
    assert casa.code == 0, casa.err
    (row,), heads = rows_in(tmp_path / "out", "recordings"), rows_in(tmp_path / "out", "morphology")
    seen = {head["track_id"] for head in heads if head["n_crops"]}
    assert row["n_heads"] == len(seen) > 1
    assert 0 <= row["normal_heads_percent"] <= 100
    assert next(iter(heads[0])) == "recording"
    assert all(describe("morphology", name) for name in heads[0] if name != "recording")
    (settings,) = (tmp_path / "out" / "dataset" / "settings").glob("*.json")
    network = json.loads(settings.read_text())["networks"]["morphology"]
    assert network["name"] == "morphology"
    assert len(network["sha256"]) == 64
    casa(capsys, "batch", source, "-o", "out", "--max-frames", "45").one_line(2, "config.morphology.enabled: True then")
    casa(capsys, "batch", source, "-o", "out", *more, "--morphology-weights", "morphology-mhsma")
    casa.one_line(2, "config.morphology.weights: morphology then, morphology-mhsma now")
    casa(capsys, "batch", source, "-o", "out", "--morphology-weights", "morphology").one_line(2, "without --morphology")


def test_what_is_wrong_with_the_call_is_one_line(archive: Path, casa, capsys, tmp_path: Path):
    casa(capsys, "batch", "gone", "-o", "out").one_line(2, "gone", "no such file")
    casa(capsys, "batch", archive, archive, "-o", "out").one_line(2, "given twice", "--skip-duplicates")
    (tmp_path / "file").touch()
    casa(capsys, "batch", archive, "-o", "file").one_line(2, "is a file")
    casa(capsys, "batch", archive, "-o", "memory://out").one_line(2, "memory://")


def test_remote_recordings_are_fetched_and_results_go_to_remote_places(archive, finished, casa, capsys, tmp_path: Path):
    handler = functools.partial(_Quiet, directory=str(archive))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}/field0.mp4"
        casa(capsys, "batch", address, "-o", f"local://{tmp_path}/out", "--calibration", "simulator", "--json")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert casa.code == 0, casa.err
    with Recording(tmp_path / "out" / "recordings" / "field0.h5") as recording:
        assert recording.session["source"]["uri"] == address
    ours = tables_in(tmp_path / "out")["kinematics/field0.parquet"]
    assert ours == tables_in(finished)["kinematics/field0.parquet"]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def test_a_worker_and_the_batch_itself_may_be_killed(archive: Path, finished, casa, capsys, tmp_path: Path):
    arguments = ("batch", archive, "-o", "out", "--calibration", "simulator", "--json")
    process = start_casa(*arguments, "--workers", "2", cwd=tmp_path)
    output, killed = tmp_path / "out", 0
    try:
        while not marks_in(output):
            assert process.poll() is None, process.communicate()
            if not killed and len(workers := children_of(process.pid)) == 2:
                killed = workers[0]
                os.kill(killed, signal.SIGKILL)  # its recording is given to another
        process.kill()
    finally:
        process.kill()
        process.communicate()
    assert killed
    marks = marks_in(output)
    casa(capsys, *arguments)  # with another number of workers and threads
    assert casa.code == 0, casa.err
    assert json.loads(casa.out)["finished_before"] >= 1
    assert {name: marks_in(output)[name] for name in marks} == marks
    assert tables_in(output) == tables_in(finished)


def test_two_runs_are_compared_figure_by_figure(archive: Path, finished: Path, casa, capsys, tmp_path: Path):
    casa(capsys, "compare", finished, finished)
    assert casa.code == 0, casa.err
    assert "no figure changed" in casa.out
    casa(capsys, "batch", archive, "-o", "short", "--calibration", "simulator", "--max-frames", "20")
    assert casa.code == 0, casa.err
    casa(capsys, "compare", finished, "short", "--json")
    found = json.loads(casa.out)
    assert found["pairs"] == 3
    assert found["settings"] == {"config.source.max_frames": {"first": [None], "second": [20]}}
    assert found["figures"]["n_tracks"]["pairs"] == 3
    assert any(figure["pairs_changed"] for figure in found["figures"].values())
    casa(capsys, "compare", finished / "recordings" / "field0.h5", "short")
    assert casa.code == 0, casa.err
    assert "1 recording in both, 2 only in short" in casa.out
    runs = [path / "recordings" / f"field{k}.h5" for k, path in enumerate((finished, tmp_path / "short"))]
    casa(capsys, "compare", *runs)
    assert (casa.code, casa.err) == (0, "")
    assert "field0 with field1, the only recordings of each: their videos are not the same" in casa.out
    casa(capsys, "compare", finished, "nothing").one_line(2, "nothing", "no such")

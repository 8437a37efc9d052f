"""``casa clips`` as a user calls it: on a video with tracks, on a recording, on a folder, and on what is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from casa.cli.main import app
from casa.clips import read_clips
from casa.errors import InputError
from casa.simulate.layout import write_visem_layout
from casa.simulate.scene import simulate


def casa(*arguments: str | Path) -> dict:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_visem_layout(simulate("sparse", 4, n_frames=60), tmp_path_factory.mktemp("sim"), "sim")


def test_clips_of_a_video_with_tracks_and_of_one_whose_tracks_are_found(tmp_path: Path, recording: Path):
    video, truth = recording / "sim.mp4", recording / "truth.csv.gz"
    given = casa("clips", video, "--tracks", truth, "-o", tmp_path / "given")
    found = casa("clips", video, "-o", tmp_path / "found", "--no-sheet")
    assert given["clips"] >= 5
    assert found["clips"] >= 5
    assert found["sheets"] == []
    assert Path(given["sheets"][0]).is_file()
    clips = read_clips(tmp_path / "given")
    assert len(clips) == given["clips"]
    assert len({clip.track_id for clip in clips}) == given["tracks"]


def test_clips_of_a_recording_are_of_its_tracks(tmp_path: Path, recording: Path):
    run = tmp_path / "run.h5"
    casa("replay", recording / "sim.mp4", "-o", run, "--no-report")
    of_run = casa("clips", run, "-o", tmp_path / "of_run", "--no-sheet")
    of_video = casa("clips", recording / "sim.mp4", "-o", tmp_path / "of_video", "--no-sheet")
    assert of_run["clips"] == pytest.approx(of_video["clips"], abs=2)  # a lost track's end is known earlier


def test_a_folder_of_clips_is_checked_and_drawn(tmp_path: Path, recording: Path):
    casa("clips", recording / "sim.mp4", "--tracks", recording / "truth.csv.gz", "-o", tmp_path / "c", "--no-sheet")
    checked = casa("clips", tmp_path / "c")
    assert Path(checked["sheets"][0]).parent == tmp_path / "c"
    (tmp_path / "c" / "000001.png").unlink()
    with pytest.raises(InputError, match=r"clip 1 is in clips\.csv, but 000001\.png"):
        casa("clips", tmp_path / "c")


def test_what_cannot_be_cut_is_said(tmp_path: Path, recording: Path):
    with pytest.raises(InputError, match="is no folder of clips; to cut clips from it, give the folder to write"):
        casa("clips", recording / "sim.mp4")
    casa("clips", recording / "sim.mp4", "--tracks", recording / "truth.csv.gz", "-o", tmp_path / "c", "--no-sheet")
    with pytest.raises(InputError, match="has clips already"):
        casa("clips", recording / "sim.mp4", "--tracks", recording / "truth.csv.gz", "-o", tmp_path / "c")
    with pytest.raises(InputError, match="every"):
        casa("clips", recording / "sim.mp4", "-o", tmp_path / "d", "--every", "-1")

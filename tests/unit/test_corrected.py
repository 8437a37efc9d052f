"""Claims about corrections made in the viewer: they reach report and export, are told, and can be left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import recordings

from casa.cli.main import app
from casa.engine.corrected import CorrectedRecording, open_with
from casa.errors import InputError
from casa.record import Recording
from casa.viewer.corrections import CorrectionLog, corrections_path


@pytest.fixture
def corrected(tmp_path: Path) -> Path:
    path = recordings.write_recording(tmp_path / "run.h5", 40, 6)
    with Recording(path) as recording:
        log = CorrectionLog(corrections_path(path), recording.recording_id, "tester")
    log.add("delete", {"track": 2}, {"tracks": {}}, {"tracks": {}})
    log.add("debris", {"track": 5}, {"tracks": {}}, {"tracks": {}})
    log.add("mark", {"frame": 3, "field": 0, "t_s": 0.06, "note": "here"})
    return path


def test_tracks_and_figures_are_those_after_the_corrections(corrected: Path):
    with Recording(corrected) as plain, CorrectedRecording(corrected) as recording:
        before, after = plain.tracks(), recording.tracks()
        keep = ~np.isin(before.track_id, [2, 5])
        assert np.array_equal(after.track_id, before.track_id[keep])
        assert np.array_equal(after.t_ns, before.t_ns[keep])
        some = recording.tracks(slice(10, 20))
        assert set(some.frame.tolist()) == set(range(10, 20))
        assert set(recording.kinematics().track_id.tolist()) == {1, 3, 4, 6}
        summary = recording.summary()
        assert summary is not None
        assert summary.n_tracks == 4
        assert recording.session["corrections"] == {"changes": {"delete": 1, "debris": 1}, "audit_lines": 3}


def test_report_and_export_take_them_by_default_and_say_so(corrected: Path, tmp_path: Path, capsys):
    for flag, tracks, ids in ((), "corrected", {1, 3, 4, 6}), (("--no-corrected",), "online", set(range(1, 7))):
        folder = tmp_path / tracks
        app(["export", str(corrected), "-o", str(folder), "--json", *flag], standalone_mode=False)
        assert json.loads(capsys.readouterr().out)["tracks"] == tracks
        rows = (folder / "tracks.csv").read_text().splitlines()[1:]
        assert {int(row.split(",")[1]) for row in rows} == ids
        page = tmp_path / f"{tracks}.html"
        app(["report", str(corrected), "-o", str(page), "--json", *flag], standalone_mode=False)
        assert json.loads(capsys.readouterr().out)["tracks"] == tracks
        said = "corrected by hand: 1 × debris, 1 × delete (audit of 3 lines)" in page.read_text(encoding="utf-8")
        assert said == (tracks == "corrected")


def test_wrong_calls_and_damaged_corrections_are_one_line(corrected: Path, tmp_path: Path):
    with pytest.raises(InputError, match="leave one out"):
        open_with(True, True)
    plain = recordings.write_recording(tmp_path / "plain.h5", 5)
    with pytest.raises(InputError, match="there are no corrections"):
        open_with(False, True)(plain)
    with open_with(False, None)(plain) as recording:
        assert "tracks" not in recording.session
    file = corrections_path(corrected)
    file.write_text(file.read_text(encoding="utf-8").replace('"track":2', '"track":3'), encoding="utf-8")
    with pytest.raises(InputError):
        open_with(False, None)(corrected)

"""Corrections: what they do to tracks and figures, how they are audited, and that the recording stays as it is."""

from __future__ import annotations

import hashlib
import itertools
import json

import numpy as np
import pytest
from viewer_driving import press, seek

from casa.errors import InputError
from casa.viewer.corrections import CorrectionLog, corrections_path, digest_of
from casa.viewer.session import corrected_figures, load_session, original_figures


def lines(path):
    return [json.loads(line) for line in corrections_path(path).read_text(encoding="utf-8").splitlines()]


def long_track(window) -> int:
    """A track that is seen all the time."""
    index, _ = window.recording.tracks.current
    lengths = dict(zip(index.ids.tolist(), (index.ends - index.begins).tolist(), strict=True))
    return max((k for k in window.view.track_id.tolist()), key=lambda k: lengths[k])


def settled(window, qtbot) -> None:
    qtbot.waitUntil(lambda: not window.recording.tracks.busy, timeout=60_000)
    window.tick()


def test_recomputing_untouched_tracks_gives_the_recorded_figures(field):
    session = load_session(field)
    again, recorded = corrected_figures(session, []), original_figures(session)
    assert again.summary.n_tracks == recorded.summary.n_tracks
    for name, value in recorded.summary.motility_percent.items():
        assert again.summary.motility_percent[name] == pytest.approx(value, rel=1e-9)
    for name, column in recorded.kinematics.columns().items():
        other = again.kinematics.columns()[name]
        if column.dtype.kind == "f":
            np.testing.assert_allclose(other, column, rtol=1e-9)
        else:
            assert np.array_equal(other, column)


def test_split_join_debris_delete_and_undo(open_viewer, own_field, qtbot):
    before = hashlib.sha256(own_field.read_bytes()).hexdigest()
    window = open_viewer(own_field)
    seek(window, qtbot, 75)
    qtbot.waitUntil(lambda: window.tick() or window.figures is not None, timeout=60_000)
    recording, track = window.recording, long_track(window)
    n_tracks = window.figures.summary.n_tracks
    rows = len(recording.sperm(track).path)

    window.choose(track)
    press(window, qtbot, "Ctrl+T")
    settled(window, qtbot)
    new = lines(own_field)[-1]["arguments"]["new_track"]
    assert {len(recording.sperm(track).path) + len(recording.sperm(new).path)} == {rows}
    assert new in window.view.track_id
    assert recording.figures().summary.n_tracks == n_tracks + 1
    assert recording.sperm(new).kinematics["track_id"] == new

    window.choose(track)
    press(window, qtbot, "Ctrl+N")
    while window.canvas.second != new:
        press(window, qtbot, "Ctrl+N")
    press(window, qtbot, "Ctrl+J")
    settled(window, qtbot)
    assert recording.figures().summary.n_tracks == n_tracks
    assert len(recording.sperm(track).path) == rows

    press(window, qtbot, "Ctrl+D")
    settled(window, qtbot)
    assert recording.figures().summary.n_tracks == n_tracks - 1
    assert recording.figures().in_view[-1] == 1

    press(window, qtbot, "Ctrl+Z")
    settled(window, qtbot)
    assert recording.figures().summary.n_tracks == n_tracks
    press(window, qtbot, "Ctrl+Shift+Z")
    settled(window, qtbot)
    assert recording.figures().in_view[-1] == 1

    window.choose(track)
    press(window, qtbot, "Delete")
    settled(window, qtbot)
    assert track not in window.view.track_id
    press(window, qtbot, "O")
    assert track in window.view.track_id
    assert recording.figures().summary.n_tracks == n_tracks
    press(window, qtbot, "O")

    actions = [line["action"] for line in lines(own_field)[1:]]
    assert actions == ["split", "join", "debris", "undo", "redo", "delete"]
    entry = lines(own_field)[1]
    assert entry["who"] == "tester"
    assert entry["old"]["tracks"][str(track)]["rows"] == rows
    assert set(entry["new"]["tracks"]) == {str(track), str(new)}
    assert hashlib.sha256(own_field.read_bytes()).hexdigest() == before, "the recording was changed"


def test_corrections_are_there_again_when_it_is_opened_again(open_viewer, own_field, qtbot):
    window = open_viewer(own_field)
    seek(window, qtbot, 75)
    track = long_track(window)
    window.choose(track)
    press(window, qtbot, "Delete")
    settled(window, qtbot)
    summary = window.recording.figures().summary
    again = open_viewer(own_field)
    settled(again, qtbot)
    assert again.recording.figures().summary == summary
    assert again.recording.sperm(track) is None
    assert "1 correction" in again._badge.text()


def test_two_sperm_in_one_picture_are_not_joined(open_viewer, own_field, qtbot):
    window = open_viewer(own_field)
    seek(window, qtbot, 75)
    index, _ = window.recording.tracks.current
    first, second = window.view.track_id[:2].tolist()
    window.choose(first)
    window.choose_second(second)
    press(window, qtbot, "Ctrl+J")
    assert "they are two sperm" in window.message
    assert not corrections_path(own_field).exists()
    assert window.recording.tracks.current[0] is index


def log_with_three(path) -> CorrectionLog:
    log = CorrectionLog(path, "id", "ann")
    log.add("delete", {"track": 1}, {"tracks": {"1": {"rows": 5}}})
    log.add("debris", {"track": 2})
    log.add("mark", {"frame": 3, "field": 0, "t_s": 0.06, "note": "µ"})
    return log


def test_a_changed_or_missing_line_is_found(tmp_path):
    path = tmp_path / "a.corrections.jsonl"
    log_with_three(path)
    whole = path.read_bytes()
    assert [entry.action for entry in CorrectionLog(path, "id", "bob").entries] == ["delete", "debris", "mark"]
    path.write_bytes(whole.replace(b'"track":2', b'"track":3'))
    with pytest.raises(InputError, match="line 3 is not what was written"):
        CorrectionLog(path, "id", "bob")
    rows = whole.splitlines(keepends=True)
    path.write_bytes(b"".join(rows[:2] + rows[3:]))
    with pytest.raises(InputError, match="a line is missing"):
        CorrectionLog(path, "id", "bob")
    path.write_bytes(whole)
    with pytest.raises(InputError, match="another recording"):
        CorrectionLog(path, "other", "bob")
    path.write_bytes(b"no json\n")
    with pytest.raises(InputError, match="no line of a corrections file"):
        CorrectionLog(path, "id", "bob")


def test_a_torn_last_line_is_left_out_and_written_over(tmp_path):
    path = tmp_path / "a.corrections.jsonl"
    log_with_three(path)
    path.write_bytes(path.read_bytes() + b'{"n":4,"who":"ann","act')
    log = CorrectionLog(path, "id", "bob")
    assert len(log.entries) == 3
    log.add("undo", {"of": 2})
    again = CorrectionLog(path, "id", "bob")
    assert [entry.who for entry in again.entries] == ["ann", "ann", "ann", "bob"]
    assert [entry.number for entry in again.active] == [1]


def test_two_who_correct_at_once_do_not_write_over_each_other(tmp_path):
    path = tmp_path / "a.corrections.jsonl"
    first = log_with_three(path)
    second = CorrectionLog(path, "id", "bob")
    second.add("delete", {"track": 9})
    with pytest.raises(InputError, match="somebody else"):
        first.add("delete", {"track": 8})
    first.add("delete", {"track": 8})
    assert [e.arguments.get("track") for e in CorrectionLog(path, "id", "x").active] == [1, 2, 9, 8]


def test_the_chain_is_as_documented(tmp_path):
    path = tmp_path / "a.corrections.jsonl"
    log_with_three(path)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert rows[0]["format"] == "casa-corrections"
    for before, row in itertools.pairwise(rows):
        body = {key: value for key, value in row.items() if key != "sha256"}
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert row["sha256"] == hashlib.sha256(text.encode()).hexdigest() == digest_of(row)
        assert row["previous"] == before["sha256"]


def test_a_damaged_corrections_file_does_not_hide_the_recording(open_viewer, own_field, qtbot):
    corrections_path(own_field).write_text("damaged\n")
    window = open_viewer(own_field)
    seek(window, qtbot, 75)
    assert len(window.view.track_id)
    assert "no line of a corrections file" in window.message
    press(window, qtbot, "N")
    press(window, qtbot, "Delete")
    assert corrections_path(own_field).read_text() == "damaged\n"

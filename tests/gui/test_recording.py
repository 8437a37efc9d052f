"""The viewer with a recording, driven by mouse and keyboard on a real X server."""

from __future__ import annotations

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import recordings
from grading import add_grades, add_heads
from PySide6 import QtCore, QtGui
from PySide6.QtCore import Qt
from viewer_driving import lone_track, place_of, press, seek
from viewer_scene import N_FRAMES

from casa.record import Recording
from casa.viewer.feed import MorphologyFigures, without_networks
from casa.viewer.head_chart import BAR, HeadPicture
from casa.viewer.keys import KEYS
from casa.viewer.palette import SHADE_COLOURS, SHADES

ROOT = Path(__file__).resolve().parents[2]


def test_it_shows_the_field_with_its_figures(open_viewer, field, qtbot):
    window = open_viewer(field)
    seek(window, qtbot, 60)
    with Recording(field) as recording:
        tracks = recording.tracks()
        summary = recording.summary()
    here = tracks.select(tracks.frame == 60)
    assert sorted(window.view.track_id.tolist()) == sorted(here.track_id.tolist())
    qtbot.waitUntil(lambda: window.figures.in_view.sum() == len(here))
    assert window.figures.summary == summary
    assert window.field_panel._big["pr"].text() == f"{summary.motility_percent['pr']:.0f} %"
    assert window.field_panel._big["concentration"].text() == f"{summary.concentration_m_per_ml:.1f} M/mL"
    picture = window.canvas.grab().toImage()
    colours = {picture.pixelColor(x, y).name() for x in range(0, picture.width(), 2) for y in range(picture.height())}
    for shade in np.unique(window.view.shade):
        assert SHADE_COLOURS[SHADES[shade]] in colours


def test_a_click_chooses_a_sperm_and_shows_all_of_it(open_viewer, field, qtbot):
    window = open_viewer(field)
    seek(window, qtbot, 70)
    track = lone_track(window)
    qtbot.mouseClick(window.canvas, Qt.MouseButton.LeftButton, pos=place_of(window, track))
    assert window.canvas.selected == track
    qtbot.waitUntil(lambda: window.sperm is not None and bool(window.sperm.clip)
                    and all(c is not None for c in window.sperm.clip))  # fmt: skip
    sperm = window.sperm
    with Recording(field) as recording:
        table, rows = recording.kinematics(), recording.tracks()
    row = table.track_id.tolist().index(track)
    assert sperm.kinematics["vcl_um_s"] == table.vcl_um_s[row]
    assert len(sperm.path) == (rows.track_id == track).sum()
    assert window.sperm_panel._values["VCL"].text() == f"{table.vcl_um_s[row]:.1f} µm/s"
    middle = sperm.clip[sperm.clip_here]
    assert middle.shape[0] == middle.shape[1] >= 32
    image, here = window.view.image, sperm.path[sperm.here]
    x, y = round(float(here[0])), round(float(here[1]))
    assert np.array_equal(middle[len(middle) // 2, len(middle) // 2], image[y, x])
    qtbot.mouseClick(window.canvas, Qt.MouseButton.LeftButton, pos=QtCore.QPoint(3, 3))
    assert window.canvas.selected == -1


def test_a_session_without_graders_says_so_calmly(open_viewer, own_field, qtbot):
    window = open_viewer(own_field)
    seek(window, qtbot, 70)
    press(window, qtbot, "N")
    panel = window.sperm_panel
    assert window.sperm is not None
    assert panel._nothing.text() == "Not graded by a network · no morphology in this session"
    assert panel._nothing.isVisible()
    assert not panel._grades.isVisible()


def switch_on(path: Path, *networks: str) -> None:
    """Let a recording say that its session had networks on."""
    with h5py.File(path, "r+") as file:
        session = json.loads(file.attrs["session"])
        session["config"] |= {name: {"enabled": True} for name in networks}
        file.attrs["session"] = json.dumps(session)


def test_a_session_whose_networks_got_to_no_sperm_does_not_say_that_it_had_none(open_viewer, own_field, qtbot):
    switch_on(own_field, "grade", "morphology")
    window = open_viewer(own_field)
    seek(window, qtbot, 70)
    press(window, qtbot, "N")
    assert window.sperm_panel._nothing.text() == "No clip of it was graded by the network · its head was not examined"
    alone = {"config": {"morphology": {"enabled": True}}}
    assert without_networks(alone, yet=True) == ("", "its head not examined yet")


def test_where_no_class_is_likely_enough_none_stands_out(qapp, qtbot):
    picture = HeadPicture()
    qtbot.addWidget(picture)
    picture.resize(300, 150)

    def shown(abstain_below: float) -> tuple[bool, str]:
        classes = {"normal": 0.35, "tapered": 0.33, "small": 0.32}
        figures = MorphologyFigures({}, None, None, classes=classes, n_crops=3, abstain_below=abstain_below)
        picture.set_figures(figures)
        image = picture.grab().toImage()
        names = {image.pixelColor(x, y).name() for x in range(image.width()) for y in range(image.height())}
        return BAR in names, picture.accessibleDescription()

    stands_out, said = shown(0.4)
    assert not stands_out
    assert "No class: none reaches 40 %" in said
    stands_out, said = shown(0.3)
    assert stands_out
    assert "No class" not in said


def test_a_graded_sperm_plays_its_clip_beside_its_grades(open_viewer, own_field, qtbot):
    with Recording(own_field) as recording:
        tracks = np.unique(recording.tracks(slice(70, 71)).track_id).tolist()
    add_grades(own_field, tracks, clips=1)
    window = open_viewer(own_field)
    seek(window, qtbot, 70)
    press(window, qtbot, "N")
    panel = window.sperm_panel
    while window.canvas.selected != tracks[0]:
        press(window, qtbot, "N")
    with Recording(own_field) as recording:
        grades, kept = recording.grades(), recording.clips([0])[0]
    qtbot.waitUntil(lambda: panel.player.n_pictures == 16)
    assert panel.player.isVisible()
    assert panel._grades.isVisible()
    assert not panel._head.isVisible()
    assert panel._grades.accessibleDescription().startswith(f"A {100 * grades.distribution[0, 0]:.0f} %")
    assert np.array_equal(window.sperm.grade_parts[0], grades.part_global[0])
    first = panel.player.picture_now()
    assert first.shape == (150, 150, 3)  # with where the network looked over it
    qtbot.waitUntil(lambda: not np.array_equal(panel.player.picture_now(), first))  # it plays
    press(window, qtbot, "A")
    plain = [picture.tolist() for picture in kept.clip.images]
    assert panel.player.picture_now().tolist() in plain
    if len(tracks) > 1:  # graded, and its clip is not kept
        while window.canvas.selected != tracks[1]:
            press(window, qtbot, "N")
        qtbot.waitUntil(lambda: window.sperm is not None and window.sperm.track_id == tracks[1])
        assert panel._grades.isVisible()
        assert not panel.player.isVisible()


def test_an_examined_sperm_shows_its_head_its_classes_and_why_there_are_none(open_viewer, own_field, qtbot):
    with Recording(own_field) as recording:
        tracks = np.unique(recording.tracks(slice(70, 71)).track_id).tolist()
    exams = [recordings.head_exam(11, tracks[0])] + [recordings.head_exam(20 + t, t, "two heads") for t in tracks[1:]]
    add_heads(own_field, exams, outside=["0.5 µm/px, and the network knows 0.1"])
    switch_on(own_field, "grade", "morphology")
    window = open_viewer(own_field)
    seek(window, qtbot, 70)
    press(window, qtbot, "N")
    panel = window.sperm_panel
    while window.canvas.selected != tracks[0]:
        press(window, qtbot, "N")
    head = panel._head
    qtbot.waitUntil(lambda: len(head._pictures) == 2)  # the crop, and with what decided
    assert head.isVisible()
    assert not panel._grades.isVisible()
    said = head.accessibleDescription()
    chance = exams[0].row.distribution[0, 0]
    assert f"head normal {100 * chance:.0f} %" in said
    assert "11.0 × 11.1 µm · L/W 11.30 (not 1.5–2)" in said
    assert "a guess: 0.5 µm/px, and the network knows 0.1" in said
    assert panel._nothing.isVisible()
    assert panel._nothing.text() == "No clip of it was graded by the network"
    if len(tracks) > 1:  # examined, and there was no head to class
        while window.canvas.selected != tracks[1]:
            press(window, qtbot, "N")
        qtbot.waitUntil(lambda: head.accessibleDescription() == "no class: two heads")
        assert head.isVisible()


def test_playing_keeps_time_and_stepping_goes_one_by_one(open_viewer, field, qtbot):
    window = open_viewer(field)
    seek(window, qtbot, 10)
    press(window, qtbot, "Space")
    assert window.recording.playing
    qtbot.wait(600)
    press(window, qtbot, "Space")
    assert not window.recording.playing
    reached = window.view.step
    assert 10 < reached < N_FRAMES
    for key, by in (("Right", 1), ("Right", 1), ("Left", -1), ("Shift+Right", 10), ("Shift+Left", -10)):
        press(window, qtbot, key)
        reached += by
        assert window.recording.step == reached
    press(window, qtbot, "End")
    assert window.recording.step == N_FRAMES - 1
    press(window, qtbot, "Home")
    assert window.recording.step == 0
    press(window, qtbot, "]")
    assert window.recording.speed == 2.0
    press(window, qtbot, "=")
    assert window.recording.speed == 1.0


def test_pictures_are_those_of_their_frames_wherever_one_jumps(open_viewer, field, qtbot):
    from casa.config import SourceConfig
    from casa.sources import open_source

    wanted = (0, 97, 96, 13, 109, 50)
    with open_source(str(field.with_suffix(".mp4")), SourceConfig()) as source:
        frames = {frame.index: frame for frame in source if frame.index in wanted}
        expected = {index: np.asarray(frame.colour()) for index, frame in frames.items()}
    window = open_viewer(field)
    for step in wanted:
        seek(window, qtbot, step)
        assert np.array_equal(window.view.image, expected[step]), f"frame {step}"


def test_the_scrubber_moves_the_play_head(open_viewer, own_field, qtbot):
    window = open_viewer(own_field)
    bar = window.transport.scrubber
    qtbot.mouseClick(bar, Qt.MouseButton.LeftButton, pos=QtCore.QPoint(bar.width() // 2, bar.height() // 2))
    assert abs(window.recording.step - N_FRAMES // 2) <= 1
    qtbot.waitUntil(lambda: window.view.step == window.recording.step)


def test_marks_are_kept_beside_the_recording_and_taken_back(open_viewer, own_field, qtbot):
    window = open_viewer(own_field)
    seek(window, qtbot, 40)
    press(window, qtbot, "M")
    assert window.message == "frame 40 marked"
    seek(window, qtbot, 90)
    press(window, qtbot, "PgUp")
    assert window.recording.step == 40
    again = open_viewer(own_field)
    assert [mark.arguments["frame"] for mark in again.recording.tracks.marks] == [40]
    seek(window, qtbot, 40)
    press(window, qtbot, "M")
    assert window.recording.tracks.marks == []


def test_a_snapshot_is_the_picture_and_what_is_shown(open_viewer, field, qtbot, tmp_path):
    window = open_viewer(field, snapshots=tmp_path / "shots")
    seek(window, qtbot, 55)
    press(window, qtbot, "N")
    press(window, qtbot, "S")
    press(window, qtbot, "S")
    pictures = sorted((tmp_path / "shots").glob("*.png"))
    assert [p.name for p in pictures] == ["field_frame000055.png", "field_frame000055_2.png"]
    image = QtGui.QImage(str(pictures[0]))
    assert (image.width(), image.height()) == (1440, 1080)
    shown = json.loads(pictures[0].with_suffix(".json").read_text())
    assert shown["frame"] == 55
    assert shown["who"] == "tester"
    assert {s["track_id"] for s in shown["sperm_in_view"]} == set(window.view.track_id.tolist())
    assert shown["chosen"]["track_id"] == window.canvas.selected
    assert image.text("casa") == json.dumps(shown, indent=1)


def test_a_recording_without_its_video_shows_tracks_and_kept_pictures(open_viewer, own_field, qtbot):
    window = open_viewer(own_field)
    assert window.view.step == N_FRAMES // 3
    assert window.view.image is not None
    assert "--video" in window.message
    press(window, qtbot, "Right")
    assert window.view.image is None
    assert len(window.view.track_id)
    press(window, qtbot, "N")
    assert window.sperm.clip == []


def test_another_video_of_the_same_name_is_told(open_viewer, own_video, qtbot):
    import h5py

    with h5py.File(own_video, "r+") as file:
        session = json.loads(file.attrs["session"])
        session["source"]["sha256"] = "0" * 64
        file.attrs["session"] = json.dumps(session)
    window = open_viewer(own_video)
    qtbot.waitUntil(lambda: "not the file that was analysed" in window.message, timeout=60_000)


def test_a_broken_video_is_told_and_the_tracks_are_shown(open_viewer, own_video, qtbot):
    own_video.with_suffix(".mp4").write_bytes(b"this is no video" * 100)
    window = open_viewer(own_video)
    qtbot.waitUntil(lambda: "No pictures" in window.message, timeout=60_000)
    assert len(window.view.track_id)


@pytest.mark.parametrize("what", ["missing.h5", "empty.h5", "text.h5"])
def test_what_is_no_recording_is_said_in_the_window(open_viewer, tmp_path, what, qtbot):
    if what == "empty.h5":
        (tmp_path / what).touch()
    if what == "text.h5":
        (tmp_path / what).write_text("no recording")
    window = open_viewer(tmp_path / what)
    assert window.canvas._condition.title == "This recording cannot be shown"
    assert what in window.canvas._condition.text
    for key in KEYS:
        if key.action not in ("quit", "open", "go_to", "find", "mark_note", "full_screen"):
            window.do(key.action)


def test_an_empty_window_says_what_to_do(open_viewer, qtbot):
    window = open_viewer(None)
    window.tick()
    assert "Ctrl+O" in window.canvas._condition.text


def test_every_action_has_a_key_and_every_key_its_line_in_the_document(open_viewer, own_field, qtbot):
    window = open_viewer(own_field)
    document = (ROOT / "docs" / "viewer.md").read_text(encoding="utf-8")
    for key in KEYS:
        assert callable(getattr(window.doing, key.action))
        for name in key.keys:
            assert re.search(rf"`{re.escape(name)}`", document), f"docs/viewer.md does not tell of {name}"
        assert key.words in document, f"docs/viewer.md does not tell of {key.action}"
    names = [name for key in KEYS for name in key.keys]
    assert len(names) == len(set(names))
    press(window, qtbot, "?")
    assert window.overlay.isVisible()
    assert window.overlay.geometry() == window.centralWidget().rect()
    press(window, qtbot, "Escape")
    assert not window.overlay.isVisible()


def test_switches_zoom_and_following(open_viewer, own_field, qtbot):
    window = open_viewer(own_field)
    seek(window, qtbot, 70)
    canvas = window.canvas
    for key, name in (("B", "show_boxes"), ("I", "show_ids"), ("T", "show_trails"), ("G", "show_grades")):
        press(window, qtbot, key)
        assert getattr(canvas, name) is False
        press(window, qtbot, key)
        assert getattr(canvas, name) is True
    press(window, qtbot, "V")
    assert window.field_panel.speed == "vsl"
    scale = canvas.scale
    press(window, qtbot, "+")
    assert canvas.scale == pytest.approx(1.25 * scale)
    press(window, qtbot, "F")
    assert canvas.scale == pytest.approx(scale)
    track = lone_track(window)
    window.choose(track)
    press(window, qtbot, "Z")
    for key in ("Right", "Right"):
        press(window, qtbot, key)
        at = place_of(window, track)
        assert (at - canvas.rect().center()).manhattanLength() < 12
    press(window, qtbot, "Z")
    assert canvas.scale == pytest.approx(scale)


def test_the_grades_have_the_report_s_colours():
    sheet = (ROOT / "casa" / "report" / "templates" / "report.css").read_text(encoding="utf-8")
    for shade in "abcdu":
        assert f".on-{shade} {{ stroke: {SHADE_COLOURS[shade]}; }}" in sheet

"""What the keys do: one method for each action of casa.viewer.keys, by the same name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PySide6 import QtWidgets

from casa.errors import InputError
from casa.viewer.recording_feed import SPEEDS, RecordingFeed
from casa.viewer.session import Session
from casa.viewer.snapshot import describe, take_snapshot

if TYPE_CHECKING:
    from casa.viewer.window import ViewerWindow


class Actions:
    """The actions of one window; each raises CasaError with one line where it cannot be done."""

    def __init__(self, window: ViewerWindow) -> None:
        self._window = window

    # -- play -----------------------------------------------------------------------------------------------------

    def play(self) -> None:
        """Play or pause; a running session goes on while its picture stands still."""
        window = self._window
        if window.recording is not None:
            window.recording.play(not window.recording.playing)
        elif window.feed is not None:
            window.pause_live(not window.paused_live)

    def _recording(self) -> tuple[RecordingFeed, Session]:
        recording = self._window.recording
        if recording is None or recording.session is None or not recording.n_steps:
            raise InputError("there is no recording open")
        return recording, recording.session

    def _step(self, by: int) -> None:
        recording, _ = self._recording()
        recording.play(False)
        recording.seek(recording.step + by)

    def _jump_s(self, by_s: float) -> None:
        recording, session = self._recording()
        t_ns = session.steps.t_ns
        recording.seek(session.steps.at_time(float(t_ns[recording.step]) + by_s * 1e9))

    def back(self) -> None:
        """One step back."""
        self._step(-1)

    def forward(self) -> None:
        """One step on."""
        self._step(1)

    def back10(self) -> None:
        """Ten steps back."""
        self._step(-10)

    def forward10(self) -> None:
        """Ten steps on."""
        self._step(10)

    def back_second(self) -> None:
        """One second back."""
        self._jump_s(-1.0)

    def forward_second(self) -> None:
        """One second on."""
        self._jump_s(1.0)

    def first(self) -> None:
        """To the first step."""
        self._recording()[0].seek(0)

    def last(self) -> None:
        """To the last step."""
        recording, _ = self._recording()
        recording.play(False)
        recording.seek(recording.n_steps - 1)

    def _change_speed(self, by: int) -> None:
        recording, _ = self._recording()
        at = SPEEDS.index(recording.speed)
        recording.speed = SPEEDS[int(np.clip(at + by, 0, len(SPEEDS) - 1))]

    def slower(self) -> None:
        """The next lower speed."""
        self._change_speed(-1)

    def faster(self) -> None:
        """The next higher speed."""
        self._change_speed(1)

    def speed(self) -> None:
        """Normal speed."""
        self._recording()[0].speed = 1.0

    def go_to(self) -> None:
        """Ask for a frame, or a time that ends in s."""
        recording, _ = self._recording()
        text, done = QtWidgets.QInputDialog.getText(self._window, "Go to", "Frame number, or a time such as 2.5s:")
        if done:
            recording.seek(self.step_of(text))

    def step_of(self, text: str) -> int:
        """The step of a frame number, or of a time such as ``2.5s`` or ``1:02.5``."""
        _, session = self._recording()
        steps, text = session.steps, text.strip().lower()
        try:
            if text.endswith("s") or ":" in text:
                minutes, _, seconds = text.removesuffix("s").rpartition(":")
                t_s = 60 * float(minutes or 0) + float(seconds)
                return steps.at_time(float(steps.t_ns[0]) + t_s * 1e9)
            frame = int(text)
        except ValueError:
            raise InputError(f"“{text}” is neither a frame number nor a time such as 2.5s") from None
        if not steps.frame.min() <= frame <= steps.frame.max():
            raise InputError(f"there is no frame {frame}: they go from {steps.frame.min()} to {steps.frame.max()}")
        return int(np.searchsorted(steps.frame, frame))

    def _mark_steps(self) -> list[int]:
        recording, session = self._recording()
        keys = [2 * mark.arguments["frame"] + mark.arguments["field"] for mark in recording.tracks.marks]
        steps = [int(step) for step in session.steps.at_key(np.array(keys, np.int64)) if step >= 0]
        return sorted({*steps, *recording.picture_steps})

    def next_mark(self) -> None:
        """To the next mark, or picture that is kept in the recording."""
        recording, _ = self._recording()
        later = [step for step in self._mark_steps() if step > recording.step]
        if not later:
            raise InputError("there is no later mark")
        recording.seek(later[0])

    def previous_mark(self) -> None:
        """To the mark before."""
        recording, _ = self._recording()
        earlier = [step for step in self._mark_steps() if step < recording.step]
        if not earlier:
            raise InputError("there is no earlier mark")
        recording.seek(earlier[-1])

    # -- sperm ----------------------------------------------------------------------------------------------------

    def _in_view(self) -> list[int]:
        view = self._window.view
        return [] if view is None else sorted(view.track_id.tolist())

    def next(self) -> None:
        """Choose the next sperm in view by number."""
        ids, chosen = self._in_view(), self._window.canvas.selected
        if ids:
            self._window.choose(next((key for key in ids if key > chosen), ids[0]))

    def previous(self) -> None:
        """Choose the previous sperm in view by number."""
        ids, chosen = self._in_view(), self._window.canvas.selected
        if ids:
            self._window.choose(next((key for key in reversed(ids) if key < chosen), ids[-1]))

    def find(self) -> None:
        """Ask for a number and choose that sperm."""
        text, done = QtWidgets.QInputDialog.getText(self._window, "Find a sperm", "Number of the sperm:")
        if done:
            self.find_number(text)

    def find_number(self, text: str) -> None:
        """Choose a sperm, and in a recording go to where it is seen."""
        window = self._window
        try:
            track_id = int(text)
        except ValueError:
            raise InputError(f"“{text}” is no number of a sperm") from None
        if window.recording is not None:
            sperm = window.recording.sperm(track_id, with_clip=False)
            if sperm is None:
                raise InputError(f"there is no sperm {track_id} in this recording")
            if window.view is None or not sperm.first_s <= window.view.t_s <= sperm.last_s:
                window.recording.seek(self.step_of(f"{sperm.first_s + 1e-6}s"))
        elif track_id not in self._in_view():
            raise InputError(f"sperm {track_id} is not in view")
        window.choose(track_id)

    def _chosen(self) -> int:
        if self._window.canvas.selected < 0:
            raise InputError("choose a sperm first: click it, or press N")
        return self._window.canvas.selected

    def start_of(self) -> None:
        """To where the chosen sperm appears."""
        self._to_end_of(first=True)

    def end_of(self) -> None:
        """To where the chosen sperm is last seen."""
        self._to_end_of(first=False)

    def _to_end_of(self, first: bool) -> None:
        recording, _ = self._recording()
        sperm = recording.sperm(self._chosen(), with_clip=False)
        if sperm is not None:
            recording.play(False)
            recording.seek(self.step_of(f"{(sperm.first_s if first else sperm.last_s) + 1e-6}s"))

    def none(self) -> None:
        """Close the keys, leave full screen, or choose none: what is uppermost."""
        window = self._window
        if window.overlay.isVisible():
            window.overlay.hide()
        elif window.canvas.second >= 0:
            window.canvas.second = -1
            window.choose(window.canvas.selected)
        elif window.canvas.selected >= 0:
            window.choose(-1)
        elif window.isFullScreen():
            window.showNormal()

    def follow(self) -> None:
        """Magnify the chosen sperm and stay with it; once more to leave."""
        canvas = self._window.canvas
        if canvas.follow:
            canvas.fit()
            return
        self._chosen()
        canvas.follow = True
        view = self._window.view
        rows = np.flatnonzero(view.track_id == canvas.selected) if view is not None else np.empty(0, np.int64)
        if view is not None and len(rows):
            centre = (view.box[rows[0], :2] + view.box[rows[0], 2:]) / 2
            canvas.zoom_to(float(centre[0]), float(centre[1]))

    # -- picture --------------------------------------------------------------------------------------------------

    def fit(self) -> None:
        """The whole picture."""
        self._window.canvas.fit()

    def zoom_in(self) -> None:
        """Magnify."""
        self._window.canvas.zoom_by(1.25)

    def zoom_out(self) -> None:
        """The opposite."""
        self._window.canvas.zoom_by(1 / 1.25)

    def _toggle(self, *names: str) -> None:
        canvas = self._window.canvas
        on = not any(getattr(canvas, name) for name in names)
        for name in names:
            setattr(canvas, name, on)
        canvas.update()

    def boxes(self) -> None:
        """Boxes on or off."""
        self._toggle("show_boxes")

    def ids(self) -> None:
        """Numbers on or off."""
        self._toggle("show_ids")

    def trails(self) -> None:
        """Trails on or off."""
        self._toggle("show_trails")

    def grades(self) -> None:
        """Colours by grade on or off."""
        self._toggle("show_grades")

    def bare(self) -> None:
        """All that is drawn over the picture, on or off."""
        self._toggle("show_boxes", "show_ids", "show_trails")

    def _trail(self, factor: float) -> None:
        recording, _ = self._recording()
        recording.trail_s = float(np.clip(recording.trail_s * factor, 0.125, 16.0))
        self._window.say(f"trails of {recording.trail_s:g} s")

    def shorter(self) -> None:
        """Halve the trails."""
        self._trail(0.5)

    def longer(self) -> None:
        """Double the trails."""
        self._trail(2.0)

    def attention(self) -> None:
        """Where the network looked: shown or hidden."""
        self._window.sperm_panel.player.toggle_attention()

    def histogram(self) -> None:
        """The next velocity."""
        self._window.field_panel.next_speed()

    # -- keeping --------------------------------------------------------------------------------------------------

    def mark(self) -> None:
        """Mark the moment."""
        if self._window.feed is not None:
            self._window.say(self._window.feed.mark(""))

    def mark_note(self) -> None:
        """Ask for a note and mark the moment with it."""
        feed = self._window.feed
        if feed is None:
            return
        text, done = QtWidgets.QInputDialog.getText(self._window, "Mark this moment", "Note:")
        if done:
            self._window.say(feed.mark(text.strip()[:400]))

    def snapshot(self) -> None:
        """Save the picture with what is drawn over it, and what is shown."""
        window = self._window
        if window.view is None or window.feed is None:
            raise InputError("there is nothing to save yet")
        folder, stem = Path("."), "live"
        if window.recording is not None:
            folder = window.recording.path.parent
            stem = window.recording.path.name.removesuffix(".partial").removesuffix(".h5")
        what = describe(window.view, window.figures, window.sperm, window.feed.about(), window.who)
        path = take_snapshot(window.canvas, window.view, what, window.snapshots or folder, stem)
        window.say(f"saved {path.name} and {path.with_suffix('.json').name} in {path.parent}")

    # -- correcting -----------------------------------------------------------------------------------------------

    def second(self) -> None:
        """Choose as the second sperm the nearest one, then the next nearest, …"""
        window, view = self._window, self._window.view
        chosen = self._chosen()
        rows = np.flatnonzero(view.track_id == chosen) if view is not None else np.empty(0, np.int64)
        recording, _ = self._recording()
        candidates = recording.tracks.near(chosen)
        if not candidates or (view is None and not len(rows)):
            raise InputError(f"no track is near enough in time and place to be joined with {chosen}")
        at = candidates.index(window.canvas.second) + 1 if window.canvas.second in candidates else 0
        window.choose_second(candidates[at % len(candidates)])

    def _correct(self, action: str, arguments: dict[str, Any]) -> None:
        recording, _ = self._recording()
        self._window.say(recording.tracks.correct(action, arguments))

    def join(self) -> None:
        """Join the two chosen."""
        window = self._window
        chosen, second = self._chosen(), window.canvas.second
        if second < 0:
            raise InputError("choose a second sperm to join with: Ctrl+click it, or press Ctrl+N")
        first, other = sorted((chosen, second))
        self._correct("join", {"track": first, "with": other})
        window.choose(first)

    def split(self) -> None:
        """Split the chosen track at the moment that is shown."""
        _, session = self._recording()
        view = self._window.view
        if view is not None:
            frame, field = int(session.steps.frame[view.step]), int(session.steps.field[view.step])
            self._correct("split", {"track": self._chosen(), "frame": frame, "field": field})

    def debris(self) -> None:
        """The chosen one is debris."""
        self._correct("debris", {"track": self._chosen()})

    def delete(self) -> None:
        """Delete the chosen track."""
        self._correct("delete", {"track": self._chosen()})
        self._window.choose(-1)

    def undo(self) -> None:
        """Take the last correction back."""
        self._window.say(self._recording()[0].tracks.undo())

    def redo(self) -> None:
        """Correct it again."""
        self._window.say(self._recording()[0].tracks.undo(redo=True))

    def original(self) -> None:
        """Tracks as recorded, or as corrected."""
        tracks = self._recording()[0].tracks
        tracks.corrected = not tracks.corrected
        self._window.say("tracks as corrected" if tracks.corrected else "tracks as recorded, without corrections")

    # -- window ---------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Ask for a recording."""
        name, _ = QtWidgets.QFileDialog.getOpenFileName(
            self._window, "Open a recording", "", "Recordings (*.h5 *.h5.partial);;All files (*)"
        )
        if name:
            self._window.open(name)

    def full_screen(self) -> None:
        """Full screen, or back."""
        window = self._window
        window.showNormal() if window.isFullScreen() else window.showFullScreen()

    def help(self) -> None:
        """All keys."""
        self._window.overlay.toggle(self._window.feed is None or self._window.feed.can_seek)

    def quit(self) -> None:
        """Close the window."""
        self._window.close()

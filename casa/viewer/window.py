"""The window: puts picture, panels and play head together, and carries actions out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Qt

from casa.errors import CasaError
from casa.types import is_simulated
from casa.viewer.actions import Actions
from casa.viewer.canvas import Canvas
from casa.viewer.feed import Condition, Feed, FeedState, FieldFigures, SpermFigures, View
from casa.viewer.keys import KEYS, KeysOverlay, key_sequences
from casa.viewer.panels import FieldPanel, SpermPanel, label, set_text, soft_line
from casa.viewer.recording_feed import OPENING, RecordingFeed
from casa.viewer.style import SHEET
from casa.viewer.transport import Transport

#: The picture is looked for new ones this often; figures change more calmly.
TICK_MS = 16
#: A running session needs the processor for itself: 31 pictures a second are enough to look at.
LIVE_TICK_MS = 32
FIGURES_MS = 200
_NOTHING = Condition(
    FeedState.WAITING,
    "Nothing is open",
    "Open a recording with Ctrl+O, or start the viewer with one (casa view RUN.h5), or with the address of a running "
    "session (casa view ENDPOINT).",
)


class ViewerWindow(QtWidgets.QMainWindow):
    """The viewer's window.

    Parameters
    ----------
    open_feed : from a path or an address to its feed; may raise CasaError.
    snapshots : folder for snapshots; beside the recording (or the current folder) where None.
    who : who looks, for marks and corrections.
    """

    def __init__(self, open_feed: Callable[[str], Feed], snapshots: Path | None, who: str) -> None:
        super().__init__()
        self._open_feed, self.snapshots, self.who = open_feed, snapshots, who
        self.feed: Feed | None = None
        self.view: View | None = None
        self.figures: FieldFigures | None = None
        self.sperm: SpermFigures | None = None
        self._condition = _NOTHING
        self._message_until = 0.0
        self._last_figures = 0.0
        self._prepared: Any = None
        self.paused_live = False
        self.setWindowTitle("casa")
        self.setMinimumSize(900, 600)
        self.resize(1280, 800)
        self._build()
        self.doing = Actions(self)
        self._connect()
        self._timer = QtCore.QTimer(self)
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self.tick)
        self._timer.start(TICK_MS)
        self._show_condition()

    # -- building -----------------------------------------------------------------------------------------------

    def _build(self) -> None:
        ground = QtWidgets.QWidget()
        ground.setObjectName("ground")
        ground.setStyleSheet(SHEET)
        self.setCentralWidget(ground)
        column = QtWidgets.QVBoxLayout(ground)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        column.addWidget(self._build_header())
        self.canvas = Canvas()
        self.field_panel, self.sperm_panel = FieldPanel(), SpermPanel()
        self.side = QtWidgets.QSplitter(Qt.Orientation.Vertical)
        self.side.addWidget(self.field_panel)
        self.side.addWidget(self.sperm_panel)
        self.side.setChildrenCollapsible(False)
        self.side.setSizes([308, 424])
        self.side.setStretchFactor(0, 1)
        self.side.setStretchFactor(1, 2)
        self.side.setMinimumWidth(360)
        self.panes = QtWidgets.QSplitter(Qt.Orientation.Horizontal)
        self.panes.addWidget(self.canvas)
        self.panes.addWidget(self.side)
        self.panes.setChildrenCollapsible(False)
        self.panes.setStretchFactor(0, 1)
        self.panes.setStretchFactor(1, 0)
        self.panes.setSizes([862, 416])
        for splitter in (self.side, self.panes):
            splitter.setHandleWidth(4)
        column.addWidget(self.panes, 1)
        self.transport = Transport()
        column.addWidget(self.transport)
        self.overlay = KeysOverlay(ground)

    def _build_header(self) -> QtWidgets.QWidget:
        header = QtWidgets.QWidget()
        header.setObjectName("panel")
        header.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        header.setFixedHeight(40)
        row = QtWidgets.QHBoxLayout(header)
        row.setContentsMargins(14, 0, 14, 0)
        row.setSpacing(10)
        self._title = label("casa", "name")
        self._badge = label("", "badge")
        self._badge.setFixedHeight(24)
        self._message = label("", "small")
        self._message.setObjectName("message")
        self._message.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Preferred)
        row.addWidget(self._title)
        row.addWidget(self._badge, 0, Qt.AlignmentFlag.AlignVCenter)
        row.addWidget(self._message, 1)
        self._facts = label("", "small")
        self._facts.setTextFormat(Qt.TextFormat.RichText)
        row.addWidget(self._facts)
        self._line = soft_line()
        row.addWidget(self._line)
        self._rate = label("", "small")
        self._rate.setMinimumWidth(78)
        self._rate.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._rate.setToolTip("Pictures drawn a second, and how long one takes")
        row.addWidget(self._rate)
        return header

    def _connect(self) -> None:
        self.canvas.picked.connect(self.choose)
        self.canvas.paired.connect(self.choose_second)
        self.transport.wanted.connect(self.do)
        self.transport.scrubber.moved.connect(lambda step: self._with_recording(lambda feed: feed.seek(step)))
        self.sperm_panel.wanted.connect(self.do)
        for key in KEYS:
            for sequence in key_sequences(key):
                shortcut = QtGui.QShortcut(sequence, self)
                shortcut.setAutoRepeat(key.group == "Play" and key.action != "play")
                shortcut.activated.connect(lambda name=key.action: self.do(name))

    # -- feeds --------------------------------------------------------------------------------------------------

    def open(self, what: str) -> None:
        """Show a recording or a running session in place of what is shown."""
        try:
            feed = self._open_feed(what)
        except CasaError as error:
            self.say(str(error), warn=True)
            if self.feed is None:
                self._condition = Condition(FeedState.FAILED, "This cannot be shown", str(error))
                self._show_condition()
            return
        if self.feed is not None:
            self.feed.close()
        self.feed, self.view, self._prepared, self.figures = feed, None, None, None
        self.paused_live = False
        self.choose(-1)
        self.setWindowTitle(f"{feed.name} – casa")
        self._timer.setInterval(TICK_MS if feed.can_seek else LIVE_TICK_MS)
        self.transport.set_seekable(feed.can_seek)
        self.sperm_panel.can_correct = feed.can_correct
        self.tick()

    @property
    def recording(self) -> RecordingFeed | None:
        """The feed, where it is a recording."""
        return self.feed if isinstance(self.feed, RecordingFeed) else None

    def _with_recording(self, work: Callable[[RecordingFeed], None]) -> None:
        if self.recording is not None and self.recording.session is not None:
            work(self.recording)

    def closeEvent(self, event: QtGui.QCloseEvent) -> None:  # noqa: D102
        self._timer.stop()
        if self.feed is not None:
            self.feed.close()
            self.feed = None
        event.accept()

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:  # noqa: D102
        super().resizeEvent(event)
        ground = self.centralWidget()
        if ground is not None:
            self.overlay.setGeometry(ground.rect())

    def pause_live(self, on: bool) -> None:
        """Let the picture of a running session stand still; the session goes on."""
        self.paused_live = on

    # -- what goes on all the time ------------------------------------------------------------------------------

    def tick(self) -> None:
        """Look for something new and show it; takes a few milliseconds at most."""
        now = time.monotonic()
        feed = self.feed
        if feed is not None:
            self._condition = feed.condition()
            view = self.view if self.paused_live and self.view is not None else feed.view(now)
            if view is not None:
                self.view = view
            recording = self.recording
            self.canvas.um_per_px = feed.um_per_px
            for words, warn in feed.news():
                self.say(words, warn=warn)
            self.canvas.smooth = recording is None or not recording.playing
            if recording is not None and self._prepared is not recording.session and recording.session is not None:
                self._prepare(recording)
            if recording is not None and self.view is not None:
                self._show_position(recording, self.view)
            elif self.view is not None:
                time_text = _clock(self.view.t_s)
                self.transport.show_state(time_text, f"frame {self.view.frame}", not self.paused_live, 1.0)
        self.canvas.show_view(self.view if feed is not None else None, self._condition)
        paused = self.recording is not None and not self.recording.playing
        if now - self._last_figures >= (FIGURES_MS if not paused else FIGURES_MS / 2) / 1e3:
            self._last_figures = now
            self._show_figures()
        if self._message_until and now > self._message_until:
            self._message_until = 0.0
            self._show_standing_message()

    def _prepare(self, recording: RecordingFeed) -> None:
        session = recording.session
        assert session is not None
        self._prepared = session
        lost = np.flatnonzero(np.isin(session.steps.status, ["dropped", "failed"]))
        self.transport.scrubber.set_steps(len(session.steps), lost, recording.picture_steps)
        self._show_standing_message()

    def _show_position(self, recording: RecordingFeed, view: View) -> None:
        session = recording.session
        if session is None:
            return
        steps = session.steps
        marks = steps.at_key(
            np.array([2 * e.arguments["frame"] + e.arguments["field"] for e in recording.tracks.marks], np.int64)
        )
        span = None
        if self.sperm is not None:
            t_s = (steps.t_ns - steps.t_ns[0]) / 1e9
            span = (
                int(np.searchsorted(t_s, self.sperm.first_s - 1e-9)),
                int(np.searchsorted(t_s, self.sperm.last_s - 1e-9)),
            )
        self.transport.scrubber.set_position(view.step, [int(m) for m in marks if m >= 0], span)
        field = " second field" if view.field else ""
        self.transport.show_state(
            f"{_clock(view.t_s)} / {_clock(session.duration_s)}", f"frame {view.frame}{field}", recording.playing,
            recording.speed,
        )  # fmt: skip

    def _show_figures(self) -> None:
        feed = self.feed
        if feed is None:
            self._show_condition()
            return
        self.figures = feed.figures()
        self.sperm = feed.sperm(self.canvas.selected) if self.canvas.selected >= 0 else None
        self.field_panel.show_figures(self.figures, self.sperm.kinematics if self.sperm else {})
        recording = self.recording
        no_clip = "no pictures of this session" if recording is not None else "waiting for pictures"
        scale = (self.canvas.um_per_px, "µm") if self.canvas.um_per_px else None
        self.sperm_panel.set_join_ready(self.canvas.second >= 0)
        if self.sperm is None and self.canvas.selected >= 0:
            self.sperm_panel.show_hint(f"Sperm {self.canvas.selected} is not there.")
        elif self.canvas.selected < 0:
            self.sperm_panel.show_hint("Click a sperm, or press N,\nto see its clip, path and figures.")
        self.sperm_panel.show_sperm(self.sperm, scale, no_clip, feed.nothing())
        self._show_condition()
        self._show_rate()
        if recording is not None and not self._message_until:
            self._show_standing_message()

    def _show_rate(self) -> None:
        times = list(self.canvas.paint_times)
        recent = [t for t in times if t > time.perf_counter() - 1.0]
        took = float(np.median(self.canvas.paint_ms)) if self.canvas.paint_ms else 0.0
        shown = len(recent) > 3
        set_text(self._rate, f"{len(recent)} fps · {took:.1f} ms" if shown else "")
        self._line.setVisible(shown)

    def _show_condition(self) -> None:
        feed, figures = self.feed, self.figures
        set_text(self._title, feed.name if feed else "casa")
        recording = self.recording
        if recording is not None and recording.session is not None:
            session = recording.session
            tracks = recording.tracks
            changes = len(tracks.log.active) if tracks.log else 0
            words = {"complete": "recorded", "recording": "being written"}.get(session.status, session.status)
            if is_simulated(session.source):
                words = f"simulated · {words}"
            if changes:
                words += f" · {changes} correction{'s' if changes > 1 else ''}" + (
                    "" if tracks.corrected else " hidden"
                )
        else:
            words = {
                FeedState.LOADING: "opening", FeedState.READY: "live", FeedState.WAITING: "no picture",
                FeedState.FAILED: "error",
            }[self._condition.state] if feed else ""  # fmt: skip
        if self.paused_live:
            words += " · paused"
        set_text(self._badge, words)
        self._badge.setVisible(bool(words))
        facts = ""
        if figures is not None:
            lost = f"<b style='color:#ff8a7a'>{figures.lost} lost</b>" if figures.lost else "none lost"
            facts = f"{figures.captured:,} frames, {lost}"
            rate = feed.rate_text if feed else ""
            facts = f"{rate} &nbsp; {facts}" if rate else facts
        set_text(self._facts, facts)

    # -- saying things ------------------------------------------------------------------------------------------

    def say(self, words: str, warn: bool = False, seconds: float = 5.0) -> None:
        """Say a line in the header for some seconds."""
        self._message.setProperty("kind", "warn" if warn else "small")
        self._message.style().unpolish(self._message)
        self._message.style().polish(self._message)
        width = max(self._message.width(), 200)
        metrics = QtGui.QFontMetrics(self._message.font())
        set_text(self._message, metrics.elidedText(words, Qt.TextElideMode.ElideRight, width))
        self._message.setToolTip(words)
        self._message_until = time.monotonic() + seconds if words else 0.0

    def _show_standing_message(self) -> None:
        recording = self.recording
        words, busy = "", ""
        if recording is not None:
            words = recording.picture_note
            if recording.session is not None:
                words, busy = recording.tracks.error or words, recording.tracks.busy
            busy = busy or (words if words == OPENING else "")
        words = f"{busy.removesuffix(' …')} …" if busy else words
        if words != self.message:
            self.say(words, warn=bool(words) and not busy)
            self._message_until = 0.0

    @property
    def message(self) -> str:
        """What is said at the moment, whole."""
        return self._message.toolTip()

    # -- choosing -----------------------------------------------------------------------------------------------

    def choose(self, track_id: int) -> None:
        """Choose a sperm, or none with -1."""
        if track_id != self.canvas.selected:
            self.canvas.second = -1
        self.canvas.selected = track_id
        if track_id < 0:
            self.canvas.follow = False
            self._with_recording(lambda feed: feed.forget_clip())
        self.canvas.update()
        self._show_figures()

    def choose_second(self, track_id: int) -> None:
        """Choose the sperm to join with."""
        if self.canvas.selected < 0 or track_id == self.canvas.selected:
            self.choose(track_id)
            return
        self.canvas.second = track_id
        self.canvas.update()
        self.sperm_panel.set_join_ready(True)
        if self.recording is not None:
            self.say(f"sperm {self.canvas.selected} and {track_id}: Ctrl+J joins them")

    def do(self, action: str) -> None:
        """Carry out an action by its name in casa.viewer.keys; what cannot be done is said."""
        key = next((key for key in KEYS if key.action == action), None)
        if key is None or (key.recording_only and self.recording is None):
            return
        try:
            getattr(self.doing, action)()
        except CasaError as error:
            self.say(str(error), warn=True, seconds=9.0)
        self.tick()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(seconds, 0.0), 60)
    return f"{int(minutes)}:{rest:06.3f}"

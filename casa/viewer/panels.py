"""The panels beside the picture: the figures of the field, and those of one sperm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Qt

from casa.types import KinematicsFlag
from casa.viewer import palette
from casa.viewer.cell_charts import ClipPlayer, GradeBars
from casa.viewer.charts import ClipStrip, Histogram, MotilityBar, PathPlot
from casa.viewer.feed import FieldFigures, SpermFigures
from casa.viewer.head_chart import HeadPicture
from casa.viewer.palette import SHADE_COLOURS, SHADE_NAMES, SHADES

SPEEDS = ("vcl", "vsl", "vap")
_FLAGS = {
    KinematicsFlag.SHORT: "seen for less than a second",
    KinematicsFlag.LOW_FRAME_RATE: "below 50 images/s: ALH and BCF not trustworthy",
    KinematicsFlag.GAPS: "missed for moments",
    KinematicsFlag.BCF_NEAR_NYQUIST: "BCF near the limit of the frame rate",
    KinematicsFlag.TOO_FEW_POINTS: "too few points for VAP, ALH and BCF",
}


def label(words: str = "", kind: str = "") -> QtWidgets.QLabel:
    """A line of text in one of the style sheet's kinds."""
    made = QtWidgets.QLabel(words)
    if kind:
        made.setProperty("kind", kind)
    return made


def set_text(widget: QtWidgets.QLabel, words: str) -> None:
    """Change a label only where it changes, so that nothing is laid out for nothing."""
    if widget.text() != words:
        widget.setText(words)


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """A figure with its unit; a dash where it is not known."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.{digits}f}{' ' + unit if unit else ''}"


class FieldPanel(QtWidgets.QWidget):
    """Counts by grade, motility, concentration, and the velocities' histogram."""

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.setMinimumHeight(308)
        self.speed = "vcl"
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(14, 10, 14, 8)
        column.setSpacing(5)
        grid = QtWidgets.QGridLayout()
        grid.setHorizontalSpacing(18)
        grid.setVerticalSpacing(0)
        self._big: dict[str, QtWidgets.QLabel] = {}
        for at, (key, name) in enumerate(
            (("pr", "Progressive (PR)"), ("concentration", "Concentration"), ("tracks", "Sperm tracked"))
        ):
            grid.addWidget(label(name, "title"), 0, at)
            self._big[key] = label("–", "big")
            grid.addWidget(self._big[key], 1, at)
            grid.setColumnStretch(at, 1)
        column.addLayout(grid)
        self._why = label("", "small")
        self._why.setWordWrap(True)
        column.addWidget(self._why)
        self._bar = MotilityBar()
        column.addWidget(self._bar)
        self._now = label("", "small")
        self._now.setTextFormat(Qt.TextFormat.RichText)
        column.addWidget(self._now)
        self._so_far = label("", "small")
        self._so_far.setTextFormat(Qt.TextFormat.RichText)
        column.addWidget(self._so_far)
        row = QtWidgets.QHBoxLayout()
        row.setSpacing(4)
        self._histogram_name = label("", "title")
        row.addWidget(self._histogram_name, 1)
        self._buttons = QtWidgets.QButtonGroup(self)
        for name in SPEEDS:
            button = QtWidgets.QToolButton()
            button.setText(name.upper())
            button.setCheckable(True)
            button.setChecked(name == self.speed)
            button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            button.setToolTip(f"Histogram of {name.upper()} (V changes it)")
            button.clicked.connect(lambda _, n=name: self.set_speed(n))
            self._buttons.addButton(button)
            row.addWidget(button)
        column.addLayout(row)
        self._histogram = Histogram()
        column.addWidget(self._histogram, 1)
        self._figures: FieldFigures | None = None
        self._own: Mapping[str, float] = {}

    def set_speed(self, name: str) -> None:
        """Which velocity the histogram shows."""
        self.speed = name
        for button in self._buttons.buttons():
            button.setChecked(button.text() == name.upper())
        self.show_figures(self._figures, self._own)

    def next_speed(self) -> None:
        """The next velocity."""
        self.set_speed(SPEEDS[(SPEEDS.index(self.speed) + 1) % len(SPEEDS)])

    def show_figures(self, figures: FieldFigures | None, own: Mapping[str, float]) -> None:
        """The field's figures; ``own`` are the chosen sperm's kinematics."""
        self._figures, self._own = figures, own
        if figures is None:
            return
        summary = figures.summary
        percent = summary.motility_percent if summary else {}
        set_text(self._big["pr"], number(percent.get("pr"), 0, "%"))
        set_text(self._big["concentration"], number(summary.concentration_m_per_ml if summary else None, 1, "M/mL"))
        set_text(self._big["tracks"], str(summary.n_tracks) if summary else str(int(figures.so_far.sum())))
        set_text(self._why, self._reason(figures))
        self._why.setVisible(bool(self._why.text()))
        self._bar.set_percent(percent)
        set_text(self._now, counts_text("In view", figures.in_view.tolist()))
        set_text(self._so_far, counts_text("So far", figures.so_far.tolist()))
        unit = figures.unit
        set_text(self._histogram_name, f"{self.speed.upper()} of tracks, {unit}")
        key = f"{self.speed}_{'um' if figures.calibration else 'px'}_s"
        self._histogram.set_values(figures.speeds[self.speed], figures.shade, own.get(key))

    def _reason(self, figures: FieldFigures) -> str:
        if figures.note:
            return figures.note
        if figures.calibration is None:
            return "Not calibrated: speeds are in px/s, motility and concentration cannot be known."
        if figures.calibration.chamber_depth_um is None:
            return "Concentration is not known: the calibration has no chamber depth."
        if not figures.calibration.verified:
            return f"The calibration “{figures.calibration.name}” is not verified."
        return ""


def counts_text(name: str, counts: Sequence[int]) -> str:
    """Counts by grade in their colours, as rich text."""
    parts = []
    for count, shade in zip(counts, SHADES, strict=True):
        if shade in "abcd" or count:
            word = shade if shade in "abcd" else {"u": "ungraded", "x": "debris"}[shade]
            parts.append(f"<span style='color:{SHADE_COLOURS[shade]};font-weight:600'>{word}</span>&nbsp;{count}")
    return f"{name} <b>{sum(counts)}</b> &nbsp; {'&nbsp;&nbsp;'.join(parts)}"


class SpermPanel(QtWidgets.QScrollArea):
    """One sperm: its clip, path, kinematics, grade distribution and morphology.

    Signals
    -------
    wanted(str) : a correction was asked for: join, split, delete, debris.
    """

    wanted = QtCore.Signal(str)
    _ROWS = (
        ("VCL", "vcl_{u}_s", 1, "{u}/s"), ("VSL", "vsl_{u}_s", 1, "{u}/s"), ("VAP", "vap_{u}_s", 1, "{u}/s"),
        ("LIN", "lin", 2, ""), ("STR", "str", 2, ""), ("WOB", "wob", 2, ""), ("ALH", "alh_mean_{u}", 1, "{u}"),
        ("BCF", "bcf_hz", 1, "Hz"), ("MAD", "mad_deg", 0, "°"),
    )  # fmt: skip
    _CHANGES = (
        ("split", "Split", "Split this track at the present frame (Ctrl+T)"),
        ("join", "Join", "Join with the second sperm: Ctrl+click one, then Ctrl+J"),
        ("debris", "Debris", "This is debris, not a sperm (Ctrl+D)"),
        ("delete", "Delete", "This is nothing: delete the track (Delete)"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("panel")
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setMinimumHeight(160)
        inside = QtWidgets.QWidget()
        column = QtWidgets.QVBoxLayout(inside)
        column.setContentsMargins(0, 0, 0, 0)
        self.setWidget(inside)
        hint = label("Click a sperm, or press N,\nto see its clip, path and figures.", "soft")
        hint.setObjectName("soft")
        hint.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._hint = hint
        column.addWidget(hint, 1)
        self._body = self._build()
        self._body.hide()
        column.addWidget(self._body)
        self.can_correct = False

    def _build(self) -> QtWidgets.QWidget:
        body = QtWidgets.QWidget()
        column = QtWidgets.QVBoxLayout(body)
        column.setContentsMargins(14, 8, 14, 8)
        column.setSpacing(5)
        row = QtWidgets.QHBoxLayout()
        row.setSpacing(8)
        self._name = label("", "name")
        self._name.setTextFormat(Qt.TextFormat.RichText)
        row.addWidget(self._name, 1)
        self._seen = label("", "small")
        row.addWidget(self._seen)
        column.addLayout(row)
        self._clip = ClipStrip()
        column.addWidget(self._clip)
        middle = QtWidgets.QHBoxLayout()
        middle.setSpacing(10)
        self._path = PathPlot()
        self._path.setMinimumWidth(140)
        self._path.setFixedHeight(154)
        middle.addWidget(self._path, 5)
        grid = QtWidgets.QGridLayout()
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(0)
        self._values: dict[str, QtWidgets.QLabel] = {}
        for at, (name, *_) in enumerate(self._ROWS):
            grid.addWidget(label(name, "small"), at, 0)
            value = label("–", "number")
            value.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            grid.addWidget(value, at, 1)
            self._values[name] = value
        grid.setColumnStretch(1, 1)
        middle.addLayout(grid, 4)
        column.addLayout(middle)
        self._flags = label("", "warn")
        self._flags.setWordWrap(True)
        column.addWidget(self._flags)
        self._networks = QtWidgets.QWidget()
        rows = QtWidgets.QVBoxLayout(self._networks)
        rows.setContentsMargins(0, 0, 0, 0)
        pair = QtWidgets.QHBoxLayout()
        pair.setSpacing(10)
        rows.addLayout(pair)
        self.player, self._grades, self._head = ClipPlayer(), GradeBars(), HeadPicture()
        self.player.setToolTip("The clip that was graded; A shows and hides where the network looked")
        charts = (("Graded clip", self.player, 3), ("Expert grades (network)", self._grades, 4),
                  ("Head morphology", self._head, 4))  # fmt: skip
        self._parts: list[QtWidgets.QWidget] = []
        for name, chart, wide in charts:
            part = QtWidgets.QWidget()
            inside = QtWidgets.QVBoxLayout(part)
            inside.setContentsMargins(0, 0, 0, 0)
            inside.setSpacing(3)
            inside.addWidget(label(name, "title"))
            inside.addWidget(chart, 1)
            pair.addWidget(part, wide) if chart is not self._head else rows.addWidget(part)
            self._parts.append(part)
        column.insertWidget(1, self._networks)  # what was found in a sperm comes before how it moves
        self._nothing = label("", "small")
        column.addWidget(self._nothing)
        self._changes = QtWidgets.QWidget()
        buttons = QtWidgets.QHBoxLayout(self._changes)
        buttons.setContentsMargins(0, 2, 0, 0)
        buttons.setSpacing(6)
        for action, name, tip in self._CHANGES:
            button = QtWidgets.QPushButton(name)
            button.setToolTip(tip)
            button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            button.clicked.connect(lambda _=False, a=action: self.wanted.emit(a))
            button.setObjectName(f"change-{action}")
            buttons.addWidget(button, 1)
        column.addWidget(self._changes)
        column.addStretch(1)
        return body

    def show_hint(self, words: str) -> None:
        """What is said while no sperm is chosen."""
        set_text(self._hint, words)

    def show_sperm(
        self, sperm: SpermFigures | None, scale: tuple[float, str] | None, no_clip: str, nothing: tuple[str, str]
    ) -> None:
        """What is known of a sperm; ``scale`` um a px, or None; ``nothing`` is said without grades, and morphology."""
        self._hint.setVisible(sperm is None)
        self._body.setVisible(sperm is not None)
        if sperm is None:
            return
        shade = SHADES[sperm.shade]
        letter = (
            f"<span style='color:{SHADE_COLOURS[shade]}'>{shade if shade in 'abcd' else ''} {SHADE_NAMES[shade]}</span>"
        )
        set_text(self._name, f"Sperm {sperm.track_id} &nbsp; {letter}")
        set_text(self._seen, f"{sperm.first_s:.2f}–{sperm.last_s:.2f} s")
        self._clip.set_clip(sperm.clip, sperm.clip_here, no_clip)
        if len(sperm.path):
            self._path.set_path(sperm.path, min(sperm.here, len(sperm.path) - 1), shade, scale or (1.0, "px"))
        unit = "um" if scale else "px"
        shown = "µm" if scale else "px"
        for name, key, digits, words in self._ROWS:
            value = sperm.kinematics.get(key.format(u=unit))
            set_text(self._values[name], number(value, digits, words.format(u=shown)))
        flags = [words for bit, words in _FLAGS.items() if sperm.flags & bit]
        if not sperm.kinematics:
            flags = ["not measured (yet)"]
        set_text(self._flags, "; ".join(flags))
        self._flags.setVisible(bool(flags))
        has_networks = sperm.grades is not None or sperm.morphology is not None
        self._networks.setVisible(has_networks)
        known = (len(sperm.graded_clip) > 0, sperm.grades is not None, sperm.morphology is not None)
        missing = " · ".join(words for words, there in zip(nothing, known[1:], strict=True) if words and not there)
        set_text(self._nothing, missing)
        self._nothing.setVisible(bool(missing))
        for part, shown in zip(self._parts, known, strict=True):
            part.setVisible(shown)
        self.player.set_clip(sperm.graded_clip, sperm.attention)
        self._grades.set_shares(sperm.grades, nothing[0], sperm.grade_parts)
        self._head.set_figures(sperm.morphology, nothing[1])
        self._changes.setVisible(self.can_correct)

    def set_join_ready(self, ready: bool) -> None:
        """Whether a second sperm is chosen."""
        button = self._changes.findChild(QtWidgets.QPushButton, "change-join")
        if button is not None:
            button.setEnabled(ready)


def soft_line() -> QtWidgets.QFrame:
    """A thin line between things."""
    made = QtWidgets.QFrame()
    made.setFixedWidth(1)
    made.setStyleSheet(f"background: {palette.LINE};")
    return made

"""Colours and words of the viewer. The grades' colours are those of the report's overlay, told apart by all readers.

Grades are also told by letter everywhere, so that no colour has to be seen to be understood. Knows no Qt.
"""

from __future__ import annotations

from casa.types import MOTILITY_GRADES

#: What a track can be shown as, in this order: WHO grades, not graded, debris (marked by hand).
SHADES = (*MOTILITY_GRADES, "u", "x")
UNGRADED, DEBRIS = SHADES.index("u"), SHADES.index("x")

#: ``.on-a`` … ``.on-u`` of casa/report/templates/report.css; debris is this viewer's own.
SHADE_COLOURS = {"a": "#5fc3ff", "b": "#3fe0a4", "c": "#ffc04d", "d": "#f2a3dc", "u": "#e6eaee", "x": "#8d979f"}
SHADE_NAMES = {
    "a": "rapid progressive",
    "b": "slow progressive",
    "c": "non-progressive",
    "d": "immotile",
    "u": "not graded",
    "x": "debris",
}

#: ``.casing`` of the same style sheet: what lies under a coloured line, so that it shows on bright and dark pictures.
CASING = "#0b1118"

GROUND = "#0e1319"
PANEL = "#151c24"
RAISED = "#1e2731"
LINE = "#2c3742"
TEXT = "#e4eaf0"
SOFT = "#9aa8b5"
FAINT = "#65727f"
ACCENT = "#8fc7f2"
WARN = "#ffc04d"
ALARM = "#ff8a7a"
FINE = "#3fe0a4"


def shade_index(grade: str) -> int:
    """Position in SHADES of a motility grade; "" is not graded."""
    return SHADES.index(grade) if grade in MOTILITY_GRADES else UNGRADED

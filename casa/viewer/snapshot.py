"""Snapshots: the picture with what is drawn over it as PNG, and what is shown as JSON beside it."""

from __future__ import annotations

import json
import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PySide6 import QtCore, QtGui

from casa.errors import CasaError
from casa.viewer import palette
from casa.viewer.canvas import Canvas, image_of
from casa.viewer.feed import FieldFigures, SpermFigures, View
from casa.viewer.palette import SHADES

#: The picture is magnified to about this width, so that lines and numbers are as on the screen.
WIDTH_PX = 1280


def describe(
    view: View, figures: FieldFigures | None, sperm: SpermFigures | None, about: dict[str, Any], who: str
) -> dict[str, Any]:
    """What is shown, ready for JSON; NaN is null."""
    summary = figures.summary if figures else None
    return {
        "format": "casa-snapshot",
        "version": 1,
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "who": who,
        **about,
        "frame": view.frame,
        "field": view.field,
        "t_s": round(view.t_s, 6),
        "picture": view.image is not None and not view.stale,
        "note": view.note,
        "sperm_in_view": [
            {
                "track_id": int(track),
                "motility_grade": SHADES[shade] if SHADES[shade] in "abcd" else None,
                "debris": SHADES[shade] == "x",
                "box_px": [round(float(v), 2) for v in box],
                "predicted": not measured,
            }
            for track, shade, box, measured in zip(
                view.track_id.tolist(), view.shade.tolist(), view.box, view.measured.tolist(), strict=True
            )
        ],
        "motility_percent": summary.motility_percent if summary else None,
        "concentration_m_per_ml": summary.concentration_m_per_ml if summary else None,
        "chosen": None
        if sperm is None
        else {
            "track_id": sperm.track_id,
            "kinematics": {k: v if math.isfinite(v) else None for k, v in sperm.kinematics.items()},
        },
    }


def take_snapshot(canvas: Canvas, view: View, what: dict[str, Any], folder: Path, stem: str) -> Path:
    """Write STEM_frameN.png and .json into ``folder`` under a name that is free; gives the picture's path.

    Raises
    ------
    CasaError : it cannot be written.
    """
    scale = max(1, round(WIDTH_PX / max(view.width_px, 1)))
    picture = QtGui.QImage(view.width_px * scale, view.height_px * scale, QtGui.QImage.Format.Format_RGB32)
    picture.fill(QtGui.QColor(palette.GROUND))
    painter = QtGui.QPainter(picture)
    if view.image is not None and not view.stale:
        painter.setRenderHint(QtGui.QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawImage(QtCore.QRectF(picture.rect()), image_of(view.image))
    canvas.paint_overlay(painter, view, float(scale), (0.0, 0.0), 1.0)
    painter.end()
    text = json.dumps(what, indent=1, allow_nan=False)
    picture.setText("casa", text)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = _free_name(folder, f"{stem}_frame{view.frame:06d}")
        if not picture.save(str(path)):
            raise CasaError(f"{path}: the snapshot cannot be written; free space or give another --snapshots folder")
        path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise CasaError(f"{folder}: the snapshot cannot be written ({error.strerror or error})") from error
    return path


def _free_name(folder: Path, stem: str) -> Path:
    """STEM.png, or STEM_2.png, … : reserved by making it, so that two viewers cannot take the same."""
    number = 1
    while True:
        path = folder / (f"{stem}.png" if number == 1 else f"{stem}_{number}.png")
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            return path
        except FileExistsError:
            number += 1

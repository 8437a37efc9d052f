"""Where the figures come from: source, time, scale, model, settings, and what of it was measured or assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from casa.report import texts
from casa.report.figures import Timing
from casa.types import Calibration, FrameAccount, SourceInfo, Summary


@dataclass(frozen=True, slots=True)
class Item:
    """A line of the provenance table; ``known_by`` says how the value came to be known."""

    label: str
    value: str
    known_by: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Lines that belong together."""

    title: str
    items: tuple[Item, ...]


def _given(value: Any) -> str:
    return texts.NOT_KNOWN if value in (None, "") else str(value)


def source_group(source: SourceInfo, session: Mapping[str, Any], timing: Timing) -> Group:
    """The recording's source and its clock."""
    nominal = f"{source.fps_hz:.4g} images/s" if source.fps_hz else texts.NOT_KNOWN
    rate = f"{timing.fps_hz:.4g} images/s" if timing.fps_hz else texts.NOT_KNOWN
    known_by = texts.KNOWN_BY.get(source.timestamps, source.timestamps)
    digest = (session.get("source") or {}).get("sha256")
    return Group(
        "Source and time",
        (
            Item("Source", source.uri),
            Item("SHA-256 of the source", _given(digest), "computed" if digest else ""),
            Item(
                "Picture size",
                f"{source.width_px} × {source.height_px} px" + (", interlaced" if source.interlaced else ""),
            ),
            Item("Nominal frame rate", nominal, "stated by the source"),
            Item("Rate of analysed images", rate, known_by),
            Item("Span of the recording", f"{timing.duration_s:.2f} s", known_by),
        ),
    )


def scale_group(calibration: Calibration | None, speeds_um_s: Mapping[str, float] | None = None) -> Group:
    """Calibration and chamber, and what the scale's uncertainty makes of the median speeds (name -> um/s)."""
    if calibration is None:
        items: tuple[Item, ...] = (Item("Calibration", "NONE: results are in pixels", "not given"),)
        return Group("Scale and chamber", items)
    known_by = "verified" if calibration.verified else "entered, NOT VERIFIED"
    u = calibration.uncertainty_percent
    depth = calibration.chamber_depth_um
    factor = calibration.chamber_factor
    beads = calibration.beads_counted_on and f"measured with certified beads on {calibration.beads_counted_on}"
    items = (
        Item("Calibration", calibration.name, known_by),
        Item("Scale, x and y", f"{calibration.um_per_px_x:.5g} and {calibration.um_per_px_y:.5g} µm/px", known_by),
        Item("Uncertainty of the scale", f"± {u:g} %" if u is not None else texts.NOT_KNOWN),
        Item("Chamber depth", f"{depth:g} µm" if depth is not None else texts.NOT_KNOWN, "entered" if depth else ""),
        Item(
            "Chamber factor",
            f"{factor:g}" + (" (no correction)" if factor == 1 else ""),
            beads or ("entered" if factor != 1 else ""),
        ),
    )
    device = " · ".join(one for one in (calibration.microscope, calibration.objective, calibration.camera) if one)
    if device:
        items += (Item("Microscope", device),)
    if (last := calibration.valid_until) is not None:
        items += (Item("Measured on", f"{calibration.measured_on}, valid until {last.isoformat()}"),)
    if calibration.used_by:
        items += (Item("For use by", calibration.used_by),)
    if u is not None and speeds_um_s:
        said = ", ".join(f"{name} {v:.1f} ± {v * u / 100:.2g}" for name, v in speeds_um_s.items())
        items += (Item("Median speeds", f"{said} µm/s (scale)", "uncertainty of the scale alone, about 95 %"),)
    return Group("Scale and chamber", items + ((Item("Note", calibration.note),) if calibration.note else ()))


def model_group(session: Mapping[str, Any]) -> Group:
    """The detector."""
    model = session.get("model") or {}
    runs_on = " · ".join(str(model[key]) for key in ("backend", "device", "precision") if model.get(key))
    scores = model.get("scores") or {}
    said = (
        ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in scores.items())
        if isinstance(scores, Mapping)
        else str(scores)
    )
    items = [
        Item("Detector", _given(model.get("name"))),
        Item("Weights file", _given(model.get("file"))),
        Item(
            "SHA-256 of the weights", _given(model.get("sha256")), "checked when loaded" if model.get("sha256") else ""
        ),
        Item("Licence", _given(model.get("licence"))),
        Item("Model card", _given(model.get("card"))),
        Item("Runs on", _given(runs_on)),
    ]
    if said:
        items.append(Item("Scores in its card", said))
    return Group("Detector", tuple(items))


def method_group(session: Mapping[str, Any], summary: Summary | None, calibration: Calibration | None) -> Group:
    """How paths became figures."""
    settings = (session.get("config") or {}).get("kinematics") or {}
    items = []
    if "average_window_ms" in settings:
        items.append(Item("Averaging window of the path", f"{settings['average_window_ms']:g} ms", "setting"))
    if "grade_window_s" in settings:
        items.append(Item("Window of the motility grade", f"{settings['grade_window_s']:g} s", "setting"))
    if "min_duration_s" in settings:
        items.append(Item("Shortest track measured", f"{settings['min_duration_s']:g} s", "setting"))
    items.append(Item("Tracks", tracks_words(session)))
    items.append(Item("Positions", "as detected; not smoothed; missed frames are left out, not filled in"))
    items.append(Item("Percentages", "weigh each track by its time in view"))
    items.append(
        Item("Concentration", "from the mean number of heads in a frame, the field's area and the chamber's depth")
    )
    if summary is not None:
        jitter = texts.NOT_KNOWN if summary.jitter_px is None else f"{summary.jitter_px:.3g} px (sd per axis)"
        items.append(
            Item(
                "Localisation jitter",
                f"{jitter}, {'corrected for' if summary.jitter_corrected else 'not corrected for'}",
                "estimated",
            )
        )
        if summary.drift_px_s is None:
            drift = texts.NOT_KNOWN
        else:
            x, y = summary.drift_px_s
            drift = f"{x:.3g}, {y:.3g} px/s"
            if calibration is not None:
                drift += f" ({x * calibration.um_per_px_x:.3g}, {y * calibration.um_per_px_y:.3g} µm/s)"
        items.append(
            Item(
                "Drift of the field",
                f"{drift}, {'corrected for' if summary.drift_corrected else 'not corrected for'}",
                "estimated",
            )
        )
        heads = summary.heads_per_frame
        items.append(Item("Heads in a frame, mean", texts.NOT_KNOWN if heads is None else f"{heads:.1f}", "measured"))
        items.append(Item("Time graded, all tracks", f"{summary.graded_time_s:.1f} s", "measured"))
    return Group("Method", tuple(items))


def tracks_words(session: Mapping[str, Any]) -> str:
    """Which tracks the figures are of."""
    match session.get("tracks"):
        case "refined":
            return "refined offline: joined anew across misses"
        case "corrected":
            told = session.get("corrections") or {}
            changes = ", ".join(f"{n} × {action}" for action, n in sorted(told.get("changes", {}).items())) or "none"
            return f"as put out online, then corrected by hand: {changes} (audit of {told.get('audit_lines', 0)} lines)"
        case _:
            return "as put out online, frame by frame"


_CORRECTIONS = {
    "bad_boxes": "detections that were no boxes",
    "boxes_outside": "detections centred outside the picture",
    "refused_frames": "frames refused for their time",
    "missing_frames": "frame numbers left out",
    "misnumbered_frames": "frame numbers that did not rise",
    "restarts": "gaps that ended every track",
}


def frames_group(
    account: FrameAccount, latency: Mapping[str, Any] | None, tracking: Mapping[str, int] | None = None
) -> Group:
    """What became of the frames."""
    items = [
        Item(
            "Frames",
            f"{account.captured:,} captured = {account.processed:,} processed + {account.skipped:,} skipped "
            f"+ {account.dropped:,} dropped + {account.failed:,} failed"
            + ("" if account.balanced else " — DOES NOT ADD UP"),
            "counted",
        )
    ]
    corrected = [f"{tracking[name]:,} {text}" for name, text in _CORRECTIONS.items() if tracking and tracking.get(name)]
    said = texts.NOT_KNOWN if tracking is None else ", ".join(corrected) or "nothing"
    items.append(Item("Left out or corrected in tracking", said, "" if tracking is None else "counted"))
    if latency and latency.get("p50") is not None:
        p99 = latency.get("p99")
        tail = f", 99 % within {p99:.1f} ms" if p99 is not None else ""
        items.append(Item("Time from frame to figures", f"median {latency['p50']:.1f} ms{tail}", "measured"))
    return Group("Frames", tuple(items))


def machine_group(session: Mapping[str, Any], recording_name: str) -> Group:
    """Software, machine and call."""
    machine = session.get("machine") or {}
    cpu = " · ".join(
        part
        for part in (str(machine.get("cpu") or ""), f"{machine['cores']} cores" if machine.get("cores") else "")
        if part
    )
    platform = " · Python ".join(str(machine[key]) for key in ("platform", "python") if machine.get(key))
    return Group(
        "Software",
        (
            Item("casa", _given(session.get("casa_version"))),
            Item("Command", _given(session.get("command"))),
            Item("Recording", recording_name),
            Item("Analysed (UTC)", _given(session.get("created_utc"))),
            Item("Machine", _given(cpu)),
            Item("System", _given(platform)),
        ),
    )


def flat_settings(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Every setting by its dotted name, in the order of the configuration."""
    rows: list[tuple[str, str]] = []
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            rows += flat_settings(value, f"{name}.")
        else:
            rows.append((name, _setting_words(value)))
    return rows


def _setting_words(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_setting_words(part) for part in value) or "–"
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)

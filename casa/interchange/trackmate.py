"""Tracks as a TrackMate file (XML of version 7, which 8 reads too), which Fiji opens and `Load a TrackMate file` reads.

A spot is a head in a picture, an edge joins a track's following pictures, a track carries casa's kinematics as features
of its own (``CASA_…``). TrackMate counts positions from the middle of the first pixel, casa from its corner.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from numpy.typing import NDArray

from casa import __version__
from casa.record import Recording
from casa.record.export import one_picture_a_frame
from casa.types import MOTILITY_GRADES, KinematicsTable, TrackTable

VERSION = "7.14.0"

#: feature, name, short name, dimension, is a whole number
Feature = tuple[str, str, str, str, bool]
_SPOT: tuple[Feature, ...] = (
    ("QUALITY", "Quality", "Quality", "QUALITY", False),
    ("POSITION_X", "X", "X", "POSITION", False),
    ("POSITION_Y", "Y", "Y", "POSITION", False),
    ("POSITION_Z", "Z", "Z", "POSITION", False),
    ("POSITION_T", "T", "T", "TIME", False),
    ("FRAME", "Frame", "Frame", "NONE", True),
    ("RADIUS", "Radius", "R", "LENGTH", False),
    ("VISIBILITY", "Visibility", "Visibility", "NONE", True),
    ("CASA_PREDICTED", "Missed and predicted (casa)", "Predicted", "NONE", True),
)
_EDGE: tuple[Feature, ...] = (
    ("SPOT_SOURCE_ID", "Source spot ID", "Source ID", "NONE", True),
    ("SPOT_TARGET_ID", "Target spot ID", "Target ID", "NONE", True),
    ("LINK_COST", "Edge cost", "Cost", "COST", False),
)
_TRACK: tuple[Feature, ...] = (
    ("TRACK_INDEX", "Track index", "Index", "NONE", True),
    ("TRACK_ID", "Track ID", "ID", "NONE", True),
    ("NUMBER_SPOTS", "Number of spots in track", "N spots", "NONE", True),
    ("NUMBER_GAPS", "Number of gaps", "N gaps", "NONE", True),
    ("LONGEST_GAP", "Longest gap", "Lgst gap", "NONE", True),
    ("TRACK_DURATION", "Track duration", "Duration", "TIME", False),
    ("TRACK_START", "Track start", "Track start", "TIME", False),
    ("TRACK_STOP", "Track stop", "Track stop", "TIME", False),
)
#: casa's figures of a track: column (without its unit), name, dimension.
_FIGURES = (
    ("vcl", "curvilinear velocity VCL", "VELOCITY"),
    ("vsl", "straight-line velocity VSL", "VELOCITY"),
    ("vap", "average-path velocity VAP", "VELOCITY"),
    ("lin", "linearity LIN", "NONE"),
    ("str", "straightness STR", "NONE"),
    ("wob", "wobble WOB", "NONE"),
    ("alh_mean", "mean lateral head displacement ALH", "LENGTH"),
    ("alh_max", "largest lateral head displacement ALH", "LENGTH"),
    ("bcf", "beat-cross frequency BCF (Hz)", "NONE"),  # TrackMate's RATE is per frame
    ("mad", "mean turning angle MAD (degrees)", "NONE"),
)
_CASA: tuple[Feature, ...] = (
    *((f"CASA_{key.upper()}", f"{name} (casa)", key.upper(), dimension, False) for key, name, dimension in _FIGURES),
    ("CASA_GRADE", "motility grade, 1 to 4 for a to d (casa)", "Grade", "NONE", True),
    ("CASA_FLAGS", "flags of the kinematics (casa)", "Flags", "NONE", True),
)


def figure_columns(k: KinematicsTable, calibrated: bool) -> dict[str, NDArray[Any]]:
    """Figures by their names above: in um where calibrated, else in px; grade 1 to 4, 0 where there is none; flags."""
    speed, length = ("um_s", "um") if calibrated else ("px_s", "px")
    units = {"vcl": speed, "vsl": speed, "vap": speed, "alh_mean": length, "alh_max": length, "bcf": "hz", "mad": "deg"}
    columns = {key: getattr(k, f"{key}_{units[key]}" if key in units else key) for key, _, _ in _FIGURES}
    letters = ["", *MOTILITY_GRADES]
    grade = np.array([letters.index(letter) for letter in k.motility_grade.tolist()], np.int64)
    return columns | {"grade": grade, "flags": k.flags}


def write_trackmate(path: Path, recording: Recording) -> None:
    """Write the tracks of a recording; a track of a single picture is a spot without a track, as in TrackMate."""
    with open(path, "w", encoding="utf-8") as stream:
        stream.writelines(line + "\n" for line in _lines(recording))


def _lines(recording: Recording) -> Iterator[str]:
    calibration, source = recording.calibration, recording.source
    um_x, um_y = (calibration.um_per_px_x, calibration.um_per_px_y) if calibration else (1.0, 1.0)
    online = recording.tracks()
    fields = 1 + int(online.field.max(initial=0))  # separated ones are pictures of their own
    n_frames = fields * (int(recording.frames()["frame"].max(initial=0)) + 1)
    tracks = one_picture_a_frame(online)
    tracks = tracks.select(np.lexsort((tracks.track_id, tracks.frame)))
    unit = "micron" if calibration else "pixel"
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    yield f'<TrackMate version="{VERSION}">'
    yield f"  <Log>{escape(_log(recording))}</Log>"
    yield f'  <Model spatialunits="{unit}" timeunits="sec">'
    yield "    <FeatureDeclarations>"
    for kind, features in (("Spot", _SPOT), ("Edge", _EDGE), ("Track", _TRACK + _CASA)):
        yield f"      <{kind}Features>"
        yield from (_declaration(feature) for feature in features)
        yield f"      </{kind}Features>"
    yield "    </FeatureDeclarations>"
    yield from _spots(tracks, um_x, um_y)
    yield from _tracks(tracks, recording.kinematics(), calibration is not None)
    yield "  </Model>"
    yield "  <Settings>"
    interval_s = 1 / (source.fps_hz * fields) if source.fps_hz else 1.0
    yield (
        f'    <ImageData filename={quoteattr(Path(source.uri).name)} folder="" width="{source.width_px}"'
        f' height="{source.height_px}" nslices="1" nframes="{n_frames}" pixelwidth="{um_x!r}" pixelheight="{um_y!r}"'
        f' voxeldepth="1.0" timeinterval="{interval_s!r}" />'
    )
    yield (
        f'    <BasicSettings xstart="0" xend="{source.width_px - 1}" ystart="0" yend="{source.height_px - 1}"'
        f' zstart="0" zend="0" tstart="0" tend="{n_frames - 1}" />'
    )
    yield f'    <DetectorSettings DETECTOR_NAME="MANUAL_DETECTOR" RADIUS="{5 * um_x!r}" />'
    yield '    <InitialSpotFilter feature="QUALITY" value="-1.0" isabove="true" />'
    yield "    <SpotFilterCollection />"
    yield '    <TrackerSettings TRACKER_NAME="MANUAL_TRACKER" />'
    yield "    <TrackFilterCollection />"
    yield "    <AnalyzerCollection><SpotAnalyzers /><EdgeAnalyzers /><TrackAnalyzers /></AnalyzerCollection>"
    yield "  </Settings>"
    yield '  <GUIState state="ConfigureViews" />'
    yield '  <DisplaySettings>{ "name": "casa" }</DisplaySettings>'
    yield "</TrackMate>"


def _log(recording: Recording) -> str:
    model = recording.session.get("model") or {}
    scale = recording.calibration.name if recording.calibration else "none: pixels"
    return (
        f"Written by casa {__version__} from recording {recording.recording_id}; detector {model.get('name')}, weights"
        f" {model.get('sha256')}; tracks {recording.session.get('tracks', 'online')}; calibration {scale}."
    )


def _declaration(feature: Feature) -> str:
    key, name, short, dimension, whole = feature
    return (
        f"        <Feature feature={quoteattr(key)} name={quoteattr(name)} shortname={quoteattr(short)}"
        f' dimension="{dimension}" isint="{str(whole).lower()}" />'
    )


def _spots(t: TrackTable, um_x: float, um_y: float) -> Iterator[str]:
    """The heads by picture: at the measured centre, or where the head was missed at that of the predicted box."""
    missed = np.isnan(t.x_measured_px)
    x = (np.where(missed, t.cx_px, t.x_measured_px) - 0.5) * um_x
    y = (np.where(missed, t.cy_px, t.y_measured_px) - 0.5) * um_y
    radius = np.sqrt(np.maximum(t.w_px * um_x * t.h_px * um_y, 0)) / 2
    columns = (t.frame, x, y, t.t_ns / 1e9, radius, t.confidence, t.predicted)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    yield f'    <AllSpots nspots="{len(t)}">'
    open_frame = None
    for spot, (frame, at_x, at_y, t_s, r, quality, predicted) in enumerate(rows):
        if frame != open_frame:
            if open_frame is not None:
                yield "      </SpotsInFrame>"
            yield f'      <SpotsInFrame frame="{frame}">'
            open_frame = frame
        yield (
            f'        <Spot ID="{spot}" name="ID{spot}" QUALITY="{quality:.6g}" POSITION_X="{at_x:.6f}"'
            f' POSITION_Y="{at_y:.6f}" POSITION_Z="0.0" POSITION_T="{t_s:.9f}" FRAME="{frame}" RADIUS="{r:.4f}"'
            f' VISIBILITY="1" CASA_PREDICTED="{int(predicted)}" />'
        )
    if open_frame is not None:
        yield "      </SpotsInFrame>"
    yield "    </AllSpots>"


def _tracks(t: TrackTable, k: KinematicsTable, calibrated: bool) -> Iterator[str]:
    """Edges and features of the tracks of two pictures and more, by track."""
    spots = np.lexsort((t.frame, t.track_id))
    groups = np.split(spots, np.flatnonzero(np.diff(t.track_id[spots])) + 1)
    groups = [group for group in groups if len(group) > 1]
    figures = figure_columns(k, calibrated)
    row_of = {track_id: row for row, track_id in enumerate(k.track_id.tolist())}
    yield "    <AllTracks>"
    for index, group in enumerate(groups):
        track_id = int(t.track_id[group[0]])
        known = _track_features(t, group, index) + _figures(figures, row_of.get(track_id))
        yield f'      <Track name="Track_{track_id}" {known}>'
        for source, target in zip(group[:-1].tolist(), group[1:].tolist(), strict=True):
            yield f'        <Edge SPOT_SOURCE_ID="{source}" SPOT_TARGET_ID="{target}" LINK_COST="-1.0" />'
        yield "      </Track>"
    yield "    </AllTracks>"
    yield "    <FilteredTracks>"
    yield from (f'      <TrackID TRACK_ID="{int(t.track_id[group[0]])}" />' for group in groups)
    yield "    </FilteredTracks>"


def _track_features(t: TrackTable, group: NDArray[np.int64], index: int) -> str:
    left_out = np.diff(t.frame[group]) - 1
    start_s, stop_s = t.t_ns[group[0]] / 1e9, t.t_ns[group[-1]] / 1e9
    return (
        f'TRACK_INDEX="{index}" TRACK_ID="{t.track_id[group[0]]}" NUMBER_SPOTS="{len(group)}"'
        f' NUMBER_GAPS="{int((left_out > 0).sum())}" LONGEST_GAP="{int(left_out.max())}"'
        f' TRACK_DURATION="{stop_s - start_s:.9f}" TRACK_START="{start_s:.9f}" TRACK_STOP="{stop_s:.9f}"'
    )


def _figures(figures: dict[str, NDArray[Any]], row: int | None) -> str:
    """Figures of casa as attributes; what is not known is left out."""
    if row is None:
        return ""
    values = {name: column[row].item() for name, column in figures.items()}
    known = {name: value for name, value in values.items() if value == value and (name != "grade" or value)}
    return "".join(f' CASA_{name.upper()}="{value:.9g}"' for name, value in known.items())

"""The data dictionary: what each column of each table is, in which unit, and where it comes from.

The one source of docs/data-dictionary.md, of ``casa export --dictionary`` and of the ``dictionary.csv`` beside exported
tables; a test holds it true and complete for every table that is exported.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from casa.cells import EXPERT_GRADES, ClipFlag
from casa.types import KinematicsFlag


@dataclass(frozen=True, slots=True)
class Column:
    """A column: ``type`` is int64, float64 or text, ``unit`` "" where it has none.

    A ``name`` that ends in ``*`` stands for all that begin so.
    """

    name: str
    type: str
    unit: str
    meaning: str
    source: str


def _bits(flags: type) -> str:
    """The bits of a class of flags in words: "1 SHORT, 2 …"."""
    return ", ".join(f"{bit} {name}" for name, bit in vars(flags).items() if name.isupper())


_WHO = "docs/kinematics.md; WHO 2021, 4.5.1.4"
_WHO_GRADE = "docs/kinematics.md; WHO 2021, 2.4.6.1"
_FRAME = Column("frame", "int64", "", "number of the frame, from 0", "container or camera")
_FIELD = Column("field", "int64", "", "1 for the second field of a frame whose fields were separated, else 0", "source")
_TIME = Column("t_s", "float64", "s", "time of the picture on the source's clock", "container, camera or --fps")
_TRACK = Column("track_id", "int64", "", "number of the track, from 1, never used twice in a session", "tracker")
_CLIP = Column("clip_id", "int64", "", "number of the clip, from 1", "clips")


def _box(source: str, of: str) -> tuple[Column, ...]:
    return (
        Column("cx_px", "float64", "px", f"centre of {of}, from the picture's left edge", source),
        Column("cy_px", "float64", "px", f"centre of {of}, from the picture's upper edge", source),
        Column("w_px", "float64", "px", f"width of {of}", source),
        Column("h_px", "float64", "px", f"height of {of}", source),
    )


def _speed(name: str, meaning: str) -> tuple[Column, Column]:
    return (
        Column(f"{name}_um_s", "float64", "um/s", f"{meaning}; empty where uncalibrated", _WHO),
        Column(f"{name}_px_s", "float64", "px/s", f"{meaning}, in pixels", _WHO),
    )


_VCL, _VCL_PX = _speed("vcl", "curvilinear velocity: length of the measured path over its time")
_VSL, _VSL_PX = _speed("vsl", "straight-line velocity: distance from first to last position over its time")
_VAP, _VAP_PX = _speed("vap", "average-path velocity: length of the averaged path over its time")
_GRADES = {
    "a": "rapid progressive, 25 um/s or more",
    "b": "slow progressive, 5 to below 25 um/s",
    "c": "non-progressive, below 5 um/s",
    "d": "immotile",
}
_ALH = "lateral displacement of the head about its average path, full width (twice the riser)"
_KINEMATICS = (
    _TRACK,
    Column("n_frames", "int64", "", "pictures in which the track was measured", "tracker"),
    Column("duration_s", "float64", "s", "from its first to its last measured picture", "tracker"),
    _VCL, _VSL, _VAP,
    Column("lin", "float64", "fraction", "linearity, VSL / VCL", _WHO),
    Column("str", "float64", "fraction", "straightness, VSL / VAP", _WHO),
    Column("wob", "float64", "fraction", "wobble, VAP / VCL", _WHO),
    Column("alh_mean_um", "float64", "um", f"mean {_ALH}; empty where uncalibrated", _WHO),
    Column("alh_max_um", "float64", "um", f"largest {_ALH}; empty where uncalibrated", _WHO),
    Column("bcf_hz", "float64", "Hz", "beat-cross frequency: how often the path crosses its average path", _WHO),
    Column("mad_deg", "float64", "degrees", "mean absolute turning angle of the measured path", _WHO),
    Column("motility_grade", "text", "", "grade of most of its time; empty: too short, or no scale", _WHO_GRADE),
    _VCL_PX, _VSL_PX, _VAP_PX,
    Column("alh_mean_px", "float64", "px", f"mean {_ALH}, in pixels", _WHO),
    Column("alh_max_px", "float64", "px", f"largest {_ALH}, in pixels", _WHO),
    Column("t_start_s", "float64", "s", "time of its first picture on the source's clock", "tracker"),
    *(Column(f"time_{g}_s", "float64", "s", f"its time in grade {g} ({w})", _WHO_GRADE) for g, w in _GRADES.items()),
    Column("flags", "int64", "bits", f"why to read it with care: {_bits(KinematicsFlag)}", "docs/kinematics.md"),
)  # fmt: skip

_EXPERTS = "network that learnt from a panel of experts, docs/grade.md"
_PARTS = {"": "", "global_": " by the part that sees the whole clip", "spatial_": " by the part that sees form",
          "temporal_": " by the part that sees movement"}  # fmt: skip
_CHOSEN = "docs/morphology.md"

#: Of the table of recordings that `casa batch` makes: figures of one recording, a row each.
_SESSION = "the recording's session, docs/recording.md"
_SUMMARY = "the recording's summary, docs/kinematics.md"
_SHARES = {"a": "grade a", "b": "grade b", "c": "grade c", "d": "grade d", "pr": "progressive, a + b",
           "total": "motile, a + b + c"}  # fmt: skip
_MEDIANS = ("vcl_um_s", "vsl_um_s", "vap_um_s", "vcl_px_s", "vsl_px_s", "vap_px_s", "lin", "str", "wob", "alh_mean_um",
            "alh_mean_px", "bcf_hz", "mad_deg")  # fmt: skip
_UNITS = {column.name: column.unit for column in _KINEMATICS}
_ENDS = {"captured": "captured", "processed": "analysed", "skipped": "left out on purpose",
         "dropped": "lost, since the machine was too slow", "failed": "that could not be read or analysed"}  # fmt: skip
_RECORDINGS = (
    Column("recording", "text", "", "name of the recording in the data set", "casa batch"),
    Column("path", "text", "", "what it was made from", "casa batch"),
    Column("sha256", "text", "", "check sum of the video", _SESSION),
    Column("settings", "text", "", "fingerprint of all that the figures depend on besides the video", "casa batch"),
    Column("width_px", "int64", "px", "width of the picture", "source"),
    Column("height_px", "int64", "px", "height of the picture", "source"),
    Column("fps_hz", "float64", "Hz", "nominal frame rate; no speed uses it", "source"),
    Column("timestamps", "text", "", "where times come from: pts, device, host, assumed, simulated", "source"),
    *(Column(f"frames_{end}", "int64", "", f"frames {said}", _SESSION) for end, said in _ENDS.items()),
    Column("n_tracks", "int64", "", "tracks", _SUMMARY),
    Column("heads_per_frame", "float64", "", "mean number of heads in a picture", _SUMMARY),
    Column("concentration_m_per_ml", "float64", "1e6/mL", "concentration; null without a chamber depth", _SUMMARY),
    *(Column(f"motility_{k}_percent", "float64", "%", f"of graded time: {w}", _SUMMARY) for k, w in _SHARES.items()),
    Column("graded_time_s", "float64", "s", "time graded, all tracks together", _SUMMARY),
    *(Column(f"median_{name}", "float64", _UNITS[name], f"median of {name} over tracks", _WHO) for name in _MEDIANS),
    Column("n_grades", "int64", "", "clips graded; null where grading was off", _EXPERTS),
    *(Column(f"mean_grade_{g.lower()}", "float64", "fraction", f"mean of {g}, clips", _EXPERTS) for g in EXPERT_GRADES),
    Column("n_heads", "int64", "", "tracks whose head was seen; null where morphology was off", _CHOSEN),
    Column("normal_heads_percent", "float64", "%", "normal ones of heads that were classed; a guess where in_domain "
           "of the table morphology is 0", _CHOSEN),
    Column("median_head_length_um", "float64", "um", "median of length_um over tracks", _CHOSEN),
    Column("median_head_width_um", "float64", "um", "median of width_um over tracks", _CHOSEN),
    Column("median_head_ellipticity", "float64", "ratio", "median of ellipticity over tracks", _CHOSEN),
    Column("drift_x_px_s", "float64", "px/s", "drift of the field to the right", _SUMMARY),
    Column("drift_y_px_s", "float64", "px/s", "drift of the field downwards", _SUMMARY),
    Column("jitter_px", "float64", "px", "localisation jitter, sd of each axis", _SUMMARY),
    Column("flags", "text", "", "what to beware of, parted by commas", _SUMMARY),
    Column("calibration", "text", "", "name of the calibration profile; null without one", _SESSION),
    Column("um_per_px_x", "float64", "um/px", "scale along x", "calibration"),
    Column("um_per_px_y", "float64", "um/px", "scale along y", "calibration"),
    Column("chamber_depth_um", "float64", "um", "depth of the chamber", "calibration"),
    Column("model_*", "text", "", "the detector: name, sha256, backend, device, precision", _SESSION),
    Column("casa_version", "text", "", "version of casa that analysed it", _SESSION),
)  # fmt: skip

#: Tables by name: those of `casa export`, and `recordings`, which `casa batch` adds.
TABLES: dict[str, tuple[Column, ...]] = {
    "detections": (
        _FRAME,
        *_box("detector", "the box"),
        Column("confidence", "float64", "fraction", "how sure the detector is, 0 to 1", "detector"),
        Column("class_id", "int64", "", "0 sperm, 1 cluster, 2 small or pinhead", "detector"),
        _TIME,
        _FIELD,
    ),
    "tracks": (
        _FRAME,
        _TRACK,
        *_box("tracker", "the box put out: the detector's, or a predicted one"),
        Column("confidence", "float64", "fraction", "of the detection; 0 where it was missed", "detector"),
        Column("predicted", "int64", "", "1 where the head was missed and its box is predicted, else 0", "tracker"),
        Column("x_measured_px", "float64", "px", "measured centre; empty where missed. Figures use this", "detector"),
        Column("y_measured_px", "float64", "px", "measured centre; empty where missed. Figures use this", "detector"),
        _TIME,
        _FIELD,
    ),
    "kinematics": _KINEMATICS,
    "grades": (
        _CLIP,
        _TRACK,
        Column("frame", "int64", "", "frame of the clip's last picture", "clips"),
        Column("t_s", "float64", "s", "time of the clip's last picture on the source's clock", "clips"),
        *(
            Column(f"{prefix}{grade}", "float64", "fraction", f"share of experts who would say {grade}{part}", _EXPERTS)
            for prefix, part in _PARTS.items()
            for grade in EXPERT_GRADES
        ),
        Column("clip_flags", "int64", "bits", f"of its pictures, or-ed: {_bits(ClipFlag)}", "docs/clips.md"),
    ),
    "morphology": (
        _CLIP,
        _TRACK,
        Column("frame", "int64", "", "frame of the clip's last picture", "clips"),
        Column("n_crops", "int64", "", "sharp crops of the head that the row is the mean of; 0: none", _CHOSEN),
        Column("reason", "text", "", "why there is no crop; empty where there is one", _CHOSEN),
        Column("in_domain", "int64", "", "1 where the network learnt from pictures like it, else 0", _CHOSEN),
        Column("edge_share", "float64", "fraction", "width of its edge over the head's; small is in focus", _CHOSEN),
        Column("length_um", "float64", "um", "length of the head; empty where uncalibrated", _CHOSEN),
        Column("width_um", "float64", "um", "width of the head; empty where uncalibrated", _CHOSEN),
        Column("area_um2", "float64", "um2", "area of the head; empty where uncalibrated", _CHOSEN),
        Column("ellipticity", "float64", "ratio", "length / width", _CHOSEN),
        Column("elongation", "float64", "fraction", "(length - width) / (length + width)", _CHOSEN),
        Column("acrosome_share", "float64", "fraction", "acrosome's share of the head; stained heads", _CHOSEN),
        Column("t_s", "float64", "s", "time of the clip's last picture on the source's clock", "clips"),
        Column("p_*", "float64", "fraction", "probability of the class (part_class where there are several parts)",
               "network, docs/morphology.md"),
    ),
    "recordings": _RECORDINGS,
}  # fmt: skip


def describe(table: str, column: str) -> Column:
    """What a column is. Raises KeyError for one that the dictionary lacks."""
    for known in TABLES[table]:
        if known.name == column or (known.name.endswith("*") and column.startswith(known.name[:-1])):
            return known
    raise KeyError(f"{table}.{column} is not in the data dictionary")


def as_markdown() -> str:
    """The page docs/data-dictionary.md."""
    lines = [
        "# Data dictionary",
        "",
        "What each column of each exported table is; CSV and Parquet have the same columns. Made by",
        "`casa export --dictionary` from `casa/interchange/dictionary.py`. Pixels count from the picture's upper left",
        "corner, which is (0, 0): the middle of the first pixel is (0.5, 0.5). An empty cell (Parquet: null) is what",
        "is not known, and never zero. A column `p_*` stands for all that begin so. In the data sets of `casa batch`",
        "every table has a first column `recording`, the recording's name; `recordings` has a row for each of them,",
        "and the manifest's columns besides.",
    ]
    for table, columns in TABLES.items():
        lines += ["", f"## {table}", "", "| column | type | unit | what | from |", "|---|---|---|---|---|"]
        lines += [f"| `{c.name}` | {c.type} | {c.unit} | {c.meaning} | {c.source} |" for c in columns]
    return "\n".join(lines) + "\n"


def as_rows(tables: list[str] | None = None) -> list[dict[str, str]]:
    """One entry a column, of all tables or those named."""
    return [
        {"table": table, "column": c.name, "type": c.type, "unit": c.unit, "meaning": c.meaning, "source": c.source}
        for table in tables or TABLES
        for c in TABLES[table]
    ]


def write_csv(path: Path, tables: list[str]) -> None:
    """Write the entries of some tables as CSV."""
    import csv

    with open(path, "w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["table", "column", "type", "unit", "meaning", "source"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(as_rows(tables))

"""Every sentence of the report that depends on what was found, and the terms it uses, in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DISCLAIMER = (
    "This report is an aid to a trained person and not a diagnosis. It describes one field of one preparation as "
    "a program saw it. Reference limits are 5th centiles of men whose partners conceived within 12 months; they do "
    "not part fertile from infertile men. Debris can be counted as immotile sperm, and sperm whose paths cross can "
    "be exchanged or counted twice: look at the picture before relying on a figure."
)

NOT_KNOWN = "not known"

#: Of tables and figures that reports of recordings and of samples share: lines of each column's name, and headings.
WHO_COLUMNS = (
    ("Quantity",),
    ("Result",),
    ("95 % interval",),
    ("WHO 2021", "5th centile"),
    ("Result beside the limit",),
)
PROVENANCE_COLUMNS = ("Item", "Value", "How known")
GRADE_COLUMN, TRACKS_COLUMN = "Grade", "Tracks"
MEASURE_COLUMNS = ("Measure", "Tracks", "Median", "Quartiles", "Strict limits", "Within")
INTERVAL, CENTILE = "95 % interval", "WHO 2021 5th centile"
MOTILITY_HEADING, SETTINGS_HEADING, HEADS_HEADING = "Motility", "Settings", "Forms of heads, by a network"
SHARPEST_HEADING = "The sharpest heads"
LEGEND = "Legend"
FOR_INFORMATION = " (for information)"
QUARTILES = "Median, and below it the first to third quartile, over whole tracks."
NOT_TRUSTWORTHY = "† Not trustworthy at this frame rate (below 50 images/s)."
DASH = "– not known."


def histogram_caption(n_tracks: int) -> str:
    """Below the histograms of velocities."""
    return f"Number of tracks by velocity, {n_tracks:,} tracks measured. The dashed line is the median."


@dataclass(frozen=True, slots=True)
class GradeText:
    """A motility grade of WHO 2021, 2.4.6.1, in words."""

    letter: str
    name: str
    limit: str


GRADES = {
    "a": GradeText("a", "rapid progressive", "≥ 25 µm/s"),
    "b": GradeText("b", "slow progressive", "5 to < 25 µm/s"),
    "c": GradeText("c", "non-progressive", "< 5 µm/s"),
    "d": GradeText("d", "immotile", "no active tail movement"),
}
UNGRADED = GradeText("", "not graded", "")

#: WHO 2021, table 8.3: lower 5th centiles.
WHO_LIMITS = {"pr": 30.0, "total": 42.0, "concentration": 16.0}
WHO_NOT_MEASURED = (
    "Not measured by this analysis (WHO 2021 5th centile): semen volume (1.4 mL), total sperm number "
    "(39 million per ejaculate), vitality (54 %), normal forms (4 %)."
)

STATUS = {
    "complete": ("Complete", ""),
    "interrupted": (
        "Interrupted",
        "The session was stopped before its source ended. The figures describe only the part that was analysed.",
    ),
    "failed": (
        "Failed",
        "The session broke off with an error. What follows describes only what had been recorded by then.",
    ),
    "recording": (
        "Unfinished",
        "The recording was never finished: it is still being written, or its session was killed. What follows "
        "describes only what had been recorded by then. Run casa recover on it if no session is writing it.",
    ),
    "recovered": (
        "Recovered",
        "The session was killed and this recording was rebuilt from its journal. It describes only the part that was "
        "analysed, and the last second of that may be missing.",
    ),
}

RECOVERED_WHOLE = (
    "The session ended as it should, but its recording was not completed and was rebuilt from its journal; nothing is "
    "known to be missing."
)

SIMULATED = "This field was computed. No sample was analysed, and the figures say nothing of anyone."

DEFINITIONS = (
    ("VCL", "curvilinear velocity: length of the measured path over time"),
    ("VSL", "straight-line velocity: distance from start to end over time"),
    ("VAP", "average-path velocity: length of the averaged path over time"),
    ("LIN", "linearity, VSL / VCL"),
    ("STR", "straightness, VSL / VAP"),
    ("WOB", "wobble, VAP / VCL"),
    ("ALH", "lateral displacement of the head about its average path, full width (twice the riser)"),
    ("BCF", "rate at which the measured path crosses the average path"),
    ("MAD", "mean absolute turning angle of the measured path"),
)

KNOWN_BY = {
    "pts": "read from the file's timestamps",
    "device": "read from the camera's clock",
    "assumed": "ASSUMED, not measured",
    "simulated": "known: simulated",
}

REASON_NO_SCALE = "no calibration"
REASON_NO_SUMMARY = "the recording ended before its summary was written"
REASON_NO_DEPTH = "the chamber depth is not known"
REASON_NO_TRACKS = "no sperm was tracked long enough"
REASON_NO_FRAMES = "no frame was analysed"


@dataclass(frozen=True, slots=True)
class Note:
    """Something to know before trusting the figures; ``caution`` marks what can make them wrong."""

    title: str
    text: str
    caution: bool = True


def uncalibrated() -> Note:
    """No scale was given."""
    return Note(
        "Not calibrated",
        "No scale was given, so speeds are in pixels per second, and there are no WHO grades and no concentration. "
        "Analyse again with --calibration PROFILE.",
    )


def grades_words(network: str, trained_on: str) -> str:
    """Where expert grades come from, and how far they can be trusted."""
    words = (
        f"Given by the network {network}, trained on {trained_on}: what a panel of experts would say of each sperm's "
        "motion and form, from A (best) to E, as shares of the panel (Fujii et al. 2023). They are not the grades a to "
        "d of the WHO."
    )
    if "simulat" in trained_on.lower():
        words += (
            " This network has learnt from simulated sperm and a simulated panel alone. No expert has judged a clip "
            "for it: its grades show how the method works and say nothing of a sample."
        )
    return words


def heads_words(network: str, trained_on: str) -> str:
    """Where classes of heads come from, and what they are not."""
    return (
        f"Given by the network {network}, trained on {trained_on}: the form of each head in its sharpest pictures. It "
        "is not the WHO's percentage of normal forms, which is counted on stained smears at 1000 times, with neck and "
        "tail."
    )


#: What keeps clips from a network, by the names of ``casa.bus.cell_messages.GradingMetrics``.
_CLIPS_LOST = {
    "failed": "failed",
    "left_out": "left out for want of time",
    "superseded": "superseded by newer ones of the same sperm",
}


def none_words(done: str, n_tracks: int, counts: Mapping[str, Any] | None) -> str:
    """That a network which was on has seen to no track, and why.

    Parameters
    ----------
    done : what it does with a track: "graded", "examined". counts : what became of the clips; None: not recorded.
    """
    if not n_tracks:
        return f"It was on, but nothing was {done}, because no sperm was tracked."
    if counts is None:
        why = "of its clips this recording has no count: the session broke off, or went on in another file"
    elif not counts.get("taken"):
        why = "none was in view for long enough to give a clip"
    else:
        lost = [f"{counts[name]:,} {words}" for name, words in _CLIPS_LOST.items() if counts.get(name)]
        why = f"none of their {counts['taken']:,} clips was" + (f" ({', '.join(lost)})" if lost else "")
    return f"It was on, but none of {n_tracks:,} tracks was {done}, because {why}."


GUESS_TITLE = "A guess"


def guess(outside: Sequence[str]) -> str:
    """Why classes of heads say nothing of the sample."""
    return (
        f"These pictures are not such as the network has learnt from: {'; '.join(outside)}. Its classes say how it "
        "works, and nothing of this sample."
    )


def examined_words(
    n_tracks: int, n_clips: int, n_seen: int, abstained: Sequence[tuple[str, int]], counts: Mapping[str, int]
) -> str:
    """Of how many heads something is said, and why not of others."""
    words = [f"Of {n_tracks:,} tracks ({n_clips:,} clips), {n_seen:,} showed a head well enough to be examined."]
    if abstained:
        words.append(f"Not examined: {', '.join(f'{reason} ({n:,})' for reason, n in abstained)}.")
    words += [f"{counts[name]:,} clips {became}." for name, became in _CLIPS_LOST.items() if counts.get(name)]
    return " ".join(words)


def classes_caption(n_classed: int, n_unsure: int) -> str:
    """Below the bars of a part's classes."""
    words = (
        f"The likeliest class of {n_classed:,} heads, each the mean over its sharpest crops, with Wilson’s 95 % "
        "intervals."
    )
    return words + (f" Of {n_unsure:,} more no class was likely enough." if n_unsure else "")


NO_CLASSES = "No head could be classed."
LENGTHS_UNKNOWN = "Lengths are not known without a calibration."


def head_picture(track_id: int, has_heat: bool) -> str:
    """What is seen in a picture of a head, for who cannot see it."""
    return f"Head of track {track_id}" + (", beside it what decided" if has_heat else "")


def head_caption(track_id: int, said: str) -> str:
    """Below a head."""
    return f"Track {track_id}: {said}"


def sheet_caption(has_heat: bool) -> str:
    """Below the sheet of heads."""
    decided = (
        ", and beside it what in it spoke for its class (Grad-CAM++), from clear to yellow, each picture for itself"
    )
    return f"Each track’s sharpest crop, turned to face right{decided if has_heat else ''}."


HEAD_LIMITS = (
    "Strict limits of the WHO manual (6th ed. 2021, 2.4.8) are for stained, dried heads; those of living sperm are "
    "larger. An acrosome's share means something of stained heads alone."
)


def unverified_calibration(name: str) -> Note:
    """The scale was entered and never checked."""
    return Note(
        "Calibration not verified",
        f"The scale of “{name}” was entered or assumed and not checked against a stage micrometer on this "
        "microscope. Every speed and the concentration hang on it.",
    )


def old_calibration(name: str, measured_on: str, last: str) -> Note:
    """The recording was analysed after the calibration had run out."""
    return Note(
        "Calibration out of date",
        f"“{name}” was measured on {measured_on} and was valid until {last}. Lamps, cameras and stages change: "
        "check it (casa calibrate check) before relying on speeds and concentration.",
    )


def no_depth() -> Note:
    """Scale known, chamber depth not."""
    return Note(
        "Chamber depth not known", "The calibration gives no chamber depth, so there is no concentration.", False
    )


def low_frame_rate(fps_hz: float) -> Note:
    """Below 50 images a second."""
    return Note(
        "Low frame rate",
        f"At {fps_hz:.3g} images/s (below 50) ALH and BCF are not trustworthy and VCL reads low. They are shown, "
        "marked †. VSL does not depend on the frame rate.",
    )


def assumed_time() -> Note:
    """Timestamps were made up from a frame rate."""
    return Note(
        "Frame rate assumed",
        "The times of the frames come from a stated frame rate and not from a clock. If it is wrong, every speed is "
        "wrong in proportion.",
    )


def corrected_times() -> Note:
    """Timestamps of the file repeated, ran back or were missing."""
    return Note(
        "Timestamps repaired",
        "Some of the file's timestamps repeated, ran back or were missing and were replaced by the usual interval; "
        "speeds there rest on an assumption.",
    )


def uneven_time(percent: float) -> Note:
    """Frame intervals vary."""
    return Note(
        "Uneven frame intervals",
        f"One interval in twenty is off the usual one by {percent:.0f} % or more. Speeds use each frame's own "
        "time, so this is allowed for.",
        False,
    )


def lost_frames(failed: int, dropped: int, captured: int, reasons: tuple[str, ...]) -> Note:
    """Frames that should have been analysed and were not, with the commonest reasons."""
    parts = [f"{n:,} {word}" for n, word in ((failed, "failed"), (dropped, "were dropped")) if n]
    percent = 100 * (failed + dropped) / max(captured, 1)
    why = f" Reason: {'; '.join(reasons)}." if reasons else ""
    return Note(
        "Frames lost", f"Of {captured:,} frames {' and '.join(parts)} ({percent:.2g} %).{why} Tracks bridge short gaps."
    )


def skipped_frames(skipped: int, captured: int) -> Note:
    """Left out on purpose."""
    return Note(
        "Frames skipped", f"{skipped:,} of {captured:,} frames were left out on purpose (every n-th frame).", False
    )


def unbalanced_account() -> Note:
    """Captured is not the sum of the rest."""
    return Note("Frame account does not add up", "Some captured frames have no recorded end.")


def few_cells(n: int) -> Note:
    """Fewer than WHO asks for."""
    return Note(
        "Fewer than 200 sperm",
        f"{n:,} tracks were seen. WHO 2021 asks for at least 200 sperm in each of two replicates; the intervals "
        "show what that leaves open.",
    )


def no_sperm(processed: int) -> Note:
    """The detector ran and found nothing to track."""
    return Note(
        "No sperm seen",
        f"The detector ran on {processed:,} frames without error and nothing was seen for long enough to be a track. "
        "This is a finding about this field, not proof that the sample holds no sperm.",
    )


def nothing_analysed() -> Note:
    """No frame went through: not the same as no sperm."""
    return Note(
        "Nothing was analysed",
        "No frame was processed, so nothing is known of this sample: not even that it holds no sperm.",
    )


def short_tracks(percent: float) -> Note:
    """Many tracks below the grading window."""
    return Note(
        "Short tracks",
        f"{percent:.0f} % of tracks were seen for less than the grading window. Short tracks are often pieces of one "
        "sperm, and can be graded less surely.",
    )


def gaps(percent: float) -> Note:
    """Many tracks with bridged misses."""
    return Note(
        "Gaps in tracks", f"{percent:.0f} % of tracks contain moments in which the sperm was not detected.", False
    )


def beat_near_limit(percent: float, fps_hz: float | None) -> Note:
    """BCF above a quarter of the frame rate."""
    rate = f" ({fps_hz / 4:.3g} Hz)" if fps_hz else ""
    return Note(
        "Fast beats",
        f"{percent:.0f} % of tracks have a BCF above a quarter of the frame rate{rate}, where it is not resolved: it "
        "may be higher or lower than shown.",
    )


def drift(speed: str, corrected: bool) -> Note:
    """The whole field moves."""
    if corrected:
        return Note("Drift corrected", f"The whole field drifted by {speed}; this was taken out of every path.", False)
    return Note(
        "Drift", f"The whole field drifts by {speed}, which was not corrected (--drift): VSL is off by up to as much."
    )


def jitter(px: float, corrected: bool) -> Note:
    """Localisation jitter."""
    if corrected:
        return Note(
            "Jitter corrected",
            f"Positions jitter by {px:.2g} px (standard deviation per axis); speeds were corrected for it.",
            False,
        )
    return Note(
        "Jitter",
        f"Positions jitter by {px:.2g} px (standard deviation per axis) and were not corrected: VCL reads high.",
    )


def interlaced(separated: bool) -> Note:
    """Two moments in one picture, or parted."""
    if separated:
        words = (
            "Each frame's two fields were analysed as pictures of their own: twice the frame rate, half the lines. "
            "Frames are counted by field."
        )
        return Note("Interlaced source", words, False)
    return Note(
        "Interlaced source",
        "The source is interlaced and its fields were not separated: each picture holds two moments, half a frame "
        "interval apart, so positions and VCL are less sure.",
    )


def no_summary() -> Note:
    """Recording without a summary."""
    return Note(
        "No summary",
        "The recording ended before its summary was written: percentages and concentration are not known. The "
        "kinematics below are of the tracks that had ended by then.",
    )

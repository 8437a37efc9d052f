"""The words of the sample report, in one place; those it shares with other reports are in ``casa.report.texts``."""

from __future__ import annotations

from collections.abc import Sequence

from casa.report import texts
from casa.report.texts import Note

LANGUAGE = "en-GB"
KIND = "Semen analysis, pooled over fields"
AID = "An aid to a trained reader, not a diagnosis"
#: Of the head of the page.
ANALYSED, STATUS, FIELDS, CELLS, OPERATOR = "Analysed", "Status", "Fields", "Cells", "Operator"
SIMULATED_TITLE = "Simulated"
HEADLINE_FIGURES = "Headline figures"
#: Headline figures, with the unit of each: key of the WHO table -> name, unit.
CARDS = {
    "concentration": ("Concentration", "M/mL"),
    "pr": ("Progressive motility (PR)", "%"),
    "total": ("Total motility", "%"),
    "number": ("Total sperm number", "M"),
}
#: Headings of the sections.
RESULTS_HEADING = "Results and WHO reference limits"
REPLICATES_HEADING = "Replicates"
FIELDS_HEADING = "Fields"
CAUTIONS_HEADING = "Before relying on these figures"
VELOCITIES_HEADING = "Velocities"
KINEMATICS_HEADING = "Kinematics by grade"
SUBPOPULATIONS_HEADING = "Sub-populations (descriptive)"
GRADES_HEADING = "Expert grades, by a network"
PICTURES_HEADING = "Pictures of the fields"
PROVENANCE_HEADING = "Where these figures come from"
#: To be filled in by hand.
SIGN_LABEL, SIGN = "To be filled in by hand", ("Collected", "Received", "Reviewed by (name, signature)", "Date")
#: Heads of tables: lines of each column's name, those of numbers marked.
REPLICATE_COLUMNS = (("Quantity",), ("Replicate 1",), ("Replicate 2",), ("Difference",), ("Limit",),
                     ("Chance explains it",))  # fmt: skip
FIELD_COLUMNS = (("Field",), ("Replicate",), ("Recording",), ("Length",), ("Frames lost",), ("Cells",),
                 ("Heads", "in a frame"), ("As counted", "M/mL"), ("PR",), ("Notes",))  # fmt: skip
GROUP_COLUMNS = (("Group",), ("Tracks",), ("Share",))
OF_MOTILE, GROUP_GRADES = "of motile", "Grades"
GRADE_COLUMNS = (("Grade",), ("Share",), ("95 % interval",))
#: Lines of the WHO table that single fields do not have: key -> name, detail.
WHO_ROWS = {
    "volume": ("Semen volume", "entered"),
    "number": ("Total sperm number", "per ejaculate"),
    "vitality": ("Vitality", "live sperm"),
    "forms": ("Normal forms", "strict"),
}
HEADS_ROW = "Heads counted in equal areas"
ONE_REPLICATE = "There is one replicate only, so nothing can be said of how well it can be repeated."
DOTS = (
    "Each field with its 95 % interval; filled circles are of replicate 1, open squares of replicate 2. The dashed "
    "line is the pooled value."
)
#: Charts of the fields beside each other: name, unit.
DOT_CHARTS = {"pr": ("Progressive motility", "%"), "concentration": ("Concentration, as counted", "M/mL")}
FOR_INFORMATION = ", for information"
READ_BEFORE = "Read before relying on these figures (next page):"
NO_CAUTIONS = "no cautions, notes for information."
GROUPS_FOOT = "Median, and below it the first to third quartile; the share with its 95 % interval."
GROUPS_FIGURE = (
    "Left: motile tracks, marked by group. Right: one second of some tracks of each group near the pictures’ times, "
    "from one origin and at one scale, drawn as their WHO grades are; dashed circles at 5 and 25 µm."
)
SAME_SETTINGS = "The settings that the figures of all fields depend on; each recording holds all of its own."
OTHER_SETTINGS = "The settings of field 1; those of other fields differ, see their own reports."


def title(sample_id: str) -> str:
    """Of the page."""
    return f"Semen analysis: sample {sample_id}"


def heading(sample_id: str) -> str:
    """Above the report, and on every page that is printed."""
    return f"Sample {sample_id}"


def extent(n_fields: int, n_replicates: int, length: str) -> str:
    """How much was recorded."""
    return f"{n_fields} in {n_replicates} replicate{'' if n_replicates == 1 else 's'}, {length}"


def grade_row(letter: str) -> str:
    """A grade in the table of replicates."""
    return f"Grade {letter}: {texts.GRADES[letter].name}"


def verdict(accepted: bool, decides: bool) -> str:
    """Whether chance explains a difference between replicates."""
    return ("yes" if accepted else "no") + (", decides" if decides else "")


def no_velocity(reason: str) -> str:
    """In place of the histograms."""
    return f"There is no velocity to show: {reason}."


def replicate(number: int) -> str:
    """A column."""
    return f"Replicate {number}"


def grades_foot(n_tracks: int, n_clips: int, n_fields: int) -> str:
    """What expert grades were pooled of."""
    return (
        f"Mean distribution over {n_tracks:,} tracks ({n_clips:,} clips) of {n_fields} fields, with 95 % intervals by "
        "resampling tracks."
    )


def caption(number: int, of_replicate: int, frame: int, time_s: float, n_boxes: int) -> str:
    """Below a field's picture."""
    return (
        f"Field {number}, replicate {of_replicate}: frame {frame} at {time_s:.1f} s, {n_boxes} tracked sperm, each "
        "with the letter of its grade and its path within one second."
    )


def no_picture(number: int) -> str:
    """In place of a field's picture."""
    return f"Field {number} keeps no picture."


#: WHO 2021, table 8.3: lower 5th centiles, mL, M/mL, M per ejaculate, %.
WHO_LIMITS = texts.WHO_LIMITS | {"volume": 1.4, "number": 39.0, "vitality": 54.0, "forms": 4.0}

DISCLAIMER = (
    "This report is an aid to a trained person and not a diagnosis. It describes the recorded fields of this sample as "
    "a program saw them. Reference limits are 5th centiles of men whose partners conceived within 12 months; they do "
    "not part fertile from infertile men. Debris can be counted as immotile sperm, and sperm whose paths cross can "
    "be exchanged or counted twice: look at the pictures before relying on a figure."
)

SIMULATED = "These fields were computed. No sample was analysed, and the figures say nothing of anyone."

ACCEPTED = "Replicates agree"
COUNT_MORE = "Count more"
COUNT_MORE_TEXT = "This sample cannot be reported yet as the WHO manual (2021, 2.4.6 and 2.4.8) asks:"

REASON_NO_VOLUME = "volume not entered"
REASON_NO_VITALITY = "not measured"
REASON_NO_FORMS = "not assessed"

SCOPE = (
    "Intervals say how much counting leaves open, not what calibration, chamber filling, debris or cut tracks add. The "
    "dashed line is the 5th centile of fertile men: a reference, not a limit between fertile and infertile, and not a "
    "diagnosis."
)

REPLICATES_FOOT = (
    "The largest difference that chance explains in 95 % of samples of 200 cells each (WHO 2021, 2.4.6) is the "
    "limit. The most frequent of the three kinds of motility decides; counts are of heads in one frame of each field, "
    "brought to the same area, and may differ by 1.96 √(n₁ + n₂)."
)

FIELDS_FOOT = (
    "Cells are the effective number of tracks: a hundred glimpses and one long track tell less than 101 sperm would. "
    "The letters of the last column stand before the cautions below."
)


def pooled(n_fields: int, cells: float, dilution: float) -> str:
    """How fields became figures."""
    words = (
        f"Percentages weigh the tracks of all {n_fields} fields by their time in view; their intervals are Wilson’s "
        f"for {cells:.0f} effective tracks. The concentration is of the heads of one frame of each field; its interval "
        "is Poisson’s, or Student’s over the fields where they differ by more than chance."
    )
    return words + (f" It was multiplied by the dilution of {dilution:g}." if dilution != 1 else "")


def in_fields(numbers: Sequence[int], n_fields: int) -> str:
    """Which fields a note is of."""
    if len(numbers) == n_fields:
        return "all fields"
    return ("field " if len(numbers) == 1 else "fields ") + ", ".join(map(str, numbers))


def of_fields(numbers: Sequence[int], n_fields: int, words: str) -> str:
    """A sentence, with the fields that it is of where it is not of all."""
    return words if len(numbers) == n_fields else f"In {in_fields(numbers, n_fields)} {words[0].lower()}{words[1:]}"


def interrupted(words: str) -> Note:
    """A field's session did not end as it should."""
    return Note("Field not complete", f"{words}. Its figures describe the part that was analysed.")


def analysed_differently(what: Sequence[str]) -> Note:
    """Fields were analysed by different programs, weights or settings."""
    return Note(
        "Fields analysed differently",
        f"Not all fields were analysed with the same {' and '.join(what)}: their figures may not be comparable. Replay "
        "them with one casa and one configuration.",
    )


def less_sharp(percent: float) -> Note:
    """A field's heads are less sharp than those of the sample's other fields."""
    return Note(
        "Less in focus than the other fields",
        f"The heads in its picture have {percent:.0f} % of the fine detail of the sample’s median field. Sperm out of "
        "focus are missed, and their positions are less sure.",
    )


def doubtful_heads(n_doubtful: int, n_still: int) -> Note:
    """Immotile objects that the detector is less sure of than of sperm that move."""
    return Note(
        "Debris may be counted as immotile",
        f"Of {n_still} immotile objects near the pictures’ times, the detector is less sure of {n_doubtful} than of "
        "nine in ten sperm that move. Debris of a head’s size is counted as immotile sperm: look at the pictures, and "
        "mark debris in the viewer (casa view) before relying on motility and concentration.",
    )


def fields_disagree(kind: str, numbers: Sequence[int]) -> Note:
    """Single fields lie outside what the others say."""
    listed = ", ".join(map(str, numbers))
    one = len(numbers) == 1
    return Note(
        f"Field{'' if one else 's'} unlike the others",
        f"{kind} of field{'' if one else 's'} {listed} {'is' if one else 'are'} further from the pooled value than "
        "chance explains (three standard deviations): uneven mixing, flow, or a field that was chosen. Look at the "
        "pictures.",
    )


SUBPOPULATIONS = (
    "Groups of sperm that swim alike, found in this sample alone. They are descriptive: no WHO category, no reference "
    "limits, and not to be compared by number with the groups of another sample."
)


def subpopulations_found(n_groups: int, n_tracks: int, features: Sequence[str], agreement: float | None) -> str:
    """How many groups, of what, and how sure."""
    by = ", ".join(features[:-1]) + f" and {features[-1]}"
    found = (
        f"{n_groups} groups of {n_tracks:,} motile tracks (grades a to c, seen for a second or longer) by {by}: a "
        "mixture of Gaussians, the number of groups by the integrated completed likelihood."
    )
    return found + (
        f" Drawn anew, the tracks fall into the same groups with an adjusted Rand index of {agreement:.2f} (1: always)."
        if agreement is not None
        else ""
    )


def one_population(n_tracks: int) -> str:
    """No grouping holds."""
    return (
        f"The {n_tracks:,} motile tracks form one population: no grouping of them describes them better and is found "
        "again when the tracks are drawn anew."
    )


def too_few_for_groups(least: int) -> str:
    """Not enough motile tracks."""
    return f"Fewer than {least} motile tracks were seen for a second or longer: too few to look for sub-populations."


def group_name(vcl_um_s: float, vsl_um_s: float, lin: float) -> str:
    """A group in words, by its medians: VSL has the limits of grades a to c."""
    if lin < 0.4 and vcl_um_s >= 50:
        return "vigorous, not straight"
    speed = "rapid" if vsl_um_s >= 25 else "slow" if vsl_um_s >= 5 else "hardly progressive"
    return f"{speed}, {'straight' if lin >= 0.7 else 'winding' if lin >= 0.4 else 'not straight'}"


NO_GRADES = "No field was graded (casa replay --grade)."
MIXED_GRADERS = (
    "The fields were graded by different networks, whose grades are not pooled: see each field's own report."
)
NO_MORPHOLOGY = "The forms of heads were not examined (casa replay --morphology)."
MIXED_MORPHOLOGY = "The heads were examined by different networks, whose classes are not pooled."

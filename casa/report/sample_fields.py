"""A sample's recordings as its report and its export read them, and the cautions that follow from all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from casa.cells import GradeTable, MorphologyTable
from casa.record import Recording
from casa.report.document import track_words
from casa.report.paths import Scale
from casa.report.sample_figures import FieldNote, FieldRecord, differing, join_notes, read_record, unlike_fields
from casa.report.sample_pictures import FieldPicture, debris_notes, focus_notes, read_picture
from casa.samples.pool import FieldFigures, SampleFigures, sample_figures
from casa.samples.sample import Sample


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """All that is read of a field.

    ``grading`` and ``examining`` tell what became of its clips, None where they were not counted; ``shades`` is the
    grade of each track; ``live``: it was recorded as it was analysed, so that the time is the sample's.
    """

    record: FieldRecord
    picture: FieldPicture
    grades: GradeTable
    heads: MorphologyTable
    grading: dict[str, Any] | None
    examining: dict[str, Any] | None
    shades: dict[int, str]
    live: bool

    @property
    def replicate(self) -> int:
        """The replicate it is of, 1 or 2."""
        return self.record.figures.replicate


def read_sample_fields(
    folder: Path,
    sample: Sample,
    open_recording: Callable[[Path], Recording] = Recording,
    *,
    loss_reasons: bool = True,
) -> tuple[SampleFigures, list[Field]]:
    """A sample's figures and fields; ``loss_reasons``: with why frames were lost, which may name files.

    Raises
    ------
    InputError : a sample without fields or with fields that cannot be pooled.
    """
    figures = sample_figures(folder, sample, open_recording)
    fields = [_read(number, field, open_recording, loss_reasons) for number, field in enumerate(figures.fields, 1)]
    return figures, fields


def _read(number: int, figures: FieldFigures, open_recording: Callable[[Path], Recording], loss_reasons: bool) -> Field:
    calibration = figures.calibration
    scale = Scale(calibration.um_per_px_x, calibration.um_per_px_y, "µm")
    shades, words = track_words(figures.kinematics, True)
    with open_recording(figures.path) as recording:
        return Field(
            record=read_record(number, figures, recording, loss_reasons),
            picture=read_picture(recording, recording.frames(), shades, words, scale),
            grades=recording.grades(),
            heads=recording.morphology(),
            grading=recording.grading,
            examining=recording.examining,
            shades=shades,
            live=recording.bus is not None,
        )


def cautions_of(figures: SampleFigures, fields: Sequence[Field]) -> list[FieldNote]:
    """What to know before relying on the figures: of single fields, and of how they differ."""
    records, pictures = [f.record for f in fields], [f.picture for f in fields]
    return join_notes(
        records,
        [
            *differing(records),
            *focus_notes(pictures),
            *debris_notes(pictures, [f.shades for f in fields]),
            *unlike_fields(records, figures),
        ],
    )

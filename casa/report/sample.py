"""Makes the report of a sample: reads its recordings, pools what they tell, fills the template, writes the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from casa import __version__
from casa.record import Recording
from casa.report import sample_texts, texts
from casa.report.charts import histogram, motility_bar
from casa.report.document import check_output, date_words, fill, legend_entries, strip_of, write_whole
from casa.report.figures import graded, kinematics_by_grade, parameters
from casa.report.paths import Scale
from casa.report.provenance import Group, Item, flat_settings, method_group, model_group, scale_group, tracks_words
from casa.report.sample_charts import Dot, field_dots
from casa.report.sample_fields import Field, cautions_of, read_sample_fields
from casa.report.sample_figures import FieldNote, FieldRecord, all_kinematics, replicate_rows, sample_rows
from casa.report.sample_parts import grades_of_sample, groups_of, heads_of_sample, not_examined, not_graded
from casa.samples.pool import SampleFigures
from casa.samples.sample import FILE, Sample, read_sample
from casa.types import MOTILITY_GRADES, KinematicsFlag


def write_sample_report(
    folder: Path, out: Path, force: bool = False, open_recording: Callable[[Path], Recording] = Recording
) -> SampleFigures:
    """Write the report of the sample in ``folder``: one HTML file that needs nothing else. Gives its figures.

    Raises
    ------
    InputError : no sample, one without fields or with fields that cannot be pooled; ``out`` exists, or has no folder.
    CasaError : ``out`` cannot be written.
    """
    sample = read_sample(folder)
    check_output(out, force, [folder / FILE, *(folder / entry.recording for entry in sample.fields)])
    figures, fields = read_sample_fields(folder, sample, open_recording)
    page = fill("sample.html.j2", gather(sample, figures, fields))
    write_whole(out, page.encode("utf-8"))
    return figures


def gather(sample: Sample, figures: SampleFigures, fields: list[Field]) -> dict[str, Any]:
    """Everything the template shows."""
    records, pictures = [f.record for f in fields], [f.picture for f in fields]
    kinematics = all_kinematics(records)
    columns = parameters(True)
    grade_of = np.where(graded(kinematics), kinematics.motility_grade, "u")
    percent = {key: figures.pooled.motility_percent[key].value for key in MOTILITY_GRADES}
    calibration = records[0].figures.calibration
    scale = Scale(calibration.um_per_px_x, calibration.um_per_px_y, "µm")
    notes = cautions_of(figures, fields)
    rows = {row.key: row for row in sample_rows(sample, figures)}
    counted = {letter: int((grade_of == letter).sum()) for letter in (*MOTILITY_GRADES, "u")}
    histograms = [histogram(p.symbol, p.unit, getattr(kinematics, p.column), grade_of) for p in columns[:3]]
    return {
        "texts": texts,
        "words": sample_texts,
        "sample": sample,
        "version": __version__,
        "figures": figures,
        "page_id": css_text(f"{sample_texts.heading(sample.sample_id)} · casa {__version__}"),
        "recorded": _span([r.session.get("created_utc") for r in records]),
        "duration_s": sum(r.timing.duration_s for r in records),
        "simulated": any(f.simulated for f in figures.fields),
        "records": records,
        "fields": [_field_row(f, notes) for f in fields],
        "who": rows,
        "who_rows": [(row, strip_of(row)) for row in rows.values()],
        "pooled_words": sample_texts.pooled(len(records), figures.pooled.cells, sample.dilution),
        "motility_bar": motility_bar(percent) if all(value is not None for value in percent.values()) else None,
        "replicates": replicate_rows(figures),
        "dots": _dots(sample, records, figures),
        "field_notes": notes,
        "notes": [note.note for note in notes],
        "histograms": [drawing for drawing in histograms if drawing is not None],
        "legend": legend_entries(counted),
        "n_measured": len(kinematics),
        "columns": columns,
        "kinematics_rows": kinematics_by_grade(kinematics, columns),
        "suspect": bool(len(kinematics) and np.any(kinematics.flags & KinematicsFlag.LOW_FRAME_RATE)),
        "groups_found": groups_of([r.figures.kinematics for r in records], pictures, scale),
        "grades": grades_of_sample(fields),
        "heads": heads_of_sample(fields),
        "not_graded": not_graded(fields),
        "not_examined": not_examined(fields),
        "calibration": calibration,
        "groups": _provenance(sample, records),
        "settings": flat_settings(settings_of(records[0])),
        "same_settings": all(settings_of(r) == settings_of(records[0]) for r in records),
    }


def settings_of(record: FieldRecord) -> dict[str, Any]:
    """The parts of a field's configuration that its figures depend on."""
    config = record.session.get("config") or {}
    used = [part for part in ("grade", "morphology") if (config.get(part) or {}).get("enabled")]
    wanted = ("source", "detect", "track", "kinematics", *(("clips", *used) if used else ()))
    return {part: config[part] for part in wanted if part in config}


def css_text(words: str) -> str:
    """A text as the content of a CSS string: whatever is neither letter nor digit of ASCII is escaped."""
    return "".join(c if c.isascii() and c.isalnum() else f"\\{ord(c):06x}" for c in words)


def _span(moments: list[Any]) -> str:
    """From the first moment to the last."""
    known = sorted(str(moment) for moment in moments if moment)
    if not known:
        return texts.NOT_KNOWN
    first, last = date_words(known[0]), date_words(known[-1])
    if first == last:
        return first
    day, _, clock = last.partition(", ")
    return f"{first.removesuffix(' UTC')} to {clock if first.startswith(day) else last}"


def _field_row(field: Field, notes: list[FieldNote]) -> dict[str, Any]:
    """A line of the table of fields."""
    record, pooled = field.record, field.record.pooled
    lost = record.account.dropped + record.account.failed
    return {
        "number": record.number,
        "replicate": record.figures.replicate,
        "name": record.figures.path.name,
        "seconds": record.timing.duration_s,
        "lost": 100 * lost / max(record.account.captured, 1),
        "cells": pooled.cells,
        "heads": record.figures.heads,
        "concentration": pooled.concentration_m_per_ml.value,
        "pr": pooled.motility_percent["pr"].value,
        "letters": [note.letter for note in notes if record.number in note.numbers],
        "picture": field.picture.shown,
    }


def _dots(sample: Sample, records: list[FieldRecord], figures: SampleFigures) -> list[Any]:
    """Progressive motility and concentration of each field, the latter as counted: the dilution is the sample's."""
    pr, counted = [], []
    for r in records:
        own = r.pooled
        share, density = own.motility_percent["pr"], own.concentration_m_per_ml
        pr.append(Dot(r.number, r.figures.replicate, share.value, share.interval))
        counted.append(Dot(r.number, r.figures.replicate, density.value, density.interval))
    pooled = figures.pooled.concentration_m_per_ml.value
    charts = [
        field_dots(*sample_texts.DOT_CHARTS["pr"], pr, figures.pooled.motility_percent["pr"].value, 100.0),
        field_dots(
            *sample_texts.DOT_CHARTS["concentration"], counted, None if pooled is None else pooled / sample.dilution
        ),
    ]
    return [chart for chart in charts if chart is not None]


def _provenance(sample: Sample, records: list[FieldRecord]) -> list[Group]:
    """Where the figures come from: of the sample, then what its fields have in common, then each recording."""
    first = records[0]
    entered = [
        Item("Sample", sample.sample_id, "entered"),
        Item("Operator", sample.operator or texts.NOT_KNOWN, "entered" if sample.operator else ""),
        Item("Semen volume", texts.NOT_KNOWN if sample.volume_ml is None else f"{sample.volume_ml:g} mL", "entered"),
        Item("Dilution", f"{sample.dilution:g}" + (" (none)" if sample.dilution == 1 else ""), "entered"),
        Item("Begun (UTC)", sample.created_utc or texts.NOT_KNOWN),
    ]
    return [
        Group("Sample", tuple(entered)),
        scale_group(first.figures.calibration),
        *_networks(records),
        _method(first),
        Group("Software", (Item("This report", f"casa {__version__}"), *_machines(records))),
        *(_recording_group(r) for r in records),
    ]


def _method(first: FieldRecord) -> Group:
    """How paths became figures: what is the same in all fields."""
    of_field = (
        "Tracks",
        "Localisation jitter",
        "Drift of the field",
        "Heads in a frame, mean",
        "Time graded, all tracks",
    )
    group = method_group(first.session, first.summary, first.figures.calibration)
    return Group(group.title, tuple(item for item in group.items if item.label not in of_field))


def _networks(records: list[FieldRecord]) -> list[Group]:
    """The detector, and the graders, as the fields name them; each once."""
    groups: list[Group] = []
    for key, title in (("model", "Detector"), ("grade_model", "Grades"), ("morphology_model", "Forms of heads")):
        seen: dict[str, list[FieldRecord]] = {}
        for r in records:
            if model := r.session.get(key):
                seen.setdefault(str(model.get("sha256") or model.get("name")), []).append(r)
        for of in seen.values():
            where = (
                "" if len(of) == len(records) else f", {sample_texts.in_fields([r.number for r in of], len(records))}"
            )
            items = model_group({"model": of[0].session[key]}).items
            if key != "model":
                items = (Item("Network", items[0].value), *items[1:])
            groups.append(Group(title + where, tuple(i for i in items if i.value != texts.NOT_KNOWN)))
    return groups


def _machines(records: list[FieldRecord]) -> list[Item]:
    """What analysed the fields, each machine once."""
    seen: dict[str, list[int]] = {}
    for r in records:
        machine = r.session.get("machine") or {}
        named = [f"casa {r.session.get('casa_version') or '?'}"]
        named += [str(machine[k]) for k in ("cpu", "platform") if machine.get(k)]
        seen.setdefault(" · ".join(named), []).append(r.number)
    return [
        Item("Analysed with", words, sample_texts.in_fields(numbers, len(records))) for words, numbers in seen.items()
    ]


def _recording_group(record: FieldRecord) -> Group:
    """What a recording is, and how it was made."""
    session, account = record.session, record.account
    digest = (session.get("source") or {}).get("sha256")
    frames = (
        f"{account.captured:,} captured = {account.processed:,} processed + {account.skipped:,} skipped + "
        f"{account.dropped:,} dropped + {account.failed:,} failed" + ("" if account.balanced else " — DOES NOT ADD UP")
    )
    known_by = texts.KNOWN_BY.get(record.source.timestamps, record.source.timestamps).removeprefix("known: ")
    made = f"{session.get('created_utc') or texts.NOT_KNOWN} (UTC) by casa {session.get('command') or texts.NOT_KNOWN}"
    items = (
        Item("Recording", f"{record.figures.path.name}, identity {record.figures.recording_id}"),
        Item("Source", record.source.uri + (f", SHA-256 {digest}" if digest else ""), f"times {known_by}"),
        Item("Analysed", made),
        Item("Frames", frames, f"counted; {record.timing.duration_s:.2f} s"),
        Item("Tracks", tracks_words(session)),
    )
    return Group(f"Field {record.number}, replicate {record.figures.replicate}", items)

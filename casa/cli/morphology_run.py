"""``casa morphology RUN.h5``: the heads in the clips that a recording has kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from casa.errors import CasaError, InputError

if TYPE_CHECKING:
    from casa.cells import HeadExam, MorphologyTable
    from casa.morphology.examiner import HeadExaminer
    from casa.morphology.sheet import Cell
    from casa.record import Recording

_BATCH = 8


def morphology_of_run(
    path: Path,
    output: Path,
    um_per_px: float | None,
    weights: str | None,
    look: str | None,
    sheet: int,
    *,
    as_json: bool,
    force: bool,
) -> None:
    """Write ``morphology.csv`` (a row a clip) and contact sheets of the sharpest heads, and say what was found.

    Raises
    ------
    InputError : no recording, one that has kept no clips, a scale that is the recording's own to say, no such look.
    CasaError : the folder cannot be written, or the network gave numbers of no head.
    """
    from casa.cells import NO_NUMBERS, MorphologyTable
    from casa.cli.output import print_json, refuse_existing
    from casa.engine.examining import morphology_record
    from casa.morphology.domain import checked_look
    from casa.morphology.examiner import HeadExaminer
    from casa.morphology.sheet import write_sheets
    from casa.progress import progress
    from casa.record import Recording
    from casa.tables import write_morphology

    if um_per_px is not None:
        raise InputError("--um-per-px: a recording has its own scale; analyse it again with --calibration")
    if weights == "none":
        raise InputError("--weights none: clips are examined with a network; name one, or leave it out")
    look = checked_look(look)
    refuse_existing(output / "morphology.csv" if output.is_dir() else output, force)
    with Recording(path) as recording:
        n = len(recording.clip_tracks)
        if not n:
            seen = "the heads that --morphology saw are in its report; for others analyse the video again with --grade"
            again = "analyse the video again with --grade, which keeps them, or with --morphology"
            raise InputError(f"{path}: keeps no clips; {seen if len(recording.morphology()) else again}")
        look = look or ((recording.session.get("config") or {}).get("morphology") or {}).get("look")
        record = morphology_record(weights or "morphology", look, recording.calibration, recording.source)
        examiner = HeadExaminer(weights or "morphology", threads=1)
        exams: list[HeadExam] = []
        cells: dict[int, tuple[float, Cell]] = {}
        with progress("looking at heads", n) as bar:
            for start in range(0, n, _BATCH):
                found = _examine(recording, examiner, range(start, min(start + _BATCH, n)), not record["outside"])
                for exam in found:
                    _keep_cell(cells, examiner, exam, sheet)
                    bar.advance()
                exams += found
    table = MorphologyTable.concatenate([exam.row for exam in exams])
    if (table.reason == NO_NUMBERS).any() and not (table.n_crops > 0).any():
        raise CasaError(f"{path}: {NO_NUMBERS}, of no head any other: choose other --weights than {record['name']}")
    try:
        output.mkdir(exist_ok=True)
        write_morphology(output / "morphology.csv", table)
    except OSError as error:
        raise CasaError(f"{output}: cannot be written ({error.strerror}); choose another -o") from error
    caption = f"{path.name}: {int((table.n_crops > 0).sum())} heads in {n} clips"
    shown = [cell for _, cell in sorted(cells.values(), key=lambda item: item[0])]
    files = write_sheets(output, shown, caption + (" (outside of what the network knows)" if record["outside"] else ""))
    result = _result(table, record, output / "morphology.csv", files)
    print_json(result) if as_json else _print(result)


def _examine(recording: Recording, examiner: HeadExaminer, numbers: range, in_domain: bool) -> list[HeadExam]:
    return examiner.examine([kept.clip for kept in recording.clips(numbers)], in_domain)


def _keep_cell(cells: dict[int, tuple[float, Cell]], examiner: HeadExaminer, exam: HeadExam, at_most: int) -> None:
    """The sheet's cell of a head, while it is among the sharpest."""
    from casa.morphology.sheet import Cell

    row = exam.row
    edge = float(row.edge_share[0])
    if not row.n_crops[0] or not at_most:
        return
    if len(cells) >= at_most:
        worst = max(cells, key=lambda key: cells[key][0])
        if edge >= cells[worst][0]:
            return
        del cells[worst]
    found = examiner.sharpest(int(row.clip_id[0]))
    if found is not None:
        cut, mask, heat = found
        said = [f"{part} {names[0]}".removeprefix("class ") if names[0] else "unsure" for part, names in
                row.decided(examiner.info.abstain_below).items()]  # fmt: skip
        title = f"track {row.track_id[0]}, clip {row.clip_id[0]}"
        cells[int(row.clip_id[0])] = edge, Cell(cut, mask, title, ", ".join(said), heat)


def _result(table: MorphologyTable, record: dict[str, Any], path: Path, sheets: list[Path]) -> dict[str, Any]:
    tracks = table.by_track()
    seen = tracks.select(tracks.n_crops > 0)
    decided = seen.decided(record["abstain_below"])
    return {
        "clips": len(table),
        "tracks": len(tracks),
        "heads": len(seen),
        "abstained": dict(Counter(tracks.reason[tracks.n_crops == 0].tolist()).most_common()),
        "classes": {part: dict(Counter(n or "unsure" for n in names.tolist())) for part, names in decided.items()},
        "outside": record["outside"],
        "weights": record["name"],
        "table": str(path),
        "sheets": [str(sheet) for sheet in sheets],
    }


def _print(result: dict[str, Any]) -> None:
    print(f"heads: of {result['heads']} of {result['tracks']} tracks, in {result['clips']} clips")
    for reason, count in result["abstained"].items():
        print(f"  none ({reason}): {count}")
    for part, counts in result["classes"].items():
        print(f"{part}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    for reason in result["outside"]:
        print(f"a guess: {reason}")
    print(result["table"])
    for path in result["sheets"]:
        print(path)

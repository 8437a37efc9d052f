"""``casa grade predict``: grades of clips that are there already, in a folder or in a recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from casa.cli.options import Json

if TYPE_CHECKING:
    from casa.cells import Clip


def predict(
    what: Annotated[Path, typer.Argument(metavar="CLIPS|RUN.h5", help="A folder of clips, or a recording.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Table to write, .csv or .csv.gz.")],
    video: Annotated[
        str | None, typer.Option(help="Cut clips of the recording's tracks from this video, instead of those it keeps.")
    ] = None,
    weights: Annotated[str, typer.Option(help="Grading network: a name in `casa models list`, or a file.")] = "grade",
    backend: Annotated[str, typer.Option(help="auto, openvino or torch.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads of the network; 0: all cores.")] = 0,
    batch: Annotated[int, typer.Option(min=1, max=256, help="Clips graded at once.")] = 16,
    force: Annotated[bool, typer.Option("--force", help="Replace a table that exists.")] = False,
    as_json: Json = False,
) -> None:
    """Grade clips: the distribution over the grades A to E that a panel of experts would give to each."""
    from casa.cells import EXPERT_GRADES, NO_NUMBERS, GradeTable
    from casa.cli.output import print_json, refuse_existing
    from casa.config import load_config
    from casa.errors import CasaError
    from casa.grade.model import Grader, clip_fault
    from casa.progress import progress
    from casa.record.export import write_whole
    from casa.tables import write_grades

    refuse_existing(output, force)
    wanted = {"weights": weights, "backend": backend, "device": device, "threads": threads, "batch": batch}
    c = load_config("replay", {f"grade.{name}": value for name, value in wanted.items()}).grade
    grader = Grader(c.weights, backend=c.backend, device=c.device, threads=c.threads, batch=c.batch)
    tables, faults = [GradeTable.empty()], Counter[str]()
    with progress("grading clips", None) as bar:
        clips = _clips(what, video)
        while some := list(islice(clips, batch)):
            fault_of = [clip_fault(clip) for clip in some]
            faults.update(fault for fault in fault_of if fault is not None)
            good = [clip for clip, fault in zip(some, fault_of, strict=True) if fault is None]
            tables.append(grader.grade(good))
            if len(tables[-1]) < len(good):
                faults[NO_NUMBERS] += len(good) - len(tables[-1])
            for _ in some:
                bar.advance()
    table = GradeTable.concatenate(tables)
    said = "; ".join(f"{n} {fault}" for fault, n in faults.most_common())
    if not len(table):
        why = f"none of its clips can be graded: {said}" if said else "holds no clip"
        raise CasaError(f"{what}: {why}")
    try:
        write_whole(output, lambda path: write_grades(path, table))
    except OSError as error:
        raise CasaError(f"{output}: cannot be written ({error.strerror or error}); choose another -o") from error
    mean = dict(zip(EXPERT_GRADES, table.distribution.mean(axis=0).tolist(), strict=True))
    if as_json:
        print_json(
            {
                "clips": len(table) + faults.total(),
                "graded": len(table),
                "failed": dict(faults),
                "tracks": len(set(table.track_id.tolist())),
                "mean_distribution": mean,
                "network": grader.info.network,
                "weights": grader.info.name,
                "trained_on": grader.info.trained_on,
                "grades": str(output),
            }
        )
        return
    shares = ", ".join(f"{grade} {100 * share:.0f} %" for grade, share in mean.items())
    typer.echo(f"{len(table)} clips graded, mean distribution: {shares}")
    typer.echo(f"by {grader.info.name} ({grader.info.network}), trained on {grader.info.trained_on}")
    if said:
        typer.echo(f"not graded: {said}", err=True)
    typer.echo(f"grades: {output}")


def _clips(what: Path, video: str | None) -> Iterator[Clip]:
    """The clips of a folder; those that a recording keeps; or with ``video`` those of its tracks in there."""
    from casa.cli.clips import clips_of
    from casa.clips.folder import iterate_clips
    from casa.config import load_config
    from casa.errors import InputError
    from casa.progress import progress
    from casa.record import Recording

    if not what.name.endswith((".h5", ".h5.partial")):
        if video is not None:
            raise InputError("--video: belongs to a recording; a folder holds its clips itself")
        yield from iterate_clips(what)
        return
    if video is not None:
        with progress("reading the video", None) as bar:
            yield from clips_of(str(what), video, None, load_config("replay"), None, bar)
        return
    with Recording(what) as recording:
        n = len(recording.clip_tracks)
        if not n:
            raise InputError(f"{what}: keeps no clips; give its video (--video), or make it with casa replay --grade")
        for number in range(n):
            yield recording.clips([number])[0].clip

"""``casa grade annotate``, ``agreement`` and ``panel``: experts' votes on clips, collected, compared and simulated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from casa.cli.options import Json

Folder = Annotated[Path, typer.Argument(help="Folder of clips, as docs/grade-data.md describes it.")]


def annotate(
    folder: Folder,
    expert: Annotated[str, typer.Option(help="Who grades: the votes go to votes/EXPERT.csv in the folder.")],
) -> None:
    """Grade clips A to E in a window; every vote is kept at once, and a later call goes on where this one ended."""
    import os
    import tempfile
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    import numpy as np

    from casa.grade.annotate import Annotation, checked_name
    from casa.grade.annotate_window import grade_in_window
    from casa.grade.data import picture_file
    from casa.lifeline import end_with
    from casa.viewer.app import application
    from casa.viewer.style import SHEET

    checked_name(expert)
    app = application()
    with tempfile.TemporaryDirectory() as spare:
        # Clips are read with OpenCV, which must not be in one process with the window's Qt.
        with ProcessPoolExecutor(1, get_context("spawn"), end_with, (os.getpid(),)) as pool:
            ids, pictures = pool.submit(picture_file, folder, Path(spare) / "clips.npy").result()
        images = np.load(pictures, mmap_mode="r", allow_pickle=False)
        annotation = Annotation(folder, expert, np.array(ids, np.int64))
        grade_in_window(app, annotation, images, SHEET)
    typer.echo(f"{annotation.path}: {annotation.done} of {len(ids)} clips graded")


def agreement(
    folder: Folder,
    as_json: Json = False,
) -> None:
    """How well experts agree on a folder's clips: Fleiss' kappa, each expert against the others, votes per clip."""
    from casa.cells import EXPERT_GRADES
    from casa.cli.evaluate import print_scores
    from casa.cli.output import print_json
    from casa.grade.agreement import agreement_of

    result = agreement_of(folder)
    if as_json:
        print_json(result)
        return
    kappa: dict[str, Any] = result["kappa"]
    per_clip = result["votes_per_clip"]
    print(result["name"])
    print(
        f"{result['clips']} clips, {result['votes']} votes; per clip {per_clip['min']} to {per_clip['max']}, "
        f"median {per_clip['median']:g}"
    )
    if kappa["fleiss"] == kappa["fleiss"]:
        print(f"Fleiss' kappa {kappa['fleiss']:.3f} (95 % interval {kappa['low']:.3f} to {kappa['high']:.3f})")
    else:
        print("Fleiss' kappa: cannot be told; it takes clips with two votes or more, and more than one grade in all")
    print("clips by most frequent grade: " + ", ".join(f"{grade} {n}" for grade, n in result["majority"].items()))
    if result["experts"]:
        rows = {
            name: {
                "clips": row["clips"],
                "as the others": row["as_others"],
                "severity": row["severity"],
                **row["votes"],
            }
            for name, row in result["experts"].items()
        }
        print_scores("each expert against the others", rows, ("clips", "as the others", "severity", *EXPERT_GRADES))


def panel(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for clips, votes and what is true of them.")],
    clips: Annotated[int, typer.Option(min=1, help="How many clips; the paper has 615.")] = 615,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same clips and votes.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that draw.")] = 1,
    votes: Annotated[
        bool, typer.Option("--votes/--no-votes", help="Clips alone can be graded by people: casa grade annotate.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace simulated clips that the folder has.")] = False,
) -> None:
    """Draw clips of simulated sperm and the votes of 40 simulated experts, with the statistics of the paper's data."""
    from casa.errors import InputError
    from casa.grade.data import read_card, says_simulated, write_panel
    from casa.progress import progress

    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        if not output.is_dir() or not says_simulated(read_card(output)):
            raise InputError(f"{output}: is there already and holds no simulated panel; give another folder with -o")
        if not force:
            raise InputError(f"{output}: has clips already; give another folder with -o, or --force to replace them")
    with progress("drawing clips", total=clips) as bar:
        write_panel(output, clips, seed, workers, bar.advance, votes)
    typer.echo(output)

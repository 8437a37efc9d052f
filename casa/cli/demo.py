"""``casa demo``: a simulated field, analysed like a real one, with nothing to download."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from casa.cli.options import Json


def demo(
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder to write into; by default a new casa-demo.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of the simulated recording, in s.")] = 5.0,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 1,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier demo.")] = False,
    as_json: Json = False,
) -> None:
    """Simulate a field of sperm, analyse it, and write a recording and a report."""
    from casa.cli.output import print_json
    from casa.cli.replay import print_summary, result_json, run_replay
    from casa.config import load_config
    from casa.errors import InputError
    from casa.report import write_report

    output = output or _free_folder()
    recording, report = output / "demo.h5", output / "demo.html"
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file; give a folder with -o")
    for path in (recording, report):
        if path.exists() and not force:
            raise InputError(f"{path}: exists already; give another folder with -o, or --force to replace it")
    output.mkdir(parents=True, exist_ok=True)
    settings = load_config("replay", {"source.max_frames": max(1, round(seconds * 50))})
    result = run_replay(
        f"simulator:default:{seed}", recording, settings, "simulator", force=force, command=" ".join(sys.argv[1:])
    )
    write_report(recording, report, force=force)
    if as_json:
        print_json(result_json(result))
    else:
        print_summary(result, report)


def _free_folder() -> Path:
    """The first of casa-demo, casa-demo-2, … that does not exist: a second demo must not fail on the first."""
    folder, number = Path("casa-demo"), 1
    while folder.exists():
        number += 1
        folder = Path(f"casa-demo-{number}")
    return folder

"""``casa models``: what networks are installed. Holds the typer app ``app`` with ``list``, ``verify``, ``install``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The networks that casa brings.", no_args_is_help=True, rich_markup_mode=None)

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


@app.command("list")
def list_models(as_json: AsJson = False) -> None:
    """List the networks: task, licence, what they were trained on, scores, files."""
    from casa.cli.output import print_json
    from casa.detect.weights import read_manifest
    from casa.resources import resource_dir

    entries = read_manifest(resource_dir("models"))
    if as_json:
        print_json(
            {
                name: {
                    "task": entry.task,
                    "licence": entry.licence,
                    "trained_on": entry.trained_on,
                    "command": entry.command,
                    "seed": entry.seed,
                    "scores": entry.scores,
                    "card": str(entry.folder / entry.card) if entry.card else None,
                    "files": {kind: {"path": str(path), "sha256": sha} for kind, (path, sha) in entry.files.items()},
                }
                for name, entry in entries.items()
            }
        )
        return
    for name, entry in entries.items():
        typer.echo(f"{name}  ({entry.task}, {entry.licence})")
        typer.echo(f"  trained on  {entry.trained_on}")
        typer.echo(f"  made by     {entry.command}, seed {entry.seed}")
        for key, value in entry.scores.items():
            typer.echo(f"  {key:<28}{value:g}")
        for path, _ in entry.files.values():
            typer.echo(f"  {path}")


@app.command("verify")
def verify_models(as_json: AsJson = False) -> None:
    """Check every network's files against the sums in the manifest; exit code 1 if one is not as published."""
    from casa.cli.output import print_json
    from casa.detect.weights import check_sum, read_manifest
    from casa.errors import CasaError
    from casa.resources import resource_dir

    checked: dict[str, str] = {}
    failures: list[CasaError] = []
    for entry in read_manifest(resource_dir("models")).values():
        for path, sha256 in entry.files.values():
            try:
                check_sum(path, sha256)
                checked[path.name] = "ok"
            except CasaError as error:
                checked[path.name] = str(error)
                failures.append(error)
    if as_json:
        print_json({"files": checked, "ok": not failures})
    else:
        for name, state in checked.items():
            typer.echo(f"{name}: {state if state == 'ok' else 'FAILED'}")
    if failures:
        raise failures[0]


@app.command("install")
def install_model(
    folder: Annotated[Path, typer.Argument(help="Folder that casa train wrote.")],
    name: Annotated[str, typer.Option(help="Network to install.")] = "sperm",
    force: Annotated[bool, typer.Option("--force", help="Replace a network of this name.")] = False,
) -> None:
    """Put a trained network among casa's own, so that it is found by its name."""
    from casa.detect.publish import install
    from casa.detect.weights import read_manifest
    from casa.errors import InputError
    from casa.resources import resource_dir

    target = resource_dir("models")
    if name in read_manifest(target) and not force:
        raise InputError(f"{target}: has a network named {name} already; --force replaces it")
    install(folder, name, target)
    typer.echo(f"{name}: installed in {target}")

"""``casa data``: sets of head crops, looked into and drawn. Holds the typer app ``app``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Sets of head crops: audit those there are, render others.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
def audit(
    folder: Annotated[Path, typer.Argument(help="A set of head crops; docs/morphology.md lists the layouts.")],
    layout: Annotated[
        str | None, typer.Option(help="hushem, scian, smids, svia, smd-mss or mhsma; by default found out.")
    ] = None,
    label: Annotated[str, typer.Option(help="Which of MHSMA's labels: head, acrosome, vacuole, tail.")] = "head",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Counts, imbalance, duplicates across splits, experts' agreement and poor pictures of a set."""
    from casa.cli.output import print_json
    from casa.morphology.audit import audit_folder

    result = audit_folder(folder, layout, label)
    print_json(result) if as_json else _print(result)


@app.command()
def render(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the set (pictures and labels.csv).")],
    preset: Annotated[str, typer.Option(help="hushem, scian, mhsma or phase.")] = "hushem",
    count: Annotated[int, typer.Option(min=1, help="How many crops.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same crops.")] = 0,
    label: Annotated[str, typer.Option(help="class, or a part: head, acrosome, vacuole, tail.")] = "class",
    experts: Annotated[int, typer.Option(min=1, help="How many simulated experts label them.")] = 3,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that exists.")] = False,
) -> None:
    """Render heads with known classes, and the labels of experts who err; drawn, not photographed."""
    from casa.cli.output import refuse_existing
    from casa.morphology.datasets import rendered_heads, write_heads

    refuse_existing(output, force)
    heads, _ = rendered_heads(count, preset, seed, label, experts)
    typer.echo(write_heads(output, heads))


def _print(result: dict[str, Any]) -> None:
    print(f"{result['folder']}: {result['crops']} crops, set {result['name']}")
    print("sizes: " + ", ".join(f"{size} ({count})" for size, count in list(result["sizes"].items())[:5]))
    print("classes: " + (", ".join(f"{name} {count}" for name, count in result["classes"].items()) or "none"))
    if result["unlabelled"]:
        print(f"unlabelled: {result['unlabelled']}")
    if set(result["splits"]) != {"none"}:
        for split, counts in result["splits"].items():
            print(f"  {split}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    if (experts := result["experts"]) is not None:
        kappa, agreement = experts["kappa"], experts["agreement"]
        interval = f"{kappa['low']:.2f} to {kappa['high']:.2f}"
        print(f"experts: {experts['experts']}, Fleiss' kappa {kappa['fleiss']:.2f} ({interval})")
        print("  agreement: " + ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in agreement.items()))
    same = result["duplicates"]
    print(f"duplicates: {same['exact']} exact, {same['near']} near; {same['across_splits']} across splits")
    for line in result["findings"]:
        print(f"! {line}")

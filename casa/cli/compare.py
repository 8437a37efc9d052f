"""``casa compare``: two runs over the same recordings, figure by figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from casa.cli.options import Json

if TYPE_CHECKING:
    from casa.batch.compare import Change, Comparison


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Folder of `casa batch`, its data set, or a recording.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The same, of other models or settings.")],
    every: Annotated[bool, typer.Option("--all", help="Show figures that did not change too.")] = False,
    as_json: Json = False,
) -> None:
    """Compare two runs: which figures moved, by how much, and what of the settings differed."""
    from casa.batch.compare import compare as compare_runs
    from casa.batch.compare import read_run
    from casa.cli.output import print_json

    found = compare_runs(read_run(first), read_run(second))
    if as_json:
        print_json(result_json(first, second, found))
    else:
        _print(first, second, found, every)


def result_json(first: str, second: str, found: Comparison) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "first": first,
        "second": second,
        "pairs": found.pairs,
        "alone": found.alone,
        "contents_differ": found.differ,
        "only_first": found.only_first,
        "only_second": found.only_second,
        "settings": {key: {"first": a, "second": b} for key, (a, b) in found.settings.items()},
        "figures": {change.figure: _change_json(change) for change in found.changes},
    }


def _change_json(change: Change) -> dict[str, Any]:
    return {
        "pairs": change.n,
        "first": change.first,
        "second": change.second,
        "difference": change.difference,
        "interval_95": change.interval,
        "moved": change.moved,
        "pairs_changed": change.n_changed,
        "most": {"recording": change.most[0], "difference": change.most[1]},
    }


def _print(first: str, second: str, found: Comparison, every: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(_pairs(first, second, found), soft_wrap=True, markup=False)
    for key, (a, b) in found.settings.items():
        console.print(f"differs: {key}: {_values(a)} -> {_values(b)}", soft_wrap=True, markup=False, highlight=False)
    if not found.settings:
        console.print("settings, networks and calibrations are the same", soft_wrap=True)
    shown = [change for change in found.changes if every or change.n_changed]
    if not shown:
        console.print("no figure changed in any recording", soft_wrap=True)
        return
    table = Table(title="B minus A, mean over recordings (95 % interval); * moved", title_justify="left")
    table.add_column("")
    for heading in ("A", "B", "change", "interval", "changed", "most in"):
        table.add_column(heading, justify="right" if heading != "most in" else "left", overflow="fold")
    for change in shown:
        interval = "" if change.interval is None else f"{change.interval[0]:+.3g} to {change.interval[1]:+.3g}"
        table.add_row(
            f"{change.figure}{' *' if change.moved else ''}",
            f"{change.first:.4g}", f"{change.second:.4g}", f"{change.difference:+.3g}", interval,
            f"{change.n_changed} of {change.n}",
            f"{change.most[0]} ({change.most[1]:+.3g})" if change.n_changed else "",
        )  # fmt: skip
    console.print(table)


def _pairs(first: str, second: str, found: Comparison) -> str:
    """What is compared, in a line."""
    if found.alone is not None:
        one, two = found.alone
        why = "their videos are not the same" if found.differ else "nothing says that they are of one video"
        return f"{one} with {two}, the only recordings of each: {why}"
    rest = [f", {len(names)} only in {path}" for path, names in ((first, found.only_first), (second, found.only_second))
            if names]  # fmt: skip
    return f"{found.pairs} recording{'s' * (found.pairs != 1)} in both{''.join(rest)}"


def _values(values: list[Any]) -> str:
    words = [str(value) for value in values[:3]]
    return ", ".join(words) + (", …" if len(values) > 3 else "")

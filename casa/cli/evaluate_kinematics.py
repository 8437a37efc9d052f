"""``casa evaluate kinematics``: a kinematics table against the true one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from casa.cli.options import Json


def evaluate_kinematics(
    found: Annotated[Path, typer.Argument(help="Kinematics table (CSV) to judge.")],
    truth: Annotated[Path, typer.Option(help="True kinematics (CSV) of the same tracks.")],
    min_duration: Annotated[float, typer.Option(help="Leave out tracks seen for less, s.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Errors of VCL, VSL, VAP, ALH, BCF and agreement of grades, track by track."""
    from casa.cli.evaluate import print_scores
    from casa.cli.output import print_json
    from casa.evaluate.kinematics import kinematics_scores, read_kinematics

    scores = kinematics_scores(read_kinematics(truth), read_kinematics(found), min_duration)
    if as_json:
        print_json({"found": str(found), "truth": str(truth), **scores})
        return
    compared = scores["tracks"]["compared"]
    print_scores(
        f"{found.name}: {compared} of {scores['tracks']['true']} true tracks compared",
        {name: scores[name] for name in ("vcl", "vsl", "vap")},
        ("n", "mean_percent", "max_percent"),
    )
    columns = ("n", "mean_percent", "bias_percent", "median_percent", "p90_percent", "bias_um_s", "median_um_s",
               "p90_um_s")  # fmt: skip
    print_scores("errors by speed", scores["errors"], columns)
    grades = scores["grades"]
    print(f"grades: {grades['same_percent']:.1f} % of {grades['tracks']} tracks the same,"
          f" {grades['right_percent']:.1f} % of the graded time right")  # fmt: skip

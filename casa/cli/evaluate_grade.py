"""``casa evaluate grade``: a network's grade distributions against experts' votes on clips it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from casa.cli.options import Json, Threads


def evaluate_grade(
    weights: Annotated[str, typer.Argument(help="Weights: a name (grade), or a file that casa train grade wrote.")],
    folder: Annotated[Path, typer.Argument(help="Folder of clips and votes (docs/grade-data.md).")],
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """MSE, Jensen-Shannon divergence and balanced accuracies of grade distributions, with 95 % intervals."""
    import numpy as np
    import torch

    from casa.cli.evaluate import print_scores
    from casa.cli.output import print_json
    from casa.cli.train_grade import score_line
    from casa.grade.checkpoints import load_network
    from casa.grade.data import read_dataset
    from casa.grade.experiment import judge, samples_of
    from casa.grade.scores import SCORES
    from casa.grade.train import predict
    from casa.weights import resolve_weights

    if threads:
        torch.set_num_threads(threads)
    network, about = load_network(resolve_weights(weights, ("state",), "grade").path)
    dataset = read_dataset(folder)
    found = predict(network, samples_of(dataset, network).pictures)
    # Without the training's base rate the prior is that of these clips: the strictest there is.
    prior = np.asarray(about.get("prior", dataset.distribution.mean(axis=0)))
    judged = judge(found, dataset.distribution, prior, dataset.fresh_panel_mse())
    result = {"weights": weights, "trained_on": about.get("trained_on"), "folder": str(folder),
              "simulated": dataset.simulated, **judged}  # fmt: skip
    if as_json:
        print_json(result)
        return
    typer.echo(score_line(dataset.name, judged))
    rows = {
        name: {"value": judged[name], "low": low, "high": high} for name, (low, high) in judged["interval_95"].items()
    }
    print_scores(f"{len(SCORES)} scores with 95 % intervals", rows, ("value", "low", "high"))

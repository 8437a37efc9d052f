"""``casa train grade``: train a network for grade distributions and judge it fold by fold."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from casa.cli.options import Json, Threads

if TYPE_CHECKING:
    from casa.grade.data import ClipDataset
    from casa.grade.train import EpochLog, GradeTrainConfig
    from casa.weights import ModelEntry


def train_grade(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder of clips and votes (docs/grade-data.md); without it a simulated panel is made."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", help="Training configuration (YAML); by default configs/grade/own.yaml or smoke.yaml."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for weights and scores; by default runs/NAME.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the first weights, the order and the changes of clips.")
    ] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the clips.")] = None,
    fold: Annotated[list[int] | None, typer.Option(help="Only this fold (from 0); repeat for several.")] = None,
    start: Annotated[Path | None, typer.Option(help="Weights to go on from: casa's, or published ones.")] = None,
    threads: Threads = 0,
    force: Annotated[bool, typer.Option("--force", help="Begin anew where a training is there already.")] = False,
    as_json: Json = False,
) -> None:
    """Train a network on clips and their experts' votes. Killed, it goes on where it was when called again."""
    import torch

    from casa.cli.output import json_text, print_json
    from casa.errors import InputError
    from casa.grade.experiment import judge_folds, run_folds
    from casa.grade.folds import check_folds
    from casa.grade.train import load_grade_config
    from casa.progress import progress
    from casa.resources import resource_dir

    path = config or resource_dir("configs") / "grade" / ("own.yaml" if folder else "smoke.yaml")
    overrides = {"epochs": epochs, "only_folds": tuple(fold) if fold else None, "start": start}
    settings = load_grade_config(path, overrides)
    check_folds(settings.folds, settings.only_folds)
    output = output or Path("runs") / settings.name
    if force and (output / "training.json").exists():
        if folder is not None and output.resolve() == folder.resolve():
            raise InputError(f"-o {output}: is the folder of the clips; give another one")
        for pattern in ("training.*", "fold*.pt", "fold*.csv", "scores.json"):
            for path_of_old in output.glob(pattern):
                path_of_old.unlink()
    if threads:
        torch.set_num_threads(threads)
    dataset = graded_clips(folder, settings, output.parent)
    n_folds = len(settings.only_folds) if settings.only_folds is not None else max(1, settings.folds)
    with progress("training", n_folds * settings.epochs) as bar:

        def after_epoch(number: int, log: EpochLog) -> None:
            bar.advance(1, f"fold {number}, epoch {log.epoch + 1}, loss {log.loss:.4f}")
            log_epoch(output / "training.csv", number, log)

        results = run_folds(settings, dataset, seed, output, after_epoch)
    judged = judge_folds(results, dataset)
    weights = publish(settings, dataset, seed, output, _command(path, folder, seed, epochs, fold, start), judged)
    outcome = {"weights": str(weights), "simulated": dataset.simulated, "data": dataset.name, "scores": judged}
    (output / "scores.json").write_text(json_text(outcome) + "\n", encoding="utf-8")
    if as_json:
        print_json(outcome)
        return
    typer.echo(f"{weights}: trained on {dataset.name}")
    for line in (score_line(f"fold {item['fold']}", item) for item in (judged or {}).get("folds", [])):
        typer.echo(line)


def log_epoch(path: Path, fold: int, log: EpochLog) -> None:
    """Add a line on an epoch to the table of a training."""
    if not path.exists():
        path.write_text("fold,epoch,loss,distance,diversity,aside_mse\n", encoding="utf-8")
    aside = "" if log.aside_mse is None else f"{log.aside_mse:.6f}"
    with path.open("a", encoding="utf-8") as stream:
        stream.write(f"{fold},{log.epoch},{log.loss:.6f},{log.distance:.6f},{log.diversity:.6f},{aside}\n")


def graded_clips(folder: Path | None, settings: GradeTrainConfig, beside: Path) -> ClipDataset:
    """The clips of ``folder``, or of the configuration's simulated panel, which is made once and kept ``beside``."""
    from casa.grade.data import read_dataset, simulated_dataset
    from casa.progress import progress

    if folder is not None:
        return read_dataset(folder)
    panel = settings.panel
    with progress("drawing the simulated panel", panel.clips) as bar:
        return simulated_dataset(
            panel.clips, panel.seed, beside / f"panel-{panel.clips}-{panel.seed}", _workers(), bar.advance
        )


def _workers() -> int:
    import os

    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def score_line(what: str, judged: dict[str, Any]) -> str:
    """One line on a judged set of clips, for people."""
    low, high = judged["interval_95"]["mse"]
    text = (
        f"{what}, {judged['clips']} clips: MSE {100 * judged['mse']:.3f}e-2 (95 % interval {100 * low:.3f} to "
        f"{100 * high:.3f}), the prior's {100 * judged['prior']['mse']:.3f}e-2: gain {judged['gain_percent']:.1f} %; "
        f"JS {100 * judged['js']:.2f}e-2, balanced accuracy {100 * judged['ba_mean']:.1f} %"
    )
    if judged["share_of_way"] is not None:
        way, fresh = 100 * judged["share_of_way"], 100 * judged["fresh_panel_mse"]
        text += f"; {way:.0f} % of the way to a fresh panel ({fresh:.3f}e-2)"
    return text


def _command(
    config: Path, folder: Path | None, seed: int, epochs: int | None, fold: list[int] | None, start: Path | None
) -> str:
    from casa.resources import named_in_checkout

    config_words = f"--config {named_in_checkout(config)} --seed {seed}"
    words = ["casa train grade", *([folder.name] if folder else []), config_words]
    words += [f"--epochs {epochs}"] if epochs else []
    words += [f"--fold {number}" for number in fold or []]
    words += [f"--start {start.name}"] if start else []
    return " ".join(words)


def publish(
    settings: GradeTrainConfig, dataset: ClipDataset, seed: int, output: Path, command: str, judged: Any
) -> Path:
    """The first fold's network as ``NAME.pt`` and ``NAME.onnx``, manifest and card, for ``casa models install``."""
    from casa.grade.checkpoints import load_network
    from casa.grade.export import export_onnx
    from casa.weights import ModelEntry, file_sha256, read_manifest, write_manifest

    first = settings.only_folds[0] if settings.only_folds else 0
    weights = output / f"{settings.name}.pt"
    shutil.copyfile(output / f"fold{first}.pt", weights)
    graph = weights.with_suffix(".onnx")
    network, about = load_network(weights)
    export_onnx(network, graph, about)
    fold = judged["folds"][0] if judged else None
    entry = ModelEntry(
        name=settings.name,
        task="grade",
        folder=output,
        files={"onnx": (graph, file_sha256(graph)), "state": (weights, file_sha256(weights))},
        licence="AGPL-3.0-or-later" if dataset.simulated else "as the clips",
        trained_on=dataset.name,
        command=command,
        seed=seed,
        card=f"{settings.name}.md",
        scores={
            name: round(float(fold[name]), 6)
            for name in ("mse", "js", "ba_mean", "gain_percent", "share_of_way")
            if fold is not None and fold[name] is not None
        },
    )
    write_manifest(output, read_manifest(output) | {entry.name: entry})
    (output / entry.card).write_text(card_text(settings, dataset, entry, fold), encoding="utf-8")
    return weights


def card_text(settings: GradeTrainConfig, dataset: ClipDataset, entry: ModelEntry, fold: dict[str, Any] | None) -> str:
    """The card of a network: what it is, was trained on, scored on held-out clips, and what nobody knows of it."""
    from casa.cells import EXPERT_GRADES

    options = ", ".join(f"`{name}` {value}" for name, value in settings.options.items())
    simulated = dataset.simulated
    lines = [f"# Model card: {entry.name}", ""]
    if simulated:
        lines += [
            "**Trained on a SIMULATED panel of experts.** No real clip and no real expert had a part in it; nothing it",
            "says of a real sperm has been checked by anybody.",
            "",
        ]
    lines += [
        "## Model",
        "",
        f"{settings.network}, size {settings.size}, {settings.variant} variant{', with ' if options else ''}{options}.",
        f"Of a clip of 16 pictures it gives a distribution over the grades {', '.join(EXPERT_GRADES)}. "
        f"Licence: {entry.licence}.",
        "",
        "| file | kind | sha256 |",
        "|---|---|---|",
        *(f"| `{path.name}` | {kind} | `{sha256}` |" for kind, (path, sha256) in entry.files.items()),
        "",
        "## Training",
        "",
        f"{dataset.name}; {settings.epochs} epochs, loss {settings.loss}, seed {entry.seed}.",
        f"Made by: `{entry.command}`",
        "",
        "## Scores",
        "",
        score_line("Held out", fold) + "." if fold else "Judged on no clips.",
        "",
        "## Limits",
        "",
    ]
    if simulated:
        lines.append(
            "- It has not seen a real clip. Between simulated and real pictures there may be a gap of any size."
        )
    lines += [
        "- It knows the microscopes and the experts it was trained on, and is as sure of itself with others.",
        "- Not for any decision on a patient or a sperm. An aid to develop with.",
    ]
    return "\n".join(lines) + "\n"

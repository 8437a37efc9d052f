"""``casa train morphology``: a head classifier by AID and soft-tuning, or the folds of a published table."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from casa.cli.options import Json, Threads

if TYPE_CHECKING:
    from casa.morphology.recipe import RecipeConfig
    from casa.morphology.sets import LabelledSet


def train_morphology(
    data: Annotated[
        Path | None,
        typer.Argument(help="Folder of a set of head crops (docs/morphology.md); without it, rendered heads."),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for weights, manifest, card, states.")] = ...,  # type: ignore[assignment]
    config: Annotated[
        str, typer.Option("--config", help="Recipe: a name in configs/morphology, or a YAML file.")
    ] = "rendered",
    name: Annotated[str, typer.Option(help="Name of the weights.")] = "morphology",
    part: Annotated[list[str] | None, typer.Option(help="Part that MHSMA labels; repeat for several.")] = None,
    layout: Annotated[str | None, typer.Option(help="Layout of the folder, where it cannot be told.")] = None,
    agreement: Annotated[int, typer.Option(min=0, help="Only crops on which so many experts agree.")] = 0,
    um_per_px: Annotated[float | None, typer.Option(min=0.001, help="Scale of the crops.")] = None,
    look: Annotated[
        str | None, typer.Option(help="How the crops are seen: phase contrast, unstained, stained or Diff-Quik.")
    ] = None,
    rendered: Annotated[int, typer.Option(min=8, help="How many heads are rendered, where they are wanted.")] = 2000,
    preset: Annotated[list[str] | None, typer.Option(help="Kind of rendered heads; repeat for several.")] = None,
    pretrained: Annotated[
        Path | None, typer.Option(help="Torchvision's (ImageNet) weights of the encoder, a state_dict.")
    ] = None,
    folds: Annotated[
        int, typer.Option(min=0, help="Judge by so many folds, pretraining inside each, instead of making weights.")
    ] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of each phase, in place of the recipe's.")] = None,
    members: Annotated[int | None, typer.Option(min=1, help="Networks whose mean counts.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    threads: Threads = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace weights that are there.")] = False,
    as_json: Json = False,
) -> None:
    """Train a classifier of head forms, or judge a recipe by cross-validation; goes on where it was broken off."""
    import torch

    from casa.cli.output import print_json
    from casa.errors import InputError
    from casa.morphology.domain import checked_look
    from casa.morphology.sets import load_set, rendered_set

    look = checked_look(look)
    if threads:
        torch.set_num_threads(threads)
    path = recipe_path(config)
    settings = recipe_with(path, epochs, members)
    if not folds and (settings.svm is not None or settings.groups is not None):
        raise InputError(f"{path.name}: a recipe with svm or groups makes no weights; judge it with --folds")
    if (output / f"{name}.pt").exists() and not force:
        raise InputError(f"{output / name}.pt: exists already; choose another folder or name, or give --force")
    presets = tuple(preset or ("hushem", "scian", "mhsma", "phase"))
    if data is None:
        labelled = rendered_set(rendered, presets, settings, seed, part or ())
    else:
        labelled = load_set(data, settings, part or (), layout, agreement, um_per_px, look)
    if folds and (len(labelled.parts) > 1 or settings.rendered is not None):
        raise InputError(f"--folds {folds}: judges one --part, by a recipe without rendered heads")
    extra = None
    if settings.rendered is not None:
        extra = rendered_set(rendered, presets, settings, seed + 1, [p.name for p in labelled.parts])
    if folds:
        result = _folds(labelled, settings, folds, seed, output, pretrained)
        if as_json:
            print_json(result)
        else:
            row = result["table_1"]
            typer.echo("  ".join(f"{key} {value['mean']:.1f} +- {value['sd']:.1f}" for key, value in row.items()))
        return
    command = shlex.join(["casa", *(Path(word).name if "/" in word else word for word in sys.argv[1:])])
    entry = _weights(labelled, settings, seed, output, name, pretrained, extra, command, data is None)
    if as_json:
        print_json({"weights": str(output / f"{name}.pt"), "sha256": entry.files["state"][1], "scores": entry.scores})
    else:
        scores = ", ".join(f"{key} {value}" for key, value in entry.scores.items())
        typer.echo(f"{output / name}.pt: {scores}")
        if "um_per_px" not in entry.knows:
            typer.echo(
                "! the scale of the crops is not known: whatever these weights class is marked; give --um-per-px"
            )


def recipe_path(name_or_path: str) -> Path:
    """The file of a recipe: a path, or a name in configs/morphology. Raises InputError, which lists the names."""
    from casa.errors import InputError
    from casa.resources import resource_dir

    folder = resource_dir("configs") / "morphology"
    for path in (Path(name_or_path), folder / f"{name_or_path}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
    raise InputError(f"--config {name_or_path}: no such file, nor one of {known}")


def recipe_with(path: Path, epochs: int | None, members: int | None = None) -> RecipeConfig:
    """The recipe of a file, with so many epochs in each of its phases."""
    from casa.morphology.recipe import load_recipe

    plain = load_recipe(path)
    phases = [name for name in ("aid", "rendered", "frozen", "tune") if getattr(plain, name) is not None]
    return load_recipe(path, {f"{name}.schedule.epochs": epochs for name in phases} | {"members": members})


def _folds(
    labelled: LabelledSet, settings: RecipeConfig, n_folds: int, seed: int, output: Path, pretrained: Path | None
) -> dict[str, Any]:
    from casa.morphology.judge import cross_validate, stratified_folds
    from casa.progress import progress

    folds = stratified_folds(labelled.crops.labels[:, 0], n_folds, seed, labelled.groups)
    phases = (settings.aid, settings.frozen, settings.tune)
    with progress("training", n_folds * sum(phase.schedule.epochs for phase in phases if phase)) as bar:
        told = lambda what, epoch, loss: bar.advance(1, f"{what} {epoch + 1}: loss {loss:.4f}")  # noqa: E731
        part = labelled.parts[0]
        return cross_validate(settings, part, labelled.crops, folds, seed, output / "states", pretrained, told)


def _weights(
    labelled: LabelledSet,
    settings: RecipeConfig,
    seed: int,
    output: Path,
    name: str,
    pretrained: Path | None,
    extra: LabelledSet | None,
    command: str,
    is_rendered: bool,
) -> Any:
    from casa.morphology.publish import publish, train_ensemble
    from casa.progress import progress

    phases = (settings.aid, settings.rendered, settings.frozen, settings.tune)
    total = settings.members * sum(phase.schedule.epochs for phase in phases if phase)
    with progress("training", total) as bar:
        told = lambda what, epoch, loss: bar.advance(1, f"{what} {epoch + 1}: loss {loss:.4f}")  # noqa: E731
        made = train_ensemble(labelled, settings, seed, output / "states", pretrained, extra, told)
    return publish(made, labelled, settings, output, name, seed, command, is_rendered)

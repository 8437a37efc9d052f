"""``casa evaluate morphology``: head classifiers against labelled sets, and recipes by leaving whole sets out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from casa.cli.options import Json, Threads


def evaluate_morphology(
    data: Annotated[
        list[Path], typer.Argument(help="Folder of a labelled set of head crops; several to leave one out.")
    ],
    weights: Annotated[str, typer.Option(help="Weights: a name, or a file.")] = "morphology",
    part: Annotated[
        str | None, typer.Option(help="Which of several parts that the weights judge a set's one label is of.")
    ] = None,
    split: Annotated[str, typer.Option(help="Only this split: train, valid or test.")] = "",
    layout: Annotated[str | None, typer.Option(help="Layout of the folder, where it cannot be told.")] = None,
    agreement: Annotated[int, typer.Option(min=0, help="Only crops on which so many experts agree.")] = 0,
    um_per_px: Annotated[float | None, typer.Option(min=0.001, help="Scale of the crops.")] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(help="CLASS=P: weigh the class as if P were an even chance; repeat. PART:CLASS=P for one part."),
    ] = None,
    cost: Annotated[
        list[str] | None, typer.Option(help="TRUE>SAID=COST of taking one class for another; others cost 1. Repeat.")
    ] = None,
    fit_thresholds: Annotated[
        str, typer.Option(help="Fit each two-class part's threshold on this split (valid, say), and decide by it.")
    ] = "",
    abstain_below: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Decide nothing where no class is likelier; default: the weights'."),
    ] = None,
    leave_one_out: Annotated[
        bool, typer.Option("--leave-one-out", help="Train by --config on all sets but one and judge on that, for each.")
    ] = False,
    config: Annotated[str, typer.Option("--config", help="Recipe for --leave-one-out.")] = "rendered",
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of each phase for --leave-one-out.")] = None,
    seed: Annotated[int, typer.Option(help="Seed for --leave-one-out.")] = 0,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Accuracy, balanced accuracy, recall, precision, F1, confusion and calibration, with Wilson's intervals."""
    from casa.cli.output import print_json
    from casa.errors import InputError

    if threads:
        import torch

        torch.set_num_threads(threads)
    if leave_one_out:
        result = _left_out(data, config, epochs, seed, layout, agreement, um_per_px)
    elif len(data) != 1:
        raise InputError(f"{len(data)} folders: give one, or --leave-one-out with two or more")
    else:
        how = {"threshold": threshold or [], "cost": cost or [], "abstain_below": abstain_below}
        if fit_thresholds:
            if how["threshold"] or how["cost"]:
                raise InputError("--fit-thresholds: finds thresholds itself; leave out --threshold and --cost")
            if fit_thresholds == split:
                raise InputError(f"--fit-thresholds {split}: fit on crops that are not judged; give another --split")
            how["threshold"] = _fitted(data[0], weights, part, fit_thresholds, layout, agreement, um_per_px)
        result = _judged(data[0], weights, part, split, layout, agreement, um_per_px, how)
    if as_json:
        print_json(result)
        return
    for name, scores in result["parts"].items():
        _print(name, scores)
    if not leave_one_out and result["um_per_px"] is None:
        typer.echo("! the scale of the crops is not known, and the network goes by size: give --um-per-px")


def _fitted(
    folder: Path,
    weights: str,
    only: str | None,
    split: str,
    layout: str | None,
    agreement: int,
    um_per_px: float | None,
) -> list[str]:
    """Thresholds of the second class of each part, as ``--threshold`` takes them, that balance accuracy on a split."""
    from casa.errors import InputError
    from casa.morphology.model import MorphologyClassifier, has_head
    from casa.morphology.probabilities import fit_threshold

    classifier = MorphologyClassifier(weights)
    words, found = [], None
    for part in _parts(classifier, only):
        if len(part.classes) != 2:
            raise InputError(f"--fit-thresholds: {part.name} has {len(part.classes)} classes; it takes parts of two")
        images, labels, _, scale = _labelled(
            folder, part, only, len(classifier.parts), split, layout, agreement, um_per_px
        )
        if found is None:
            found = classifier.classify(images, um_per_px=scale)
        second = found[:, classifier.columns[part.name]][:, 1]
        value = fit_threshold(second[has_head(found)], labels[has_head(found)])
        words.append(f"{part.name}:{part.classes[1]}={value:.4g}")
    return words


def _parts(classifier: Any, only: str | None) -> list[Any]:
    """The parts that are judged: all, or the one that is named. Raises InputError, which lists them."""
    from casa.errors import InputError

    parts = [part for part in classifier.parts if only in (None, part.name)]
    if not parts:
        raise InputError(f"--part {only}: these weights judge {', '.join(part.name for part in classifier.parts)}")
    return parts


def _labelled(
    folder: Path,
    part: Any,
    only: str | None,
    n_parts: int,
    split: str,
    layout: str | None,
    agreement: int,
    um_per_px: float | None,
) -> tuple[Any, Any, int, float | None]:
    """Crops, labels into a part's classes (-1: none), how many are of other classes, and the scale.

    Raises
    ------
    InputError : there are none, or it is not clear which part they are of.
    """
    from casa.errors import InputError
    from casa.morphology.datasets import read_heads
    from casa.morphology.judge import relabelled
    from casa.morphology.sets import KNOWN_SCALES

    heads = read_heads(folder, layout, part.name if part.name != "class" else "head")
    heads = heads.agreed(agreement) if agreement else heads
    heads = heads.split(split) if split else heads
    if heads.name != "mhsma" and n_parts > 1 and only is None:
        raise InputError(
            f"{folder}: has one label a crop, and the weights judge {n_parts} parts; say of which with --part"
        )
    if not len(heads):
        agreed = f" on which {agreement} experts agree" if agreement else ""
        raise InputError(f"{folder}: no crops{f' in split {split!r}' if split else ''}{agreed}")
    labels = relabelled(heads.labels, heads.class_names, part.classes)
    if not (labels >= 0).any():
        raise InputError(
            f"{folder}: its classes ({', '.join(heads.class_names)}) are none of the weights' "
            f"({', '.join(part.classes)}); evaluate with weights that know them"
        )
    others = int(((heads.labels >= 0) & (labels < 0)).sum())
    return heads.images, labels, others, um_per_px or heads.um_per_px or KNOWN_SCALES.get(heads.name)


def _judged(
    folder: Path,
    weights: str,
    only: str | None,
    split: str,
    layout: str | None,
    agreement: int,
    um_per_px: float | None,
    how: dict[str, Any],
) -> dict[str, Any]:
    import numpy as np

    from casa.errors import InputError
    from casa.morphology.model import MorphologyClassifier, has_head
    from casa.morphology.probabilities import ABSTAINED, decide
    from casa.morphology.scores import classification_scores

    classifier = MorphologyClassifier(weights)
    results: dict[str, Any] = {}
    found = scale = None
    parts = _parts(classifier, only)
    for word in how["threshold"]:
        if (of := word.partition("=")[0].rpartition(":")[0]) and of not in [part.name for part in parts]:
            raise InputError(f"--threshold {word}: no part {of!r}; judged are {', '.join(part.name for part in parts)}")
    for part in parts:
        images, labels, others, scale = _labelled(
            folder, part, only, len(classifier.parts), split, layout, agreement, um_per_px
        )
        if found is None:
            found = classifier.classify(images, um_per_px=scale)
        options: dict[str, Any] = {"abstain_below": classifier.info.abstain_below} | decision_options(
            part.name, part.classes, how
        )
        seen = has_head(found)
        own = found[:, classifier.columns[part.name]]
        decided = np.where(seen, decide(np.where(seen[:, None], own, 0.0), **options), ABSTAINED)
        counts = {"no_head": int((~seen).sum()), "other_classes": others}
        results[part.name] = classification_scores(own, labels, part.classes, decided) | counts
    decided_by = {"thresholds": how["threshold"], "costs": how["cost"]}
    about = {"data": str(folder), "weights": weights, "split": split or None, "um_per_px": scale}
    return {**about, **decided_by, "parts": results}


def decision_options(part: str, classes: tuple[str, ...], how: dict[str, Any]) -> dict[str, Any]:
    """What ``decide`` takes, of the command's words. Raises InputError for what names no class or is no number."""
    import numpy as np

    from casa.errors import InputError

    def number(text: str, word: str) -> float:
        try:
            return float(text)
        except ValueError:
            raise InputError(f"{word}: {text!r} is no number") from None

    def place(name: str, word: str) -> int:
        if name not in classes:
            raise InputError(f"{word}: no class {name!r}; {part} has {', '.join(classes)}")
        return classes.index(name)

    options: dict[str, Any] = {} if how["abstain_below"] is None else {"abstain_below": how["abstain_below"]}
    if how["threshold"]:
        thresholds = np.full(len(classes), 0.5)
        for word in how["threshold"]:
            name, _, value = word.partition("=")
            of, _, bare = name.rpartition(":")
            if of and of != part:
                continue
            p = number(value, f"--threshold {word}")
            if not 0 < p < 1:
                raise InputError(f"--threshold {word}: expected a probability between 0 and 1")
            thresholds[place(bare, f"--threshold {word}")] = p
            if len(classes) == 2:
                thresholds[1 - classes.index(bare)] = 1 - p
        options["thresholds"] = thresholds
    if how["cost"]:
        costs = 1.0 - np.eye(len(classes))
        for word in how["cost"]:
            pair, _, value = word.partition("=")
            true, _, said = pair.partition(">")
            costs[place(true, f"--cost {word}"), place(said, f"--cost {word}")] = number(value, f"--cost {word}")
        options["costs"] = costs
    return options


def _left_out(
    folders: list[Path],
    config: str,
    epochs: int | None,
    seed: int,
    layout: str | None,
    agreement: int,
    um_per_px: float | None,
) -> dict[str, Any]:
    from dataclasses import replace

    from casa.cli.train_morphology import recipe_path, recipe_with
    from casa.morphology.judge import common_classes, leave_one_out, relabelled
    from casa.morphology.networks import Part
    from casa.morphology.sets import load_set
    from casa.progress import progress

    settings = recipe_with(recipe_path(config), epochs)
    sets = [load_set(folder, settings, (), layout, agreement, um_per_px) for folder in folders]
    classes = common_classes([one.parts[0].classes for one in sets])
    crops = {}
    named = len({folder.name for folder in folders}) == len(folders)
    for folder, one in zip(folders, sets, strict=True):
        own = one.parts[0].classes
        labels, second = (relabelled(column, own, classes) for column in (one.crops.labels, one.crops.second))
        crops[folder.name if named else str(folder)] = replace(one.crops, labels=labels, second=second)[
            labels[:, 0] >= 0
        ]
    phases = (settings.aid, settings.frozen, settings.tune)
    with progress("training", len(sets) * sum(phase.schedule.epochs for phase in phases if phase)) as bar:
        told = lambda what, epoch, loss: bar.advance(1, f"{what} {epoch + 1}: loss {loss:.4f}")  # noqa: E731
        scores = leave_one_out(settings, Part("class", classes), crops, seed, after_epoch=told)
    return {"left_out": list(crops), "classes": classes, "parts": scores}


def _print(name: str, scores: dict[str, Any]) -> None:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}"

    low, high = scores["accuracy_95"] or (None, None)
    typer.echo(
        f"{name}: {scores['n']} judged, {scores['abstained']} not; accuracy {shown(scores['accuracy'])} % "
        f"({shown(low)}-{shown(high)}; always the commonest {shown(scores['majority_accuracy'])}), "
        f"balanced {shown(scores['balanced_accuracy'])}, F1 {shown(scores['f1'])}, "
        f"calibration error {shown(scores['ece'])}"
    )
    if scores.get("other_classes"):
        typer.echo(f"  left out: {scores['other_classes']} of classes that these weights do not know")
    width = max(len(label) for label in scores["per_class"])
    for k, (label, row) in enumerate(scores["per_class"].items()):
        counts = " ".join(f"{count:>5}" for count in scores["confusion"][k])
        figures = f"recall {shown(row['recall']):>5}  precision {shown(row['precision']):>5}  F1 {shown(row['f1']):>5}"
        typer.echo(f"  {label:<{width}}  {figures}  said: {counts}")

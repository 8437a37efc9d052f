"""Trainings that judge themselves: cross-validation with pretraining inside each fold, and whole sets left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from casa.errors import InputError
from casa.morphology.crops import Crops
from casa.morphology.networks import Part
from casa.morphology.predictors import train_predictor
from casa.morphology.recipe import RecipeConfig
from casa.morphology.scores import classification_scores
from casa.morphology.train import Run
from casa.types import IntArray

#: The columns of the paper's Table 1.
TABLE_1 = ("accuracy", "recall", "precision", "f1")


def stratified_folds(labels: IntArray, n_folds: int, seed: int, groups: Sequence[str] = ()) -> IntArray:
    """(n,) the fold in which each crop is held out; classes are spread evenly, crops of one group stay together.

    Raises
    ------
    InputError : fewer than two folds, or a class with fewer crops than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    counts = np.bincount(labels[labels >= 0])
    if n_folds < 2 or counts[counts > 0].min(initial=n_folds) < n_folds:
        raise InputError(f"{n_folds} folds: expected 2 or more, and no more than the rarest class has crops")
    out = np.empty(len(labels), np.int64)
    grouped = any(groups)
    names = [name or f"\0{k}" for k, name in enumerate(groups)] if grouped else None
    kind = StratifiedGroupKFold if grouped else StratifiedKFold
    splits = kind(n_folds, shuffle=True, random_state=seed).split(np.zeros(len(labels)), labels, names)
    for fold, (_, held_out) in enumerate(splits):
        out[held_out] = fold
    return out


def cross_validate(
    config: RecipeConfig,
    part: Part,
    crops: Crops,
    folds: IntArray,
    seed: int = 0,
    folder: Path | None = None,
    pretrained: Path | None = None,
    after_epoch: Callable[[str, int, float], None] = lambda what, epoch, loss: None,
) -> dict[str, Any]:
    """Scores of one part over all folds; each fold's pretraining sees that fold's training crops alone.

    Returns
    -------
    "folds" : scores of each. "pooled" : of all held-out crops together. "table_1" : mean and sd over the folds of
    ``TABLE_1``, in percent.
    """
    labelled = crops.labels[:, 0] >= 0
    probabilities = np.zeros((len(crops), len(part.classes)))
    rows = []
    for fold in range(int(folds.max()) + 1):
        held_out = (folds == fold) & labelled
        rest = crops[(folds != fold) & labelled]
        run = Run(seed + fold, folder / f"fold-{fold}" if folder else None, after_epoch)
        predict = train_predictor(config, part, rest, run, pretrained)
        probabilities[held_out] = predict(crops.images[held_out])
        rows.append(classification_scores(probabilities[held_out], crops.labels[held_out, 0], part.classes))
    table = {
        name: {
            "mean": float(np.mean([row[name] for row in rows])),
            "sd": float(np.std([row[name] for row in rows], ddof=1)),
        }
        for name in TABLE_1
    }
    pooled = classification_scores(probabilities[labelled], crops.labels[labelled, 0], part.classes)
    return {"folds": rows, "pooled": pooled, "table_1": table}


def leave_one_out(
    config: RecipeConfig,
    part: Part,
    sets: dict[str, Crops],
    seed: int = 0,
    folder: Path | None = None,
    pretrained: Path | None = None,
    after_epoch: Callable[[str, int, float], None] = lambda what, epoch, loss: None,
) -> dict[str, dict[str, Any]]:
    """For each set by name, the scores on it of a network that was trained on the others alone.

    Raises
    ------
    InputError : fewer than two sets.
    """
    if len(sets) < 2:
        raise InputError("leaving a set out needs two sets or more")
    scores = {}
    for name, left_out in sets.items():
        others = [crops for other, crops in sets.items() if other != name]
        joined = Crops(*(np.concatenate([getattr(c, field) for c in others]) for field in Crops.__dataclass_fields__))
        run = Run(seed, folder / f"without-{name}" if folder else None, after_epoch)
        found = train_predictor(config, part, joined, run, pretrained)(left_out.images)
        scores[name] = classification_scores(found, left_out.labels[:, 0], part.classes)
    return scores


def common_classes(names: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The classes that all sets have, in the first one's order.

    Raises
    ------
    InputError : fewer than two are left.
    """
    shared = tuple(name for name in names[0] if all(name in other for other in names[1:]))
    if len(shared) < 2:
        raise InputError(f"these sets share {len(shared)} classes; expected 2 or more to tell apart")
    return shared


def relabelled(labels: IntArray, classes: Sequence[str], wanted: Sequence[str]) -> IntArray:
    """Labels into ``classes`` as labels into ``wanted``; -1 for classes not wanted."""
    table = np.array([wanted.index(name) if name in wanted else -1 for name in classes] + [-1], np.int64)
    return table[labels]

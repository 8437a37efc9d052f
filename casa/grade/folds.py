"""Which clips are trained on and which are judged: grouped folds, and the part that may choose an epoch.

A fold that is reported is never looked at while its network is trained: where an epoch is chosen, it is chosen on
``inner_split``, a part of the fold's own training clips. Clips of one group (one sample, one recording) stay together,
else a network is judged on sperm whose neighbours it has seen.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from casa.errors import InputError
from casa.types import IntArray


@dataclass(frozen=True, slots=True)
class Fold:
    """Indices of clips: ``train`` and ``test`` have no clip and no group in common."""

    number: int
    train: IntArray
    test: IntArray


def check_folds(n_folds: int, only: Sequence[int] | None) -> None:
    """See that ``only`` names some of ``n_folds`` folds, each once, or is None; of 0 folds there is none to name.

    Raises
    ------
    InputError : it does not.
    """
    if only is None:
        return
    if not n_folds:
        raise InputError("only_folds: with folds: 0 one network learns from all clips; leave out only_folds and --fold")
    if not only:
        raise InputError(f"only_folds: names no fold; name some of 0 to {n_folds - 1}, or leave it out for all")
    for place, number in enumerate(only):
        if not 0 <= number < n_folds:
            raise InputError(f"only_folds: {number} is not one of the {n_folds} folds, 0 to {n_folds - 1}")
        if number in only[:place]:
            raise InputError(f"only_folds: {number} is there twice; name each fold once")


def grouped_folds(grades: IntArray, groups: IntArray, n_folds: int, seed: int) -> list[Fold]:
    """``n_folds`` folds with about the same share of each grade; each clip is in exactly one ``test``.

    ``grades`` (n,) is the grade most experts gave, ``groups`` (n,) what each clip belongs to.

    Raises
    ------
    InputError : fewer groups than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    grades, groups = np.asarray(grades), np.asarray(groups)
    n_groups = len(np.unique(groups))
    if not 2 <= n_folds <= n_groups:
        raise InputError(f"{n_folds} folds of {n_groups} groups of clips: expected 2 folds or more, at most the groups")
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # grades with fewer clips than folds: some folds lack them, which cannot be helped
        warnings.simplefilter("ignore", UserWarning)
        splits = list(splitter.split(grades, grades, groups))
    return [Fold(number, np.sort(train), np.sort(test)) for number, (train, test) in enumerate(splits)]


def inner_split(train: IntArray, groups: IntArray, share: float, seed: int) -> tuple[IntArray, IntArray]:
    """``train`` (indices of clips) split by group into what is learned from and what may choose an epoch.

    The second part gets about ``share`` of the clips, at least one group of them; ``groups`` is of *all* clips.

    Raises
    ------
    InputError : ``train`` has a single group.
    """
    groups = np.asarray(groups)[train]
    names, counts = np.unique(groups, return_counts=True)
    if len(names) < 2:
        raise InputError("the training part has one group of clips: none can be put aside to choose an epoch")
    order = np.random.default_rng(seed).permutation(len(names))
    n_aside = int(np.searchsorted(np.cumsum(counts[order]), share * len(train))) + 1
    aside = np.isin(groups, names[order[: min(n_aside, len(names) - 1)]])
    return train[~aside], train[aside]

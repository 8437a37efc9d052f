"""Several networks as one: a mean of seeds, and a splitter that hands each head to a specialist for its group.

The two stages (docs/morphology-training.md gives the source): first the groups that are easily told apart, then,
within a group, networks that know nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from casa.errors import InputError
from casa.types import FloatArray, IntArray

#: Gives (n, k) probabilities of n crops.
Predict = Callable[[NDArray[np.uint8]], NDArray[np.floating]]


def mean_of(members: Sequence[Predict]) -> Predict:
    """The mean probability of several networks of the same classes."""
    if not members:
        raise InputError("an ensemble needs at least one network")
    return lambda images: np.mean([member(images) for member in members], axis=0)


@dataclass(frozen=True, slots=True)
class Groups:
    """Classes in groups: ``of[g]`` are the classes (indices) of group g. Every class belongs to exactly one."""

    of: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        flat = sorted(k for group in self.of for k in group)
        if flat != list(range(len(flat))) or not all(self.of):
            raise InputError(f"groups {self.of}: each class from 0 on belongs to exactly one group")

    @property
    def n_classes(self) -> int:
        """Of all groups together."""
        return sum(len(group) for group in self.of)

    def group_labels(self, labels: IntArray) -> IntArray:
        """(n,) the group of each label, for the splitter; -1 stays."""
        table = np.empty(self.n_classes + 1, np.int64)
        table[-1] = -1
        for number, group in enumerate(self.of):
            table[list(group)] = number
        return table[labels]

    def inner_labels(self, labels: IntArray, group: int) -> IntArray:
        """(n,) the place of each label in its group, for that group's specialist; -1 for the others."""
        table = np.full(self.n_classes + 1, -1, np.int64)
        table[list(self.of[group])] = np.arange(len(self.of[group]))
        return table[labels]


def two_stage(splitter: Predict, specialists: Sequence[Predict | None], groups: Groups, hard: bool = False) -> Predict:
    """Class probabilities: of the group, times of the class within it.

    Parameters
    ----------
    specialists : one a group; None where the group has one class.
    hard : only the likeliest group's specialist is heard, as if the splitter were never wrong.

    Raises
    ------
    InputError : a group lacks its specialist.
    """
    if len(specialists) != len(groups.of):
        raise InputError(f"{len(specialists)} specialists for {len(groups.of)} groups")
    for number, (specialist, group) in enumerate(zip(specialists, groups.of, strict=True)):
        if specialist is None and len(group) > 1:
            raise InputError(f"group {number} of {len(group)} classes has no specialist")

    def predict(images: NDArray[np.uint8]) -> FloatArray:
        share = np.asarray(splitter(images), np.float64)
        if hard:
            share = (share == share.max(axis=1, keepdims=True)).astype(np.float64)
            share /= share.sum(axis=1, keepdims=True)
        out = np.empty((len(images), groups.n_classes))
        for number, (specialist, group) in enumerate(zip(specialists, groups.of, strict=True)):
            within = np.ones((len(images), 1)) if specialist is None else specialist(images)
            out[:, list(group)] = share[:, [number]] * within
        return out

    return predict

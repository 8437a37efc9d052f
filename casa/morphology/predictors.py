"""Trained recipes as functions from crops to probabilities: a network, features with a machine, or two stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from casa.errors import InputError
from casa.morphology.crops import Crops
from casa.morphology.deep_features import deep_features, fit_features
from casa.morphology.ensemble import Groups, Predict, two_stage
from casa.morphology.networks import Part
from casa.morphology.probabilities import softmax
from casa.morphology.recipe import RecipeConfig, masks_at_all, predict_member, train_member
from casa.morphology.train import Run
from casa.types import IntArray


def train_predictor(
    config: RecipeConfig, part: Part, crops: Crops, run: Run, pretrained: Path | None = None
) -> Predict:
    """What gives (n, k) probabilities of a part's classes, trained on crops that are all labelled.

    Raises
    ------
    InputError : what ``train_member`` raises; groups that do not hold each class once; features of masked crops.
    """
    if config.groups is None:
        return _one(config, part, crops, run, pretrained)
    groups = groups_of(config.groups, part.classes)
    names = tuple("+".join(part.classes[k] for k in group) for group in groups.of)
    splitter = _one(
        config, Part("group", names), _relabelled(crops, groups.group_labels), _sub(run, "splitter"), pretrained
    )
    specialists: list[Predict | None] = []
    for number, group in enumerate(groups.of):
        if len(group) == 1:
            specialists.append(None)
            continue
        inner = _relabelled(crops, lambda labels, k=number: groups.inner_labels(labels, k))
        own = inner[inner.labels[:, 0] >= 0]
        classes = Part("class", tuple(part.classes[k] for k in group))
        specialists.append(_one(config, classes, own, _sub(run, f"specialist-{number}"), pretrained))
    return two_stage(splitter, specialists, groups)


def groups_of(named: tuple[tuple[str, ...], ...], classes: tuple[str, ...]) -> Groups:
    """Groups by class names; names that a set does not have are left out, and so are groups without any.

    Raises
    ------
    InputError : a class of the set is in no group, or in two; one group alone.
    """
    kept = [tuple(classes.index(name) for name in group if name in classes) for group in named]
    groups = tuple(group for group in kept if group)
    flat = [k for group in groups for k in group]
    if sorted(flat) != list(range(len(classes))) or len(groups) < 2:
        raise InputError(f"groups: expected each of {', '.join(classes)} in one of two groups or more")
    return Groups(groups)


def _one(config: RecipeConfig, part: Part, crops: Crops, run: Run, pretrained: Path | None) -> Predict:
    """One network, or one with a support vector machine on its features."""
    if config.svm is not None and masks_at_all(config.tune):
        raise InputError("svm: features are taken of whole crops; set tune.dilations: null")
    member = train_member(config, (part,), crops, crops, run, pretrained)
    if config.svm is None:
        return lambda images: softmax(predict_member(member, images, config.tune))
    features = deep_features(member.classifier, crops.images)
    machine = fit_features(
        features, crops.labels[:, 0], len(part.classes), config.svm.components, config.svm.cost, run.seed
    )

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return machine.probabilities(deep_features(member.classifier, images))

    return predict


def _relabelled(crops: Crops, table: Callable[[IntArray], IntArray]) -> Crops:
    """Crops whose labels, and those of the minority, went through a table."""
    return replace(crops, labels=table(crops.labels), second=table(crops.second))


def _sub(run: Run, name: str) -> Run:
    """The same run with a folder of its own for its state."""
    return replace(run, folder=None if run.folder is None else run.folder / name)

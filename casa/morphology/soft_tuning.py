"""Soft-tuning (Zhang et al. 2022, section 2.3): from the teacher's encoder to a classifier of head forms.

Backgrounds are masked out ever more closely, two labels share the loss where experts differ (Eq. 4), and predictions
are averaged over views that leave the form as it is.
"""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from casa.config import Fraction, Section
from casa.morphology.crops import Crops, to_tensor
from casa.morphology.networks import Classifier
from casa.morphology.train import Run, Schedule, batches, class_weights, fit, sample_weights
from casa.morphology.warps import WarpRange, random_warps, repaint, warp

#: Dilations from which a mask leaves the whole crop visible.
OPEN_DILATIONS = 15
_LEAST_HEAD_PX = 12
_VIEWS = ((0.0, False), (0.0, True), (8.0, False), (-8.0, False), (8.0, True), (-8.0, True))


class TuneConfig(Section):
    """The paper's for SCIAN by default (section 3.3): 30 epochs of batches of 512, Adam at 1.5e-4.

    Parameters
    ----------
    lambda_ : the share of the majority's label in Eq. 4; 1 takes the majority alone.
    dilations : of the mask in the first and in the last epoch; None masks nothing.
    balance : how rare classes are made up for: weights in the loss, or drawing them more often; moving thresholds is
        done afterwards (``casa.morphology.probabilities``).
    views : test-time views averaged: each is a turn in degrees and whether it is mirrored.
    """

    schedule: Schedule = Schedule(epochs=30, batch=512)
    warps: WarpRange = WarpRange(shift=0.06, scale=(1.0, 1.0), aspect=(1.0, 1.0), brightness=0.0, contrast=0.0)
    lambda_: Fraction = 0.85
    dilations: tuple[int, int] | None = (OPEN_DILATIONS, 0)
    balance: Literal["none", "weights", "sampling"] = "none"
    label_smoothing: Fraction = 0.0
    dropout: Fraction = 0.2
    views: tuple[tuple[float, bool], ...] = _VIEWS


def dilations_at(config: TuneConfig, epoch: int) -> int:
    """How many dilations the mask gets in an epoch: linear from the first to the last one."""
    if config.dilations is None:
        return OPEN_DILATIONS
    first, last = config.dilations
    share = epoch / max(config.schedule.epochs - 1, 1)
    return round(first + (last - first) * share)


def depth_outside(heads: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, s, s) distance in px to the drawn head, 0 within; 0 everywhere if none was drawn.

    The head is the convex hull of the largest piece with a probability above 1/2: where an unstained head is as bright
    as its background the teacher leaves holes and bays, and what lies in them (vacuoles) is to be seen.
    """
    out = np.zeros(heads.shape, np.float32)
    for depth, head in zip(out, heads, strict=True):
        contours, _ = cv2.findContours((head > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        largest = max(contours, key=cv2.contourArea, default=None)
        if largest is not None and cv2.contourArea(largest) >= _LEAST_HEAD_PX:
            outside = np.ones(head.shape, np.uint8)
            cv2.fillConvexPoly(outside, cv2.convexHull(largest), 0)
            depth[:] = cv2.distanceTransform(outside, cv2.DIST_L2, 5)
    return out


def masked(images: Tensor, depth: Tensor, dilations: int) -> Tensor:
    """Crops with 0 (their mean) where the background lies further from the head than ``dilations`` px."""
    if dilations >= OPEN_DILATIONS:
        return images
    return images * (depth <= dilations + 0.5)


def soft_cross_entropy(
    logits: Tensor, first: Tensor, second: Tensor, lambda_: float, weight: Tensor | None, smooth: float
) -> Tensor:
    """Eq. 4: lambda of the majority's label, the rest of the minority's; the mean over crops that have a label.

    Parameters
    ----------
    logits : (n, k). first, second : (n,) labels; -1 in ``first``: left out, in ``second``: consensus.
    weight : (k,) of the classes, or None. smooth : label smoothing.
    """
    known = first >= 0
    if not bool(known.any()):
        return logits.sum() * 0.0
    logits, first, second = logits[known], first[known], second[known]
    share = torch.where(second >= 0, lambda_, 1.0)
    loss = share * F.cross_entropy(logits, first, weight, reduction="none", label_smoothing=smooth)
    loss = loss + (1 - share) * F.cross_entropy(
        logits, torch.where(second >= 0, second, first), weight, reduction="none", label_smoothing=smooth
    )
    return loss.mean()


def tune(
    model: Classifier,
    crops: Crops,
    heads: NDArray[np.float32] | None,
    config: TuneConfig,
    run: Run,
    what: str = "tune",
) -> Classifier:
    """Train ``model`` on labelled crops.

    Parameters
    ----------
    heads : (n, s, s) where the teacher sees the head; None: nothing is masked. what : name of the phase.
    """
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = to_tensor(crops.images, model.encoder.channels)
    depth = None if heads is None or config.dilations is None else torch.from_numpy(depth_outside(heads))[:, None]
    first, second = torch.from_numpy(crops.labels), torch.from_numpy(crops.second)
    drawn = sample_weights(crops.labels) if config.balance == "sampling" else None
    weights: list[Any] = [None] * len(model.parts)
    if config.balance == "weights":
        weights = [class_weights(crops.labels[:, k], len(part.classes)) for k, part in enumerate(model.parts)]
    generator = run.generator

    def epoch(number: int, optimiser: torch.optim.Optimizer) -> float:
        model.train()
        _hold_frozen(model)
        total, count = 0.0, 0
        for pick in batches(len(crops), config.schedule.batch, generator, drawn):
            maps = random_warps(len(pick), config.warps, generator)
            view = repaint(warp(images[pick], maps), config.warps, generator)
            if depth is not None:
                view = masked(view, warp(depth[pick], maps), dilations_at(config, number))
            losses = [
                soft_cross_entropy(
                    logits, first[pick, k], second[pick, k], config.lambda_, weights[k], config.label_smoothing
                )
                for k, logits in enumerate(model.split(model(view)))
            ]
            loss = torch.stack(losses).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total, count = total + float(loss.detach()), count + 1
        return total / max(count, 1)

    fit(what, {"model": model}, model.parameters(), epoch, config.schedule, run)
    return model.eval()


def _hold_frozen(model: Classifier) -> None:
    """Layers whose weights are frozen keep their statistics too."""
    for layer in model.modules():
        own = list(layer.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            layer.eval()


@torch.no_grad()
def predict(
    model: Classifier,
    images: NDArray[np.uint8],
    heads: NDArray[np.float32] | None,
    config: TuneConfig,
    batch: int = 256,
) -> NDArray[np.float32]:
    """(n, classes of all parts) log-probabilities: the mean probability over the test-time views."""
    model.eval()
    x = to_tensor(images, model.encoder.channels)
    depth = None if heads is None or config.dilations is None else torch.from_numpy(depth_outside(heads))[:, None]
    dilations = OPEN_DILATIONS if config.dilations is None else config.dilations[1]
    rows = []
    for start in range(0, len(x), batch):
        part = slice(start, start + batch)
        seen = x[part] if depth is None else masked(x[part], depth[part], dilations)
        total = torch.stack(
            [torch.cat([p.softmax(1) for p in model.split(model(view))], 1) for view in views_of(seen, config)]
        )
        rows.append(total.mean(0).clamp(min=1e-8).log())
    return torch.cat(rows).numpy() if rows else np.empty((0, model.head.out_features), np.float32)


def views_of(x: Tensor, config: TuneConfig) -> list[Tensor]:
    """The test-time views of crops (n, c, s, s): mirrored and turned as ``config.views`` says."""
    views = []
    for degrees, mirrored in config.views:
        view = x.flip(2) if mirrored else x
        if degrees:
            angle = torch.deg2rad(torch.tensor(degrees))
            turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
            maps = torch.cat([turn, torch.zeros(2, 1)], 1).expand(len(x), 2, 3)
            view = warp(view, maps)
        views.append(view)
    return views

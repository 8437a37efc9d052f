"""Anatomical information distillation (AID, Zhang et al. 2022, section 2.2): what a head is, learned without labels.

A student and its exponential moving average, the teacher, learn to draw the head from HPM's sure pixels alone (Eq. 1)
and alike under two views of a crop (Eq. 2); then the student learns to tell how a crop was turned (Eq. 3).
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from casa.config import Fraction, NonNegative, Section
from casa.morphology.crops import NOT_KNOWN, Crops, to_tensor
from casa.morphology.networks import Segmenter
from casa.morphology.train import Run, Schedule, batches, fit
from casa.morphology.warps import WarpRange, inverse, random_warps, repaint, warp


class AidConfig(Section):
    """The paper's by default (section 3.2): 25 epochs of batches of 128, Adam at 1e-4, a tenth at epochs 12 and 19.

    Parameters
    ----------
    alpha, beta : weights of Eq. 1 and Eq. 2. fine, coarse : whether masks (Eq. 1, 2) and turns (Eq. 3) are taught.
    fine_share : of the epochs that teach masks; the rest teach turns.
    decay : of the teacher's moving average, a step; at first less, so that it forgets how the student began.
    """

    schedule: Schedule = Schedule(epochs=25, batch=128, learning_rate=1e-4, milestones=(12, 19))
    warps: WarpRange = WarpRange(colour=0.3, gray=0.2)
    alpha: NonNegative = 1.0
    beta: NonNegative = 1.0
    fine: bool = True
    coarse: bool = True
    fine_share: Fraction = 0.6
    decay: Fraction = 0.99


def partial_cross_entropy(logits: Tensor, rings: Tensor) -> Tensor:
    """Eq. 1 (its sign made that of a loss): cross-entropy over ring 1 and the background, a mean over all pixels.

    Parameters
    ----------
    logits : (n, 1, h, w). rings : (n, 1, h, w) uint8, as in ``Crops``; 2 and up, and ``NOT_KNOWN``, are ignored.
    """
    sure = rings <= 1
    loss = F.binary_cross_entropy_with_logits(logits, (rings == 1).to(logits.dtype), reduction="none")
    return (loss * sure).sum() / sure.numel()


def consistency(student: Tensor, teacher: Tensor, student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """Eq. 2: mean squared difference of two masks, each turned back to the crop it is of, where both views saw it.

    Parameters
    ----------
    student, teacher : (n, 1, h, w) probabilities. student_maps, teacher_maps : (n, 2, 3) of their views.
    """
    back = [warp(mask, inverse(maps), "zeros") for mask, maps in ((student, student_maps), (teacher, teacher_maps))]
    seen = [warp(torch.ones_like(student), inverse(maps), "zeros") > 0.99 for maps in (student_maps, teacher_maps)]
    both = seen[0] & seen[1]
    return (((back[0] - back[1]) ** 2) * both).sum() / both.sum().clamp(min=1)


def follow(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """Move the teacher's weights towards the student's, as an exponential moving average; statistics are copied."""
    with torch.no_grad():
        for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
            old.lerp_(new, 1 - decay)
        for old, new in zip(teacher.buffers(), student.buffers(), strict=True):
            old.copy_(new)


def view_rings(rings: Tensor, maps: Tensor) -> Tensor:
    """Rings as a view sees them: nearest neighbour, ``NOT_KNOWN`` outside."""
    grid = F.affine_grid(maps, list(rings.shape), align_corners=False)
    shifted = F.grid_sample((rings.float() + 1), grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return torch.where(shifted < 0.5, float(NOT_KNOWN), shifted - 1).to(torch.uint8)


def distill(segmenter: Segmenter, crops: Crops, config: AidConfig, run: Run) -> Segmenter:
    """Pretrain ``segmenter`` (the student) on crops whose labels are not looked at; returns the teacher."""
    student = segmenter.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    teacher = copy.deepcopy(student).requires_grad_(False)
    images = to_tensor(crops.images, student.encoder.channels)
    rings = torch.from_numpy(crops.rings)[:, None]
    epochs = config.schedule.epochs
    fine_epochs = epochs if not config.coarse else round(epochs * config.fine_share) if config.fine else 0
    generator, steps = run.generator, 0

    def fine_step(pick: Tensor) -> Tensor:
        maps = [random_warps(len(pick), config.warps, generator) for _ in range(2)]
        views = [repaint(warp(images[pick], m), config.warps, generator) for m in maps]
        logits = student(views[0])
        with torch.no_grad():
            taught = torch.sigmoid(teacher(views[1]))
        drawn = partial_cross_entropy(logits, view_rings(rings[pick], maps[0]))
        return config.alpha * drawn + config.beta * consistency(torch.sigmoid(logits), taught, maps[0], maps[1])

    def coarse_step(pick: Tensor) -> Tensor:
        turn = torch.randint(4, (len(pick),), generator=generator)
        view = warp(images[pick], random_warps(len(pick), config.warps, generator))
        view = torch.stack([torch.rot90(x, int(k), (1, 2)) for x, k in zip(view, turn, strict=True)])
        return F.cross_entropy(student.turns(repaint(view, config.warps, generator)), turn)

    def epoch(number: int, optimiser: torch.optim.Optimizer) -> float:
        nonlocal steps
        student.train()
        teacher.train()
        step = fine_step if number < fine_epochs else coarse_step
        total, count = 0.0, 0
        for pick in batches(len(crops), config.schedule.batch, generator):
            loss = step(pick)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            follow(teacher, student, min(config.decay, (number * count + 1) / (number * count + 10)))
            total, count = total + float(loss.detach()), count + 1
        return total / max(count, 1)

    fit("aid", {"student": student, "teacher": teacher}, student.parameters(), epoch, config.schedule, run)
    return teacher.eval()


@torch.no_grad()
def draw_heads(segmenter: Segmenter, images: NDArray[np.uint8], batch: int = 128) -> NDArray[np.float32]:
    """(n, s, s) probability of head at each pixel, by the teacher; a crop and its mirror image are averaged."""
    segmenter.eval()
    x = to_tensor(images, segmenter.encoder.channels)
    drawn = [
        (torch.sigmoid(segmenter(part)) + torch.sigmoid(segmenter(part.flip(2))).flip(2)) / 2 for part in x.split(batch)
    ]
    return torch.cat(drawn)[:, 0].numpy()

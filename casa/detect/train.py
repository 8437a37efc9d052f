"""Training the detector: ultralytics' network and loss, casa's own views of pictures held in memory.

The loop is written out here, since ultralytics' trainer plots, downloads and writes under the home folder.
Everything random comes from one seed. The weights that are kept are the running average at the last step: no
epoch is picked by a score, so no score is flattered.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from pydantic import Field

from casa.config import Fraction, Positive, Section, load_section
from casa.detect import network
from casa.detect.augment import LabelledImage, random_view
from casa.errors import CasaError, InputError


class TrainConfig(Section):
    """How a detector is trained."""

    name: str = Field(default="sperm", pattern=r"^[A-Za-z0-9_.-]+$")
    classes: tuple[str, ...] = ("sperm",)
    network: dict[str, Any]
    simulated: Annotated[int, Field(ge=0)] = Field(default=400, description="simulated pictures")
    real_first: Annotated[int, Field(ge=0)] = 0
    real_last: Annotated[int, Field(ge=0)] = Field(default=139, description="last frame of the real clip trained on")
    real_stride: Annotated[int, Field(ge=1)] = Field(default=1, description="of the real frames, every how manieth")
    test_first: Annotated[int, Field(ge=0)] = Field(default=140, description="first frame of the clip scored on")
    test_last: Annotated[int, Field(ge=0)] = 199
    real_share: Fraction = Field(default=0.5, description="share of views that are of the real clip")
    epochs: Annotated[int, Field(ge=1)] = 12
    views_per_picture: Annotated[int, Field(ge=1)] = Field(default=8, description="views of a picture in an epoch")
    batch: Annotated[int, Field(ge=1)] = 16
    view_px: Annotated[int, Field(ge=64, multiple_of=32)] = 256
    simulated_scale: tuple[Positive, Positive] = (0.55, 1.7)
    real_scale: tuple[Positive, Positive] = Field(
        default=(0.85, 1.18), description="narrow: it is the one real microscope there is"
    )
    simulated_light: Fraction = Field(default=0.5, description="odds of photometric changes of simulated views")
    real_light: Fraction = Field(default=0.4, description="odds of photometric changes of real views")
    real_turns: bool = Field(
        default=True,
        description="turn and mirror real views too; without, the network may learn how boxes were drawn by hand",
    )
    learning_rate: Positive = 3e-3
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    warmup_steps: Annotated[int, Field(ge=1)] = 100
    average: Fraction = Field(default=0.999, description="decay of the running average of the weights")
    box_gain: Positive = 7.5
    class_gain: Positive = 0.5
    rare_weight: Positive = Field(default=4.0, description="weight of what is there of all classes but the first")
    dfl_gain: Positive = 1.5


@dataclass(frozen=True, slots=True)
class EpochLog:
    """Mean losses of an epoch."""

    epoch: int
    box_loss: float
    class_loss: float
    dfl_loss: float


def load_train_config(path: Path, overrides: dict[str, Any] | None = None) -> TrainConfig:
    """A training configuration from YAML; see ``casa.config.load_section``."""
    return load_section(path, TrainConfig, overrides)


def steps_per_epoch(config: TrainConfig, n_pictures: int) -> int:
    """Batches in an epoch: every picture ``views_per_picture`` times, on average."""
    return max(1, math.ceil(n_pictures * config.views_per_picture / config.batch))


def train(
    config: TrainConfig,
    simulated: Sequence[LabelledImage],
    real: Sequence[LabelledImage],
    seed: int,
    advance: Callable[[str], None] = lambda _detail: None,
    after_epoch: Callable[[EpochLog, Any], None] = lambda _log, _model: None,
    start: Path | None = None,
) -> Any:
    """Train a network on the CPU; gives the model with averaged weights, in eval mode.

    ``start`` is a state file to go on from; without it the network starts from scratch.
    ``advance`` is called after every step with a line on how it goes, ``after_epoch`` with the mean losses and
    the averaged model so far.

    Raises
    ------
    InputError : nothing to train on, or ``start`` is of another network. CasaError : the loss is no longer a number.
    """
    import torch

    if not simulated and not real:
        raise InputError("nothing to train on: give --real, or --sim above 0")
    cv2.setNumThreads(1)  # views are small: its threads cost more than they give, and fight with torch's
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model: Any = network.build_network(config.network, config.classes).train()
    if start is not None:
        _go_on_from(start, model, config)
    model.to(memory_format=torch.channels_last)
    loss_of = network.detection_loss(model, config.box_gain, config.class_gain, config.dfl_gain)
    # Clusters and small heads are a few in a hundred boxes: unweighted, the network learns that there are none.
    weight = torch.tensor([1.0] + [config.rare_weight] * (len(config.classes) - 1))
    loss_of.bce = torch.nn.BCEWithLogitsLoss(reduction="none", pos_weight=weight)
    average: Any = copy.deepcopy(model).eval().requires_grad_(False)
    optimiser = _optimiser(model, config)
    n_steps = steps_per_epoch(config, len(simulated) + len(real))
    total, step = n_steps * config.epochs, 0
    n_classes = len(config.classes)
    simulated = [item.of_classes(n_classes) for item in simulated]
    real = [item.of_classes(n_classes) for item in real]
    with closing(_batches(config, simulated, real, rng, total)) as batches:
        for epoch in range(config.epochs):
            losses = []
            for _ in range(n_steps):
                rate = _learning_rate(config, step, total)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                pictures, batch = next(batches)
                loss, parts = loss_of(model(pictures.contiguous(memory_format=torch.channels_last)), batch)
                optimiser.zero_grad()
                loss.sum().backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
                optimiser.step()
                step += 1
                _update_average(average, model, config.average, step)
                losses.append([float(value) for value in parts.values()])
                if not np.isfinite(losses[-1]).all():
                    raise CasaError(f"training: the loss of step {step} is {losses[-1]}; lower learning_rate")
                advance(f"epoch {epoch + 1}/{config.epochs}, box loss {losses[-1][0]:.2f}")
            after_epoch(EpochLog(epoch, *np.mean(losses, axis=0).tolist()), average)
    return average


#: How much rarer than the first class a class is taken for that the earlier network did not know, as a logit.
_NEW_CLASS_LOGIT = -3.0


def _go_on_from(start: Path, model: Any, config: TrainConfig) -> None:
    """Load the weights of ``start`` into the untrained ``model``.

    Classes that ``start`` does not know yet begin as the first class does, only rarer: what they are not, such as
    empty ground, need not be learned again.
    """
    import torch

    earlier, architecture, classes = network.load_state(start)
    known = len(classes)
    if architecture != config.network or tuple(classes) != config.classes[:known]:
        raise InputError(f"{start}: is of another network than the configuration's; start from one of the same")
    state = dict(earlier.state_dict())
    for name, tensor in model.state_dict().items():
        rows = state[name]
        if rows.shape != tensor.shape:  # the last layer of the classes' branch: a row for each class
            first = rows[:1] + (_NEW_CLASS_LOGIT if rows.ndim == 1 else 0.0)
            state[name] = torch.cat([rows, first.expand(len(tensor) - known, *rows.shape[1:])])
    model.load_state_dict(state)


def _batches(
    config: TrainConfig,
    simulated: Sequence[LabelledImage],
    real: Sequence[LabelledImage],
    rng: np.random.Generator,
    total: int,
) -> Generator[tuple[Any, dict[str, Any]]]:
    """``total`` batches; the next one is drawn in a thread of its own while the network learns from this one.

    One thread draws all, one after another, so that the same generator gives the same batches.
    """

    def draw() -> tuple[Any, dict[str, Any]]:
        return to_batch([_draw(config, simulated, real, rng) for _ in range(config.batch)])

    with ThreadPoolExecutor(1, "views") as pool:
        ahead = pool.submit(draw)
        for step in range(total):
            batch = ahead.result()
            if step + 1 < total:
                ahead = pool.submit(draw)
            yield batch


def _draw(
    config: TrainConfig, simulated: Sequence[LabelledImage], real: Sequence[LabelledImage], rng: np.random.Generator
) -> LabelledImage:
    use_real = bool(real) and (not simulated or rng.random() < config.real_share)
    pool = real if use_real else simulated
    scale, light = (
        (config.real_scale, config.real_light) if use_real else (config.simulated_scale, config.simulated_light)
    )
    turn = config.real_turns if use_real else True
    return random_view(pool[int(rng.integers(len(pool)))], config.view_px, rng, scale, light, turn)


def to_batch(views: Sequence[LabelledImage]) -> tuple[Any, dict[str, Any]]:
    """Pictures (b, 1, s, s) in [0, 1] and the labels as ultralytics' loss takes them (centre, size; fractions)."""
    import torch

    size = views[0].image.shape[0]
    # In NumPy: this runs beside the network, whose threads torch would set to work here too.
    pictures = torch.from_numpy(np.stack([view.image for view in views])[:, None] * np.float32(1 / 255))
    boxes = np.concatenate([view.xyxy for view in views]) / size
    centre_size = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
    owner = np.repeat(np.arange(len(views)), [len(view.xyxy) for view in views])
    return pictures, {
        "batch_idx": torch.from_numpy(owner.astype(np.float32)),
        "cls": torch.from_numpy(np.concatenate([view.class_id for view in views]).astype(np.float32))[:, None],
        "bboxes": torch.from_numpy(centre_size.astype(np.float32)),
    }


def _optimiser(model: Any, config: TrainConfig) -> Any:
    """AdamW; biases and batch norm are not decayed."""
    import torch

    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
    )


def _learning_rate(config: TrainConfig, step: int, total: int) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    warm = min(1.0, (step + 1) / config.warmup_steps)
    return config.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / total)))


def _update_average(average: Any, model: Any, decay: float, step: int) -> None:
    """Exponential running average of weights and batch-norm statistics, quicker at the start."""
    import torch

    keep = min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        for mean, now in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.mul_(keep).add_(now, alpha=1 - keep)
            else:
                mean.copy_(now)

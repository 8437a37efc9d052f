"""The loop under every training here: epochs with a schedule, seeds, and a state to go on from when broken off."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from casa.config import NonNegative, Positive, Section
from casa.errors import CasaError, InputError


class Schedule(Section):
    """How long and how fast: Adam, the rate a tenth from each milestone (in epochs) on, or a cosine down to 0."""

    epochs: Annotated[int, Field(ge=0)] = 30
    batch: Annotated[int, Field(ge=2)] = 64
    learning_rate: Positive = 1.5e-4
    milestones: tuple[int, ...] = (14, 23)
    decay: Literal["step", "cosine"] = "step"
    weight_decay: NonNegative = 0.0

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch."""
        if self.decay == "cosine":
            warm = min(1.0, (epoch + 1) / 3)
            return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))
        return self.learning_rate * 0.1 ** sum(epoch >= milestone for milestone in self.milestones)


@dataclass
class Run:
    """What one training is driven by: its seed, where its state is kept, and who is told of each epoch.

    ``folder`` None keeps no state. With one, a training that was broken off goes on after the last epoch it finished,
    and ends with the very weights it would have had. ``of`` : what is trained on what (``fingerprint``); a state of
    another is refused.
    """

    seed: int = 0
    folder: Path | None = None
    after_epoch: Callable[[str, int, float], None] = lambda what, epoch, loss: None
    of: str = ""
    generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)
        torch.manual_seed(self.seed)  # weights and dropout


def fingerprint(*parts: str | np.ndarray) -> str:
    """A name for what a training is made of: recipe, crops, labels."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part.tobytes())
        digest.update(b"\0")
    return digest.hexdigest()


def batches(n: int, size: int, generator: torch.Generator, weights: Tensor | None = None) -> Iterator[Tensor]:
    """Indices of 0 to n - 1 in random order, in batches; with ``weights``, n draws with replacement by these.

    A last batch of one is left out: batch statistics have no meaning there.
    """
    order = torch.randperm(n, generator=generator)
    if weights is not None:
        order = torch.multinomial(weights, n, replacement=True, generator=generator)
    for part in order.split(size):
        if len(part) > 1 or n == 1:
            yield part


def fit(
    what: str,
    modules: dict[str, nn.Module],
    parameters: Iterable[nn.Parameter],
    epoch: Callable[[int, torch.optim.Optimizer], float],
    schedule: Schedule,
    run: Run,
) -> None:
    """Run ``epoch(number, optimiser)``, which returns its mean loss, for each epoch of the schedule.

    Raises
    ------
    CasaError : the loss is no number. InputError : the state in the run's folder is of another training.
    """
    optimiser = torch.optim.AdamW(
        [p for p in parameters if p.requires_grad], schedule.learning_rate, weight_decay=schedule.weight_decay
    )
    path = run.folder / f"{what}.state.pt" if run.folder else None
    first = _resumed(path, modules, optimiser, run) if path and path.is_file() else 0
    for number in range(first, schedule.epochs):
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate(number)
        loss = epoch(number, optimiser)
        if not math.isfinite(loss):
            raise CasaError(f"{what}: the loss of epoch {number + 1} is {loss}; lower the learning rate")
        run.after_epoch(what, number, loss)
        if path:
            _keep(path, modules, optimiser, run, number + 1)


def _keep(path: Path, modules: dict[str, nn.Module], optimiser: Any, run: Run, epochs: int) -> None:
    state = {
        "modules": {name: module.state_dict() for name, module in modules.items()},
        "optimiser": optimiser.state_dict(),
        "generators": [run.generator.get_state(), torch.get_rng_state()],
        "seed": run.seed,
        "of": run.of,
        "epochs": epochs,
    }
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, part)
        part.replace(path)
    except (OSError, RuntimeError) as error:
        raise CasaError(f"{path}: cannot be written ({error}); free space or choose another -o") from error


def _resumed(path: Path, modules: dict[str, nn.Module], optimiser: Any, run: Run) -> int:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if state["seed"] != run.seed:
            raise ValueError(f"it was of seed {state['seed']}")
        if state.get("of", run.of) != run.of:
            raise ValueError("it was of another recipe or of other crops")
        for name, module in modules.items():
            module.load_state_dict(state["modules"][name])
        optimiser.load_state_dict(state["optimiser"])
        run.generator.set_state(state["generators"][0])
        torch.set_rng_state(state["generators"][1])
        return int(state["epochs"])
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: is of another training ({reason}); delete it, or choose another -o") from error


def sample_weights(labels: np.ndarray) -> Tensor:
    """(n,) weights under which each class of the first part is drawn equally often: balanced sampling."""
    counts = np.bincount(np.maximum(labels[:, 0], 0))
    return torch.from_numpy(np.where(labels[:, 0] >= 0, 1.0 / counts[np.maximum(labels[:, 0], 0)], 0.0))


def class_weights(labels: np.ndarray, n_classes: int) -> Tensor:
    """(n_classes,) weights of the loss, inverse to how often a class occurs, of mean 1 over the crops."""
    counts = np.bincount(labels[labels >= 0], minlength=n_classes).astype(np.float64)
    weights = np.where(counts > 0, counts.sum() / (np.maximum(counts, 1) * max((counts > 0).sum(), 1)), 0.0)
    return torch.from_numpy(weights).float()

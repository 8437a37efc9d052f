"""Training a grade network on clips with their experts' votes (Fujii et al. 2023, section 4.5 and 5.1).

Everything random follows from the seed and the number of the epoch, and the state is written after each epoch: a
training that was killed and goes on gives the same weights as one that was not. Where an epoch is chosen
(``inner_share``), it is chosen on clips put aside from the training part; otherwise the last one is kept. The clips a
fold is judged on are never seen here.
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from casa.config import Fraction, NonNegative, Positive, Section, load_section
from casa.errors import CasaError, InputError
from casa.grade.augment import AugmentConfig, augment
from casa.grade.losses import diversity_loss, grade_loss
from casa.grade.prediction import N_GRADES
from casa.types import FloatArray, IntArray


class PanelConfig(Section):
    """The simulated panel to train on where no folder of clips is given."""

    clips: Annotated[int, Field(ge=10)] = Field(default=615, description="number of clips, as in the paper")
    seed: int = 0


class GradeTrainConfig(Section):
    """How a grade network is trained; the defaults are the paper's."""

    name: str = Field(default="grade", pattern=r"^[A-Za-z0-9_.-]+$")
    network: str = "rostfine"
    size: Literal["B", "S", "T"] = "B"
    variant: str = "paper"
    options: dict[str, Any] = Field(default_factory=dict, description="of the network, instead of the size's")
    start: Path | None = Field(default=None, description="weights of the same network to go on from")
    panel: PanelConfig = PanelConfig()
    loss: Literal["mse", "js", "emd"] = "mse"
    alpha: NonNegative = Field(default=1.0, description="weight of the diversity loss (Eq. 19)")
    facts_weight: NonNegative = Field(
        default=0.0, description="weight of an auxiliary loss: what a simulator knows of a clip, read off the features"
    )
    calibrate: bool = Field(
        default=False,
        description="draw predictions towards the prior as suits the clips put aside (inner_share)",
    )
    standardise: bool = Field(
        default=False, description="features reach the heads with mean 0 and sd 1; folded into the heads at the end"
    )
    whiten: bool = Field(default=False, description="patch embedding begins as whitened principal components")
    optimiser: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Positive = 1e-3
    momentum: Fraction = 0.9
    weight_decay: NonNegative = 5e-4
    warmup: Fraction = Field(default=0.0, description="share of the steps over which the rate rises from 0")
    schedule: Literal["constant", "cosine"] = "constant"
    clip_gradient: Positive | None = Field(default=None, description="largest norm of the gradient")
    epochs: Annotated[int, Field(ge=1)] = 200
    batch: Annotated[int, Field(ge=1)] = 8
    accumulate: Annotated[int, Field(ge=1)] = Field(default=1, description="batches whose gradients make one step")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="of the arithmetic; auto: bfloat16 on CUDA, float32 on a CPU"
    )
    average: Fraction = Field(default=0.0, description="decay of a running average of the weights; 0: none")
    augment: AugmentConfig = AugmentConfig()
    folds: Annotated[int, Field(ge=0)] = Field(default=5, description="0: train on all clips, judge on none")
    fold_seed: int = Field(default=0, description="of how clips are parted; the same for all networks and seeds")
    only_folds: tuple[int, ...] | None = Field(default=None, description="of the folds, only these (from 0)")
    inner_share: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="share of a fold's training clips put aside to choose the epoch; 0: the last epoch"
    )


@dataclass(frozen=True, slots=True)
class Samples:
    """Clips as a network takes them: ``pictures`` (n, t, s, s) float16 normalised gray, ``true`` (n, 5) float32.

    ``facts`` (n, k) float32, standardised: what a simulator knows of each clip, for ``facts_weight``; k may be 0.
    """

    pictures: Tensor
    true: Tensor
    facts: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pictures)


@dataclass(frozen=True, slots=True)
class EpochLog:
    """Of one epoch: mean loss, its distance and diversity parts, and the MSE of the clips put aside (or None)."""

    epoch: int
    loss: float
    distance: float
    diversity: float
    aside_mse: float | None


def load_grade_config(path: Path, overrides: dict[str, Any] | None = None) -> GradeTrainConfig:
    """A training configuration from YAML; see ``casa.config.load_section``."""
    return load_section(path, GradeTrainConfig, overrides)


def train_network(
    network: Any,
    config: GradeTrainConfig,
    samples: Samples,
    seed: int,
    state_path: Path | None = None,
    aside: Samples | None = None,
    after_epoch: Callable[[EpochLog], None] = lambda _log: None,
) -> Any:
    """Train ``network`` on ``samples``; gives it with the weights that are kept, in eval mode.

    ``state_path`` is written after each epoch; where it exists, training goes on from it. ``aside`` chooses the epoch.

    Raises
    ------
    InputError : ``state_path`` is of another training. CasaError : the loss is no longer a number.
    """
    return _Training(network, config, samples, seed, aside).run(state_path, after_epoch)


class _Training:
    def __init__(
        self, network: Any, config: GradeTrainConfig, samples: Samples, seed: int, aside: Samples | None
    ) -> None:
        self.config, self.samples, self.seed, self.aside = config, samples, seed, aside
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.precision = _precision(config.precision, self.device)
        self.network = network.to(self.device).train()
        self.average = copy.deepcopy(network).eval().requires_grad_(False) if config.average else None
        self.readout = self._new_readout() if config.facts_weight else None
        self.heads = standardised_heads(network) if config.standardise else []
        self.optimiser = _optimiser(network, config, self.readout)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision is torch.float16)
        batches = math.ceil(len(samples) / config.batch)
        self.steps_per_epoch = math.ceil(batches / config.accumulate)
        self.epoch = 0
        self.best: tuple[float, dict[str, Tensor]] | None = None

    def _new_readout(self) -> torch.nn.Linear:
        """From all features of a clip to its facts; thrown away after training."""
        if self.samples.facts is None or self.samples.facts.shape[1] == 0:
            raise InputError("facts_weight: nothing is known of these clips but their votes; set it to 0")
        with torch.no_grad():
            features = self.network(as_input(self.samples.pictures[:1].to(self.device).float())).features
        torch.manual_seed(self.seed)
        return torch.nn.Linear(sum(f.shape[-1] for f in features), self.samples.facts.shape[1]).to(self.device)

    def run(self, state_path: Path | None, after_epoch: Callable[[EpochLog], None]) -> Any:
        if state_path is not None and state_path.exists():
            self._load(state_path)
        while self.epoch < self.config.epochs:
            log = self._one_epoch()
            self.epoch += 1
            if state_path is not None:
                self._save(state_path)
            after_epoch(log)
        kept = self._finished()
        if self.best is not None:
            kept.load_state_dict(self.best[1])
        return kept

    def _finished(self) -> Any:
        """The network as it would be kept now: a copy, of the average if there is one, in eval mode."""
        kept = copy.deepcopy(self.average or self.network)
        if self.heads:
            fold_standardisation(kept, self.samples.pictures)
        return kept.eval()

    def _one_epoch(self) -> EpochLog:
        config = self.config
        rng = np.random.default_rng([self.seed, self.epoch])
        torch.manual_seed(int(rng.integers(2**31)))  # dropout and stochastic depth
        order = rng.permutation(len(self.samples))
        groups = np.array_split(order, self.steps_per_epoch)
        sums, self.network = np.zeros(3), self.network.train()
        for step, rows in enumerate(groups):
            rate = learning_rate(config, self.epoch * self.steps_per_epoch + step, config.epochs * self.steps_per_epoch)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            for batch in np.array_split(rows, min(config.accumulate, len(rows))):
                sums += self._backward(batch, rng, len(batch) / len(rows)) * len(batch)
            self._step(self.epoch * self.steps_per_epoch + step + 1)
        if not np.isfinite(sums).all():
            raise CasaError(f"training: the loss of epoch {self.epoch + 1} is {sums[0]}; lower learning_rate")
        loss, distance, diversity = (sums / len(self.samples)).tolist()
        return EpochLog(self.epoch, loss, distance, diversity, self._look_aside())

    def _backward(self, rows: IntArray, rng: np.random.Generator, weight: float) -> FloatArray:
        """Add the gradients of one batch, of which ``weight`` of the step consists; gives loss, distance, diversity."""
        config = self.config
        pictures = augment(self.samples.pictures[rows].to(self.device).float(), config.augment, rng)
        true = self.samples.true[rows].to(self.device)
        with self._autocast():
            prediction = self.network(as_input(pictures))
        distance = grade_loss([part.float().softmax(-1) for part in prediction.parts], true, config.loss)
        diversity = diversity_loss([feature.float() for feature in prediction.features])
        loss = distance + config.alpha * diversity
        if self.readout is not None and self.samples.facts is not None:
            features = torch.cat([feature.float() for feature in prediction.features], dim=-1)
            read = self.readout(_standardised(features) if self.heads else features)
            loss = loss + config.facts_weight * (read - self.samples.facts[rows].to(self.device)).square().mean()
        self.scaler.scale(loss * weight).backward()
        return np.array([loss.item(), distance.item(), diversity.item()])

    def _step(self, steps_done: int) -> None:
        if self.config.clip_gradient is not None:
            self.scaler.unscale_(self.optimiser)
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_gradient)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)
        if self.average is not None:
            early = (1 + steps_done) / (10 + steps_done)  # quicker at the start, when the weights change most
            _update_average(self.average, self.network, min(self.config.average, early))

    def _look_aside(self) -> float | None:
        """MSE of the clips put aside; keeps the weights if it is the least so far."""
        if self.aside is None:
            return None
        judged = self._finished()
        mse = float(((predict(judged, self.aside.pictures) - self.aside.true.numpy()) ** 2).mean())
        if self.best is None or mse < self.best[0]:
            self.best = (mse, judged.state_dict())
        return mse

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, self.precision, enabled=self.precision is not torch.float32)

    def _fingerprint(self) -> str:
        """What a state must have in common with a training to be its own: configuration, seed and clips."""
        text = f"{self.config.model_dump_json(exclude={'only_folds'})} {self.seed} {self.aside is None}"
        digest = hashlib.sha256(text.encode())
        for values in (self.samples.pictures[:, :1, ::8, ::8], self.samples.true):
            digest.update(np.ascontiguousarray(values.numpy()).tobytes())
        return digest.hexdigest()

    def _save(self, path: Path) -> None:
        state = {
            "fingerprint": self._fingerprint(),
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "readout": self.readout.state_dict() if self.readout is not None else None,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": self.best,
        }
        partial = path.with_name(path.name + ".partial")
        try:
            torch.save(state, partial)
            os.replace(partial, path)
        except (OSError, RuntimeError) as error:
            raise CasaError(f"{path}: the training's state cannot be written ({error}); free space") from error

    def _load(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            fingerprint = state["fingerprint"]
        except Exception as error:  # torch raises a dozen kinds for a file that is not one of its own
            raise InputError(f"{path}: no state of a training ({error}); delete it, or give --force") from error
        if fingerprint != self._fingerprint():
            raise InputError(f"{path}: of another configuration, seed or set of clips; choose another -o, or --force")
        self.epoch = state["epoch"]
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.readout is not None:
            self.readout.load_state_dict(state["readout"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.best = tuple(state["best"]) if state["best"] is not None else None


def standardised_heads(network: Any) -> list[torch.nn.Linear]:
    """Let the features reach the network's last layers with mean 0 and sd 1 over the batch, while it is trained.

    What tells clips apart is a small part of a young transformer's features, and gradients to it are as small: without
    this a training from scratch stays at the prior for a thousand steps. ``fold_standardisation`` makes the network the
    paper's again.
    """
    heads = last_layers(network)
    for head in heads:
        head.register_forward_pre_hook(lambda module, given: (_standardised(given[0]),) if module.training else None)
    return heads


def last_layers(network: Any) -> list[torch.nn.Linear]:
    """The layers whose outputs are a part's logits."""
    return [m for m in network.modules() if isinstance(m, torch.nn.Linear) and m.out_features == N_GRADES]


def _standardised(features: Tensor) -> Tensor:
    return (features - features.mean(0)) * (features.var(0, correction=0) + _VARIANCE_FLOOR).rsqrt()


_VARIANCE_FLOOR = 1e-6


def fold_standardisation(network: Any, pictures: Tensor, n_clips: int = 1000) -> None:
    """Take the standardisation of a network's heads into their weights, with mean and sd over ``pictures``."""
    heads, given = last_layers(network), {}
    for head in heads:
        head._forward_pre_hooks.clear()
        head.register_forward_pre_hook(
            lambda module, features: given.setdefault(module, []).append(features[0].double().cpu())
        )
    predict(network, pictures[torch.linspace(0, len(pictures) - 1, min(n_clips, len(pictures))).long()])
    for head in heads:
        head._forward_pre_hooks.clear()
        features = torch.cat(given[head]).flatten(0, -2).to(head.weight.device)
        with torch.no_grad():
            weight = head.weight.double() * (features.var(0, correction=0) + _VARIANCE_FLOOR).rsqrt()
            head.bias.copy_(head.bias.double() - weight @ features.mean(0))
            head.weight.copy_(weight)


def as_input(pictures: Tensor) -> Tensor:
    """Gray (n, t, s, s) as networks take it: (n, 3, t, s, s), the channels being one and the same memory."""
    return pictures[:, None].expand(-1, 3, -1, -1, -1)


def predict(network: Any, pictures: Tensor, batch: int = 32) -> FloatArray:
    """Grade distributions (n, 5) float64 of (n, t, s, s) pictures, without augmentation."""
    was_training, device = network.training, next(network.parameters()).device
    network.eval()
    with torch.inference_mode():
        found = [
            network(as_input(pictures[k : k + batch].to(device).float())).distribution.cpu()
            for k in range(0, len(pictures), batch)
        ]
    network.train(was_training)
    return torch.cat(found).double().numpy()


def learning_rate(config: GradeTrainConfig, step: int, total: int) -> float:
    """The rate of ``step`` (from 0) of ``total``: a linear rise over the warm-up, then constant or half a cosine."""
    warm = config.warmup * total
    if step < warm:
        return config.learning_rate * (step + 1) / (math.floor(warm) + 1)
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, total - warm)))


def _precision(wanted: str, device: torch.device) -> torch.dtype:
    if wanted == "auto":
        wanted = "bfloat16" if device.type == "cuda" else "float32"
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[wanted]


def _optimiser(network: Any, config: GradeTrainConfig, readout: torch.nn.Module | None) -> torch.optim.Optimizer:
    """SGD decays all parameters as in the paper; AdamW leaves biases, norms and embeddings alone."""
    modules = [network] if readout is None else [network, readout]
    named = [(name, p) for module in modules for name, p in module.named_parameters() if p.requires_grad]
    if config.optimiser == "sgd":
        return torch.optim.SGD(
            [p for _, p in named],
            config.learning_rate,
            config.momentum,
            weight_decay=config.weight_decay,
            fused=True,
        )
    decayed = [p for name, p in named if p.ndim > 1 and "embed" not in name and "token" not in name]
    kept = {id(p) for p in decayed}
    rest = [p for _, p in named if id(p) not in kept]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}],
        lr=config.learning_rate,
        fused=True,  # thrice as fast as one parameter after another
    )


def _update_average(average: Any, network: Any, decay: float) -> None:
    """Running average of weights, and of batch norm's statistics; counters are copied."""
    with torch.no_grad():
        for mean, now in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(now.to(mean.dtype), 1 - decay)
            else:
                mean.copy_(now)

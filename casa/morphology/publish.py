"""From trained networks to a published classifier: temperature, scores, weights file, manifest and card."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from casa.errors import CasaError
from casa.morphology.crops import Crops
from casa.morphology.model import ModelInfo, calibrated, write_model
from casa.morphology.probabilities import fit_temperature
from casa.morphology.recipe import Member, RecipeConfig, masks_at_all, predict_member, train_member
from casa.morphology.scores import classification_scores
from casa.morphology.sets import LabelledSet
from casa.morphology.train import Run
from casa.weights import ModelEntry, file_sha256, read_manifest, write_manifest

#: Share of the crops that fits temperatures where a set has no validation split.
_HELD_OUT = 0.15
_AGPL, _MHSMA_LICENCE = "AGPL-3.0-or-later", "CC-BY-NC-SA-4.0"
_MHSMA = "MHSMA (Javadi & Mirroshandel 2019, CC BY-NC-SA 4.0)"


@dataclass(frozen=True, slots=True)
class Trained:
    """Networks of several seeds, the crops that fit their temperature, and those temperatures."""

    members: list[Member]
    held_out: Crops
    temperatures: tuple[float, ...]
    scores: dict[str, dict[str, Any]]


def split_off(labelled: LabelledSet, seed: int) -> tuple[Crops, Crops]:
    """Crops to train on and crops to fit temperatures on: the set's own splits, else a random 15 %. Never its test."""
    splits = np.array(labelled.splits)
    if (splits == "valid").any() and (splits == "train").any():
        return labelled.of_split("train"), labelled.of_split("valid")
    usable = np.flatnonzero(splits != "test")
    order = np.random.default_rng((seed, 71)).permutation(usable)
    n = max(2, round(_HELD_OUT * len(order)))
    return labelled.crops[order[n:]], labelled.crops[order[:n]]


def train_ensemble(
    labelled: LabelledSet,
    config: RecipeConfig,
    seed: int,
    folder: Path,
    pretrained: Path | None = None,
    extra: LabelledSet | None = None,
    after_epoch: Callable[[str, int, float], None] = lambda what, epoch, loss: None,
) -> Trained:
    """Train ``config.members`` networks and fit a temperature for each part on crops held out."""
    train, held_out = split_off(labelled, seed)
    unlabelled = labelled.crops[np.array(labelled.splits) != "test"] if any(labelled.splits) else train
    members = []
    for k in range(config.members):
        run = Run(seed + k, folder / f"member-{seed + k}", after_epoch)
        rendered = extra.crops if extra else None
        members.append(train_member(config, labelled.parts, train, unlabelled, run, pretrained, rendered))
    logits = mean_log_probabilities(members, held_out, config)
    temperatures, scores, start = [], {}, 0
    for k, part in enumerate(labelled.parts):
        own = logits[:, start : start + len(part.classes)]
        start += len(part.classes)
        temperatures.append(fit_temperature(own, held_out.labels[:, k]))
        p = calibrated(own, [part], temperatures[-1:])
        scores[part.name] = classification_scores(p, held_out.labels[:, k], part.classes)
    return Trained(members, held_out, tuple(temperatures), scores)


def mean_log_probabilities(members: list[Member], crops: Crops, config: RecipeConfig) -> np.ndarray:
    """(n, classes of all parts) logarithm of the members' mean probability."""
    found = [np.exp(predict_member(member, crops.images, config.tune)) for member in members]
    return np.log(np.maximum(np.mean(found, axis=0), 1e-8))


def publish(
    made: Trained,
    labelled: LabelledSet,
    config: RecipeConfig,
    output: Path,
    name: str,
    seed: int,
    command: str,
    is_rendered: bool,
) -> ModelEntry:
    """Write weights, manifest and card into ``output``; returns the manifest's entry."""
    info = ModelInfo(
        encoder=config.encoder,
        width=config.width,
        channels=config.channels,
        size_px=config.size_px,
        um_per_px=config.um_per_px,
        parts=tuple((part.name, part.classes) for part in labelled.parts),
        temperatures=made.temperatures,
        abstain_below=config.abstain_below,
        views=config.tune.views,
        dilations=config.tune.dilations[1] if config.tune.dilations and masks_at_all(config.tune) else None,
    )
    path = output / f"{name}.pt"
    # One teacher draws for all: those of other seeds draw alike.
    segmenter = made.members[0].segmenter
    write_model(path, info, [member.classifier for member in made.members], segmenter)
    from_mhsma = labelled.name == "mhsma"
    scores = {
        f"held_out_{part}_{key}": round(float(values[key]), 2)
        for part, values in made.scores.items()
        for key in ("accuracy", "balanced_accuracy", "ece")
        if values[key] is not None
    }
    entry = ModelEntry(
        name=name,
        task="morphology",
        folder=output,
        files={"state": (path, file_sha256(path))},
        licence=_MHSMA_LICENCE if from_mhsma else _AGPL,
        trained_on=_MHSMA
        if from_mhsma
        else f"{len(labelled.crops)} {'rendered heads' if is_rendered else 'crops of ' + labelled.name}",
        command=command,
        seed=seed,
        card=f"{name}.md",
        scores=scores,
        knows={
            "classes": [f"{p.name}:{c}" if len(info.parts) > 1 else c for p in labelled.parts for c in p.classes],
            "abstain_below": info.abstain_below,
            "looks": list(labelled.looks),
            "photographs": not is_rendered,
        }
        | ({"um_per_px": [round(scale, 4) for scale in scales]} if all(scales := labelled.scales_um_per_px) else {}),
    )
    try:
        write_manifest(output, read_manifest(output) | {name: entry})
        (output / entry.card).write_text(card_text(entry, info, made), encoding="utf-8")
    except OSError as error:
        raise CasaError(f"{output}: cannot be written ({error.strerror}); free space or choose another -o") from error
    return entry


def _known(knows: Mapping[str, Any]) -> str:
    """What pictures weights have learnt from, in words."""
    kind = "photographs" if knows["photographs"] else "rendered heads alone, no photograph"
    low, high = knows.get("um_per_px", (None, None))
    scale = (
        "at a scale that was not said" if low is None else f"of {f'{low:g} to ' if low != high else ''}{high:g} um/px"
    )
    return f"{kind} {scale}; {', '.join(knows['looks']) or 'how they are stained and lit was not said'}"


def card_text(entry: ModelEntry, info: ModelInfo, made: Trained) -> str:
    """A card with what is known from the training alone; limits are for a person to add."""
    lines = [
        f"# Model card: {entry.name}",
        "",
        "## Model",
        f"Classes of sperm heads: {len(made.members)} {info.encoder} network(s) on crops of {info.size_px} px at "
        f"{info.um_per_px:g} um/px, turned to face right. Licence: {entry.licence}.",
        "",
        *(f"- {name}: {', '.join(classes)}" for name, classes in info.parts),
        "",
        f"sha256 `{entry.files['state'][1]}`",
        "",
        f"It knows (and outside of it results are marked): {_known(entry.knows)}.",
        "",
        "## Training data",
        f"{entry.trained_on}. Command: `{entry.command}`",
        "",
        "## Scores",
        f"On {len(made.held_out)} crops held out, which fitted the temperature of the probabilities and nothing else.",
        "",
        "| part | accuracy | 95 % | balanced accuracy | always the commonest | calibration error |",
        "|---|---|---|---|---|---|",
    ]
    for part, s in made.scores.items():
        low, high = s["accuracy_95"]
        lines.append(
            f"| {part} | {s['accuracy']:.1f} | {low:.1f}-{high:.1f} | {s['balanced_accuracy']:.1f} | "
            f"{s['majority_accuracy']:.1f} | {s['ece']:.1f} |"
        )
    return "\n".join([*lines, "", "An aid for people who can judge the picture themselves; not a diagnosis.", ""])

"""What a training leaves behind: network files, manifest and model card, in one folder."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from casa.detect import network
from casa.detect.train import TrainConfig
from casa.errors import CasaError, InputError
from casa.weights import ModelEntry, check_sum, file_sha256, read_manifest, resolve_weights, write_manifest

LICENCE = "AGPL-3.0-or-later"


def write_files(model: Any, config: TrainConfig, folder: Path) -> dict[str, tuple[Path, str]]:
    """Write ``model`` as ONNX and as a state file; gives (path, sha256) by kind, as a manifest lists them."""
    onnx_path, state_path = folder / f"{config.name}.onnx", folder / f"{config.name}.pt"
    try:
        network.export_onnx(model, config.classes, onnx_path)
        network.save_state(model, config.network, config.classes, state_path)
    except OSError as error:
        raise CasaError(f"{folder}: the weights cannot be written ({error}); free space or choose another") from error
    return {"onnx": (onnx_path, file_sha256(onnx_path)), "state": (state_path, file_sha256(state_path))}


@dataclass(frozen=True, slots=True)
class RealData:
    """The labelled clip that is trained on: its folder, what it is and by whom (``name``), and its licence."""

    folder: Path
    name: str
    licence: str


def describe_training_data(config: TrainConfig, n_simulated: int, real: RealData | None, begun_from: str = "") -> str:
    """What a model was trained on, in one line with sources and licences; ``begun_from``: what its start is."""
    parts = []
    if n_simulated:
        parts.append(f"{n_simulated} pictures simulated by casa (AGPL-3.0-or-later)")
    if real is not None:
        parts.append(f"frames {config.real_first}-{config.real_last} of a clip of {real.name} ({real.licence})")
    if begun_from:
        parts.append(f"begun from {begun_from}")
    return "; ".join(parts)


def find_start(start: str) -> tuple[Path, str]:
    """The state file of a network by name or path, and in words which it is and what it was trained on.

    Raises
    ------
    InputError : no such network or file.
    """
    found = resolve_weights(start, ("state",))
    told = [found.entry, *read_manifest(found.path.parent).values()]  # training.pt stands in no manifest
    data = next((entry.trained_on for entry in told if entry.trained_on not in ("", "unknown")), "")
    words = f"which was trained on {data}" if data else "whose training data is not recorded"
    return found.path, f"{found.path.parent.name}/{found.path.name}, {words}"


def publish(entry: ModelEntry, config: TrainConfig, results: Mapping[str, str]) -> None:
    """Write the manifest of ``entry.folder`` and the model card ``entry.card`` beside it.

    ``results`` are lines of the card's table of scores: what was judged -> the figures.
    """
    entries = read_manifest(entry.folder) | {entry.name: entry}
    write_manifest(entry.folder, entries)
    (entry.folder / entry.card).write_text(_card(entry, config, results), encoding="utf-8")


def add_file(entry: ModelEntry, kind: str, path: Path, scores: Mapping[str, float]) -> None:
    """Add a file made of an entry's network to its manifest and its card, with what was scored of it."""
    sha256 = file_sha256(path)
    entry = replace(entry, files=entry.files | {kind: (path, sha256)}, scores=entry.scores | dict(scores))
    write_manifest(entry.folder, read_manifest(entry.folder) | {entry.name: entry})
    card = entry.folder / entry.card
    if not entry.card or not card.is_file():
        return
    lines = [
        line for line in card.read_text(encoding="utf-8").splitlines() if not line.startswith(f"| `{path.name}` |")
    ]
    last = max((k for k, line in enumerate(lines) if line.startswith("| `")), default=len(lines) - 1)
    lines.insert(last + 1, f"| `{path.name}` | {kind} | `{sha256}` |")
    card.write_text("\n".join(lines) + "\n", encoding="utf-8")


def withdraw(folder: Path, name: str) -> None:
    """Take ``name`` off the manifest of ``folder``, before its files are replaced."""
    entries = read_manifest(folder)
    if entries.pop(name, None) is not None:
        write_manifest(folder, entries)


def install(source: Path, name: str, target: Path) -> None:
    """Copy a trained model's files, card and manifest entry from ``source`` to ``target``.

    Raises
    ------
    InputError : ``source`` has no such model, or a file of another sum. CasaError : it cannot be written.
    """
    entry = read_manifest(source).get(name)
    if entry is None:
        raise InputError(f"{source}: its manifest has no network named {name}; give a folder that casa train wrote")
    for path, sha256 in entry.files.values():
        check_sum(path, sha256)
    try:
        for path in [*(path for path, _ in entry.files.values()), source / entry.card]:
            shutil.copyfile(path, target / path.name)
        write_manifest(target, read_manifest(target) | {name: entry})
    except OSError as error:
        raise CasaError(f"{target}: cannot be written ({error.strerror or error})") from error


def _card(entry: ModelEntry, config: TrainConfig, results: Mapping[str, str]) -> str:
    """The card, in the order of Mitchell et al. 2019 (arXiv:1810.03993)."""
    files = "\n".join(f"| `{path.name}` | {kind} | `{sha256}` |" for kind, (path, sha256) in entry.files.items())
    scores = "\n".join(f"| {what} | {figures} |" for what, figures in results.items())
    made = textwrap.fill(
        f"Made by `{entry.command}`. The weights are the running average at the last step: no epoch was picked by a "
        "score. Confidence was then fitted (Platt scaling, on simulated pictures of another seed and every tenth "
        "of the real ones trained on) to be the probability that a detection lies on a head.",
        118,
    )
    data = textwrap.fill(
        f"{entry.trained_on}. Simulated pictures are of phase contrast, brightfield and plain dark heads, widely "
        "varied in light, scale, density, debris, noise and interlacing; real ones are of one slide. Views are cut, "
        f"scaled (simulated ones by {config.simulated_scale[0]:g} to {config.simulated_scale[1]:g}, real ones by "
        f"{config.real_scale[0]:g} to {config.real_scale[1]:g}), turned, inverted, and changed in light, blur, noise "
        f"and compression. There were {config.epochs} epochs of {config.views_per_picture} views a picture, "
        f"{config.view_px} px, batches of {config.batch}; {config.real_share:.0%} of the views are real where there "
        "are real pictures.",
        118,
    )
    return f"""# Model card: {entry.name}

## Model
A detector of human sperm heads in microscope pictures: a YOLOv8 (ultralytics' layers and loss) with one gray input
channel, one output at stride 8 and ReLU, trained from scratch. Classes: {", ".join(config.classes)}.
Licence: {entry.licence}.

| file | kind | sha256 |
|---|---|---|
{files}

{made}

## Intended use
Finding sperm heads for counting and tracking by casa, in phase contrast and brightfield pictures in which a head
measures about 8 to 40 pixels (`detect.scale` brings others there). Colour is not used. An aid for people who can
judge the picture themselves; not a diagnosis, and not a medical device.

## Training data
{data}

## Scores
Box scores are COCO's average precision (AP50: IoU at least 0.5). None of what is judged here was trained on.

| judged on | figures |
|---|---|
{scores}

## Limits
- The clip's frames {config.test_first}-{config.test_last} are of the slide that was trained on: that score says little
  about other slides, microscopes and laboratories. The figures on recordings of others say more.
- Debris and round cells of a head's size are found as sperm now and then, most in brightfield; heads far out of focus,
  and heads that touch, are missed or merged. Both bias concentration and the share of immotile sperm.
- Only human sperm was seen. Stained, fluorescent and electron microscope pictures are out of scope.
- A box says where a head is, not whether it is normal or alive.
"""

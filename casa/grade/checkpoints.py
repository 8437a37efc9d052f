"""Weights of grading networks: casa's own files, and those that others published, with every key accounted for.

All files are read with ``weights_only=True``. casa's own hold the network's name, size, variant and config as plain
values beside its tensors, so that a file is enough to build it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from casa.errors import CasaError, InputError
from casa.grade.build import build_network
from casa.grade.prediction import Network

FORMAT = "casa-grade-1"


def save_network(network: Network, path: Path, about: Mapping[str, Any] | None = None) -> None:
    """Write a network in casa's format; ``about`` are plain values (strings, numbers, lists) to keep with it.

    Raises
    ------
    CasaError : the file cannot be written.
    """
    content = {
        "format": FORMAT,
        "name": network.name,
        "size": network.size,
        "variant": network.variant,
        "config": asdict(network.config),
        "about": dict(about or {}),
        "state": {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()},
    }
    try:
        torch.save(content, path)
    except (OSError, RuntimeError) as error:
        raise CasaError(f"{path}: the network cannot be written ({_one_line(error)})") from error


def load_network(path: Path) -> tuple[Network, dict[str, Any]]:
    """A network from a file in casa's format, in eval mode, and what was kept with it.

    Raises
    ------
    InputError : not such a file, or its tensors do not fit its network.
    """
    content = _read(path)
    if content.get("format") != FORMAT:
        raise InputError(
            f"{path}: not a grading network of casa (no format {FORMAT}); published weights are where a training "
            "starts: give them to casa train grade"
        )
    try:
        own = {key: value for key, value in content["config"].items() if key not in ("network", "variant")}
        own = {key: tuple(value) if isinstance(value, list) else value for key, value in own.items()}
        network = build_network(content["name"], content["size"], content["variant"], **own)
        state, about = dict(content["state"]), dict(content["about"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a grading network of casa (its {error} is missing or wrong)") from error
    _fit(network, state, path)
    return network.eval(), about


@dataclass
class KeyReport:
    """What became of each key of a published file, and of each of the network.

    ``taken`` file key -> network key; ``resized`` of these, embeddings of another size; ``left_out`` file key -> why;
    ``fresh`` network keys that the file has nothing for, and that stay as they began.
    """

    source: str
    taken: dict[str, str] = field(default_factory=dict)
    resized: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people: one line for each thing that is not plain."""
        found = [f"{self.source}: {len(self.taken)} keys taken"]
        found += [f"resized {key}: {how}" for key, how in self.resized.items()]
        for why in dict.fromkeys(self.left_out.values()):
            found.append(f"left out ({why}): {_listed([k for k, w in self.left_out.items() if w == why])}")
        if self.fresh:
            found.append(f"not in the file, learned anew: {_listed(self.fresh)}")
        return found


def load_published(network: Network, path: Path) -> KeyReport:
    """Put published weights into ``network``, or a file of casa's own format with the same network in it.

    Known: TimeSformer's and the RoSTFine authors' (for rostfine and timesformer), pytorchvideo's and torchvision's (for
    the convolutional networks), mx-mark's ViViT; each also as the RoSTFine authors' program saves it. Heads of other
    classes are left out. Embeddings of positions and times are interpolated where the numbers of them differ.

    Raises
    ------
    InputError : keys are missing, unknown or of another shape: one line names them.
    """
    content = _read(path)
    if content.get("format") == FORMAT:
        held = f"{content.get('name')} {content.get('size')}"
        if content.get("name") != network.name:
            raise InputError(f"{path}: holds {held}, and {network.name} {network.size} was asked for")
        state: dict[str, Tensor] = dict(content["state"])
        report = KeyReport(f"{path.name} (casa's {held})", {key: key for key in state})
        _fit(network, state, path)
        return report
    tensors = _tensors(content, path)
    source, to_own = _key_map(network, tensors, path)
    report = KeyReport(f"{path.name} ({source})")
    own = network.state_dict()
    state = {}
    unknown = []
    for key, tensor in tensors.items():
        target = to_own(key)
        if target is None:
            report.left_out[key] = "not used by the network"
        elif target not in own:
            unknown.append(key)
        elif _is_head(target) and tensor.shape != own[target].shape:
            report.left_out[key] = f"of {tensor.shape[0]} classes, not {own[target].shape[0]} grades"
        else:
            state[target] = _resized(target, tensor, own[target], network, key, report)
            report.taken[key] = target
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    report.fresh = [key for key in missing if _is_head(key) or (source.endswith("TimeSformer") and _is_branch(key))]
    _fit(network, state, path, unknown=unknown, keep=own, missing=[key for key in missing if key not in report.fresh])
    return report


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such weights file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a bad file
        raise InputError(f"{path}: not a readable weights file ({_one_line(error)[:120]})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a weights file: expected a dictionary, got {type(content).__name__}")
    return content


def _tensors(content: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The tensors of a published file, which keep them under one name or another."""
    for name in ("model_state", "state_dict", "model"):
        if isinstance(content.get(name), dict):
            content = content[name]
            break
    if not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path}: holds no network's tensors, neither at its top nor under model_state or state_dict")
    return content


def _key_map(network: Network, tensors: Mapping[str, Tensor], path: Path) -> tuple[str, Callable[[str], str | None]]:
    """Whose file it is, and the network's key for each of its keys (None: known, and not used)."""
    if network.name in ("rostfine", "timesformer"):
        prefix = _prefix(tensors, "blocks.0.attn.qkv.weight", path)
        if any(key.startswith("mhsa_") for key in tensors):
            if network.name != "rostfine" or network.variant != "authors":
                raise InputError(f"{path}: is of the authors' RoSTFine: load it into rostfine, variant authors")
            return "the authors' RoSTFine", lambda key: _authors_key(key, prefix)
        authors = "head.weight" in tensors and prefix != ""  # theirs has one head inside, and one behind
        source = "the authors' TimeSformer" if authors else "TimeSformer"
        return source, lambda key: _timesformer_key(key, prefix, network.name, authors)
    if network.name == "vivit":
        prefix = _prefix(tensors, "patch_embed.projection.weight", path)
        return "ViViT", lambda key: _vivit_key(key, prefix)
    first = "features.0.weight" if network.name == "vgg16" else "blocks.0."
    prefix = _prefix(tensors, first, path)
    source = "torchvision" if network.name == "vgg16" else "pytorchvideo"
    return source, lambda key: "net." + key.removeprefix(prefix) if key.startswith(prefix) else key


def _prefix(tensors: Mapping[str, Tensor], known: str, path: Path) -> str:
    """What stands before the keys of the network proper."""
    for key in tensors:
        at = key.find(known)
        if at == 0 or (at > 0 and key[at - 1] == "."):
            return key[:at]
    raise InputError(f"{path}: not weights of such a network: no key has {known} in it")


def _timesformer_key(key: str, prefix: str, name: str, authors: bool) -> str | None:
    if not key.startswith(prefix):
        return key if authors and name == "timesformer" else None
    inner = key.removeprefix(prefix)
    if inner.startswith("head."):
        return None if authors or name == "rostfine" else inner
    return f"encoder.{inner}"


def _authors_key(key: str, prefix: str) -> str | None:
    """Of the authors' RoSTFine; the head inside their TimeSformer is not used by it."""
    if key.startswith(prefix):
        inner = key.removeprefix(prefix)
        return None if inner.startswith("head.") else f"encoder.{inner}"
    found = re.fullmatch(r"(mhsa|norm|mlp|head)_([gst])(.*)", key)
    if not found:
        return key
    part, branch, rest = found.groups()
    whole = {"g": "global", "s": "spatial", "t": "temporal"}[branch]
    if part == "head":
        return f"heads.{whole}{rest}"
    return f"{whole}.{'attention' if part == 'mhsa' else part}{rest}"


def _vivit_key(key: str, prefix: str) -> str | None:
    if key.startswith("cls_head."):
        return key.replace("cls_head.", "head.")
    if key.startswith("linear."):  # the head behind it in the RoSTFine authors' program
        return key.replace("linear.", "head.")
    return key.removeprefix(prefix)


def _is_head(key: str) -> bool:
    """The last layer of any of the networks."""
    return bool(re.match(r"(head|heads\.\w+|net\.classifier\.6|net\.blocks\.\d+\.proj)\.(weight|bias)$", key))


def _is_branch(key: str) -> bool:
    return key.startswith(("spatial.", "temporal."))


def _resized(target: str, tensor: Tensor, own: Tensor, network: Network, key: str, report: KeyReport) -> Tensor:
    """An embedding of as many positions or times as the network has; any other tensor as it is."""
    name = target.rpartition(".")[2]
    if name not in ("pos_embed", "time_embed") or tensor.shape == own.shape:
        return tensor
    if tensor.ndim != 3 or tensor.shape[-1] != own.shape[-1]:
        return tensor  # which _fit refuses
    kept, old = tensor[:, :1], tensor[:, 1:]  # [CLS] has a place of its own, before the others
    if name == "time_embed" and network.name != "vivit":
        kept, old = tensor[:, :0], tensor
    n = own.shape[1] - kept.shape[1]
    if name == "time_embed":
        new = F.interpolate(old.transpose(1, 2), n, mode="linear").transpose(1, 2)
        report.resized[key] = f"{old.shape[1]} times to {n}, linearly"
    else:
        side, side_new = round(old.shape[1] ** 0.5), round(n**0.5)
        if side * side != old.shape[1]:
            return tensor
        grid = old.reshape(1, side, side, -1).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, (side_new, side_new), mode="bicubic", align_corners=False)
        new = grid.flatten(2).transpose(1, 2)
        report.resized[key] = f"{side} x {side} places to {side_new} x {side_new}, bicubic"
    return torch.cat([kept, new], dim=1)


def _fit(
    network: Network,
    state: dict[str, Tensor],
    path: Path,
    *,
    unknown: list[str] | None = None,
    missing: list[str] | None = None,
    keep: Mapping[str, Tensor] | None = None,
) -> None:
    """Load ``state``, or say in one line what does not fit. ``keep`` are the network's own, for keys left out."""
    own = network.state_dict()
    unknown = [key for key in state if key not in own] if unknown is None else unknown
    missing = [key for key in own if key not in state] if missing is None else missing
    shaped = [
        f"{key} {tuple(tensor.shape)}, not {tuple(own[key].shape)}"
        for key, tensor in state.items()
        if key in own and tensor.shape != own[key].shape
    ]
    troubles = [
        f"{len(keys)} {what} ({_listed(keys)})"
        for keys, what in ((missing, "missing"), (unknown, "unknown"), (shaped, "of another shape"))
        if keys
    ]
    if troubles:
        raise InputError(f"{path}: its keys do not fit {network.name} {network.size}: {', '.join(troubles)}")
    network.load_state_dict({**(keep or {}), **state})


def _listed(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())

"""Start weights for a smaller detector from a trained larger one: channels and blocks left out, the rest taken over.

Layers are taken in order while both networks have the same kind of layer. A plain convolution with fewer channels keeps
those that weigh most (gain of its batch norm, its weights and those the next layer gives it), a C2f with fewer blocks
keeps its first ones. What the larger network has not stays untrained, or comes from ``--head`` (a network whose last
layer has the same shape). Accuracy is gone until it is trained on:

    python tools/prune_detector.py models/sperm-accurate.pt --config configs/detector/finish.yaml -o pruned/training.pt
    casa train detector --config configs/detector/finish.yaml --start pruned/training.pt ...
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from casa.detect import network
from casa.detect.train import load_train_config
from casa.errors import InputError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="state (.pt) of the larger network")
    parser.add_argument("--config", type=Path, required=True, help="training configuration of the smaller one")
    parser.add_argument("--head", type=Path, help="state of a network whose last layer is taken over")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    config = load_train_config(arguments.config)
    large, _, _ = network.load_state(arguments.source)
    small: Any = network.build_network(config.network, config.classes).eval()
    taken = prune(large, small)
    if arguments.head:
        other, _, _ = network.load_state(arguments.head)
        small.model[-1].load_state_dict(other.model[-1].state_dict())
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    network.save_state(small, config.network, list(config.classes), arguments.output)
    print(f"{arguments.output}: {taken} of {len(small.model)} layers taken over")


def prune(large: Any, small: Any) -> int:
    """Fill ``small``'s layers from ``large``'s; gives how many were."""
    import torch

    kept = None  # input channels that the layer before left
    for index, (old, new) in enumerate(zip(large.model, small.model, strict=False)):
        if type(old) is not type(new) or index == len(small.model) - 1:
            return index
        state, target = old.state_dict(), new.state_dict()
        keep = None
        if "conv.weight" in target and target["conv.weight"].shape[0] < state["conv.weight"].shape[0]:
            gain = state["bn.weight"] / torch.sqrt(state["bn.running_var"] + old.bn.eps)
            weight = state["conv.weight"].flatten(1).norm(dim=1) * gain.abs()
            following = large.model[index + 1].state_dict().get("conv.weight")
            weight = weight if following is None else weight * following.abs().sum((0, 2, 3))
            keep = weight.argsort(descending=True)[: target["conv.weight"].shape[0]].sort().values
        for name, tensor in target.items():
            source = state[name]
            if keep is not None and source.ndim:
                source = source[keep]
            if name == "conv.weight" and kept is not None:
                source = source[:, kept]
            if name == "cv2.conv.weight":  # of a C2f with fewer blocks
                source = source[:, : tensor.shape[1]]
            if source.shape != tensor.shape:
                raise InputError(f"layer {index}, {name}: {tuple(source.shape)} does not become {tuple(tensor.shape)}")
            tensor.copy_(source)
        kept = keep
    return len(small.model)


if __name__ == "__main__":
    main()

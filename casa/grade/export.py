"""A grading network as ONNX, for CPUs: gray pictures in, the parts' distributions and the attention rollout out.

One clip at a time, of which several run at once, one a thread: ``gray`` (1, t, h, w) float32 as
``casa.grade.prepare.gray_pictures`` makes it; ``parts`` (1, p, 5), the distributions of the heads that there are;
``rollout`` (1, t, n) where the network has attention to space.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from casa.errors import CasaError
from casa.grade.backends import PARTS
from casa.grade.prediction import Network
from casa.grade.rollout import rollout


class _Exported(nn.Module):
    """The network from gray pictures to what the exported file gives."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.maps = hasattr(network, "space_attention")
        self.margin = getattr(network.config, "margin", 0)

    def forward(self, gray: Tensor) -> tuple[Tensor, ...]:
        clips = gray[:, None].expand(-1, 3, -1, -1, -1)
        parts = torch.stack([part.softmax(-1) for part in self.network(clips).parts], dim=1)
        return (parts, rollout(self.network.space_attention(clips), self.margin)) if self.maps else (parts,)  # type: ignore[operator]


def part_names(network: Network) -> list[str]:
    """Which parts a network's predictions have, in their order."""
    branches = getattr(network.config, "branches", ("global",))
    if getattr(network.config, "aggregation", "mean") != "mean":
        return ["global"]
    return [name for name in PARTS if name in branches]


def export_onnx(network: Network, path: Path, about: Mapping[str, Any] | None = None) -> None:
    """Write ``network`` as ONNX, with what is needed to use it as metadata.

    Raises
    ------
    CasaError : the file cannot be written.
    """
    import onnx

    config = network.config
    module = _Exported(network.eval())
    example = torch.zeros(1, config.frames, config.size_px, config.size_px)
    outputs = ["parts", "rollout"] if module.maps else ["parts"]
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # deprecation of the tracing exporter, which needs no further package
            torch.onnx.export(
                module,
                (example,),
                str(path),
                dynamo=False,
                opset_version=17,
                input_names=["gray"],
                output_names=outputs,
            )
        graph = onnx.load(str(path))
        metadata = {
            "casa.task": "grade",
            "casa.network": json.dumps([network.name, network.size, network.variant]),
            "casa.frames": str(config.frames),
            "casa.size_px": str(config.size_px),
            "casa.parts": json.dumps(part_names(network)),
            "casa.about": json.dumps(dict(about or {})),
        }
        del graph.metadata_props[:]
        for key, value in metadata.items():
            graph.metadata_props.add(key=key, value=value)
        onnx.save(graph, str(path))
    except OSError as error:
        raise CasaError(f"{path}: the network cannot be written ({error.strerror or error})") from error

"""The one place that imports ultralytics: building, training loss, saving, exporting the YOLOv8 network.

The network is a YOLOv8 described by ultralytics' own layer list, cut down for small round things on plain
ground: one gray channel, one head at stride 8. What leaves it everywhere in casa are the head's raw maps
(``RawHeads``); boxes are decoded in ``casa.detect.decode``, so that all backends share that code.

A state file (``.pt``) holds plain tensors, numbers and strings, loadable with ``weights_only=True``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from casa.errors import InputError

if TYPE_CHECKING:
    import torch

STATE_FORMAT = "casa-detector-1"
LAYERS = frozenset({"Conv", "C2f", "SPPF", "nn.Upsample", "Concat", "Detect"})
ACTIVATIONS = frozenset({"nn.ReLU()", "nn.SiLU()"})


def import_ultralytics() -> Any:
    """``ultralytics.nn.tasks``, with installs, downloads and the settings in the home folder kept off."""
    os.environ["YOLO_AUTOINSTALL"] = "0"
    os.environ.setdefault("YOLO_OFFLINE", "1")
    os.environ.setdefault("YOLO_VERBOSE", "False")
    if "YOLO_CONFIG_DIR" not in os.environ:
        # Settings are written at import. They hold nothing that casa reads, so they go where they get lost.
        folder = Path(tempfile.gettempdir()) / f"casa-ultralytics-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["YOLO_CONFIG_DIR"] = str(folder)
    from ultralytics.nn import tasks

    return tasks


def build_network(architecture: dict[str, Any], classes: Sequence[str]) -> torch.nn.Module:
    """An untrained ultralytics ``DetectionModel``.

    Parameters
    ----------
    architecture : ultralytics' model description: backbone, head, reg_max, activation.
    classes : names of the classes, in order of their ids.
    """
    import copy

    layers = [*architecture["backbone"], *architecture["head"]]
    foreign = {str(layer[2]) for layer in layers} - LAYERS
    activation = architecture.get("activation", "nn.SiLU()")
    if foreign or activation not in ACTIVATIONS:
        # ultralytics evaluates both as Python, and a weights file must not run code.
        what = ", ".join(sorted(foreign)) or activation
        raise InputError(f"the detector's architecture names {what}; casa allows {', '.join(sorted(LAYERS))} "
                         f"and the activations {', '.join(sorted(ACTIVATIONS))}")  # fmt: skip
    tasks = import_ultralytics()
    description = {
        key: architecture[key] for key in ("backbone", "head", "reg_max", "activation") if key in architecture
    }
    model = tasks.DetectionModel(
        copy.deepcopy(description) | {"nc": len(classes)}, ch=1, nc=len(classes), verbose=False
    )
    model.names = dict(enumerate(classes))
    return model


def detection_loss(model: Any, box_gain: float, class_gain: float, dfl_gain: float) -> Any:
    """YOLOv8's loss (task-aligned assignment, CIoU, DFL, BCE) of ``model``: ``loss(predictions, batch)``."""
    from types import SimpleNamespace

    import_ultralytics()
    from ultralytics.utils.loss import v8DetectionLoss

    model.args = SimpleNamespace(box=box_gain, cls=class_gain, dfl=dfl_gain)
    return v8DetectionLoss(model)


def raw_heads(model: Any) -> torch.nn.Module:
    """``model`` (fused, in eval mode) as a module that gives the head's raw maps.

    Input (b, 1, h, w) gray in [0, 1]. Output: distances (b, h/s, w/s, 4 * reg_max), the DFL logits of left,
    top, right, bottom, and logits (b, h/s, w/s, classes). Channels last: it is the order in which the CPU
    backends compute, and that in which cells are picked.
    """
    import torch

    class RawHeads(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = model.model

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            outputs: list[torch.Tensor] = []
            for layer in self.layers[:-1]:
                source = layer.f
                if isinstance(source, int):
                    x = x if source == -1 else outputs[source]
                    x = layer(x)
                else:
                    x = layer([x if index == -1 else outputs[index] for index in source])
                outputs.append(x)
            head = self.layers[-1]
            x = outputs[head.f[0]]
            return head.cv2[0](x).permute(0, 2, 3, 1), head.cv3[0](x).permute(0, 2, 3, 1)

    head = model.model[-1]
    if len(head.stride) != 1:
        raise InputError(f"a detector of casa has one head, this network has {len(head.stride)}")
    return RawHeads().eval().requires_grad_(False)


def scale_logits(model: Any, slope: float, offset: float) -> None:
    """Turn every class logit z into slope * z + offset, in the last convolution's own weights."""
    import torch

    last = model.model[-1].cv3[0][-1]
    with torch.no_grad():
        last.weight.mul_(slope)
        last.bias.mul_(slope).add_(offset)


def fused(model: Any) -> Any:
    """A copy of ``model`` for inference, batch norms folded into the convolutions."""
    import copy

    return copy.deepcopy(model).eval().fuse(verbose=False)


def save_state(model: Any, architecture: dict[str, Any], classes: Sequence[str], path: Path) -> None:
    """Write the state file: the architecture and the tensors, nothing that runs code when read."""
    import torch

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    torch.save({"format": STATE_FORMAT, "architecture": architecture, "classes": list(classes), "state": state}, path)


def load_state(path: Path) -> tuple[Any, dict[str, Any], list[str]]:
    """Read a state file: (model in eval mode, architecture, classes).

    Raises
    ------
    InputError : not a state file of casa, or its tensors do not fit its architecture.
    """
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a bad file
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: not a readable detector state ({reason})") from error
    if not isinstance(content, dict) or content.get("format") != STATE_FORMAT:
        raise InputError(f"{path}: not a detector state of casa (no format {STATE_FORMAT}); make one with casa train")
    try:
        model = build_network(content["architecture"], content["classes"])
        model.load_state_dict(content["state"])
    except (KeyError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: its tensors do not fit its architecture ({reason})") from error
    return model.eval(), content["architecture"], content["classes"]


def export_onnx(model: Any, classes: Sequence[str], path: Path) -> None:
    """Write the raw-heads network as ONNX: any batch and size, gray levels 0-255 in, metadata for decoding.

    The division by 255 is folded into the first convolution, so that a uint8 picture needs no arithmetic
    before it.
    """
    import json
    import warnings

    import onnx
    import torch

    network = fused(model)
    first = next(module for module in network.modules() if isinstance(module, torch.nn.Conv2d))
    with torch.no_grad():
        first.weight.mul_(1.0 / 255.0)
    head = network.model[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation of the tracing exporter, which needs no further package
        torch.onnx.export(
            raw_heads(network),
            (torch.zeros(1, 1, 64, 96),),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["gray"],
            output_names=["distances", "logits"],
            dynamic_axes={
                "gray": {0: "batch", 2: "height", 3: "width"},
                "distances": {0: "batch", 1: "rows", 2: "columns"},
                "logits": {0: "batch", 1: "rows", 2: "columns"},
            },
        )
    graph = onnx.load(str(path))
    metadata = {
        "casa.stride_px": str(int(head.stride[0])),
        "casa.reg_max": str(int(head.reg_max)),
        "casa.classes": json.dumps(list(classes)),
        "casa.size_multiple_px": str(size_multiple_px(model)),
    }
    del graph.metadata_props[:]
    for key, value in metadata.items():
        graph.metadata_props.add(key=key, value=value)
    onnx.save(graph, str(path))


def size_multiple_px(model: Any) -> int:
    """What a picture's sides must be a multiple of: the stride of the network's deepest layer."""
    import torch

    smallest = [256]
    hooks = [
        module.register_forward_hook(lambda _m, _i, output: smallest.append(output.shape[-1]))
        for module in model.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    with torch.no_grad():
        raw_heads(model.eval())(torch.zeros(1, 1, 256, 256))
    for hook in hooks:
        hook.remove()
    return 256 // min(smallest)


def write_ultralytics_checkpoint(state_path: Path, path: Path) -> None:
    """Write ``state_path``'s network as a checkpoint that ``ultralytics.YOLO(path)`` loads: for comparison runs."""
    import torch

    import_ultralytics()
    from ultralytics import __version__
    from ultralytics.utils import DEFAULT_CFG_DICT

    model, _, _ = load_state(state_path)
    arguments = DEFAULT_CFG_DICT | {"task": "detect", "imgsz": 640}
    model.args = arguments
    model.task = "detect"
    torch.save({"epoch": -1, "model": model, "train_args": arguments, "version": __version__}, path)

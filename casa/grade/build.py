"""Every network by name and size.

B is the published network, which takes published weights (``casa.grade.checkpoints``); S and T are narrower ones for
small machines. The T of all networks cost about as much as each other (docs/grade.md), so that they can be compared at
an equal budget on a CPU.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any, Literal, cast

from pydantic import TypeAdapter, ValidationError
from torch import nn

from casa.errors import InputError
from casa.grade.convnets import ConvConfig, ConvName, ConvNet
from casa.grade.prediction import Network
from casa.grade.rostfine import RoSTFine, RoSTFineConfig
from casa.grade.timesformer import TimeSformer, TimeSformerConfig
from casa.grade.vivit import ViViT, ViViTConfig

Size = Literal["B", "S", "T"]
Config = RoSTFineConfig | TimeSformerConfig | ViViTConfig | ConvConfig

_S: dict[str, Any] = {"size_px": 160, "frames": 16}
_T: dict[str, Any] = {"size_px": 112, "frames": 8}
_VIT_S: dict[str, Any] = _S | {"width": 384, "heads": 6}
_VIT_T: dict[str, Any] = _T | {"patch_px": 14, "width": 64, "heads": 4, "depth": 4}

#: What each size changes of each network's own (B).
SIZES: dict[str, dict[Size, dict[str, Any]]] = {
    "rostfine": {"B": {}, "S": _VIT_S, "T": _VIT_T | {"branch_depth": 2, "branch_heads": 4, "drop_path": 0.0}},
    "timesformer": {"B": {}, "S": _VIT_S, "T": _VIT_T | {"drop_path": 0.0}},
    "vivit": {"B": {}, "S": _VIT_S, "T": _VIT_T | {"tubelet_frames": 1, "time_depth": 2, "width": 72}},
    "vgg16": {"B": {}, "S": _S | {"width": 32}, "T": _T | {"width": 14}},
    "r3d": {"B": {}, "S": _S | {"width": 32}, "T": _T | {"width": 8}},
    "r2plus1d": {"B": {}, "S": _S | {"width": 32}, "T": _T | {"width": 9}},
    "x3d": {"B": {"width": 24}, "S": _S | {"width": 16}, "T": _T | {"width": 8}},
    "i3d": {"B": {}, "S": _S | {"width": 32}, "T": _T | {"width": 7}},
    "slowfast": {"B": {}, "S": _S | {"width": 32}, "T": _T | {"width": 16}},
}
NETWORKS = tuple(SIZES)


def build_network(name: str, size: str = "T", variant: str = "paper", **overrides: Any) -> Network:
    """A network with weights as training begins.

    Parameters
    ----------
    name : one of ``NETWORKS``. size : B, S or T.
    variant : ``paper`` or ``authors``; only RoSTFine has both.
    overrides : fields of the network's config, e.g. ``frames``, ``size_px``, ``width``, ``selected`` (RoSTFine's K).

    Raises
    ------
    InputError : no such network, size, variant or field, or values that do not fit each other.
    """
    if name not in SIZES:
        raise InputError(f"{name}: no such grading network; expected one of {', '.join(NETWORKS)}")
    if size not in SIZES[name]:
        raise InputError(f"size {size}: expected one of {', '.join(SIZES[name])}")
    if variant not in (("paper", "authors") if name == "rostfine" else ("paper",)):
        raise InputError(f"variant {variant}: expected paper, or authors for rostfine")
    base = _base(name, variant)
    values = SIZES[name][cast(Size, size)] | overrides
    unknown = sorted(set(values) - {f.name for f in fields(base)} | set(overrides) & {"network", "variant"})
    if unknown:
        raise InputError(f"{name}: has no setting {', '.join(unknown)}")
    config = _typed(name, type(base), asdict(base) | values)
    _check(name, config)
    builder: dict[str, Any] = {"rostfine": RoSTFine, "timesformer": TimeSformer, "vivit": ViViT}
    network: Network = builder.get(name, ConvNet)(config)
    network.name, network.size, network.variant = name, size, variant
    return network


def _base(name: str, variant: str) -> Config:
    """The published network's sizes."""
    if name == "rostfine":  # of the authors' program the defaults: 8 frames, 2 blocks in a branch
        return RoSTFineConfig(variant="authors", frames=8, branch_depth=2) if variant == "authors" else RoSTFineConfig()
    if name == "timesformer":
        return TimeSformerConfig()
    return ViViTConfig() if name == "vivit" else ConvConfig(network=cast(ConvName, name))


def _typed(name: str, kind: type[Config], values: dict[str, Any]) -> Config:
    """A network's config of values as YAML has them; what is no number where one belongs is refused in one line."""
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{name}: {where}: {first['msg'].lower()} (got {first['input']!r})") from error


def _check(name: str, config: Config) -> None:
    """Refuse values that do not fit each other, in one line."""
    for key, value in asdict(config).items():
        if isinstance(value, int) and not isinstance(value, bool) and key != "crop_px" and value < 1:
            raise InputError(f"{name}: {key} {value}: expected at least 1")
        if isinstance(value, float) and not 0 <= value < 1:
            raise InputError(f"{name}: {key} {value:g}: expected a share from 0 up to, and not, 1")
    around = config.size_px - config.seen_px
    if config.crop_px < 0 or around < 0 or around % 2:
        raise InputError(
            f"{name}: crop_px {config.crop_px}: expected size_px {config.size_px} less an even number, or 0"
        )
    if isinstance(config, ConvConfig):
        if name == "i3d" and config.frames < 2:
            raise InputError(f"{name}: frames {config.frames}: expected at least 2, of which it takes the larger")
        if config.seen_px < 32:
            raise InputError(f"{name}: looks at {config.seen_px} px (crop_px or size_px): expected at least 32")
        if name == "vgg16" and config.motion:
            raise InputError("vgg16: motion: it sees one frame alone; set it to false")
        if name == "slowfast" and config.frames % 4:
            raise InputError(
                f"{name}: frames {config.frames}: expected a multiple of 4, of which the slow path sees one"
            )
        return
    if config.size_px % config.patch_px:
        raise InputError(f"{name}: size_px {config.size_px} is no multiple of patch_px {config.patch_px}")
    if around % (2 * config.patch_px):
        raise InputError(f"{name}: crop_px {config.crop_px}: expected size_px {config.size_px} less an even number "
                         f"of patches of {config.patch_px} px, or 0")  # fmt: skip
    for heads in {"heads", "branch_heads"} & {f.name for f in fields(config)}:
        if config.width % getattr(config, heads):
            raise InputError(f"{name}: width {config.width} is no multiple of {heads} {getattr(config, heads)}")
    if isinstance(config, RoSTFineConfig):
        if not 1 <= config.selected <= config.patches:
            raise InputError(f"{name}: selected {config.selected}: a frame has {config.patches} patches")
        if not config.branches or len(set(config.branches)) < len(config.branches):
            raise InputError(f"{name}: branches: expected some of global, spatial, temporal, each once")


def parameters(network: nn.Module) -> int:
    """How many numbers a network learns."""
    return sum(p.numel() for p in network.parameters())


def flops(network: Network) -> int:
    """Floating point operations of one clip, a multiplication and an addition being two."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    config = network.config
    reference = next(network.parameters())
    clip = torch.zeros(1, 3, config.frames, config.size_px, config.size_px, device=reference.device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(clip.to(reference.dtype))
    return counter.get_total_flops()

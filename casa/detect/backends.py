"""What a backend is: a compiled network that takes gray pictures and gives the head's raw maps, maybe later.

``backend_onnx``, ``backend_openvino``, ``backend_torch`` and ``backend_tensorrt`` hold one each, with its imports.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from casa.errors import InputError

RawMaps = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class NetworkMeta:
    """What decoding needs to know of a network."""

    stride_px: int
    reg_max: int
    size_multiple_px: int
    classes: tuple[str, ...]
    precision: str = "float32"

    @classmethod
    def from_text(cls, metadata: Mapping[str, str], path: Path) -> NetworkMeta:
        """From the ``casa.*`` metadata of an exported network.

        Raises
        ------
        InputError : the file was not exported by casa.
        """
        try:
            return cls(
                stride_px=int(metadata["casa.stride_px"]),
                reg_max=int(metadata["casa.reg_max"]),
                size_multiple_px=int(metadata["casa.size_multiple_px"]),
                classes=tuple(json.loads(metadata["casa.classes"])),
                precision=metadata.get("casa.precision", "float32"),
            )
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}: not a network exported by casa (its metadata lack {error})") from error


class Backend(Protocol):
    """A network on a device.

    ``start`` takes a picture (h, w) uint8 whose sides are multiples of ``meta.size_multiple_px``, which must
    not change until it is finished; ``finish`` gives (distances (rows, columns, 4 * reg_max), logits
    (rows, columns, classes)), float32, valid until ``depth`` more pictures were started. Pictures are finished in
    the order in which they were started; with more than ``depth`` of them under way ``start`` may wait.
    """

    meta: NetworkMeta
    device: str
    precision: str
    depth: int

    def start(self, gray: NDArray[np.uint8]) -> Any:
        """Begin with a picture; the ticket is for ``finish``."""
        ...

    def finish(self, ticket: Any) -> RawMaps:
        """Wait for a picture's raw maps."""
        ...

    def batch(self, grays: NDArray[np.uint8]) -> RawMaps:
        """The raw maps of pictures (b, h, w) of one size, with a leading axis; for several streams on one device."""
        ...

    def close(self) -> None:
        """Release the device."""
        ...

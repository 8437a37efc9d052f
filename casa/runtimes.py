"""Libraries that run networks, imported without what they do besides."""

from __future__ import annotations

import sys
from typing import Any


def import_openvino() -> Any:
    """The ``openvino`` package, without its model converter.

    At import the converter reports to Intel over the network, from a thread that outlives it, and leaves an
    identifier in the home folder. OpenVINO does without the converter where it cannot be imported, and so does casa.
    """
    converter = "openvino.tools.ovc"
    hidden = "openvino" not in sys.modules and converter not in sys.modules
    if hidden:
        sys.modules[converter] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if hidden:
            del sys.modules[converter]
    return openvino

"""Weights in 8 bits: post-training quantisation of an exported network with nncf, calibrated on pictures.

The result is ONNX with QuantizeLinear and DequantizeLinear (QDQ), which OpenVINO and ONNX Runtime both run.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casa.detect.preprocess import prepare
from casa.errors import CasaError, InputError

#: The metadata key that says in what numbers an exported network computes; absent in float32.
PRECISION_KEY = "casa.precision"


def import_nncf() -> Any:
    """The ``nncf`` package, without its reports to Intel.

    nncf reports through ``openvino_telemetry``, which also leaves an identifier in the home folder; where that cannot
    be imported, nncf does without.

    Raises
    ------
    InputError : nncf is not installed.
    """
    from casa.runtimes import import_openvino

    import_openvino()
    reporter = "openvino_telemetry"
    hidden = "nncf" not in sys.modules and reporter not in sys.modules
    if hidden:
        sys.modules[reporter] = None  # type: ignore[assignment]
    try:
        import nncf
    except ImportError as error:
        raise InputError(f"8-bit weights are made by nncf; pip install 'casa-engine[quantise]' ({error})") from error
    finally:
        if hidden:
            del sys.modules[reporter]
    return nncf


def quantise(source: Path, target: Path, pictures: Sequence[NDArray[np.uint8]]) -> None:
    """Write the network of ``source`` (ONNX, exported by casa) with 8-bit weights and activations to ``target``.

    Convolutions but the first are quantised: the first has one input channel, which no 8-bit kernel is made for, and
    takes half the time in float32. Weights use 7 of the 8 bits, because processors without VNNI add pairs of products
    in 16 bits, which would overflow; so the result is the same on all.

    Parameters
    ----------
    pictures : (h, w) uint8, what the ranges of the activations are taken from. A hundred do.

    Raises
    ------
    InputError : nncf is missing, no pictures, or ``source`` is no network of casa or has 8 bits already.
    CasaError : nncf failed, or ``target`` cannot be written.
    """
    import onnx

    nncf = import_nncf()
    from casa.detect.backends import NetworkMeta

    if not pictures:
        raise InputError("8-bit weights need pictures to be calibrated on; give --real or --sim")
    try:
        model = onnx.load(str(source))
    except Exception as error:  # protobuf's own kinds, OSError
        raise InputError(f"{source}: not a readable ONNX network ({' '.join(str(error).split())[:120]})") from error
    metadata = {item.key: item.value for item in model.metadata_props}
    meta = NetworkMeta.from_text(metadata, source)
    if meta.precision != "float32":
        raise InputError(f"{source}: is {meta.precision} already; give the float32 network it was made from")
    inputs = [
        {"gray": prepare(picture, meta.size_multiple_px)[0][None, None].astype(np.float32)} for picture in pictures
    ]
    first = next((node.name for node in model.graph.node if node.op_type == "Conv"), None)
    if first is None:
        raise InputError(f"{source}: has no convolution to quantise")
    try:
        with _quiet():
            result = nncf.quantize(
                model,
                nncf.Dataset(inputs),
                subset_size=len(inputs),
                preset=nncf.QuantizationPreset.MIXED,
                ignored_scope=nncf.IgnoredScope(names=[first]),
                advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
            )
    except Exception as error:  # nncf raises a dozen kinds
        raise CasaError(f"{source}: nncf cannot quantise it ({' '.join(str(error).split())[:160]})") from error
    del result.metadata_props[:]
    for key, value in (metadata | {PRECISION_KEY: "int8"}).items():
        result.metadata_props.add(key=key, value=value)
    try:
        onnx.save(result, str(target))
    except OSError as error:
        raise CasaError(f"{target}: cannot be written ({error.strerror or error}); free space or choose another") from (
            error
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nncf's progress bars and notes kept off the terminal."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(None):
            yield
    finally:
        logger.setLevel(level)

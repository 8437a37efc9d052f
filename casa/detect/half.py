"""An exported network in half precision, for devices that take a graph at its word (TensorRT 11 is typed strongly)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from casa.errors import InputError

_RAISE = 32.0


def half_precision_onnx(path: Path) -> bytes:
    """The ONNX network of ``path`` computing in float16, its input and outputs in float32 as before.

    Gray levels go in as they are, exact in float16; the first convolution's weights, which as exported hold a factor of
    1/255 and would fall among float16's subnormals, are raised by a power of two, and what comes out is lowered by it.

    Raises
    ------
    InputError : not an ONNX network exported by casa in float32.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's own kinds, OSError
        raise InputError(f"{path}: not a readable ONNX network ({' '.join(str(error).split())[:120]})") from error
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node):
        raise InputError(f"{path}: is of 8 bits; half precision is made from the float32 network")
    graph = model.graph
    values: dict[str, Any] = {item.name: item for item in graph.initializer}
    first = next((node for node in graph.node if node.op_type == "Conv"), None)
    if first is None:
        raise InputError(f"{path}: has no convolution")
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        for name in node.input[1:]:
            if name not in values or values[name].data_type != TensorProto.FLOAT:
                raise InputError(f"{path}: convolution {node.name} has no float32 weights of its own")
            weights = numpy_helper.to_array(values[name])
            weights = weights * _RAISE if node is first else weights
            values[name].CopyFrom(numpy_helper.from_array(weights.astype(np.float16), name))
    gray = graph.input[0].name
    outputs = [output.name for output in graph.output]
    for node in graph.node:
        node.input[:] = ["gray_half" if name == gray else name for name in node.input]
        node.output[:] = [f"{name}_half" if name in outputs else name for name in node.output]
    graph.initializer.append(numpy_helper.from_array(np.array(1 / _RAISE, np.float16), "lower"))
    raised, first.output[0] = first.output[0], "first_raised"
    place = list(graph.node).index(first) + 1
    graph.node.insert(place, helper.make_node("Mul", ["first_raised", "lower"], [raised], name="lower_first"))
    before = [helper.make_node("Cast", [gray], ["gray_half"], name="gray_to_half", to=TensorProto.FLOAT16)]
    after = [
        helper.make_node("Cast", [f"{name}_half"], [name], name=f"{name}_to_float", to=TensorProto.FLOAT)
        for name in outputs
    ]
    nodes = [*before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]  # types of what lies between, now others
    return model.SerializeToString()

"""Arrays inside messages: type, shape and bytes, checked against each other before anybody looks at them."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

#: NumPy's short names, little-endian: unsigned and signed integers, floats, booleans (one byte each).
DType = Literal["u1", "u2", "i1", "i4", "i8", "f4", "f8", "b1"]

_ITEM_BYTES: dict[DType, int] = {"u1": 1, "u2": 2, "i1": 1, "i4": 4, "i8": 8, "f4": 4, "f8": 8, "b1": 1}
_NAMES: dict[np.dtype[Any], DType] = {np.dtype(f"<{name}"): name for name in _ITEM_BYTES}
MAX_DIMENSIONS = 4
MAX_LENGTH = 1 << 31

_Length = Annotated[int, Meta(ge=0, le=MAX_LENGTH)]


class Array(Struct, frozen=True, eq=False):
    """An array: ``data`` holds its items in C order, little-endian."""

    dtype: DType
    shape: Annotated[tuple[_Length, ...], Meta(min_length=1, max_length=MAX_DIMENSIONS)]
    data: memoryview

    def __post_init__(self) -> None:
        expected = math.prod(self.shape) * _ITEM_BYTES[self.dtype]
        if self.data.nbytes != expected:
            raise ValueError(f"array of shape {self.shape} and type {self.dtype}: {self.data.nbytes} bytes")
        if self.dtype == "b1" and len(self.data) and np.frombuffer(self.data, "u1").max() > 1:
            raise ValueError("a boolean that is neither 0 nor 1")

    def numpy(self) -> NDArray[Any]:
        """The array itself, read-only, without a copy."""
        array = np.frombuffer(self.data, f"<{self.dtype}").reshape(self.shape)
        array.flags.writeable = False
        return array

    def check(self, name: str, dtypes: tuple[str, ...], shape: tuple[int | None, ...]) -> None:
        """Raise ValueError unless the type is one of ``dtypes`` and the shape fits; None stands for any length."""
        if self.dtype not in dtypes:
            raise ValueError(f"{name}: expected {' or '.join(dtypes)}, got {self.dtype}")
        if len(shape) != len(self.shape) or any(
            want is not None and want != got for want, got in zip(shape, self.shape, strict=True)
        ):
            raise ValueError(f"{name}: expected shape {shape}, got {self.shape}")


def pack(array: Any, dtype: DType | None = None) -> Array:
    """An array for a message, converted to ``dtype`` where given; copies only what is not contiguous."""
    if dtype is not None:
        array = np.asarray(array, f"<{dtype}")
    array = np.ascontiguousarray(array)
    name = _NAMES.get(array.dtype)
    if name is None:
        raise TypeError(f"no array of {array.dtype} goes into a message")
    # a view of bytes: msgspec takes no other kind of memoryview, and none of length 0 in several dimensions
    return Array(name, array.shape, memoryview(array.reshape(-1).view("u1")))
